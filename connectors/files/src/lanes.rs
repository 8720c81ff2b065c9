//! Large files cut into lanes, so that several shards read one file.
//!
//! A lane is a split: every n-th block of a file, of which n lanes make the whole. Together they move
//! through the file from its start to its end, and through event time with it, so that windows close
//! as they do where one reader goes through the file.
//!
//! ```text
//! blocks   0   1   2   3 │ 4   5   6   7 │ 8   9
//! lane 1       ▒▒▒           ▒▒▒           ▒▒▒
//! ```
//!
//! Invariant: a record belongs to the block that it begins in. How a file is cut follows from the files
//! alone, never from the number of shards, and a job that goes on from a checkpoint keeps to it.

use std::collections::{BTreeMap, HashSet};

use tidemill_core::source::SplitId;

/// Files are cut into so many splits in all, if they are few and large enough.
const SPLITS_WANTED: u64 = 64;

/// How files are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// A lane of less is not worth its reader.
    pub(crate) lane_bytes_min: u64,
    /// Bytes of a block.
    pub(crate) block_bytes: u64,
}

impl Default for Cut {
    fn default() -> Self {
        Self { lane_bytes_min: 8 << 20, block_bytes: 2 << 20 }
    }
}

/// Which lane of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) number: u64,
    pub(crate) lanes: u64,
}

impl Lane {
    /// The split's name: `big.json#03/16`.
    fn name(self, file: &str) -> String {
        let Self { number, lanes } = self;
        let width = (lanes - 1).to_string().len();
        format!("{file}#{number:0width$}/{lanes}")
    }

    /// The file and the lane that a split's name means, if it means a lane.
    pub(crate) fn parse(name: &str) -> Option<(&str, Self)> {
        let (file, lane) = name.rsplit_once('#')?;
        let (number, lanes) = lane.split_once('/')?;
        let lane = Self { number: number.parse().ok()?, lanes: lanes.parse().ok()? };
        (lane.number < lane.lanes && lane.name(file) == name).then_some((file, lane))
    }
}

impl Cut {
    /// The splits of files, each with how many bytes of it can be cut, where a checkpoint has offsets of `known`.
    pub(crate) fn splits(self, files: &[(SplitId, u64)], known: &[SplitId]) -> Vec<SplitId> {
        let names: HashSet<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
        let uncut: HashSet<&str> = known.iter().map(SplitId::as_str).collect();
        let lanes_of = |known: &SplitId| {
            let (file, lane) = Lane::parse(known.as_str())?;
            Some((file.to_owned(), lane.lanes))
        };
        let cut: BTreeMap<String, u64> = known.iter().filter_map(lanes_of).collect();
        let mut splits = Vec::new();
        for (file, bytes) in files {
            let name = file.as_str();
            let lanes = match cut.get(name) {
                Some(lanes) => *lanes,
                None if uncut.contains(name) => 1,
                None => self.lanes(*bytes, files.len() as u64),
            };
            let lanes: Vec<_> =
                (0..lanes).map(|number| Lane { number, lanes }.name(name)).collect();
            // A file may be called as another's lane is.
            if lanes.len() == 1 || lanes.iter().any(|lane| names.contains(lane.as_str())) {
                splits.push(file.clone());
            } else {
                splits.extend(lanes.into_iter().map(SplitId::new));
            }
        }
        splits
    }

    /// Into how many lanes a file is cut: a power of two, which most numbers of shards share evenly.
    fn lanes(self, bytes: u64, files: u64) -> u64 {
        let lanes = (bytes / self.lane_bytes_min).min(SPLITS_WANTED / files.max(1));
        if lanes < 2 { 1 } else { 1 << lanes.ilog2() }
    }
}

/// A lane's way through its blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    lane: Lane,
    pub(crate) block_bytes: u64,
    pub(crate) place: Place,
}

/// Where on its way a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In front of the block that begins at this byte; its first record is yet to be found.
    Before(u64),
    /// In the block that ends at this byte.
    Within(u64),
}

impl Blocks {
    /// At the lane's start.
    pub(crate) fn new(lane: Lane, block_bytes: u64) -> Self {
        let place = match lane.number {
            0 => Place::Within(block_bytes),
            number => Place::Before(number * block_bytes),
        };
        Self { lane, block_bytes, place }
    }

