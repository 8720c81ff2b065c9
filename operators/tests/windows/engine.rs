//! A miniature of the engine around the operators: splits on source shards, an exchange, owners,
//! barriers, and restarts from checkpoints on another number of shards.

use std::collections::VecDeque;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tidemill_core::key::{hash_rows, key_group, owner};
use tidemill_core::operator::{Fate, KeyedFactory, Operator, StateChange, StateFragment};
use tidemill_core::testing::{Collected, advance, barrier, context};
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::{Batch, EventTime, Parcel};

use crate::oracle::Outcome;
use crate::scenario::{Row, Scenario, batch};

/// On how many shards each part of the run takes place.
#[derive(Debug, Clone)]
pub struct Layout {
    pub shards: Vec<usize>,
    /// A single shard has one operator instead of two.
    pub fused: bool,
    /// Combiners have seen so many rows of which few went together that they let others pass.
    pub passing: bool,
}

/// After so many rows that do not go together a combiner of sessions lets others pass.
const PASSING_AFTER: i64 = 1 << 17;

enum Message {
    Rows(RecordBatch),
    Parcel(Parcel),
    Watermark(EventTime),
}

struct Run<'a> {
    scenario: &'a Scenario,
    factory: &'a dyn KeyedFactory,
    shards: usize,
    fused: bool,
    combiners: Vec<Box<dyn Operator>>,
    mergers: Vec<Box<dyn Operator>>,
    /// Watermark of each combiner as each merger knows it.
    watermarks: Vec<Vec<EventTime>>,
    /// From each combiner to each merger.
    channels: Vec<Vec<VecDeque<Message>>>,
    side: Collected,
    results: Collected,
}

pub fn run(scenario: &Scenario, layout: &Layout, rng: &mut ChaCha8Rng) -> Outcome {
    let factory = scenario.aggregate();
    let mut positions = vec![0; scenario.splits.len()];
    let mut state: Vec<StateFragment> = Vec::new();
    let (mut results, mut side) = (Collected::default(), Collected::default());
    let mut restored = BEGINNING;
    for (part, shards) in layout.shards.iter().enumerate() {
        let mut run = Run::new(scenario, &factory, *shards, layout.fused && *shards == 1);
        if layout.passing {
            run.let_pass();
        }
        (run.results, run.side) = (results, side);
        run.restore(state, restored);
        let last = part + 1 == layout.shards.len();
        state = run.part(&mut positions, last, rng);
        restored = run.watermarks[0].iter().copied().min().unwrap();
        (results, side) = (run.results, run.side);
    }
    let mut lines: Vec<_> = results.batches.iter().flat_map(|b| text(&b.rows)).collect();
    lines.sort();
    let late: usize = side.late.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(late, side.fate(Fate::Late), "late rows are put out");
    assert!(results.batches.iter().all(|batch| (1..=8192).contains(&batch.len())));
    Outcome {
        results: lines,
        counted: side.fate(Fate::Counted),
        late,
        dead_lettered: side.fate(Fate::DeadLettered),
    }
}

impl<'a> Run<'a> {
    fn new(
        scenario: &'a Scenario,
        factory: &'a dyn KeyedFactory,
        shards: usize,
        fused: bool,
    ) -> Self {
        let operators = |make: &dyn Fn(usize) -> Box<dyn Operator>| (0..shards).map(make).collect();
        Self {
            scenario,
            factory,
            shards,
            fused,
            combiners: if fused {
                vec![]
            } else {
                operators(&|shard| factory.combiner(&context(shard, shards)).unwrap())
            },
            mergers: operators(&|shard| {
                let context = context(shard, shards);
                if fused { factory.fused(&context) } else { factory.merger(&context) }.unwrap()
            }),
            watermarks: vec![vec![BEGINNING; shards]; shards],
            channels: (0..shards).map(|_| (0..shards).map(|_| VecDeque::new()).collect()).collect(),
            side: Collected::default(),
            results: Collected::default(),
        }
    }

    /// Shows combiners many rows, far from each other and from the scenario's; nobody sees them again.
    fn let_pass(&mut self) {
        let row = |n: i64| Row {
            time: Some(n * 1_000_000 - (1 << 52)),
            floor: BEGINNING,
            key: [Some(n), None],
            value: None,
        };
        let rows = batch(self.scenario.keys, &(0..PASSING_AFTER).map(row).collect::<Vec<_>>());
        let mut nobody = Collected::default();
        for combiner in &mut self.combiners {
            combiner.process(0, Batch::new(rows.clone()), &mut nobody).unwrap();
            barrier(combiner.as_mut(), 1, false, &mut nobody).unwrap();
        }
    }

