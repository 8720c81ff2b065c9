//! JSON: rows that decode, rows that must not, and what was encoded read back.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use proptest::prelude::*;

use super::*;
use crate::Decoder;
use crate::testing::{check_counts, decode_all, encode_all, micros, nested_rows, schema};

fn decoder(schema: &SchemaRef) -> Box<dyn Decoder> {
    Box::new(JsonFormat::default().decoder(schema.clone()).unwrap())
}

/// The reason why `payload` is no row of `columns`.
fn reason(columns: &[(&str, DataType)], payload: &str) -> String {
    let mut decoder = decoder(&schema(columns));
    let reason = decoder.decode(payload.as_bytes()).unwrap_err();
    assert_eq!(decoder.len(), 0);
    reason
}

fn one(columns: &[(&str, DataType)], payload: &str) -> RecordBatch {
    decode_all(decoder(&schema(columns)).as_mut(), [payload.as_bytes()])
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

proptest! {
    #[test]
    fn what_arrow_writes_is_read_as_it_was(rows in nested_rows()) {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&rows).unwrap();
        let text = writer.into_inner();
        prop_assert_eq!(decode_all(decoder(&rows.schema()).as_mut(), lines(&text)), rows);
    }

    #[test]
    fn what_is_written_arrow_reads_as_it_was(rows in nested_rows(), iso in any::<bool>()) {
        let timestamps = if iso { TimestampStyle::Iso8601 } else { TimestampStyle::Sql };
        let format = JsonFormat { timestamps, ..JsonFormat::default() };
        let mut encoder = format.encoder(rows.schema()).unwrap();
        let mut payloads = encode_all(&mut encoder, &rows);
        payloads.iter_mut().for_each(|payload| payload.push(b'\n'));
        let text = payloads.concat();
        let mut reader = ReaderBuilder::new(rows.schema()).build(Cursor::new(&text)).unwrap();
        prop_assert_eq!(&reader.next().unwrap().unwrap(), &rows);
        prop_assert_eq!(decode_all(decoder(&rows.schema()).as_mut(), lines(&text)), rows);
    }

    #[test]
    fn damaged_payloads_cost_nothing_but_themselves(
        rows in nested_rows(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 20)
    ) {
        let mut encoder = JsonFormat::default().encoder(rows.schema()).unwrap();
        let mut payloads = encode_all(&mut encoder, &rows);
        for (payload, (at, byte)) in payloads.iter_mut().zip(&damage) {
            let at = at.index(payload.len());
            if byte % 4 == 0 { payload.truncate(at) } else { payload[at] = *byte }
        }
        let schema = rows.schema();
        check_counts(&|| decoder(&schema), &payloads);
    }

    #[test]
    fn garbage_never_panics(payloads in prop::collection::vec(
        "[\\[\\]{}\":,\\\\u0-9eE.+\\- ntrfalse]{0,40}".prop_map(String::into_bytes), 1..10)
    ) {
        let schema = schema(&[("n", DataType::Int64), ("a", DataType::Utf8View)]);
        check_counts(&|| decoder(&schema), &payloads);
    }

    #[test]
    fn accepts_and_refuses_what_the_oracle_does(
        text in "[\\[\\]{}\":,\\\\u0-3eE.+\\- nul]{0,12}"
    ) {
        // Any value below an unknown field is validated, and otherwise of no concern.
        let payload = format!("{{\"unknown\":{text}}}");
        let schema = schema(&[("n", DataType::Int64)]);
        let ours = decoder(&schema).decode(payload.as_bytes()).is_ok();
        let theirs = serde_json::from_str::<serde_json::Value>(&payload).is_ok();
        prop_assert_eq!(ours, theirs, "{}", payload);
    }
}

#[test]
fn fields_come_in_any_order_and_may_be_missing_unknown_or_twice() {
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
    let payloads: [&[u8]; 5] = [
        br#"{"a":1,"b":"x"}"#,
        br#" { "b" : "y" , "extra" : {"a": [1, {"z": null}]} , "a" : 2 } "#,
        br#"{"b":"first","a":7,"b":"last"}"#,
        br#"{}"#,
        br#"{"a":null,"\u0062":"\u00e9\ud83d\ude00\n\/"}"#,
    ];
    let rows = decode_all(decoder(&columns).as_mut(), payloads);
    let a: Vec<_> = rows.column(0).as_primitive::<Int64Type>().iter().collect();
    let b: Vec<_> = rows.column(1).as_string_view().iter().collect();
    assert_eq!(a, [Some(1), Some(2), Some(7), None, None]);
    assert_eq!(b, [Some("x"), Some("y"), Some("last"), None, Some("é😀\n/")]);
}

