-- Commands to a booking service, and a reply to each: from topic to topic, exactly once, in the order of
-- each booking.
--
--   tidemill generate bookings --to kafka:///booking-commands --partitions 3
--   scripts/services tool topics --create --topic booking-replies --partitions 3
--   tidemill run examples/jobs/bookings.sql
--
-- A reply has the headers of its command, so that whoever sent it finds the reply by `correlation-id`, and
-- names the command as its cause. With a function of one's own, whose errors are told apart:
-- examples/08_bookings.rs.

SET 'pipeline.name' = 'bookings';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-/tmp/tidemill-checkpoints}';
SET 'execution.checkpointing.interval' = '2 s';
SET 'dead-letters' = 'kafka://${KAFKA_BROKERS:-localhost:9092}/${DEAD_LETTERS:-booking-dead-letters}';

CREATE TABLE commands (
  command_id     STRING,
  booking_id     STRING,
  command        STRING,
  room           STRING,
  nights         INT,
  price          DECIMAL(10, 2),
  correlation_id STRING METADATA FROM 'header.correlation-id'
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${COMMANDS:-booking-commands}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'properties.group.id'          = '${GROUP:-bookings}',
  'scan.startup.mode'            = 'earliest-offset',
  'format'                       = 'json'
);

CREATE TABLE replies (
  command_id     STRING,
  booking_id     STRING,
  status         STRING,
  reason         STRING,
  correlation_id STRING,
  causation_id   STRING METADATA FROM 'header.causation-id'
) WITH (
  'connector'                    = 'kafka',
  'topic'                        = '${REPLIES:-booking-replies}',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'key.format'                   = 'raw',
  'key.fields'                   = 'booking_id',
  'format'                       = 'json',
  'sink.delivery-guarantee'      = 'exactly-once'
);

CREATE VIEW answers AS
SELECT *,
  CASE
    WHEN room NOT IN ('single', 'double', 'suite') THEN 'there is no such room'
    WHEN command = 'reserve' AND nights > 12 THEN 'no room is free for so long'
    WHEN command = 'reserve' AND price > 5000 THEN 'the card was declined'
  END AS reason
FROM commands;

INSERT INTO replies
SELECT command_id, booking_id,
       CASE WHEN reason IS NULL THEN 'accepted' ELSE 'declined' END,
       reason, correlation_id, command_id
FROM answers;
