//! Every kernel by its name: what is prepared, what is counted, and for how many rows or groups.
//!
//! Invariant: only what [`counted_region`] encloses is counted, and making the input is not in it.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tidemill_core::key::hash_rows;
use tidemill_core::operator::{Barrier, KeyedFactory, Operator, StateFragment};
use tidemill_core::source::Read;
use tidemill_core::table::{ConnectorFactory, Options};
use tidemill_core::testing::{Collected, advance, reader_context};
use tidemill_core::time::{END_OF_TIME, VirtualClock};
use tidemill_core::watermark::{SplitWatermark, WatermarkStrategy};
use tidemill_core::window::{AlignedWindow, WindowSpec};
use tidemill_core::{Error, Result};
use tidemill_generator::NexmarkFactory;
use tidemill_generator::workload::Keys;
use tidemill_operators::WindowAggregate;

use crate::input::{self, DISORDER, Steps};
use crate::windows::{self, Counter, feed, only_shard};

/// Name of [`counted_region`], by which callgrind is told what to count.
pub const COUNTED_REGION: &str = "counted_region";

/// Rows for kernels whose cost does not depend on how many came before.
const FEW: usize = 100_000;

/// Rows for windows: a slice of 10 s and a fifth of the next.
const MANY: usize = 1_200_000;

/// A kernel that is ready to run.
pub struct Prepared {
    /// How many rows (of a merger and of state: groups) the work goes over.
    pub elements: usize,
    /// What is counted.
    pub work: Work,
}

/// What is counted.
pub type Work = Box<dyn FnMut() -> Result<()>>;

/// A kernel.
pub struct Kernel {
    /// Its name in the baseline and on the command line.
    pub name: &'static str,
    /// Makes its input and its operator.
    pub prepare: fn() -> Result<Prepared>,
}

/// All kernels, in the order of the data path.
pub const KERNELS: &[Kernel] = &[
    Kernel { name: "nexmark, an event", prepare: nexmark },
    Kernel { name: "decode json", prepare: || decode("json") },
    Kernel { name: "decode csv", prepare: || decode("csv") },
    Kernel { name: "watermark observe", prepare: observe },
    Kernel { name: "slice assignment", prepare: slices },
    Kernel { name: "key hash i64", prepare: || hashes(input::rows(FEW, Keys::Uniform(10_000))) },
    Kernel {
        name: "key hash text",
        prepare: || hashes(input::rows_by_text(FEW, Keys::Uniform(10_000))),
    },
    Kernel {
        name: "tumbling 10 000 keys",
        prepare: || tumbling(input::rows(MANY, Keys::Uniform(10_000))),
    },
    Kernel { name: "tumbling 1 key", prepare: || tumbling(input::rows(MANY, Keys::Single)) },
    Kernel {
        name: "tumbling zipf 1.1",
        prepare: || tumbling(input::rows(MANY, Keys::Zipf { keys: 10_000, exponent: 1.1 })),
    },
    Kernel {
        name: "tumbling 1 M keys",
        prepare: || tumbling(input::rows(MANY, Keys::Uniform(1_000_000))),
    },
    Kernel {
        name: "tumbling 10 000 text keys",
        prepare: || tumbling(input::rows_by_text(MANY, Keys::Uniform(10_000))),
    },
    Kernel { name: "hopping 100 000 keys", prepare: hopping },
    Kernel { name: "session, gap 10 s", prepare: || session(10_000_000) },
    Kernel { name: "session, gap 0.1 s", prepare: || session(100_000) },
    Kernel { name: "combiner 10 000 keys", prepare: combiner },
    Kernel { name: "merger, a group", prepare: merger },
    Kernel { name: "state out, a group", prepare: state_out },
    Kernel { name: "state back and fired, a group", prepare: state_back },
    Kernel { name: "barrier, nothing to keep", prepare: empty_barriers },
];

/// The kernel of this name.
///
/// # Errors
/// There is none.
pub fn named(name: &str) -> Result<&'static Kernel> {
    let unknown = || Error::configuration(format!("no kernel is called '{name}'"));
    KERNELS.iter().find(|kernel| kernel.name == name).ok_or_else(unknown)
}

