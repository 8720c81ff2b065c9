//! A thousand clients of one job, of which a hundred never read.

use std::io::{Read, Write};
use std::net::TcpStream as HttpStream;

use futures::StreamExt;
use futures::future::join_all;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{PATIENCE, Serving, block_on};
use crate::command;

const CLIENTS: usize = 1000;
const STALLED: usize = 100;

/// So many windows every healthy client must get from when all are connected.
const WINDOWS: usize = 120;

/// What may wait for one client.
const BUFFER_MESSAGES: u64 = 20;

/// The text that makes results large enough to fill the sockets of those who do not read.
const PADDING: usize = 4000;

/// What the server may keep for a client: what waits for it, and its connection.
const CLIENT_BYTES: u64 = BUFFER_MESSAGES * (PADDING as u64 + 200) + (64 << 10);

/// A window every 100 ms.
const JOB: &str = "
CREATE TABLE rows (n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'rows-per-second' = '1000');

CREATE TABLE windows (window_start TIMESTAMP(3), n BIGINT, padding STRING)
WITH ('connector' = 'websocket', 'port' = '0', 'client.buffer' = '20', 'snapshot.rows' = '1',
      'slow-client' = 'drop-oldest');

INSERT INTO windows
SELECT window_start, COUNT(*), LPAD('x', 4000, 'x')
FROM TABLE(TUMBLE(TABLE rows, DESCRIPTOR(ts), INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end;
";

/// Each client is a file on either side.
fn check_limit() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limit = line.split_whitespace().nth(3).unwrap();
    let enough = limit.parse().map_or(true, |limit: usize| limit >= CLIENTS + 200);
    assert!(enough, "{limit} open files are too few for {CLIENTS} clients: ulimit -n 4096");
}

/// A field of `/proc/PID/status`, in bytes.
fn memory(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The value of a metric of the sink.
fn metric(http: &str, name: &str) -> u64 {
    let address = http.strip_prefix("http://").unwrap();
    let mut stream = HttpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let start = format!("tidemill_websocket_{name}{{sink=\"windows\"}} ");
    let value = answer.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("{start}: {answer}")).parse::<f64>().unwrap() as u64
}

type Client = WebSocketStream<TcpStream>;

async fn connect(url: &str, receive_buffer: Option<u32>) -> Client {
    let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    client_async(url, stream).await.unwrap().0
}

/// The starts of all windows until the connection ends, and the code that it ends with. Each client says
/// when it has got [`WINDOWS`].
async fn read(mut client: Client, enough: &watch::Sender<usize>) -> (Vec<String>, Option<u16>) {
    let mut starts = Vec::new();
    loop {
        match client.next().await {
            Some(Ok(Message::Text(text))) => {
                let (_, rest) = text.split_once("\"window_start\":\"").unwrap();
                starts.push(rest.split('"').next().unwrap().to_owned());
                if starts.len() == WINDOWS {
                    enough.send_modify(|clients| *clients += 1);
                }
            }
            Some(Ok(Message::Close(frame))) => return (starts, frame.map(|f| f.code.into())),
            Some(Ok(_)) => {}
            end => {
                println!("a connection ended after {} windows: {end:?}", starts.len());
                return (starts, None);
            }
        }
    }
}

#[test]
fn a_thousand_clients_get_every_result_whatever_a_hundred_stalled_ones_do() {
    check_limit();
    let folder = tempfile::tempdir().unwrap();
    let job = command::file(folder.path(), "job.sql", JOB);
    let mut serving = Serving::start(folder.path(), &job, &[]);
    let process = serving.running.id();
    let before = memory(process, "VmHWM");
    block_on(async {
        let url = serving.stream.clone();
        let healthy = join_all((STALLED..CLIENTS).map(|_| connect(&url, None))).await;
        let stalled = join_all((0..STALLED).map(|_| connect(&url, Some(4096)))).await;
        let (enough, mut reached) = watch::channel(0);
        let reading = async {
            let reads = healthy.into_iter().map(|client| read(client, &enough));
            join_all(reads).await
        };
        let stopping = async {
            let all = reached.wait_for(|clients| *clients == CLIENTS - STALLED);
            timeout(PATIENCE, all).await.expect("every client gets its windows").unwrap();
            assert_eq!(
                metric(&serving.http, "connections"),
                CLIENTS as u64,
                "nobody was sent away"
            );
            let dropped = metric(&serving.http, "messages_dropped_total");
            assert!(dropped > STALLED as u64, "{dropped} messages dropped");
            let peak = memory(process, "VmHWM") - before;
            let bound = CLIENTS as u64 * CLIENT_BYTES;
            assert!(peak < bound, "{peak} bytes for the clients, more than {bound}");
            serving.running.signal("TERM");
            dropped
        };
        let (results, dropped) = tokio::join!(reading, stopping);
        assert_healthy(&results);
        let stalled = join_all(stalled.into_iter().map(|client| read(client, &enough))).await;
        assert_stalled(&stalled, &results[0].0, dropped);
    });
    assert_eq!(serving.running.wait().0, Some(0));
}

/// Every client got every window from its first on, in order, and was told that the job has ended.
fn assert_healthy(results: &[(Vec<String>, Option<u16>)]) {
    let longest =
        results.iter().map(|(starts, _)| starts).max_by_key(|starts| starts.len()).unwrap();
    assert!(longest.is_sorted());
    for (starts, close) in results {
        assert!(longest.ends_with(starts), "{} of {} windows", starts.len(), longest.len());
        assert_eq!(*close, Some(1001), "after {} windows", starts.len());
    }
}

/// Those who did not read have lost what was counted, or more, and what is left is in order.
fn assert_stalled(results: &[(Vec<String>, Option<u16>)], all: &[String], dropped: u64) {
    assert!(results.iter().all(|(starts, _)| starts.is_sorted()));
    let lost: usize = results.iter().map(|(starts, _)| all.len() - starts.len()).sum();
    assert!(lost as u64 >= dropped, "{lost} messages are missing, {dropped} were counted");
    assert!(results.iter().all(|(starts, _)| starts.len() < all.len()), "every one of them");
}
