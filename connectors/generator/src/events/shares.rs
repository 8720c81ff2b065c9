//! Which rows have something wrong with them.
//!
//! A share of the rows is picked one per stratum: rows are cut into pieces of equal length, and each
//! piece has one, at a random place. So any `n` rows hold the share of `n` to within one, which looks
//! random and counts exactly, and whether a row is picked follows from its number. Shares exclude each
//! other: each next one is picked among the rows that those before have left.

use std::str::FromStr;

use tidemill_core::{Error, Result};

use crate::random::Stream;

/// Shares are counted in millionths.
const WHOLE: u64 = 1_000_000;

/// A duplicate repeats one of so many rows before it.
const DUPLICATE_REACH: u64 = 16;

/// A share of rows, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(u64);

impl FromStr for Share {
    type Err = String;

    /// `0.01` or `1%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no share: write 0.01 or 1%");
        let (number, whole) = match text.strip_suffix('%') {
            Some(percent) => (percent, WHOLE / 100),
            None => (text, WHOLE),
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let millionths = number * whole as f64;
        if !(0.0..=WHOLE as f64).contains(&millionths) {
            return Err(wrong());
        }
        if (millionths - millionths.round()).abs() > 1e-6 {
            return Err(format!("'{text}' is too fine a share: at most six decimal places"));
        }
        Ok(Self(millionths.round() as u64))
    }
}

/// How many of all rows have something wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares {
    /// No decoder can read them.
    pub malformed: Share,
    /// They come long after their time.
    pub late: Share,
    /// They repeat a row before them, byte for byte.
    pub duplicates: Share,
    /// They are of a type that the schema does not have.
    pub unknown_type: Share,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing.
    Sound,
    /// No decoder can read it.
    Malformed,
    /// It comes long after its time.
    Late,
    /// It repeats a row before it, byte for byte.
    Duplicate,
    /// It is of a type that the schema does not have.
    UnknownType,
}

impl Shares {
    pub(super) fn check(&self) -> Result<()> {
        let bad = self.malformed.0 + self.late.0;
        if bad + self.duplicates.0 + self.unknown_type.0 > WHOLE {
            return Err(Error::configuration("the shares of rows add up to more than all rows"));
        }
        if 2 * self.duplicates.0 > WHOLE - bad {
            return Err(Error::configuration(
                "at most half of the rows that are neither malformed nor late can be duplicates",
            ));
        }
        Ok(())
    }
}

/// Decides about each row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fates {
    malformed: Strata,
    late: Strata,
    duplicates: Strata,
    unknown_type: Strata,
    /// How far back the row is that a duplicate repeats.
    reach: Stream,
}

/// Streams of random numbers, never renumbered.
mod draw {
    pub(super) const MALFORMED: u64 = 1;
    pub(super) const LATE: u64 = 2;
    pub(super) const DUPLICATE: u64 = 3;
    pub(super) const UNKNOWN_TYPE: u64 = 4;
    pub(super) const REACH: u64 = 5;
}

impl Fates {
    pub(super) fn new(seed: u64, shares: Shares) -> Self {
        let mut left = WHOLE;
        let mut strata = |share: Share, number, spares_first| {
            let stream = Stream::new(seed, number);
            let strata = Strata { picked: share.0, of: left, spares_first, stream };
            left -= share.0;
            strata
        };
        Self {
            malformed: strata(shares.malformed, draw::MALFORMED, false),
            // The first row has none before it to be later than, or to repeat.
            late: strata(shares.late, draw::LATE, true),
            duplicates: strata(shares.duplicates, draw::DUPLICATE, true),
            unknown_type: strata(shares.unknown_type, draw::UNKNOWN_TYPE, false),
            reach: Stream::new(seed, draw::REACH),
        }
    }

    /// What is wrong with row `row`.
    pub(super) fn of(&self, row: u64) -> Fate {
        let mut rank = row;
        for (strata, fate) in [
            (&self.malformed, Fate::Malformed),
            (&self.late, Fate::Late),
            (&self.duplicates, Fate::Duplicate),
            (&self.unknown_type, Fate::UnknownType),
        ] {
            match strata.rank_among_the_rest(rank) {
                None => return fate,
                Some(rest) => rank = rest,
            }
        }
        Fate::Sound
    }