/// What callgrind counts: it is told to begin where this is entered, and to stop where it is left.
///
/// # Errors
/// Those of the work.
#[inline(never)]
pub fn counted_region(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    // Something is left to do after the work, so that it is called and not jumped to.
    black_box(work())
}

/// Nexmark's events, of which its first query passes on the bids.
fn nexmark() -> Result<Prepared> {
    let source = NexmarkFactory.source(&input::bids(FEW))?;
    let split = source.splits()?.remove(0);
    let clock = Arc::new(VirtualClock::default());
    let mut reader = source.open(&split, None, &reader_context(clock))?;
    let work = move || {
        while let Read::Batch(rows) = reader.read(8_192)? {
            black_box(rows);
        }
        Ok(())
    };
    Ok(Prepared { elements: FEW, work: Box::new(work) })
}

fn decode(format: &'static str) -> Result<Prepared> {
    let steps = input::rows(FEW, Keys::Uniform(10_000));
    let (schema, payloads) = input::payloads(format, &steps)?;
    let mut decoder = tidemill_formats::decoder(format, schema, &Options::default())?;
    let work = move || {
        for batch in payloads.chunks(8_192) {
            for payload in batch {
                decoder.decode(black_box(payload)).map_err(Error::internal)?;
            }
            black_box(decoder.finish()?);
        }
        Ok(())
    };
    Ok(Prepared { elements: FEW, work: Box::new(work) })
}

fn observe() -> Result<Prepared> {
    let batches: Vec<Int64Array> = times(&input::rows(FEW, Keys::Single));
    let work = move || {
        let strategy = WatermarkStrategy::bounded(DISORDER);
        let mut split = SplitWatermark::default();
        for times in &batches {
            black_box(split.observe(black_box(times), &strategy, 0));
        }
        Ok(())
    };
    Ok(Prepared { elements: FEW, work: Box::new(work) })
}

fn slices() -> Result<Prepared> {
    let batches = times(&input::rows(FEW, Keys::Single));
    let window = AlignedWindow::tumbling(10_000_000, 0)?;
    let work = move || {
        for times in &batches {
            let ends = black_box(times).values().iter().filter_map(|time| window.slice_end(*time));
            black_box(ends.fold(0, i64::wrapping_add));
        }
        Ok(())
    };
    Ok(Prepared { elements: FEW, work: Box::new(work) })
}

fn times(steps: &Steps) -> Vec<Int64Array> {
    let times = |(batch, _): &(RecordBatch, _)| {
        batch.column(1).as_primitive::<TimestampMicrosecondType>().reinterpret_cast()
    };
    steps.iter().map(times).collect()
}

fn hashes(steps: Steps) -> Result<Prepared> {
    let elements = input::count(&steps);
    let columns: Vec<[ArrayRef; 1]> =
        steps.iter().map(|(batch, _)| [batch.column(0).clone()]).collect();
    let work = move || {
        for column in &columns {
            black_box(hash_rows(black_box(column), column[0].len())?);
        }
        Ok(())
    };
    Ok(Prepared { elements, work: Box::new(work) })
}

fn tumbling(steps: Steps) -> Result<Prepared> {
    let factory = windows::five_aggregates(&steps[0].0.schema(), windows::tumbling()?)?;
    to_the_end(factory.fused(&only_shard(false))?, steps)
}

fn hopping() -> Result<Prepared> {
    let steps = input::rows(MANY, Keys::Uniform(100_000));
    let factory = windows::counting(&steps[0].0.schema(), windows::hopping()?)?;
    to_the_end(factory.fused(&only_shard(false))?, steps)
}

/// Each of 10 000 keys has ten rows a second: a gap of 10 s keeps every session open to the end, one
/// of 0.1 s ends them all along.
fn session(gap: i64) -> Result<Prepared> {
    let steps = input::rows(MANY / 4, Keys::Uniform(10_000));
    let factory = windows::five_aggregates(&steps[0].0.schema(), WindowSpec::session(gap)?)?;
    to_the_end(factory.fused(&only_shard(false))?, steps)
}

