//! What the server answers: the names of its streams, and streams.
//!
//! | route | what |
//! |---|---|
//! | `/streams` | the names of the streams that the asker may read, as JSON |
//! | `/streams/NAME` | the stream, over a WebSocket |

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use url::form_urlencoded;

use super::access::{Refusal, judge};
use super::client;
use super::parcel::{Form, Lane};
use super::server::Streams;
use super::stream::Stream;

/// A client sends nothing but pings and the like.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Of what each connection keeps; the default is 128 KiB each way, and there may be thousands.
const SOCKET_BUFFER_BYTES: usize = 8 << 10;

pub(crate) fn router(streams: Arc<Streams>) -> Router {
    Router::new()
        .route("/streams", get(list))
        .route("/streams/{name}", get(subscribe))
        .with_state(streams)
}

/// What stands behind the question mark.
#[derive(Debug, Default)]
struct Query {
    key: Vec<String>,
    format: Option<String>,
    batch: bool,
    token: Option<String>,
}

impl Query {
    /// # Errors
    /// What is wrong, for people.
    fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match (name.as_ref(), value.as_ref()) {
                ("key", _) => query.key.push(value.into_owned()),
                ("format", _) => query.format = Some(value.into_owned()),
                ("batch", "true" | "") => query.batch = true,
                ("batch", "false") => query.batch = false,
                ("batch", _) => return Err("batch is true or false".to_owned()),
                ("access_token", _) => query.token = Some(value.into_owned()),
                _ => {
                    let message = format!(
                        "there is no parameter '{name}': use key, format, batch and access_token"
                    );
                    return Err(message);
                }
            }
        }
        Ok(query)
    }

    /// # Errors
    /// What is wrong, for people.
    fn lane(&self, stream: &Stream) -> Result<Lane, String> {
        let form = match (self.format.as_deref(), stream.settings.form) {
            (Some("json"), _) | (None, Form::Rows) if self.batch => Form::Arrays,
            (Some("json"), _) | (None, Form::Rows | Form::Arrays) => Form::Rows,
            (Some("arrow"), _) | (None, Form::Arrow) => Form::Arrow,
            (Some(other), _) => return Err(format!("format is json or arrow, not '{other}'")),
        };
        if self.key.is_empty() {
            return Ok(Lane { form, key: None });
        }
        match stream.key_columns() {
            0 => Err("this stream has no key to filter by: set 'key.fields'".to_owned()),
            n if n != self.key.len() => Err(format!(
                "the key has {n} columns: give key that often, in the order of the columns"
            )),
            _ => match stream.key(&self.key) {
                Ok(key) => Ok(Lane { form, key: Some(key) }),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

async fn list(
    State(streams): State<Arc<Streams>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = match Query::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let streams: BTreeMap<String, Arc<Stream>> = streams.lock().clone();
    let may = |stream: &Stream| let_in(stream, &headers, &query).is_ok();
    let names: Vec<_> = streams.iter().filter(|(_, stream)| may(stream)).map(|(n, _)| n).collect();
    ([(CONTENT_TYPE, "application/json")], json!({ "streams": names }).to_string()).into_response()
}

async fn subscribe(
    State(streams): State<Arc<Streams>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Some(stream) = streams.lock().get(&name).cloned() else {
        let message =
            format!("there is no stream '{name}' here: GET /streams lists those there are");
        return refuse(StatusCode::NOT_FOUND, message);
    };
    let query = match Query::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    if let Err(refusal) = let_in(&stream, &headers, &query) {
        return refused(refusal);
    }
    let lane = match query.lane(&stream) {
        Ok(lane) => lane,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let Ok(upgrade) = upgrade else {
        let message = format!("'{name}' is a WebSocket stream: connect with ws://, not http://");
        return refuse(StatusCode::UPGRADE_REQUIRED, message);
    };
    let Some(seat) = stream.seat() else {
        let message = format!("'{name}' has as many clients as it takes: try again later");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, message);
    };
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        // Room for a frame is made when its length is read.
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .on_upgrade(move |socket| client::serve(socket, seat, lane))
}

fn let_in(stream: &Stream, headers: &HeaderMap, query: &Query) -> Result<(), Refusal> {
    let settings = &stream.settings;
    judge(&settings.origins, settings.token.as_ref(), headers, query.token.as_deref())
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Origin => {
            let message = "pages from this origin may not read the stream: name it in \
                           'allowed-origins'";
            refuse(StatusCode::FORBIDDEN, message.to_owned())
        }
        Refusal::Token => {
            let message = "this stream needs a token: 'Authorization: Bearer …' or ?access_token=…";
            let answer = refuse(StatusCode::UNAUTHORIZED, message.to_owned());
            ([(WWW_AUTHENTICATE, "Bearer")], answer).into_response()
        }
    }
}

fn refuse(status: StatusCode, message: String) -> Response {
    (status, message + "\n").into_response()
}
