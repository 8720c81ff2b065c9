//! Payloads that look alike, or nearly: what is read by their usual layout is what the general way reads.

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use std::sync::Arc;

use super::*;
use crate::Decoder;
use crate::testing::{check_counts, check_lines, decode_all, micros, schema};

fn columns() -> SchemaRef {
    let row = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8View, false),
    ];
    let row = DataType::Struct(row.into());
    let list = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
    let mut fields = schema(&[
        ("key", DataType::Int64),
        ("ts", micros()),
        ("value", DataType::Float64),
        ("s", DataType::Utf8View),
        ("small", DataType::Int16),
        ("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
        ("row", row),
        ("list", list),
        ("price", DataType::Decimal128(10, 2)),
    ])
    .fields()
    .to_vec();
    fields[0] = Arc::new(Field::new("key", DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

const NAMES: [&str; 11] =
    ["key", "ts", "value", "s", "small", "at", "row", "list", "price", "unknown", "other"];

/// Field `n` of the layout and how it is written: names in an order, white space around them.
#[derive(Debug, Clone)]
struct Layout {
    fields: Vec<usize>,
    space: [&'static str; 4],
}

fn layout() -> impl Strategy<Value = Layout> {
    let fields = Just((0..NAMES.len()).collect::<Vec<_>>()).prop_shuffle();
    let space = prop::sample::select(vec![
        ["", "", "", ""],
        ["", "", " ", " "],
        [" ", " ", "", "\t"],
        ["", "\r", " ", ""],
    ]);
    (fields, 0..=NAMES.len(), space).prop_map(|(mut fields, kept, space)| {
        fields.truncate(kept.max(1));
        Layout { fields, space }
    })
}

fn value(field: usize) -> BoxedStrategy<String> {
    let integer = "-?(0|[1-9][0-9]{0,19})";
    let float = "-?(0|[1-9][0-9]{0,17})\\.[0-9]{1,18}([eE][+-]?[0-9]{1,2})?";
    let time = "\"[0-9]{4}-(0[1-9]|1[0-2])-[0-2][0-9][ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,10})?(Z|\\+02:00)?\"";
    let text = "\"([a-z]{0,20}|[é😀x]{1,9}|\\\\n|\\\\u00e9)\"";
    let any = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        integer,
        float,
        text,
        time,
        Just("{\"id\":1,\"name\":\"x\"}".to_owned()),
        Just("[1.5, 2,null]".to_owned()),
        Just("{}".to_owned()),
        Just("01".to_owned()),
        Just("\"\u{1}\"".to_owned()),
    ];
    let usual = match NAMES[field] {
        "key" | "small" => "[1-9]?[0-9]{1,4}".boxed(),
        "value" | "price" => "[0-9]{1,3}\\.[0-9]{2}".boxed(),
        "ts" | "at" => "\"2013-01-0[1-3][ T]10:[0-5][0-9]:00\\.[0-9]{0,6}\"".boxed(),
        "row" => text.prop_map(|text| format!("{{\"id\":1,\"name\":{text}}}")).boxed(),
        "list" => Just("[1.5, 2,null]".to_owned()).boxed(),
        _ => text.boxed(),
    };
    prop_oneof![30 => usual, 1 => any].boxed()
}

fn object(layout: Layout) -> impl Strategy<Value = String> {
    let values: Vec<_> = layout.fields.iter().map(|field| value(*field)).collect();
    values.prop_map(move |values| {
        let [before, comma, colon, after] = layout.space;
        let field = |(field, value): (&usize, String)| {
            format!("\"{}\"{before}:{colon}{value}{after}", NAMES[*field])
        };
        let fields: Vec<_> = layout.fields.iter().zip(values).map(field).collect();
        format!("{before}{{{after}{}}}{after}", fields.join(&format!(",{comma}")))
    })
}

/// Objects of one layout, some of another, and some that are damaged.
fn objects() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let of = |layout: Layout| {
        let damage = prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()));
        (object(layout), damage).prop_map(|(text, damage)| {
            let mut text = text.into_bytes();
            if let Some((at, byte)) = damage {
                let at = at.index(text.len());
                if byte % 4 == 0 { text.truncate(at) } else { text[at] = byte }
            }
            text
        })
    };
    (layout(), layout()).prop_flat_map(move |(usual, odd)| {
        prop::collection::vec(prop_oneof![12 => of(usual), 1 => of(odd)], 1..40)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn payloads_are_read_as_if_nothing_were_expected(payloads in objects(), strict in any::<bool>()) {
        let format = JsonFormat { needs_all_fields: strict, ..JsonFormat::default() };
        check_counts(&|| Box::new(format.decoder(columns()).unwrap()), &payloads);
    }

    #[test]
    fn lines_are_read_as_if_nothing_were_expected(
        payloads in objects(),
        ends in prop::collection::vec("\n|\n|\n|\r\n|\n\n|\r\r\n| \n", 40),
        max in 1usize..50,
        cut in any::<bool>(),
    ) {
        let mut text = Vec::new();
        for (payload, end) in payloads.iter().zip(&ends) {
            text.extend_from_slice(payload);
            text.extend_from_slice(end.as_bytes());
        }
        if cut {
            text.pop();
        }
        check_lines(&|| Box::new(JsonFormat::default().decoder(columns()).unwrap()), &text, max);
    }
}

#[test]
fn lines_of_the_layout_before_are_taken_at_once() {
    let mut decoder = JsonFormat::default().decoder(columns()).unwrap();
    let line = |n: usize| format!("{{\"key\":{n}, \"unknown\": [{n}], \"s\": \"a {n}\"}}\n");
    let lines: Vec<String> = (0..1_000).map(line).collect();
    decoder.decode(lines[0].trim_end().as_bytes()).unwrap();
    let mut ends = Vec::new();
    decoder.decode_lines(lines[1..].concat().as_bytes(), 10_000, &mut ends);
    assert_eq!(ends.len(), 999, "all of them look alike");
    let rows = decoder.finish().unwrap();
    let keys = rows.column(0).as_primitive::<Int64Type>().values();
    assert_eq!(keys.to_vec(), (0..1_000).collect::<Vec<i64>>());
}

#[test]
fn an_object_that_has_a_line_end_within_is_two_lines_and_one_payload() {
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
    let fresh = || -> Box<dyn Decoder> {
        Box::new(JsonFormat::default().decoder(columns.clone()).unwrap())
    };
    let payload = b"{\"a\":1,\n\"b\":\"x\"}";
    let rows = decode_all(fresh().as_mut(), [payload.as_slice(); 3]);
    assert_eq!(rows.num_rows(), 3);
    let mut decoder = fresh();
    decoder.decode(payload).unwrap();
    let mut ends = Vec::new();
    decoder.decode_lines(b"{\"a\":1,\n\"b\":\"x\"}\n", 10, &mut ends);
    assert!(ends.is_empty());
    for text in
        ["{\"a\":1,\"b\":[1,2]}\n{\"a\":1,\"b\":[1,\n2]}\n", "{\"b\":\"x\"}\n{\"b\":{\n}}\n"]
    {
        check_lines(&fresh, text.as_bytes(), 10);
    }
}
