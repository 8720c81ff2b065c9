//! `tidemill lag`: how far a job is behind in each split that it reads, as its consumer group says. Works from
//! the job file alone, whether the job runs or not.

use std::sync::Arc;

use clap::Args;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, GroupLag, OptionSpec, SplitLag, TableSpec};
use tidemill_core::{Error, Result};

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
    let tables = Tables::default();
    let remembering = connectors().into_iter().map(|connector| {
        Arc::new(Remembering { connector, tables: tables.clone() }) as Arc<dyn ConnectorFactory>
    });
    let loaded = args.file.load_with(remembering.collect())?;
    let mut count = 0;
    for (connector, table) in tables.lock().iter() {
        let Some(group) = connector.lag(table, &loaded.settings.name)? else { continue };
        match args.output {
            OutputFormat::Json => print_json(&table.name, &group),
            OutputFormat::Text => {
                out!("{}{}", if count == 0 { "" } else { "\n" }, text(&table.name, &group));
            }
        }
        count += 1;
    }
    if count == 0 {
        let message = "the job reads no table that is read by a consumer group, as those with \
                       'connector' = 'kafka' or 'redis-stream' are";
        return Err(Error::configuration(message).into());
    }
    Ok(())
}

/// The tables that the job reads, and what reads them.
type Tables = Arc<Mutex<Vec<(Arc<dyn ConnectorFactory>, TableSpec)>>>;

/// A connector; remembers the tables that the job reads.
struct Remembering {
    connector: Arc<dyn ConnectorFactory>,
    tables: Tables,
}

impl ConnectorFactory for Remembering {
    fn name(&self) -> &'static str {
        self.connector.name()
    }

    fn options(&self) -> Vec<OptionSpec> {
        self.connector.options()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        let mut tables = self.tables.lock();
        if tables.iter().all(|(_, known)| known.name != table.name) {
            tables.push((self.connector.clone(), table.clone()));
        }
        self.connector.source(table)
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        self.connector.sink(table)
    }
}

/// One line for each split. Offsets that are numbers are numbers.
fn print_json(table: &str, group: &GroupLag) {
    let offset = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    for lag in &group.splits {
        let line = json!({
            "table": table,
            "group": group.group,
            "split": lag.split,
            "start": offset(&lag.start),
            "committed": lag.committed.as_deref().map(offset),
            "end": offset(&lag.end),
            "records": lag.records,
            "seconds": lag.seconds,
            "pending": lag.pending,
        });
        outln!("{line}");
    }
}

fn text(table: &str, group: &GroupLag) -> String {
    let split_width = group.splits.iter().map(|lag| lag.split.len()).max().unwrap_or(0).max(5);
    let offsets = |lag: &SplitLag| [&lag.start, &lag.end].map(String::len).into_iter().max();
    let width = group.splits.iter().filter_map(offsets).max().unwrap_or(0).max(12);
    let has_pending = group.splits.iter().any(|lag| lag.pending.is_some());
    let pending = |text: &str| if has_pending { format!(" {text:>9}") } else { String::new() };
    let mut text = format!(
        "{table}, group {}\n{:<split_width$} {:>width$} {:>width$} {:>width$} {:>12} {:>12}{}\n",
        group.group,
        "split",
        "start",
        "committed",
        "end",
        "lag",
        "lag (s)",
        pending("pending")
    );
    let unknown = || "-".to_owned();
    for lag in &group.splits {
        let committed = lag.committed.clone().unwrap_or_else(unknown);
        let records = lag.records.map_or_else(unknown, |n| n.to_string());
        let seconds = lag.seconds.map_or_else(unknown, |s| format!("{s:.1}"));
        let waiting = pending(&lag.pending.map_or_else(unknown, |n| n.to_string()));
        text += &format!(
            "{:<split_width$} {:>width$} {committed:>width$} {:>width$} {records:>12} {seconds:>12}{waiting}\n",
            lag.split, lag.start, lag.end
        );
    }
    let records: u64 = group.splits.iter().filter_map(|lag| lag.records).sum();
    let known = group.splits.iter().filter(|lag| lag.records.is_some()).count();
    text += &format!("{records} records behind in {known} of {} splits", group.splits.len());
    if known < group.splits.len() {
        text += "; of the others the group has no offset: jobs commit theirs with each checkpoint";
    }
    text + "\n"
}
