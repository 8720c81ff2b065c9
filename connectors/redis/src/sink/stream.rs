//! Rows into entries of streams: `XADD stream [MAXLEN ~ n] * field value …`.
//!
//! With a format, an entry has the fields `payload`, `key` and `h.NAME` for every header; without one, a
//! field for every column.
//!
//! Invariant: rows of the same key go to the same stream, whatever shard or run writes them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use tidemill_core::record::Header;
use tidemill_core::{Batch, Error, Result};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;

use super::encode::{Encoded, WriteEncoder, check_size};
use super::payload::{PayloadEncoder, Payloads};
use super::resp::put_command;
use super::text::Columns;
use super::writes::Write;
use crate::streams::partition_of;

/// What the field of a header begins with.
const HEADER: &str = "h.";

/// Beginnings of the names of headers that say why a record was a dead letter: they are about the
/// record that was read, not about what is written.
const PROVENANCE: [&str; 4] = ["__connect.errors.", "__streams.errors.", "kafka_dlt-", "tidemill."];

/// What stands in the entries.
pub(crate) enum Entry {
    /// A field for every column: its name and number.
    Fields(Vec<(String, usize)>),
    /// One field for the whole row.
    Payload {
        /// Its name.
        field: String,
        /// How the row is written down.
        encoder: PayloadEncoder,
    },
}

/// Where the key of a record comes from.
pub(crate) enum Key {
    /// The text of a column.
    Column(usize),
    /// Several columns, as a JSON object.
    Columns(PayloadEncoder),
}

impl Key {
    /// A key of these columns; `None` where there are none.
    ///
    /// # Errors
    /// A configuration error where a column has no text.
    pub fn of(columns: &[usize], schema: &Schema) -> Result<Option<Self>> {
        Ok(match columns {
            [] => None,
            [column] => Some(Self::Column(*column)),
            several => {
                let json = Format::Json(JsonFormat::default());
                Some(Self::Columns(PayloadEncoder::new(schema, several.to_vec(), &json)?))
            }
        })
    }
}

/// What a metadata column of a sink says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Metadata {
    /// All headers, a map of names to bytes.
    Headers,
    /// One header, as text.
    Header(String),
    /// The key of the record.
    Key,
}

impl Metadata {
    /// # Errors
    /// A configuration error for a key that a sink cannot write, and for a column that cannot hold it.
    pub fn parse(key: &str, field: &Field) -> Result<Self> {
        let metadata = match (key, key.strip_prefix("header.")) {
            ("headers", _) => Self::Headers,
            ("key", _) => Self::Key,
            (_, Some(name)) if !name.is_empty() => Self::Header(name.to_owned()),
            _ => {
                return Err(Error::configuration(format!(
                    "a Redis stream cannot be written the metadata '{key}', only 'headers', \
                     'header.<name>' and 'key': declare the column VIRTUAL"
                )));
            }
        };
        let (fits, wanted) = match (&metadata, field.data_type()) {
            (Self::Headers, data_type) => {
                (matches!(data_type, DataType::Map(..)), "MAP<STRING, BYTES>")
            }
            (Self::Header(_), data_type) => (is_text(data_type), "STRING"),
            (Self::Key, data_type) => {
                (is_text(data_type) || is_bytes(data_type), "BYTES or STRING")
            }
        };
        if fits {
            return Ok(metadata);
        }
        let name = field.name();
        Err(Error::configuration(format!("the metadata column '{name}' must be {wanted}")))
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::BinaryView | DataType::LargeBinary)
}

/// Which columns of the rows go where in an entry.
pub(crate) struct StreamLayout {
    /// The streams; records are distributed over them.
    pub streams: Vec<String>,
    /// About how many entries each keeps.
    pub max_len: Option<u64>,
    pub key: Option<Key>,
    /// The field of the key; `None` where the key's columns have fields of their own.
    pub key_field: Option<String>,
    pub entry: Entry,
    pub metadata: Vec<(usize, Metadata)>,
    /// Whether the headers of the record that a row was read from go with it.
    pub propagates_headers: bool,
}

/// Encodes rows of one schema. See the module.
pub(crate) struct StreamEncoder {
    layout: StreamLayout,
    max_len: Option<String>,
    needed: Vec<usize>,
    /// The stream of the next record without a key, before the modulo.
    turn: usize,
    bytes: Vec<u8>,
}

/// What the rows of one batch are made of.
struct Cells {
    columns: Columns,
    keys: Option<Payloads>,
    payloads: Option<Payloads>,
    metadata: MetadataColumns,
}

impl StreamEncoder {
    /// Of shard `shard`.
    pub fn new(layout: StreamLayout, shard: usize) -> Self {
        let mut needed = Vec::new();
        if let Some(Key::Column(column)) = &layout.key {
            needed.push(*column);
        }
        if let Entry::Fields(fields) = &layout.entry {
            needed.extend(fields.iter().map(|(_, column)| column));
        }
        let max_len = layout.max_len.map(|entries| entries.to_string());
        Self { layout, max_len, needed, turn: shard, bytes: Vec::new() }
    }

