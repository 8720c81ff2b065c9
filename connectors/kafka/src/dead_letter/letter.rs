//! A dead letter as it lies in a topic or a file, and back from the rows that the engine makes of it.
//! Invariant: key, payload and headers of the record are never changed on the way.

use arrow::array::cast::AsArray;
use arrow::array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, RecordBatch, StructArray};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::{Header, SourceRecord};
use tidemill_core::source::SplitId;
use tidemill_core::{Epoch, Error, ErrorClass, EventTime, Result};

use crate::sink::witness::EPOCH_HEADER;

/// The header that says how often a record was replayed.
pub const REPLAYS: &str = "tidemill.replays";

/// A dead letter with all of its provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The job.
    pub job: String,
    /// The source that the record came from.
    pub source: String,
    /// The source, operator or sink that rejected it.
    pub operator: String,
    /// The epoch whose checkpoint holds the letter.
    pub epoch: Epoch,
    /// When it was rejected.
    pub failed_at: EventTime,
    /// The record, and why it was rejected.
    pub letter: DeadLetter,
}

/// A record's place in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinates {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Letter {
    /// The letters in rows of [`tidemill_core::dead_letter::schema`].
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn from_rows(rows: &RecordBatch) -> Result<Vec<Self>> {
        let columns = Columns { rows };
        (0..rows.num_rows()).map(|row| columns.letter(row)).collect()
    }

    /// Where its record was read, if that was a topic.
    pub fn coordinates(&self) -> Option<Coordinates> {
        let (topic, partition) = self.letter.split.as_str().rsplit_once('/')?;
        let offset = self.letter.record.position.strip_prefix("offset ")?.parse().ok()?;
        Some(Coordinates { topic: topic.to_owned(), partition: partition.parse().ok()?, offset })
    }

    /// How often its record was replayed before it failed this time.
    pub fn replays(&self) -> u32 {
        let headers = self.letter.record.headers.iter().rev();
        let count = headers.filter(|header| header.name == REPLAYS).find_map(text);
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Its record as it is sent again: the same, and counted. It is not what a transaction has written any
    /// more, so it does not say so.
    pub fn replayed(&self) -> SourceRecord {
        let mut record = self.letter.record.clone();
        let replays = self.replays() + 1;
        record.headers.retain(|header| header.name != REPLAYS && header.name != EPOCH_HEADER);
        record.headers.push(Header::new(REPLAYS, replays.to_string()));
        record
    }
}

/// A header's value, where it is text.
pub(super) fn text(header: &Header) -> Option<&str> {
    std::str::from_utf8(header.value.as_deref()?).ok()
}

/// The error class of this name.
pub fn class(name: &str) -> Option<ErrorClass> {
    use ErrorClass::{Business, Fatal, Permanent, Transient};
    [Transient, Permanent, Business, Fatal].into_iter().find(|class| class.name() == name)
}

/// Rows of dead letters, by the names of their columns.
struct Columns<'a> {
    rows: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn letter(&self, row: usize) -> Result<Letter> {
        let attempts = self.column("attempts", |c| c.as_primitive_opt::<Int32Type>())?;
        let epoch = self.column("epoch", |c| c.as_primitive_opt::<Int64Type>())?;
        let class_name = self.text("class", row)?;
        let class = class(class_name).ok_or_else(|| {
            Error::internal(format!("a dead letter is of the unknown class '{class_name}'"))
        })?;
        let record = SourceRecord {
            position: self.text("position", row)?.to_owned(),
            payload: self.bytes("payload", row)?,
            key: self.bytes("key", row)?,
            headers: self.headers(row)?,
            timestamp: self.time("timestamp", row)?,
        };
        let letter = DeadLetter {
            split: SplitId::new(self.text("split", row)?),
            record,
            reason: self.text("reason", row)?.to_owned(),
            class,
            attempts: attempts.value(row).max(0) as u32,
            first_failed_at: self.time("first_failed_at", row)?,
        };
        Ok(Letter {
            job: self.text("job", row)?.to_owned(),
            source: self.text("source", row)?.to_owned(),
            operator: self.text("operator", row)?.to_owned(),
            epoch: epoch.value(row).max(0) as Epoch,
            failed_at: self.time("failed_at", row)?.unwrap_or_default(),
            letter,
        })
    }

    fn column<A>(&self, name: &str, of: impl Fn(&'a dyn Array) -> Option<&'a A>) -> Result<&'a A> {
        let column = self.rows.column_by_name(name).map(|column| column.as_ref());
        column.and_then(of).ok_or_else(|| {
            Error::internal(format!("rows that are to be dead letters lack the column `{name}`"))
        })
    }

    fn text(&self, name: &str, row: usize) -> Result<&'a str> {
        Ok(self.column(name, |c| c.as_string_opt::<i32>())?.value(row))
    }

    fn bytes(&self, name: &str, row: usize) -> Result<Option<Vec<u8>>> {
        let column = self.column(name, |c| c.as_binary_opt::<i32>())?;
        Ok(column.is_valid(row).then(|| column.value(row).to_vec()))
    }

    fn time(&self, name: &str, row: usize) -> Result<Option<EventTime>> {
        let column = self.column(name, |c| c.as_primitive_opt::<TimestampMicrosecondType>())?;
        Ok(column.is_valid(row).then(|| column.value(row)))
    }

    fn headers(&self, row: usize) -> Result<Vec<Header>> {
        let lists = self.column("headers", |c| c.as_list_opt::<i32>())?;
        let headers = lists.value(row);
        let headers: &StructArray = headers.as_struct();
        let (names, values) = (headers.column(0), headers.column(1));
        let (names, values) = (names.as_string::<i32>(), values.as_binary::<i32>());
        let header = |n| Header {
            name: names.value(n).to_owned(),
            value: values.is_valid(n).then(|| values.value(n).to_vec()),
        };
        Ok((0..headers.len()).map(header).collect())
    }
}
