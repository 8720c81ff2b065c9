//! What cells keep their sums in, and that nothing of them is lost where that changes.

use super::*;

/// A group of two rows, whose sum is -62.5.
const VALUES: [f64; 2] = [1.5, -64.0];

/// Cells of one group, and its rows.
#[derive(Clone)]
struct One {
    cells: Cells,
    counts: [i64; 1],
}

impl One {
    /// Without rows.
    fn empty() -> Self {
        let mut cells = Cells::default();
        cells.resize(1);
        Self { cells, counts: [0] }
    }

    /// Two rows, in the unit that suits these values.
    fn whole(like: f64) -> Self {
        let mut one = Self::empty();
        one.cells.choose_unit(&[like], None);
        one.add(&VALUES);
        one
    }

    /// Two rows, in doubles.
    fn in_parts() -> Self {
        let mut one = Self::whole(100.0);
        one.cells.use_parts();
        one
    }

    /// As if so many rows of other groups were missing to the most that there may be.
    fn nearly_full(missing: usize) -> Self {
        let mut one = Self::whole(100.0);
        let Sums::Fixed { rows, .. } = &mut one.cells.sums else { panic!("they are in units") };
        *rows = MOST_ROWS - missing;
        one
    }

    fn add(&mut self, values: &[f64]) {
        let (rows, mut whole) = (vec![0; values.len()], Whole::new());
        let added =
            self.cells.add_rows(&mut self.counts, &rows, |row| row, |_| 0, values, &mut whole);
        assert_eq!(added, values.len());
    }

    fn add_run(&mut self, values: &[f64]) {
        self.cells.add_run(&mut self.counts[0], 0, 0, values);
    }

    fn take_in(&mut self, other: &Self) {
        self.cells.take_in(&other.cells, [(0, 0)].into_iter(), |_| 0);
        self.counts[0] += other.counts[0];
    }

    fn group(&self) -> Group {
        Group { position: 0, key: 0, rows: self.counts[0] }
    }

    fn sum(&self) -> Option<f64> {
        self.cells.sum(self.group())
    }

    fn is_whole(&self) -> bool {
        self.cells.unit().is_some()
    }

    /// What is known of how many rows there are.
    fn rows(&self) -> usize {
        if let Sums::Fixed { rows, .. } = self.cells.sums { rows } else { 0 }
    }
}

#[test]
fn groups_are_put_together_whatever_their_sums_are_kept_in() {
    let all = [One::empty(), One::whole(100.0), One::whole(1e6), One::in_parts()];
    for (n, one) in all.iter().enumerate() {
        for (m, other) in all.iter().enumerate() {
            let mut both = one.clone();
            both.take_in(other);
            let values = [one, other].map(|part| part.sum().unwrap_or(0.0));
            let has_rows = n + m > 0;
            assert_eq!(both.sum(), has_rows.then_some(values[0] + values[1]), "{n} and {m}");
            assert_eq!(both.cells.greatest(both.group()), has_rows.then_some(1.5), "{n} and {m}");
            assert_eq!(both.cells.least(both.group()), has_rows.then_some(-64.0), "{n} and {m}");
            // One without rows takes the other's unit; two units are none.
            let is_whole = matches!((n, m), (0, 1 | 2) | (1 | 2, 0) | (1, 1) | (2, 2));
            assert_eq!(both.is_whole(), is_whole, "{n} and {m}");
            assert_eq!(both.rows(), if is_whole { one.rows() + other.rows() } else { 0 });
        }
    }
}

#[test]
fn units_are_left_before_a_sum_may_be_more_than_two_doubles_tell() {
    let mut rows = One::nearly_full(3);
    rows.add(&[1.0, 2.0, 3.0]);
    assert_eq!((rows.sum(), rows.is_whole()), (Some(-56.5), true));
    rows.add(&[1.0]);
    assert_eq!((rows.sum(), rows.is_whole()), (Some(-55.5), false));

    let mut run = One::nearly_full(3);
    run.add_run(&[1.0, 2.0, 3.0]);
    assert_eq!((run.sum(), run.is_whole()), (Some(-56.5), true));
    run.add_run(&[1.0]);
    assert_eq!((run.sum(), run.is_whole()), (Some(-55.5), false));

    for (missing, is_whole) in [(2, true), (1, false)] {
        let mut all = One::nearly_full(missing);
        all.take_in(&One::whole(100.0));
        assert_eq!((all.sum(), all.is_whole()), (Some(-125.0), is_whole));
    }
}

#[test]
fn values_that_do_not_fit_turn_sums_into_doubles() {
    for x in [1e-9, 1e9, f64::NAN, f64::INFINITY, 5e-324] {
        let mut rows = One::whole(100.0);
        let mut run = rows.clone();
        run.add_run(&[2.0, x]);
        rows.add(&[2.0, x]);
        let expected = if x.is_finite() { (-60.5 + x).to_bits() } else { x.to_bits() };
        for one in [rows, run] {
            assert_eq!((one.counts, one.sum().unwrap().to_bits()), ([4], expected), "{x}");
            assert!(!one.is_whole(), "{x}");
        }
    }
}

#[test]
fn the_larger_of_two_units_is_chosen_and_forgotten_with_the_groups() {
    let of = |x: f64| Unit::of(&[x]).unwrap();
    for (value, expected, chosen) in [
        (100.0, None, Some(of(100.0))),
        (100.0, Some(of(1e6)), Some(of(1e6))),
        (1e6, Some(of(100.0)), Some(of(1e6))),
        (0.0, Some(of(100.0)), Some(of(100.0))),
        (0.0, None, None),
    ] {
        let mut one = One::empty();
        one.cells.choose_unit(&[value], expected);
        assert_eq!(one.cells.unit(), chosen, "{value}");
        one.cells.choose_unit(&[1e12], None);
        assert_eq!(one.cells.unit(), chosen.or(Some(of(1e12))), "{value}: it stays");
        one.cells.empty(1);
        assert_eq!(one.cells.unit(), None);
    }
}
