//! Raw: payloads as Java writes them, and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::array::{
    BinaryViewArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, StringViewArray,
};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::testing::{decode_all, encode_all, schema};

fn format(charset: &str, endianness: &str) -> RawFormat {
    let options = [("raw.charset", charset), ("raw.endianness", endianness)];
    RawFormat::parse(&options.into_iter().collect()).unwrap()
}

#[test]
fn values_are_the_bytes_that_java_makes_of_them() {
    let cases: Vec<(ArrayRef, &[u8])> = vec![
        (Arc::new(StringViewArray::from(vec!["hé"])), &[b'h', 0xc3, 0xa9]),
        (Arc::new(BinaryViewArray::from(vec![&[0u8, 255][..]])), &[0, 255]),
        (Arc::new(BooleanArray::from(vec![true])), &[1]),
        (Arc::new(Int8Array::from(vec![-2])), &[0xfe]),
        (Arc::new(Int16Array::from(vec![-2])), &[0xff, 0xfe]),
        (Arc::new(Int32Array::from(vec![0x0102_0304])), &[1, 2, 3, 4]),
        (Arc::new(Int64Array::from(vec![i64::MIN])), &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        (Arc::new(Float32Array::from(vec![1.5])), &[0x3f, 0xc0, 0, 0]),
        (Arc::new(Float64Array::from(vec![-2.0])), &[0xc0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (array, big) in cases {
        let is_number = array.data_type().is_numeric();
        let rows = RecordBatch::try_from_iter_with_nullable([("v", array, true)]).unwrap();
        let little: Vec<u8> = big.iter().rev().copied().collect();
        let little = if is_number { little } else { big.to_vec() };
        for (raw, expected) in
            [(RawFormat::default(), big.to_vec()), (format("utf-8", "little-endian"), little)]
        {
            let mut encoder = raw.encoder(rows.schema()).unwrap();
            assert_eq!(encode_all(&mut encoder, &rows).concat(), expected);
            let mut decoder = raw.decoder(rows.schema()).unwrap();
            assert_eq!(decode_all(&mut decoder, [expected.as_slice()]), rows);
        }
    }
}

#[test]
fn text_is_read_and_written_in_its_charset() {
    for (charset, text, bytes) in [
        ("UTF-8", "é😀", "é😀".as_bytes()),
        ("US-ASCII", "abc", b"abc"),
        ("ISO-8859-1", "é", &[0xe9]),
        ("UTF-16BE", "é😀", &[0, 0xe9, 0xd8, 0x3d, 0xde, 0]),
        ("UTF-16LE", "é", &[0xe9, 0]),
    ] {
        let raw = format(charset, "big-endian");
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![text]));
        let rows = RecordBatch::try_from_iter_with_nullable([("v", texts, true)]).unwrap();
        assert_eq!(encode_all(&mut raw.encoder(rows.schema()).unwrap(), &rows), [bytes]);
        assert_eq!(decode_all(&mut raw.decoder(rows.schema()).unwrap(), [bytes]), rows);
    }
    let mut decoder = format("US-ASCII", "big-endian");
    let reason = decoder_of(&mut decoder, DataType::Utf8View).decode("é".as_bytes()).unwrap_err();
    assert_eq!(reason, "v: text that is not US-ASCII is not a valid STRING");
    assert!(decoder_of(&mut decoder, DataType::Utf8View).decode(b"ok").is_ok());
    let mut utf16 = format("utf-16le", "big-endian");
    assert!(decoder_of(&mut utf16, DataType::Utf8View).decode(&[0]).is_err());
    assert!(decoder_of(&mut utf16, DataType::Utf8View).decode(&[0, 0xd8]).is_err());
}

fn decoder_of(raw: &mut RawFormat, data_type: DataType) -> RawDecoder {
    raw.decoder(schema(&[("v", data_type)])).unwrap()
}

#[test]
fn a_wrong_length_is_a_reason_and_costs_only_itself() {
    let mut decoder = decoder_of(&mut RawFormat::default(), DataType::Int32);
    decoder.decode(&[0, 0, 0, 7]).unwrap();
    assert_eq!(decoder.decode(&[1, 2, 3]).unwrap_err(), "v: 3 bytes is not a valid INT");
    assert!(decoder.decode(&[]).is_err());
    decoder.decode(&[0, 0, 0, 8]).unwrap();
    let rows = decoder.finish().unwrap();
    let expected: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
    assert_eq!(rows.column(0), &expected);
    for data_type in [DataType::Boolean, DataType::Float32, DataType::Float64] {
        assert!(decoder_of(&mut RawFormat::default(), data_type).decode(&[1, 2, 3]).is_err());
    }
}

#[test]
fn a_record_without_a_payload_is_null() {
    for data_type in [DataType::Int64, DataType::Utf8View] {
        let mut decoder = decoder_of(&mut RawFormat::default(), data_type.clone());
        decoder.decode_null().unwrap();
        let rows = decoder.finish().unwrap();
        assert_eq!(rows.column(0), &new_null_array(&data_type, 1));
    }
    let needed = Schema::new(vec![Field::new("v", DataType::Int64, false)]);
    let mut decoder = RawFormat::default().decoder(Arc::new(needed)).unwrap();
    assert!(decoder.decode_null().unwrap_err().contains("NOT NULL"));
    assert_eq!(decoder.len(), 0);
}

#[test]
fn what_has_no_raw_form_is_refused_by_name() {
    let refused = |columns: &[(&str, DataType)]| {
        RawFormat::default().decoder(schema(columns)).err().unwrap().to_string()
    };
    assert!(refused(&[("d", DataType::Date32)]).contains("column 'd' of type DATE"));
    let two = [("a", DataType::Utf8View), ("b", DataType::Utf8View)];
    assert!(refused(&two).contains("exactly one column: this table has 2"));
    let options = [("raw.charset", "EBCDIC")].into_iter().collect();
    assert!(RawFormat::parse(&options).unwrap_err().to_string().contains("'EBCDIC' must be one"));
}
