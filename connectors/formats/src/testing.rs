//! What the tests of the formats share: schemas, random batches, and how payloads are decoded.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, SchemaRef, TimeUnit};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::{Decoder, Encoder};

/// A schema of nullable columns.
pub(crate) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, t): &(&str, DataType)| Field::new(*name, t.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

pub(crate) fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Rows of every scalar type that all text formats share.
pub(crate) fn scalar_rows() -> impl Strategy<Value = RecordBatch> {
    let row = (
        option::of(any::<i64>()),
        option::of(any::<f64>().prop_filter("text has no other names", |f| f.is_finite())),
        option::of("([a-z]{0,20}|[ ,;\"\\\\\r\n\t\u{1}é😀']{1,15})x"),
        option::of(any::<bool>()),
        option::of(-62_135_596_800_000_000i64..253_402_300_799_999_999),
        option::of(any::<i64>()),
    );
    vec(row, 1..20).prop_map(|rows| {
        let ints: Int64Array = rows.iter().map(|row| row.0).collect();
        let floats: Float64Array = rows.iter().map(|row| row.1).collect();
        let texts: StringViewArray = rows.iter().map(|row| row.2.as_deref()).collect();
        let flags: BooleanArray = rows.iter().map(|row| row.3).collect();
        let times: TimestampMicrosecondArray = rows.iter().map(|row| row.4).collect();
        let decimals: Decimal128Array = rows.iter().map(|row| row.5.map(i128::from)).collect();
        let decimals = decimals.with_precision_and_scale(30, 4).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(ints)),
            ("x", Arc::new(floats)),
            ("name", Arc::new(texts)),
            ("ok", Arc::new(flags)),
            ("ts", Arc::new(times)),
            ("price", Arc::new(decimals)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap()
    })
}

/// Rows with an `ARRAY` of `INT` and a `ROW` besides.
pub(crate) fn nested_rows() -> impl Strategy<Value = RecordBatch> {
    scalar_rows().prop_flat_map(|batch| {
        let rows = batch.num_rows();
        let lists = vec(option::of(vec(option::of(any::<i32>()), 0..4)), rows);
        (Just(batch), lists).prop_map(|(batch, lists)| {
            let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
            let fields: Fields = [0, 2].map(|c| batch.schema().field(c).clone()).to_vec().into();
            let columns = vec![batch.column(0).clone(), batch.column(2).clone()];
            let structs = StructArray::new(fields, columns, None);
            let mut columns: Vec<_> = batch
                .schema()
                .fields()
                .iter()
                .zip(batch.columns())
                .map(|(field, column)| (field.name().clone(), column.clone(), true))
                .collect();
            columns.push(("list".into(), Arc::new(lists), true));
            columns.push(("row".into(), Arc::new(structs), true));
            RecordBatch::try_from_iter_with_nullable(columns).unwrap()
        })
    })
}

/// Decodes payloads that all must be good.
pub(crate) fn decode_all<'a>(
    decoder: &mut dyn Decoder,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> RecordBatch {
    for payload in payloads {
        let text = String::from_utf8_lossy(payload).into_owned();
        decoder.decode(payload).unwrap_or_else(|reason| panic!("{text}: {reason}"));
    }
    decoder.finish().unwrap()
}

/// The payloads of a batch.
pub(crate) fn encode_all(encoder: &mut dyn Encoder, rows: &RecordBatch) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    encoder.encode(rows, &mut |payload| payloads.push(payload.to_vec())).unwrap();
    payloads
}

/// Bad payloads among good ones change nothing about the good ones, and each is a row or a reason.
/// What each is, a decoder says that has seen none before: it expects nothing of a payload.
pub(crate) fn check_counts(fresh: &dyn Fn() -> Box<dyn Decoder>, payloads: &[Vec<u8>]) {
    let mut together = fresh();
    let mut good = Vec::new();
    for payload in payloads {
        let before = together.len();
        let outcome = together.decode(payload);
        assert_eq!(together.len() - before, usize::from(outcome.is_ok()));
        let mut alone = fresh();
        assert_eq!(outcome, alone.decode(payload), "a payload's neighbours do not matter");
        if outcome.is_ok() {
            good.push(alone.finish().unwrap());
        }
    }
    let rows = together.finish().unwrap();
    assert_eq!(rows, concat_batches(&rows.schema(), &good).unwrap());
}

/// The same of the lines of a file: which of them are taken at once is nothing that anyone notices.
pub(crate) fn check_lines(fresh: &dyn Fn() -> Box<dyn Decoder>, text: &[u8], max: usize) {
    let (mut together, mut good) = (fresh(), Vec::new());
    let (mut at, mut rows) = (0, 0);
    while at < text.len() {
        let mut ends = Vec::new();
        together.decode_lines(&text[at..], max, &mut ends);
        assert!(ends.len() <= max);
        let mut start = at;
        for end in &ends {
            let line = &text[start..at + *end as usize];
            let mut alone = fresh();
            alone.decode(without_line_end(line)).unwrap();
            good.push(alone.finish().unwrap());
            start = at + *end as usize;
        }
        at = start;
        rows += ends.len();
        assert_eq!(together.len(), rows);
        let Some(length) = text[at..].iter().position(|byte| *byte == b'\n') else { break };
        let line = without_line_end(&text[at..=at + length]);
        at += length + 1;
        if line.is_empty() {
            continue;
        }
        let (outcome, mut alone) = (together.decode(line), fresh());
        assert_eq!(outcome, alone.decode(line));
        if outcome.is_ok() {
            rows += 1;
            good.push(alone.finish().unwrap());
        }
    }
    let rows = together.finish().unwrap();
    assert_eq!(rows, concat_batches(&rows.schema(), &good).unwrap());
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap();
    assert!(!line.contains(&b'\n'), "one line is one record");
    line.strip_suffix(b"\r").unwrap_or(line)
}
