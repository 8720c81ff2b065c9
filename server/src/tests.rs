//! What a probe, a scraper and a browser get, over real TCP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{ServerHandle, StatusSource, recorder, serve};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

#[derive(Default)]
struct Job {
    ready: AtomicBool,
    dead: AtomicBool,
}

impl StatusSource for Job {
    fn status(&self) -> serde_json::Value {
        serde_json::json!({ "job": "departures", "ready": self.ready() })
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn live(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }
}

fn server(job: &Arc<Job>) -> ServerHandle {
    let metrics = recorder::builder().unwrap().build_recorder();
    let handle = metrics.handle();
    metrics::with_local_recorder(&metrics, || {
        metrics::counter!("tidemill_records_in_total", "job" => "departures").increment(42);
        metrics::histogram!("tidemill_checkpoint_duration_seconds").record(0.02);
    });
    serve(ANY_PORT.into(), job.clone(), handle).unwrap()
}

/// Status line with headers, and body.
fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn code(address: SocketAddr, method: &str, path: &str) -> u16 {
    ask(address, method, path).0.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn metrics_are_prometheus_text_with_buckets_for_seconds() {
    let server = server(&Arc::default());
    let (head, body) = ask(server.address(), "GET", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("tidemill_records_in_total{job=\"departures\"} 42"), "{body}");
    assert!(body.contains("tidemill_checkpoint_duration_seconds_bucket{le=\"0.01\"} 0"), "{body}");
    assert!(body.contains("tidemill_checkpoint_duration_seconds_bucket{le=\"0.025\"} 1"), "{body}");
}

#[test]
fn probes_follow_the_job() {
    let job = Arc::<Job>::default();
    let server = server(&job);
    let probe =
        || (code(server.address(), "GET", "/livez"), code(server.address(), "GET", "/readyz"));
    assert_eq!(probe(), (200, 503));
    job.ready.store(true, Ordering::SeqCst);
    assert_eq!(probe(), (200, 200));
    job.dead.store(true, Ordering::SeqCst);
    assert_eq!(probe(), (503, 200));
}

#[test]
fn status_is_the_job_as_json() {
    let server = server(&Arc::default());
    let (head, body) = ask(server.address(), "GET", "/status");
    assert!(head.contains("application/json"), "{head}");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, serde_json::json!({ "job": "departures", "ready": false }));
}

#[test]
fn nothing_can_be_changed_and_what_there_is_is_said() {
    let server = server(&Arc::default());
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/metrics", "/livez", "/readyz", "/status"] {
            assert_eq!(code(server.address(), method, path), 405, "{method} {path}");
        }
    }
    let (head, body) = ask(server.address(), "GET", "/");
    assert!(head.starts_with("HTTP/1.1 404") && body.contains("/status"), "{head} {body}");
}

#[test]
fn a_port_that_is_taken_is_refused_with_advice() {
    let server = server(&Arc::default());
    let metrics = recorder::builder().unwrap().build_recorder().handle();
    let error = serve(server.address(), Arc::<Job>::default(), metrics).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(&server.address().to_string()), "{message}");
    assert!(message.contains("choose another port"), "{message}");
}

#[test]
fn a_dropped_server_frees_its_port_though_clients_linger() {
    let server = server(&Arc::default());
    let address = server.address();
    // One client is connected and silent, one stops in the middle of its request.
    let silent = TcpStream::connect(address).unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(b"GET /status HTTP/1.1\r\n").unwrap();
    assert_eq!(code(address, "GET", "/livez"), 200);
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
    drop((silent, slow));
}
