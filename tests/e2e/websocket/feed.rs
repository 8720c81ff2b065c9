//! One job reads what another serves.

use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use super::{Serving, block_on, free_port, next};
use crate::command;

/// Numbers as they come, and all of them again for whoever connects.
const SERVED: &str = "
CREATE TABLE numbers (n BIGINT, ts TIMESTAMP(3))
WITH ('connector' = 'datagen', 'rows-per-second' = '500', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0',
      'fields.n.end' = '1000000');

CREATE TABLE served (n BIGINT, ts TIMESTAMP(3))
WITH ('connector' = 'websocket', 'port' = '${PORT}', 'snapshot.rows' = '100000', 'token' = 'between-the-two');

INSERT INTO served SELECT n, ts FROM numbers;
";

const READ: &str = "
CREATE TABLE feed (n BIGINT, ts TIMESTAMP(3), `connection` BIGINT METADATA)
WITH ('connector' = 'websocket', 'url' = '${FEED}', 'format' = 'json', 'token' = 'between-the-two');

CREATE TABLE squares (n BIGINT, square BIGINT, `connection` BIGINT)
WITH ('connector' = 'websocket', 'port' = '0', 'snapshot.rows' = '100000');

INSERT INTO squares SELECT n, n * n, `connection` FROM feed;
";

#[test]
fn a_job_reads_what_another_serves_and_reads_on_when_that_is_restarted() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let job = |n: usize, sql: &str| command::file(folders[n].path(), "job.sql", sql);
    let port = free_port();
    let mut served = Serving::start(folders[0].path(), &job(0, SERVED), &[("PORT", &port)]);
    let reading = Serving::start(folders[1].path(), &job(1, READ), &[("FEED", &served.stream)]);
    block_on(async {
        let (mut client, _) = connect_async(&reading.stream).await.unwrap();
        for n in 0..1000 {
            let expected = json!({"n": n, "square": n * n, "connection": 1});
            assert_eq!(next(&mut client).await, Some(expected));
        }
        served.running.signal("TERM");
        served.running.wait();
        let _served = Serving::start(folders[2].path(), &job(2, SERVED), &[("PORT", &port)]);
        let second = loop {
            let row: Value = next(&mut client).await.expect("the reading job runs");
            if row["connection"] == json!(2) {
                break row;
            }
        };
        assert_eq!(second, json!({"n": 0, "square": 0, "connection": 2}));
    });
    let logs =
        [0, 1].map(|n: usize| std::fs::read_to_string(folders[n].path().join("log")).unwrap());
    assert!(logs.iter().all(|log| !log.contains("between-the-two")), "{logs:?}");
    assert!(logs[1].contains("connecting again"), "{}", logs[1]);
}
