//! Messages that were made once and go to many clients.

use std::sync::Arc;

use axum::extract::ws::Message;
use bytes::Bytes;

/// In what form a client gets rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    /// A text message for each row: a JSON object.
    Rows,
    /// A text message for each batch: a JSON array of such objects.
    Arrays,
    /// A binary message for each batch: a stream in Arrow's IPC format, schema included.
    Arrow,
}

/// What a client has asked for: a form, and rows of one key or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub form: Form,
    /// The key as [`Encodings`](super::encode::Encodings) writes it.
    pub key: Option<String>,
}

/// The messages of a batch in one form, shared by all clients that get them.
pub(crate) type Parcel = Arc<[Message]>;

/// How many bytes a message carries.
pub(crate) fn size(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

/// The same message in memory of its own: messages of a batch share theirs, and any of them keeps all of it.
pub(crate) fn copy(message: &Message) -> Message {
    match message {
        Message::Text(text) => Message::Text(text.as_str().into()),
        Message::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
        other => other.clone(),
    }
}
