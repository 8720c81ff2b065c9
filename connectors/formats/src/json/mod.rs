//! JSON: one object per record.
//!
//! Read: one pass over the bytes, fields matched by name. Unknown fields are validated and left
//! out, missing ones are null, of duplicates the last counts. A `STRING` takes any value: text as
//! it is, anything else as its JSON text. Timestamps are SQL or ISO 8601 text, or a number of
//! seconds, milliseconds and so on since the epoch; `BYTES` are base64; `DECIMAL` may be a number
//! in quotes. `ROW` is an object, `ARRAY` an array, `MAP<STRING, …>` an object, to any depth.

mod decode;
mod encode;
mod map;
mod scan;
mod shape;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;

use arrow::datatypes::{SchemaRef, TimeUnit};
use tidemill_core::Result;
use tidemill_core::table::{OptionSpec, Options};

pub use self::decode::JsonDecoder;
pub use self::encode::JsonEncoder;
use crate::refuse_ignoring_errors;
pub use crate::temporal::TimestampStyle;

/// What [`JsonFormat::parse`] understands.
pub(crate) const OPTIONS: [OptionSpec; 5] = [
    OptionSpec::new(
        "json.timestamp-format.standard",
        "How timestamps are written: 'SQL' (default) or 'ISO-8601'. Both are read.",
    ),
    OptionSpec::new(
        "json.timestamp-format.epoch",
        "What a number in place of a timestamp counts since 1970: 'seconds', 'millis' (default), \
         'micros' or 'nanos'.",
    ),
    OptionSpec::new(
        "json.fail-on-missing-field",
        "Whether a record that lacks a column is bad; else the column is null (default).",
    ),
    OptionSpec::new(
        "json.encode.ignore-null-fields",
        "Whether fields that are null are left out when written (default: false).",
    ),
    OptionSpec::new("json.ignore-parse-errors", "Write 'on-error' = 'skip' instead."),
];

/// JSON and how exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonFormat {
    /// How timestamps are written.
    pub timestamps: TimestampStyle,
    /// What a number in place of a timestamp counts.
    pub epoch: TimeUnit,
    /// Whether a record that lacks a column is bad.
    pub needs_all_fields: bool,
    /// Whether fields that are null are left out when written.
    pub omits_nulls: bool,
}

impl Default for JsonFormat {
    fn default() -> Self {
        Self {
            timestamps: TimestampStyle::Sql,
            epoch: TimeUnit::Millisecond,
            needs_all_fields: false,
            omits_nulls: false,
        }
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
        let units = ["seconds", "millis", "micros", "nanos"];
        let unit = options.choice("json.timestamp-format.epoch", &units, 1)?;
        let flag = |name| options.parsed::<bool>(name).map(Option::unwrap_or_default);
        Ok(Self {
            timestamps: [TimestampStyle::Sql, TimestampStyle::Iso8601][style],
            epoch: [
                TimeUnit::Second,
                TimeUnit::Millisecond,
                TimeUnit::Microsecond,
                TimeUnit::Nanosecond,
            ][unit],
            needs_all_fields: flag("json.fail-on-missing-field")?,
            omits_nulls: flag("json.encode.ignore-null-fields")?,
        })
    }

    /// A decoder into `schema`.
    ///
    /// # Errors
    /// A configuration error that names a column whose type JSON cannot hold.
    pub fn decoder(&self, schema: SchemaRef) -> Result<JsonDecoder> {
        JsonDecoder::new(*self, schema)
    }

    /// An encoder of rows of `schema`. Errors as for [`JsonFormat::decoder`].
    pub fn encoder(&self, schema: SchemaRef) -> Result<JsonEncoder> {
        JsonEncoder::new(*self, schema)
    }
}
