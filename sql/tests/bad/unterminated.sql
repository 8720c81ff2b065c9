CREATE TABLE t (k STRING) WITH ('connector' = 'datagen');
INSERT INTO t SELECT k FROM t WHERE k = 'open;
