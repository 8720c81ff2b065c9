//! A schema registry that is away: partitions wait for it, and lose nothing.

use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tidemill_core::source::{Read, Source as _};
use tidemill_formats::registry::{Definition, Registry, RegistryConfig, SchemaKind, framing};
use tidemill_registry::Server;

use super::broker::{Sent, Topic, context, source};

const SCHEMA: &str =
    r#"{"type": "record", "name": "row", "fields": [{"name": "n", "type": "long"}]}"#;

#[test]
fn a_partition_waits_for_its_registry_and_skips_nothing() {
    let server = Server::new().start("127.0.0.1:0").unwrap();
    let registry = Registry::new(RegistryConfig::new(&server.url()).unwrap()).unwrap();
    let topic = Topic::new(1);
    let definition = Definition::new(SchemaKind::Avro, SCHEMA);
    let id = registry.register("rows", &definition).unwrap();
    let framed = |n: u8| {
        let mut payload = Vec::new();
        framing::write_header(id, &mut payload);
        payload.push(n * 2);
        payload
    };
    let payloads: Vec<_> = (0..50).map(framed).collect();
    let record = |payload| Sent { payload: Some(payload), ..Sent::default() };
    topic.send(payloads.iter().map(|payload| record(payload.as_slice())));

    let url = server.url();
    let options = [("format", "avro-confluent"), ("avro-confluent.url", url.as_str())];
    let source = source(&topic, &options);
    let mut reader = source.open(&topic.split(0), None, &context()).unwrap();
    let start = reader.offset();
    server.fail_next(usize::MAX, 503);
    let (asked, began) = (server.requests().len(), Instant::now());
    while !reader.waits() {
        assert!(matches!(reader.read(100).unwrap(), Read::Pending));
        assert!(began.elapsed() < Duration::from_secs(60), "nothing was read");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert!(server.requests().len() > asked, "the registry was asked");
    // A checkpoint in the meantime is in front of all that waits.
    assert_eq!(reader.offset(), start);
    let held = Instant::now();
    for _ in 0..1_000 {
        assert!(matches!(reader.read(100).unwrap(), Read::Pending));
    }
    assert!(held.elapsed() < Duration::from_secs(20), "others of the shard have their turn");

    server.fail_next(0, 503);
    let mut got = Vec::new();
    while got.len() < payloads.len() {
        assert!(held.elapsed() < Duration::from_secs(60), "{} rows", got.len());
        match reader.read(100).unwrap() {
            Read::Batch(batch) => {
                assert!(batch.dead_letters.is_empty() && batch.skipped == 0);
                got.extend_from_slice(batch.rows.column(0).as_primitive::<Int64Type>().values());
            }
            _ => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
    assert_eq!(got, (0..50).collect::<Vec<i64>>());
    assert!(!reader.waits());
}
