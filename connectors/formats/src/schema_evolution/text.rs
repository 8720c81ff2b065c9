//! JSON, CSV and raw: the record says nothing of its schema, so columns find their values by name, by place
//! or by being the only one.

use DataType::{BinaryView, Boolean, Float64, Int32, Int64, Utf8View};

use super::*;
use crate::csv::CsvFormat;

fn json(columns: &[(&str, DataType)], payloads: &[&str]) -> Vec<String> {
    outcomes(format("json", &[]).decoder(table(columns)).unwrap().as_mut(), payloads)
}

fn csv(columns: &[(&str, DataType)], lines: &[&str]) -> Vec<String> {
    outcomes(format("csv", &[]).decoder(table(columns)).unwrap().as_mut(), lines)
}

/// Lines of a file that begins with a line of names.
fn headed(columns: &[(&str, DataType)], header: &str, lines: &[&str]) -> Vec<String> {
    let format = CsvFormat::parse(&[("csv.header", "true")].into_iter().collect()).unwrap();
    let decoder = format.decoder_with_header(table(columns), header.as_bytes());
    outcomes(&mut decoder.unwrap(), lines)
}

fn raw(of: DataType, payloads: &[&[u8]]) -> Vec<String> {
    outcomes(format("raw", &[]).decoder(table(&[("value", of)])).unwrap().as_mut(), payloads)
}

#[test]
fn json_fields_come_and_go() {
    let columns = [("id", Int64), ("note", Utf8View)];
    let added = [r#"{"id":1,"note":"a"}"#, r#"{"id":2,"more":{"x":[1]},"note":"b"}"#];
    assert_eq!(json(&columns, &added), ["1, a", "2, b"]);
    let removed = [r#"{"id":1,"note":"a"}"#, r#"{"id":2}"#, r#"{"id":3,"note":null}"#];
    assert_eq!(json(&columns, &removed), ["1, a", "2, null", "3, null"]);
    let missing = "✗ $.note: null, or missing, in a NOT NULL column";
    assert_eq!(json(&[("id", Int64), ("note!", Utf8View)], &removed), ["1, a", missing, missing]);
    let strict = format("json", &[("json.fail-on-missing-field", "true")]);
    let strict = outcomes(strict.decoder(table(&columns)).unwrap().as_mut(), &removed);
    assert_eq!(strict, ["1, a", "✗ $.note: the field is missing", "3, null"]);
}

#[test]
fn json_numbers_and_texts_widen_where_the_column_is_wide_enough() {
    let payloads = [
        r#"{"v":7}"#,
        r#"{"v":3000000000}"#,
        r#"{"v":2.5}"#,
        r#"{"v":1e400}"#,
        r#"{"v":"x"}"#,
        r#"{"v":{"a":1}}"#,
    ];
    let wrong = |of: &str| {
        let reason = |value: &str| format!("✗ $.v: {value} is not a valid {of}");
        [
            reason("3000000000"),
            reason("2.5"),
            reason("1e400"),
            reason("\"x\""),
            reason(r#"{"a":1}"#),
        ]
    };
    let [too_large, fraction, huge, text, object] = wrong("INT");
    assert_eq!(
        json(&[("v", Int32)], &payloads),
        ["7", &too_large, &fraction, &huge, &text, &object]
    );
    let [_, fraction, huge, text, object] = wrong("BIGINT");
    assert_eq!(
        json(&[("v", Int64)], &payloads),
        ["7", "3000000000", &fraction, &huge, &text, &object]
    );
    let [.., text, object] = wrong("DOUBLE");
    let doubles = json(&[("v", Float64)], &payloads);
    assert_eq!(doubles[..3], ["7.0", "3000000000.0", "2.5"]);
    assert_eq!(doubles[4..], [text, object]);
    let texts = json(&[("v", Utf8View)], &payloads);
    assert_eq!(texts, ["7", "3000000000", "2.5", "1e400", "x", r#"{"a":1}"#], "any JSON is a text");
}

#[test]
fn a_json_field_with_a_new_name_is_another_field() {
    let columns = [("customer", Utf8View), ("client", Utf8View)];
    let payloads = [r#"{"customer":"ada"}"#, r#"{"client":"bob"}"#];
    let rows = json(&columns, &payloads);
    assert_eq!(rows, ["ada, null", "null, bob"], "COALESCE(client, customer) has both");
}

#[test]
fn csv_fields_go_by_place_and_must_be_as_many_as_the_columns() {
    let columns = [("id", Int64), ("note", Utf8View)];
    let lines = ["1,a", "2,b,c", "3", "4,", "x,5"];
    let expected = [
        "1, a",
        "✗ 3 fields where 2 are expected",
        "✗ 1 field where 2 are expected",
        "4, null",
        "✗ id: 'x' is not a valid BIGINT",
    ];
    assert_eq!(csv(&columns, &lines), expected);
    let widened = ["7", "3000000000", "2.5", "x"];
    let wrong = |value: &str, of: &str| format!("✗ v: '{value}' is not a valid {of}");
    let (large, fraction, text) =
        (wrong("3000000000", "INT"), wrong("2.5", "INT"), wrong("x", "INT"));
    assert_eq!(csv(&[("v", Int32)], &widened), ["7", &large, &fraction, &text]);
    assert_eq!(csv(&[("v", Float64)], &widened)[..3], ["7.0", "3000000000.0", "2.5"]);
    assert_eq!(csv(&[("v", Utf8View)], &widened), widened);
}

#[test]
fn csv_files_with_a_header_go_by_name_each_by_its_own() {
    let columns = [("id", Int64), ("note", Utf8View)];
    assert_eq!(headed(&columns, "id,note", &["1,a"]), ["1, a"]);
    assert_eq!(headed(&columns, "extra,note,id", &["x,b,2"]), ["2, b"]);
    assert_eq!(headed(&columns, "id", &["3"]), ["3, null"]);
    let strict = CsvFormat::parse(&[("csv.header", "true")].into_iter().collect()).unwrap();
    let strict = strict.decoder_with_header(table(&[("id", Int64), ("note!", Utf8View)]), b"id");
    let error = strict.err().unwrap().to_string();
    assert!(error.contains("lacks column 'note', which is NOT NULL"), "{error}");
}

#[test]
fn a_raw_record_is_a_value_whose_size_must_fit() {
    let five = |size: usize| [&[0; 8][8 - size + 1..], &[5]].concat();
    let payloads = [five(4), five(8)];
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let bytes = |n: usize, of: &str| format!("✗ value: {n} bytes is not a valid {of}");
    assert_eq!(raw(Int32, &payloads), ["5", &bytes(8, "INT")]);
    assert_eq!(raw(Int64, &payloads), [&bytes(4, "BIGINT"), "5"]);
    let texts: [&[u8]; 2] = [b"abc", b"\xff"];
    assert_eq!(raw(Utf8View, &texts)[0], "abc");
    assert!(raw(Utf8View, &texts)[1].starts_with("✗ value: "), "no UTF-8");
    assert_eq!(raw(BinaryView, &texts), ["616263", "ff"]);
    assert!(raw(Boolean, &texts)[0].starts_with('✗'));
}
