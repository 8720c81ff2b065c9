CREATE TABLE t (k STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
CREATE VIEW per_minute AS
SELECT window_start, window_end, window_time, k, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, window_time, k;
INSERT INTO o SELECT window_start, window_end, MAX(n) FROM per_minute GROUP BY window_start, window_end;
INSERT INTO o SELECT window_start0, window_end0, MAX(n)
FROM TABLE(TUMBLE(TABLE per_minute, DESCRIPTOR(window_time), INTERVAL '1' HOUR)) GROUP BY window_start0, window_end0;
INSERT INTO o SELECT window_start, window_end, MAX(n) FROM (
  SELECT window_start, window_end, k, COUNT(*) AS n
  FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)) GROUP BY window_start, window_end, k
) WHERE n > 1 GROUP BY window_start, window_end;
