//! The connection to a feed: made, greeted, read, and made again when it is lost.
//!
//! ```text
//! connect ─▶ subscribe, greeting ─▶ read … ─▶ lost ─▶ wait (longer each time without a message) ─▶ connect
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tidemill_core::retry::Backoff;
use tidemill_core::time::Clock;
use tidemill_core::{Error, Result};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::inlet::{Inlet, Received};
use super::{FeedConfig, FeedMessage};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the server may take to answer that the connection is closed.
const CLOSING: Duration = Duration::from_millis(500);

/// A feed is asked again for as long as the job runs.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(10),
    deadline: Duration::MAX,
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// See the module.
pub(super) struct Connector {
    config: Arc<FeedConfig>,
    request: Request,
    inlet: Arc<Inlet>,
    clock: Arc<dyn Clock>,
    connections: i64,
    messages: u64,
    /// The last message that was read.
    last: Option<Received>,
}

/// Why no connection was made.
enum Failure {
    /// The server does not want us, and will not want us later.
    Refused(Error),
    /// It may work another time.
    Passing(String),
}

impl Connector {
    /// # Errors
    /// A token that cannot be read.
    pub fn new(config: Arc<FeedConfig>, inlet: Arc<Inlet>, clock: Arc<dyn Clock>) -> Result<Self> {
        let request = request(&config)?;
        Ok(Self { config, request, inlet, clock, connections: 0, messages: 0, last: None })
    }

    /// Reads until told to stop, or until the server refuses.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let connected = tokio::select! {
                connected = self.connect() => connected,
                _ = &mut stop => return,
            };
            match connected {
                Ok(socket) => {
                    let before = self.messages;
                    let Some(why) = self.converse(socket, &mut stop).await else { return };
                    if self.messages > before {
                        attempts = 1;
                    }
                    tracing::warn!("{}: {why}; connecting again", self.config.place);
                }
                Err(Failure::Refused(error)) if self.connections == 0 => {
                    self.inlet.fail(error);
                    return;
                }
                Err(Failure::Refused(error)) => self.complain(attempts, &error.to_string()),
                Err(Failure::Passing(why)) => self.complain(attempts, &why),
            }
            let wait = BACKOFF.wait(attempts, Duration::ZERO, rand::random());
            tokio::select! {
                () = sleep(wait.unwrap_or(BACKOFF.max)) => {}
                _ = &mut stop => return,
            }
        }
    }

    fn complain(&self, attempts: u32, why: &str) {
        let place = &self.config.place;
        match attempts {
            1 => tracing::warn!("{place}: {why}; trying again"),
            _ => tracing::debug!("{place}: {why}; trying again (attempt {attempts})"),
        }
    }

    async fn connect(&self) -> Result<Socket, Failure> {
        let connecting = connect_async_with_config(self.request.clone(), None, true);
        match timeout(CONNECT, connecting).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(answer))) => {
                Err(self.refused(answer.status().as_u16()))
            }
            Ok(Err(error)) => Err(Failure::Passing(format!("cannot connect: {error}"))),
            Err(_) => Err(Failure::Passing(format!("no connection within {CONNECT:?}"))),
        }
    }

    fn refused(&self, status: u16) -> Failure {
        let advice = match status {
            401 | 403 => "set 'token', 'token.file' or 'header.*' to what the server wants",
            300..=399 => "the feed has moved: change 'url'",
            408 | 425 | 429 | 500.. => {
                return Failure::Passing(format!("the server says {status}"));
            }
            _ => "there is no feed at this address: change 'url'",
        };
        let message = format!("{}: the server says {status}: {advice}", self.config.place);
        Failure::Refused(Error::configuration(message))
    }

    /// Greets the server and reads what it sends. Returns why the connection is lost; `None` when told
    /// to stop.
    async fn converse(
        &mut self,
        mut socket: Socket,
        stop: &mut oneshot::Receiver<()>,
    ) -> Option<String> {
        self.connections += 1;
        tracing::info!("{}: connected", self.config.place);
        let lost = tokio::select! {
            lost = self.read(&mut socket) => lost,
            _ = stop => {
                // Where the server does not answer in time, the connection is simply cut.
                let _ = timeout(CLOSING, socket.close(None)).await;
                return None;
            }
        };
        Some(lost)
    }

    async fn read(&mut self, socket: &mut Socket) -> String {
        for message in self.greeting() {
            if let Err(error) = socket.send(message).await {
                return format!("the connection is lost: {error}");
            }
        }
        let ping_every = self.config.ping_every;
        let (mut heard, mut ping_at) = (Instant::now(), Instant::now() + ping_every);
        loop {
            let next = tokio::select! {
                next = socket.next() => next,
                () = sleep_until(ping_at) => {
                    if heard + 2 * ping_every <= Instant::now() {
                        return format!("nothing was heard for {:?}", heard.elapsed());
                    }
                    ping_at = Instant::now() + ping_every;
                    if let Err(error) = socket.send(Message::Ping(Bytes::new())).await {
                        return format!("the connection is lost: {error}");
                    }
                    continue;
                }
            };
            match next {
                Some(Ok(Message::Close(frame))) => {
                    let reason =
                        frame.map_or_else(String::new, |f| format!(": {} {}", f.code, f.reason));
                    return format!("the server has closed the connection{reason}");
                }
                Some(Ok(message)) => self.take(message).await,
                Some(Err(error)) => return format!("the connection is lost: {error}"),
                None => return "the connection is lost".to_owned(),
            }
            heard = Instant::now();
        }
    }

    fn greeting(&self) -> Vec<Message> {
        let last = self.last.as_ref().map(Received::message);
        let subscribe = self.config.subscribe.iter().cloned().map(FeedMessage::Text);
        let greeting = self.config.greeting.iter().flat_map(|greeting| greeting(last.as_ref()));
        let messages = subscribe.chain(greeting).map(|message| match message {
            FeedMessage::Text(text) => Message::Text(text.into()),
            FeedMessage::Binary(bytes) => Message::Binary(bytes.into()),
        });
        messages.collect()
    }

    async fn take(&mut self, message: Message) {
        if let Some(received) = Received::new(message, self.clock.now(), self.connections) {
            self.messages += 1;
            self.last = Some(received.clone());
            self.inlet.push(received).await;
        }
    }
}

fn request(config: &FeedConfig) -> Result<Request> {
    let request = config.url.as_str().into_client_request();
    let mut request = request
        .map_err(|error| Error::option("url", "option 'url' is no address").caused_by(error))?;
    for (name, value) in &config.headers {
        request.headers_mut().append(name, value.clone());
    }
    if let Some(token) = config.token.read()? {
        let value = HeaderValue::from_str(&token.authorization());
        let mut value = value.map_err(|_| Error::option("token", "the token fits no header"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}
