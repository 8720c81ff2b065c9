-- Changes of customers as Protobuf, whose schema is in a registry; each type into windows of its own.
--
--   tidemill generate customer-events --to kafka:///customer-events --partitions 3 --registry http://localhost:8081
--   for topic in customer-events-per-type new-customers status-changes; do
--     scripts/services tool topics --create --topic $topic --partitions 1; done
--   tidemill run examples/jobs/customer_events.sql
--
-- Which type an event has, says the member of the `oneof` that is set: the column called like the `oneof`
-- names it. In events of a type that came after this schema none is; they count as such. Messages that
-- cannot be decoded go to a topic of their own.

SET 'pipeline.name' = 'customer-events';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-/tmp/tidemill-checkpoints}';
SET 'execution.checkpointing.interval' = '2 s';
SET 'dead-letters' = 'kafka://${KAFKA_BROKERS:-localhost:9092}/${DEAD_LETTERS:-customer-events-dead-letters}';

CREATE TABLE customer_events (
  event_id       STRING,
  customer_id    STRING,
  version        BIGINT,
  occurred_at    TIMESTAMP(3),
  event_type     STRING,
  created        ROW<name STRING, email STRING, tier STRING>,
  status_changed ROW<old_status STRING, new_status STRING>,
  WATERMARK FOR occurred_at AS occurred_at - INTERVAL '5' SECOND
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${CUSTOMER_EVENTS:-customer-events}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'properties.group.id'          = '${GROUP:-customer-events}',
  'scan.startup.mode'            = 'earliest-offset',
  'format'                       = 'protobuf-confluent',
  'protobuf-confluent.url'       = '${SCHEMA_REGISTRY_URL:-http://localhost:8081}',
  'protobuf-confluent.message'   = 'tidemill.examples.CustomerEvent'
);

-- Every type, also those that nobody has heard of.
CREATE TABLE per_type (
  window_start TIMESTAMP(3),
  event_type   STRING,
  events       BIGINT,
  customers    BIGINT
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${PER_TYPE:-customer-events-per-type}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'format'                       = 'json',
  'sink.delivery-guarantee'      = 'exactly-once'
);

CREATE TABLE new_customers (
  window_start TIMESTAMP(3),
  tier         STRING,
  customers    BIGINT
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${NEW_CUSTOMERS:-new-customers}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'format'                       = 'json',
  'sink.delivery-guarantee'      = 'exactly-once'
);

CREATE TABLE status_changes (
  window_start TIMESTAMP(3),
  old_status   STRING,
  new_status   STRING,
  changes      BIGINT
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${STATUS_CHANGES:-status-changes}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'format'                       = 'json',
  'sink.delivery-guarantee'      = 'exactly-once'
);

EXECUTE STATEMENT SET BEGIN

INSERT INTO per_type
SELECT window_start, COALESCE(event_type, 'unknown'), COUNT(*), COUNT(DISTINCT customer_id)
FROM TABLE(TUMBLE(TABLE customer_events, DESCRIPTOR(occurred_at), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, COALESCE(event_type, 'unknown');

INSERT INTO new_customers
SELECT window_start, created.tier, COUNT(*)
FROM TABLE(TUMBLE(TABLE customer_events, DESCRIPTOR(occurred_at), INTERVAL '1' MINUTE))
WHERE event_type = 'created'
GROUP BY window_start, window_end, created.tier;

INSERT INTO status_changes
SELECT window_start, status_changed.old_status, status_changed.new_status, COUNT(*)
FROM TABLE(TUMBLE(TABLE customer_events, DESCRIPTOR(occurred_at), INTERVAL '5' MINUTE))
WHERE event_type = 'status_changed'
GROUP BY window_start, window_end, status_changed.old_status, status_changed.new_status;

END;
