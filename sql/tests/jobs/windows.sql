CREATE TABLE t (k STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE TABLE g (s TIMESTAMP(3), e TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
CREATE VIEW v AS SELECT k AS kk, v, ts AS rowtime FROM t WHERE v > 0;

EXECUTE STATEMENT SET BEGIN
INSERT INTO o SELECT window_start, window_end, k, COUNT(*)
FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' MINUTES, OFFSET => INTERVAL '1' MINUTE))
GROUP BY k, window_end, window_start;
INSERT INTO o SELECT window_start, window_end, kk, SUM(v) FILTER (WHERE v > 1)
FROM TABLE(HOP(TABLE v, DESCRIPTOR(rowtime), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)) AS w
GROUP BY window_start, window_end, window_time, kk HAVING COUNT(DISTINCT v) > 1;
INSERT INTO o SELECT window_start, window_end, k, MAX(v)
FROM CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY)
GROUP BY window_start, window_end, k;
INSERT INTO o SELECT window_start, window_end, k, MIN(v)
FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, k;
INSERT INTO g SELECT window_start, window_end, COUNT(*)
FROM TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY window_start, window_end;
INSERT INTO g WITH c AS (SELECT ts, v FROM t)
SELECT window_start, window_end, COUNT(v)
FROM TABLE(HOP(DATA => TABLE c, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '5' SECOND, SIZE => INTERVAL '10' SECOND))
WHERE v < 100 GROUP BY window_start, window_end;
INSERT INTO g SELECT window_start, window_end, COUNT(v)
FROM TABLE(TUMBLE((SELECT ts, v FROM t WHERE v < 3), DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY window_start, window_end;
END;
