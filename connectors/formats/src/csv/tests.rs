//! CSV: rows that decode, rows that must not, and what was encoded read back.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, RecordBatch};
use arrow::csv::{QuoteStyle, ReaderBuilder, WriterBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use tidemill_core::need::Need;

use super::*;
use crate::Decoder;
use crate::testing::{
    check_counts, check_lines, decode_all, encode_all, micros, scalar_rows, schema,
};

fn decoder(schema: &SchemaRef) -> Box<dyn Decoder> {
    Box::new(CsvFormat::default().decoder(schema.clone()).unwrap())
}

fn read(columns: &[(&str, DataType)], lines: &[&str]) -> RecordBatch {
    decode_all(decoder(&schema(columns)).as_mut(), lines.iter().map(|line| line.as_bytes()))
}

fn reason(columns: &[(&str, DataType)], line: &str) -> String {
    decoder(&schema(columns)).decode(line.as_bytes()).unwrap_err()
}

/// The batch as `arrow-csv` reads it.
fn oracle(schema: SchemaRef, text: &[u8]) -> RecordBatch {
    let builder = ReaderBuilder::new(schema);
    builder.build(Cursor::new(text)).unwrap().next().unwrap().unwrap()
}

proptest! {
    #[test]
    fn what_is_written_reads_back_and_the_oracle_agrees(rows in scalar_rows()) {
        let mut encoder = CsvFormat::default().encoder(rows.schema()).unwrap();
        let payloads = encode_all(&mut encoder, &rows);
        let back = decode_all(decoder(&rows.schema()).as_mut(), payloads.iter().map(Vec::as_slice));
        prop_assert_eq!(&back, &rows);
        let text: Vec<u8> = payloads.iter().flat_map(|p| [p.as_slice(), b"\n"].concat()).collect();
        prop_assert_eq!(oracle(rows.schema(), &text), rows);
    }

    #[test]
    fn what_arrow_writes_is_read_as_it_was(rows in scalar_rows()) {
        // Row by row, so that line ends inside quotes are not our concern here.
        let records: Vec<Vec<u8>> = (0..rows.num_rows()).map(|row| {
            let mut out = Vec::new();
            let builder = WriterBuilder::new().with_header(false);
            let builder = builder.with_quote_style(QuoteStyle::Necessary);
            builder.build(&mut out).write(&rows.slice(row, 1)).unwrap();
            out
        }).collect();
        let back = decode_all(decoder(&rows.schema()).as_mut(), records.iter().map(Vec::as_slice));
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn damaged_payloads_cost_nothing_but_themselves(
        rows in scalar_rows(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 20)
    ) {
        let mut encoder = CsvFormat::default().encoder(rows.schema()).unwrap();
        let mut payloads = encode_all(&mut encoder, &rows);
        for (payload, (at, byte)) in payloads.iter_mut().zip(&damage) {
            let at = at.index(payload.len());
            if byte % 4 == 0 { payload.truncate(at) } else { payload[at] = *byte }
        }
        let schema = rows.schema();
        check_counts(&|| decoder(&schema), &payloads);
    }

    #[test]
    fn lines_are_read_as_if_they_had_been_cut_out_before(
        lines in prop::collection::vec((
            "(-?[0-9]{0,20}|[0-9]{1,3}|\\+5|007| 7 |x|\"8\"|NULL)",
            "([0-9]{1,3}\\.[0-9]{2}|-?[0-9]{0,17}\\.?[0-9]{0,18}|1e3|NaN|\\.|NULL|)",
            "(2013-01-0[1-9] 10:00:[0-6][0-9](\\.[0-9]{1,7})?Z?|2013-01-01|\"2013-01-01 10:00:00\"|)",
            "([a-z]{0,15}|é|\"a,b\"|5\" pipe|\r|NULL|\u{fe})",
            "(,x)?",
            "(\n|\n|\n|\r\n|\r\r\n|\n\n)",
        ), 1..20),
        delimiter in prop::sample::select(b",;|\t.- ".to_vec()),
        null in prop::sample::select(vec!["", "NULL", "7"]),
        last in 0usize..4,
        max in 1usize..30,
    ) {
        let mut fields = vec![
            ("n", DataType::Int64), ("x", DataType::Float64), ("t", micros()), ("s", DataType::Utf8View),
        ];
        fields.rotate_left(last);
        let columns = schema(&fields);
        let mut text = String::new();
        for (n, x, t, s, more, end) in &lines {
            let mut fields = [n.as_str(), x, t, s];
            fields.rotate_left(last);
            text += &fields.join(&char::from(delimiter).to_string());
            text += &more.replace(',', &char::from(delimiter).to_string());
            text += end;
        }
        let format = CsvFormat { delimiter, null_literal: null.to_owned(), ..CsvFormat::default() };
        check_lines(&|| Box::new(format.decoder(columns.clone()).unwrap()), text.as_bytes(), max);
    }

    #[test]
    fn garbage_never_panics(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..10)
    ) {
        let schema = schema(&[("a", DataType::Utf8View), ("n", DataType::Int64)]);
        check_counts(&|| decoder(&schema), &payloads);
    }
}

#[test]
fn empty_fields_are_null_and_quoted_ones_are_empty_strings() {
    let columns = [("a", DataType::Utf8View), ("n", DataType::Int64), ("b", DataType::Utf8View)];
    let rows = read(&columns, &[",,", "\"\",\"\",x\r\n", " x , 7 ,\"a \"\"b\"\", c\""]);
    let a: Vec<_> = rows.column(0).as_string_view().iter().collect();
    let n: Vec<_> = rows.column(1).as_primitive::<Int64Type>().iter().collect();
    let b: Vec<_> = rows.column(2).as_string_view().iter().collect();
    assert_eq!(a, [None, Some(""), Some(" x ")]);
    assert_eq!(n, [None, None, Some(7)]);
    assert_eq!(b, [None, Some("x"), Some("a \"b\", c")]);
}

#[test]
fn lines_without_quotes_are_taken_at_once() {
    let columns = [("n", DataType::Int64), ("x", DataType::Float64), ("s", DataType::Utf8View)];
    let mut decoder = CsvFormat::default().decoder(schema(&columns)).unwrap();
    let text = (0..1_000).map(|n| format!("{n},{n}.25,row {n}\r\n")).collect::<String>();
    let mut ends = Vec::new();
    decoder.decode_lines(text.as_bytes(), 10_000, &mut ends);
    assert_eq!((ends.len(), ends.last()), (1_000, Some(&(text.len() as u32))));
    let rows = decoder.finish().unwrap();
    assert_eq!(rows.column(1).as_primitive::<Float64Type>().value(999), 999.25);
    assert_eq!(rows.column(2).as_string_view().value(999), "row 999");
}

#[test]
fn a_reason_says_what_is_wrong_where() {
    let columns = [("a", DataType::Int64), ("t", micros())];
    assert_eq!(reason(&columns, "1"), "1 field where 2 are expected");
    assert_eq!(reason(&columns, "1,,3"), "3 fields where 2 are expected");
    assert_eq!(reason(&columns, "x,"), "a: 'x' is not a valid BIGINT");
    assert_eq!(reason(&columns, "1,soon"), "t: 'soon' is not a valid TIMESTAMP");
    assert_eq!(reason(&columns, "\"1,"), "a quoted field is not closed");
    assert_eq!(reason(&columns, "\"1\"2,"), "text behind the closing quote of a field");
}

#[test]
fn columns_are_found_by_the_names_of_a_header() {
    let columns =
        schema(&[("b", DataType::Int64), ("gone", DataType::Int64), ("a", DataType::Utf8View)]);
    let csv = CsvFormat::default();
    let mut decoder = csv.decoder_with_header(columns.clone(), b"a,extra,\"b\"\r\n").unwrap();
    let rows = decode_all(&mut decoder, [b"x,unused,1".as_slice(), b"y,,2"]);
    let b: Vec<_> = rows.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(b, [Some(1), Some(2)]);
    assert_eq!(rows.column(1).null_count(), 2);
    assert_eq!(rows.column(2).as_string_view().value(1), "y");
    assert_eq!(decoder.missing().collect::<Vec<_>>(), ["gone"]);
    let nothing = [Need::All, Need::Nothing, Need::All];
    assert_eq!(decoder.reading(&nothing).unwrap().missing().count(), 0, "nobody looks at it");

    let refused = |schema: &SchemaRef, header: &str| {
        csv.decoder_with_header(schema.clone(), header.as_bytes()).err().unwrap().to_string()
    };
    assert!(refused(&columns, "x,y").contains("none of the table's columns (b, gone, a)"));
    assert!(refused(&columns, "a,b,a").contains("names column 'a' twice"));
    let needed = Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("id", DataType::Int64, false),
    ]);
    assert!(refused(&Arc::new(needed), "a,c").contains("lacks column 'id', which is NOT NULL"));
}

