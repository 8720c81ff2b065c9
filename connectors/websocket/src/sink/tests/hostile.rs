//! Clients that mean harm, or might as well: what each of them costs is bounded.

use std::time::Duration;

use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::serve;
use crate::WebSocket;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_frame_that_no_client_sends_is_refused_when_its_length_is_read() {
    let served = serve(WebSocket::stream("s").ping_every(PATIENCE * 10));
    let mut client = served.client("").await;
    // A masked binary frame of 1 MiB, of which nothing but the header comes.
    let header = [0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4];
    client.get_mut().write_all(&header).await.unwrap();
    let end =
        timeout(PATIENCE, client.next()).await.expect("the server does not wait for the rest");
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}
