//! Tables as SQL declares them, their options, and the factories that turn them into connectors.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::sink::Sink;
use crate::source::Source;

/// A declared table, as a connector sees it.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// The table's name.
    pub name: String,
    /// Its physical and metadata columns in declared order; computed columns are not the
    /// connector's business. Strings are `Utf8View`, `BYTES` are `BinaryView`, timestamps up to six
    /// digits are microseconds (`TIMESTAMP_LTZ` with zone `UTC`).
    pub schema: SchemaRef,
    /// Metadata columns: index into [`Self::schema`], and the metadata key.
    pub metadata: Vec<(usize, String)>,
    /// Columns of the primary key: indices into [`Self::schema`].
    pub primary_key: Vec<usize>,
    /// Columns of `PARTITIONED BY`: indices into [`Self::schema`].
    pub partitioned_by: Vec<usize>,
    /// The options of `WITH`, variables replaced.
    pub options: Options,
}

/// Makes sources and sinks of one connector.
pub trait ConnectorFactory: Send + Sync {
    /// The value of `'connector'`.
    fn name(&self) -> &'static str;

    /// Every option the connector knows, for checking and suggestions.
    fn options(&self) -> Vec<OptionSpec>;

    /// A source that reads the table.
    ///
    /// # Errors
    /// [`Error::option`] where an option is wrong; a configuration error where the connector is no
    /// source.
    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>>;

    /// A sink that writes the table. Errors as for [`ConnectorFactory::source`].
    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>>;

    /// How far job `job` is behind in the table that it reads, as the outside was told; `None` where
    /// the outside keeps no such account. The job need not run.
    ///
    /// # Errors
    /// As for [`ConnectorFactory::source`], or the outside does not answer.
    fn lag(&self, table: &TableSpec, job: &str) -> Result<Option<GroupLag>> {
        let _ = (table, job);
        Ok(None)
    }
}

/// What a consumer group has read of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupLag {
    /// The consumer group.
    pub group: String,
    /// The source's splits.
    pub splits: Vec<SplitLag>,
}

/// What a consumer group has read of one split. Offsets are in the outside's own notation.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitLag {
    /// The split.
    pub split: String,
    /// The oldest offset there is.
    pub start: String,
    /// Where the group is; `None` before it has told.
    pub committed: Option<String>,
    /// Where the split ends.
    pub end: String,
    /// How many records from `committed` to `end`; `None` where that is not known.
    pub records: Option<u64>,
    /// The age of the first record that the group has not read, in seconds; zero where there is none,
    /// `None` where it could not be found out.
    pub seconds: Option<f64>,
    /// How many records the group's consumers have got and not acknowledged, where it keeps such a
    /// list.
    pub pending: Option<u64>,
}

/// An option that a connector knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name; a `*` stands for any text (`properties.*`, `fields.*.min`).
    pub name: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
}

impl OptionSpec {
    /// An option and what it does.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help }
    }

    /// Whether this is the option called `name`.
    pub fn matches(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((before, after)) => {
                name.len() > before.len() + after.len()
                    && name.starts_with(before)
                    && name.ends_with(after)
            }
        }
    }
}

/// A table's options. Reading one that is missing or wrong gives an error that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(options: I) -> Self {
        Self(options.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl Options {
    /// The option's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The option's text, or an error that says it is missing.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| {
            Error::option(name, format!("option '{name}' is required by this connector"))
        })
    }

    /// All options, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The option as a number, a boolean or whatever else parses from text.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.get(name)
            .map(|text| {
                text.trim().parse().map_err(|_| {
                    let wanted = std::any::type_name::<T>();
                    Error::option(
                        name,
                        format!("option '{name}' = '{text}' is not a valid {wanted}"),
                    )
                })
            })
            .transpose()
    }

    /// The option as a duration in Flink's notation (`10 s`, `5min`, `100 ms`; a bare number is
    /// milliseconds).
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        self.get(name)
            .map(|text| {
                parse_duration(text).ok_or_else(|| {
                    let message =
                        format!("option '{name}' = '{text}' is not a duration: write '10 s'");
                    Error::option(name, message)
                })
            })
            .transpose()
    }

    /// The option as a number of bytes in Flink's notation (`64 mb`, `512kb`; a bare number is bytes).
    pub fn bytes(&self, name: &str) -> Result<Option<usize>> {
        self.get(name)
            .map(|text| {
                parse_bytes(text).ok_or_else(|| {
                    let message =
                        format!("option '{name}' = '{text}' is not a size: write '64 mb'");
                    Error::option(name, message)
                })
            })
            .transpose()
    }

    /// The option as one of `choices`: the index of its value, or of `default` where it is missing.
    pub fn choice(&self, name: &str, choices: &[&str], default: usize) -> Result<usize> {
        let Some(text) = self.get(name) else { return Ok(default) };
        choices.iter().position(|choice| *choice == text).ok_or_else(|| {
            let known = choices.join("', '");
            Error::option(name, format!("option '{name}' = '{text}' must be one of '{known}'"))
        })
    }
}

/// A duration in Flink's notation: a number and a unit from `ns` to `d`; milliseconds without.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ns: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "ns" | "nano" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    let total = u128::from(number) * u128::from(unit_ns);
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (total % 1_000_000_000) as u32))
}

/// A number of bytes in Flink's notation: a number and a unit from `b` to `tb`, in steps of 1024; bytes
/// without.
pub fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().ok()?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" | "kibibytes" => 10,
        "m" | "mb" | "mib" | "mebibytes" => 20,
        "g" | "gb" | "gib" | "gibibytes" => 30,
        "t" | "tb" | "tib" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1_usize.checked_shl(shift)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_flink_reads_them() {
        assert_eq!(parse_duration("10 s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("5min"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("2 D"), Some(Duration::from_secs(172_800)));
        assert_eq!(parse_duration("ten s"), None);
        assert_eq!(parse_duration("10 fortnights"), None);
    }

    #[test]
    fn sizes_are_read_as_flink_reads_them() {
        assert_eq!(parse_bytes("512 mb"), Some(512 << 20));
        assert_eq!(parse_bytes("64kb"), Some(64 << 10));
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("2 G"), Some(2 << 30));
        assert_eq!(parse_bytes("mb"), None);
        assert_eq!(parse_bytes("5 parsecs"), None);
        assert_eq!(parse_bytes("99999999999 tb"), None);
    }

    #[test]
    fn a_star_in_an_option_stands_for_any_text() {
        let spec = OptionSpec::new("fields.*.min", "");
        assert!(spec.matches("fields.amount.min"));
        assert!(!spec.matches("fields.amount.max") && !spec.matches("fields..min"));
    }
}
