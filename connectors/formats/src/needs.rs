//! Decoders that are told what a job looks at: the same rows, but for what it does not look at.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, RecordBatch, StructArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use tidemill_core::need::Need;

use crate::Format;
use crate::csv::CsvFormat;
use crate::json::JsonFormat;
use crate::testing::{
    check_counts, check_lines, decode_all, encode_all, nested_rows, scalar_rows, schema,
};

fn needs(columns: usize) -> impl Strategy<Value = Vec<Need>> {
    let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    let fields = prop::sample::subsequence(vec!["n", "name"], 1..=2).prop_map(names);
    let need = prop_oneof![Just(Need::Nothing), Just(Need::All), fields.prop_map(Need::Fields)];
    prop::collection::vec(need, columns)
}

/// What is left of a column of which no more than this is looked at.
fn seen(column: &ArrayRef, need: &Need) -> ArrayRef {
    match (need, column.data_type()) {
        (Need::Nothing, data_type) => new_null_array(data_type, column.len()),
        (Need::Fields(_), DataType::Struct(fields)) => {
            let row = column.as_struct();
            let columns = fields.iter().zip(row.columns());
            let columns = columns.map(|(f, column)| seen(column, &need.of_field(f.name())));
            let columns = columns.collect();
            Arc::new(StructArray::new(fields.clone(), columns, row.nulls().cloned()))
        }
        _ => column.clone(),
    }
}

fn check(format: &Format, rows: &RecordBatch, needs: &[Need]) {
    let mut encoder = format.encoder(rows.schema()).unwrap();
    let payloads = encode_all(encoder.as_mut(), rows);
    let columns = rows.columns().iter().zip(needs).map(|(column, need)| seen(column, need));
    let expected = RecordBatch::try_new(rows.schema(), columns.collect()).unwrap();
    let mut decoder = format.decoder_reading(rows.schema(), needs).unwrap();
    for _ in 0..2 {
        let read = decode_all(decoder.as_mut(), payloads.iter().map(Vec::as_slice));
        assert_eq!(read, expected);
    }
    let fresh = || format.decoder_reading(rows.schema(), needs).unwrap();
    check_counts(&fresh, &payloads);
    let text: Vec<u8> = payloads.iter().flat_map(|p| [p.as_slice(), b"\n"].concat()).collect();
    if text.iter().filter(|byte| **byte == b'\n').count() == payloads.len() {
        check_lines(&fresh, &text, 3);
    }
}

proptest! {
    #[test]
    fn json_without_what_is_not_looked_at(rows in nested_rows(), needs in needs(8)) {
        check(&Format::Json(JsonFormat::default()), &rows, &needs);
    }

    #[test]
    fn csv_without_what_is_not_looked_at(rows in scalar_rows(), needs in needs(6)) {
        check(&Format::Csv(CsvFormat::default()), &rows, &needs);
    }
}

fn numbers() -> SchemaRef {
    schema(&[("a", DataType::Int64), ("b", DataType::Int64)])
}

#[test]
fn what_is_bad_where_nobody_looks_is_good_unless_it_is_no_record() {
    let needs = [Need::Nothing, Need::All];
    let json = JsonFormat::default().decoder(numbers()).unwrap().reading(&needs).unwrap();
    let csv = CsvFormat::default().decoder(numbers()).unwrap().reading(&needs).unwrap();
    let mut json: Box<dyn crate::Decoder> = Box::new(json);
    let mut csv: Box<dyn crate::Decoder> = Box::new(csv);
    for (decoder, good, bad) in [
        (&mut json, r#"{"a":"x","b":1}"#, [r#"{"a":x,"b":1}"#, r#"{"a":1,"b":"x"}"#]),
        (&mut csv, "x,1", ["x,1,2", "1,x"]),
    ] {
        decoder.decode(good.as_bytes()).unwrap();
        for bad in bad {
            assert!(decoder.decode(bad.as_bytes()).is_err(), "{bad}");
        }
        let rows = decoder.finish().unwrap();
        assert_eq!((rows.num_rows(), rows.column(0).null_count()), (1, 1));
    }
}

#[test]
fn nothing_may_be_all_that_is_looked_at() {
    for format in [Format::Json(JsonFormat::default()), Format::Csv(CsvFormat::default())] {
        let mut decoder =
            format.decoder_reading(numbers(), &[Need::Nothing, Need::Nothing]).unwrap();
        let payload: &[u8] = if format.name() == "csv" { b"1,2" } else { b"{\"a\":1}" };
        assert_eq!(decode_all(decoder.as_mut(), [payload; 3]).num_rows(), 3);
        assert_eq!(decoder.finish().unwrap().num_rows(), 0);
    }
}

#[test]
fn what_must_be_there_is_read_though_nobody_looks() {
    let strict = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Int64, true),
    ]));
    let needs = [Need::Nothing, Need::Nothing];
    let json = Format::Json(JsonFormat::default());
    let mut decoder = json.decoder_reading(strict, &needs).unwrap();
    assert!(decoder.decode(br#"{"b":1}"#).is_err());
    let all = JsonFormat { needs_all_fields: true, ..JsonFormat::default() };
    let mut decoder = Format::Json(all).decoder_reading(numbers(), &needs).unwrap();
    assert!(decoder.decode(br#"{"b":1}"#).is_err());
}

#[test]
fn a_header_finds_the_columns_that_are_looked_at() {
    let format = CsvFormat { header: true, ..CsvFormat::default() };
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Int64), ("c", DataType::Int64)]);
    let decoder = format.decoder_with_header(columns.clone(), b"c,x,a").unwrap();
    let mut decoder = decoder.reading(&[Need::Nothing, Need::All, Need::All]).unwrap();
    let rows = decode_all(&mut decoder, [&b"1,z,q"[..], b"2,z,q"]);
    assert_eq!(rows.column(0).null_count() + rows.column(1).null_count(), 4);
    assert_eq!(rows.column(2).as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 2]);
    let gone = format.decoder_with_header(columns, b"x,y");
    assert!(gone.is_err(), "the header has none of the columns, whatever is looked at");
}
