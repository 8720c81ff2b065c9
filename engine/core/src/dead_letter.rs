//! Dead letters: records that could not be decoded or processed, kept byte for byte.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringBuilder,
    StructBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::element::Epoch;
use crate::error::{ErrorClass, Result};
use crate::record::SourceRecord;
use crate::source::SplitId;
use crate::time::EventTime;

/// What a source does with a record that cannot be decoded or processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The job ends with an error that names the record.
    Fail,
    /// The record is counted as dead-lettered, and dropped.
    Skip,
    /// The record is counted and kept in the dead-letter output.
    DeadLetter,
}

/// A record that could not be decoded or processed, with its provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The split it was read from.
    pub split: SplitId,
    /// The record, byte for byte.
    pub record: SourceRecord,
    /// What is wrong with it, with the path of the field.
    pub reason: String,
    /// How the failure was classified.
    pub class: ErrorClass,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first; `None`: just now.
    pub first_failed_at: Option<EventTime>,
}

impl DeadLetter {
    /// A record that can never be processed.
    pub fn new(split: SplitId, record: SourceRecord, reason: impl Into<String>) -> Self {
        Self {
            split,
            record,
            reason: reason.into(),
            class: ErrorClass::Permanent,
            attempts: 1,
            first_failed_at: None,
        }
    }
}

/// Where and when letters were made: the same for all of one batch.
#[derive(Debug, Clone, Copy)]
pub struct Provenance<'a> {
    /// The job.
    pub job: &'a str,
    /// The source that the records came from.
    pub source: &'a str,
    /// The source, operator or sink that rejected them.
    pub operator: &'a str,
    /// The epoch whose checkpoint holds the letters.
    pub epoch: Epoch,
    /// When they were rejected.
    pub failed_at: EventTime,
}

/// Columns of the dead-letter output.
///
/// | column | type |
/// |---|---|
/// | `job`, `source`, `split`, `position`, `operator`, `reason` | Utf8 |
/// | `class` | Utf8: the name of an [`ErrorClass`] |
/// | `attempts` | Int32 |
/// | `first_failed_at`, `failed_at` | microseconds, UTC |
/// | `epoch` | Int64 |
/// | `key`, `payload` | Binary, nullable |
/// | `headers` | List of Struct of `name` (Utf8) and `value` (Binary, nullable) |
/// | `timestamp` | microseconds, UTC, nullable: the source's own |
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let micros = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let header = Field::new("item", DataType::Struct(header_fields()), false);
        Arc::new(Schema::new(vec![
            text("job"),
            text("source"),
            text("split"),
            text("position"),
            text("operator"),
            text("reason"),
            text("class"),
            Field::new("attempts", DataType::Int32, false),
            Field::new("first_failed_at", micros(), false),
            Field::new("failed_at", micros(), false),
            Field::new("epoch", DataType::Int64, false),
            Field::new("key", DataType::Binary, true),
            Field::new("payload", DataType::Binary, true),
            Field::new("headers", DataType::List(Arc::new(header)), false),
            Field::new("timestamp", micros(), true),
        ]))
    });
    SCHEMA.clone()
}

fn header_fields() -> Fields {
    vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]
        .into()
}

/// Dead letters as rows of [`schema`].
pub fn rows(provenance: Provenance<'_>, letters: &[DeadLetter]) -> Result<RecordBatch> {
    let Provenance { job, source, operator, epoch, failed_at } = provenance;
    let attempts = letters.iter().map(|letter| letter.attempts as i32).collect::<Vec<_>>();
    let first = |letter: &DeadLetter| Some(letter.first_failed_at.unwrap_or(failed_at));
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            text(letters, |_| job),
            text(letters, |_| source),
            text(letters, |letter| letter.split.as_str()),
            text(letters, |letter| &letter.record.position),
            text(letters, |_| operator),
            text(letters, |letter| &letter.reason),
            text(letters, |letter| letter.class.name()),
            Arc::new(Int32Array::from(attempts)),
            micros(letters, first),
            micros(letters, |_| Some(failed_at)),
            Arc::new(Int64Array::from(vec![epoch as i64; letters.len()])),
            bytes(letters, |letter| letter.record.key.as_deref()),
            bytes(letters, |letter| letter.record.payload.as_deref()),
            headers(letters),
            micros(letters, |letter| letter.record.timestamp),
        ],
    )?)
}

fn text<'a>(letters: &'a [DeadLetter], of: impl Fn(&'a DeadLetter) -> &'a str) -> ArrayRef {
    let mut builder = StringBuilder::new();
    letters.iter().for_each(|letter| builder.append_value(of(letter)));
    Arc::new(builder.finish())
}

fn bytes<'a>(
    letters: &'a [DeadLetter],
    of: impl Fn(&'a DeadLetter) -> Option<&'a [u8]>,
) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    letters.iter().for_each(|letter| builder.append_option(of(letter)));
    Arc::new(builder.finish())
}

fn micros(letters: &[DeadLetter], of: impl Fn(&DeadLetter) -> Option<EventTime>) -> ArrayRef {
    let mut builder = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    letters.iter().for_each(|letter| builder.append_option(of(letter)));
    Arc::new(builder.finish())
}

fn headers(letters: &[DeadLetter]) -> ArrayRef {
    const TYPED: &str = "the builders are made for these fields, in this order";
    let item = Field::new("item", DataType::Struct(header_fields()), false);
    let mut builder =
        ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)).with_field(item);
    for letter in letters {
        for header in &letter.record.headers {
            let fields = builder.values();
            let name = fields.field_builder::<StringBuilder>(0).expect(TYPED);
            name.append_value(&header.name);
            let value = fields.field_builder::<BinaryBuilder>(1).expect(TYPED);
            value.append_option(header.value.as_deref());
            fields.append(true);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}
