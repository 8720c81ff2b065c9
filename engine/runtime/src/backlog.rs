//! What a source that drops has read and not yet judged: a bounded buffer between its readers and the place
//! where rows meet their split's watermark.
//!
//! Pure. Invariant: every record that is pushed is either popped once or reported as dropped, and what
//! waits never exceeds the capacity. The end of a split keeps its place behind the split's records.

use std::collections::VecDeque;

use tidemill_core::Batch;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::graph::{Buffer, BufferCapacity};

/// Records that wait, in the order they were read.
pub(crate) struct Backlog {
    keeps: Keeps,
    /// Of the source, over all shards.
    whole: BufferCapacity,
    /// Of this shard.
    capacity: BufferCapacity,
    entries: VecDeque<Entry>,
    records: usize,
    bytes: usize,
}

/// Who stays when not all can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Newest,
    Oldest,
}

/// What was read from a split (its number on its shard).
#[derive(Debug)]
pub(crate) struct Entry {
    pub split: usize,
    pub waiting: Waiting,
}

#[derive(Debug)]
// Entries are moved one batch at a time, as elements are.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Waiting {
    /// Rows and bad records that were read together.
    Records(Records),
    /// Nothing follows.
    End,
}

/// Rows and bad records that were read together.
#[derive(Debug)]
pub(crate) struct Records {
    pub batch: Batch,
    pub letters: Vec<DeadLetter>,
    /// What one of them weighs.
    record_bytes: usize,
}

/// So many records of a split were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub split: usize,
    pub records: usize,
}

impl Records {
    /// Records that weigh `bytes` together.
    pub fn new(batch: Batch, letters: Vec<DeadLetter>, bytes: usize) -> Self {
        let mut records = Self { batch, letters, record_bytes: 0 };
        records.record_bytes = bytes.div_ceil(records.len().max(1)).max(1);
        records
    }

    fn len(&self) -> usize {
        self.batch.len() + self.letters.len()
    }

    /// Drops the first `records`: rows, and when there are none left, bad ones.
    fn drop_first(&mut self, records: usize) {
        let rows = records.min(self.batch.len());
        self.batch = self.batch.slice(rows, self.batch.len() - rows);
        self.letters.drain(..records - rows);
    }

    /// Keeps the first `records`.
    fn keep_first(&mut self, records: usize) {
        let rows = records.min(self.batch.len());
        self.batch = self.batch.slice(0, rows);
        self.letters.truncate(records - rows);
    }
}

impl Backlog {
    /// An empty one for this shard's `share` of the source's capacity; none for a source that blocks.
    pub fn new(buffer: Buffer, share: f64) -> Option<Self> {
        let (keeps, whole) = match buffer {
            Buffer::Block => return None,
            Buffer::DropOldest(capacity) => (Keeps::Newest, capacity),
            Buffer::DropNewest(capacity) => (Keeps::Oldest, capacity),
        };
        let (entries, capacity) = (VecDeque::new(), whole);
        let mut backlog = Self { keeps, whole, capacity, entries, records: 0, bytes: 0 };
        backlog.set_share(share);
        Some(backlog)
    }

    /// From now on this shard has so much of the capacity. What is too much now gives way later.
    pub fn set_share(&mut self, share: f64) {
        let of = |whole: usize| ((whole as f64 * share) as usize).max(1);
        self.capacity =
            BufferCapacity { records: of(self.whole.records), bytes: of(self.whole.bytes) };
    }

