//! Events of one kind and one round that follow one another in a batch, and columns filled by them.
//!
//! Invariant: the stretches of a batch come in order, and cover it.

use std::ops::Range;

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::NullBuffer;

use super::config::{Config, Kind};

/// Events of one kind and one round, next to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) kind: Kind,
    /// Their round.
    pub(crate) round: u64,
    /// The number of the round's first event.
    pub(crate) first: u64,
    /// Where they are in the batch.
    pub(crate) places: Range<usize>,
}

impl Stretch {
    /// The stretches of a batch of events.
    pub(crate) fn among(numbers: &[u64], config: &Config) -> Vec<Self> {
        let mut stretches = Vec::new();
        let mut start = 0;
        while let Some(number) = numbers.get(start) {
            let (stretch, own) = config.stretch(*number);
            let rest = &numbers[start..];
            let length = rest.iter().position(|n| !own.contains(n)).unwrap_or(rest.len());
            let places = start..start + length;
            start = places.end;
            stretches.push(Self { places, ..stretch });
        }
        stretches
    }

    /// Which events of a batch are of this kind.
    pub(crate) fn are_of(kind: Kind, stretches: &[Self]) -> NullBuffer {
        let length = stretches.last().map_or(0, |stretch| stretch.places.end);
        let mut are = BooleanBufferBuilder::new(length);
        for stretch in stretches {
            are.append_n(stretch.places.len(), stretch.kind == kind);
        }
        NullBuffer::new(are.finish())
    }
}
