-- What users do: events per minute and type, and the revenue of purchases, from topic to topic, exactly once.
--
--   tidemill generate user-events --to kafka:///user-events --partitions 3 --malformed 1%
--   scripts/services tool topics --create --topic user-activity-per-minute --partitions 3
--   tidemill run examples/jobs/user_activity.sql
--
-- Ctrl+C stops it with a last checkpoint; run it again, and it goes on where it was. What is no JSON goes
-- to a topic of its own, byte for byte.

SET 'pipeline.name' = 'user-activity';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-/tmp/tidemill-checkpoints}';
SET 'execution.checkpointing.interval' = '2 s';
SET 'dead-letters' = 'kafka://${KAFKA_BROKERS:-localhost:9092}/${DEAD_LETTERS:-user-events-dead-letters}';

CREATE TABLE user_events (
  user_id    STRING,
  event_type STRING,
  amount     DOUBLE,
  ts         TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${USER_EVENTS:-user-events}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'properties.group.id'          = '${GROUP:-user-activity}',
  'scan.startup.mode'            = 'earliest-offset',
  'format'                       = 'json'
);

CREATE TABLE per_minute (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  event_type   STRING,
  events       BIGINT,
  revenue      DOUBLE
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${PER_MINUTE:-user-activity-per-minute}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'key.format'                   = 'raw',
  'key.fields'                   = 'event_type',
  'format'                       = 'json',
  'sink.delivery-guarantee'      = 'exactly-once'
);

INSERT INTO per_minute
SELECT window_start, window_end, event_type, COUNT(*), COALESCE(SUM(amount), 0)
FROM TABLE(TUMBLE(TABLE user_events, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, event_type;
