//! Bounds on memory and on allocations, by an allocator that counts: bytes for each (slice, key), and
//! allocations for each batch once a slice's groups exist.
//!
//! Invariant: counts are those of the test's own thread, so tests do not disturb one another, and no
//! bound depends on time. Each is about a quarter above what was counted when it was set
//! (docs/costs.md): what was counted is printed with `--nocapture`.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tidemill_core::operator::{KeyedFactory, Operator};
use tidemill_core::table::Options;
use tidemill_core::window::WindowSpec;
use tidemill_generator::workload::Keys;
use tidemill_instructions::input::{self, Steps};
use tidemill_instructions::windows::{self, Counter, feed, only_shard};

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize, allocations: usize) {
    LIVE_BYTES.set(LIVE_BYTES.get() + bytes);
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches only
// thread-local cells that need neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: the caller keeps the contract of `realloc`, and `alloc` is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const KEYS: u64 = 100_000;

/// Rows of `KEYS` keys, so many that nearly every key is in them.
fn every_key() -> Steps {
    input::rows(800_000, Keys::Uniform(KEYS))
}

/// What an operator holds for each (slice, key) after these rows, and what it says that it holds.
fn bytes_per_group(mut operator: Box<dyn Operator>, steps: &Steps, groups: f64) -> (f64, f64) {
    let before = LIVE_BYTES.get();
    feed(operator.as_mut(), steps, &mut Counter::default()).unwrap();
    let held = (LIVE_BYTES.get() - before) as f64 / groups;
    (held, operator.state_bytes() as f64 / groups)
}

/// Groups of slices so long among rows that are out of order by less than the shortest of them.
fn groups(steps: &Steps, slice: i64) -> f64 {
    use arrow::array::cast::AsArray;
    use arrow::array::types::{Int64Type, TimestampMicrosecondType};
    let mut groups = std::collections::HashSet::new();
    for (batch, _) in steps {
        let keys = batch.column(0).as_primitive::<Int64Type>().values();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
        groups.extend(times.iter().zip(keys).map(|(time, key)| (time.div_euclid(slice), *key)));
    }
    groups.len() as f64
}

fn assert_bytes(what: &str, (held, said): (f64, f64), at_most: f64) {
    println!("{what}: {held:.0} bytes for each (slice, key), of which {said:.0} are said");
    assert!(held <= at_most, "{what}: {held:.0} bytes, at most {at_most} are allowed");
    assert!(said >= 0.6 * held, "{what}: {held:.0} bytes are held, the budget is told {said:.0}");
}

#[test]
fn a_tumbling_window_holds_so_many_bytes_for_each_key() {
    let steps = every_key();
    let factory = windows::five_aggregates(&steps[0].0.schema(), windows::tumbling().unwrap());
    let fused = factory.unwrap().fused(&only_shard(false)).unwrap();
    let groups = groups(&steps, 10_000_000);
    assert_bytes("tumbling, i64", bytes_per_group(fused, &steps, groups), 37.0);
}

#[test]
fn a_hopping_window_holds_so_many_bytes_for_each_slice_and_key() {
    let steps = every_key();
    let factory = windows::counting(&steps[0].0.schema(), windows::hopping().unwrap());
    let fused = factory.unwrap().fused(&only_shard(false)).unwrap();
    let groups = groups(&steps, 2_000_000);
    assert_bytes("hopping count, i64", bytes_per_group(fused, &steps, groups), 20.0);
}

#[test]
fn a_text_key_of_16_bytes_costs_so_many_bytes() {
    let numbers = every_key();
    let steps = input::rows_by_text(800_000, Keys::Uniform(KEYS));
    let factory = windows::five_aggregates(&steps[0].0.schema(), windows::tumbling().unwrap());
    let fused = factory.unwrap().fused(&only_shard(false)).unwrap();
    let groups = groups(&numbers, 10_000_000);
    assert_bytes("tumbling, text", bytes_per_group(fused, &steps, groups), 150.0);
}

#[test]
fn a_session_holds_so_many_bytes() {
    let steps = every_key();
    let window = WindowSpec::session(10_000_000).unwrap();
    let factory = windows::five_aggregates(&steps[0].0.schema(), window).unwrap();
    let fused = factory.fused(&only_shard(false)).unwrap();
    let groups = groups(&steps, i64::MAX);
    assert_bytes("session, i64", bytes_per_group(fused, &steps, groups), 100.0);
}

/// Allocations for each batch of a second pass over the same rows, none of which makes a group.
fn allocations_per_batch(operator: &mut dyn Operator, steps: &Steps) -> f64 {
    let mut pass = || {
        let mut out = Counter::default();
        for (batch, _) in steps {
            operator.process(0, tidemill_core::Batch::new(batch.clone()), &mut out).unwrap();
        }
    };
    pass();
    let before = ALLOCATIONS.get();
    pass();
    (ALLOCATIONS.get() - before) as f64 / steps.len() as f64
}

fn assert_allocations(what: &str, counted: f64, at_most: f64) {
    println!("{what}: {counted:.1} allocations a batch");
    assert!(counted <= at_most, "{what}: {counted:.1} allocations a batch, {at_most} are allowed");
}

/// Rows of one slice and a bit, where every batch but one or two lies within a slice.
fn steady() -> Steps {
    input::rows(400_000, Keys::Uniform(1_000)).split_off(15)
}

#[test]
fn a_batch_that_makes_no_group_allocates_little_in_a_window() {
    let steps = steady();
    let schema = steps[0].0.schema();
    let factory = windows::five_aggregates(&schema, windows::tumbling().unwrap()).unwrap();
    let mut fused = factory.fused(&only_shard(false)).unwrap();
    assert_allocations("tumbling", allocations_per_batch(fused.as_mut(), &steps), 13.0);
    let mut combiner = factory.combiner(&only_shard(false)).unwrap();
    assert_allocations("combiner", allocations_per_batch(combiner.as_mut(), &steps), 13.0);
    let factory = windows::counting(&schema, windows::hopping().unwrap()).unwrap();
    let mut hopping = factory.fused(&only_shard(false)).unwrap();
    assert_allocations("hopping", allocations_per_batch(hopping.as_mut(), &steps), 21.0);
    let window = WindowSpec::session(10_000_000).unwrap();
    let factory = windows::five_aggregates(&schema, window).unwrap();
    let mut session = factory.fused(&only_shard(false)).unwrap();
    assert_allocations("session", allocations_per_batch(session.as_mut(), &steps), 9.0);
}

#[test]
fn a_decoder_allocates_for_each_batch_and_not_for_each_record() {
    for format in ["json", "csv"] {
        let rows = input::rows(16 * 8_192, Keys::Uniform(10_000));
        let (schema, payloads) = input::payloads(format, &rows).unwrap();
        let mut decoder = tidemill_formats::decoder(format, schema, &Options::default()).unwrap();
        let mut pass = |payloads: &[Vec<u8>]| {
            let before = ALLOCATIONS.get();
            payloads.iter().for_each(|payload| decoder.decode(payload).unwrap());
            decoder.finish().unwrap();
            ALLOCATIONS.get() - before
        };
        pass(&payloads[..8_192]);
        let counted = payloads[8_192..].chunks(8_192).map(&mut pass).max().unwrap();
        assert_allocations(format, counted as f64, 18.0);
    }
}