    fn restore(&mut self, state: Vec<StateFragment>, watermark: EventTime) {
        for merger in &mut self.mergers {
            for fragment in &state {
                merger.restore(fragment.clone()).unwrap();
            }
        }
        if watermark == BEGINNING {
            return;
        }
        let before = self.results.rows();
        for operator in self.mergers.iter_mut().chain(&mut self.combiners) {
            advance(operator.as_mut(), watermark, &mut self.results).unwrap();
        }
        assert_eq!(self.results.rows(), before, "what was emitted is not emitted again");
        self.watermarks = vec![vec![watermark; self.shards]; self.shards];
    }

    /// Processes rows up to a random barrier, or to the end; returns the state.
    fn part(
        &mut self,
        positions: &mut [usize],
        last: bool,
        rng: &mut ChaCha8Rng,
    ) -> Vec<StateFragment> {
        let mut state = Vec::new();
        let mut full = true;
        let mut fused_state = vec![Vec::new(); self.shards];
        loop {
            let open: Vec<_> = (0..positions.len())
                .filter(|split| positions[*split] < self.scenario.splits[*split].len())
                .collect();
            if open.is_empty() {
                break;
            }
            let split = open[rng.random_range(0..open.len())];
            let rows = &self.scenario.splits[split][positions[split]..];
            let length = rng.random_range(1..=rows.len().min(40));
            self.feed(split % self.shards, &rows[..length]);
            positions[split] += length;
            self.raise(split % self.shards, positions);
            self.deliver(rng.random_range(0..6), rng);
            if rng.random_bool(0.15) {
                self.deliver(usize::MAX, rng);
                self.checkpoint(full || rng.random_bool(0.3), &mut fused_state, rng);
                full = false;
                if !last && rng.random_bool(0.3) {
                    state = fused_state.into_iter().flatten().collect();
                    return state;
                }
            }
        }
        if last {
            (0..self.shards).for_each(|shard| self.send_watermark(shard, END_OF_TIME));
            self.deliver(usize::MAX, rng);
        } else {
            self.deliver(usize::MAX, rng);
            self.checkpoint(true, &mut fused_state, rng);
            state = fused_state.into_iter().flatten().collect();
        }
        state
    }

    fn feed(&mut self, shard: usize, rows: &[Row]) {
        let behind = |row: &Row| row.time.is_some_and(|time| time < row.floor);
        let mut input = Batch::new(batch(self.scenario.keys, rows));
        if rows.iter().any(behind) {
            input.floor = Some(rows.iter().map(|row| row.floor).collect::<Vec<_>>().into());
        }
        if self.fused {
            self.mergers[0].process(0, input, &mut self.side).unwrap();
            assert!(self.side.batches.is_empty(), "nothing fires without a watermark");
        } else {
            self.combiners[shard].process(0, input, &mut self.side).unwrap();
            self.exchange(shard);
        }
    }

    /// Routes what a combiner has emitted.
    fn exchange(&mut self, shard: usize) {
        for parcel in self.side.parcels.drain(..) {
            self.channels[shard][parcel.owner].push_back(Message::Parcel(parcel));
        }
        for rows in std::mem::take(&mut self.side.batches).into_iter().map(|batch| batch.rows) {
            let keys: Vec<_> =
                self.factory.key_columns().iter().map(|key| rows.column(*key).clone()).collect();
            let hashes = hash_rows(&keys, rows.num_rows()).unwrap();
            for to in 0..self.shards {
                let mine = |hash: &u64| Some(owner(key_group(*hash), self.shards) == to);
                let part: BooleanArray = hashes.iter().map(mine).collect();
                let part = filter_record_batch(&rows, &part).unwrap();
                if part.num_rows() > 0 {
                    self.channels[shard][to].push_back(Message::Rows(part));
                }
            }
        }
    }

