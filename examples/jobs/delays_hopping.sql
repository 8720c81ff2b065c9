-- The mean delay over the last three hours, anew every 30 minutes, for each airport.
--
-- Every row lies in six windows. It is aggregated once, into the 30-minute slice that it falls into;
-- a window is the merge of six slices.

SET 'pipeline.name' = 'delays-hopping';

CREATE TABLE flights (
  departed_at   TIMESTAMP(3),
  origin        STRING,
  dep_delay_min DOUBLE,
  WATERMARK FOR departed_at AS departed_at - INTERVAL '6' HOUR
) WITH (
  'connector'  = 'filesystem',
  'path'       = 'examples/data/flights-2013-01.csv',
  'format'     = 'csv',
  'csv.header' = 'true'
);

CREATE TABLE recent_delays (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  origin       STRING,
  departures   BIGINT,
  mean_delay   DOUBLE,
  worst_delay  DOUBLE
) WITH (
  'connector' = 'print'
);

INSERT INTO recent_delays
SELECT window_start, window_end, origin, COUNT(*), ROUND(AVG(dep_delay_min), 1), MAX(dep_delay_min)
FROM TABLE(
  HOP(TABLE flights, DESCRIPTOR(departed_at), INTERVAL '30' MINUTE, INTERVAL '3' HOUR)
)
WHERE departed_at IS NOT NULL
GROUP BY window_start, window_end, origin;
