//! One client's connection: sends what waits, answers and sends pings, closes.
//!
//! Invariant: whatever the client does or does not do, this task holds nothing but its own queue and seat,
//! and gives both back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::parcel::{Lane, Parcel, size};
use super::queue::{End, Next, Queue};
use super::server::GRACE;
use super::stream::{Meters, Seat};

/// How long the client may take to be told that the connection is closed, and to answer.
const CLOSING: Duration = Duration::from_secs(1);

/// Close codes of RFC 6455, section 7.4.1, and of its registry.
const GOING_AWAY: u16 = 1001;
const INTERNAL_ERROR: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Nothing more comes for the client.
    Ended(End),
    /// The client wants no more, and waits for its close frame to be answered.
    Left,
    /// The client has gone, or the network has.
    Gone,
    /// The client has not been heard of for too long.
    Silent,
}

/// When the client was heard of last, or took something for which there had been no room.
struct Heard(Mutex<Instant>);

impl Heard {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn note(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Waits for something to be written. One that was put off and then was done says that the client reads, though
    /// its answer to a ping may be far away, behind all that it has not read yet. One that was done at once says
    /// nothing: the kernel takes it for clients that are dead, too.
    async fn written<T>(&self, writing: impl Future<Output = T>) -> T {
        let mut writing = pin!(writing);
        let mut waited = false;
        let written = poll_fn(|context| {
            let written = writing.as_mut().poll(context);
            waited |= written.is_pending();
            written
        });
        let written = written.await;
        if waited {
            self.note();
        }
        written
    }
}

/// Serves one client until it is gone.
pub(crate) async fn serve(mut socket: WebSocket, seat: Seat, lane: Lane) {
    let stream = seat.stream();
    let (snapshot, queue) = match stream.join(&lane) {
        Ok(joined) => joined,
        Err(error) => {
            tracing::error!("a WebSocket client cannot be served: {error}");
            // It may be gone.
            let _ = socket.send(close_frame(INTERNAL_ERROR, "internal error")).await;
            return;
        }
    };
    let ping_every = stream.settings.ping_every;
    let heard = Heard::new();
    let (mut out, mut incoming) = socket.split();
    let over = tokio::select! {
        over = send(&mut out, &snapshot, &queue, &stream.meters, &heard, ping_every) => over,
        over = listen(&mut incoming, &heard) => over,
        over = watch(&heard, ping_every) => over,
        over = slowness(&queue) => over,
    };
    stream.leave(&lane, &queue);
    let frame = match over {
        Over::Gone => return,
        Over::Left => {
            let _ = timeout(CLOSING, answer(&mut out, &mut incoming)).await;
            return;
        }
        Over::Ended(End::Job) => close_frame(GOING_AWAY, "the job has ended"),
        Over::Silent => close_frame(GOING_AWAY, "no answer to pings"),
        Over::Ended(End::TooSlow) => {
            stream.meters.disconnected.increment(1);
            close_frame(TRY_AGAIN_LATER, "too slow: more was waiting than may")
        }
    };
    // When the job ends the server waits a while for its clients. One that lags has all of this while: a connection
    // that is cut with something of the client's unread loses what is still under way to it.
    let patience = if over == Over::Ended(End::Job) { GRACE } else { CLOSING };
    // Where even this is not taken in time, the connection is simply cut.
    let _ = timeout(patience, close(&mut out, &mut incoming, frame)).await;
}

async fn send(
    out: &mut (impl Sink<Message> + Unpin),
    snapshot: &Parcel,
    queue: &Queue,
    meters: &Meters,
    heard: &Heard,
    ping_every: Duration,
) -> Over {
    let mut ping_at = Instant::now() + ping_every;
    let mut before = snapshot.iter().cloned();
    loop {
        // Busy or not: a client that is only ever sent results has nothing to answer.
        if ping_at <= Instant::now() {
            ping_at = Instant::now() + ping_every;
            if heard.written(out.feed(Message::Ping(Bytes::new()))).await.is_err() {
                return Over::Gone;
            }
        }
        let next = before.next().map_or_else(|| queue.next(), Next::Message);
        let sent = match next {
            Next::Message(message) => {
                meters.sent.increment(1);
                meters.bytes.increment(size(&message) as u64);
                heard.written(out.feed(message)).await
            }
            Next::End(end) => {
                return if heard.written(out.flush()).await.is_ok() {
                    Over::Ended(end)
                } else {
                    Over::Gone
                };
            }
            Next::Empty => {
                if heard.written(out.flush()).await.is_err() {
                    return Over::Gone;
                }
                tokio::select! {
                    () = queue.changed() => {}
                    () = sleep_until(ping_at) => {}
                }
                Ok(())
            }
        };
        if sent.is_err() {
            return Over::Gone;
        }
    }
}

/// Takes note of what the client says, which is nothing but that it is there. Pings are answered by the
/// library.
async fn listen(incoming: &mut SplitStream<WebSocket>, heard: &Heard) -> Over {
    while let Some(Ok(message)) = incoming.next().await {
        heard.note();
        if matches!(message, Message::Close(_)) {
            return Over::Left;
        }
    }
    Over::Gone
}

/// Returns when nothing was heard for two intervals.
async fn watch(heard: &Heard, ping_every: Duration) -> Over {
    loop {
        let deadline = *heard.0.lock() + 2 * ping_every;
        if deadline <= Instant::now() {
            return Over::Silent;
        }
        sleep_until(deadline).await;
    }
}

/// Returns when the client is to be disconnected for being slow, even in the middle of a message.
async fn slowness(queue: &Arc<Queue>) -> Over {
    queue.broken().await;
    Over::Ended(End::TooSlow)
}

fn close_frame(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Sends the answer to a close frame, which the library has ready, behind what was already on its way.
async fn answer(out: &mut SplitSink<WebSocket, Message>, incoming: &mut SplitStream<WebSocket>) {
    if out.flush().await.is_ok() {
        while let Some(Ok(_)) = incoming.next().await {}
    }
}

async fn close(
    out: &mut SplitSink<WebSocket, Message>,
    incoming: &mut SplitStream<WebSocket>,
    frame: Message,
) {
    if out.send(frame).await.is_ok() {
        while let Some(Ok(_)) = incoming.next().await {}
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::ws::Message;
    use futures::channel::mpsc;
    use futures::future::join;

    use super::super::SlowClient;
    use super::super::queue::Limits;
    use super::*;

    /// Whether a client that answers nothing has been heard of once it has got three messages over a connection
    /// with room for so many.
    async fn is_heard_of(room: usize) -> bool {
        let queue = Queue::new(Limits::default(), SlowClient::DropOldest);
        let messages = ["a", "b", "c"].map(|text| Message::Text(text.into()));
        queue.offer(&Parcel::from(messages.clone()));
        queue.end(End::Job);
        // Each sender has a place of its own besides.
        let (mut out, incoming) = mpsc::channel(room - 1);
        let (meters, snapshot) = (Meters::new("s"), Parcel::from([]));
        let heard = Heard::new();
        let before = *heard.0.lock();
        let sending = async move {
            let hour = Duration::from_secs(3600);
            let over = send(&mut out, &snapshot, &queue, &meters, &heard, hour).await;
            assert!(over == Over::Ended(End::Job));
            let after = *heard.0.lock();
            after != before
        };
        let (is_heard_of, got) = join(sending, incoming.collect::<Vec<_>>()).await;
        assert_eq!(got, messages);
        is_heard_of
    }

    #[tokio::test]
    async fn who_makes_room_for_more_is_alive_and_who_has_room_may_be_dead() {
        assert!(is_heard_of(1).await);
        assert!(!is_heard_of(8).await);
    }
}
