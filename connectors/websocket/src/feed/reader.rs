//! Reads a feed: what its connection has brought, decoded on the shard.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::retry::Backoff;
use tidemill_core::source::{Offset, Read, ReadBatch, ReaderContext, SplitId, SplitReader};
use tidemill_core::time::Clock;
use tidemill_core::{Error, ErrorKind, Result};
use tidemill_formats::Decoder;
use tokio::sync::oneshot;

use super::FeedConfig;
use super::connection::Connector;
use super::inlet::{Inlet, Received};
use super::records::{FeedRecords, record};

/// How messages are tried again whose schema cannot be had at the moment.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(5),
    deadline: Duration::MAX,
};

/// See the module.
pub(super) struct Reader {
    config: Arc<FeedConfig>,
    split: SplitId,
    inlet: Arc<Inlet>,
    decoder: Box<dyn Decoder>,
    /// How many messages were returned, in all runs.
    count: u64,
    held: Option<Held>,
    clock: Arc<dyn Clock>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Messages that could not be judged yet.
struct Held {
    messages: Arc<[Received]>,
    attempts: u32,
    again: Duration,
}

impl Reader {
    /// Starts to read, on a thread of its own. Where an offset is given, messages are counted from it.
    ///
    /// # Errors
    /// An offset that is none, or a token that cannot be read.
    pub fn open(
        config: Arc<FeedConfig>,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Self> {
        let count = from.map_or(Ok(0), |offset| offset.0.parse());
        let count = count.map_err(|_| {
            Error::corrupt("the offset of a feed in the checkpoint is no number").at(split)
        })?;
        let inlet = Arc::new(Inlet::new(context.waker.clone()));
        let decoder = config.layout.decoder()?;
        let clock = context.clock.clone();
        let connector = Connector::new(config.clone(), inlet.clone(), clock.clone())?;
        let failed = |error| Error::external("a feed cannot be read").caused_by(error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("tidemill-feed".to_owned()).spawn(move || {
            runtime.block_on(connector.run(stopped));
            // A name that is just being looked up holds up nobody.
            runtime.shutdown_background();
        });
        Ok(Self {
            config,
            split: split.clone(),
            inlet,
            decoder,
            count,
            held: None,
            clock,
            stop: Some(stop),
            thread: Some(thread.map_err(failed)?),
        })
    }

    fn decode(&mut self, messages: Arc<[Received]>, attempts: u32) -> Result<Read> {
        let (mut rows, mut dead_letters) = (Vec::new(), Vec::new());
        for (index, message) in (0u32..).zip(messages.iter()) {
            match self.decoder.decode(&message.payload) {
                Ok(()) => rows.push(index),
                Err(reason) => {
                    let record = record(message, self.count + u64::from(index));
                    dead_letters.push(DeadLetter::new(self.split.clone(), record, reason));
                }
            }
        }
        let value = match self.decoder.finish() {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::Transient => {
                if attempts == 1 {
                    tracing::warn!("{}: {error}; waiting", self.split);
                }
                let wait = BACKOFF.wait(attempts, Duration::ZERO, 0.0).unwrap_or(BACKOFF.max);
                let again = self.clock.elapsed() + wait;
                self.held = Some(Held { messages, attempts, again });
                return Ok(Read::Pending);
            }
            Err(error) => return Err(error),
        };
        let picked: Vec<&Received> = rows.iter().map(|row| &messages[*row as usize]).collect();
        let batch = self.config.layout.assemble(&value, &picked)?;
        let first = self.count;
        self.count += messages.len() as u64;
        let records = FeedRecords { messages, first, rows };
        Ok(Read::Batch(ReadBatch {
            rows: batch,
            dead_letters,
            skipped: 0,
            records: Some(Arc::new(records)),
        }))
    }
}

impl SplitReader for Reader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        if let Some(held) = self.held.take() {
            if self.clock.elapsed() < held.again {
                self.held = Some(held);
                return Ok(Read::Pending);
            }
            return self.decode(held.messages, held.attempts + 1);
        }
        let messages = self.inlet.take(max_rows)?;
        if messages.is_empty() {
            return Ok(Read::Pending);
        }
        self.decode(messages.into(), 1)
    }

    fn offset(&self) -> Offset {
        Offset(self.count.to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    fn waits(&self) -> bool {
        self.held.is_some()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("{}: the thread that reads it has panicked", self.split);
        }
    }
}