fn combiner() -> Result<Prepared> {
    let (factory, steps) = by_ten_thousand()?;
    to_the_end(factory.combiner(&only_shard(false))?, steps)
}

fn by_ten_thousand() -> Result<(WindowAggregate, Steps)> {
    let steps = input::rows(MANY, Keys::Uniform(10_000));
    let factory = windows::five_aggregates(&steps[0].0.schema(), windows::tumbling()?)?;
    Ok((factory, steps))
}

/// The operator over all rows to its last result.
fn to_the_end(mut operator: Box<dyn Operator>, steps: Steps) -> Result<Prepared> {
    let elements = input::count(&steps);
    let work = move || {
        let mut out = Counter::default();
        feed(operator.as_mut(), &steps, &mut out)?;
        operator.barrier(Barrier { epoch: 1, full: false, checkpointed: false }, &mut out)?;
        advance(operator.as_mut(), END_OF_TIME, &mut out)?;
        black_box(out.rows);
        Ok(())
    };
    Ok(Prepared { elements, work: Box::new(work) })
}

/// What several combiners would send: partial aggregates of the same keys, from parts of the rows.
fn merger() -> Result<Prepared> {
    let (factory, steps) = by_ten_thousand()?;
    let mut partials = Collected::default();
    for part in steps.chunks(12) {
        let mut combiner = factory.combiner(&only_shard(false))?;
        feed(combiner.as_mut(), &part.to_vec(), &mut partials)?;
        let barrier = Barrier { epoch: 1, full: false, checkpointed: false };
        combiner.barrier(barrier, &mut partials)?;
    }
    let elements = partials.rows();
    let mut merger = factory.merger(&only_shard(false))?;
    let work = move || {
        let mut out = Counter::default();
        for parcel in &partials.parcels {
            merger.receive(parcel.clone(), &mut out)?;
        }
        advance(merger.as_mut(), END_OF_TIME, &mut out)?;
        black_box(out.rows);
        Ok(())
    };
    Ok(Prepared { elements, work: Box::new(work) })
}

/// An operator that holds a slice of 10 000 groups.
fn full_operator() -> Result<(WindowAggregate, Box<dyn Operator>)> {
    let steps = input::rows(FEW, Keys::Uniform(10_000));
    let factory = windows::five_aggregates(&steps[0].0.schema(), windows::tumbling()?)?;
    let mut operator = factory.fused(&only_shard(true))?;
    feed(operator.as_mut(), &steps, &mut Counter::default())?;
    Ok((factory, operator))
}

fn state_out() -> Result<Prepared> {
    let (_, mut operator) = full_operator()?;
    // State that has been asked for once lies ready: another operator says how much it is.
    let elements = groups(&windows::state(full_operator()?.1.as_mut())?);
    let work = move || {
        black_box(windows::state(operator.as_mut())?);
        Ok(())
    };
    Ok(Prepared { elements, work: Box::new(work) })
}

fn groups(fragments: &[StateFragment]) -> usize {
    fragments.iter().map(|fragment| fragment.rows.num_rows()).sum()
}

fn state_back() -> Result<Prepared> {
    let (factory, mut operator) = full_operator()?;
    let fragments = windows::state(operator.as_mut())?;
    let mut restored = factory.fused(&only_shard(true))?;
    let elements = groups(&fragments);
    let work = move || {
        for fragment in &fragments {
            restored.restore(fragment.clone())?;
        }
        advance(restored.as_mut(), END_OF_TIME, &mut Counter::default())
    };
    Ok(Prepared { elements, work: Box::new(work) })
}

/// Barriers with no row between them: what an operator that has nothing to say costs an epoch.
fn empty_barriers() -> Result<Prepared> {
    const BARRIERS: usize = 1_000;
    let (_, mut operator) = full_operator()?;
    windows::state(operator.as_mut())?;
    let work = move || {
        for epoch in 0..BARRIERS as u64 {
            let barrier = Barrier { epoch, full: false, checkpointed: true };
            black_box(operator.barrier(barrier, &mut Counter::default())?);
        }
        Ok(())
    };
    Ok(Prepared { elements: BARRIERS, work: Box::new(work) })
}
