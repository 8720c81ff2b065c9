//! Customer events: Protobuf whose schema is in a registry, each type into windows of its own. Messages
//! that cannot be decoded become dead letters; types that came after the schema count as such.
//!
//! ```sh
//! scripts/services up
//! tidemill generate customer-events --to kafka://127.0.0.1:19092/customer-events --partitions 3 \
//!     --registry http://127.0.0.1:18081 --malformed 1% --unknown-types 1%
//! for topic in customer-events-per-type customers-created; do
//!   scripts/services tool topics --create --topic $topic --partitions 3
//! done
//! export KAFKA_BROKERS=127.0.0.1:19092 SCHEMA_REGISTRY_URL=http://127.0.0.1:18081
//! cargo run --example 07_customer_events
//! ```

use std::time::Duration;

use arrow::datatypes::Fields;
use tidemill::core::dead_letter::OnError;
use tidemill::core::table::Options;
use tidemill::formats::Format;
use tidemill::kafka::{StartAt, StopAt};
use tidemill::prelude::*;
use tidemill::runtime::JobSummary;

/// Where the example reads and writes.
pub struct Places<'a> {
    /// Addresses of the brokers.
    pub brokers: &'a str,
    /// Address of the schema registry.
    pub registry: &'a str,
    /// The topic of `tidemill generate customer-events`.
    pub customer_events: &'a str,
    /// The topic of counts per type.
    pub per_type: &'a str,
    /// The topic of new customers.
    pub created: &'a str,
    /// The folder of checkpoints and dead letters.
    pub checkpoints: &'a str,
}

/// The columns that the example wants of a `CustomerEvent`. `event_type` is the `oneof`: it names the member
/// that is set, and the members have columns of their own.
fn columns() -> SchemaRef {
    let created = ["name", "email", "tier"].map(|name| Field::new(name, DataType::Utf8View, true));
    schema([
        ("customer_id", DataType::Utf8View),
        ("occurred_at", TIMESTAMP),
        ("event_type", DataType::Utf8View),
        ("created", DataType::Struct(Fields::from_iter(created))),
    ])
}

/// Counts what the topic holds now, and ends there.
pub fn run(places: &Places) -> tidemill::Result<JobSummary> {
    let protobuf = Options::from_iter([
        ("protobuf-confluent.url", places.registry),
        ("protobuf-confluent.message", "tidemill.examples.CustomerEvent"),
    ]);
    let customer_events = Kafka::topic(places.customer_events)
        .brokers(places.brokers)
        .start_at(StartAt::Earliest)
        .stop_at(StopAt::Latest)
        .format(Format::parse("protobuf-confluent", &protobuf)?, columns());
    let to = |topic| KafkaSink::topic(topic).brokers(places.brokers).json().exactly_once();

    let mut job = Job::named("customer-events");
    let events = job
        .source_named("customer-events", customer_events)
        .on_error(OnError::DeadLetter)
        .event_time("occurred_at", Watermarks::bounded(Duration::from_secs(5)));
    events
        .clone()
        .key_by(["event_type"])
        .window(Tumbling::of(Duration::from_secs(60)))
        .aggregate([count().alias("events")])
        .sink_named("per-type", to(places.per_type));
    events
        .filter(col("event_type").eq(lit("created")))
        .window(Tumbling::of(Duration::from_secs(300)))
        .aggregate([count().alias("customers"), last_value(col("created"), vec![]).alias("latest")])
        .sink_named("created", to(places.created));
    job.checkpoints(places.checkpoints, Duration::from_secs(2)).run_blocking()
}

/// Runs it on the topics of the book.
pub fn main() -> tidemill::Result<()> {
    let variable =
        |name: &str, other: &str| std::env::var(name).unwrap_or_else(|_| other.to_owned());
    let summary = run(&Places {
        brokers: &variable("KAFKA_BROKERS", "localhost:9092"),
        registry: &variable("SCHEMA_REGISTRY_URL", "http://localhost:8081"),
        customer_events: "customer-events",
        per_type: "customer-events-per-type",
        created: "customers-created",
        checkpoints: "/tmp/tidemill-checkpoints/07",
    })?;
    for rows in &summary.ledgers {
        assert!(rows.balances(), "no row is lost silently");
        println!("{}: {} in, {} dead letters", rows.node, rows.records_in, rows.dead_letters);
    }
    Ok(())
}
