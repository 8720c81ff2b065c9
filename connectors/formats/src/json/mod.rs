//! JSON: one object per record.
//!
//! Read: one pass over the bytes, fields matched by name. Unknown fields are validated and left
//! out, missing ones are null, of duplicates the last counts. A `STRING` takes any value: text as
//! it is, anything else as its JSON text. Timestamps are SQL or ISO 8601 text, or a number of
//! milliseconds since the epoch; `BYTES` are base64; `DECIMAL` may be a number in quotes.

mod decode;
mod encode;
mod scan;
#[cfg(test)]
mod tests;

use arrow::datatypes::SchemaRef;
use tidemill_core::Result;
use tidemill_core::table::{OptionSpec, Options};

pub use self::decode::JsonDecoder;
pub use self::encode::JsonEncoder;
use crate::refuse_ignoring_errors;
pub use crate::temporal::TimestampStyle;

/// What [`JsonFormat::parse`] understands.
pub(crate) const OPTIONS: [OptionSpec; 2] = [
    OptionSpec::new(
        "json.timestamp-format.standard",
        "How timestamps are written: 'SQL' (default) or 'ISO-8601'. Both are read.",
    ),
    OptionSpec::new("json.ignore-parse-errors", "Write 'on-error' = 'skip' instead."),
];

/// JSON and how exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonFormat {
    /// How timestamps are written.
    pub timestamps: TimestampStyle,
}

impl Default for JsonFormat {
    fn default() -> Self {
        Self { timestamps: TimestampStyle::Sql }
    }
}

impl JsonFormat {
    /// JSON as `options` say.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(options: &Options) -> Result<Self> {
        refuse_ignoring_errors(options, "json.ignore-parse-errors")?;
        let style = options.choice("json.timestamp-format.standard", &["SQL", "ISO-8601"], 0)?;
        let styles = [TimestampStyle::Sql, TimestampStyle::Iso8601];
        Ok(Self { timestamps: styles[style] })
    }

    /// An encoder of rows of `schema`.
    ///
    /// # Errors
    /// A configuration error that names a column whose type JSON cannot hold.
    pub fn encoder(&self, schema: SchemaRef) -> Result<JsonEncoder> {
        JsonEncoder::new(*self, schema)
    }
}