    /// At byte `at`, where a record of the lane begins, or in front of one of its blocks. `None` where that
    /// is no byte of the lane.
    pub(crate) fn at(lane: Lane, block_bytes: u64, at: u64) -> Option<Self> {
        let block = at.checked_div(block_bytes)?;
        // All places of the next round can be counted to.
        lane.lanes.checked_add(1)?.checked_mul(block_bytes)?.checked_add(at)?;
        if block % lane.lanes != lane.number {
            return None;
        }
        let place = match at.is_multiple_of(block_bytes) {
            true if at == 0 => return Some(Self::new(lane, block_bytes)),
            true => Place::Before(at),
            false => Place::Within((block + 1) * block_bytes),
        };
        Some(Self { lane, block_bytes, place })
    }

    /// What is read next, where the reader stands at `byte`: for the lane's offset.
    pub(crate) fn next(&self, byte: u64) -> u64 {
        match self.place {
            Place::Before(start) => start,
            Place::Within(end) if byte < end => byte,
            Place::Within(end) => self.after(end),
        }
    }

    /// The block that ends at `end` is done with.
    pub(crate) fn leave(&mut self, end: u64) {
        self.place = Place::Before(self.after(end));
    }

    fn after(&self, end: u64) -> u64 {
        end + (self.lane.lanes - 1) * self.block_bytes
    }

    /// Whether a file of `size` bytes can have been read up to `next`.
    pub(crate) fn can_be(&self, next: u64, size: u64) -> bool {
        let round = self.lane.lanes * self.block_bytes;
        match self.place {
            Place::Within(_) => next <= size,
            Place::Before(start) => start < round || start - round < size,
        }
    }

    /// How many of the lane's bytes are read, and how many it has.
    pub(crate) fn progress(&self, next: u64, size: u64) -> (u64, u64) {
        let of_lane = |bytes: u64| {
            let round = self.lane.lanes * self.block_bytes;
            let before = self.lane.number * self.block_bytes;
            let rest = (bytes % round).saturating_sub(before).min(self.block_bytes);
            bytes / round * self.block_bytes + rest
        };
        (of_lane(next.min(size)), of_lane(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(files: &[(&str, u64)], known: &[&str]) -> Vec<String> {
        let cut = Cut { lane_bytes_min: 100, block_bytes: 10 };
        let files: Vec<_> = files.iter().map(|(name, size)| (SplitId::new(name), *size)).collect();
        let known: Vec<_> = known.iter().map(SplitId::new).collect();
        cut.splits(&files, &known).iter().map(|split| split.as_str().to_owned()).collect()
    }

    #[test]
    fn large_files_are_cut_unless_they_are_many() {
        assert_eq!(cut(&[("a", 399), ("b", 199)], &[]), ["a#0/2", "a#1/2", "b"]);
        assert_eq!(cut(&[("a", 1 << 40)], &[]).len(), 64);
        assert_eq!(cut(&[("a", 1 << 40)], &[])[9], "a#09/64");
        let many: Vec<_> = (0..33).map(|_| ("a", 1 << 40)).collect();
        assert_eq!(cut(&many, &[]).len(), 33);
        assert_eq!(cut(&[("a", 399), ("a#1/2", 5)], &[]), ["a", "a#1/2"]);
    }

    #[test]
    fn a_checkpoint_keeps_the_cut_that_it_knows() {
        assert_eq!(cut(&[("a", 1_000)], &["a"]), ["a"]);
        assert_eq!(cut(&[("a", 10), ("b", 250)], &["a#1/2"]), ["a#0/2", "a#1/2", "b#0/2", "b#1/2"]);
    }

    #[test]
    fn names_mean_lanes_only_as_they_are_written() {
        let lane = |number, lanes| Some(("a#b", Lane { number, lanes }));
        assert_eq!(Lane::parse("a#b#03/16"), lane(3, 16));
        for name in ["a", "a#3/16", "a#03/3", "a#x/2", "a#1", "a#1/2/3", "a#+1/2"] {
            assert_eq!(Lane::parse(name), None, "{name}");
        }
    }

    #[test]
    fn lanes_progress_sums_up_to_the_file() {
        for size in [0, 1, 39, 40, 41, 65, 80, 1_000] {
            let of = |number| Blocks::new(Lane { number, lanes: 4 }, 10).progress(size, size).1;
            assert_eq!((0..4).map(of).sum::<u64>(), size);
        }
    }
}
