//! The ladder over slices, from which windows of many slices are merged: between the slices at rest
//! and the table that a window's results come from.
//!
//! Neighbouring slices are merged once into a node, four nodes into one of the next rung, and
//! windows share the nodes. From one window to the next most nodes are the same, too: on each rung
//! all that the last window had between its first and its last node is kept merged, its **run**.
//!
//! ```text
//! rung 2  |               0               |               1               |
//! rung 1  |   0   |   1   |   2   |   3   |   4   |   5   |   6   |   7   |
//! slices  | | | | | | | | | | | | | | | | | | | | | | | | | | | | | | | | |
//! window     [s s s   1   …                                   6     s s)
//! kept            [                run of rung 1                ]
//! ```
//!
//! So a window takes the run of rung 1 and at most three slices on either side of it. The run changes
//! with one window in four or two, and is then merged from that of the next rung in the same way. What
//! a window costs does not grow with its slices, but for a few merges for each rung when many runs
//! end at once; there is one rung more for four times the slices.
//!
//! Invariants: a node or run is the merge of the slices under it, and one that changes takes them with
//! it; what is merged with what depends on the window alone, not on the windows before.

use std::collections::BTreeMap;
use std::ops::Range;

use tidemill_core::Result;

use super::super::table::{Resting, Table};
use super::piece::{Pieces, Work};

/// Nodes of one rung that make one of the next.
const CHILDREN: i64 = 4;

/// So many neighbours are sure to have all children of one parent among them.
const MANY: i64 = 2 * CHILDREN - 1;

/// Rungs above the slices: enough for the most slices that a window may have.
const RUNGS: u32 = 8;

/// Nodes and runs by rung, without the slices themselves.
#[derive(Default)]
pub(super) struct Ladder {
    rungs: [Rung; RUNGS as usize],
    /// Behind the last slice that a node or run may be over.
    end: Option<i64>,
    #[cfg(test)]
    pub merges: usize,
}

#[derive(Default)]
struct Rung {
    /// By number.
    nodes: BTreeMap<i64, Resting>,
    /// Bytes of the nodes.
    bytes: usize,
    run: Option<Run>,
}

/// Neighbouring nodes.
struct Run {
    nodes: Range<i64>,
    /// All of them; `None` where no slice is under them.
    merged: Option<Resting>,
}

/// How many slices are under a node.
fn length(rung: u32) -> i64 {
    CHILDREN.pow(rung)
}

impl Ladder {
    /// All of the slices with these numbers, in one table.
    pub fn table(
        &mut self,
        slices: Range<i64>,
        pieces: &mut Pieces,
        work: &mut Work,
    ) -> Result<Table> {
        self.end = self.end.max(Some(slices.end));
        let parts = self.cover(0, slices, pieces, work)?;
        self.merge(&parts, work)
    }

    fn merge(&mut self, parts: &[Resting], work: &mut Work) -> Result<Table> {
        #[cfg(test)]
        {
            self.merges += parts.len();
        }
        work.merge(Table::new(&work.plan)?, parts)
    }

    /// One part for all, if there is any.
    fn merged(&mut self, mut parts: Vec<Resting>, work: &mut Work) -> Result<Option<Resting>> {
        if parts.len() > 1 {
            return Ok(Some(self.merge(&parts, work)?.rest()?));
        }
        Ok(parts.pop())
    }

    /// Neighbouring nodes, or slices, as few parts in the order of time.
    fn cover(
        &mut self,
        rung: u32,
        nodes: Range<i64>,
        pieces: &mut Pieces,
        work: &mut Work,
    ) -> Result<Vec<Resting>> {
        let mut parts = Vec::new();
        let is_many = nodes.end - nodes.start >= MANY && rung < RUNGS;
        let parents = match is_many {
            true => {
                (nodes.start + CHILDREN - 1).div_euclid(CHILDREN)..nodes.end.div_euclid(CHILDREN)
            }
            false => return self.each(rung, nodes, &mut parts, pieces, work).map(|()| parts),
        };
        let (head, tail) = (parents.start * CHILDREN, parents.end * CHILDREN);
        self.each(rung, nodes.start..head, &mut parts, pieces, work)?;
        parts.extend(self.run(rung + 1, parents, pieces, work)?);
        self.each(rung, tail..nodes.end, &mut parts, pieces, work)?;
        Ok(parts)
    }