    fn cells(&mut self, rows: &RecordBatch) -> Result<Cells> {
        let keys = match &mut self.layout.key {
            Some(Key::Columns(encoder)) => Some(encoder.encode(rows)?),
            _ => None,
        };
        let payloads = match &mut self.layout.entry {
            Entry::Payload { encoder, .. } => Some(encoder.encode(rows)?),
            Entry::Fields(_) => None,
        };
        let metadata = MetadataColumns::new(&self.layout.metadata, rows)?;
        Ok(Cells { columns: Columns::of(rows, &self.needed)?, keys, payloads, metadata })
    }

    /// The stream of a record.
    fn stream(&mut self, key: Option<&[u8]>) -> usize {
        match key {
            Some(key) => partition_of(key, self.layout.streams.len()),
            None => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % self.layout.streams.len()
            }
        }
    }

    fn row(&mut self, row: usize, cells: &Cells, headers: &[Header]) -> Result<(), String> {
        let key = match (&self.layout.key, &cells.keys) {
            (Some(Key::Column(column)), _) => cells.columns.get(*column, row),
            (_, Some(keys)) => keys.get(row)?,
            _ => None,
        };
        let stream = self.stream(key);
        let StreamLayout { streams, key_field, entry, .. } = &self.layout;
        let names: Vec<String> = headers.iter().map(|h| format!("{HEADER}{}", h.name)).collect();
        let mut command: Vec<&[u8]> = vec![b"XADD", streams[stream].as_bytes()];
        if let Some(entries) = &self.max_len {
            command.extend([&b"MAXLEN"[..], b"~", entries.as_bytes()]);
        }
        command.push(b"*");
        let without_fields = command.len();
        match entry {
            Entry::Fields(fields) => {
                for (name, column) in fields {
                    if let Some(value) = cells.columns.get(*column, row) {
                        command.extend([name.as_bytes(), value]);
                    }
                }
            }
            Entry::Payload { field, .. } => {
                let payload = cells.payloads.as_ref().map_or(Ok(None), |all| all.get(row))?;
                if let Some(payload) = payload {
                    command.extend([field.as_bytes(), payload]);
                }
            }
        }
        if command.len() == without_fields {
            return Err("all its columns are NULL, and an entry without fields is none".to_owned());
        }
        if let (Some(field), Some(key)) = (key_field, key) {
            command.extend([field.as_bytes(), key]);
        }
        for (name, header) in names.iter().zip(headers) {
            command.extend([name.as_bytes(), header.value.as_deref().unwrap_or_default()]);
        }
        self.bytes.clear();
        put_command(&command, &mut self.bytes);
        check_size(self.bytes.len())
    }
}

impl WriteEncoder for StreamEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        each: &mut dyn FnMut(usize, Encoded<'_>) -> Result<()>,
    ) -> Result<()> {
        let cells = self.cells(&batch.rows)?;
        let mut headers = Vec::new();
        for row in 0..batch.len() {
            headers.clear();
            if self.layout.propagates_headers {
                headers.extend(batch.headers(row).into_iter().filter(propagates));
            }
            cells.metadata.add_headers(row, &mut headers);
            let result = self.row(row, &cells, &headers);
            each(row, result.map(|()| Write { bytes: &self.bytes, commands: 1 }))?;
        }
        Ok(())
    }
}

/// Whether a header that a record came with goes on with what becomes of it.
fn propagates(header: &Header) -> bool {
    !PROVENANCE.iter().any(|begin| header.name.starts_with(begin))
}

/// Metadata columns of one batch, in types that are easy to read.
#[derive(Default)]
struct MetadataColumns {
    maps: Vec<HeaderMaps>,
    texts: Vec<(String, ArrayRef)>,
}

struct HeaderMaps {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    names: ArrayRef,
    values: ArrayRef,
}

impl MetadataColumns {
    fn new(metadata: &[(usize, Metadata)], rows: &RecordBatch) -> Result<Self> {
        let mut columns = Self::default();
        for (column, metadata) in metadata {
            let column = rows.column(*column);
            match metadata {
                Metadata::Headers => {
                    let map = column.as_map();
                    columns.maps.push(HeaderMaps {
                        offsets: map.offsets().clone(),
                        nulls: map.nulls().cloned(),
                        names: cast(map.keys(), &DataType::Utf8)?,
                        values: cast(map.values(), &DataType::Binary)?,
                    });
                }
                Metadata::Key => {}
                Metadata::Header(name) => {
                    columns.texts.push((name.clone(), cast(column, &DataType::Utf8)?));
                }
            }
        }
        Ok(columns)
    }

    /// Headers of a row: those of the same name that are there already give way.
    fn add_headers(&self, row: usize, headers: &mut Vec<Header>) {
        for map in &self.maps {
            if map.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let (names, values) = (map.names.as_string::<i32>(), map.values.as_binary::<i32>());
            for entry in map.offsets[row] as usize..map.offsets[row + 1] as usize {
                let value = values.is_valid(entry).then(|| values.value(entry).to_vec());
                put(Header { name: names.value(entry).to_owned(), value }, headers);
            }
        }
        for (name, texts) in &self.texts {
            let texts = texts.as_string::<i32>();
            if texts.is_valid(row) {
                put(Header::new(name, texts.value(row)), headers);
            }
        }
    }
}

fn put(header: Header, headers: &mut Vec<Header>) {
    headers.retain(|there| there.name != header.name);
    headers.push(header);
}
