-- Revenue of three shops, second by second, on a page in the browser.
--
--   tidemill run examples/live/live.sql
--   python3 -m http.server 8000 --directory examples/live      then open http://localhost:8000
--
-- The page may as well be opened from the file; that is why 'null' is among the origins.

SET 'pipeline.name' = 'live';

CREATE TABLE orders (
  shop   INT,
  amount DOUBLE,
  ts     TIMESTAMP(3),
  WATERMARK FOR ts AS ts
) WITH (
  'connector'         = 'datagen',
  'rows-per-second'   = '${ORDERS_PER_SECOND:-2000}',
  'fields.shop.min'   = '0',
  'fields.shop.max'   = '5',
  'fields.amount.min' = '1',
  'fields.amount.max' = '20'
);

-- More people buy in one shop than in another, and each has its busy half minute.
CREATE VIEW sales AS
SELECT
  ts,
  CASE WHEN shop < 1 THEN 'Lisbon' WHEN shop < 3 THEN 'Oslo' ELSE 'Vienna' END AS shop,
  amount * (1 + 0.5 * SIN((EXTRACT(SECOND FROM ts) + 8 * shop) * 3.14159 / 15)) AS amount
FROM orders;

CREATE TABLE revenue (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  shop         STRING,
  orders       BIGINT,
  revenue      DOUBLE
) WITH (
  'connector'       = 'websocket',
  'port'            = '${PORT:-8090}',
  'key.fields'      = 'shop',
  'snapshot.rows'   = '360',
  'allowed-origins' = 'null; http://localhost:*; http://127.0.0.1:*'
);

INSERT INTO revenue
SELECT window_start, window_end, shop, COUNT(*), ROUND(SUM(amount), 2)
FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, shop;
