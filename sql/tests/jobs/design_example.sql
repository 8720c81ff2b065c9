CREATE TABLE user_events (
  user_id STRING, event_type STRING, amount DOUBLE,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'kafka-like', 'path' = '${HOST:-localhost:9092}', 'format' = 'json');

CREATE TABLE per_minute (window_start TIMESTAMP(3), window_end TIMESTAMP(3), event_type STRING,
                         n BIGINT, revenue DOUBLE)
WITH ('connector' = 'print');

INSERT INTO per_minute
SELECT window_start, window_end, event_type, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE user_events, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, event_type;
