//! Tests of feeds: a real server over real sockets.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::source::{Offset, Read, Source, SplitReader};
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::testing::reader_context;
use tidemill_core::time::SystemClock;
use tidemill_core::{Error, ErrorKind};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::{FeedMessage, WebSocketSource};
use crate::{WebSocket, WebSocketFactory};

type Socket = WebSocketStream<TcpStream>;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that does with each connection in turn what the test says, or refuses it with a status.
struct Server {
    url: String,
    authorizations: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

type Act = Box<dyn FnOnce(Socket) -> BoxFuture<'static, ()> + Send>;

fn act<F: Future<Output = ()> + Send + 'static>(
    act: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Act, u16> {
    Ok(Box::new(|socket| Box::pin(act(socket))))
}

impl Server {
    fn new(acts: Vec<Result<Act, u16>>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("ws://{}/trades", listener.local_addr().unwrap());
        let authorizations = Arc::new(Mutex::new(Vec::new()));
        let seen = authorizations.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                for act in acts {
                    let (stream, _) = listener.accept().await.unwrap();
                    let status = act.as_ref().err().copied();
                    #[allow(clippy::result_large_err)]
                    let look = |request: &Request, response: Response| {
                        let header = request.headers().get("authorization");
                        let header = header.map_or("", |value| value.to_str().unwrap());
                        seen.lock().unwrap().push(header.to_owned());
                        let Some(status) = status else { return Ok(response) };
                        let mut refusal = ErrorResponse::new(None);
                        *refusal.status_mut() = status.try_into().unwrap();
                        Err(refusal)
                    };
                    if let (Ok(socket), Ok(act)) = (accept_hdr_async(stream, look).await, act) {
                        act(socket).await;
                    }
                }
            });
        });
        Self { url, authorizations, thread: Some(thread) }
    }

    fn finished(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads until `rows` rows and dead letters have come.
struct Job {
    reader: Box<dyn SplitReader>,
    woken: Receiver<()>,
}

struct Bell(Mutex<Sender<()>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // The test may have ended.
        let _ = self.0.lock().unwrap().send(());
    }
}

impl Job {
    fn new(source: &WebSocketSource, from: Option<&str>) -> Self {
        let (bell, woken) = channel();
        let mut context = reader_context(Arc::new(SystemClock::default()));
        context.waker = Waker::from(Arc::new(Bell(Mutex::new(bell))));
        let split = source.splits().unwrap().remove(0);
        let from = from.map(|offset| Offset(offset.to_owned()));
        Self { reader: source.open(&split, from.as_ref(), &context).unwrap(), woken }
    }

    fn next(&mut self) -> Result<(RecordBatch, Vec<DeadLetter>), Error> {
        loop {
            match self.reader.read(1000)? {
                Read::Batch(batch) => return Ok((batch.rows, batch.dead_letters)),
                Read::Pending => self.woken.recv_timeout(PATIENCE).unwrap(),
                Read::End => panic!("a feed does not end"),
            }
        }
    }

    fn read(&mut self, messages: usize) -> (RecordBatch, Vec<DeadLetter>) {
        let (mut batches, mut letters) = (Vec::new(), Vec::new());
        let mut count = 0;
        while count < messages {
            let (batch, dead) = self.next().unwrap();
            count += batch.num_rows() + dead.len();
            batches.push(batch);
            letters.extend(dead);
        }
        (concat_batches(&batches[0].schema(), &batches).unwrap(), letters)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

fn numbers(rows: &RecordBatch) -> Vec<i64> {
    rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

async fn send(socket: &mut Socket, numbers: std::ops::Range<i64>) {
    for n in numbers {
        socket.send(Message::Text(format!("{{\"n\":{n}}}").into())).await.unwrap();
    }
}

/// Reads until the client closes.
async fn until_closed(mut socket: Socket) {
    while let Some(Ok(_)) = socket.next().await {}
}

#[test]
fn messages_become_rows_and_bad_ones_dead_letters() {
    let mut server = Server::new(vec![act(|mut socket: Socket| async move {
        send(&mut socket, 0..2).await;
        socket.send(Message::Text("not json".into())).await.unwrap();
        socket.send(Message::Binary("{\"n\":3}".into())).await.unwrap();
        until_closed(socket).await;
    })]);
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("connection", DataType::Int64, true),
    ]));
    let feed = WebSocket::feed(&server.url).metadata("at", "timestamp").token("s3cret");
    let source = feed.metadata("connection", "connection").json(schema);
    let said = source.describe();
    assert!(said.contains("at most once") && !said.contains("s3cret"), "{said}");
    let mut job = Job::new(&source, Some("40"));
    let (rows, letters) = job.read(4);
    assert_eq!(numbers(&rows), [0, 1, 3]);
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[1, 1, 1]);
    assert_eq!(rows.column(1).null_count(), 0);
    assert_eq!(letters[0].record.payload.as_deref(), Some(&b"not json"[..]));
    assert_eq!(letters[0].record.position, "message 42");
    assert_eq!(job.reader.offset(), Offset("44".to_owned()));
    drop(job);
    server.finished();
    assert_eq!(*server.authorizations.lock().unwrap(), ["Bearer s3cret"]);
}

