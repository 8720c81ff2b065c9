-- The job of benches/peers/run, as Tidemill and Flink get it: `run` fills in what begins with a dollar sign.
CREATE TABLE events (
  `key` $key_type, ts $time_type, `value` DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '1.001' SECOND
) WITH ($rows);

CREATE TABLE results (
  window_end $time_type, `key` $key_type, n BIGINT, low DOUBLE, high DOUBLE, total DOUBLE, mean DOUBLE
) WITH ($results);

INSERT INTO results
SELECT window_end, `key`, COUNT(*), $aggregates
FROM TABLE($window)
GROUP BY window_start, window_end, `key`;
