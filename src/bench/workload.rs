//! What is measured: a windowed query, the rows it runs over, and where they come from.
//!
//! Stands outside the data path. Invariant: equal workloads have equal rows and equal results,
//! whoever computes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A window over the benchmark's rows, by their key, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Count, sum, minimum, maximum and mean of the values in windows that follow one another.
    Tumbling {
        /// Length of a window.
        size_us: i64,
    },
    /// The count in windows that overlap.
    Hopping {
        /// Length of a window, a multiple of `slide_us`.
        size_us: i64,
        /// From the start of one window to the next.
        slide_us: i64,
    },
    /// Count, sum, minimum, maximum and mean of the values in sessions.
    Session {
        /// How long a key has no row when its session ends.
        gap_us: i64,
    },
}

impl Query {
    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumbling { .. } => "tumbling",
            Self::Hopping { .. } => "hopping",
            Self::Session { .. } => "session",
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TOTALS: &str = "count, sum, min, max, avg of a double";
        match *self {
            Self::Tumbling { size_us } => write!(f, "tumbling {}: {TOTALS}", length(size_us)),
            Self::Hopping { size_us, slide_us } => {
                write!(f, "hopping {} by {}: count", length(size_us), length(slide_us))
            }
            Self::Session { gap_us } => write!(f, "session, gap {}: {TOTALS}", length(gap_us)),
        }
    }
}

/// A length of time, in the largest unit in which it is a whole number.
fn length(micros: i64) -> String {
    const UNITS: [(i64, &str); 4] =
        [(3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];
    let unit = UNITS.into_iter().find(|(unit, _)| micros != 0 && micros % unit == 0);
    unit.map_or_else(|| format!("{micros} µs"), |(unit, name)| format!("{} {name}", micros / unit))
}

/// How keys are spread over rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skew {
    /// All keys are equally frequent.
    Uniform,
    /// The k-th most frequent key's share is proportional to `1 / k^exponent`.
    Zipf {
        /// How unequal they are.
        exponent: f64,
    },
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

/// What keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// 64-bit integers.
    Integer,
    /// Text of 16 bytes.
    Text,
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RowSource {
    /// Arrow batches in memory.
    Memory,
    /// Files of CSV.
    Csv,
    /// Files of JSON, one object a line.
    #[value(alias = "ndjson")]
    Json,
    /// Files of Parquet.
    Parquet,
    /// Records of JSON in a Kafka topic.
    Kafka,
    /// Records of JSON in Redis streams.
    Redis,
}

impl RowSource {
    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Kafka => "kafka",
            Self::Redis => "redis",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The query.
    pub query: Query,
    /// How many rows.
    pub rows: usize,
    /// Over how many keys.
    pub keys: u64,
    /// How frequent each of them is.
    pub skew: Skew,
    /// What they are.
    pub key_type: KeyType,
    /// How far out of order rows come, in microseconds; also the bound of watermarks.
    pub disorder_us: i64,
    /// Where rows come from.
    pub source: RowSource,
    /// Rows in files are in one, which threads share, not in a file for each thread.
    pub one_file: bool,
    /// On how many threads contenders run, one number after the other.
    pub parallelism: Vec<usize>,
    /// Where the engine keeps checkpoints, in runs of their own.
    pub checkpoints: Option<String>,
}

impl Default for Workload {
    /// 10 million rows in memory, 10 000 keys, tumbling windows of 10 s, on one thread and on two.
    fn default() -> Self {
        Self {
            query: Query::Tumbling { size_us: 10_000_000 },
            rows: 10_000_000,
            keys: 10_000,
            skew: Skew::Uniform,
            key_type: KeyType::Integer,
            disorder_us: 1_000_000,
            source: RowSource::Memory,
            one_file: false,
            parallelism: vec![1, 2],
            checkpoints: None,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self.key_type {
            KeyType::Integer => "i64",
            KeyType::Text => "16-byte text",
        };
        let source = self.source.name();
        let files = if self.one_file { ", one file" } else { "" };
        write!(
            f,
            "{} by {} {keys} keys ({}); {} rows from {source}{files}, up to {} out of order",
            self.query,
            self.keys,
            self.skew,
            self.rows,
            length(self.disorder_us)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_says_what_it_is_and_survives_being_written_down() {
        let workload = Workload {
            query: Query::Hopping { size_us: 3_600_000_000, slide_us: 1_500_000 },
            skew: Skew::Zipf { exponent: 1.1 },
            key_type: KeyType::Text,
            ..Workload::default()
        };
        assert_eq!(
            workload.to_string(),
            "hopping 1 h by 1500 ms: count by 10000 16-byte text keys (zipf:1.1); 10000000 rows \
             from memory, up to 1 s out of order"
        );
        let json = serde_json::to_string(&workload).unwrap();
        assert_eq!(serde_json::from_str::<Workload>(&json).unwrap(), workload);
    }
}
