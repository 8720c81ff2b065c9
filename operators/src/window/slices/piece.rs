//! The partial aggregates of slices: where rows and restored state go in, and what checkpoints take
//! out. Invariant: what a slice's piece holds is the same whether it waits, grows or rests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use tidemill_core::Result;

use super::super::cells::SideBySide;
use super::super::parcel::Share;
use super::super::place::several_of;
use super::super::plan::Plan;
use super::super::table::{Handover, Resting, Results, Table};

/// Partial aggregates of one slice that are merged into one when there are so many.
const PARTIALS_MAX: usize = 16;

/// What it takes to work on partial aggregates.
pub(in crate::window) struct Work {
    pub plan: Arc<Plan>,
    /// Whether pieces keep what came since the last checkpoint apart.
    pub keep_unsaved: bool,
    /// Whether a slice serves one window.
    pub is_tumbling: bool,
    pub handover: Handover,
}

/// The partial aggregates of one slice.
#[derive(Default)]
pub(in crate::window) struct Piece {
    /// The last that some shards had of a slice of one window. If nothing else comes, results need no table.
    waiting: Vec<Share>,
    /// What came since it was last put to rest; nothing while shares wait.
    live: Option<Table>,
    /// What came before.
    resting: Vec<Resting>,
    /// What of that no checkpoint holds yet.
    unsaved: Vec<Resting>,
    /// What of the bytes of all [`Pieces`] is this one's.
    measured: usize,
}

/// The pieces of all slices by number.
#[derive(Default)]
pub(super) struct Pieces {
    pieces: BTreeMap<i64, Piece>,
    /// Which of them may have other bytes than were measured.
    changed: BTreeSet<i64>,
    /// Bytes in use, as measured.
    bytes: usize,
}

impl Work {
    /// All of it in one table, in this order.
    pub fn merge(&mut self, mut table: Table, parts: &[Resting]) -> Result<Table> {
        for part in parts {
            table.add(&self.plan, part, &mut self.handover)?;
        }
        Ok(table)
    }
}

impl Piece {
    /// The table that takes what comes now, and has what waited.
    pub fn table(&mut self, work: &mut Work) -> Result<&mut Table> {
        if self.live.is_none() {
            let mut table = Table::new(&work.plan)?;
            for share in std::mem::take(&mut self.waiting) {
                table.take_in(&work.plan, &share, &mut work.handover)?;
            }
            self.live = Some(table);
        }
        Ok(self.live.as_mut().expect("it was just put there"))
    }

    /// Takes a share of another shard's groups.
    pub fn take_in(&mut self, share: Share, work: &mut Work) -> Result<()> {
        if self.live.is_none() && work.is_tumbling && share.is_last() {
            self.waiting.push(share);
            return Ok(());
        }
        self.table(work)?.take_in(&work.plan, &share, &mut work.handover)
    }

    /// Whether something came since it was last put to rest.
    fn is_growing(&self) -> bool {
        self.live.is_some() || !self.waiting.is_empty()
    }

    /// Takes what a checkpoint holds already.
    pub fn restore(&mut self, part: Resting, work: &mut Work) -> Result<()> {
        self.resting.push(part);
        if self.resting.len() >= PARTIALS_MAX {
            let whole = work.merge(Table::new(&work.plan)?, &self.resting)?;
            self.resting = vec![whole.rest()?];
        }
        Ok(())
    }

    /// All of it, put to rest.
    pub fn rest(&mut self, work: &mut Work) -> Result<&[Resting]> {
        if !self.waiting.is_empty() {
            self.table(work)?;
        }
        if let Some(live) = self.live.take() {
            let part = live.rest()?;
            if work.keep_unsaved {
                self.unsaved.push(part.clone());
            }
            self.restore(part, work)?;
        }
        Ok(&self.resting)
    }

    /// What no checkpoint holds yet; from now on one does.
    pub fn take_unsaved(&mut self, work: &mut Work) -> Result<Vec<Resting>> {
        self.rest(work)?;
        Ok(std::mem::take(&mut self.unsaved))
    }

    /// Its results, in one part or several.
    pub fn into_results(
        mut self,
        work: &mut Work,
        each: impl FnMut(Results) -> Result<()>,
    ) -> Result<()> {
        if self.live.is_none() && self.resting.is_empty() {
            let shares = self.waiting.iter().map(|share| (share.table(), share.part()));
            if let Some(all) = SideBySide::of(shares) {
                return all.results(each);
            }
        }
        self.table(work)?;
        let table = self.live.take().expect("it was just put there");
        work.merge(table, &self.resting)?.into_results(each)
    }

    /// Takes another piece of the same slice.
    pub fn absorb(&mut self, mut other: Self, work: &mut Work) -> Result<()> {
        self.rest(work)?;
        other.rest(work)?;
        self.resting.extend(other.resting);
        self.unsaved.extend(other.unsaved);
        Ok(())
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let live = self.live.as_ref().map_or(0, Table::bytes);
        let waiting = self.waiting.iter().map(Share::bytes).sum::<usize>();
        live + waiting + self.resting.iter().map(Resting::bytes).sum::<usize>()
    }
}

impl Pieces {
    /// A slice's piece, to be changed.
    pub fn change(&mut self, number: i64) -> &mut Piece {
        self.changed.insert(number);
        self.pieces.entry(number).or_default()
    }

    /// Several slices' pieces, in order, to be changed.
    pub fn change_several(&mut self, numbers: &[i64]) -> Vec<&mut Piece> {
        for number in numbers {
            self.change(*number);
        }
        several_of(&mut self.pieces, numbers)
    }

    /// All pieces by number, to be put to rest.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut Piece)> {
        let growing = self.pieces.iter().filter(|(_, piece)| piece.is_growing());
        self.changed.extend(growing.map(|(number, _)| number));
        self.pieces.iter_mut().map(|(number, piece)| (*number, piece))
    }

    /// The first and the last of these slices that there are.
    pub fn ends(&self, numbers: &Range<i64>) -> Option<RangeInclusive<i64>> {
        let mut present = self.pieces.range(numbers.clone()).map(|(number, _)| *number);
        let first = present.next()?;
        Some(first..=present.next_back().unwrap_or(first))
    }

    /// The first slice that there is.
    pub fn first(&self) -> Option<i64> {
        self.pieces.first_key_value().map(|(number, _)| *number)
    }

    /// Whether there is this slice.
    pub fn has(&self, number: i64) -> bool {
        self.pieces.contains_key(&number)
    }

    /// All of a slice, put to rest; nothing where there is no such slice.
    pub fn rest(&mut self, number: i64, work: &mut Work) -> Result<&[Resting]> {
        match self.pieces.get_mut(&number) {
            Some(piece) => {
                if piece.is_growing() {
                    self.changed.insert(number);
                }
                piece.rest(work)
            }
            None => Ok(&[]),
        }
    }

    /// Takes a slice out.
    pub fn remove(&mut self, number: i64) -> Option<Piece> {
        let piece = self.pieces.remove(&number)?;
        self.bytes -= piece.measured;
        Some(piece)
    }

    /// Drops the slices up to this one.
    pub fn expire(&mut self, last: i64) {
        while let Some(first) = self.first().filter(|first| *first <= last) {
            self.remove(first);
        }
    }

    /// Bytes in use.
    pub fn bytes(&mut self) -> usize {
        for number in std::mem::take(&mut self.changed) {
            if let Some(piece) = self.pieces.get_mut(&number) {
                self.bytes -= piece.measured;
                piece.measured = piece.bytes();
                self.bytes += piece.measured;
            }
        }
        self.bytes
    }
}
