//! Rows into writes to hashes, strings, sorted sets, counters and channels: the last step of the data path
//! before a connection.
//!
//! | structure | commands of a row |
//! |---|---|
//! | hash | `HSET key field value …`, `HDEL key field …` for what is null |
//! | string | `SET key value` |
//! | sorted set | `ZADD key score member` |
//! | counter | `INCRBY key n`, or `INCRBYFLOAT` |
//! | channel | `PUBLISH key value` |
//!
//! With a time to live, `PEXPIRE` follows (`PX` for strings).
//!
//! Invariant: rows in = writes + rows that cannot be encoded, each with its reason.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use tidemill_core::{Batch, Result};

use super::payload::{PayloadEncoder, Payloads};
use super::resp::{put_argument, put_header};
use super::template::Template;
use super::text::{Columns, Texts};
use super::writes::Write;

/// Redis takes no argument beyond this (`proto-max-bulk-len`).
const MAX_BYTES: usize = 512 << 20;

/// What a row becomes, or why it becomes nothing.
pub(crate) type Encoded<'a> = Result<Write<'a>, String>;

/// Turns rows into writes, in their order.
pub(crate) trait WriteEncoder: Send {
    /// Calls `each` for every row: with its number and its write, or why it has none. An error of
    /// `each` ends it.
    fn encode(
        &mut self,
        batch: &Batch,
        each: &mut dyn FnMut(usize, Encoded<'_>) -> Result<()>,
    ) -> Result<()>;
}

/// What a structure takes from a row beside its key.
pub(crate) enum Content {
    /// Fields with their names and columns.
    Hash(Vec<(String, usize)>),
    /// The text of a column, or a payload.
    String(Value),
    /// A score and a member.
    SortedSet { score: usize, member: Template },
    /// What is added; `float`: with `INCRBYFLOAT`.
    Counter { increment: usize, float: bool },
    /// A message.
    Channel(Value),
}

/// A single value.
pub(crate) enum Value {
    /// The text of a column.
    Column(usize),
    /// The row in a format.
    Payload(PayloadEncoder),
}

/// Encodes rows of one schema. See the module.
pub(crate) struct StructureEncoder {
    key: Template,
    content: Content,
    /// Milliseconds to live.
    ttl: Option<String>,
    /// Columns whose text is needed.
    needed: Vec<usize>,
}

/// What the rows of one batch are made of.
struct Cells {
    columns: Columns,
    payloads: Option<Payloads>,
    scores: Option<Texts>,
}

/// The write of the row at hand.
#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
    member: Vec<u8>,
    bytes: Vec<u8>,
    commands: u8,
}

impl StructureEncoder {
    /// `ttl` is in milliseconds.
    pub fn new(key: Template, content: Content, ttl: Option<u64>) -> Self {
        let mut needed: Vec<usize> = key.columns().collect();
        match &content {
            Content::Hash(fields) => needed.extend(fields.iter().map(|(_, column)| column)),
            Content::String(Value::Column(column)) | Content::Channel(Value::Column(column)) => {
                needed.push(*column);
            }
            Content::String(Value::Payload(_)) | Content::Channel(Value::Payload(_)) => {}
            Content::SortedSet { member, .. } => {
                needed.extend(member.columns());
            }
            Content::Counter { increment, .. } => needed.push(*increment),
        }
        Self { key, content, ttl: ttl.map(|millis| millis.to_string()), needed }
    }

    /// What the rows of a batch are made of.
    fn cells(&mut self, rows: &RecordBatch) -> Result<Cells> {
        let columns = Columns::of(rows, &self.needed)?;
        let (mut payloads, mut scores) = (None, None);
        match &mut self.content {
            Content::String(Value::Payload(encoder))
            | Content::Channel(Value::Payload(encoder)) => {
                payloads = Some(encoder.encode(rows)?);
            }
            Content::SortedSet { score, .. } => scores = Some(self::scores(rows.column(*score))?),
            _ => {}
        }
        Ok(Cells { columns, payloads, scores })
    }