    /// Takes what was read from a split, as far as there is room or older records give way.
    pub fn push(&mut self, split: usize, mut records: Records) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        if self.keeps == Keeps::Oldest {
            let by_bytes = self.capacity.bytes.saturating_sub(self.bytes) / records.record_bytes;
            let room = self.capacity.records.saturating_sub(self.records).min(by_bytes);
            if room < records.len() {
                dropped.push(Dropped { split, records: records.len() - room });
                records.keep_first(room);
            }
        }
        if records.len() > 0 {
            self.records += records.len();
            self.bytes += records.len() * records.record_bytes;
            self.entries.push_back(Entry { split, waiting: Waiting::Records(records) });
        }
        self.make_room(&mut dropped);
        dropped
    }

    /// Drops the oldest until the rest fits.
    fn make_room(&mut self, dropped: &mut Vec<Dropped>) {
        let mut at = 0;
        while at < self.entries.len() {
            let over_records = self.records.saturating_sub(self.capacity.records);
            let over_bytes = self.bytes.saturating_sub(self.capacity.bytes);
            if over_records == 0 && over_bytes == 0 {
                return;
            }
            let entry = &mut self.entries[at];
            let Waiting::Records(records) = &mut entry.waiting else {
                at += 1;
                continue;
            };
            let excess = over_records.max(over_bytes.div_ceil(records.record_bytes));
            let excess = excess.min(records.len());
            dropped.push(Dropped { split: entry.split, records: excess });
            self.records -= excess;
            self.bytes -= excess * records.record_bytes;
            records.drop_first(excess);
            if records.len() == 0 {
                self.entries.remove(at);
            }
        }
    }

    /// Nothing follows from a split.
    pub fn push_end(&mut self, split: usize) {
        self.entries.push_back(Entry { split, waiting: Waiting::End });
    }

    /// What has waited longest.
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        if let Waiting::Records(records) = &entry.waiting {
            self.records -= records.len();
            self.bytes -= records.len() * records.record_bytes;
        }
        Some(entry)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether anything of a split waits.
    pub fn holds(&self, split: usize) -> bool {
        self.entries.iter().any(|entry| entry.split == split)
    }

    #[cfg(test)]
    fn records(&self) -> usize {
        self.records
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use tidemill_core::record::SourceRecord;
    use tidemill_core::source::SplitId;

    use super::*;

    /// Rows `from..to`, of ten bytes each.
    fn rows(from: i64, to: i64) -> Records {
        let numbers: Int64Array = (from..to).collect();
        let rows = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
        Records::new(Batch::new(rows), Vec::new(), 10 * (to - from) as usize)
    }

    fn capacity(records: usize, bytes: usize) -> BufferCapacity {
        BufferCapacity { records, bytes }
    }

    fn drain(backlog: &mut Backlog) -> Vec<i64> {
        let mut left = Vec::new();
        while let Some(entry) = backlog.pop() {
            if let Waiting::Records(records) = entry.waiting {
                let numbers = records.batch.rows.column(0).as_primitive::<Int64Type>().clone();
                left.extend(numbers.values().iter());
            }
        }
        assert_eq!((backlog.records(), backlog.bytes()), (0, 0));
        left
    }

    fn dropped(split: usize, records: usize) -> Dropped {
        Dropped { split, records }
    }

    #[test]
    fn drop_oldest_keeps_the_newest_and_drop_newest_the_oldest() {
        let mut newest = Backlog::new(Buffer::DropOldest(capacity(5, 1000)), 1.0).unwrap();
        assert_eq!(newest.push(0, rows(0, 4)), []);
        assert_eq!(newest.push(1, rows(4, 8)), [dropped(0, 3)]);
        assert_eq!(newest.push(1, rows(8, 20)), [dropped(0, 1), dropped(1, 4), dropped(1, 7)]);
        assert_eq!(drain(&mut newest), [15, 16, 17, 18, 19]);

        let mut oldest = Backlog::new(Buffer::DropNewest(capacity(5, 1000)), 1.0).unwrap();
        assert_eq!(oldest.push(0, rows(0, 4)), []);
        assert_eq!(oldest.push(1, rows(4, 8)), [dropped(1, 3)]);
        assert_eq!(oldest.push(0, rows(8, 9)), [dropped(0, 1)]);
        assert_eq!(drain(&mut oldest), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn bytes_bound_it_too_and_an_end_keeps_its_place() {
        let mut backlog = Backlog::new(Buffer::DropOldest(capacity(1000, 75)), 1.0).unwrap();
        backlog.push(0, rows(0, 5));
        backlog.push_end(0);
        assert_eq!(backlog.push(1, rows(5, 10)), [dropped(0, 3)]);
        assert!(backlog.bytes() <= 75 && backlog.records() == 7);
        assert_eq!(backlog.push(1, rows(10, 17)), [dropped(0, 2), dropped(1, 5)]);
        let end = backlog.pop().unwrap();
        assert!(end.split == 0 && matches!(end.waiting, Waiting::End));
        assert!(backlog.holds(1) && !backlog.holds(0));
        assert_eq!(drain(&mut backlog), (10..17).collect::<Vec<_>>());
    }

    #[test]
    fn bad_records_count_and_go_with_the_rows_they_came_with() {
        let letter = || DeadLetter::new(SplitId::new("s"), SourceRecord::default(), "bad");
        let with_letters = || {
            let good = rows(0, 3);
            Records::new(good.batch, vec![letter(), letter()], 50)
        };
        let mut newest = Backlog::new(Buffer::DropOldest(capacity(1, 1000)), 1.0).unwrap();
        assert_eq!(newest.push(0, with_letters()), [dropped(0, 4)]);
        let Some(Entry { waiting: Waiting::Records(left), .. }) = newest.pop() else { panic!() };
        assert_eq!((left.batch.len(), left.letters.len()), (0, 1));
        let mut oldest = Backlog::new(Buffer::DropNewest(capacity(4, 1000)), 1.0).unwrap();
        assert_eq!(oldest.push(0, with_letters()), [dropped(0, 1)]);
        let Some(Entry { waiting: Waiting::Records(left), .. }) = oldest.pop() else { panic!() };
        assert_eq!((left.batch.len(), left.letters.len()), (3, 1));
    }

    #[test]
    fn a_shard_has_its_share_and_a_record_too_large_for_it_is_dropped() {
        let mut backlog = Backlog::new(Buffer::DropNewest(capacity(10, 8)), 0.5).unwrap();
        assert_eq!(backlog.push(0, rows(0, 1)), [dropped(0, 1)]);
        let mut backlog = Backlog::new(Buffer::DropOldest(capacity(10, 1000)), 0.5).unwrap();
        assert_eq!(backlog.push(0, rows(0, 10)), [dropped(0, 5)]);
        backlog.set_share(1.0);
        assert_eq!(backlog.push(0, rows(10, 15)), []);
        assert!(Backlog::new(Buffer::Block, 1.0).is_none());
    }

    #[test]
    fn what_goes_in_comes_out_or_is_reported() {
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                (state >> 33) % below
            };
            let whole = capacity(1 + random(30) as usize, 10 + random(400) as usize);
            let buffer = match random(2) {
                0 => Buffer::DropOldest(whole),
                _ => Buffer::DropNewest(whole),
            };
            let mut backlog = Backlog::new(buffer, 1.0).unwrap();
            let (mut pushed, mut lost, mut left) = (0, 0, Vec::new());
            for _ in 0..60 {
                if random(3) == 0 {
                    if let Some(Entry { waiting: Waiting::Records(records), .. }) = backlog.pop() {
                        let numbers = records.batch.rows.column(0).as_primitive::<Int64Type>();
                        left.extend(numbers.values().iter().copied());
                    }
                    continue;
                }
                let count = 1 + random(20) as i64;
                lost += backlog
                    .push(random(3) as usize, rows(pushed, pushed + count))
                    .iter()
                    .map(|dropped| dropped.records)
                    .sum::<usize>();
                pushed += count;
                assert!(backlog.records() <= whole.records, "seed {seed}");
                assert!(backlog.bytes() <= whole.bytes, "seed {seed}");
            }
            left.extend(drain(&mut backlog));
            assert_eq!(left.len() + lost, pushed as usize, "seed {seed}");
            assert!(left.is_sorted_by(|a, b| a < b), "seed {seed}: order, and nothing twice");
        }
    }
}
