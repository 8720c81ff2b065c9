-- The results of the benchmark's rows as Tidemill computes them, which all peers in ./run must agree with.
CREATE TABLE events (
  `key` BIGINT, ts TIMESTAMP(6), `value` DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${ROWS:?the file of rows}', 'format' = 'csv');

CREATE TABLE results (
  window_end TIMESTAMP(6), `key` BIGINT, n BIGINT, low DOUBLE, high DOUBLE, total DOUBLE, mean DOUBLE
) WITH ('connector' = 'filesystem', 'path' = '${OUTPUT:?the folder of results}', 'format' = 'csv');

INSERT INTO results
SELECT window_end, `key`, COUNT(*), MIN(`value`), MAX(`value`), SUM(`value`), AVG(`value`)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, `key`;
