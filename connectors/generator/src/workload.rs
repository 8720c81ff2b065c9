//! Rows in memory for measuring windows: keyed values that come nearly in time order.
//!
//! The input that the windowed aggregation is measured with, here and in the peers it is compared
//! with. Equal arguments give equal rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::random::{Random, Stream};

/// Rows in a batch.
const BATCH_ROWS: usize = 8_192;

/// Microseconds of event time from one row to the next: 100 000 rows a second.
const STEP: i64 = 10;

/// How keys are spread over rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keys {
    /// All rows have the same key.
    Single,
    /// So many keys, each as frequent as any other.
    Uniform(u64),
    /// So many keys, the k-th most frequent of them in proportion to `1 / k^exponent`.
    Zipf {
        /// How many keys there are.
        keys: u64,
        /// How unequal they are; 1.1 is typical.
        exponent: f64,
    },
}

/// `rows` rows `(key BIGINT, ts TIMESTAMP, value DOUBLE)` in batches of 8 192: one row every 10 µs
/// of event time from 1970 on, each held back at random by less than `disorder` microseconds, so
/// that no row comes further out of order than that. Values lie in `[0, 100)`.
pub fn tumbling_rows(rows: usize, keys: Keys, disorder: i64, seed: u64) -> Vec<RecordBatch> {
    let key = |keys: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(keys)) };
    batches(rows, keys, disorder, seed, &schema(DataType::Int64), key)
}

/// The rows of [`tumbling_rows`] with keys of 16 characters instead of numbers.
pub fn tumbling_rows_by_text(
    rows: usize,
    keys: Keys,
    disorder: i64,
    seed: u64,
) -> Vec<RecordBatch> {
    let key = |keys: Vec<i64>| -> ArrayRef {
        let text = keys.into_iter().map(|key| Some(format!("customer{key:08}")));
        Arc::new(text.collect::<StringViewArray>())
    };
    batches(rows, keys, disorder, seed, &schema(DataType::Utf8View), key)
}

fn schema(key: DataType) -> SchemaRef {
    let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("key", key, false),
        Field::new("ts", ts, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

fn batches(
    rows: usize,
    keys: Keys,
    disorder: i64,
    seed: u64,
    schema: &SchemaRef,
    key_column: impl Fn(Vec<i64>) -> ArrayRef,
) -> Vec<RecordBatch> {
    let streams = [0, 1, 2].map(|stream| Stream::new(seed, stream));
    let keys = Sampler::new(keys);
    let batch = |start: usize| {
        let rows = (start..rows.min(start + BATCH_ROWS)).map(|row| row as u64);
        let key = rows.clone().map(|row| keys.sample(&mut streams[0].at(row)));
        let time = rows.clone().map(|row| {
            let held_back = streams[1].at(row).below(disorder.max(1).unsigned_abs());
            row as i64 * STEP - held_back as i64
        });
        let value = rows.map(|row| streams[2].at(row).unit() * 100.0);
        let columns: Vec<ArrayRef> = vec![
            key_column(key.collect()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(time)),
            Arc::new(Float64Array::from_iter_values(value)),
        ];
        RecordBatch::try_new(schema.clone(), columns)
            .expect("the columns are made by the schema, row for row")
    };
    (0..rows).step_by(BATCH_ROWS).map(batch).collect()
}

enum Sampler {
    Uniform(u64),
    /// The share of rows whose key is this one or a more frequent one.
    Cumulative(Vec<f64>),
}

impl Sampler {
    fn new(keys: Keys) -> Self {
        match keys {
            Keys::Single => Self::Uniform(1),
            Keys::Uniform(keys) => Self::Uniform(keys.max(1)),
            Keys::Zipf { keys, exponent } => {
                let mut total = 0.0;
                let mut sums = Vec::with_capacity(keys as usize);
                for rank in 1..=keys.max(1) {
                    total += (rank as f64).powf(-exponent);
                    sums.push(total);
                }
                sums.iter_mut().for_each(|sum| *sum /= total);
                Self::Cumulative(sums)
            }
        }
    }

    fn sample(&self, random: &mut Random) -> i64 {
        match self {
            Self::Uniform(keys) => random.below(*keys) as i64,
            Self::Cumulative(sums) => {
                let share = random.unit();
                let rank = sums.partition_point(|sum| *sum <= share);
                rank.min(sums.len() - 1) as i64
            }
        }
    }
}