    /// The row that a duplicate repeats: near, before it, and none that is wrong in another way.
    pub(super) fn repeated_by(&self, duplicate: u64) -> u64 {
        let back = 1 + self.reach.at(duplicate).below(DUPLICATE_REACH);
        let nearest = duplicate.saturating_sub(back);
        let mut candidates = (0..=nearest).rev().chain(nearest + 1..duplicate);
        let can_be_repeated = |row: &u64| matches!(self.of(*row), Fate::Sound | Fate::UnknownType);
        // The first row that is neither malformed nor late is no duplicate, so there is one.
        candidates.find(can_be_repeated).unwrap_or(duplicate)
    }
}

/// Picks one row of each stratum, `picked` of `of` in all.
#[derive(Debug, Clone, Copy)]
struct Strata {
    picked: u64,
    of: u64,
    /// The first row of a stratum is never picked.
    spares_first: bool,
    stream: Stream,
}

impl Strata {
    /// How many rows before `row` are not picked; `None` where it is picked itself.
    fn rank_among_the_rest(&self, row: u64) -> Option<u64> {
        if self.picked == 0 {
            return Some(row);
        }
        let (picked, of) = (u128::from(self.picked), u128::from(self.of));
        let stratum = u128::from(row) * picked / of;
        let first_of = |stratum: u128| (stratum * of).div_ceil(picked) as u64;
        let (first, end) = (first_of(stratum), first_of(stratum + 1));
        let stratum = stratum as u64;
        let spared = u64::from(self.spares_first && end - first > 1);
        let place = first + spared + self.stream.at(stratum).below(end - first - spared);
        (place != row).then(|| row - stratum - u64::from(place < row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn any_number_of_rows_holds_its_shares_to_within_one() {
        let shares = Shares {
            malformed: share("1%"),
            late: share("0.03"),
            duplicates: share("25%"),
            unknown_type: share("0.000001"),
        };
        for seed in 0..20 {
            let fates = Fates::new(seed, shares);
            let mut counts = [0u64; 5];
            for row in 0..20_000 {
                let fate = fates.of(row);
                counts[fate as usize] += 1;
                let expected = [Fate::Malformed, Fate::Late, Fate::Duplicate];
                for (fate, share) in expected.iter().zip([0.01, 0.03, 0.25]) {
                    let expected = (row + 1) as f64 * share;
                    let off = (counts[*fate as usize] as f64 - expected).abs();
                    assert!(off <= 2.0, "seed {seed}: {fate:?} off by {off} at row {row}");
                }
                if fate == Fate::Duplicate {
                    let repeated = fates.repeated_by(row);
                    assert!(repeated < row, "seed {seed}: {row} repeats {repeated}");
                    assert_eq!(fates.of(repeated), Fate::Sound);
                }
            }
            assert_eq!(counts[1..4], [200, 600, 5_000], "seed {seed}");
        }
    }

    #[test]
    fn the_places_are_random_and_differ_by_seed() {
        let shares = Shares { malformed: share("0.1"), ..Shares::default() };
        let places = |seed| {
            let fates = Fates::new(seed, shares);
            (0..1_000).filter(move |row| fates.of(*row) == Fate::Malformed).collect::<Vec<u64>>()
        };
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
        let digits: std::collections::HashSet<u64> = places(1).iter().map(|n| n % 10).collect();
        assert_eq!(digits.len(), 10, "every place of a stratum is picked sometimes");
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        assert_eq!(share("1%"), share("0.01"));
        assert_eq!(share("0.000001"), Share(1));
        for wrong in ["-1", "1.5", "101%", "few", "NaN", "0.0000001", ""] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        let shares = |late, duplicates| Shares {
            late: share(late),
            duplicates: share(duplicates),
            ..Shares::default()
        };
        assert!(shares("0.6", "0.2").check().is_ok());
        assert!(shares("0.6", "0.21").check().is_err());
        assert!(shares("0.6", "0.5").check().is_err());
    }
}
