//! WebSockets: the page of `examples/live` in a real browser, a thousand clients of one job, and a job that
//! reads what another serves.

#[path = "websocket/browser.rs"]
mod browser;
#[path = "websocket/crowd.rs"]
mod crowd;
#[path = "websocket/feed.rs"]
mod feed;
#[path = "websocket/live.rs"]
mod live;
#[path = "websocket/secrets.rs"]
mod secrets;

use std::cell::RefCell;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::command::command;
use crate::job_folder::Running;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A job with a WebSocket sink, running; its log tells where it serves what.
struct Serving {
    running: Running,
    stream: String,
    http: String,
}

impl Serving {
    fn start(folder: &Path, job: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = command(["run", "--parallelism", "1", "--http", "127.0.0.1:0"]);
        command.arg(job).envs(variables.iter().copied());
        let mut running = Running::start(command, folder.join("log"));
        let stream = address(&mut running, folder, "serving ws://", "ws://");
        let http = address(&mut running, folder, "/status on http://", "http://");
        Self { running, stream, http }
    }
}

/// A port that can be taken again and again: none of those that the system hands out to connections.
fn free_port() -> String {
    let mut ports = std::iter::repeat_with(|| rand::random_range(20_000u16..32_000));
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    port.unwrap().to_string()
}

/// The address that a line of the log ends with.
fn address(running: &mut Running, folder: &Path, line: &str, scheme: &str) -> String {
    let found = RefCell::new(String::new());
    running.until(line, || {
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        // A line that is written to its end.
        let mut lines = log.split_inclusive('\n').filter(|text| text.ends_with('\n'));
        let Some(line) = lines.find(|text| text.contains(line)) else { return false };
        let address = line.split(scheme).nth(1).unwrap();
        *found.borrow_mut() = format!("{scheme}{}", address.trim());
        true
    });
    found.into_inner()
}

/// The next text message as JSON; `None` when the connection has ended.
async fn next(client: &mut Client) -> Option<Value> {
    loop {
        match timeout(PATIENCE, client.next()).await.expect("a row comes") {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

/// What a test does on its own runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}