#[test]
fn a_reason_names_the_path_of_the_field() {
    let item = DataType::Struct(Fields::from(vec![Field::new("b", DataType::Int32, true)]));
    let list = DataType::List(Arc::new(Field::new("item", item, true)));
    let columns = [("a", list), ("n", DataType::Int64), ("d", DataType::Decimal128(5, 2))];
    let reason = |payload| reason(&columns, payload);
    assert_eq!(reason(r#"{"a":[{"b":1},{"b":"x"}]}"#), "$.a[1].b: \"x\" is not a valid INT");
    assert_eq!(
        reason(r#"{"n":9223372036854775808}"#),
        "$.n: 9223372036854775808 is not a valid BIGINT"
    );
    assert_eq!(reason(r#"{"n":1.5}"#), "$.n: 1.5 is not a valid BIGINT");
    assert_eq!(reason(r#"{"n":{"x":1}}"#), "$.n: {\"x\":1} is not a valid BIGINT");
    assert_eq!(reason(r#"{"d":1000}"#), "$.d: '1000' is not a valid DECIMAL(5, 2)");
    assert!(reason(r#"{"n":1"#).contains("the record ends at byte 6"));
    assert!(reason(r#"{"n":1}}"#).contains("'}' stands at byte 7"));
    assert!(reason("[1]").contains("an object is expected"));
    assert!(reason("").contains("the record ends at byte 0"));
    assert!(
        reason(r#"{"x":"\ud800"}"#).contains("surrogates")
            || reason(r#"{"x":"\ud800"}"#).contains("hexadecimal")
    );
}

#[test]
fn invalid_utf8_is_a_reason() {
    let mut decoder = decoder(&schema(&[("a", DataType::Utf8View)]));
    let reason = decoder.decode(b"{\"a\":\"\xff\"}").unwrap_err();
    assert_eq!(reason, "$: invalid UTF-8 at byte 6");
}

#[test]
fn deep_nesting_is_a_reason_and_no_stack_overflow() {
    let columns = [("n", DataType::Int64), ("s", DataType::Utf8View)];
    for field in ["n", "s", "unknown"] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = |n: usize| format!("{{\"{field}\":{}1{}}}", open.repeat(n), close.repeat(n));
            assert!(reason(&columns, &deep(100_000)).contains("nested more than 128 deep"));
            assert_eq!(
                decoder(&schema(&columns)).decode(deep(127).as_bytes()).is_ok(),
                field != "n"
            );
        }
    }
}

#[test]
fn missing_values_of_not_null_columns_are_a_reason() {
    let field = Field::new("a", DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field, Field::new("b", DataType::Int64, true)]));
    let mut decoder = decoder(&schema);
    assert_eq!(
        decoder.decode(b"{\"b\":1}").unwrap_err(),
        "$.a: null, or missing, in a NOT NULL column"
    );
    assert!(decoder.decode(b"{\"a\":null}").is_err());
    decoder.decode(b"{\"a\":3}").unwrap();
    assert_eq!(decoder.finish().unwrap().num_rows(), 1);
}

#[test]
fn nothing_is_seen_below_a_row_that_is_null() {
    let inner = Fields::from(vec![Field::new("n", DataType::Int64, false)]);
    let rows = one(&[("row", DataType::Struct(inner))], "{}");
    assert!(rows.column(0).is_null(0));
    assert!(rows.column(0).as_struct().column(0).is_null(0));
}

#[test]
fn timestamps_are_text_of_either_standard_or_epoch_milliseconds() {
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (text, expected) in [
        (r#""2013-01-01 10:15:00.5""#, 1_357_035_300_500_000),
        (r#""2013-01-01T10:15:00.5Z""#, 1_357_035_300_500_000),
        ("1357035300500", 1_357_035_300_500_000),
        ("-1", -1_000),
    ] {
        for column in [micros(), zoned.clone()] {
            let rows = one(&[("t", column)], &format!("{{\"t\":{text}}}"));
            assert_eq!(
                rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0),
                expected
            );
        }
    }
    assert!(
        reason(&[("t", micros())], r#"{"t":9223372036854775807}"#)
            .contains("not a valid TIMESTAMP")
    );
    assert!(reason(&[("t", micros())], r#"{"t":"yesterday"}"#).starts_with("$.t: 'yesterday'"));
}

/// JSON with options.
fn format(options: &[(&str, &str)]) -> JsonFormat {
    JsonFormat::parse(&options.iter().copied().collect()).unwrap()
}

#[test]
fn a_number_counts_what_the_option_says_since_1970() {
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    for (unit, number, expected) in [
        ("seconds", "1357035300", 1_357_035_300_000_000_000_i64),
        ("seconds", "1357035300.25", 1_357_035_300_250_000_000),
        ("seconds", "-1.5", -1_500_000_000),
        ("seconds", "1.357e9", 1_357_000_000_000_000_000),
        ("millis", "1357035300500", 1_357_035_300_500_000_000),
        ("micros", "1357035300500001", 1_357_035_300_500_001_000),
        ("nanos", "1357035300500001002", 1_357_035_300_500_001_002),
        ("nanos", "-1", -1),
    ] {
        for (column, per_nano) in [(micros(), 1_000i64), (nanos.clone(), 1)] {
            let json = format(&[("json.timestamp-format.epoch", unit)]);
            let mut decoder = json.decoder(schema(&[("t", column)])).unwrap();
            let payload = format!("{{\"t\":{number}}}");
            let rows = decode_all(&mut decoder, [payload.as_bytes()]);
            let value = arrow::compute::cast(rows.column(0), &DataType::Int64).unwrap();
            let value = value.as_primitive::<Int64Type>().value(0);
            assert_eq!(value, expected.div_euclid(per_nano), "{number} {unit}");
        }
    }
    let options = [("json.timestamp-format.epoch", "hours")].into_iter().collect();
    let error = JsonFormat::parse(&options).unwrap_err();
    assert_eq!(error.wrong_option(), Some("json.timestamp-format.epoch"));
}

#[test]
fn a_missing_field_is_a_reason_where_the_option_says_so() {
    let inner = DataType::Struct(vec![Field::new("b", DataType::Int64, true)].into());
    let columns = schema(&[("a", DataType::Int64), ("row", inner)]);
    let mut decoder = format(&[("json.fail-on-missing-field", "true")]).decoder(columns).unwrap();
    decoder.decode(br#"{"a":null,"row":{"b":1}}"#).unwrap();
    assert_eq!(decoder.decode(br#"{"row":{"b":1}}"#).unwrap_err(), "$.a: the field is missing");
    assert_eq!(
        decoder.decode(br#"{"a":1,"row":{}}"#).unwrap_err(),
        "$.row.b: the field is missing"
    );
    assert_eq!(decoder.finish().unwrap().num_rows(), 1);
}

#[test]
fn nulls_are_left_out_where_the_option_says_so() {
    let inner = DataType::Struct(vec![Field::new("b", DataType::Int64, true)].into());
    let list = DataType::List(Arc::new(Field::new("item", inner.clone(), true)));
    let columns = [("a", DataType::Int64), ("row", inner), ("list", list)];
    let written = |payload: &str| {
        let rows = one(&columns, payload);
        let json = format(&[("json.encode.ignore-null-fields", "true")]);
        let payloads = encode_all(&mut json.encoder(rows.schema()).unwrap(), &rows);
        String::from_utf8(payloads.concat()).unwrap()
    };
    assert_eq!(written("{}"), "{}");
    assert_eq!(written(r#"{"row":{}}"#), r#"{"row":{}}"#);
    let full = r#"{"a":1,"row":{"b":2},"list":[null,{"b":3},{}]}"#;
    assert_eq!(written(full), full);
}

#[test]
fn a_bad_value_deep_within_leaves_every_column_as_it_was() {
    let address = Fields::from(vec![
        Field::new("street", DataType::Utf8View, true),
        Field::new(
            "geo",
            DataType::List(Arc::new(Field::new("item", DataType::Float64, true))),
            true,
        ),
    ]);
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8View, false),
        Field::new("value", DataType::Struct(address), true),
    ]);
    let map =
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    let item = Fields::from(vec![
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("places", map, true),
    ]);
    let items = DataType::List(Arc::new(Field::new("item", DataType::Struct(item), true)));
    let payload = Fields::from(vec![Field::new("items", items, true)]);
    let columns = schema(&[("id", DataType::Int64), ("payload", DataType::Struct(payload))]);
    let good = |id: usize| {
        format!(
            r#"{{"id":{id},"payload":{{"items":[{{"price":1.50,"places":{{"home":{{"street":"a street that is long","geo":[1.5,2]}},"x":null}}}},null]}}}}"#
        )
    };
    let bad = [
        (good(0).replace("[1.5,2]", "[1.5,\"2\"]"), "$.payload.items[0].places.home.geo[1]: "),
        (good(0).replace("1.50", "\"much\""), "$.payload.items[0].price: "),
        (good(0).replace(",null]", ",{\"places\":[]}]"), "$.payload.items[1].places: "),
        (good(0).replace("null}", "{\"street\":\"\\q\"}}"), "$.payload.items[0].places.x.street: "),
    ];
    let mut spoiled = decoder(&columns);
    let mut clean = decoder(&columns);
    for id in 0..20 {
        let (payload, path) = &bad[id % bad.len()];
        let reason = spoiled.decode(payload.as_bytes()).unwrap_err();
        assert!(reason.starts_with(path), "{reason}");
        spoiled.decode(good(id).as_bytes()).unwrap();
        clean.decode(good(id).as_bytes()).unwrap();
    }
    assert_eq!(spoiled.finish().unwrap(), clean.finish().unwrap());
}

#[test]
fn a_map_of_many_keys_and_of_keys_that_come_twice() {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8View, false),
        Field::new("value", DataType::Int64, true),
    ]);
    let map = Arc::new(Field::new("entries", DataType::Struct(entries), false));
    let columns = [("m", DataType::Map(map, false)), ("n", DataType::Int64)];
    for keys in [1, 15, 16, 17, 1_000] {
        let entry = |n: usize| format!("\"key {}\":{n}", n % keys);
        let entries: Vec<_> = (0..keys + keys / 2).map(entry).collect();
        let rows = one(&columns, &format!("{{\"m\":{{{}}},\"n\":7}}", entries.join(",")));
        let map = rows.column(0).as_map();
        let values = map.values().as_primitive::<Int64Type>().values();
        let expected: Vec<_> =
            (0..keys).map(|n| if n < keys / 2 { n + keys } else { n } as i64).collect();
        assert_eq!(values, &expected, "{keys} keys");
        assert_eq!(map.keys().as_string_view().value(keys - 1), format!("key {}", keys - 1));
        assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(0), 7);
    }
}

proptest! {
    #[test]
    fn numbers_read_as_the_oracle_reads_them(
        text in "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?|-?0[0-9]|1\\.|\\.5"
    ) {
        let payload = format!("{{\"x\":{text} }}");
        let float = decoder(&schema(&[("x", DataType::Float64)])).decode(payload.as_bytes());
        let theirs = serde_json::from_str::<f64>(&text);
        prop_assert_eq!(float.is_ok(), theirs.is_ok(), "{}", text);
        if theirs.is_ok() {
            let rows = one(&[("x", DataType::Float64)], &payload);
            let ours = rows.column(0).as_primitive::<Float64Type>().value(0);
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(ours.to_bits(), expected.to_bits(), "{}", text);
        }
        let integer = decoder(&schema(&[("x", DataType::Int64)])).decode(payload.as_bytes());
        let theirs = serde_json::from_str::<i64>(&text);
        prop_assert_eq!(integer.is_ok(), theirs.is_ok() || text == "-0", "{}", text);
        if let Ok(expected) = theirs {
            let rows = one(&[("x", DataType::Int64)], &payload);
            prop_assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), expected);
        }
    }
}

#[test]
fn maps_bytes_dates_and_raw_json_in_strings_survive_a_round_trip() {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8View, false),
        Field::new("value", DataType::Int64, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    let columns = [
        ("m", DataType::Map(Arc::new(entries), false)),
        ("b", DataType::BinaryView),
        ("d", DataType::Date32),
        ("t", DataType::Time32(TimeUnit::Millisecond)),
        ("s", DataType::Utf8View),
        ("z", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("f", DataType::Float32),
    ];
    let payload = r#"{"m":{"x":1,"y":null},"b":"AP8=","d":"1969-12-31","t":"23:59:59.999","s":"{\"a\": [1,2]}","z":"2013-01-01 10:00:00.250Z","f":"NaN"}"#;
    let rows = one(&columns, payload);
    let mut encoder = JsonFormat::default().encoder(rows.schema()).unwrap();
    let written = encode_all(&mut encoder, &rows);
    assert_eq!(String::from_utf8_lossy(&written[0]), payload);
    let nested = one(&columns, r#"{"s":{"a": [1,2]},"m":{"x":1,"x":2}}"#);
    assert_eq!(nested.column(4).as_string_view().value(0), r#"{"a": [1,2]}"#);
    assert_eq!(nested.column(0).as_map().value(0).len(), 1);
}

#[test]
fn a_long_string_is_kept_whole() {
    let long = "x".repeat(10_000_000);
    let rows = one(&[("s", DataType::Utf8View)], &format!("{{\"s\":\"{long}\"}}"));
    assert_eq!(rows.column(0).as_string_view().value(0), long);
}
