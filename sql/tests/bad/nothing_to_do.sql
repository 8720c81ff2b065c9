CREATE TABLE t (k STRING) WITH ('connector' = 'datagen');
