-- The job of benches/peers/redis.sh: count and sum per user and minute over all that some streams hold.
CREATE TABLE user_events (
  user_id STRING, amount DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'redis-stream', 'stream' = '${STREAMS}', 'url' = '${REDIS_URL}',
        'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
        'group' = 'peer-tidemill', 'format' = 'json');

CREATE TABLE totals (window_start TIMESTAMP(3), window_end TIMESTAMP(3), user_id STRING, n BIGINT, amount DOUBLE)
WITH ('connector' = 'filesystem', 'path' = '${OUTPUT}', 'format' = 'csv');

INSERT INTO totals
SELECT window_start, window_end, user_id, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE user_events, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, user_id;
