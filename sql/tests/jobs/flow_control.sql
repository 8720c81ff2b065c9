-- Options for how fast rows may come, and for sinks that do not answer.
SET 'memory.budget' = '512 mb';

CREATE TABLE newest (x INT) WITH ('connector' = 'files', 'path' = 'a', 'buffer.policy' = 'drop-oldest',
  'buffer.capacity.records' = '500', 'rate-limit' = '20');
CREATE TABLE oldest (x INT) WITH ('connector' = 'files', 'path' = 'b', 'buffer.policy' = 'drop-newest',
  'buffer.capacity.bytes' = '2 mb');
CREATE TABLE waits (x INT) WITH ('connector' = 'files', 'path' = 'c', 'buffer.policy' = 'block');
CREATE TABLE patient (x INT) WITH ('connector' = 'print', 'sink.breaker.threshold' = '3', 'sink.breaker.pause' = '10 s',
  'sink.retry.deadline' = '1 h');

INSERT INTO patient SELECT x FROM newest UNION ALL SELECT x FROM oldest UNION ALL SELECT x FROM waits;
