//! CSV: fields between delimiters, quoted where they must be (RFC 4180).
//!
//! An unquoted field that equals `csv.null-literal` (default: the empty field) is null; so is an
//! empty field of any type but STRING, quoted or not. A quoted empty field of type STRING is the
//! empty string, and is written so.

mod decode;
mod encode;
mod lines;
#[cfg(test)]
mod tests;

use arrow::datatypes::SchemaRef;
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

pub use self::decode::CsvDecoder;
pub use self::encode::CsvEncoder;
use crate::refuse_ignoring_errors;

/// What [`CsvFormat::parse`] understands.
pub(crate) const OPTIONS: [OptionSpec; 6] = [
    OptionSpec::new("csv.field-delimiter", "The character between fields (default ',')."),
    OptionSpec::new("csv.quote-character", "The character around fields (default '\"')."),
    OptionSpec::new("csv.header", "Whether files begin with a line of column names."),
    OptionSpec::new("csv.null-literal", "An unquoted field that is null (default: empty)."),
    OptionSpec::new("csv.array-element-delimiter", "Between the elements of an ARRAY (';')."),
    OptionSpec::new("csv.ignore-parse-errors", "Write 'on-error' = 'skip' instead."),
];

/// CSV and how exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFormat {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields that hold a delimiter, a quote or a line end.
    pub quote: u8,
    /// Whether files begin with a line of column names.
    pub header: bool,
    /// An unquoted field that is null.
    pub null_literal: String,
    /// Between the elements of an `ARRAY`.
    pub array_delimiter: u8,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
            header: false,
            null_literal: String::new(),
            array_delimiter: b';',
        }
    }
}

impl CsvFormat {
    /// CSV as `options` say.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(options: &Options) -> Result<Self> {
        refuse_ignoring_errors(options, "csv.ignore-parse-errors")?;
        let default = Self::default();
        let format = Self {
            delimiter: byte(options, "csv.field-delimiter", default.delimiter)?,
            quote: byte(options, "csv.quote-character", default.quote)?,
            header: options.parsed("csv.header")?.unwrap_or(false),
            null_literal: options.get("csv.null-literal").unwrap_or_default().to_owned(),
            array_delimiter: byte(options, "csv.array-element-delimiter", default.array_delimiter)?,
        };
        if format.delimiter == format.quote || format.delimiter == format.array_delimiter {
            let message = "'csv.field-delimiter' must differ from the other special characters";
            return Err(Error::option("csv.field-delimiter", message));
        }
        Ok(format)
    }

    /// A decoder of records that hold every column of `schema`, in its order.
    ///
    /// # Errors
    /// A configuration error that names a column whose type CSV cannot hold.
    pub fn decoder(&self, schema: SchemaRef) -> Result<CsvDecoder> {
        CsvDecoder::new(self.clone(), schema)
    }

    /// A decoder of the records below `header`: columns are found by name, those that the header
    /// lacks are null, and what `schema` lacks is left out.
    ///
    /// # Errors
    /// As for [`CsvFormat::decoder`]; also where the header has none of the columns, or lacks one
    /// that is `NOT NULL`, or names one twice.
    pub fn decoder_with_header(&self, schema: SchemaRef, header: &[u8]) -> Result<CsvDecoder> {
        CsvDecoder::with_header(self.clone(), schema, header)
    }

    /// An encoder of rows of `schema`. Errors as for [`CsvFormat::decoder`].
    pub fn encoder(&self, schema: SchemaRef) -> Result<CsvEncoder> {
        CsvEncoder::new(self.clone(), schema)
    }
}

/// An option of one ASCII character; `\t` may be spelled out, as in Flink.
fn byte(options: &Options, name: &str, default: u8) -> Result<u8> {
    match options.get(name).map(str::as_bytes) {
        None => Ok(default),
        Some(b"\\t") => Ok(b'\t'),
        Some(b"\n" | b"\r") => {
            Err(Error::option(name, format!("option '{name}' cannot be a line end")))
        }
        Some([byte]) if byte.is_ascii() => Ok(*byte),
        Some(_) => Err(Error::option(name, format!("option '{name}' must be one ASCII character"))),
    }
}
