//! The slices of one operator, and the windows that are put together from them: a window of many
//! slices by way of a [ladder](ladder), one of a slice of its own from that alone, and one that has the slices of the
//! last not at all.
//! Invariant: a window's results are those of the slices that lie in it now.

use std::ops::{Range, RangeInclusive};

use tidemill_core::{EventTime, Result};

use self::ladder::Ladder;
use self::piece::Pieces;
pub(super) use self::piece::{Piece, Work};
use super::table::Results;

mod ladder;
mod piece;

/// Slices by number, and what is kept over them.
pub(super) struct Slices {
    /// Length of a slice.
    step: i64,
    pieces: Pieces,
    ladder: Ladder,
    last: Option<Last>,
}

/// Results that the next window has, too, where no slice changes or comes.
struct Last {
    /// The first and last slice that they are of.
    slices: RangeInclusive<i64>,
    results: Vec<Results>,
}

impl Slices {
    /// No slices, of which each is `step` long.
    pub fn new(step: i64) -> Self {
        Self { step, pieces: Pieces::default(), ladder: Ladder::default(), last: None }
    }

    /// Number of the slice that ends at `end`. Ends lie a step apart, so numbers follow each other.
    fn number(&self, end: EventTime) -> i64 {
        end.div_euclid(self.step)
    }

    /// The numbers of the slices of a window.
    fn numbers(&self, start: EventTime, end: EventTime) -> Range<i64> {
        self.number(start) + 1..self.number(end) + 1
    }

    /// The slice ending at `end`, to be changed.
    pub fn piece(&mut self, end: EventTime) -> &mut Piece {
        let number = self.changing(end);
        self.pieces.change(number)
    }

    /// Several slices by their ends, in order, to be changed.
    pub fn several(&mut self, ends: impl Iterator<Item = EventTime>) -> Vec<&mut Piece> {
        let numbers: Vec<_> = ends.map(|end| self.changing(end)).collect();
        self.pieces.change_several(&numbers)
    }

    /// The number of a slice that is going to change: what was made from it is no longer true.
    fn changing(&mut self, end: EventTime) -> i64 {
        let number = self.number(end);
        self.ladder.drop_over(number);
        self.last.take_if(|last| last.slices.contains(&number));
        number
    }

    /// End of the earliest slice, where all slices end `offset` after a multiple of their length.
    pub fn first_end(&self, offset: i64) -> Option<EventTime> {
        self.pieces.first().map(|number| number * self.step + offset)
    }

    /// All slices by number, to be put to rest.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut Piece)> {
        self.pieces.iter_mut()
    }

    /// The results of the window `[start, end)`, in one part or several. Slices that end by `expired`
    /// serve no later window.
    pub fn results(
        &mut self,
        [start, end]: [EventTime; 2],
        expired: EventTime,
        work: &mut Work,
        mut each: impl FnMut(Results) -> Result<()>,
    ) -> Result<()> {
        let numbers = self.numbers(start, end);
        let expired = self.number(expired);
        if let Some(slices) = self.pieces.ends(&numbers) {
            let is_last_again = *slices.start() > expired && !self.pieces.has(numbers.end);
            let mut last = self.last.take().filter(|last| last.slices == slices);
            if let Some(last) = &last {
                last.results.iter().cloned().try_for_each(&mut each)?;
            } else if slices.start() == slices.end() && *slices.end() <= expired {
                let piece = self.pieces.remove(*slices.start()).unwrap_or_default();
                piece.into_results(work, each)?;
            } else {
                let table = self.ladder.table(numbers, &mut self.pieces, work)?;
                let mut results = Vec::new();
                table.into_results(|part| {
                    if is_last_again {
                        results.push(part.clone());
                    }
                    each(part)
                })?;
                last = Some(Last { slices, results });
            }
            self.last = last.filter(|_| is_last_again);
        }
        self.pieces.expire(expired);
        self.ladder.expire(expired);
        Ok(())
    }

    /// Bytes in use.
    pub fn bytes(&mut self) -> usize {
        let last = self.last.iter().flat_map(|last| &last.results).map(Results::bytes);
        last.sum::<usize>() + self.ladder.bytes() + self.pieces.bytes()
    }

    /// Merges of partial aggregates so far, to put windows together.
    #[cfg(test)]
    pub fn merges(&self) -> usize {
        self.ladder.merges
    }
}
