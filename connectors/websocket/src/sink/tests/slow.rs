//! Clients that do not take what they are sent: the job and the other clients go on.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::{Client, Served, drain, rows, serve};
use crate::{SlowClient, WebSocket};

/// What is written to see a client stall: more than sockets hold.
const ROWS: i64 = 4_000;
const NAME: usize = 20_000;

/// So many messages may wait.
const BUFFER: usize = 50;

/// Writes [`ROWS`] rows, as fast as the reading client takes them, and returns what it got.
async fn write(served: &mut Served, healthy: &mut Client) -> Vec<i64> {
    let name = "x".repeat(NAME);
    let mut got = Vec::new();
    for n in 0..ROWS {
        served.write(&rows([(name.as_str(), n)]));
        // No more is under way than this client's queue holds.
        while (got.len() as i64) < n - 10 {
            got.push(super::json(healthy).await["n"].as_i64().unwrap());
        }
    }
    got
}

async fn stalled_and_healthy(policy: SlowClient) -> (Vec<i64>, Option<u16>) {
    let sink = WebSocket::stream("s").slow_client(policy).client_buffer(BUFFER, 100 << 20);
    let mut served = serve(sink);
    let mut stalled = served.client("").await;
    let mut healthy = served.client("").await;
    // Both have joined when they have this one.
    served.write(&rows([("a", -1)]));
    for client in [&mut stalled, &mut healthy] {
        assert_eq!(super::json(client).await["n"], -1);
    }
    let mut got = write(&mut served, &mut healthy).await;
    let ended = served.end();
    got.extend(drain(&mut healthy).await.0);
    assert_eq!(got, (0..ROWS).collect::<Vec<_>>(), "the others miss nothing");
    let (numbers, close) = drain(&mut stalled).await;
    ended.await.unwrap();
    assert!(numbers.is_sorted(), "in order, whatever is missing");
    (numbers, close.map(|frame| frame.code.into()))
}

#[tokio::test]
async fn the_oldest_are_dropped() {
    let (numbers, close) = stalled_and_healthy(SlowClient::DropOldest).await;
    assert!((BUFFER..ROWS as usize).contains(&numbers.len()), "{}", numbers.len());
    assert_eq!(numbers.last(), Some(&(ROWS - 1)), "the newest arrive");
    assert_eq!(close, Some(1001));
}

#[tokio::test]
async fn the_newest_are_dropped() {
    let (numbers, close) = stalled_and_healthy(SlowClient::DropNewest).await;
    let count = numbers.len() as i64;
    assert!((BUFFER as i64..ROWS).contains(&count), "{count}");
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "what came first arrives, without a gap");
    assert_eq!(close, Some(1001));
}

#[tokio::test]
async fn a_slow_client_is_disconnected() {
    let (numbers, close) = stalled_and_healthy(SlowClient::Disconnect).await;
    let count = numbers.len() as i64;
    assert!(count < ROWS, "{count}");
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "up to there nothing is missing");
    assert!(matches!(close, None | Some(1013)), "{close:?}");
}

#[tokio::test]
async fn who_does_not_answer_pings_is_disconnected_and_who_does_is_not() {
    let sink = WebSocket::stream("s").ping_every(Duration::from_millis(50)).max_connections(2);
    let mut served = serve(sink);
    // Pongs are sent when a client reads.
    let mut silent = served.client("").await;
    let mut alive = served.client("").await;
    let mut pings = 0;
    while pings < 10 {
        if let Some(Ok(Message::Ping(_))) = alive.next().await {
            pings += 1;
            alive.flush().await.unwrap();
        }
    }
    served.write(&rows([("a", 1)]));
    served.end();
    assert_eq!(drain(&mut alive).await.0, [1]);
    assert_eq!(drain(&mut silent).await.0, [] as [i64; 0], "it was gone before the row came");
}
