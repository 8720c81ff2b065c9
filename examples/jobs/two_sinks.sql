-- One source, two results: departures per hour on the terminal, and the busiest routes of each day as
-- JSON files. A statement set is one job: the file is read once.
--
--   OUT=/tmp/flights cargo run --release -- run examples/jobs/two_sinks.sql
--
-- ${OUT:-…} takes the folder from the environment. With --checkpoint-dir the files are exactly once:
-- a part file becomes visible only together with the checkpoint that it belongs to.

SET 'pipeline.name' = 'two-sinks';

CREATE TABLE flights (
  departed_at   TIMESTAMP(3),
  origin        STRING,
  dest          STRING,
  dep_delay_min DOUBLE,
  WATERMARK FOR departed_at AS departed_at - INTERVAL '6' HOUR
) WITH (
  'connector'  = 'filesystem',
  'path'       = 'examples/data/flights-2013-01.csv',
  'format'     = 'csv',
  'csv.header' = 'true'
);

CREATE VIEW departed AS
SELECT * FROM flights WHERE departed_at IS NOT NULL;

CREATE TABLE per_hour (
  hour       TIMESTAMP(3),
  departures BIGINT
) WITH (
  'connector' = 'print'
);

CREATE TABLE busy_routes (
  day        TIMESTAMP(3),
  origin     STRING,
  dest       STRING,
  departures BIGINT,
  mean_delay DOUBLE
) WITH (
  'connector' = 'filesystem',
  'path'      = '${OUT:-/tmp/tidemill-out}',
  'format'    = 'json'
);

EXECUTE STATEMENT SET BEGIN

INSERT INTO per_hour
SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE departed, DESCRIPTOR(departed_at), INTERVAL '1' HOUR))
GROUP BY window_start, window_end;

INSERT INTO busy_routes
SELECT window_start, origin, dest, COUNT(*), ROUND(AVG(dep_delay_min), 1)
FROM TABLE(TUMBLE(TABLE departed, DESCRIPTOR(departed_at), INTERVAL '1' DAY))
GROUP BY window_start, window_end, origin, dest
HAVING COUNT(*) >= 10;

END;
