//! Watermarks: of a split (what lateness is judged by), and of an operator (what fires windows).
//!
//! A split's watermark is a function of the split's rows alone. An operator's is the minimum over
//! its inputs that are not idle, and never decreases.

use std::time::Duration;

use arrow::array::{Array, Int64Array};
use serde::{Deserialize, Serialize};

use crate::time::{BEGINNING, END_OF_TIME, EventTime, TimeRange};

/// Rows that are judged together by their least and greatest time. Measured: of fewer each costs more; more of
/// them cannot be judged together as often, and have to be looked at again.
const GROUP: usize = 128;

/// Where that fails for so few, each row is looked at.
const FEW: usize = 16;

/// How a source's watermark follows its event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkStrategy {
    /// How far behind the newest row of its split a row may be, in microseconds.
    pub bound: i64,
    /// A split without a row for so long does not hold the watermark. `None`: it always does.
    pub idle_after: Option<Duration>,
    /// A row so far ahead (microseconds) of both the wall clock and its split's neighbours is a dead
    /// letter.
    pub max_future: i64,
}

impl WatermarkStrategy {
    /// The default [`WatermarkStrategy::max_future`]: one day.
    pub const MAX_FUTURE: i64 = 86_400_000_000;

    /// Rows are at most `bound` microseconds out of order within their split.
    pub fn bounded(bound: i64) -> Self {
        Self { bound, idle_after: None, max_future: Self::MAX_FUTURE }
    }
}

/// A split's watermark: part of every checkpoint, beside the split's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitWatermark {
    /// The largest event time so far.
    newest: Option<EventTime>,
    /// The row that the future guard rejected last: one that agrees with it is believed.
    rejected: Option<EventTime>,
}

/// What a split's watermark says about a batch of rows.
#[derive(Debug, Default)]
pub struct Observed {
    /// See [`crate::element::Batch::floor`].
    pub floor: Option<Int64Array>,
    /// Rows that the future guard rejects, ascending.
    pub rejected: Vec<usize>,
    /// The range of the times, rejected ones included; `None` where there are none, or nulls among
    /// them.
    pub range: Option<TimeRange>,
}

impl SplitWatermark {
    /// No row of the split below this will be counted in a window that ends by then.
    pub fn watermark(&self, strategy: &WatermarkStrategy) -> EventTime {
        self.newest.map_or(BEGINNING, |newest| newest.saturating_sub(strategy.bound))
    }

    /// Takes the event times of the split's next rows (nulls move nothing).
    pub fn observe(
        &mut self,
        times: &Int64Array,
        strategy: &WatermarkStrategy,
        now: EventTime,
    ) -> Observed {
        if times.null_count() > 0 || times.is_empty() {
            return self.observe_rows(times, strategy, now);
        }
        let (range, on_time) = self.scan(times.values(), strategy.bound);
        let plausible = range.max <= now.saturating_add(strategy.max_future)
            || self.newest.is_some_and(|n| range.max <= n.saturating_add(strategy.max_future));
        if plausible && on_time {
            self.newest = Some(self.newest.map_or(range.max, |newest| newest.max(range.max)));
            return Observed { range: Some(range), ..Observed::default() };
        }
        Observed { range: Some(range), ..self.observe_rows(times, strategy, now) }
    }

    /// The range of the times, and whether none of them is behind the watermark that the rows before it have
    /// raised: in one pass, group by group.
    fn scan(&self, times: &[EventTime], bound: i64) -> (TimeRange, bool) {
        let mut newest = self.newest.unwrap_or(BEGINNING);
        let (mut all, mut on_time) = (TimeRange::EMPTY, true);
        for group in times.chunks(GROUP) {
            let range = TimeRange::EMPTY.with(group);
            on_time = on_time && all_on_time(group, range, newest, bound);
            newest = newest.max(range.max);
            all = all.and(range);
        }
        (all, on_time)
    }

    /// Row by row: some row is behind the watermark, or suspiciously far ahead.
    fn observe_rows(
        &mut self,
        times: &Int64Array,
        strategy: &WatermarkStrategy,
        now: EventTime,
    ) -> Observed {
        let mut observed = Observed::default();
        let mut floors = Vec::with_capacity(times.len());
        let mut behind = false;
        for row in 0..times.len() {
            let floor = self.watermark(strategy);
            floors.push(floor);
            if times.is_null(row) {
                continue;
            }
            let time = times.value(row);
            behind |= time < floor;
            if self.is_absurd(time, strategy, now) {
                self.rejected = Some(time);
                observed.rejected.push(row);
            } else {
                self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
            }
        }
        observed.floor = behind.then(|| floors.into());
        observed
    }

    /// The future guard: far ahead of the wall clock and of the rows before it.
    fn is_absurd(&self, time: EventTime, strategy: &WatermarkStrategy, now: EventTime) -> bool {
        let ahead_of = |of: EventTime| time > of.saturating_add(strategy.max_future);
        ahead_of(now)
            && self.newest.is_none_or(ahead_of)
            && self.rejected.is_none_or(|r| time.abs_diff(r) > strategy.max_future as u64)
    }
}

