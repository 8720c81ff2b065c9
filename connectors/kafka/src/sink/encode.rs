//! Rows into records: the last step of the data path before a producer.
//!
//! A row's columns are split into the key's, the value's and metadata; key and value are written by their
//! formats. Headers of the record that a row still is go with it.
//!
//! Invariant: rows in = records + rows that cannot be encoded, each with its reason.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use tidemill_core::record::Header;
use tidemill_core::{Batch, Error, ErrorKind, Result};
use tidemill_formats::{Encoder, Format};

use super::record::{Encoded, Outgoing, RecordEncoder};
use super::witness::EPOCH_HEADER;

/// Beginnings of the names of headers that say why a record was a dead letter: they are about the
/// record that was read, not about what is written.
const PROVENANCE: [&str; 4] = ["__connect.errors.", "__streams.errors.", "kafka_dlt-", "tidemill."];

/// Which columns of the rows go where.
#[derive(Debug, Clone)]
pub(crate) struct RowLayout {
    /// Key columns, in order; empty: records have no key.
    pub key: Vec<usize>,
    pub key_format: Format,
    /// What is left out at the beginning of the key columns' names.
    pub key_prefix: String,
    pub value: Vec<usize>,
    pub value_format: Format,
    /// Columns that become something other than key and value.
    pub metadata: Vec<(usize, Metadata)>,
    /// Whether the headers of the record that a row was read from go with it.
    pub propagates_headers: bool,
    /// A null payload means "deleted": a row must not become one.
    pub refuses_null: bool,
}

/// What a metadata column of a sink says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Metadata {
    /// All headers, a map of names to bytes.
    Headers,
    /// One header, as text.
    Header(String),
    /// The record's timestamp.
    Timestamp,
}

impl Metadata {
    /// # Errors
    /// A configuration error for a key that a sink cannot write.
    pub fn parse(key: &str) -> Result<Self> {
        match (key, key.strip_prefix("header.")) {
            ("headers", _) => Ok(Self::Headers),
            ("timestamp", _) => Ok(Self::Timestamp),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            _ => Err(Error::configuration(format!(
                "a Kafka sink cannot write the metadata '{key}', only 'headers', 'header.<name>' and \
                 'timestamp': declare the column VIRTUAL"
            ))),
        }
    }
}

impl RowLayout {
    /// An encoder for rows of `schema`.
    ///
    /// # Errors
    /// A configuration error where a format cannot hold a column.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<RowEncoder> {
        let key = if self.key.is_empty() {
            None
        } else {
            Some(Part::new(schema, &self.key, &self.key_prefix, &self.key_format)?)
        };
        for (column, metadata) in &self.metadata {
            metadata.check(schema.field(*column))?;
        }
        let value = Part::new(schema, &self.value, "", &self.value_format)?;
        Ok(RowEncoder { layout: self.clone(), key, value })
    }
}

impl Metadata {
    fn check(&self, field: &Field) -> Result<()> {
        let (fits, wanted) = match (self, field.data_type()) {
            (Self::Headers, DataType::Map(..)) => (true, "MAP<STRING, BYTES>"),
            (Self::Headers, _) => (false, "MAP<STRING, BYTES>"),
            (Self::Header(_), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => {
                (true, "STRING")
            }
            (Self::Header(_), _) => (false, "STRING"),
            (Self::Timestamp, DataType::Timestamp(..)) => (true, "TIMESTAMP(3)"),
            (Self::Timestamp, _) => (false, "TIMESTAMP(3) or TIMESTAMP_LTZ(3)"),
        };
        if fits {
            return Ok(());
        }
        let name = field.name();
        Err(Error::configuration(format!("the metadata column '{name}' must be {wanted}")))
    }
}

/// Key or value: some of the columns in some format.
struct Part {
    columns: Vec<usize>,
    schema: SchemaRef,
    encoder: Box<dyn Encoder>,
    /// The format has no way to write NULL but to write nothing at all.
    null_is_absent: bool,
}

impl Part {
    fn new(schema: &SchemaRef, columns: &[usize], prefix: &str, format: &Format) -> Result<Self> {
        let field = |column: &usize| {
            let field = schema.field(*column).clone();
            let name = field.name().strip_prefix(prefix).unwrap_or(field.name()).to_owned();
            field.with_name(name)
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let encoder = format.encoder(schema.clone())?;
        let null_is_absent = matches!(format, Format::Raw(_));
        Ok(Self { columns: columns.to_vec(), schema, encoder, null_is_absent })
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| rows.column(*c).clone()).collect();
        let absent = if self.null_is_absent { columns[0].logical_nulls() } else { None };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mut payloads = Payloads { bytes: Vec::new(), ends: Vec::new(), absent };
        match payloads.add(self.encoder.as_mut(), &rows) {
            Err(error) if error.kind() == ErrorKind::Permanent => {
                payloads.bytes.clear();
                payloads.ends.clear();
                for row in 0..rows.num_rows() {
                    payloads.add_row(self.encoder.as_mut(), &rows.slice(row, 1))?;
                }
            }
            result => result?,
        }
        Ok(payloads)
    }
}

/// The payloads of a batch, one behind the other.
struct Payloads {
    bytes: Vec<u8>,
    /// Where each ends, or why there is none.
    ends: Vec<Result<usize, String>>,
    absent: Option<arrow::buffer::NullBuffer>,
}

impl Payloads {
    fn add(&mut self, encoder: &mut dyn Encoder, rows: &RecordBatch) -> Result<()> {
        encoder.encode(rows, &mut |payload| {
            self.bytes.extend_from_slice(payload);
            self.ends.push(Ok(self.bytes.len()));
        })
    }

