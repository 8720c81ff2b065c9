//! Dead letters: records that could not be decoded or processed, kept byte for byte.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::Result;
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
    /// Where in the split, as people name it: `line 12`, `offset 40`.
    pub position: String,
    /// What is wrong with it, with the path of the field.
    pub reason: String,
    /// The record, byte for byte.
    pub payload: Vec<u8>,
}

/// Columns of the dead-letter output: `job`, `source`, `split`, `position`, `operator`, `reason`
/// (Utf8), `payload` (Binary) and `failed_at` (microseconds, UTC).
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let failed_at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            text("job"),
            text("source"),
            text("split"),
            text("position"),
            text("operator"),
            text("reason"),
            Field::new("payload", DataType::Binary, false),
            Field::new("failed_at", failed_at, false),
        ]))
    });
    SCHEMA.clone()
}

/// Dead letters as rows of [`schema`].
pub fn rows(
    job: &str,
    source: &str,
    operator: &str,
    failed_at: EventTime,
    letters: &[DeadLetter],
) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
        let mut builder = StringBuilder::new();
        letters.iter().for_each(|letter| builder.append_value(of(letter)));
        Arc::new(builder.finish())
    };
    let mut payload = BinaryBuilder::new();
    let mut at = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    for letter in letters {
        payload.append_value(&letter.payload);
        at.append_value(failed_at);
    }
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            text(&|_| job.to_owned()),
            text(&|_| source.to_owned()),
            text(&|letter| letter.split.to_string()),
            text(&|letter| letter.position.clone()),
            text(&|_| operator.to_owned()),
            text(&|letter| letter.reason.clone()),
            Arc::new(payload.finish()),
            Arc::new(at.finish()),
        ],
    )?)
}
