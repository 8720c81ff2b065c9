-- Minutes lost to delays since midnight (UTC), updated every hour, for each airport.
--
-- CUMULATE gives windows that share a start and grow: [00:00, 01:00), [00:00, 02:00), … up to a day.

SET 'pipeline.name' = 'delays-cumulating';

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

CREATE TABLE lost_minutes (
  since        TIMESTAMP(3),
  until        TIMESTAMP(3),
  origin       STRING,
  departures   BIGINT,
  minutes_lost DOUBLE
) WITH (
  'connector' = 'print'
);

INSERT INTO lost_minutes
SELECT
  window_start,
  window_end,
  origin,
  COUNT(*),
  SUM(CASE WHEN dep_delay_min > 0 THEN dep_delay_min ELSE 0 END)
FROM TABLE(
  CUMULATE(TABLE flights, DESCRIPTOR(departed_at), INTERVAL '1' HOUR, INTERVAL '1' DAY)
)
WHERE departed_at IS NOT NULL
GROUP BY window_start, window_end, origin;