    /// A row that may be the one that cannot be encoded.
    fn add_row(&mut self, encoder: &mut dyn Encoder, row: &RecordBatch) -> Result<()> {
        let (bytes, ends) = (self.bytes.len(), self.ends.len());
        match self.add(encoder, row) {
            Err(error) if error.kind() == ErrorKind::Permanent => {
                self.bytes.truncate(bytes);
                self.ends.truncate(ends);
                self.ends.push(Err(error.to_string()));
                Ok(())
            }
            result => result,
        }
    }

    /// The payload of a row that begins at `start`, and where it ends.
    fn get(&self, row: usize, start: &mut usize) -> Result<Option<&[u8]>, String> {
        let end = self.ends[row].clone()?;
        let bytes = &self.bytes[std::mem::replace(start, end)..end];
        let is_absent = self.absent.as_ref().is_some_and(|nulls| nulls.is_null(row));
        Ok(if is_absent { None } else { Some(bytes) })
    }
}

/// Encodes rows of one schema. See the module.
pub(crate) struct RowEncoder {
    layout: RowLayout,
    key: Option<Part>,
    value: Part,
}

impl RecordEncoder for RowEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        each: &mut dyn FnMut(usize, Encoded<'_>) -> Result<()>,
    ) -> Result<()> {
        let keys = self.key.as_mut().map(|key| key.encode(&batch.rows)).transpose()?;
        let values = self.value.encode(&batch.rows)?;
        let metadata = MetadataColumns::new(&self.layout.metadata, &batch.rows)?;
        let (mut key_start, mut value_start) = (0, 0);
        let mut headers = Vec::new();
        for row in 0..batch.len() {
            headers.clear();
            if self.layout.propagates_headers {
                headers.extend(batch.headers(row).into_iter().filter(propagates));
            }
            metadata.add_headers(row, &mut headers);
            let key = keys.as_ref().map_or(Ok(None), |keys| keys.get(row, &mut key_start));
            let payload = values.get(row, &mut value_start);
            let record = key.and_then(|key| {
                let payload = payload?;
                if payload.is_none() && self.layout.refuses_null {
                    return Err("a NULL value would delete the key: filter it out".to_owned());
                }
                let timestamp = metadata.timestamp(row)?;
                Ok(Outgoing { partition: None, key, payload, headers: &headers, timestamp })
            });
            each(row, record)?;
        }
        Ok(())
    }
}

/// Whether a header that a record came with goes on with what becomes of it.
fn propagates(header: &Header) -> bool {
    header.name != EPOCH_HEADER && !PROVENANCE.iter().any(|begin| header.name.starts_with(begin))
}

/// Metadata columns of one batch, in types that are easy to read.
#[derive(Default)]
struct MetadataColumns {
    maps: Vec<HeaderMaps>,
    texts: Vec<(String, ArrayRef)>,
    timestamp: Option<ArrayRef>,
}

struct HeaderMaps {
    offsets: arrow::buffer::OffsetBuffer<i32>,
    nulls: Option<arrow::buffer::NullBuffer>,
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
                Metadata::Header(name) => {
                    columns.texts.push((name.clone(), cast(column, &DataType::Utf8)?));
                }
                Metadata::Timestamp => {
                    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
                    columns.timestamp = Some(cast(column, &micros)?);
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

    fn timestamp(&self, row: usize) -> Result<Option<i64>, String> {
        let Some(column) = &self.timestamp else { return Ok(None) };
        let micros = column.as_primitive::<TimestampMicrosecondType>();
        if micros.is_null(row) {
            return Ok(None);
        }
        match micros.value(row).div_euclid(1000) {
            millis @ 1.. => Ok(Some(millis)),
            _ => Err("Kafka's timestamps begin in 1970, and this one is before".to_owned()),
        }
    }
}

fn put(header: Header, headers: &mut Vec<Header>) {
    headers.retain(|there| there.name != header.name);
    headers.push(header);
}
