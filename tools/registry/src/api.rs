//! The REST API over the store: paths, status codes, and what tests do to the answers.
//!
//! Invariant: every request is logged before it is refused, delayed or answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::store::{Definition, Refusal, Store};

/// What all requests share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<Inner>,
    pub(crate) authorization: Option<String>,
}

/// The store, and what tests see of requests and do to them.
#[derive(Default)]
pub(crate) struct Inner {
    store: Store,
    pub(crate) requests: Vec<String>,
    /// So many requests get this status instead of an answer.
    pub(crate) failing: (usize, u16),
    /// So many requests wait before they are answered.
    pub(crate) delayed: (usize, Duration),
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Context = State<Arc<Shared>>;
type Answer = Result<Json<Value>, Refusal>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || Json(json!({}))))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/schemas/types", get(async || Json(json!(["JSON", "PROTOBUF", "AVRO"]))))
        .route("/schemas/ids/{id}", get(schema))
        .route("/config", get(level_of_all).put(set_level_of_all))
        .route("/config/{subject}", get(level).put(set_level))
        .fallback(async || Refusal::new(404, "HTTP 404 Not Found"))
        .layer(middleware::from_fn_with_state(shared.clone(), before))
        .with_state(shared)
}

/// Logs a request; refuses, fails or delays it.
async fn before(State(shared): Context, request: Request, next: Next) -> Response {
    let (failing, delay) = {
        let mut inner = shared.lock();
        inner.requests.push(format!("{} {}", request.method(), request.uri().path()));
        let failing = (inner.failing.0 > 0).then_some(inner.failing.1);
        inner.failing.0 = inner.failing.0.saturating_sub(1);
        let delay = (inner.delayed.0 > 0).then_some(inner.delayed.1);
        inner.delayed.0 = inner.delayed.0.saturating_sub(1);
        (failing, delay)
    };
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    if let Some(status) = failing {
        return Refusal::new(u32::from(status) * 100 + 1, "failed on purpose").into_response();
    }
    let given = request.headers().get(header::AUTHORIZATION);
    let allowed = shared.authorization.as_deref();
    if allowed.is_some_and(|allowed| given.is_none_or(|given| given != allowed)) {
        return Refusal::new(401, "Unauthorized").into_response();
    }
    next.run(request).await
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = if self.code > 999 { self.code / 100 } else { self.code } as u16;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!(self))).into_response()
    }
}

fn definition(body: &Bytes) -> Result<Definition, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(42_201, error.to_string()))
}

async fn subjects(State(shared): Context) -> Json<Value> {
    Json(json!(shared.lock().store.subjects()))
}

async fn register(State(shared): Context, Path(subject): Path<String>, body: Bytes) -> Answer {
    let id = shared.lock().store.register(&subject, definition(&body)?)?;
    Ok(Json(json!({"id": id})))
}

async fn lookup(State(shared): Context, Path(subject): Path<String>, body: Bytes) -> Answer {
    let wanted = definition(&body)?;
    Ok(Json(json!(shared.lock().store.lookup(&subject, &wanted)?)))
}

async fn versions(State(shared): Context, Path(subject): Path<String>) -> Answer {
    let count = shared.lock().store.versions(&subject)?.len();
    Ok(Json(json!((1..=count).collect::<Vec<_>>())))
}

async fn version(
    State(shared): Context,
    Path((subject, version)): Path<(String, String)>,
) -> Answer {
    Ok(Json(json!(shared.lock().store.version(&subject, &version)?)))
}

async fn schema(State(shared): Context, Path(id): Path<String>) -> Answer {
    let missing = || Refusal::new(40_403, format!("Schema {id} not found"));
    let number = id.parse().map_err(|_| missing())?;
    Ok(Json(json!(shared.lock().store.schema(number)?)))
}

async fn level_of_all(State(shared): Context) -> Json<Value> {
    Json(json!({"compatibilityLevel": shared.lock().store.level(None)}))
}

async fn level(State(shared): Context, Path(subject): Path<String>) -> Json<Value> {
    Json(json!({"compatibilityLevel": shared.lock().store.level(Some(&subject))}))
}

async fn set_level_of_all(State(shared): Context, body: Bytes) -> Answer {
    put_level(&shared, None, &body)
}

async fn set_level(State(shared): Context, Path(subject): Path<String>, body: Bytes) -> Answer {
    put_level(&shared, Some(&subject), &body)
}

fn put_level(shared: &Shared, subject: Option<&str>, body: &Bytes) -> Answer {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let level = body.get("compatibility").and_then(Value::as_str).unwrap_or_default();
    shared.lock().store.set_level(subject, level)?;
    Ok(Json(json!({"compatibility": level})))
}