/// Whether no row is behind the watermark that the rows before it raise, `newest` being the largest time
/// before them, and `range` their own. Where the least is not behind what the greatest raises the watermark
/// to, none is; else each half may tell.
fn all_on_time(times: &[EventTime], range: TimeRange, newest: EventTime, bound: i64) -> bool {
    if range.min >= newest.max(range.max).saturating_sub(bound) {
        return true;
    }
    if times.len() <= FEW {
        return each_on_time(times, newest, bound);
    }
    let (earlier, later) = times.split_at(times.len() / 2);
    let [first, second] = [earlier, later].map(|half| TimeRange::EMPTY.with(half));
    all_on_time(earlier, first, newest, bound)
        && all_on_time(later, second, newest.max(first.max), bound)
}

/// The same, row by row.
fn each_on_time(times: &[EventTime], mut newest: EventTime, bound: i64) -> bool {
    let mut behind = false;
    for time in times {
        behind |= *time < newest.saturating_sub(bound);
        newest = newest.max(*time);
    }
    !behind
}

/// The minimum watermark over an operator's inputs.
#[derive(Debug, Clone)]
pub struct WatermarkMerge {
    inputs: Vec<InputState>,
    merged: EventTime,
}

#[derive(Debug, Clone, Copy)]
struct InputState {
    watermark: EventTime,
    idle: bool,
    ended: bool,
}

impl WatermarkMerge {
    /// `inputs` inputs that have seen nothing.
    pub fn new(inputs: usize) -> Self {
        let state = InputState { watermark: BEGINNING, idle: false, ended: false };
        Self { inputs: vec![state; inputs], merged: BEGINNING }
    }

    /// The merged watermark. Never decreases.
    pub fn watermark(&self) -> EventTime {
        self.merged
    }

    /// Starts at what an earlier run had already promised.
    pub fn start_at(&mut self, watermark: EventTime) {
        self.merged = self.merged.max(watermark);
    }

    /// Adds an input that has seen nothing: it holds the merged watermark where that is.
    pub fn add_input(&mut self) {
        self.inputs.push(InputState { watermark: BEGINNING, idle: false, ended: false });
    }

    /// Input `input` has risen to `watermark`.
    pub fn advance(&mut self, input: usize, watermark: EventTime) {
        let state = &mut self.inputs[input];
        state.watermark = state.watermark.max(watermark);
        state.idle = false;
    }

    /// Input `input` is silent.
    pub fn idle(&mut self, input: usize) {
        self.inputs[input].idle = true;
    }

    /// Input `input` has something again.
    pub fn wake(&mut self, input: usize) {
        self.inputs[input].idle = false;
    }

    /// Input `input` has ended.
    pub fn end(&mut self, input: usize) {
        self.inputs[input].ended = true;
    }

    /// Whether `input` is silent.
    pub fn is_idle(&self, input: usize) -> bool {
        self.inputs[input].idle
    }

    /// Whether nothing comes now, although something may: of the inputs that have not ended there is
    /// at least one, and all are silent.
    pub fn all_idle(&self) -> bool {
        let mut live = self.inputs.iter().filter(|input| !input.ended).peekable();
        live.peek().is_some() && live.all(|input| input.idle)
    }

    /// What the merged watermark would rise to, were it raised now: the minimum over the inputs that
    /// are neither idle nor at their end; the maximum over the idle ones where there are no others,
    /// since none of them holds it then; the end of time when all have ended.
    pub fn candidate(&self) -> EventTime {
        let watermarks = |idle: bool| {
            let live = self.inputs.iter().filter(move |input| !input.ended && input.idle == idle);
            live.map(|input| input.watermark)
        };
        watermarks(false).min().or_else(|| watermarks(true).max()).unwrap_or(END_OF_TIME)
    }

