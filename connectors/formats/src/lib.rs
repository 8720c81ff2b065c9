//! Record formats: decoders straight from payload bytes into Arrow columns, and encoders back.
//!
//! This is the "decode" of the data path, on the shard that owns the split, and the last step in
//! front of a sink. Nothing here knows where payloads come from: files and brokers use it alike.
//!
//! | module | what it does |
//! |---|---|
//! | [`avro`] | data of one schema, or of those of a registry, walked along a plan per schema |
//! | [`csv`] | RFC 4180 fields, by position or by the names of a header line |
//! | [`fields`] | named fields of text or bytes |
//! | [`json`] | one JSON object per record, scanned once against the schema |
//! | [`protobuf`] | messages described by `.proto` files or a registry, walked along a plan each |
//! | [`raw`] | the payload is the value of the single column |
//! | [`registry`] | the schemas behind framed payloads, from a schema registry |
//!
//! Invariant: a payload is either one row or one reason why not. A bad payload leaves the columns
//! as they were, so that it costs nothing to the rows around it, and rows + reasons = payloads.

#![deny(missing_docs)]

pub mod avro;
mod base64;
mod cells;
mod column;
pub mod csv;
pub mod fields;
pub mod json;
#[cfg(test)]
mod needs;
mod number;
mod patience;
pub mod protobuf;
pub mod raw;
pub mod registry;
#[cfg(test)]
mod schema_evolution;
mod temporal;
#[cfg(test)]
mod testing;
mod word;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::need::Need;
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

use crate::avro::AvroFormat;
use crate::csv::CsvFormat;
use crate::json::JsonFormat;
use crate::protobuf::ProtobufFormat;
use crate::raw::RawFormat;

/// Turns payloads into rows of one schema. One per split: it remembers the shape of the payload
/// before.
pub trait Decoder: Send {
    /// Appends one row, or leaves the columns as they were and says why, with the field's path.
    fn decode(&mut self, payload: &[u8]) -> Result<(), String>;

    /// As [`Decoder::decode`], for a record that has no payload at all (Kafka's tombstones).
    fn decode_null(&mut self) -> Result<(), String> {
        Err("the record has no payload".to_owned())
    }

    /// Takes records off the front of `text`, a record a line, as long as they are of the shape that
    /// the decoder is quickest at, and at most `max` of them. Returns where each line that was taken
    /// ends, behind its line end. The first line that was not taken may be as good as they are: it
    /// is [`Decoder::decode`] that judges it.
    ///
    /// By default none is taken.
    fn decode_lines(&mut self, text: &[u8], max: usize, ends: &mut Vec<u32>) {
        let _ = (text, max, ends);
    }

    /// How many rows wait for [`Decoder::finish`].
    fn len(&self) -> usize;

    /// Whether no row waits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows so far, in the order of their payloads; the decoder is empty afterwards.
    ///
    /// # Errors
    /// Where a payload could not be judged through no fault of its own, for example because the
    /// schema registry was out of reach: the rows since the last call are lost, and the decoder is
    /// empty. The same payloads may be decoded again where the error is transient.
    fn finish(&mut self) -> Result<RecordBatch>;
}

/// Turns rows into payloads.
pub trait Encoder: Send {
    /// Calls `each` with the payload of every row, in order; without a line end.
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// The line that a file of such payloads begins with, where the format has one.
    fn header(&self) -> Option<Vec<u8>>;
}

/// A record format with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Avro data, alone or in a registry's frames.
    Avro(AvroFormat),
    /// Fields between delimiters.
    Csv(CsvFormat),
    /// One JSON object per record.
    Json(JsonFormat),
    /// Protobuf messages, alone or in a registry's frames.
    Protobuf(ProtobufFormat),
    /// The payload is the value of the only column.
    Raw(RawFormat),
}

/// The names that [`Format::parse`] knows.
pub const NAMES: [&str; 7] =
    ["avro", "avro-confluent", "csv", "json", "protobuf", "protobuf-confluent", "raw"];

impl Format {
    /// The format called `name`, with its options among `options`.
    ///
    /// # Errors
    /// A configuration error that names the option, for an unknown format or a bad value.
    pub fn parse(name: &str, options: &Options) -> Result<Self> {
        match name {
            "avro" => Ok(Self::Avro(AvroFormat::parse(options)?)),
            "avro-confluent" => Ok(Self::Avro(AvroFormat::parse_confluent(options)?)),
            "csv" => Ok(Self::Csv(CsvFormat::parse(options)?)),
            "json" => Ok(Self::Json(JsonFormat::parse(options)?)),
            "protobuf" => Ok(Self::Protobuf(ProtobufFormat::parse(options)?)),
            "protobuf-confluent" => Ok(Self::Protobuf(ProtobufFormat::parse_confluent(options)?)),
            "raw" => Ok(Self::Raw(RawFormat::parse(options)?)),
            _ => Err(Error::option(
                "format",
                format!("format '{name}' is not known: use one of '{}'", NAMES.join("', '")),
            )),
        }
    }

