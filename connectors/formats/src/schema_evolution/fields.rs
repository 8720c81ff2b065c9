//! Named fields, as entries of Redis streams have them: columns go by name, and values are text.

use DataType::{Float64, Int32, Int64, Utf8View};

use super::*;
use crate::fields::FieldsDecoder;

/// What becomes of entries, each a list of names and values.
fn read(columns: &[(&str, DataType)], entries: &[&[(&str, &str)]]) -> Vec<String> {
    let mut decoder = FieldsDecoder::new(table(columns)).unwrap();
    let decode = |entry: &&[(&str, &str)]| {
        let mut fields = entry.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        decoder.decode(&mut fields)
    };
    let decoded = entries.iter().map(decode).collect();
    shown(decoded, &decoder.finish().unwrap())
}

#[test]
fn fields_come_and_go_and_a_new_name_is_another_field() {
    let entries: [&[(&str, &str)]; 3] = [
        &[("id", "1"), ("note", "a")],
        &[("more", "x"), ("note", "b"), ("id", "2")],
        &[("id", "3"), ("remark", "c")],
    ];
    let both = [("id", Int64), ("note", Utf8View), ("remark", Utf8View)];
    assert_eq!(read(&both, &entries), ["1, a, null", "2, b, null", "3, null, c"]);
    let strict = read(&[("id", Int64), ("note!", Utf8View)], &entries);
    assert_eq!(strict[..2], ["1, a", "2, b"]);
    assert_eq!(strict[2], "✗ note: null, or missing, in a NOT NULL column");
}

#[test]
fn numbers_widen_where_the_column_is_wide_enough() {
    let entries: [&[(&str, &str)]; 4] =
        [&[("v", "7")], &[("v", "3000000000")], &[("v", "2.5")], &[("v", "x")]];
    let wrong = |value: &str, of: &str| format!("✗ v: '{value}' is not a valid {of}");
    let ints = read(&[("v", Int32)], &entries);
    assert_eq!(ints, ["7", &wrong("3000000000", "INT"), &wrong("2.5", "INT"), &wrong("x", "INT")]);
    let doubles = read(&[("v", Float64)], &entries);
    assert_eq!(doubles, ["7.0", "3000000000.0", "2.5", &wrong("x", "DOUBLE")]);
    assert_eq!(read(&[("v", Utf8View)], &entries), ["7", "3000000000", "2.5", "x"]);
}
