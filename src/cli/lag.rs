//! `tidemill lag`: how far a job is behind in each partition that it reads, as its consumer group says.
//! Works from the job file alone, whether the job runs or not.

use std::sync::Arc;

use clap::Args;
use parking_lot::Mutex;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_kafka::KafkaFactory;
use tidemill_kafka::lag::{self, GroupLag};

use super::output::{out, outln};
use super::{Failure, JobFileArgs, OutputFormat, connectors};

/// `tidemill lag`.
#[derive(Debug, Args)]
pub struct LagArgs {
    #[command(flatten)]
    file: JobFileArgs,
    /// Who the output is for.
    #[arg(short, long, default_value = "text")]
    pub output: OutputFormat,
}

pub fn run(args: &LagArgs) -> Result<(), Failure> {
    let tables = Arc::new(Mutex::new(Vec::new()));
    let mut connectors = connectors();
    connectors.retain(|connector| connector.name() != KafkaFactory.name());
    connectors.push(Arc::new(Remembering(tables.clone())));
    let loaded = args.file.load_with(connectors)?;
    let tables = tables.lock();
    if tables.is_empty() {
        let message = "the job reads no table with 'connector' = 'kafka'";
        return Err(Error::configuration(message).into());
    }
    for (n, table) in tables.iter().enumerate() {
        let group = lag::of_table(table, &loaded.settings.name)?;
        match args.output {
            OutputFormat::Json => print_json(&group)?,
            OutputFormat::Text => out!("{}{}", if n == 0 { "" } else { "\n" }, text(&group)),
        }
    }
    Ok(())
}

/// The Kafka connector; remembers the tables that the job reads.
struct Remembering(Arc<Mutex<Vec<TableSpec>>>);

impl ConnectorFactory for Remembering {
    fn name(&self) -> &'static str {
        KafkaFactory.name()
    }

    fn options(&self) -> Vec<OptionSpec> {
        KafkaFactory.options()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        let mut tables = self.0.lock();
        if tables.iter().all(|known| known.name != table.name) {
            tables.push(table.clone());
        }
        KafkaFactory.source(table)
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        KafkaFactory.sink(table)
    }
}

/// One line for each partition.
fn print_json(group: &GroupLag) -> Result<()> {
    for partition in &group.partitions {
        let mut line = serde_json::to_value(partition)
            .map_err(|error| Error::internal(format!("the lag is no JSON: {error}")))?;
        line["table"] = group.table.as_str().into();
        line["group"] = group.group.as_str().into();
        outln!("{line}");
    }
    Ok(())
}

fn text(group: &GroupLag) -> String {
    let width = group.partitions.iter().map(|lag| lag.topic.len()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{}, group {}\n{:<width$} {:>9} {:>12} {:>12} {:>12} {:>12} {:>12}\n",
        group.table,
        group.group,
        "topic",
        "partition",
        "start",
        "committed",
        "end",
        "lag",
        "lag (s)"
    );
    for lag in &group.partitions {
        let committed = lag.committed.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let records = lag.records.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let seconds = lag.seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
        text += &format!(
            "{:<width$} {:>9} {:>12} {committed:>12} {:>12} {records:>12} {seconds:>12}\n",
            lag.topic, lag.partition, lag.start, lag.end
        );
    }
    let records: u64 = group.partitions.iter().filter_map(|lag| lag.records).sum();
    let known = group.partitions.iter().filter(|lag| lag.records.is_some()).count();
    text +=
        &format!("{records} records behind in {known} of {} partitions", group.partitions.len());
    if known < group.partitions.len() {
        text += "; of the others the group has no offset: jobs commit theirs with each checkpoint";
    }
    text + "\n"
}
