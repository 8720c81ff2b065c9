//! The naive answer: every row into every window, by definition, in plain Rust.

use std::collections::BTreeMap;

use crate::scenario::{Keys, Kind, Row, Scenario, Values};

/// What a job must come to.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Results as text, sorted.
    pub results: Vec<String>,
    pub counted: usize,
    pub late: usize,
    pub dead_lettered: usize,
}

type Key = [Option<i64>; 2];

pub fn run(scenario: &Scenario) -> Outcome {
    let mut outcome = Outcome::default();
    let mut windows: BTreeMap<(i64, i64, Key), Vec<Row>> = BTreeMap::new();
    let mut by_key: BTreeMap<Key, Vec<Row>> = BTreeMap::new();
    for row in scenario.splits.iter().flatten() {
        // The scenario's extremes are closer to the ends of time than any window allows.
        let Some(time) = row.time.filter(|time| time.abs_diff(0) < 1 << 62) else {
            outcome.dead_lettered += 1;
            continue;
        };
        let key = key(scenario, row);
        if scenario.kind == Kind::Session {
            if time < row.floor {
                outcome.late += 1;
            } else {
                outcome.counted += 1;
                by_key.entry(key).or_default().push(*row);
            }
            continue;
        }
        let mut open = bounds(scenario, time);
        open.retain(|(_, end)| *end > row.floor);
        if open.is_empty() {
            outcome.late += 1;
            continue;
        }
        outcome.counted += 1;
        for (start, end) in open {
            windows.entry((start, end, key)).or_default().push(*row);
        }
    }
    for (key, mut rows) in by_key {
        rows.sort_by_key(|row| row.time);
        for session in rows.chunk_by(|a, b| b.time.unwrap() - a.time.unwrap() <= scenario.step) {
            let start = session[0].time.unwrap();
            let end = session[session.len() - 1].time.unwrap() + scenario.step;
            windows.insert((start, end, key), session.to_vec());
        }
    }
    outcome.results = windows.iter().map(|(window, rows)| line(scenario, window, rows)).collect();
    outcome.results.sort();
    outcome
}

fn key(scenario: &Scenario, row: &Row) -> Key {
    match scenario.keys {
        Keys::None => [None, None],
        Keys::TextAndNumber => row.key,
        _ => [row.key[0], None],
    }
}

/// All windows over a time, by trying all that may be.
fn bounds(scenario: &Scenario, time: i64) -> Vec<(i64, i64)> {
    let Scenario { size, step, offset, .. } = *scenario;
    let aligned = |at: i64, to: i64| (at - offset).rem_euclid(to) == 0;
    match scenario.kind {
        Kind::Tumbling | Kind::Hopping => (time - size + 1..=time)
            .filter(|start| aligned(*start, step))
            .map(|start| (start, start + size))
            .collect(),
        Kind::Cumulating => {
            let start = (time - size + 1..=time).find(|start| aligned(*start, size)).unwrap();
            (1..=size / step)
                .map(|n| (start, start + n * step))
                .filter(|(_, end)| *end > time)
                .collect()
        }
        Kind::Session => unreachable!("sessions depend on their rows"),
    }
}

fn line(scenario: &Scenario, (start, end, key): &(i64, i64, Key), rows: &[Row]) -> String {
    let text = |value: Option<i64>| value.map_or("null".to_owned(), |value| value.to_string());
    // The numbers are small: their sum is exact, and their mean is rounded once.
    let double = |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:?}"));
    let first = key[0].map_or("null".to_owned(), |key| match scenario.keys {
        Keys::Float => format!("{:?}", crate::scenario::float(key, false)),
        Keys::Number => key.to_string(),
        _ => format!("key {key}"),
    });
    let keys = match scenario.keys {
        Keys::None => String::new(),
        Keys::TextAndNumber => format!("{first}|{}|", text(key[1])),
        _ => format!("{first}|"),
    };
    let values: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
    let sum = (!values.is_empty()).then(|| values.iter().sum());
    let (least, greatest) = (values.iter().min().copied(), values.iter().max().copied());
    let mut aggregates = vec![rows.len().to_string()];
    match scenario.values {
        Values::Integers => {
            let positive = values.iter().filter(|value| **value > 0).count();
            aggregates.extend([text(sum), text(least), text(greatest), positive.to_string()]);
        }
        Values::Doubles => {
            let as_double = |value: Option<i64>| double(value.map(|value| value as f64));
            let mean = sum.map(|sum: i64| sum as f64 / values.len() as f64);
            aggregates.extend([
                as_double(sum),
                as_double(least),
                as_double(greatest),
                double(mean),
            ]);
        }
        Values::None => {}
    }
    format!("{start}|{end}|{}|{keys}{}", end - 1000, aggregates.join("|"))
}
