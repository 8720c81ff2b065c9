//! User activity: events per minute and type, and the revenue of purchases, from topic to topic, exactly
//! once. What is no JSON becomes a dead letter.
//!
//! ```sh
//! scripts/services up
//! tidemill generate user-events --to kafka://127.0.0.1:19092/user-events --partitions 3 --malformed 1%
//! scripts/services tool topics --create --topic user-activity-per-minute --partitions 3
//! KAFKA_BROKERS=127.0.0.1:19092 cargo run --example 06_user_activity
//! ```

use std::time::Duration;

use tidemill::core::dead_letter::OnError;
use tidemill::kafka::{StartAt, StopAt};
use tidemill::prelude::*;
use tidemill::runtime::JobSummary;

const MINUTE: Duration = Duration::from_secs(60);

/// Where the example reads and writes.
pub struct Places<'a> {
    /// Addresses of the brokers.
    pub brokers: &'a str,
    /// The topic of `tidemill generate user-events`.
    pub user_events: &'a str,
    /// The topic of the results.
    pub per_minute: &'a str,
    /// The folder of checkpoints and dead letters.
    pub checkpoints: &'a str,
}

/// Counts what the topic holds now, and ends there.
pub fn run(places: &Places) -> tidemill::Result<JobSummary> {
    let columns = schema([
        ("user_id", DataType::Utf8View),
        ("event_type", DataType::Utf8View),
        ("amount", DataType::Float64),
        ("ts", TIMESTAMP),
    ]);
    let user_events = Kafka::topic(places.user_events)
        .brokers(places.brokers)
        .start_at(StartAt::Earliest)
        .stop_at(StopAt::Latest)
        .json(columns);
    let per_minute = KafkaSink::topic(places.per_minute)
        .brokers(places.brokers)
        .key(["event_type"])
        .json()
        .exactly_once();

    let mut job = Job::named("user-activity");
    job.source_named("user-events", user_events)
        .on_error(OnError::DeadLetter)
        .event_time("ts", Watermarks::bounded(Duration::from_secs(5)))
        .key_by(["event_type"])
        .window(Tumbling::of(MINUTE))
        .aggregate([count().alias("events"), sum(col("amount")).alias("revenue")])
        .sink_named("per-minute", per_minute);
    job.checkpoints(places.checkpoints, Duration::from_secs(2)).run_blocking()
}

/// Runs it on the topics of the book.
pub fn main() -> tidemill::Result<()> {
    let brokers = std::env::var("KAFKA_BROKERS").unwrap_or_else(|_| "localhost:9092".to_owned());
    let summary = run(&Places {
        brokers: &brokers,
        user_events: "user-events",
        per_minute: "user-activity-per-minute",
        checkpoints: "/tmp/tidemill-checkpoints/06",
    })?;
    for rows in &summary.ledgers {
        assert!(rows.balances(), "no row is lost silently");
        println!("{} in, {} late, {} dead letters", rows.records_in, rows.late, rows.dead_letters);
    }
    Ok(())
}
