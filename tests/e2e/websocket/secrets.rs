//! Invariant 10 for feeds: what a server is shown and sent to be let in appears in nothing that a job says or keeps.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::canaries::{CANARY, assert_nowhere, guises, with_job};

const JOB: &str = "
SET 'pipeline.name' = 'secretive';
CREATE TABLE trades (symbol STRING, price DOUBLE)
WITH ('connector' = 'websocket', 'url' = '{url}', 'format' = 'json', {options});
CREATE TABLE shown (symbol STRING, price DOUBLE) WITH ('connector' = 'print');
INSERT INTO shown SELECT symbol, price FROM trades;
";

/// Every place where what lets a job in may stand.
fn places() -> Vec<String> {
    vec![
        format!("'token' = '{CANARY}'"),
        format!("'header.Authorization' = 'Bearer {CANARY}'"),
        format!("'header.X-Api-Key' = '{CANARY}'"),
        format!("'header.Cookie' = 'session={CANARY}'"),
        format!("'subscribe' = '{{\"op\": \"auth\", \"args\": [\"{CANARY}\"]}}'"),
    ]
}

/// That a job which cannot run does not say what is secret in its options.
fn assert_untold(url: &str, options: &str) {
    let sql = JOB.replace("{url}", url).replace("{options}", options);
    with_job(options, &sql, &[], ("user", CANARY), |job| {
        let (ended, said) = job.failed();
        assert_eq!(ended, Some(78), "{options}: {said}");
        assert_nowhere(said.as_bytes(), &guises("user", CANARY), options);
    });
}

#[test]
fn an_error_that_shows_the_job_does_not_show_what_a_feed_is_opened_with() {
    for place in places() {
        assert_untold("ws://127.0.0.1:1/feed", &format!("{place}, 'colour' = 'red'"));
    }
}

#[test]
fn a_server_that_lets_nobody_in_makes_no_job_say_what_it_was_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/feed", listener.local_addr().unwrap());
    let refusing = thread::spawn(move || {
        for _ in places() {
            let mut socket = listener.accept().unwrap().0;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
            socket.write_all(refusal.as_bytes()).unwrap();
        }
    });
    places().iter().for_each(|place| assert_untold(&url, place));
    refusing.join().unwrap();
}