#[test]
fn options_change_the_special_characters() {
    let options =
        [("csv.field-delimiter", "|"), ("csv.quote-character", "'"), ("csv.null-literal", "NULL")];
    let csv = CsvFormat::parse(&options.into_iter().collect()).unwrap();
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let columns = schema(&[("a", DataType::Utf8View), ("n", DataType::Int64), ("l", list)]);
    let mut decoder = csv.decoder(columns.clone()).unwrap();
    let rows = decode_all(&mut decoder, [b"'x|y'|NULL|1;2".as_slice(), b"NULL|5|", b"'NULL'||7"]);
    let a: Vec<_> = rows.column(0).as_string_view().iter().collect();
    assert_eq!(a, [Some("x|y"), None, Some("NULL")]);
    assert_eq!(rows.column(1).null_count(), 2);
    assert_eq!(rows.column(2).as_list::<i32>().value(0).len(), 2);
    let written = encode_all(&mut csv.encoder(columns).unwrap(), &rows);
    assert_eq!(written.concat(), b"'x|y'|NULL|1;2NULL|5|NULL'NULL'|NULL|7");
    for (name, value) in [
        ("csv.field-delimiter", "ab"),
        ("csv.quote-character", ","),
        ("csv.ignore-parse-errors", "true"),
    ] {
        let error = CsvFormat::parse(&[(name, value)].into_iter().collect()).unwrap_err();
        assert!(error.wrong_option().is_some(), "{error}");
    }
}

#[test]
fn nested_columns_are_refused_by_name() {
    let fields = vec![Field::new("x", DataType::Int64, true)];
    let columns = schema(&[("r", DataType::Struct(fields.into()))]);
    let error = CsvFormat::default().decoder(columns).err().unwrap();
    assert!(error.to_string().contains("column 'r': CSV cannot hold ROW"));
}
