//! Avro: with a registry each record is read by the schema that it names; without one all must have been
//! written with the one that is given.

use DataType::{BinaryView, Float64, Int32, Int64, Utf8View};
use tidemill_registry::{Running, Server};

use super::*;
use crate::registry::{Definition, Registry, RegistryConfig, SchemaKind, framing};

/// A registry, and the subject of one topic in it.
struct Topic {
    server: Running,
    registry: Registry,
}

impl Topic {
    fn new() -> Self {
        let server = Server::new().start("127.0.0.1:0").unwrap();
        let registry = Registry::new(RegistryConfig::new(&server.url()).unwrap()).unwrap();
        Self { server, registry }
    }

    /// A record of a schema with these fields.
    fn record(&self, fields: &str, datum: &[u8]) -> Vec<u8> {
        let text = schema(fields);
        let definition = Definition::new(SchemaKind::Avro, text);
        let id = self.registry.register("t-value", &definition).unwrap();
        let mut payload = Vec::new();
        framing::write_header(id, &mut payload);
        payload.extend_from_slice(datum);
        payload
    }

    /// What becomes of records in a table, read with a schema of its own if one is given.
    fn read(
        &self,
        columns: &[(&str, DataType)],
        own: Option<&str>,
        payloads: &[&[u8]],
    ) -> Vec<String> {
        let (url, own) = (self.server.url(), own.map(schema));
        let mut options = vec![("avro-confluent.url", url.as_str())];
        options.extend(own.as_deref().map(|own| ("avro-confluent.schema", own)));
        let format = format("avro-confluent", &options);
        outcomes(format.decoder(table(columns)).unwrap().as_mut(), payloads)
    }
}

fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

const ID: &str = r#"{"name":"id","type":"long"}"#;
const ID_AND_NOTE: &str = r#"{"name":"id","type":"long"},{"name":"note","type":"string"}"#;

#[test]
fn fields_come_and_go_in_the_middle_of_a_batch() {
    let topic = Topic::new();
    let short = topic.record(ID, &[2]);
    let long = topic.record(ID_AND_NOTE, &[4, 2, b'b']);
    let payloads = [&short[..], &long, &short, &long];
    assert_eq!(topic.read(&[("id", Int64)], None, &payloads), ["1", "2", "1", "2"]);
    let both = [("id", Int64), ("note", Utf8View)];
    assert_eq!(topic.read(&both, None, &payloads), ["1, null", "2, b", "1, null", "2, b"]);
    let strict = topic.read(&[("id", Int64), ("note!", Utf8View)], None, &payloads[..2]);
    assert!(
        strict[0].ends_with("the column is NOT NULL, and the writer's schema has no such field"),
        "{strict:?}"
    );
    assert_eq!(strict[1], "2, b", "only records of that schema are bad");
    let own = r#"{"name":"id","type":"long"},{"name":"note","type":"string","default":"none"}"#;
    let filled = topic.read(&[("id", Int64), ("note!", Utf8View)], Some(own), &payloads[..2]);
    assert_eq!(filled, ["1, none", "2, b"]);
}

#[test]
fn numbers_and_texts_widen_and_never_wrap() {
    let topic = Topic::new();
    let field = |of: &str| format!(r#"{{"name":"v","type":"{of}"}}"#);
    let int = topic.record(&field("int"), &[0x0a]);
    let long = topic.record(&field("long"), &[0x80, 0xf8, 0x82, 0xad, 0x16]);
    let double = topic.record(&field("double"), &2.5f64.to_le_bytes());
    let payloads = [&int[..], &long, &double];
    let cannot = |from: &str, to: &str| {
        format!("v: the writer's schema has {from}, which cannot be read as {to}")
    };
    let read = |of: DataType| topic.read(&[("v", of)], None, &payloads);
    let ints = read(Int32);
    assert_eq!(ints[0], "5");
    assert!(
        ints[1].ends_with(&cannot("long", "INT")) && ints[2].ends_with(&cannot("double", "INT")),
        "{ints:?}"
    );
    let longs = read(Int64);
    assert_eq!(longs[..2], ["5", "3000000000"]);
    assert!(longs[2].ends_with(&cannot("double", "BIGINT")), "{longs:?}");
    assert_eq!(read(Float64), ["5.0", "3000000000.0", "2.5"]);

    let string = topic.record(&field("string"), &[4, b'a', b'b']);
    let bytes = topic.record(&field("bytes"), &[2, 0xff]);
    let texts = topic.read(&[("v", Utf8View)], None, &[&string, &bytes]);
    assert_eq!(texts, ["ab", "✗ v: invalid UTF-8"]);
    let blobs = topic.read(&[("v", BinaryView)], None, &[&string, &bytes]);
    assert_eq!(blobs, ["6162", "ff"]);
}

#[test]
fn a_new_name_is_known_by_the_alias_in_the_schema_of_the_table() {
    let topic = Topic::new();
    let old = topic.record(r#"{"name":"customer","type":"string"}"#, &[2, b'a']);
    let new = topic.record(r#"{"name":"client","type":"string"}"#, &[2, b'b']);
    let payloads = [&old[..], &new];
    let columns = [("client", Utf8View)];
    assert_eq!(topic.read(&columns, None, &payloads), ["null", "b"], "without it: another field");
    let own = r#"{"name":"client","type":"string","aliases":["customer"]}"#;
    assert_eq!(topic.read(&columns, Some(own), &payloads), ["a", "b"]);
}

#[test]
fn without_a_registry_only_the_lengths_can_tell_that_a_schema_has_changed() {
    let format = format("avro", &[("avro.schema", &schema(ID_AND_NOTE))]);
    let columns = table(&[("id", Int64), ("note", Utf8View)]);
    let mut decoder = format.decoder(columns).unwrap();
    let (known, longer, shorter): (&[u8], &[u8], &[u8]) = (&[2, 2, b'a'], &[4, 2, b'b', 6], &[6]);
    let found = outcomes(decoder.as_mut(), &[known, longer, shorter]);
    assert_eq!(found[0], "1, a");
    assert_eq!(found[1], "✗ 1 bytes follow the end of the record");
    assert!(found[2].starts_with("✗ note: the record ends"), "{found:?}");
}

#[test]
fn without_a_registry_an_int_that_has_become_a_long_is_read_as_far_as_the_column_goes() {
    let format = format("avro", &[("avro.schema", &schema(r#"{"name":"v","type":"int"}"#))]);
    let payloads: [&[u8]; 2] = [&[0x0a], &[0x80, 0xf8, 0x82, 0xad, 0x16]];
    let read = |of| outcomes(format.decoder(table(&[("v", of)])).unwrap().as_mut(), &payloads);
    assert_eq!(read(Int64), ["5", "3000000000"]);
    let ints = read(Int32);
    assert!(ints[0] == "5" && ints[1].starts_with("✗ v: "), "{ints:?}");
}
