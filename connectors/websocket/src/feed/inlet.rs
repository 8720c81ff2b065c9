//! What has been read of a feed and waits for the job.
//!
//! Invariant: bounded. While it is full nothing is read, so that the server is held up by TCP.

use std::collections::VecDeque;
use std::task::Waker;

use parking_lot::Mutex;
use tidemill_core::{Error, EventTime};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::FeedMessage;

/// So many messages, and bytes of them, may wait.
const MESSAGES_MAX: usize = 8192;
const BYTES_MAX: usize = 16 << 20;

/// A message with what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub payload: Bytes,
    pub is_text: bool,
    pub read_at: EventTime,
    /// The number of the connection that it came over.
    pub connection: i64,
}

impl Received {
    /// A message that carries something; `None` for pings and the like.
    pub fn new(message: Message, read_at: EventTime, connection: i64) -> Option<Self> {
        let (payload, is_text) = match message {
            Message::Text(text) => (text.into(), true),
            Message::Binary(bytes) => (bytes, false),
            _ => return None,
        };
        Some(Self { payload, is_text, read_at, connection })
    }

    /// The message as it was sent.
    pub fn message(&self) -> FeedMessage {
        if self.is_text {
            FeedMessage::Text(String::from_utf8_lossy(&self.payload).into_owned())
        } else {
            FeedMessage::Binary(self.payload.to_vec())
        }
    }
}

/// See the module.
pub(super) struct Inlet {
    waiting: Mutex<Waiting>,
    room: Notify,
    waker: Waker,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Received>,
    bytes: usize,
    failure: Option<Error>,
}

impl Waiting {
    fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES_MAX || self.bytes >= BYTES_MAX
    }
}

impl Inlet {
    /// Wakes the shard when there is something.
    pub fn new(waker: Waker) -> Self {
        Self { waiting: Mutex::default(), room: Notify::new(), waker }
    }

    /// Puts a message in, then waits until there is room for another.
    pub async fn push(&self, message: Received) {
        {
            let mut waiting = self.waiting.lock();
            waiting.bytes += message.payload.len();
            waiting.messages.push_back(message);
            if waiting.messages.len() == 1 {
                self.waker.wake_by_ref();
            }
        }
        while self.waiting.lock().is_full() {
            self.room.notified().await;
        }
    }

    /// The feed cannot be read: the job ends when it has taken what there is.
    pub fn fail(&self, error: Error) {
        self.waiting.lock().failure = Some(error);
        self.waker.wake_by_ref();
    }

    /// At most `max` messages.
    ///
    /// # Errors
    /// The feed cannot be read, and all that was read is taken.
    pub fn take(&self, max: usize) -> Result<Vec<Received>, Error> {
        let mut waiting = self.waiting.lock();
        let count = waiting.messages.len().min(max);
        if count == 0 {
            return waiting.failure.take().map_or_else(|| Ok(Vec::new()), Err);
        }
        let taken: Vec<_> = waiting.messages.drain(..count).collect();
        waiting.bytes -= taken.iter().map(|message| message.payload.len()).sum::<usize>();
        self.room.notify_one();
        Ok(taken)
    }
}