#[test]
fn a_lost_connection_is_made_again_and_greeted_anew() {
    let (greetings, greeted) = channel();
    let connection = |from: i64, status| {
        let greetings = greetings.clone();
        match status {
            Some(status) => Err(status),
            None => act(move |mut socket: Socket| async move {
                for _ in 0..2 {
                    let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
                    greetings.send(text.as_str().to_owned()).unwrap();
                }
                send(&mut socket, from..from + 3).await;
                socket.close(None).await.unwrap();
            }),
        }
    };
    // Even a server that refuses for a while is asked again, once it has served.
    let script = vec![
        connection(0, None),
        connection(0, Some(503)),
        connection(0, Some(404)),
        connection(3, None),
    ];
    let mut server = Server::new(script);
    let feed = WebSocket::feed(&server.url).subscribe("hello").on_connect(|last| {
        let last = match last {
            Some(FeedMessage::Text(text)) => text.clone(),
            Some(FeedMessage::Binary(_)) => "binary".to_owned(),
            None => "from the start".to_owned(),
        };
        vec![FeedMessage::Text(last)]
    });
    let mut job = Job::new(&feed.json(schema()), None);
    assert_eq!(numbers(&job.read(6).0), [0, 1, 2, 3, 4, 5]);
    server.finished();
    let greeted: Vec<String> = greeted.try_iter().collect();
    assert_eq!(greeted, ["hello", "from the start", "hello", "{\"n\":2}"]);
}

#[test]
fn a_feed_that_refuses_at_once_ends_the_job_and_says_why() {
    for (status, advice) in [(401, "'token'"), (404, "change 'url'"), (301, "change 'url'")] {
        let server = Server::new(vec![Err(status)]);
        let feed = WebSocket::feed(format!("{}?secret=canary", server.url)).token("s3cret-canary");
        let mut job = Job::new(&feed.json(schema()), None);
        let error = job.next().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let text = error.to_string();
        assert!(text.contains(&status.to_string()) && text.contains(advice), "{text}");
        assert!(text.contains(&server.url) && !text.contains("canary"), "{text}");
    }
}

#[test]
fn a_feed_that_is_faster_than_the_job_is_held_up_and_nothing_is_lost() {
    const SIZE: usize = 10_000;
    let (sent, count) = channel();
    let _server = Server::new(vec![act(move |mut socket: Socket| async move {
        let padding = " ".repeat(SIZE);
        let mut n = 0i64;
        loop {
            let message = Message::Text(format!("{{\"n\":{n}}}{padding}").into());
            n += 1;
            if timeout(Duration::from_secs(1), socket.send(message)).await.is_err() {
                break;
            }
        }
        sent.send(n).unwrap();
        socket.flush().await.unwrap();
        until_closed(socket).await;
    })]);
    let mut job = Job::new(&WebSocket::feed(&_server.url).json(schema()), None);
    let sent = count.recv_timeout(PATIENCE).unwrap();
    assert!(sent as usize * SIZE < 48 << 20, "{sent} messages were taken without anybody reading");
    assert_eq!(numbers(&job.read(sent as usize).0), (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_server_that_says_nothing_for_too_long_is_left() {
    let mut server = Server::new(vec![
        act(|socket: Socket| async move {
            // It neither reads nor answers, and finds the connection closed.
            let mut tcp = socket.into_inner();
            let mut bytes = [0; 1024];
            while tokio::io::AsyncReadExt::read(&mut tcp, &mut bytes).await.is_ok_and(|n| n > 0) {}
        }),
        act(|mut socket: Socket| async move {
            send(&mut socket, 0..1).await;
            until_closed(socket).await;
        }),
    ]);
    let feed = WebSocket::feed(&server.url).ping_every(Duration::from_millis(50));
    let mut job = Job::new(&feed.json(schema()), None);
    assert_eq!(numbers(&job.read(1).0), [0]);
    drop(job);
    server.finished();
}

#[test]
fn mistakes_in_a_table_name_the_option() {
    let check = |options: &[(&str, &str)]| {
        let table = TableSpec {
            name: "trades".to_owned(),
            schema: schema(),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            options: options.iter().copied().collect::<Options>(),
        };
        WebSocketFactory.source(&table).map(|source| source.describe())
    };
    let url = ("url", "ws://localhost:9000/trades?secret=1");
    let plain = check(&[url, ("format", "json"), ("header.X-Api-Key", "k")]).unwrap();
    assert_eq!(plain, "websocket feed ws://localhost:9000/trades (json, at most once)");
    for (url, option) in
        [("http://localhost", "url"), ("localhost", "url"), ("ws://user:canary@localhost", "url")]
    {
        let error = check(&[("url", url), ("format", "json")]).unwrap_err();
        assert_eq!(error.wrong_option(), Some(option));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    for (option, value) in [
        ("format", "xml"),
        ("header.X-Key", "a\nb"),
        ("ping.interval", "0 s"),
        ("port", "80"),
        ("slow-client", "disconnect"),
    ] {
        let mut options = vec![url, ("format", "json")];
        options.retain(|(name, _)| *name != option);
        options.push((option, value));
        assert_eq!(check(&options).unwrap_err().wrong_option(), Some(option));
    }
    assert_eq!(check(&[("format", "json")]).unwrap_err().wrong_option(), Some("url"));
    #[cfg(not(feature = "tls"))]
    {
        let error = check(&[("url", "wss://localhost"), ("format", "json")]).unwrap_err();
        assert!(error.to_string().contains("feature 'tls'"), "{error}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_wss_feed_is_asked_in_tls() {
    const HANDSHAKE: u8 = 22;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://localhost:{}", listener.local_addr().unwrap().port());
    let _job = Job::new(&WebSocket::feed(url).json(schema()), None);
    // What no TLS server answers is tried again.
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0];
        std::io::Read::read_exact(&mut stream, &mut first).unwrap();
        assert_eq!(first, [HANDSHAKE]);
    }
}
