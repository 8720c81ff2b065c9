//! Division by a number that is known before the rows are: a multiplication and a comparison.
//!
//! Where an event stands in its round is asked for each event of a table of one kind, and a division
//! takes as long as a cheap field. The method is that of Granlund and Montgomery,
//! "Division by Invariant Integers using Multiplication" (PLDI 1994), with a correction in place of
//! a wider reciprocal. Invariant: the results are those of `/` and `%`.

/// A number to divide by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Divisor {
    by: u64,
    /// `2^64 / by`, rounded down.
    reciprocal: u64,
}

impl Divisor {
    /// `by` is at least 1.
    pub(super) fn new(by: u64) -> Self {
        let reciprocal = (1u128 << 64) / u128::from(by.max(1));
        // Only of 1 it is 2^64, and then one less is corrected as any other.
        Self { by: by.max(1), reciprocal: u64::try_from(reciprocal).unwrap_or(u64::MAX) }
    }

    /// The number.
    pub(super) fn get(self) -> u64 {
        self.by
    }

    /// Quotient and remainder.
    pub(super) fn divide(self, number: u64) -> (u64, u64) {
        // The reciprocal is too small by less than one, so this is too small by at most one.
        let quotient = ((u128::from(number) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = number - quotient * self.by;
        if rest >= self.by { (quotient + 1, rest - self.by) } else { (quotient, rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn it_divides_as_the_machine_does() {
        let random = Stream::new(3, 0);
        let of_any_size = |row| {
            let mut random = random.at(row);
            random.bits() >> random.below(64)
        };
        let edges = [0, 1, 2, 3, 49, 50, 51, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        for row in 0..20_000 {
            let by = of_any_size(row).max(1);
            let near = [by - 1, by, by.saturating_add(1), by.saturating_mul(7)];
            let numbers = edges.into_iter().chain(near).chain([of_any_size(row + 20_000)]);
            for (number, by) in numbers.flat_map(|n| [(n, by), (n, 1), (n, u64::MAX), (n, 50)]) {
                assert_eq!(Divisor::new(by).divide(number), (number / by, number % by));
            }
        }
    }
}
