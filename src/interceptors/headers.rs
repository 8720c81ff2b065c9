//! Headers on what is written: constant ones, and ids that say which message was caused by which.
//!
//! ```text
//! read:    message-id M, correlation-id C          (made from split and position where there are none)
//! written: message-id of its own, correlation-id C, causation-id M
//! ```
//!
//! Invariant: ids are made from where the record stood and what the row holds, so that the same input gives the
//! same ids, however often a job is run.

use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemill_core::interceptor::Interceptor;
use tidemill_core::record::{Header, SourceRecord};
use tidemill_core::source::{ReadBatch, SplitId};
use tidemill_core::{Batch, Result};
use xxhash_rust::xxh3::xxh3_128;

const MESSAGE: &str = "message-id";
const CORRELATION: &str = "correlation-id";
const CAUSATION: &str = "causation-id";

/// Gives rows headers on their way into a sink that writes headers.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    constant: Vec<Header>,
    ids: bool,
}

impl Headers {
    /// Message, correlation and causation ids.
    ///
    /// The correlation id of the record that a row was made from is kept. A record without ids gets them from
    /// its place in its split. Rows that are not of one record, such as results of windows, have a message
    /// id alone. Rows of one record that hold the same have the same message id.
    pub fn ids() -> Self {
        Self { constant: Vec::new(), ids: true }
    }

    /// The same header on every row.
    #[must_use]
    pub fn constant(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.constant.push(Header::new(name, value));
        self
    }
}

impl Interceptor for Headers {
    fn name(&self) -> String {
        "headers".to_owned()
    }

    fn read(&self, _: &SplitId, batch: ReadBatch) -> Result<ReadBatch> {
        Ok(batch)
    }

    fn write(&self, node: &str, batch: Batch) -> Result<Batch> {
        let mut added = vec![self.constant.clone(); batch.len()];
        if self.ids {
            let contents = Contents::new(&batch.rows)?;
            for (row, added) in added.iter_mut().enumerate() {
                add_ids(node, &batch, row, &contents.text(row)?, added);
            }
        }
        Ok(batch.with_headers(added))
    }
}

fn add_ids(node: &str, batch: &Batch, row: usize, content: &str, added: &mut Vec<Header>) {
    let record = batch.origin.as_ref().and_then(|origin| {
        let record = origin.record(row).filter(|record| !record.position.is_empty())?;
        Some((origin.split.as_str(), record))
    });
    let Some((split, record)) = record else {
        added.push(Header::new(MESSAGE, id(&[node, content])));
        return;
    };
    let position = record.position.as_str();
    let cause = value(&record, MESSAGE).unwrap_or_else(|| id(&[split, position]).into_bytes());
    if value(&record, CORRELATION).is_none() {
        added.push(Header::new(CORRELATION, cause.clone()));
    }
    added.push(Header::new(CAUSATION, cause));
    added.push(Header::new(MESSAGE, id(&[node, split, position, content])));
}

fn value(record: &SourceRecord, name: &str) -> Option<Vec<u8>> {
    let mut named = record.headers.iter().rev().filter(|header| header.name == name);
    named.find_map(|header| header.value.clone())
}

/// 32 hexadecimal digits. The hash is fixed for ever: ids are compared with those of earlier runs.
fn id(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}:{part}", part.len());
    }
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

/// What rows hold, as text.
struct Contents<'a>(Vec<ArrayFormatter<'a>>);

impl<'a> Contents<'a> {
    fn new(rows: &'a RecordBatch) -> Result<Self> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_null("\0");
        let columns = rows.columns().iter();
        let columns = columns.map(|column| ArrayFormatter::try_new(column.as_ref(), &OPTIONS));
        Ok(Self(columns.collect::<Result<_, _>>()?))
    }

    fn text(&self, row: usize) -> Result<String> {
        let mut text = String::new();
        for column in &self.0 {
            let value = column.value(row).try_to_string()?;
            // Writing to a String cannot fail.
            let _ = write!(text, "{}:{value}", value.len());
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use tidemill_core::element::Origin;
    use tidemill_core::record::Records;

    use super::*;

    #[derive(Debug)]
    struct Fixed(Vec<SourceRecord>);

    impl Records for Fixed {
        fn record(&self, index: usize) -> SourceRecord {
            self.0[index].clone()
        }
    }

    fn batch(records: Option<Vec<SourceRecord>>, numbers: Vec<i64>) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(numbers))]).unwrap();
        let origin = records.map(|records| Origin {
            split: SplitId::new("orders/0"),
            records: Some(Arc::new(Fixed(records))),
            rows: None,
        });
        Batch { origin, ..Batch::new(rows) }
    }

    fn text(headers: &[Header], name: &str) -> Option<String> {
        let header = headers.iter().find(|header| header.name == name)?;
        Some(String::from_utf8(header.value.clone().unwrap()).unwrap())
    }

    #[test]
    fn a_correlation_id_is_kept_and_one_is_made_where_there_is_none() {
        let with = SourceRecord {
            headers: vec![Header::new(CORRELATION, "c"), Header::new(MESSAGE, "m")],
            ..SourceRecord::new("offset 0", "x")
        };
        let without = SourceRecord::new("offset 1", "y");
        let input = batch(Some(vec![with, without]), vec![1, 1]);
        let write =
            |node| Headers::ids().constant("source", "s").write(node, input.clone()).unwrap();
        let written = write("sink");
        let [first, second] = [0, 1].map(|row| written.headers(row));
        assert_eq!(text(&first, CORRELATION).as_deref(), Some("c"));
        assert_eq!(text(&first, CAUSATION).as_deref(), Some("m"));
        assert_eq!(text(&first, "source").as_deref(), Some("s"));
        assert_eq!(text(&second, CORRELATION), text(&second, CAUSATION));
        assert_eq!(text(&second, CAUSATION), Some(id(&["orders/0", "offset 1"])));
        let ids = [text(&first, MESSAGE), text(&second, MESSAGE)];
        assert_ne!(ids[0], ids[1], "two records that became the same row");
        assert_eq!(ids, [0, 1].map(|row| text(&write("sink").headers(row), MESSAGE)));
        assert_ne!(ids[0], text(&write("other").headers(0), MESSAGE));
    }

    #[test]
    fn rows_of_no_record_have_an_id_of_what_they_hold() {
        let written = Headers::ids().write("sink", batch(None, vec![7, 8, 7])).unwrap();
        let ids = [0, 1, 2].map(|row| text(&written.headers(row), MESSAGE).unwrap());
        assert!(ids[0] == ids[2] && ids[0] != ids[1] && ids[0].len() == 32);
        assert_eq!(written.headers(0).len(), 1, "nothing is said of a cause");
    }
}
