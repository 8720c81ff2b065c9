-- every part of a declaration
SET 'pipeline.name' = 'declarations';
SET 'parallelism.default' = '2';
SET 'execution.checkpointing.interval' = '10 s';
SET 'table.exec.source.idle-timeout' = '30 s';

CREATE TEMPORARY TABLE IF NOT EXISTS everything (
  a TINYINT NOT NULL COMMENT 'small', b SMALLINT, c INT, d BIGINT, e FLOAT, f DOUBLE, g BOOLEAN,
  h DECIMAL(10, 2), i DATE, j TIME(3), k TIMESTAMP(9), l TIMESTAMP_LTZ(3), m BYTES, n VARCHAR(20),
  o ARRAY<INT>, p MAP<STRING, DOUBLE>, q ROW<x INT, y ARRAY<ROW(z STRING)>>,
  `key` STRING METADATA, `from where` STRING NOT NULL METADATA FROM 'origin' VIRTUAL,
  millis BIGINT,
  ts AS TO_TIMESTAMP_LTZ(millis, 3) COMMENT 'computed',
  twice AS d * 2,
  CONSTRAINT pk PRIMARY KEY (a, d) NOT ENFORCED,
  WATERMARK FOR ts AS ts
) COMMENT 'a table' PARTITIONED BY (i) WITH (
  'connector' = 'files', 'path' = '${DIR:-/data}/x${EMPTY}', 'rate-limit' = '1000', 'on-error' = 'skip',
  'max-future' = '1 h',
);

CREATE TABLE own_timeout (ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1:30' MINUTE TO SECOND)
WITH ('connector' = 'datagen', 'scan.watermark.idle-timeout' = '1 min', 'fields.ts.min' = '1');

CREATE TABLE out_keys (a TINYINT, `key` STRING, q INT, t TIMESTAMP_LTZ(3), twice BIGINT)
WITH ('connector' = 'print');
CREATE TABLE out_times (ts TIMESTAMP(3)) WITH ('connector' = 'print');

INSERT INTO out_keys SELECT a, `key`, q.x, ts, twice FROM everything WHERE `from where` = 'here';
INSERT INTO out_times SELECT ts FROM own_timeout;
