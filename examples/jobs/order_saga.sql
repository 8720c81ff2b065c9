-- An order is placed, paid for and taken from stock by three services that talk over an event bus. This job
-- reads what they say and answers, minute by minute: how many orders, how many of them paid, what was
-- declined and why, and the revenue.
--
--   BUS=redis://localhost:6379 cargo run --example 09_order_saga
--   BUS=redis://localhost:6379 tidemill run examples/jobs/order_saga.sql
--
-- Which bus that is, one option says: memory://NAME (within one process, as the example has it),
-- kafka://HOST:PORT or redis://HOST:PORT. It reads what the topics hold now, and ends there; with
-- UNTIL=unbounded it goes on.

SET 'pipeline.name' = 'order-saga';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-/tmp/tidemill-checkpoints}';
SET 'execution.checkpointing.interval' = '2 s';

CREATE TABLE orders (
  order_id    STRING,
  cents       BIGINT,
  happened_ms BIGINT,
  kind        STRING METADATA FROM 'header.event-type' VIRTUAL,
  happened    AS TO_TIMESTAMP_LTZ(happened_ms, 3),
  WATERMARK FOR happened AS happened - INTERVAL '30' SECOND
) WITH (
  'connector'         = 'bus',
  'bus'               = '${BUS:-memory://shop}',
  'topic'             = '${ORDERS:-orders}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = '${UNTIL:-latest-offset}',
  'format'            = 'json'
);

CREATE TABLE payments (
  order_id    STRING,
  cents       BIGINT,
  reason      STRING,
  happened_ms BIGINT,
  kind        STRING METADATA FROM 'header.event-type' VIRTUAL,
  happened    AS TO_TIMESTAMP_LTZ(happened_ms, 3),
  WATERMARK FOR happened AS happened - INTERVAL '30' SECOND
) WITH (
  'connector'         = 'bus',
  'bus'               = '${BUS:-memory://shop}',
  'topic'             = '${PAYMENTS:-payments}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = '${UNTIL:-latest-offset}',
  'format'            = 'json'
);

CREATE TABLE stock (
  order_id    STRING,
  cents       BIGINT,
  reason      STRING,
  happened_ms BIGINT,
  kind        STRING METADATA FROM 'header.event-type' VIRTUAL,
  happened    AS TO_TIMESTAMP_LTZ(happened_ms, 3),
  WATERMARK FOR happened AS happened - INTERVAL '30' SECOND
) WITH (
  'connector'         = 'bus',
  'bus'               = '${BUS:-memory://shop}',
  'topic'             = '${STOCK:-stock}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = '${UNTIL:-latest-offset}',
  'format'            = 'json'
);

CREATE VIEW saga AS
SELECT order_id, kind, cents, CAST(NULL AS STRING) AS reason, happened FROM orders
UNION ALL
SELECT order_id, kind, cents, reason, happened FROM payments
UNION ALL
SELECT order_id, kind, cents, reason, happened FROM stock;

CREATE TABLE per_minute (
  window_start  TIMESTAMP(3),
  placed        BIGINT,
  paid          BIGINT,
  paid_ratio    DOUBLE,
  revenue_cents BIGINT
) WITH (
  'connector'               = 'bus',
  'bus'                     = '${BUS:-memory://shop}',
  'topic'                   = '${METRICS:-order-metrics}',
  'format'                  = 'json',
  'sink.delivery-guarantee' = 'exactly-once'
);

CREATE TABLE declined (
  window_start TIMESTAMP(3),
  reason       STRING,
  n            BIGINT
) WITH (
  'connector'               = 'bus',
  'bus'                     = '${BUS:-memory://shop}',
  'topic'                   = '${DECLINED:-orders-declined}',
  'key.fields'              = 'reason',
  'format'                  = 'json',
  'sink.delivery-guarantee' = 'exactly-once'
);

EXECUTE STATEMENT SET BEGIN

INSERT INTO per_minute
SELECT window_start,
       SUM(CASE WHEN kind = 'OrderPlaced.v1' THEN 1 ELSE 0 END),
       SUM(CASE WHEN kind = 'PaymentAuthorised.v1' THEN 1 ELSE 0 END),
       CAST(SUM(CASE WHEN kind = 'PaymentAuthorised.v1' THEN 1 ELSE 0 END) AS DOUBLE)
         / NULLIF(SUM(CASE WHEN kind LIKE 'Payment%' THEN 1 ELSE 0 END), 0),
       SUM(CASE WHEN kind = 'StockReserved.v1' THEN cents ELSE 0 END)
FROM TABLE(TUMBLE(TABLE saga, DESCRIPTOR(happened), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;

INSERT INTO declined
SELECT window_start, reason, COUNT(*)
FROM TABLE(TUMBLE(TABLE saga, DESCRIPTOR(happened), INTERVAL '1' MINUTE))
WHERE reason IS NOT NULL
GROUP BY window_start, window_end, reason;

END;
