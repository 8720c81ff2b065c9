//! `'connector' = 'datagen'`: rows of random and sequential values, with Flink's options.
//!
//! Options are checked here, when the job is planned; [`column`] makes the values.

mod column;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::need::Need;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, EventTime, Result};

use crate::numbered::{
    NumberedSource, Numbering, Recipe, at_least_one, base_time, refuse_metadata,
};
use column::{Column, FieldOptions};

/// Rows per second where `'rows-per-second'` is not set, as in Flink.
const ROWS_PER_SECOND: u64 = 10_000;

/// Makes sources of random and sequential rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatagenFactory;

impl ConnectorFactory for DatagenFactory {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let option = OptionSpec::new;
        vec![
            option("rows-per-second", "Rows generated per second over all splits; default 10000."),
            option("number-of-rows", "Rows in all; without it (or a sequence) there is no end."),
            option("fields.*.kind", "'random' (default) or 'sequence'."),
            option("fields.*.min", "Smallest random number; default the smallest of the type."),
            option("fields.*.max", "Largest random number; default the largest of the type."),
            option("fields.*.length", "Characters or bytes of a random value; default 100."),
            option("fields.*.start", "First number of a sequence."),
            option("fields.*.end", "Last number of a sequence: the source ends with it."),
            option("fields.*.null-rate", "Share of nulls, from 0 to 1; default 0."),
            option("fields.*.max-past", "Random timestamps go back so far; default 0."),
            option("seed", "Another seed, other random values; default 0."),
            option("splits", "Splits that can be read in parallel; default 1."),
            option("scan.parallelism", "Flink's name for 'splits'."),
            option(
                "base-time",
                "Time of the first row (UTC); default the wall clock at the start.",
            ),
        ]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        refuse_metadata(table)?;
        refuse_unknown_fields(table)?;
        let options = &table.options;
        let per_second = at_least_one(options, "rows-per-second")?.unwrap_or(ROWS_PER_SECOND);
        let seed = options.parsed("seed")?.unwrap_or(0);
        let mut end = options.parsed::<u64>("number-of-rows")?;
        let mut columns = Vec::with_capacity(table.schema.fields().len());
        for (number, field) in table.schema.fields().iter().enumerate() {
            let field_options = FieldOptions::of(options, field.name());
            let column = Column::new(field, &field_options, seed, number as u64)?;
            end = [end, column.rows()].into_iter().flatten().min();
            columns.push(column);
        }
        let splits = match at_least_one(options, "splits")? {
            Some(splits) => splits,
            None => at_least_one(options, "scan.parallelism")?.unwrap_or(1),
        };
        let base = base_time(options)?;
        let numbering = Numbering { splits, end, per_second: Some(per_second), base };
        let recipe = Datagen { schema: table.schema.clone(), columns, per_second };
        Ok(Arc::new(NumberedSource::new("datagen", numbering, Arc::new(recipe))))
    }

    fn sink(&self, _: &TableSpec) -> Result<Arc<dyn Sink>> {
        Err(Error::option(
            "connector",
            "'datagen' only generates rows: nothing can be written to it",
        ))
    }
}

/// An option for a column that the table does not have is a slip of the pen.
fn refuse_unknown_fields(table: &TableSpec) -> Result<()> {
    let names: BTreeSet<&str> = table.schema.fields().iter().map(|f| f.name().as_str()).collect();
    for (option, _) in table.options.iter() {
        let field = option.strip_prefix("fields.").and_then(|rest| rest.rsplit_once('.'));
        if let Some((field, _)) = field
            && !names.contains(field)
        {
            let known = names.iter().copied().collect::<Vec<_>>().join("', '");
            return Err(Error::option(
                option,
                format!("option '{option}': there is no column '{field}' (there is: '{known}')"),
            ));
        }
    }
    Ok(())
}

struct Datagen {
    schema: SchemaRef,
    columns: Vec<Column>,
    per_second: u64,
}

impl Recipe for Datagen {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn retain(&self, _: &mut Vec<u64>) {}

    fn rows(&self, numbers: &[u64], base: EventTime) -> Result<RecordBatch> {
        let times: Vec<EventTime> =
            numbers.iter().map(|number| time_of(*number, base, self.per_second)).collect();
        let arrays = self.columns.iter().map(|column| column.array(numbers, &times));
        Ok(RecordBatch::try_new(self.schema.clone(), arrays.collect::<Result<_>>()?)?)
    }

    fn reading(&self, _: &[Need]) -> Option<Arc<dyn Recipe>> {
        None
    }

    fn describe(&self) -> String {
        format!("{} columns, {} rows/s", self.columns.len(), self.per_second)
    }
}

/// When a row is due, had the source run without a pause since `base`.
fn time_of(number: u64, base: EventTime, per_second: u64) -> EventTime {
    let since = u128::from(number) * 1_000_000 / u128::from(per_second);
    i64::try_from(since).map_or(EventTime::MAX, |since| base.saturating_add(since))
}
