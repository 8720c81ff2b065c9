//! Avro: against arrow-avro both ways, by the specification's examples, and payloads that are bad.

mod evolution;
mod oracle;
mod registry;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::datatypes::{DataType, Field, Fields, Schema as Columns, SchemaRef};

use super::*;
use crate::testing::{decode_all, encode_all, micros, schema};
use crate::{Decoder, Encoder, Format};

/// Format `avro` with the schema `text`.
fn given(text: &str) -> AvroFormat {
    AvroFormat::parse(&[("avro.schema", text)].into_iter().collect()).unwrap()
}

/// A record schema of these fields.
fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

/// The only row of `payload`, which was written with `writer`.
fn read(writer: &str, columns: &[(&str, DataType)], payload: &[u8]) -> RecordBatch {
    decode_all(&mut given(writer).decoder(schema(columns)).unwrap(), [payload])
}

fn reason(writer: &str, columns: &[(&str, DataType)], payload: &[u8]) -> String {
    let mut decoder = given(writer).decoder(schema(columns)).unwrap();
    let reason = decoder.decode(payload).unwrap_err();
    assert_eq!(decoder.len(), 0);
    reason
}

/// Why `writer` cannot be read into the columns.
fn refused(writer: &str, columns: &[(&str, DataType)]) -> String {
    given(writer).decoder(schema(columns)).err().unwrap().to_string()
}

#[test]
fn the_examples_of_the_specification() {
    // A record of a long 27 and a string "foo".
    let writer = record(r#"{"name":"a","type":"long"},{"name":"b","type":"string"}"#);
    let columns = [("a", DataType::Int64), ("b", DataType::Utf8View)];
    let rows = read(&writer, &columns, &[0x36, 0x06, b'f', b'o', b'o']);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 27);
    assert_eq!(rows.column(1).as_string_view().value(0), "foo");
    // An array of the longs 3 and 27, in one block, and in one that says its size.
    let writer = record(r#"{"name":"a","type":{"type":"array","items":"long"}}"#);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    for payload in [&[0x04, 0x06, 0x36, 0x00][..], &[0x03, 0x04, 0x06, 0x36, 0x00]] {
        let rows = read(&writer, &[("a", list.clone())], payload);
        let items = rows.column(0).as_list::<i32>().value(0);
        assert_eq!(items.as_primitive::<Int64Type>().values(), &[3, 27]);
    }
    // A union of null and string: null, and "a".
    let writer = record(r#"{"name":"a","type":["null","string"]}"#);
    let columns = [("a", DataType::Utf8View)];
    assert_eq!(read(&writer, &columns, &[0x00]).column(0).null_count(), 1);
    let rows = read(&writer, &columns, &[0x02, 0x02, 0x61]);
    assert_eq!(rows.column(0).as_string_view().value(0), "a");
    // The zigzag table of the specification.
    let writer = record(r#"{"name":"a","type":"long"}"#);
    for (number, bytes) in [
        (0, &[0x00][..]),
        (-1, &[0x01]),
        (1, &[0x02]),
        (-64, &[0x7f]),
        (64, &[0x80, 0x01]),
        (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ] {
        let rows = read(&writer, &[("a", DataType::Int64)], bytes);
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), number);
        assert_eq!(encode_all(&mut given(&writer).encoder(rows.schema()).unwrap(), &rows), [bytes]);
    }
}

#[test]
fn a_table_has_the_schema_that_flink_gives_it() {
    let row = Fields::from(vec![Field::new("city", DataType::Utf8View, true)]);
    let columns = Columns::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("small", DataType::Int16, true),
        Field::new("ts", micros(), true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("address", DataType::Struct(row), true),
    ]);
    let derived = derive::derive(columns.fields()).unwrap();
    let expected = serde_json::json!({
        "type": "record", "name": "record", "namespace": "org.apache.flink.avro.generated",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "small", "type": ["null", "int"], "default": null},
            {"name": "ts", "default": null,
             "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
            {"name": "price", "default": null, "type":
             ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
            {"name": "address", "default": null, "type": ["null", {
                "type": "record", "name": "record_address",
                "fields": [{"name": "city", "type": ["null", "string"], "default": null}]
            }]}
        ]
    });
    assert_eq!(derived, expected);

    let nanos = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None);
    let refused = |columns: &[(&str, DataType)]| {
        let format = AvroFormat { schema: None, registry: None };
        format.encoder(schema(columns)).err().unwrap().to_string()
    };
    assert!(refused(&[("t", nanos)]).contains("column 't'"));
    assert!(refused(&[("a-b", DataType::Int64)]).contains("column 'a-b': Avro allows letters"));
}

