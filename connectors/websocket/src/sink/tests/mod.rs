//! Tests of streams: real clients over real sockets.

mod access;
mod hostile;
mod rows;
mod servers;
mod slow;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use serde_json::Value;
use tidemill_core::Batch;
use tidemill_core::sink::{Sink, SinkWriter};
use tidemill_core::testing::sink_context;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::WebSocketSink;

pub(super) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8View, true),
        Field::new("n", DataType::Int64, false),
    ]))
}

/// Rows of a user and a number each.
pub(super) fn rows<'a>(rows: impl IntoIterator<Item = (&'a str, i64)>) -> Batch {
    let (users, numbers): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let users: ArrayRef = Arc::new(StringViewArray::from(users));
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
    RecordBatch::try_new(schema(), vec![users, numbers]).unwrap().into()
}

/// A sink on a free port, with one writer.
pub(super) struct Served {
    pub sink: WebSocketSink,
    pub writer: Option<Box<dyn SinkWriter>>,
    pub url: String,
}

pub(super) fn serve(sink: WebSocketSink) -> Served {
    let sink = sink.port(0);
    let writer = sink.writer(&sink_context(0, 1, schema())).unwrap();
    let url = sink.url().unwrap();
    Served { sink, writer: Some(writer), url }
}

impl Served {
    pub fn write(&mut self, batch: &Batch) {
        self.writer.as_mut().unwrap().write(batch).unwrap();
    }

    pub async fn client(&self, query: &str) -> Client {
        connect(&format!("{}{query}", self.url), &[]).await.unwrap()
    }

    /// The job ends. Off the thread of the clients, for it waits for them.
    pub fn end(&mut self) -> tokio::task::JoinHandle<()> {
        let writer = self.writer.take();
        tokio::task::spawn_blocking(move || drop(writer))
    }
}

pub(super) async fn connect(
    url: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client, WsError> {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await.map(|(client, _)| client)
}

/// The status that a request is refused with.
pub(super) async fn refusal(url: &str, headers: &[(&'static str, &str)]) -> u16 {
    match connect(url, headers).await {
        Err(WsError::Http(answer)) => answer.status().as_u16(),
        other => panic!("{url} was not refused: {other:?}"),
    }
}

/// The next message as JSON.
pub(super) async fn json(client: &mut Client) -> Value {
    loop {
        match client.next().await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("no row came: {other:?}"),
        }
    }
}

/// The numbers of all rows until the connection is closed, and how it was.
pub(super) async fn drain(client: &mut Client) -> (Vec<i64>, Option<CloseFrame>) {
    let mut numbers = Vec::new();
    loop {
        match client.next().await {
            Some(Ok(Message::Text(text))) => {
                let row: Value = serde_json::from_str(&text).unwrap();
                numbers.push(row["n"].as_i64().unwrap());
            }
            Some(Ok(Message::Close(frame))) => return (numbers, frame),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return (numbers, None),
        }
    }
}
