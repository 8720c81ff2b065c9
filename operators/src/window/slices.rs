//! The slices of one operator, and the windows that are put together from them.
//!
//! A window over many slices is not merged from each of them: neighbouring slices are merged once
//! into a node of a ladder, eight nodes into one of the next rung, and windows share the nodes.
//!
//! ```text
//! rung 2  |               0               |               1 …
//! rung 1  | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 …                 (drawn with fewer children)
//! slices  |||||||||||||||||||||||||||||||||||||||||
//! window           [s s 3   4 … 7    8  s)
//! ```
//!
//! So a window of n slices takes at most 14·log₈(n) merges, and the nodes one eighth of a merge more
//! per slice and rung. Invariant: a node is the merge of the slices under it; a slice that changes
//! takes the nodes over it with it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tidemill_core::{EventTime, Result};

use super::plan::Plan;
use super::table::{Handover, Partial, Table};

/// Nodes of one rung that make one of the next.
const CHILDREN: i64 = 8;

/// Rungs above the slices: enough for the most slices that a window may have.
const RUNGS: u32 = 5;

/// Partial aggregates of one slice that are merged into one when there are so many.
const PARTIALS_MAX: usize = 16;

/// What it takes to work on partial aggregates.
pub(super) struct Work {
    pub plan: Arc<Plan>,
    /// Whether pieces keep what came since the last checkpoint apart.
    pub keep_unsaved: bool,
    pub handover: Handover,
}

/// The partial aggregates of one slice.
#[derive(Default)]
pub(super) struct Piece {
    /// What came since it was last put to rest.
    live: Option<Table>,
    /// What came before.
    resting: Vec<Partial>,
    /// What of that no checkpoint holds yet.
    unsaved: Vec<Partial>,
}

/// Slices by number, and the ladder over them.
pub(super) struct Slices {
    /// Length of a slice.
    step: i64,
    pieces: BTreeMap<i64, Piece>,
    /// Nodes by rung above the slices, and by number.
    rungs: [BTreeMap<i64, Partial>; RUNGS as usize],
    #[cfg(test)]
    pub merges: usize,
}

impl Piece {
    /// The table that takes what comes now.
    pub fn table(&mut self, work: &Work) -> Result<&mut Table> {
        if self.live.is_none() {
            self.live = Some(Table::new(&work.plan)?);
        }
        Ok(self.live.as_mut().expect("it was just put there"))
    }

    /// Takes what a checkpoint holds already.
    pub fn restore(&mut self, partial: Partial, work: &mut Work) -> Result<()> {
        self.resting.push(partial);
        if self.resting.len() >= PARTIALS_MAX {
            let mut whole = Table::new(&work.plan)?;
            for partial in self.resting.drain(..) {
                whole.merge(&work.plan, &partial, &mut work.handover)?;
            }
            self.resting.push(whole.into_partial()?);
        }
        Ok(())
    }

    /// All of it, put to rest.
    pub fn rest(&mut self, work: &mut Work) -> Result<&[Partial]> {
        if let Some(live) = self.live.take() {
            let partial = live.into_partial()?;
            if work.keep_unsaved {
                self.unsaved.push(partial.clone());
            }
            self.restore(partial, work)?;
        }
        Ok(&self.resting)
    }

    /// What no checkpoint holds yet; from now on one does.
    pub fn take_unsaved(&mut self, work: &mut Work) -> Result<Vec<Partial>> {
        self.rest(work)?;
        Ok(std::mem::take(&mut self.unsaved))
    }

    /// All of it as one table.
    pub fn into_table(self, work: &mut Work) -> Result<Table> {
        let mut table = match self.live {
            Some(live) => live,
            None => Table::new(&work.plan)?,
        };
        for partial in &self.resting {
            table.merge(&work.plan, partial, &mut work.handover)?;
        }
        Ok(table)
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
        live + self.resting.iter().map(Partial::bytes).sum::<usize>()
    }
}

impl Slices {
    /// No slices, of which each is `step` long.
    pub fn new(step: i64) -> Self {
        Self {
            step,
            pieces: BTreeMap::new(),
            rungs: Default::default(),
            #[cfg(test)]
            merges: 0,
        }
    }

    /// Number of the slice that ends at `end`. Ends lie a step apart, so numbers follow each other.
    fn number(&self, end: EventTime) -> i64 {
        end.div_euclid(self.step)
    }