    /// Its name, as in `'format'`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Avro(AvroFormat { registry: None, .. }) => "avro",
            Self::Avro(_) => "avro-confluent",
            Self::Csv(_) => "csv",
            Self::Json(_) => "json",
            Self::Protobuf(protobuf) if protobuf.is_framed() => "protobuf-confluent",
            Self::Protobuf(_) => "protobuf",
            Self::Raw(_) => "raw",
        }
    }

    /// Whether payloads of these columns can be the lines of a file.
    ///
    /// # Errors
    /// A configuration error where they cannot: they are binary.
    pub fn check_lines(&self, schema: &SchemaRef) -> Result<()> {
        let are_lines = match self {
            Self::Csv(_) | Self::Json(_) => true,
            Self::Raw(raw) => raw.is_text(schema)?,
            Self::Avro(_) | Self::Protobuf(_) => false,
        };
        if are_lines {
            return Ok(());
        }
        let message = format!(
            "payloads of format '{}' are binary here, and cannot be the lines of a file",
            self.name()
        );
        Err(Error::option("format", message))
    }

    /// A decoder into `schema`. A CSV decoder goes by position: a header line is for the reader
    /// of the file, see [`csv::CsvFormat::decoder_with_header`].
    ///
    /// # Errors
    /// A configuration error that names the column, where the format cannot hold its type.
    pub fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        Ok(match self {
            Self::Avro(avro) => Box::new(avro.decoder(schema)?),
            Self::Csv(csv) => Box::new(csv.decoder(schema)?),
            Self::Json(json) => Box::new(json.decoder(schema)?),
            Self::Protobuf(protobuf) => Box::new(protobuf.decoder(schema)?),
            Self::Raw(raw) => Box::new(raw.decoder(schema)?),
        })
    }

    /// As [`Format::decoder`], for a job that looks at no more than this of the columns: in JSON and CSV what is not
    /// looked at, and may be null, is not decoded and is null. Records that are bad only there are good.
    ///
    /// # Errors
    /// Those of [`Format::decoder`].
    pub fn decoder_reading(&self, schema: SchemaRef, needs: &[Need]) -> Result<Box<dyn Decoder>> {
        Ok(match self {
            Self::Csv(csv) => Box::new(csv.decoder(schema)?.reading(needs)?),
            Self::Json(json) => Box::new(json.decoder(schema)?.reading(needs)?),
            Self::Avro(_) | Self::Protobuf(_) | Self::Raw(_) => self.decoder(schema)?,
        })
    }

    /// An encoder of rows of `schema`. Errors as for [`Format::decoder`].
    pub fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Self::Avro(avro) => Box::new(avro.encoder(schema)?),
            Self::Csv(csv) => Box::new(csv.encoder(schema)?),
            Self::Json(json) => Box::new(json.encoder(schema)?),
            Self::Protobuf(protobuf) => Box::new(protobuf.encoder(schema)?),
            Self::Raw(raw) => Box::new(raw.encoder(schema)?),
        })
    }
}

/// A decoder of format `format`, by its name and options. Errors as for [`Format::parse`] and
/// [`Format::decoder`].
pub fn decoder(format: &str, schema: SchemaRef, options: &Options) -> Result<Box<dyn Decoder>> {
    Format::parse(format, options)?.decoder(schema)
}

/// An encoder of format `format`, by its name and options. Errors as for [`decoder`].
pub fn encoder(format: &str, schema: SchemaRef, options: &Options) -> Result<Box<dyn Encoder>> {
    Format::parse(format, options)?.encoder(schema)
}

/// Every option of every format, for a connector to list beside its own.
pub fn options() -> Vec<OptionSpec> {
    let mut options = vec![OptionSpec::new(
        "format",
        "How records are written down: avro, avro-confluent, csv, json, protobuf, \
         protobuf-confluent, raw.",
    )];
    options.extend(avro::OPTIONS);
    options.extend(registry::AVRO_OPTIONS);
    options.extend(csv::OPTIONS);
    options.extend(json::OPTIONS);
    options.extend(protobuf::OPTIONS);
    options.extend(registry::PROTOBUF_OPTIONS);
    options.extend(raw::OPTIONS);
    options
}

/// Refuses Flink's option to drop bad records in the format: here the source decides, and counts.
fn refuse_ignoring_errors(options: &Options, name: &str) -> Result<()> {
    match options.parsed::<bool>(name)? {
        Some(true) => Err(Error::option(
            name,
            format!("'{name}' is decided for the whole table here: write 'on-error' = 'skip'"),
        )),
        _ => Ok(()),
    }
}
