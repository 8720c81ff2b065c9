//! A source whose rows are numbered and made on demand.
//!
//! First link of the data path. Row `n` belongs to split `n % splits`, so the splits interleave;
//! an offset is the number of the next row. A source that takes its time from the wall clock
//! notes in its offsets when it began, so that a row read again has the same time.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::element::Epoch;
use tidemill_core::need::Need;
use tidemill_core::source::{Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::{Options, TableSpec};
use tidemill_core::time::Clock;
use tidemill_core::{Error, EventTime, Result};

/// Numbers that a read looks at per row asked for: where most do not exist (rows of a rare kind),
/// a read comes back early rather than holding up its shard.
const NUMBERS_PER_ROW_MAX: usize = 64;

/// How a numbered row is made.
pub(crate) trait Recipe: Send + Sync {
    /// The columns.
    fn schema(&self) -> SchemaRef;

    /// Drops the numbers that there is no row of.
    fn retain(&self, numbers: &mut Vec<u64>);

    /// The rows of these numbers, when row 0 is at `base`. A pure function.
    fn rows(&self, numbers: &[u64], base: EventTime) -> Result<RecordBatch>;

    /// The recipe of the same rows where no more than this is looked at of their columns; `None`
    /// where that saves nothing.
    fn reading(&self, needs: &[Need]) -> Option<Arc<dyn Recipe>>;

    /// What is generated, for `explain`.
    fn describe(&self) -> String;
}

/// Which rows there are, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbering {
    /// How many splits.
    pub(crate) splits: u64,
    /// One more than the last number, where there is a last.
    pub(crate) end: Option<u64>,
    /// Numbers per second over all splits; without a limit if `None`.
    pub(crate) per_second: Option<u64>,
    /// Time of row 0; the wall clock at the start if `None`.
    pub(crate) base: Option<EventTime>,
}

/// The source.
pub(crate) struct NumberedSource {
    name: &'static str,
    numbering: Numbering,
    recipe: Arc<dyn Recipe>,
}

impl NumberedSource {
    pub(crate) fn new(name: &'static str, numbering: Numbering, recipe: Arc<dyn Recipe>) -> Self {
        Self { name, numbering, recipe }
    }

    fn split_number(&self, split: &SplitId) -> Result<u64> {
        let number = split.as_str().strip_prefix(self.name).and_then(|s| s.strip_prefix('/'));
        let number = number.and_then(|n| n.parse().ok());
        number.filter(|n| *n < self.numbering.splits).ok_or_else(|| {
            Error::option(
                "splits",
                format!(
                    "{} has no split {split}: 'splits' is {}, and must be what it was when the \
                     checkpoint was taken",
                    self.name, self.numbering.splits
                ),
            )
        })
    }

    /// Row number and base of an offset, which must lie on the split.
    fn parse(&self, offset: &Offset, split: u64) -> Option<(u64, EventTime)> {
        let (number, base) = match (offset.0.split_once('@'), self.numbering.base) {
            (Some((number, base)), None) => (number, base.parse().ok()?),
            (None, Some(base)) => (offset.0.as_str(), base),
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        (number % self.numbering.splits == split).then_some((number, base))
    }
}

impl Source for NumberedSource {
    fn schema(&self) -> SchemaRef {
        self.recipe.schema()
    }

