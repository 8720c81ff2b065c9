//! Rows that are kept on a server: a Kafka topic or Redis streams, filled before anybody reads them, and
//! deleted when all have.
//!
//! A server that reads from one disk or one memory is as fast as it is, so what stands beside the engine
//! here is the same client library without an engine: a reader that counts records, and one that also
//! scans them and feeds the loop written by hand.
//!
//! Invariant: a split holds its rows from its first record on, in order, and nothing else.

pub(super) mod kafka;
pub(super) mod redis;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemill_core::Result;
use tidemill_formats::Format;

use super::checksum::Checksum;
use super::hand::{Windows, on_threads};
use super::input::encode;
use super::measure::{Contender, Outcome};
use super::table::{Count, Totals};
use super::text;
use super::workload::{KeyType, Query, Workload};

/// The client library by itself.
pub const READER: &str = "bare reader";

/// The client library, a scanner for the records' text, and the loop.
pub const READER_LOOP: &str = "hand-written reader and loop";

/// Where servers are. What is not said is taken from the environment, as connectors take it.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// Kafka's brokers: `host:port`, separated by commas; else `KAFKA_BROKERS`.
    pub brokers: Option<String>,
    /// Redis: `redis://host:port`; else `REDIS_URL`.
    pub redis: Option<String>,
}

/// A split that a server keeps.
pub(super) trait Split: Send + Sync + 'static {
    /// Hands over every record, in order.
    fn read(&self, each: impl FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

/// A name that nothing else on the server has.
fn unique_name() -> String {
    format!("tidemill-bench-{:016x}", RandomState::new().build_hasher().finish())
}

/// Each row of some batches as the JSON that a record holds, handed over with the number of its batch.
fn records(
    workload: &Workload,
    batches: &[RecordBatch],
    mut each: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let schema = super::input::schema(workload);
    for (number, batch) in batches.iter().enumerate() {
        let rows = std::slice::from_ref(batch);
        encode(&Format::Json(Default::default()), &schema, rows, |row| each(number, row))?;
    }
    Ok(())
}

/// Who reads the same splits without an engine.
pub(super) fn yardsticks<S: Split>(
    workload: &Arc<Workload>,
    windows: Windows,
    merges: bool,
    splits: &Arc<Vec<S>>,
) -> Vec<Contender> {
    let threads = splits.len();
    let (bare, rows) = (splits.clone(), workload.rows as u64);
    let bare = Contender::new(READER, threads, move || {
        let read = on_threads(&bare, count)?.results;
        Ok(Outcome { rows: Some(read), ..Outcome::default() })
    });
    if matches!(workload.query, Query::Session { .. }) || !merges {
        return vec![bare];
    }
    let (workload, splits) = (workload.clone(), splits.clone());
    let by_hand = Contender::new(READER_LOOP, threads, move || {
        let checksum = aggregate(&workload, windows, &splits)?;
        Ok(Outcome { rows: Some(rows), ..Outcome::of(checksum) })
    });
    vec![bare, by_hand]
}

/// How many records a split has, as a checksum of so many results.
fn count<S: Split>(split: &S) -> Result<Checksum> {
    let mut read = Checksum::default();
    split.read(|record| {
        std::hint::black_box(record);
        read.results += 1;
        Ok(())
    })?;
    Ok(read)
}

fn aggregate<S: Split>(workload: &Workload, windows: Windows, splits: &[S]) -> Result<Checksum> {
    let counts = matches!(workload.query, Query::Hopping { .. });
    match (workload.key_type, counts) {
        (KeyType::Integer, false) => text::records::<i64, Totals, S>(splits, windows),
        (KeyType::Integer, true) => text::records::<i64, Count, S>(splits, windows),
        (KeyType::Text, false) => text::records::<Box<[u8]>, Totals, S>(splits, windows),
        (KeyType::Text, true) => text::records::<Box<[u8]>, Count, S>(splits, windows),
    }
}