#[test]
fn a_reason_says_what_is_wrong_where() {
    let item = r#"{"type":"record","name":"item","fields":[{"name":"price","type":"int"}]}"#;
    let writer = record(&format!(
        r#"{{"name":"n","type":"int"}},{{"name":"items","type":{{"type":"array","items":{item}}}}}"#
    ));
    let price = Fields::from(vec![Field::new("price", DataType::Int16, true)]);
    let item = Field::new("item", DataType::Struct(price), true);
    let columns = [("n", DataType::Int32), ("items", DataType::List(Arc::new(item)))];
    let why = |payload: &[u8]| reason(&writer, &columns, payload);
    // 40000 does not fit a SMALLINT.
    assert_eq!(
        why(&[0x02, 0x04, 0x02, 0x80, 0xf1, 0x04, 0x00]),
        "items[1].price: 40000 is not a valid SMALLINT"
    );
    assert_eq!(
        why(&[0x02, 0x04, 0x02, 0x80]),
        "items[1].price: the record ends at byte 4, in the middle of a value"
    );
    assert_eq!(why(&[0x80]), "n: the record ends at byte 1, in the middle of a value");
    assert_eq!(why(&[0xff; 11]), "n: the number at byte 0 is longer than 64 bits");
    let ten = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert_eq!(why(&ten), "n: the number at byte 0 is longer than 64 bits");
    assert_eq!(why(&[0x02, 0x00, 0x09]), "1 bytes follow the end of the record");
    // A block of as many items as there are numbers, in no bytes.
    let block = [0x02, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert!(why(&block).contains("items, and 0 bytes follow"));

    let writer = record(
        r#"{"name":"a","type":["null","string"]},{"name":"e","type":{"type":"enum","name":"e","symbols":["A","B"]}}"#,
    );
    let columns = [("a", DataType::Utf8View), ("e", DataType::Utf8View)];
    let why = |payload: &[u8]| reason(&writer, &columns, payload);
    assert_eq!(why(&[0x04, 0x00]), "a: the union has no branch number 2");
    assert_eq!(why(&[0x02, 0x02, 0xff, 0x00]), "a: invalid UTF-8");
    assert_eq!(why(&[0x00, 0x04]), "e: the enum has no symbol number 2");
    let rows = read(&writer, &columns, &[0x00, 0x02]);
    assert_eq!(rows.column(1).as_string_view().value(0), "B");
}

#[test]
fn what_cannot_be_written_is_refused_by_field() {
    let columns = schema(&[("a", DataType::Utf8View)]);
    let refused =
        |fields: &str| given(&record(fields)).encoder(columns.clone()).err().unwrap().to_string();
    assert_eq!(
        refused(r#"{"name":"a","type":"long"}"#),
        "field 'a': the Avro schema has long, which STRING cannot be written as"
    );
    assert!(refused(r#"{"name":"b","type":"long"}"#).contains("has no default"));
    let texts: arrow::array::ArrayRef =
        Arc::new(arrow::array::StringViewArray::from(vec![Some("A"), Some("C"), None]));
    let rows = RecordBatch::try_from_iter_with_nullable([("a", texts, true)]).unwrap();
    let fields = concat!(
        r#"{"name":"x","type":"int","default":5},"#,
        r#"{"name":"a","type":{"type":"enum","name":"e","symbols":["A","B"]}}"#
    );
    let mut encoder = given(&record(fields)).encoder(rows.schema()).unwrap();
    assert_eq!(encode_all(&mut encoder, &rows.slice(0, 1)), [[0x0a, 0x00]]);
    let failed = |from: usize| {
        let mut encoder = given(&record(fields)).encoder(rows.schema()).unwrap();
        encoder.encode(&rows.slice(from, 1), &mut |_| {}).unwrap_err().to_string()
    };
    assert_eq!(failed(1), "field 'a': 'C' is no symbol of the Avro enum");
    assert_eq!(failed(2), "field 'a': null, where the Avro schema has no null");
}

#[test]
fn a_schema_that_is_none_is_refused_with_its_option() {
    for (text, why) in [
        ("{", "no JSON"),
        (r#"{"type":"record","name":"r"}"#, "lacks its \"fields\""),
        (r#"{"type":"record","name":"r","fields":[{"name":"a","type":"lang"}]}"#, "'lang' is not"),
        (r#"["null",["int"]]"#, "directly in a union"),
        ("7", "7 is no Avro type"),
    ] {
        let error = Format::parse("avro", &[("avro.schema", text)].into_iter().collect());
        let error = error.unwrap_err();
        assert_eq!(error.wrong_option(), Some("avro.schema"));
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(refused(r#""long""#, &[("a", DataType::Int64)]).contains("long is no record"));
}

#[test]
fn payloads_of_avro_are_no_lines_of_a_file() {
    let format = Format::parse("avro", &[("x", "y")].into_iter().collect()).unwrap();
    let columns: SchemaRef = schema(&[("a", DataType::Int64)]);
    assert_eq!(format.check_lines(&columns).unwrap_err().wrong_option(), Some("format"));
}