    fn is_bounded(&self) -> bool {
        self.numbering.end.is_some()
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        let splits = 0..self.numbering.splits;
        Ok(splits.map(|n| SplitId::new(format!("{}/{n}", self.name))).collect())
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let number = self.split_number(split)?;
        let (next, base) = match from {
            None => (number, self.numbering.base.unwrap_or_else(|| context.clock.now())),
            Some(offset) => self.parse(offset, number).ok_or_else(|| {
                Error::configuration(format!(
                    "offset '{offset}' does not fit split {split}: 'splits' and 'base-time' must \
                     be what they were when the checkpoint was taken"
                ))
            })?,
        };
        let pace = self
            .numbering
            .per_second
            .map(|per_second| Pace::starting_at(next, per_second, Arc::clone(&context.clock)));
        Ok(Box::new(NumberedReader {
            recipe: Arc::clone(&self.recipe),
            split: number,
            numbering: self.numbering,
            next,
            base,
            pace,
        }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        let end = self.numbering.end.map_or("without end".to_owned(), |end| end.to_string());
        format!(
            "{} {} ({end}, {} splits)",
            self.name,
            self.recipe.describe(),
            self.numbering.splits
        )
    }

    fn reading(&self, needs: &[Need]) -> Option<Arc<dyn Source>> {
        let recipe = self.recipe.reading(needs)?;
        Some(Arc::new(Self { name: self.name, numbering: self.numbering, recipe }))
    }
}

struct NumberedReader {
    recipe: Arc<dyn Recipe>,
    split: u64,
    numbering: Numbering,
    next: u64,
    base: EventTime,
    pace: Option<Pace>,
}

impl NumberedReader {
    /// The numbers to make next, passing over those that do not exist.
    fn take(&mut self, max_rows: usize, until: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut looked_at = 0;
        while self.next < until
            && numbers.len() < max_rows
            && looked_at < max_rows.saturating_mul(NUMBERS_PER_ROW_MAX)
        {
            let mut candidates = self.candidates(max_rows - numbers.len(), until);
            looked_at += candidates.len();
            self.recipe.retain(&mut candidates);
            if numbers.is_empty() {
                numbers = candidates;
            } else {
                numbers.append(&mut candidates);
            }
        }
        numbers
    }

    /// The next numbers of the split, at most so many and below `until`.
    fn candidates(&mut self, max: usize, until: u64) -> Vec<u64> {
        let splits = self.numbering.splits;
        let left = (until - self.next).div_ceil(splits);
        let count = left.min(max as u64);
        let (first, behind) = (self.next, self.next.saturating_add(count.saturating_mul(splits)));
        self.next = behind;
        (0..count).map(|step| first + step * splits).collect()
    }
}

impl SplitReader for NumberedReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let end = self.numbering.end.unwrap_or(u64::MAX);
        if self.next >= end {
            return Ok(Read::End);
        }
        let due = self.pace.as_mut().map_or(end, |pace| pace.due(self.next).min(end));
        if self.next >= due {
            return Ok(Read::Pending);
        }
        let numbers = self.take(max_rows.max(1), due);
        let rows = match numbers.is_empty() {
            true => RecordBatch::new_empty(self.recipe.schema()),
            false => self.recipe.rows(&numbers, self.base)?,
        };
        Ok(Read::Batch(ReadBatch::clean(rows)))
    }

    fn offset(&self) -> Offset {
        Offset(match self.numbering.base {
            Some(_) => self.next.to_string(),
            None => format!("{}@{}", self.next, self.base),
        })
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let rows = |until: u64| until.saturating_sub(self.split).div_ceil(self.numbering.splits);
        self.numbering.end.map(|end| (rows(self.next.min(end)), rows(end)))
    }

    fn is_at_hand(&self) -> bool {
        self.pace.is_none()
    }
}

/// Holds a reader back to so many numbers per second.
struct Pace {
    per_second: u64,
    clock: Arc<dyn Clock>,
    /// Number `origin.0` was due at `origin.1`.
    origin: (u64, Duration),
}

impl Pace {
    fn starting_at(number: u64, per_second: u64, clock: Arc<dyn Clock>) -> Self {
        let now = clock.elapsed();
        Self { per_second, clock, origin: (number, now) }
    }

    /// Numbers below this are due. What a reader that was held up has missed beyond one second is
    /// not made up for.
    fn due(&mut self, next: u64) -> u64 {
        let now = self.clock.elapsed();
        let passed = now.saturating_sub(self.origin.1).as_micros();
        let numbers = passed * u128::from(self.per_second) / 1_000_000;
        let due = u64::try_from(numbers).map_or(u64::MAX, |n| self.origin.0.saturating_add(n));
        let due = due.saturating_add(1);
        if due.saturating_sub(next) > self.per_second.saturating_add(1) {
            self.origin = (next.saturating_add(self.per_second - 1), now);
            return self.origin.0.saturating_add(1);
        }
        due
    }
}

/// Metadata columns are refused: generated rows have none.
pub(crate) fn refuse_metadata(table: &TableSpec) -> Result<()> {
    match table.metadata.first() {
        None => Ok(()),
        Some((_, key)) => {
            let message = format!("generated rows have no metadata column '{key}'");
            Err(Error::configuration(message))
        }
    }
}

/// The option as a number of at least 1.
pub(crate) fn at_least_one(options: &Options, name: &str) -> Result<Option<u64>> {
    match options.parsed::<u64>(name)? {
        Some(0) => Err(Error::option(name, format!("option '{name}' must be at least 1"))),
        number => Ok(number),
    }
}

/// `'base-time'`: a UTC timestamp.
pub(crate) fn base_time(options: &Options) -> Result<Option<EventTime>> {
    let parse = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
    let Some(text) = options.get("base-time") else { return Ok(None) };
    let nanos = parse(text).map_err(|_| {
        Error::option(
            "base-time",
            format!("option 'base-time' = '{text}' is no time: write '2015-07-15 00:00:00' (UTC)"),
        )
    })?;
    Ok(Some(nanos.div_euclid(1_000)))
}
