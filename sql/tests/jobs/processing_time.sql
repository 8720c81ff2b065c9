CREATE TABLE t (v BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE o (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
-- a query that uses p reads the clock, one that does not goes by event time
INSERT INTO o SELECT window_start, v FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(p), INTERVAL '1' SECOND));
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY window_start, window_end;