    /// The shard's watermark is the minimum over its splits'.
    fn raise(&mut self, shard: usize, positions: &[usize]) {
        let splits = self.scenario.splits.iter().enumerate();
        let mine = splits.filter(|(split, _)| split % self.shards == shard);
        let watermark = mine
            .map(|(split, rows)| {
                let seen = rows[..positions[split]].iter().filter_map(|row| row.time);
                let newest = seen.filter(|time| time.abs_diff(0) < 1 << 62).max();
                newest.map_or(BEGINNING, |newest| newest - self.scenario.bound)
            })
            .min();
        self.send_watermark(shard, watermark.unwrap());
    }

    fn send_watermark(&mut self, shard: usize, watermark: EventTime) {
        if !self.fused {
            advance(self.combiners[shard].as_mut(), watermark, &mut self.side).unwrap();
            self.exchange(shard);
        }
        for channel in &mut self.channels[shard] {
            channel.push_back(Message::Watermark(watermark));
        }
    }

    /// Lets mergers take at most so many messages, from channels chosen at random.
    fn deliver(&mut self, most: usize, rng: &mut ChaCha8Rng) {
        for _ in 0..most {
            let waiting: Vec<_> = (0..self.shards * self.shards)
                .map(|pair| (pair / self.shards, pair % self.shards))
                .filter(|(from, to)| !self.channels[*from][*to].is_empty())
                .collect();
            if waiting.is_empty() {
                return;
            }
            let (from, to) = waiting[rng.random_range(0..waiting.len())];
            let merger = self.mergers[to].as_mut();
            match self.channels[from][to].pop_front().unwrap() {
                Message::Rows(rows) => {
                    merger.process(from, Batch::new(rows), &mut self.results).unwrap();
                }
                Message::Parcel(parcel) => merger.receive(parcel, &mut self.results).unwrap(),
                Message::Watermark(watermark) => {
                    let known = &mut self.watermarks[to];
                    let before = known.iter().copied().min().unwrap();
                    known[from] = known[from].max(watermark);
                    let after = known.iter().copied().min().unwrap();
                    if after > before {
                        advance(merger, after, &mut self.results).unwrap();
                    }
                }
            }
        }
    }

    /// A barrier through everything.
    fn checkpoint(&mut self, full: bool, state: &mut [Vec<StateFragment>], rng: &mut ChaCha8Rng) {
        for shard in 0..self.combiners.len() {
            let operator = self.combiners[shard].as_mut();
            let change = barrier(operator, 1, full, &mut self.side).unwrap();
            assert!(matches!(change, StateChange::Append(state) if state.is_empty()));
            self.exchange(shard);
        }
        self.deliver(usize::MAX, rng);
        for (shard, state) in state.iter_mut().enumerate() {
            let watermark = self.watermarks[shard].iter().copied().min().unwrap();
            let merger = self.mergers[shard].as_mut();
            match barrier(merger, 1, full, &mut self.results).unwrap() {
                StateChange::Replace(fragments) => *state = joined(fragments, watermark, rng),
                StateChange::Append(fragments) => {
                    assert!(!full, "a full barrier hands over everything");
                    state.extend(joined(fragments, watermark, rng));
                }
            }
            state.retain(|fragment| fragment.needed_until > watermark);
            state.iter_mut().for_each(|fragment| fragment.watermark = watermark);
        }
    }
}

/// The fragments as they may come back: some joined with those that are needed a little longer.
fn joined(
    mut fragments: Vec<StateFragment>,
    watermark: EventTime,
    rng: &mut ChaCha8Rng,
) -> Vec<StateFragment> {
    fragments.retain(|fragment| fragment.needed_until > watermark);
    fragments.sort_by_key(|fragment| fragment.needed_until);
    let mut joined: Vec<StateFragment> = Vec::new();
    for fragment in fragments {
        match joined.last_mut().filter(|_| rng.random_bool(0.5)) {
            None => joined.push(fragment),
            Some(last) => {
                let schema = fragment.rows.schema();
                last.rows = concat_batches(&schema, [&last.rows, &fragment.rows]).unwrap();
                last.needed_until = fragment.needed_until;
            }
        }
    }
    joined
}

/// Rows as text, times as microseconds.
fn text(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<_> = rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Timestamp(_, _) => cast(column, &DataType::Int64).unwrap(),
            _ => column.clone(),
        })
        .collect();
    let formatters: Vec<_> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..rows.num_rows())
        .map(|row| {
            let cells: Vec<_> = formatters.iter().map(|f| f.value(row).to_string()).collect();
            cells.join("|")
        })
        .collect()
}
