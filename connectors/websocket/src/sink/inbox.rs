//! From the job to the server: batches that wait to be encoded and sent.
//!
//! Invariant: bounded. Where the server cannot keep up, the oldest batches go, so that the job never waits.

use std::collections::VecDeque;

use arrow::array::{Array, RecordBatch};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// So many bytes of rows may wait to be encoded.
const BYTES_MAX: usize = 64 << 20;

/// See the module.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<(RecordBatch, usize)>,
    bytes: usize,
    is_closed: bool,
}

impl Inbox {
    /// Puts a batch in, and returns how many rows had to go for it.
    pub fn push(&self, rows: &RecordBatch) -> usize {
        let bytes = size(rows);
        let mut dropped = 0;
        {
            let mut waiting = self.waiting.lock();
            waiting.batches.push_back((rows.clone(), bytes));
            waiting.bytes += bytes;
            while waiting.bytes > BYTES_MAX && waiting.batches.len() > 1 {
                if let Some((oldest, bytes)) = waiting.batches.pop_front() {
                    waiting.bytes -= bytes;
                    dropped += oldest.num_rows();
                }
            }
        }
        self.changed.notify_one();
        dropped
    }

    /// How much waits.
    pub fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// The next batch; `None` once it is closed and empty.
    pub async fn next(&self) -> Option<RecordBatch> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some((rows, bytes)) = waiting.batches.pop_front() {
                    waiting.bytes -= bytes;
                    return Some(rows);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

fn size(rows: &RecordBatch) -> usize {
    let of = |column: &arrow::array::ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size())
    };
    rows.columns().iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn an_inbox_that_nobody_empties_stays_bounded_and_keeps_the_newest() {
        let batch = |value: i64| {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![value; 1 << 20]));
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        let inbox = Inbox::default();
        let dropped: usize = (0..20).map(|value| inbox.push(&batch(value))).sum();
        assert!(inbox.bytes() <= BYTES_MAX);
        assert_eq!(dropped, 12 << 20, "eight batches of 8 MiB are kept");
        let (newest, _) = inbox.waiting.lock().batches.pop_back().unwrap();
        assert_eq!(newest, batch(19));
    }
}