    /// The numbers of the slices of a window.
    fn numbers(&self, start: EventTime, end: EventTime) -> RangeInclusive<i64> {
        self.number(start) + 1..=self.number(end)
    }

    /// The slice ending at `end`, to be changed.
    pub fn piece(&mut self, end: EventTime) -> &mut Piece {
        let number = self.number(end);
        let mut node = number;
        for rung in &mut self.rungs {
            node = node.div_euclid(CHILDREN);
            rung.remove(&node);
        }
        self.pieces.entry(number).or_default()
    }

    /// End of the earliest slice, where all slices end `offset` after a multiple of their length.
    pub fn first_end(&self, offset: i64) -> Option<EventTime> {
        self.pieces.first_key_value().map(|(number, _)| number * self.step + offset)
    }

    /// All slices by number.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut Piece)> {
        self.pieces.iter_mut().map(|(number, piece)| (*number, piece))
    }

    /// Puts the window `[start, end)` together. Slices that end by `expired` serve no later window.
    pub fn window(
        &mut self,
        start: EventTime,
        end: EventTime,
        expired: EventTime,
        work: &mut Work,
    ) -> Result<Table> {
        let numbers = self.numbers(start, end);
        let mut present = self.pieces.range(numbers.clone()).map(|(number, _)| *number);
        let only = match (present.next(), present.next()) {
            (Some(number), None) => Some(number),
            _ => None,
        };
        let table = match only.filter(|number| *number <= self.number(expired)) {
            Some(number) => {
                let piece = self.pieces.remove(&number).unwrap_or_default();
                piece.into_table(work)?
            }
            None => {
                let mut table = Table::new(&work.plan)?;
                self.cover(numbers, &mut table, work)?;
                table
            }
        };
        self.expire(expired);
        Ok(table)
    }

    /// Merges the largest nodes that fit between two slices.
    fn cover(
        &mut self,
        numbers: RangeInclusive<i64>,
        table: &mut Table,
        work: &mut Work,
    ) -> Result<()> {
        let (mut number, last) = numbers.into_inner();
        while number <= last {
            let fits = |rung: &u32| {
                let length = CHILDREN.pow(*rung);
                number.rem_euclid(length) == 0 && number + length - 1 <= last
            };
            let rung = (1..=RUNGS).take_while(fits).last().unwrap_or(0);
            let length = CHILDREN.pow(rung);
            self.merge(rung, number.div_euclid(length), table, work)?;
            number += length;
        }
        Ok(())
    }

    /// Merges a node into a table; makes the node where it is not there yet.
    fn merge(&mut self, rung: u32, node: i64, table: &mut Table, work: &mut Work) -> Result<()> {
        let length = CHILDREN.pow(rung);
        let numbers = node * length..(node + 1) * length;
        let mut present = self.pieces.range_mut(numbers);
        let Some((_, first)) = present.next() else { return Ok(()) };
        if present.next().is_none() {
            first.rest(work)?;
            for partial in &first.resting {
                table.merge(&work.plan, partial, &mut work.handover)?;
            }
            self.count_merge();
            return Ok(());
        }
        if !self.rungs[rung as usize - 1].contains_key(&node) {
            let mut whole = Table::new(&work.plan)?;
            for child in node * CHILDREN..(node + 1) * CHILDREN {
                self.merge(rung - 1, child, &mut whole, work)?;
            }
            self.rungs[rung as usize - 1].insert(node, whole.into_partial()?);
        }
        self.count_merge();
        let node = &self.rungs[rung as usize - 1][&node];
        table.merge(&work.plan, node, &mut work.handover)
    }

    fn count_merge(&mut self) {
        #[cfg(test)]
        {
            self.merges += 1;
        }
    }

    /// Drops the slices that end by `end`, and the nodes over them.
    fn expire(&mut self, end: EventTime) {
        let last = self.number(end);
        self.pieces = self.pieces.split_off(&(last + 1));
        let mut node = last;
        for rung in &mut self.rungs {
            node = node.div_euclid(CHILDREN);
            *rung = rung.split_off(&(node + 1));
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let nodes = self.rungs.iter().flat_map(BTreeMap::values).map(Partial::bytes).sum::<usize>();
        nodes + self.pieces.values().map(Piece::bytes).sum::<usize>()
    }
}
