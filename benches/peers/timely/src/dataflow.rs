//! The windowed aggregation as a timely dataflow.
//!
//! ```text
//! worker's share of the batches ─▶ exchange by key ─▶ tables of the open slices ─▶ checksum
//! ```
//!
//! Timely's timestamps are the number of the slice that the watermark lies in, counted from one below the
//! first: a frontier closes all windows whose slices are below it. Invariant: a worker's input never advances past
//! a row that it has yet to send.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use timely::Config;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::{Input, Operator};
use timely::worker::Worker;

use crate::DISORDER;
use crate::checksum::Checksum;
use crate::columns::Columns;
use crate::group::Group;
use crate::slices::{Slices, Windows};

type Row<G> = (i64, i64, <G as Group>::Value);

/// Groups the rows, dealt out to so many workers.
pub fn run<G: Group>(
    rows: &Arc<Columns>,
    windows: Windows,
    workers: usize,
) -> Result<Checksum, String> {
    let config = if workers == 1 { Config::thread() } else { Config::process(workers) };
    let rows = rows.clone();
    let guards = timely::execute(config, move |worker| work::<G>(worker, &rows, windows))?;
    let mut total = Checksum::default();
    for results in guards.join() {
        total.merge(&results?);
    }
    Ok(total)
}

/// One worker: sends its share of the batches, and groups the keys that are its own.
fn work<G: Group>(worker: &mut Worker, all: &Columns, windows: Windows) -> Checksum {
    let slices = Rc::new(RefCell::new(Slices::<G>::new(windows)));
    let mut input = InputHandle::new();
    let mine = slices.clone();
    worker.dataflow::<u64, _, _>(|scope| {
        let by_key = Exchange::new(|row: &Row<G>| spread(row.0));
        scope.input_from(&mut input).container::<Vec<Row<G>>>().unary_frontier(
            by_key,
            "windows",
            move |_, _| {
                move |(rows, frontier), _output: &mut Nothing<'_>| {
                    let mut slices = mine.borrow_mut();
                    rows.for_each(|_, rows| {
                        rows.drain(..).for_each(|(key, time, value)| slices.add(key, time, value));
                    });
                    let closed =
                        frontier.frontier().first().map_or(i64::MAX, |time| *time as i64 - 1);
                    slices.close_below(closed);
                }
            },
        );
    });

    let (mut newest, mut buffer) = (i64::MIN, Vec::new());
    for batch in all.batches(worker.index(), worker.peers()) {
        let (keys, times) = (&all.keys[batch.clone()], &all.times[batch.clone()]);
        let rows = keys.iter().zip(times).zip(&all.values[batch]);
        buffer.extend(rows.map(|((key, time), value)| (*key, *time, G::value(*value))));
        input.send_batch(&mut buffer);
        buffer.clear();
        newest = times.iter().fold(newest, |newest, time| newest.max(*time));
        let passed = windows.slice_of(newest - DISORDER);
        input.advance_to(timestamp(passed).max(*input.time()));
        worker.step();
    }
    input.close();
    while worker.step_or_park(None) {}
    slices.borrow().results()
}

/// What is written to an operator that has no output.
type Nothing<'a> = timely::dataflow::operators::generic::OutputBuilderSession<
    'a,
    u64,
    timely::container::CapacityContainerBuilder<Vec<()>>,
>;

/// Timely's time for a watermark in this slice. The first rows lie less than a slice before 1970.
fn timestamp(slice: i64) -> u64 {
    (slice + 1).max(0).unsigned_abs()
}

/// Which worker has a key: a multiplication scatters keys that are dense numbers.
fn spread(key: i64) -> u64 {
    (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::checksum::Aggregates;
    use crate::group::{Count, Totals};
    use crate::{HOPPING, TUMBLING};

    /// Rows of a hundred keys, out of order by less than [`DISORDER`], over three windows and one before 1970.
    fn rows() -> Columns {
        let scatter = |row: i64| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let rows = 0..250_000;
        Columns {
            keys: rows.clone().map(|row| (scatter(row) % 100) as i64).collect(),
            times: rows
                .clone()
                .map(|row| row * 100 - (scatter(row + 7) % 1_000_000) as i64)
                .collect(),
            values: rows.map(|row| scatter(row + 9) as f64 / 1e7).collect(),
        }
    }

    /// All rows grouped without any regard to time passing.
    fn expected<G: Group>(rows: &Columns, windows: Windows) -> Checksum {
        let mut groups: BTreeMap<(i64, i64), G> = BTreeMap::new();
        for ((key, time), value) in rows.keys.iter().zip(&rows.times).zip(&rows.values) {
            let first_end = (time.div_euclid(windows.slide) + 1) * windows.slide;
            for end in (0..windows.slices).map(|later| first_end + later * windows.slide) {
                groups.entry((end, *key)).or_default().add(G::value(*value));
            }
        }
        let mut total = Checksum::default();
        groups.iter().for_each(|((end, key), group)| total.add(*end, *key, &group.aggregates()));
        total
    }

    /// The part of a checksum that must be the same to the last bit.
    fn exact(checksum: &Checksum) -> String {
        let json = checksum.json();
        json.split(", \"sums\"").next().unwrap_or(&json).to_owned()
    }

    fn same_on_any_number_of_workers<G: Group>(windows: Windows) {
        let rows = Arc::new(rows());
        let expected = expected::<G>(&rows, windows);
        for workers in 1..=3 {
            let found = run::<G>(&rows, windows, workers).unwrap();
            assert_eq!(exact(&found), exact(&expected), "{workers} workers");
        }
    }

    #[test]
    fn results_are_those_of_a_plain_group_by_on_any_number_of_workers() {
        same_on_any_number_of_workers::<Totals>(TUMBLING);
        same_on_any_number_of_workers::<Count>(HOPPING);
    }

    #[test]
    fn slices_that_no_row_lies_in_do_not_keep_windows_from_closing() {
        let windows = Windows { slide: 2, slices: 3 };
        let mut slices = Slices::<Count>::new(windows);
        for time in [0, 1, 40, 41, 43] {
            slices.add(7, time, ());
            slices.close_below(windows.slice_of(time));
        }
        slices.close_below(i64::MAX);
        let mut expected = Checksum::default();
        let counts = [(2, 2), (4, 2), (6, 2), (42, 2), (44, 3), (46, 3), (48, 1)];
        for (end, count) in counts {
            expected.add(end, 7, &Aggregates { count, ..Aggregates::default() });
        }
        assert_eq!(exact(&slices.results()), exact(&expected));
    }
}
