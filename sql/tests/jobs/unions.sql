CREATE TABLE a (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE b (k VARCHAR(5), w BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE o (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
CREATE VIEW both_of_them AS SELECT k, v, ts FROM a UNION ALL SELECT k, w, ts FROM b UNION ALL SELECT 'x', v + 1, ts FROM a;
INSERT INTO o SELECT window_start, SUM(v) FROM TABLE(TUMBLE(TABLE both_of_them, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
