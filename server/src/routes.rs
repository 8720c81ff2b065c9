//! The routes. All are `GET`: whatever else is asked is answered 405, or 404.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::StatusSource;

/// The media type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn router(status: Arc<dyn StatusSource>, metrics: PrometheusHandle) -> Router {
    let (live, ready) = (Arc::clone(&status), Arc::clone(&status));
    Router::new()
        .route("/metrics", get(async move || metrics_text(&metrics)))
        .route("/livez", get(async move || health(live.live(), "live")))
        .route("/readyz", get(async move || health(ready.ready(), "ready")))
        .route("/status", get(async move || Json(status.status())))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "there are /metrics, /livez, /readyz and /status\n")
        })
}

fn metrics_text(metrics: &PrometheusHandle) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.render()).into_response()
}

fn health(is: bool, what: &str) -> Response {
    if is {
        (StatusCode::OK, format!("{what}\n")).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not {what}\n")).into_response()
    }
}
