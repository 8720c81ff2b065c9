//! One client's connection: sends what waits, answers and sends pings, closes.
//!
//! Invariant: whatever the client does or does not do, this task holds nothing but its own queue and seat,
//! and gives both back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::parcel::{Lane, Parcel, size};
use super::queue::{End, Next, Queue};
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
    /// The client has gone, or the network has.
    Gone,
    /// The client has not been heard of for too long.
    Silent,
}

/// When the client was heard of last.
type Heard = Mutex<Instant>;

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
    let heard = Heard::new(Instant::now());
    let (mut out, mut incoming) = socket.split();
    let over = tokio::select! {
        over = send(&mut out, &snapshot, &queue, &stream.meters, ping_every) => over,
        over = listen(&mut incoming, &heard) => over,
        over = watch(&heard, ping_every) => over,
        over = slowness(&queue) => over,
    };
    stream.leave(&lane, &queue);
    let frame = match over {
        Over::Gone => return,
        Over::Ended(End::Job) => close_frame(GOING_AWAY, "the job has ended"),
        Over::Silent => close_frame(GOING_AWAY, "no answer to pings"),
        Over::Ended(End::TooSlow) => {
            stream.meters.disconnected.increment(1);
            close_frame(TRY_AGAIN_LATER, "too slow: more was waiting than may")
        }
    };
    let closing = close(&mut out, &mut incoming, frame);
    if over == Over::Ended(End::Job) {
        // The server waits a while for its clients. One that lags has all of this while: a connection that is cut
        // with something of the client's unread loses what is still under way to it.
        closing.await;
    } else {
        // Where even this is not taken in time, the connection is simply cut.
        let _ = timeout(CLOSING, closing).await;
    }
}

async fn send(
    out: &mut SplitSink<WebSocket, Message>,
    snapshot: &Parcel,
    queue: &Queue,
    meters: &Meters,
    ping_every: Duration,
) -> Over {
    let mut ping_at = Instant::now() + ping_every;
    let mut before = snapshot.iter().cloned();
    loop {
        // Busy or not: a client that is only ever sent results has nothing to answer.
        if ping_at <= Instant::now() {
            ping_at = Instant::now() + ping_every;
            if out.feed(Message::Ping(Bytes::new())).await.is_err() {
                return Over::Gone;
            }
        }
        let next = before.next().map_or_else(|| queue.next(), Next::Message);
        let sent = match next {
            Next::Message(message) => {
                meters.sent.increment(1);
                meters.bytes.increment(size(&message) as u64);
                out.feed(message).await
            }
            Next::End(end) => {
                return if out.flush().await.is_ok() { Over::Ended(end) } else { Over::Gone };
            }
            Next::Empty => {
                if out.flush().await.is_err() {
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
        *heard.lock() = Instant::now();
        if matches!(message, Message::Close(_)) {
            break;
        }
    }
    Over::Gone
}

/// Returns when nothing was heard for two intervals.
async fn watch(heard: &Heard, ping_every: Duration) -> Over {
    loop {
        let deadline = *heard.lock() + 2 * ping_every;
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

async fn close(
    out: &mut SplitSink<WebSocket, Message>,
    incoming: &mut SplitStream<WebSocket>,
    frame: Message,
) {
    if out.send(frame).await.is_ok() {
        while let Some(Ok(_)) = incoming.next().await {}
    }
}
