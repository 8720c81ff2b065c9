//! The batch oracle of totals per user and ten seconds: reads back what a server holds of the input and
//! computes in plain Rust, row by row, what the job must put out, then compares that with what the
//! server holds of the output.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::clicks::millis;

/// Partitions that a server keeps, read without Tidemill.
pub trait Log {
    /// Passes on every record: partition by partition in order, the partitions interleaved.
    fn each(&self, take: impl FnMut(usize, &[u8]));
}

/// The watermark's bound and the windows' size, in milliseconds.
const BOUND: i64 = 2_000;
const SIZE: i64 = 10_000;

/// A window's start and a user.
type Group = (i64, i64);

/// How many clicks, and the sum of their amounts.
pub type Totals = (i64, i64);

#[derive(Deserialize)]
struct Click {
    user_id: i64,
    ts: String,
    amount: i64,
}

/// A result as the job writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Result {
    window_start: String,
    user_id: i64,
    n: i64,
    total: i64,
}

/// What the job must make of its input.
#[derive(Default)]
pub struct Expected {
    groups: BTreeMap<Group, Totals>,
    /// The newest event time of each partition.
    newest: BTreeMap<usize, i64>,
    pub records: u64,
    pub counted: u64,
    pub late: u64,
    pub filtered: u64,
    pub dead_letters: u64,
}

impl Expected {
    /// Of all that the input holds.
    pub fn of(input: &impl Log) -> Self {
        let mut expected = Self::default();
        input.each(|partition, payload| expected.record(partition, payload));
        expected
    }

    /// Without the windows that are still open: those that end behind what the slowest partition has
    /// reached.
    #[must_use]
    pub fn fired(mut self) -> Self {
        let slowest = self.newest.values().min().map_or(i64::MIN, |newest| newest - BOUND);
        self.groups.retain(|(start, _), _| start + SIZE <= slowest);
        self
    }

    /// How many results.
    pub fn results(&self) -> usize {
        self.groups.len()
    }

    /// That these are the counts of all results, by window and user.
    pub fn assert_numbers(&self, found: BTreeMap<(String, i64), i64>, context: &str) {
        let key = |(start, user): &(String, i64)| {
            (millis(start).unwrap_or_else(|| panic!("{start}")), *user)
        };
        let found: BTreeMap<Group, i64> = found.iter().map(|(of, n)| (key(of), *n)).collect();
        let lost = self.groups.keys().filter(|group| !found.contains_key(group));
        none(lost, "are lost", context);
        let number = |group| self.groups.get(group).map(|totals| totals.0);
        let wrong = found.iter().filter(|(group, n)| number(*group) != Some(**n));
        none(wrong.map(|wrong| (wrong, number(wrong.0))), "are wrong", context);
    }

    fn record(&mut self, partition: usize, payload: &[u8]) {
        self.records += 1;
        let Ok(click) = serde_json::from_slice::<Click>(payload) else {
            self.dead_letters += 1;
            return;
        };
        let ts = millis(&click.ts).unwrap();
        // Raised by the rows before this one in its partition.
        let newest = self.newest.get(&partition).copied();
        let watermark = newest.map_or(i64::MIN, |newest| newest - BOUND);
        self.newest.insert(partition, newest.map_or(ts, |newest| newest.max(ts)));
        let start = ts - ts.rem_euclid(SIZE);
        if click.amount == 0 {
            self.filtered += 1;
        } else if start + SIZE <= watermark {
            self.late += 1;
        } else {
            self.counted += 1;
            let group = self.groups.entry((start, click.user_id)).or_default();
            *group = (group.0 + 1, group.1 + click.amount);
        }
    }
}

/// What the job has made of it: every result, as often as it is there.
#[derive(Default)]
pub struct Found {
    groups: BTreeMap<Group, Vec<Totals>>,
    results: usize,
}

impl Found {
    /// All that the output holds, results being JSON.
    pub fn in_log(output: &impl Log) -> Self {
        let mut found = Self::default();
        output.each(|_, payload| found.result(payload));
        found
    }

    fn result(&mut self, payload: &[u8]) {
        let read = |e| panic!("{e}: {}", String::from_utf8_lossy(payload));
        let result: Result = serde_json::from_slice(payload).unwrap_or_else(read);
        self.add(&result.window_start, result.user_id, (result.n, result.total));
    }

    /// One more result: of a window by its start, and a user.
    pub fn add(&mut self, window_start: &str, user: i64, totals: Totals) {
        let start = millis(window_start).unwrap_or_else(|| panic!("{window_start}"));
        self.groups.entry((start, user)).or_default().push(totals);
        self.results += 1;
    }

    /// Results beyond the first of a group, for every result there must be.
    pub fn duplicate_ratio(&self) -> f64 {
        (self.results - self.groups.len()) as f64 / self.groups.len().max(1) as f64
    }

    /// That every result is there once and right, and no other.
    pub fn assert_exact(&self, expected: &Expected, context: &str) {
        self.assert_complete(expected, context);
        let mut twice = self.groups.iter().filter(|(_, totals)| totals.len() > 1);
        let example = twice.next();
        let many = example.map_or(0, |_| 1 + twice.count());
        assert!(
            many == 0,
            "{context}: {many} results are there more than once, such as {example:?}"
        );
    }

    /// That every result is there and right, if perhaps several times, and no other.
    pub fn assert_complete(&self, expected: &Expected, context: &str) {
        let lost = expected.groups.iter().filter(|(group, _)| !self.groups.contains_key(group));
        none(lost, "are lost", context);
        let foreign = self.groups.iter().filter(|(group, _)| !expected.groups.contains_key(group));
        none(foreign, "should not be there", context);
        let right = |group: &Group, found: &[Totals]| {
            found.iter().all(|totals| *totals == expected.groups[group])
        };
        let wrong = self.groups.iter().filter(|(group, found)| !right(group, found));
        none(wrong.map(|wrong| (wrong, expected.groups[wrong.0])), "are wrong", context);
    }
}

/// That there are none of these results.
fn none<T: std::fmt::Debug>(results: impl Iterator<Item = T>, what: &str, context: &str) {
    let results: Vec<T> = results.collect();
    if let (Some(first), Some(last)) = (results.first(), results.last()) {
        panic!("{context}: {} results {what}, from {first:?} to {last:?}", results.len());
    }
}
