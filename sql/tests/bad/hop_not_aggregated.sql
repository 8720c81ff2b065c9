CREATE TABLE events (ts TIMESTAMP(3), n INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE out (n INT) WITH ('connector' = 'print');
INSERT INTO out SELECT n FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' SECOND));