    /// Puts the write of a row into `scratch`.
    fn row(&self, row: usize, cells: &Cells, scratch: &mut Scratch) -> Result<(), String> {
        let Cells { columns, scores, .. } = cells;
        scratch.clear();
        self.key.render(columns, row, &mut scratch.key)?;
        match &self.content {
            Content::Hash(fields) => scratch.hash(fields, row, columns),
            Content::String(value) => match &self.ttl {
                Some(ttl) => scratch.put(&[b"SET", value.of(row, cells)?, b"PX", ttl.as_bytes()]),
                None => scratch.put(&[b"SET", value.of(row, cells)?]),
            },
            Content::SortedSet { member, .. } => {
                member.render(columns, row, &mut scratch.member)?;
                let member = std::mem::take(&mut scratch.member);
                let score = scores.as_ref().and_then(|scores| scores.get(row));
                match score.ok_or("the score is NULL")? {
                    b"NaN" => return Err("the score is not a number".to_owned()),
                    score => scratch.put(&[b"ZADD", score, &member]),
                }
            }
            Content::Counter { increment, float } => {
                let increment = columns.get(*increment, row).ok_or("NULL cannot be added")?;
                if matches!(increment, b"NaN" | b"Infinity" | b"-Infinity") {
                    return Err("what is to be added is not a finite number".to_owned());
                }
                scratch.put(&[if *float { b"INCRBYFLOAT" } else { b"INCRBY" }, increment]);
            }
            Content::Channel(value) => scratch.put(&[b"PUBLISH", value.of(row, cells)?]),
        }
        if let Some(ttl) = self.ttl.as_ref().filter(|_| !matches!(self.content, Content::String(_)))
        {
            scratch.put(&[b"PEXPIRE", ttl.as_bytes()]);
        }
        check_size(scratch.bytes.len())
    }
}

/// The numbers by which members are sorted; times in milliseconds since 1970.
fn scores(column: &ArrayRef) -> Result<Texts> {
    match column.data_type() {
        DataType::Timestamp(..) => {
            let millis = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            Texts::of(&cast(&millis, &DataType::Int64)?)
        }
        _ => Texts::of(column),
    }
}

impl Scratch {
    fn clear(&mut self) {
        self.key.clear();
        self.member.clear();
        self.bytes.clear();
        self.commands = 0;
    }

    /// A command: its name, the key, and the rest.
    fn put(&mut self, command: &[&[u8]]) {
        put_header(command.len() + 1, &mut self.bytes);
        put_argument(command[0], &mut self.bytes);
        put_argument(&self.key, &mut self.bytes);
        command[1..].iter().for_each(|argument| put_argument(argument, &mut self.bytes));
        self.commands += 1;
    }

    /// A field for every value, none for a null: also where an earlier row of the same key had one.
    fn hash(&mut self, fields: &[(String, usize)], row: usize, columns: &Columns) {
        let mut set: Vec<&[u8]> = vec![b"HSET"];
        let mut gone: Vec<&[u8]> = vec![b"HDEL"];
        for (name, column) in fields {
            match columns.get(*column, row) {
                Some(value) => set.extend([name.as_bytes(), value]),
                None => gone.push(name.as_bytes()),
            }
        }
        [set, gone]
            .iter()
            .filter(|command| command.len() > 1)
            .for_each(|command| self.put(command));
    }
}

/// Refuses what Redis would hang up on.
pub(crate) fn check_size(bytes: usize) -> Result<(), String> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(format!("Redis takes at most {MAX_BYTES} bytes at once, and this row has {bytes}"))
}

impl Value {
    fn of<'a>(&self, row: usize, cells: &'a Cells) -> Result<&'a [u8], String> {
        let value = match self {
            Self::Column(column) => cells.columns.get(*column, row),
            Self::Payload(_) => cells.payloads.as_ref().map_or(Ok(None), |all| all.get(row))?,
        };
        value.ok_or_else(|| "the value is NULL: filter such rows out".to_owned())
    }
}

impl WriteEncoder for StructureEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        each: &mut dyn FnMut(usize, Encoded<'_>) -> Result<()>,
    ) -> Result<()> {
        let cells = self.cells(&batch.rows)?;
        let mut scratch = Scratch::default();
        for row in 0..batch.len() {
            let result = self.row(row, &cells, &mut scratch);
            let write = Write { bytes: &scratch.bytes, commands: scratch.commands };
            each(row, result.map(|()| write))?;
        }
        Ok(())
    }
}
