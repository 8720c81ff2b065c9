//! `customer_events.sql` and `07_customer_events.rs`, against messages that prost-reflect decodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};

use super::stage::{Record, Stage, records, stop, until_records};
use super::windows::{Windows, millis, minute};
use crate::kafka::broker::{Broker, Topic};
use crate::kafka::services::OwnBroker;

const MINUTE: i64 = 60_000;

/// Milliseconds of 2026-01-01 00:00:00 UTC since 1970.
const DAY: i64 = 1_767_225_600_000;

/// Magic byte, schema id, message index.
const FRAME: usize = 6;

fn registry() -> String {
    std::env::var("SCHEMA_REGISTRY_URL").unwrap_or_else(|_| {
        panic!("SCHEMA_REGISTRY_URL is not set: run scripts/test, which brings up a registry")
    })
}

fn customer_event() -> MessageDescriptor {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/proto");
    let files = protox::compile(["customer_event.proto"], [folder]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("tidemill.examples.CustomerEvent").unwrap()
}

/// A change, as far as the examples look at it.
struct Change {
    partition: i32,
    time: i64,
    customer: String,
    /// The member that is set.
    event_type: Option<String>,
    content: Option<DynamicMessage>,
}

impl Change {
    /// The name of an enum's value in the change.
    fn choice(&self, field: &str) -> String {
        let content = self.content.as_ref().unwrap();
        let field = content.descriptor().get_field_by_name(field).unwrap();
        let number = content.get_field(&field).as_enum_number().unwrap();
        let kind = field.kind();
        kind.as_enum().unwrap().get_value(number).unwrap().name().to_owned()
    }
}

/// The changes among the records, and how many are none.
fn changes(records: &[Record]) -> (Vec<Change>, u64) {
    let descriptor = customer_event();
    let oneof = descriptor.oneofs().next().unwrap();
    let decode = |record: &Record| {
        let message = DynamicMessage::decode(descriptor.clone(), &record.value[FRAME..]).ok()?;
        let field = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
        let occurred_at = field("occurred_at");
        let part = |name: &str| {
            let value = occurred_at.as_message().unwrap().get_field_by_name(name).unwrap();
            value.as_i64().or(value.as_i32().map(i64::from)).unwrap()
        };
        let set = oneof.fields().find(|field| message.has_field(field));
        Some(Change {
            partition: record.partition,
            time: part("seconds") * 1_000 + part("nanos") / 1_000_000 - DAY,
            customer: field("customer_id").as_str().unwrap().to_owned(),
            event_type: set.as_ref().map(|field| field.name().to_owned()),
            content: set.map(|field| message.get_field(&field).as_message().unwrap().clone()),
        })
    };
    let changes: Vec<Change> = records.iter().filter_map(decode).collect();
    let broken = (records.len() - changes.len()) as u64;
    (changes, broken)
}

/// Rows in the windows of some of the changes.
fn counts<K: Ord>(
    changes: &[Change],
    size: i64,
    key: impl Fn(&Change) -> Option<K>,
) -> BTreeMap<(i64, K), u64> {
    let mut windows = Windows::new(size, 3);
    for change in changes {
        windows.add(change.partition, change.time, key(change), |count: &mut u64| *count += 1);
    }
    windows.fired()
}

/// Results in a topic: what stands in these columns, and the number in the last of them.
fn results(topic: &Topic, columns: &[&str], number: &str) -> BTreeMap<Vec<String>, u64> {
    let mut results = BTreeMap::new();
    for record in records(topic) {
        let row = record.json().unwrap();
        let key = columns.iter().map(|name| row[name].as_str().unwrap().to_owned()).collect();
        let before = results.insert(key, row[number].as_u64().unwrap());
        assert_eq!(before, None, "a result comes twice: {row}");
    }
    results
}

fn fill(stage: &Stage, topic: &Topic, start: &str) {
    let registry = registry();
    let shape = ["customer-events", "--events", "12000", "--keys", "300", "--interval", "20ms"];
    let shares = ["--malformed", "1%", "--unknown-types", "2%"];
    let rest = ["--start", start, "--registry", &registry];
    let summary = stage.generate(&[&shape[..], &shares, &rest].concat(), topic);
    assert_eq!((&summary["malformed"], &summary["unknown_type"]), (&120.into(), &240.into()));
}

/// The topics of the results.
struct Outputs {
    per_type: Arc<Topic>,
    new_customers: Arc<Topic>,
    status_changes: Arc<Topic>,
}

impl Outputs {
    fn new(stage: &mut Stage) -> Self {
        Self {
            per_type: stage.topic("PER_TYPE", 1),
            new_customers: stage.topic("NEW_CUSTOMERS", 1),
            status_changes: stage.topic("STATUS_CHANGES", 1),
        }
    }

    /// That they hold what the changes amount to.
    fn assert_exact(&self, changes: &[Change]) {
        let named = |change: &Change| change.event_type.clone().unwrap_or("unknown".to_owned());
        let per_type = counts(changes, MINUTE, |change| Some(named(change)));
        let found = results(&self.per_type, &["window_start", "event_type"], "events");
        let wanted = per_type.into_iter().map(|((at, name), n)| (vec![minute(at), name], n));
        assert_eq!(found, wanted.collect());

        let of = |change: &Change, name| change.event_type.as_deref() == Some(name);
        let new = counts(changes, MINUTE, |c| of(c, "created").then(|| c.choice("tier")));
        let found = results(&self.new_customers, &["window_start", "tier"], "customers");
        let wanted = new.into_iter().map(|((at, tier), n)| (vec![minute(at), tier], n));
        assert_eq!(found, wanted.collect());

        let statuses = |c: &Change| [c.choice("old_status"), c.choice("new_status")];
        let changed = counts(changes, 5 * MINUTE, |c| of(c, "status_changed").then(|| statuses(c)));
        let columns = ["window_start", "old_status", "new_status"];
        let found = results(&self.status_changes, &columns, "changes");
        let wanted =
            changed.into_iter().map(|((at, [old, new]), n)| (vec![minute(at), old, new], n));
        assert_eq!(found, wanted.collect());
        self.assert_customers(changes);
    }

    /// That customers are counted once in each window.
    fn assert_customers(&self, changes: &[Change]) {
        for record in records(&self.per_type) {
            let row = record.json().unwrap();
            let start = millis(row["window_start"].as_str().unwrap());
            let of_row = |change: &&Change| {
                let name = change.event_type.as_deref().unwrap_or("unknown");
                change.time.div_euclid(MINUTE) * MINUTE == start && row["event_type"] == name
            };
            let customers = changes.iter().filter(of_row).map(|change| &change.customer);
            let customers = customers.collect::<BTreeSet<_>>().len();
            assert_eq!(row["customers"], customers, "{row}");
        }
    }
}

#[test]
fn the_job_file_routes_types_and_survives_broken_messages_unknown_types_and_an_outage() {
    let own = OwnBroker::up();
    let mut stage = Stage::new("customer_events", own.broker());
    let events = stage.topic("CUSTOMER_EVENTS", 3);
    let dead_letters = stage.topic("DEAD_LETTERS", 1);
    let outputs = Outputs::new(&mut stage);
    stage.set("GROUP", events.name());
    stage.set("SCHEMA_REGISTRY_URL", registry());

    fill(&stage, &events, "2026-01-01 00:00:00");
    let mut running = stage.start(2, "log");
    until_records(&mut running, &outputs.per_type, 1);
    own.stop();
    let log = stage.path("log");
    running.until("the outage is noticed", || {
        std::fs::read_to_string(&log).unwrap_or_default().contains("no broker answers")
    });
    own.start();
    fill(&stage, &events, "2026-01-01 00:04:00");

    let held = records(&events);
    let (changes, broken) = changes(&held);
    let named = |change: &Change| change.event_type.clone();
    let wanted = counts(&changes, MINUTE, |change| Some(named(change))).len();
    until_records(&mut running, &outputs.per_type, wanted);
    running.until("all dead letters", || records(&dead_letters).len() as u64 >= broken);
    let summary = stop(running);
    assert_eq!((held.len(), broken), (24_000, 240));
    for ledger in summary["ledgers"].as_array().unwrap() {
        assert_eq!((&ledger["records_in"], &ledger["dead_letters"]), (&24_000.into(), &240.into()));
    }
    outputs.assert_exact(&changes);
    let mut kept: Vec<_> = records(&dead_letters).into_iter().map(|letter| letter.value).collect();
    let is_broken = |record: &&Record| {
        DynamicMessage::decode(customer_event(), &record.value[FRAME..]).is_err()
    };
    let mut malformed: Vec<_> =
        held.iter().filter(is_broken).map(|record| record.value.clone()).collect();
    kept.sort();
    malformed.sort();
    assert!(kept == malformed, "dead letters are not the broken messages");
}

#[test]
fn the_rust_example_counts_what_the_topic_holds() {
    use crate::examples::customer_events::{Places, run};

    let mut stage = Stage::new("customer_events", Broker::shared());
    let events = stage.topic("CUSTOMER_EVENTS", 3);
    let (per_type, created) = (stage.topic("PER_TYPE", 1), stage.topic("CREATED", 1));
    fill(&stage, &events, "2026-01-01 00:00:00");
    let summary = run(&Places {
        brokers: events.broker().addresses(),
        registry: &registry(),
        customer_events: events.name(),
        per_type: per_type.name(),
        created: created.name(),
        checkpoints: &stage.checkpoints(),
    });
    let summary = summary.unwrap();
    assert!(summary.ledgers.iter().all(|rows| rows.balances() && rows.dead_letters == 120));
    let (changes, _) = changes(&records(&events));
    let sum = |topic: &Topic, number: &str| -> u64 {
        records(topic).iter().map(|row| row.json().unwrap()[number].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&per_type, "events"), changes.len() as u64);
    let new = changes.iter().filter(|change| change.event_type.as_deref() == Some("created"));
    assert_eq!(sum(&created, "customers"), new.count() as u64);
    for row in records(&created) {
        let latest = row.json().unwrap()["latest"].clone();
        assert!(latest["tier"].as_str().unwrap().starts_with("TIER_"), "{latest}");
    }
}