    /// The run of a rung, which becomes this.
    fn run(
        &mut self,
        rung: u32,
        nodes: Range<i64>,
        pieces: &mut Pieces,
        work: &mut Work,
    ) -> Result<Option<Resting>> {
        let at = rung as usize - 1;
        if let Some(run) = self.rungs[at].run.as_ref().filter(|run| run.nodes == nodes) {
            return Ok(run.merged.clone());
        }
        let parts = self.cover(rung, nodes.clone(), pieces, work)?;
        let merged = self.merged(parts, work)?;
        self.rungs[at].run = Some(Run { nodes, merged: merged.clone() });
        Ok(merged)
    }

    /// Nodes, or slices, one by one.
    fn each(
        &mut self,
        rung: u32,
        nodes: Range<i64>,
        parts: &mut Vec<Resting>,
        pieces: &mut Pieces,
        work: &mut Work,
    ) -> Result<()> {
        for node in nodes {
            match rung {
                0 => parts.extend_from_slice(pieces.rest(node, work)?),
                _ => self.node(rung, node, parts, pieces, work)?,
            }
        }
        Ok(())
    }

    /// A node above the slices, which is made where it is not there yet and there is more than one
    /// slice under it.
    fn node(
        &mut self,
        rung: u32,
        node: i64,
        parts: &mut Vec<Resting>,
        pieces: &mut Pieces,
        work: &mut Work,
    ) -> Result<()> {
        let at = rung as usize - 1;
        if let Some(known) = self.rungs[at].nodes.get(&node) {
            parts.push(known.clone());
            return Ok(());
        }
        let slices = node * length(rung)..(node + 1) * length(rung);
        let Some(ends) = pieces.ends(&slices) else { return Ok(()) };
        if ends.start() == ends.end() {
            parts.extend_from_slice(pieces.rest(*ends.start(), work)?);
            return Ok(());
        }
        let mut children = Vec::new();
        self.each(rung - 1, node * CHILDREN..(node + 1) * CHILDREN, &mut children, pieces, work)?;
        if let Some(whole) = self.merged(children, work)? {
            self.rungs[at].bytes += whole.bytes();
            self.rungs[at].nodes.insert(node, whole.clone());
            parts.push(whole);
        }
        Ok(())
    }

    /// Drops what is over a slice.
    pub fn drop_over(&mut self, slice: i64) {
        if self.end.is_none_or(|end| slice >= end) {
            return;
        }
        for (rung, at) in self.rungs.iter_mut().zip(1..) {
            let node = slice.div_euclid(length(at));
            rung.remove(node);
            rung.run.take_if(|run| run.nodes.contains(&node));
        }
    }

    /// Drops what is over the slices up to this one.
    pub fn expire(&mut self, last: i64) {
        for (rung, at) in self.rungs.iter_mut().zip(1..) {
            let node = last.div_euclid(length(at));
            while let Some(first) = rung.nodes.first_key_value().map(|(first, _)| *first)
                && first <= node
            {
                rung.remove(first);
            }
            rung.run.take_if(|run| run.nodes.start <= node);
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let run = |rung: &Rung| rung.run.as_ref()?.merged.as_ref().map(Resting::bytes);
        self.rungs.iter().map(|rung| rung.bytes + run(rung).unwrap_or(0)).sum()
    }
}

impl Rung {
    fn remove(&mut self, node: i64) {
        if let Some(partial) = self.nodes.remove(&node) {
            self.bytes -= partial.bytes();
        }
    }
}