    /// Raises the merged watermark as far as the inputs allow; returns it where it rose.
    pub fn raise(&mut self) -> Option<EventTime> {
        let candidate = self.candidate();
        (candidate > self.merged).then(|| {
            self.merged = candidate;
            candidate
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = WatermarkStrategy::MAX_FUTURE;

    /// Feeds `times` in chunks and returns floors and rejects by row.
    fn run(times: &[Option<i64>], chunk: usize, now: i64) -> (Vec<Option<i64>>, Vec<usize>) {
        let strategy = WatermarkStrategy::bounded(10);
        let mut split = SplitWatermark::default();
        let (mut late, mut rejected) = (vec![], vec![]);
        for (n, part) in times.chunks(chunk).enumerate() {
            let seen = split.observe(&Int64Array::from(part.to_vec()), &strategy, now);
            for (row, time) in part.iter().enumerate() {
                let floor = seen.floor.as_ref().map(|floor| floor.value(row));
                late.push(floor.filter(|floor| time.is_some_and(|time| time < *floor)));
            }
            rejected.extend(seen.rejected.iter().map(|row| n * chunk + row));
        }
        (late, rejected)
    }

    #[test]
    fn lateness_is_a_property_of_the_sequence_not_of_the_batches() {
        let times: Vec<_> =
            [5, 30, 19, 20, 21, 100, 89, 90, 60, 101].iter().map(|t| Some(*t)).collect();
        let expected = run(&times, 1, 0);
        assert_eq!(expected.0[2], Some(20));
        assert_eq!(expected.0[3], None);
        assert_eq!((expected.0[6], expected.0[8]), (Some(90), Some(90)));
        for chunk in 2..=times.len() {
            assert_eq!(run(&times, chunk, 0), expected, "chunks of {chunk}");
        }
    }

    #[test]
    fn batches_of_any_length_judge_as_row_by_row_does() {
        let seeds = std::env::var("TIDEMILL_SEED_COUNT").ok().and_then(|n| n.parse().ok());
        for seed in 1..=seeds.unwrap_or(200u64) {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut below = |n: i64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) as i64).rem_euclid(n)
            };
            let spread = 1 + below(25);
            let absurd = below(2) == 0;
            let time = |row: i64, below: &mut dyn FnMut(i64) -> i64| match below(200) {
                0 if absurd => Some(5 * DAY + below(3) * DAY),
                1 if absurd => None,
                _ => Some(row / 4 - below(spread)),
            };
            let times: Vec<_> = (0..600).map(|row| time(row, &mut below)).collect();
            let expected = run(&times, 1, 0);
            for chunk in [2, 15, 16, 17, 33, 100, 127, 128, 129, 600] {
                assert_eq!(run(&times, chunk, 0), expected, "seed {seed}, chunks of {chunk}");
            }
        }
    }

    #[test]
    fn the_range_of_a_batch_is_that_of_its_times() {
        for length in [1, 3, 4, 5, 32, 70, 300] {
            let times: Vec<i64> = (0..length).map(|n| (n * 37 % 71) - 20).collect();
            let strategy = WatermarkStrategy::bounded(1000);
            let range = TimeRange::of(&times);
            let (min, max) = (times.iter().min().copied(), times.iter().max().copied());
            assert_eq!(range.map(|r| (r.min, r.max)), min.zip(max), "{length} times");
            let seen = SplitWatermark::default().observe(&times.into(), &strategy, 0);
            assert_eq!(seen.range, range, "{length} times");
        }
        assert_eq!(TimeRange::of(&[]), None);
    }

    #[test]
    fn a_lone_row_from_the_far_future_is_rejected_and_moves_nothing() {
        let times =
            [Some(1), Some(5 * DAY), None, Some(2), Some(9 * DAY), Some(9 * DAY + 1), Some(3)];
        for chunk in 1..=times.len() {
            let (late, rejected) = run(&times, chunk, 0);
            assert_eq!(rejected, [1, 4], "chunks of {chunk}");
            assert_eq!(late[3], None);
            assert_eq!(late[6], Some(9 * DAY + 1 - 10), "two that agree are believed");
        }
        let (_, rejected) = run(&[Some(9 * DAY)], 1, 9 * DAY);
        assert!(rejected.is_empty(), "the wall clock agrees");
    }

    #[test]
    fn the_merged_watermark_is_the_minimum_and_never_decreases() {
        let mut merge = WatermarkMerge::new(2);
        merge.advance(0, 10);
        assert_eq!(merge.raise(), None);
        merge.advance(1, 5);
        assert_eq!(merge.raise(), Some(5));
        merge.idle(1);
        assert_eq!(merge.raise(), Some(10));
        merge.wake(1);
        merge.advance(1, 7);
        assert_eq!((merge.raise(), merge.watermark()), (None, 10));
        merge.end(1);
        assert_eq!(merge.raise(), None);
        merge.end(0);
        assert_eq!(merge.raise(), Some(END_OF_TIME));
    }

    #[test]
    fn an_input_that_has_ended_neither_holds_the_others_nor_pulls_them_along() {
        let mut merge = WatermarkMerge::new(2);
        merge.advance(1, 5);
        merge.end(0);
        assert_eq!(merge.raise(), Some(5));
        merge.idle(1);
        assert_eq!((merge.raise(), merge.all_idle()), (None, true));
        merge.advance(1, 7);
        assert_eq!(merge.raise(), Some(7));
        merge.end(1);
        assert_eq!((merge.raise(), merge.all_idle()), (Some(END_OF_TIME), false));
    }

    #[test]
    fn when_all_inputs_are_silent_none_of_them_holds_the_watermark() {
        let mut merge = WatermarkMerge::new(2);
        merge.advance(0, 10);
        merge.advance(1, 20);
        merge.idle(1);
        assert_eq!(merge.raise(), Some(10));
        merge.idle(0);
        assert_eq!((merge.raise(), merge.all_idle()), (Some(20), true));
    }
}
