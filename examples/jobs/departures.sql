-- Departures from New York in January 2013: how punctual is each carrier, hour by hour?
--
--   cargo run --release -- run examples/jobs/departures.sql
--
-- Rows stand in the order of their *scheduled* departure, but the windows are over the *actual* one.
-- So a flight that leaves six hours late stands in the file among flights that leave six hours before
-- it. It moves the watermark ahead, and those flights come late.
--
-- The bound in WATERMARK says how long windows stay open for such rows. It trades lost rows for
-- waiting. In this file, of 26 438 rows with a departure time:
--
--      bound   rows that come late
--       1 h    16 941   (64 %)   results an hour after the fact, and most of them wrong
--       3 h     5 818   (22 %)
--       6 h     1 506   ( 6 %)   <- this job
--      12 h       851   ( 3 %)
--      24 h         0            every row counts, and every result is a day old
--
-- Six hours loses little, and keeps few windows open. The summary at the end of the run says how
-- many rows were late; set the bound to '1' HOUR and to '24' HOUR and run again.

SET 'pipeline.name' = 'departures';
SET 'parallelism.default' = '1';        -- one shard prints the windows in order

CREATE TABLE flights (
  departed_at   TIMESTAMP(3),
  carrier       STRING,
  dep_delay_min DOUBLE,
  WATERMARK FOR departed_at AS departed_at - INTERVAL '6' HOUR
) WITH (
  'connector'  = 'filesystem',
  'path'       = 'examples/data/flights-2013-01.csv',
  'format'     = 'csv',
  'csv.header' = 'true'
);

CREATE TABLE punctuality (
  hour         TIMESTAMP(3),
  carrier      STRING,
  departures   BIGINT,
  mean_delay   DOUBLE,
  p95_delay    DOUBLE,
  share_late   DOUBLE
) WITH (
  'connector' = 'print'
);

INSERT INTO punctuality
SELECT
  window_start,
  carrier,
  COUNT(*),
  ROUND(AVG(dep_delay_min), 1),
  ROUND(APPROX_PERCENTILE_CONT(dep_delay_min, 0.95), 1),
  ROUND(CAST(COUNT(*) FILTER (WHERE dep_delay_min > 15) AS DOUBLE) / COUNT(*), 3)
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(departed_at), INTERVAL '1' HOUR))
WHERE departed_at IS NOT NULL          -- a cancelled flight has not departed
GROUP BY window_start, window_end, carrier;
