//! The `kafka` connector of SQL.

use std::sync::Arc;

use tidemill_core::Result;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, GroupLag, OptionSpec, TableSpec};

use crate::source::{self, KafkaSource};
use crate::{client, lag, sink};

/// Makes sources and sinks of tables with `'connector' = 'kafka'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct KafkaFactory;

/// What sources and sinks both take: the topic, and how keys and values are written down.
pub(crate) const COMMON: [OptionSpec; 8] = [
    OptionSpec::new("topic", "The topic; several to read from, separated by semicolons."),
    OptionSpec::new("format", "How values are written down; the same as 'value.format'."),
    OptionSpec::new("value.format", "How values are written down."),
    OptionSpec::new("value.*", "An option of the value's format, as 'value.json.…'."),
    OptionSpec::new("value.fields-include", "ALL (default), or EXCEPT_KEY: values hold no key."),
    OptionSpec::new("key.format", "How keys are written down."),
    OptionSpec::new("key.fields", "Columns that make up the key, separated by semicolons."),
    OptionSpec::new("key.*", "'key.fields-prefix', or an option of the key's format."),
];

impl ConnectorFactory for KafkaFactory {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let formats = tidemill_formats::options();
        let formats = formats.into_iter().filter(|option| option.name != "format");
        let common = [&client::properties::OPTIONS[..], &COMMON].concat();
        let own = [&common[..], &source::config::OPTIONS, &sink::options::OPTIONS].concat();
        own.into_iter().chain(formats).collect()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(KafkaSource::of_table(table)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::options::sink(table, false)?))
    }

    fn lag(&self, table: &TableSpec, job: &str) -> Result<Option<GroupLag>> {
        lag::of_table(table, job).map(Some)
    }
}
