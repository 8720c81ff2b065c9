//! Protobuf: the wire knows fields by their numbers and leaves out what is not set. With a registry each
//! record is read by its own schema, and columns go by the names there; without one all are read by
//! the one that is given.

use DataType::{BinaryView, Boolean, Float64, Int32, Int64, Utf8View};
use tidemill_registry::{Running, Server};

use super::*;
use crate::registry::{Definition, Registry, RegistryConfig, SchemaKind, framing};

/// Field 1 as a varint, field 2 as text.
const RECORD: [u8; 5] = [0x08, 7, 0x12, 1, b'a'];

/// 3 000 000 000 in field 1.
const LARGE: [u8; 6] = [0x08, 0x80, 0xbc, 0xc1, 0x96, 0x0b];

fn proto(fields: &str) -> String {
    format!("syntax = \"proto3\"; message M {{ {fields} }}")
}

/// A decoder by a `.proto` file with these fields.
fn decoder(fields: &str, columns: &[(&str, DataType)]) -> tidemill_core::Result<Box<dyn Decoder>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.proto");
    std::fs::write(&file, proto(fields)).unwrap();
    let options = [("protobuf.file", file.to_str().unwrap()), ("protobuf.message", "M")];
    format("protobuf", &options).decoder(table(columns))
}

fn plain(fields: &str, columns: &[(&str, DataType)], payloads: &[&[u8]]) -> Vec<String> {
    outcomes(decoder(fields, columns).unwrap().as_mut(), payloads)
}

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

    fn record(&self, fields: &str, message: &[u8]) -> Vec<u8> {
        let definition = Definition::new(SchemaKind::Protobuf, proto(fields));
        let id = self.registry.register("t-value", &definition).unwrap();
        let mut payload = Vec::new();
        framing::write_header(id, &mut payload);
        framing::write_indexes(&[0], &mut payload);
        payload.extend_from_slice(message);
        payload
    }

    fn read(&self, columns: &[(&str, DataType)], payloads: &[&[u8]]) -> Vec<String> {
        let url = self.server.url();
        let format = format("protobuf-confluent", &[("protobuf-confluent.url", &url)]);
        outcomes(format.decoder(table(columns)).unwrap().as_mut(), payloads)
    }
}

#[test]
fn with_one_schema_what_it_does_not_know_is_stepped_over_and_what_is_not_set_is_its_default() {
    let fields = "int64 id = 1; string note = 2; optional bool paid = 3;";
    let columns = [("id", Int64), ("note", Utf8View), ("paid", Boolean)];
    let added = [&RECORD[..], &[0x42, 1, b'z']].concat();
    let rows = plain(fields, &columns, &[&RECORD, &added, &RECORD[..2]]);
    assert_eq!(rows, ["7, a, null", "7, a, null", "7, , null"]);
    let strict = plain(fields, &[("id", Int64), ("paid!", Boolean)], &[&RECORD]);
    assert_eq!(strict, ["✗ paid: null, or missing, in a NOT NULL column"]);
    let error = decoder(fields, &[("id", Int64), ("more", Int64)]).err().unwrap().to_string();
    assert!(error.contains("column 'more': message M has no such field"), "{error}");
}

#[test]
fn a_number_that_a_newer_writer_widened_is_bad_and_never_wraps() {
    let records: [&[u8]; 3] =
        [&RECORD, &LARGE, &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]];
    let read =
        |of: &str, column: DataType| plain(&format!("{of} v = 1;"), &[("v", column)], &records);
    let exceeds = |value: &str, of: &str| {
        format!("✗ v: {value} exceeds {of}, which the schema says: it was written with a wider one")
    };
    assert_eq!(read("int32", Int32), ["7", &exceeds("3000000000", "int32"), "-1"]);
    assert_eq!(read("int32", Int64), ["7", &exceeds("3000000000", "int32"), "-1"]);
    assert_eq!(read("uint32", Int64), ["7", "3000000000", &exceeds("-1", "uint32")]);
    assert_eq!(read("int64", Int64), ["7", "3000000000", "-1"]);
    let zigzag = read("sint32", Int32);
    assert_eq!(zigzag[..2], ["-4", "1500000000"]);
    assert!(zigzag[2].contains("exceeds sint32"), "{zigzag:?}");
    let other = plain("double v = 1;", &[("v", Float64)], &[&RECORD]);
    assert!(other[0].starts_with("✗ v: "), "another wire type: {other:?}");
}

#[test]
fn a_field_may_be_renamed_as_long_as_its_number_stays() {
    for name in ["note", "remark"] {
        let rows = plain(&format!("string {name} = 2;"), &[(name, Utf8View)], &[&RECORD]);
        assert_eq!(rows, ["a"]);
    }
    assert_eq!(plain("bytes v = 2;", &[("v", BinaryView)], &[&RECORD]), ["61"], "texts are bytes");
}

#[test]
fn with_a_registry_old_and_new_lie_side_by_side() {
    let topic = Topic::new();
    let old = topic.record("int64 id = 1; string note = 2;", &RECORD);
    let new = topic.record("int64 id = 9; bool paid = 3;", &[72, 8, 0x18, 1]);
    let columns = [("id", Int64), ("note", Utf8View), ("paid", Boolean)];
    let rows = topic.read(&columns, &[&old, &new, &old]);
    assert_eq!(rows, ["7, a, null", "8, null, true", "7, a, null"]);
    let strict = topic.read(&[("id", Int64), ("note!", Utf8View)], &[&old, &new]);
    assert_eq!(strict[0], "7, a");
    assert!(strict[1].starts_with('✗') && strict[1].contains("note"), "{strict:?}");
}

#[test]
fn with_a_registry_numbers_widen_within_what_the_column_can_hold() {
    let topic = Topic::new();
    let int = topic.record("int32 v = 1;", &RECORD[..2]);
    let long = topic.record("int64 v = 1;", &LARGE);
    let double = topic.record("double v = 1;", &[&[0x09][..], &2.5f64.to_le_bytes()].concat());
    let payloads = [&int[..], &long, &double];
    let longs = topic.read(&[("v", Int64)], &payloads);
    assert_eq!(longs[..2], ["7", "3000000000"]);
    assert!(longs[2].contains("declare it DOUBLE"), "{longs:?}");
    let ints = topic.read(&[("v", Int32)], &payloads);
    assert_eq!(ints[0], "7");
    assert!(ints[1].contains("declare it BIGINT"), "{ints:?}");
    let doubles = topic.read(&[("v", Float64)], &payloads);
    assert!(doubles[0].contains("declare it INT or BIGINT") && doubles[2] == "2.5", "{doubles:?}");
    let float = topic.record("float v = 1;", &[&[0x0d][..], &2.5f32.to_le_bytes()].concat());
    assert_eq!(topic.read(&[("v", Float64)], &[&float, &double]), ["2.5", "2.5"]);

    let text = topic.record("string v = 2;", &RECORD[2..]);
    let bytes = topic.record("bytes v = 2;", &RECORD[2..]);
    let texts = topic.read(&[("v", Utf8View)], &[&text, &bytes]);
    assert!(texts[0] == "a" && texts[1].contains("declare it BYTES"), "{texts:?}");
}

#[test]
fn with_a_registry_a_new_name_is_another_field() {
    let topic = Topic::new();
    let old = topic.record("string customer = 2;", &RECORD[2..]);
    let new = topic.record("string client = 2;", &RECORD[2..]);
    let rows = topic.read(&[("customer", Utf8View), ("client", Utf8View)], &[&old, &new]);
    assert_eq!(rows, ["a, null", "null, a"], "COALESCE(client, customer) has both");
}
