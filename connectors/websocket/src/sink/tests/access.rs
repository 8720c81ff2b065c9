//! Who is let in, and what the others are told.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use super::{connect, json as next, refusal, rows, serve};
use crate::WebSocket;

/// An HTTP answer: status line, headers and body.
fn get(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn address(url: &str) -> &str {
    url.strip_prefix("ws://").unwrap().split('/').next().unwrap()
}

#[tokio::test]
async fn pages_from_elsewhere_are_refused() {
    let served = serve(WebSocket::stream("s"));
    for origin in ["https://example.com", "null", "file://", "http://127.0.0.1.example.com"] {
        assert_eq!(refusal(&served.url, &[("origin", origin)]).await, 403, "{origin}");
    }
    for origin in ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:9"] {
        connect(&served.url, &[("origin", origin)]).await.unwrap();
    }
    let listed =
        serve(WebSocket::stream("s").allow_origins(["null", "https://a.example"]).unwrap());
    connect(&listed.url, &[("origin", "null")]).await.unwrap();
    connect(&listed.url, &[("origin", "https://a.example")]).await.unwrap();
    assert_eq!(refusal(&listed.url, &[("origin", "http://localhost:8000")]).await, 403);
}

#[tokio::test]
async fn a_token_is_wanted_in_a_header_or_in_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret-canary\nanything\n").unwrap();
    let mut served = serve(WebSocket::stream("s").token_file(&file));
    served.write(&rows([("a", 1)]));
    for headers in
        [&[][..], &[("authorization", "Bearer s3cret")], &[("authorization", "s3cret-canary")]]
    {
        assert_eq!(refusal(&served.url, headers).await, 401, "{headers:?}");
    }
    for wrong in ["", "s3cret-canar", "s3cret-canary1", "S3cret-canary"] {
        assert_eq!(refusal(&format!("{}?access_token={wrong}", served.url), &[]).await, 401);
    }
    let bearer = ("authorization", "bearer s3cret-canary");
    let mut client = connect(&served.url, &[bearer]).await.unwrap();
    assert_eq!(next(&mut client).await, json!({"user": "a", "n": 1}));
    let mut client = served.client("?access_token=s3cret-canary").await;
    assert_eq!(next(&mut client).await["n"], json!(1));

    use tidemill_core::sink::Sink;
    let text = WebSocket::stream("s").token("s3cret-canary");
    for said in [format!("{:?}", served.sink), served.sink.describe(), format!("{text:?}")] {
        assert!(!said.contains("canary"), "{said}");
    }
    let at = address(&served.url);
    let names = |headers: &str| get(at, "/streams", headers);
    assert!(names("").ends_with("{\"streams\":[]}"), "names are for those who may read");
    assert!(names("Authorization: Bearer s3cret-canary\r\n").ends_with("{\"streams\":[\"s\"]}"));
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed() {
    let served = serve(WebSocket::stream("s").max_connections(2));
    let first = served.client("").await;
    let second = served.client("").await;
    assert_eq!(refusal(&served.url, &[]).await, 503);
    drop(first);
    // The seat is free as soon as the server has seen the client go.
    let third = loop {
        if let Ok(client) = connect(&served.url, &[]).await {
            break client;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refusal(&served.url, &[]).await, 503);
    drop((second, third));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let served = serve(WebSocket::stream("s"));
    let at = address(&served.url);
    assert_eq!(refusal(&format!("ws://{at}/streams/other"), &[]).await, 404);
    assert!(get(at, "/streams/s", "").starts_with("HTTP/1.1 426"), "no WebSocket");
    for query in ["?key=a", "?format=xml", "?user=a", "?batch=2"] {
        assert_eq!(refusal(&format!("{}{query}", served.url), &[]).await, 400, "{query}");
    }
    let pair = serve(WebSocket::stream("s").key(["user", "n"]));
    assert_eq!(refusal(&format!("{}?key=a", pair.url), &[]).await, 400);
}
