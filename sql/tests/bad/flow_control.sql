SET 'memory.budget' = 'plenty';
CREATE TABLE a (x INT) WITH ('connector' = 'datagen', 'buffer.policy' = 'drop-some');
CREATE TABLE b (x INT) WITH ('connector' = 'datagen', 'buffer.capacity.records' = '10');
CREATE TABLE c (x INT) WITH ('connector' = 'datagen', 'buffer.policy' = 'drop-newest', 'buffer.capacity.bytes' = 'big');
CREATE TABLE d (x INT) WITH ('connector' = 'datagen', 'buffer.policy' = 'drop-newest', 'buffer.capacity.records' = '0');
CREATE TABLE e (x INT) WITH ('connector' = 'datagen', 'sink.breaker.threshold' = '0');
CREATE TABLE f (x INT) WITH ('connector' = 'datagen', 'sink.retry.deadline' = 'soon');
