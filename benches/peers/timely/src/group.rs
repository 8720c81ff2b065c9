//! What a worker keeps of one key in one slice, and which part of a row that takes.
//!
//! Invariant: a group is that of all values that were added to it or to groups that it was merged with, in any order.

use timely::ExchangeData;

use crate::checksum::Aggregates;

/// What is known of one key.
pub trait Group: Copy + Default + 'static {
    /// What goes to it of a row's value.
    type Value: ExchangeData + Copy;

    /// That part of a value.
    fn value(value: f64) -> Self::Value;

    /// Adds a row's.
    fn add(&mut self, value: Self::Value);

    /// Adds another's rows.
    fn merge(&mut self, other: &Self);

    /// What a result says of it.
    fn aggregates(&self) -> Aggregates;
}

/// Count, sum, minimum and maximum; the mean follows from them.
#[derive(Debug, Clone, Copy)]
pub struct Totals(Aggregates);

impl Default for Totals {
    fn default() -> Self {
        Self(Aggregates { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY })
    }
}

impl Group for Totals {
    type Value = f64;

    fn value(value: f64) -> f64 {
        value
    }

    fn add(&mut self, value: f64) {
        self.merge(&Self(Aggregates { count: 1, sum: value, min: value, max: value }));
    }

    fn merge(&mut self, Self(other): &Self) {
        self.0.count += other.count;
        self.0.sum += other.sum;
        self.0.min = self.0.min.min(other.min);
        self.0.max = self.0.max.max(other.max);
    }

    fn aggregates(&self) -> Aggregates {
        self.0
    }
}

/// The count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count(i64);

impl Group for Count {
    type Value = ();

    fn value(_: f64) {}

    fn add(&mut self, (): ()) {
        self.0 += 1;
    }

    fn merge(&mut self, Self(other): &Self) {
        self.0 += other;
    }

    fn aggregates(&self) -> Aggregates {
        Aggregates { count: self.0, ..Aggregates::default() }
    }
}
