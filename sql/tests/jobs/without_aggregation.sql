CREATE TABLE t (k STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE o (s TIMESTAMP(3), k STRING, v BIGINT) WITH ('connector' = 'files', 'path' = 'x');
CREATE TABLE copy (k STRING, v BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'print');
INSERT INTO o SELECT window_start, UPPER(k), v * 2 FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
WHERE window_end > TIMESTAMP '2020-01-01 00:00:00';
INSERT INTO copy SELECT * FROM t;
INSERT INTO copy (ts, k) SELECT ts, k FROM t;
