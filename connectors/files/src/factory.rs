//! The `filesystem` connector of SQL.

use std::sync::Arc;

use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_formats::Format;

use crate::constants::Plan;
use crate::location::Location;
use crate::sink::FileSink;
use crate::source::{FileFormat, FormattedFiles};

/// Makes file sources and sinks of tables with `'connector' = 'filesystem'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct FilesFactory;

impl ConnectorFactory for FilesFactory {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let mut options = vec![
            OptionSpec::new("path", "A file, a folder with all below it, or a glob."),
            OptionSpec::new("source.monitor-interval", "Not supported: the files are read once."),
        ];
        options.extend(tidemill_formats::options().into_iter().filter(|o| o.name != "format"));
        options.push(OptionSpec::new("format", "What is in the files: csv, json, parquet, raw."));
        options
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        if table.options.get("source.monitor-interval").is_some() {
            let message = "watching a folder for new files is not supported: its files are read \
                           once, and the job ends; remove 'source.monitor-interval'";
            return Err(Error::option("source.monitor-interval", message));
        }
        let location = Location::parse(table.options.required("path")?)?;
        let plan =
            Plan { metadata: table.metadata.clone(), partitions: table.partitioned_by.clone() };
        let files = FormattedFiles::new(location, format(table)?, table.schema.clone(), plan);
        files.check()?;
        Ok(Arc::new(files))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let location = Location::parse(table.options.required("path")?)?;
        if location.path().is_file() {
            let message = format!(
                "a sink writes part files into a folder, and {} is a file",
                location.path().display()
            );
            return Err(Error::option("path", message));
        }
        if !table.metadata.is_empty() {
            let message = "a file sink has no metadata columns to write: declare them VIRTUAL";
            return Err(Error::configuration(message));
        }
        if table.partitioned_by.len() == table.schema.fields().len() {
            let message = "PARTITIONED BY leaves no column for the files themselves";
            return Err(Error::configuration(message));
        }
        let format = format(table)?;
        if let FileFormat::Text(format) = &format {
            let plan = Plan { metadata: Vec::new(), partitions: table.partitioned_by.clone() };
            let stored = plan.stored(&table.schema);
            format.check_lines(&stored)?;
            format.encoder(stored)?;
        }
        let sink = FileSink::new(location.path()).format(format).columns(&table.schema);
        Ok(Arc::new(sink.partitioned_by(table.partitioned_by.clone())))
    }
}

fn format(table: &TableSpec) -> Result<FileFormat> {
    match table.options.required("format")? {
        "parquet" => Ok(FileFormat::Parquet),
        name if tidemill_formats::NAMES.contains(&name) => {
            Ok(FileFormat::Text(Format::parse(name, &table.options)?))
        }
        name => Err(Error::option(
            "format",
            format!("format '{name}' is not known: use 'csv', 'json', 'parquet' or 'raw'"),
        )),
    }
}
