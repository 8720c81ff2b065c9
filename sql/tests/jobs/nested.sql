CREATE TABLE orders (
  id BIGINT,
  customer ROW<name STRING, address ROW<city STRING, zip INT>>,
  items ARRAY<ROW<sku STRING, price DECIMAL(10, 2)>>,
  tags MAP<STRING, STRING>,
  ts TIMESTAMP(3),
  city AS customer.address.city,
  WATERMARK FOR ts AS ts
) WITH ('connector' = 'datagen');
CREATE TABLE per_city (s TIMESTAMP(3), city STRING, n BIGINT, revenue DECIMAL(38, 2), color STRING)
WITH ('connector' = 'files', 'path' = 'x');
CREATE TABLE copy (head ROW<number BIGINT, who STRING>, first ROW<sku STRING, price DECIMAL(12, 2)>)
WITH ('connector' = 'print');
INSERT INTO per_city SELECT window_start, city, COUNT(*), SUM(items[1].price), MAX(tags['color'])
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
WHERE customer.address.zip > 0
GROUP BY window_start, window_end, city;
INSERT INTO copy SELECT ROW(id, customer.name), items[1] FROM orders;
