//! Servers that go away, lose their data, speak TLS, want a password, are a cluster.

use std::time::Instant;

use tidemill_core::source::{Read, Source};
use tidemill_core::{Error, ErrorKind};

use super::server::{
    PATIENCE, Stream, context, open, read, read_to_end, refused, source, variable,
};
use crate::sink::tests::server::Server;
use crate::source::RedisStreamSource;

fn opening(source: &RedisStreamSource, stream: &Stream) -> Error {
    refused(source.open(&stream.split(), None, &context()))
}

#[test]
fn a_server_that_comes_back_is_read_on() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stream = Stream::at(&server.url());
    stream.add_numbers(1..=10);
    let source = source(&stream, &[]);
    let mut reader = open(&source, &stream, None);
    assert_eq!(read(reader.as_mut(), 10).unwrap().numbers(), (1..=10).collect::<Vec<_>>());
    server.down();
    let start = Instant::now();
    while !reader.waits() {
        assert!(matches!(reader.read(1).unwrap(), Read::Pending), "no error, and no end");
        assert!(start.elapsed() < PATIENCE, "nobody has noticed");
        std::thread::yield_now();
    }
    server.up();
    assert_eq!(server.ask::<String>(&["PING"]), "PONG");
    stream.add_numbers(11..=20);
    assert_eq!(read(reader.as_mut(), 10).unwrap().numbers(), (11..=20).collect::<Vec<_>>());
    while reader.waits() {
        assert!(start.elapsed() < PATIENCE, "nobody says that it is back");
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_has_lost_its_data_is_recognised() {
    let restarted = |options: &[(&str, &str)], more: i64| {
        let mut server = Server::start(&[]);
        let stream = Stream::at(&server.url());
        stream.add_numbers(1..=10);
        let source = source(&stream, options);
        let mut reader = open(&source, &stream, None);
        assert_eq!(read(reader.as_mut(), 10).unwrap().count(), 10);
        server.down();
        server.up();
        assert_eq!(server.ask::<String>(&["PING"]), "PONG");
        stream.add_numbers(101..=100 + more);
        (read(reader.as_mut(), usize::try_from(more).unwrap()), reader.offset().0, stream, server)
    };
    let (got, offset, stream, _server) = restarted(&[], 3);
    let error = refused(got).to_string();
    for part in ["is not what it was", "10 entries have been read", "3 up to 103-0", "persistence"]
    {
        assert!(error.contains(part), "{error}");
    }
    // And a job that begins again sees it as well.
    let again = source(&stream, &[]);
    let from = tidemill_core::source::Offset(offset);
    let error = refused(again.open(&stream.split(), Some(&from), &context())).to_string();
    assert!(error.contains("is not what it was"), "{error}");
    let (got, _, _stream, _server) = restarted(&[("scan.out-of-range", "earliest")], 3);
    assert_eq!(got.unwrap().numbers(), [101, 102, 103]);
}

#[test]
fn trimming_past_the_reader_is_said_with_its_number() {
    let trimmed = |options: &[(&str, &str)]| {
        let stream = Stream::new();
        stream.add_numbers(1..=10);
        stream.run::<()>("XTRIM KEY MAXLEN 4");
        let from = tidemill_core::source::Offset("2-0#2".to_owned());
        let opened = source(&stream, options).open(&stream.split(), Some(&from), &context());
        opened.and_then(|mut reader| read(reader.as_mut(), 4)).map(|got| got.numbers())
    };
    let error = refused(trimmed(&[])).to_string();
    assert!(error.contains("4 entries") && error.contains("trimmed"), "{error}");
    assert_eq!(trimmed(&[("scan.out-of-range", "earliest")]).unwrap(), [7, 8, 9, 10]);
    // Entries that are deleted by hand are meant to be gone.
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    stream.run::<()>("XDEL KEY 4-0 5-0");
    let bounded = source(&stream, &[("scan.bounded.mode", "latest-offset")]);
    let got = read_to_end(&bounded, &stream, Some("2-0..10-0#2"));
    assert_eq!(got.numbers(), [3, 6, 7, 8, 9, 10]);
}

#[test]
fn a_stream_that_is_created_again_is_another() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    let mut reader = open(&source(&stream, &[]), &stream, None);
    read(reader.as_mut(), 10).unwrap();
    stream.run::<()>("DEL KEY");
    stream.add_numbers(11..=15);
    let error = refused(read(reader.as_mut(), 20)).to_string();
    assert!(error.contains("created again"), "{error}");
}

#[test]
fn a_key_that_holds_no_stream_is_named() {
    let stream = Stream::new();
    stream.run::<()>("SET KEY value");
    let error = opening(&source(&stream, &[]), &stream).to_string();
    assert!(error.contains("WRONGTYPE") && error.contains(&stream.key), "{error}");
}

#[test]
fn users_and_passwords_are_checked() {
    let stream = Stream::at(&variable("REDIS_ACL_URL"));
    stream.add_numbers(1..=3);
    let bounded = [("scan.bounded.mode", "latest-offset")];
    assert_eq!(read_to_end(&source(&stream, &bounded), &stream, None).numbers(), [1, 2, 3]);
    let address = stream.url.rsplit_once('@').unwrap().1;
    for url in [format!("redis://tidemill:canary@{address}"), format!("redis://{address}")] {
        let error = opening(&source(&stream, &[("url", &url)]), &stream);
        assert_eq!(
            (error.kind(), error.wrong_option()),
            (ErrorKind::Configuration, Some("password"))
        );
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let limited = variable("REDIS_LIMITED_URL");
    let error = opening(&source(&stream, &[("url", &limited)]), &stream);
    assert_eq!(error.wrong_option(), Some("username"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), variable("REDIS_TEST_PASSWORD")).unwrap();
    let url = format!("redis://tidemill@{address}");
    let path = file.path().to_str().unwrap();
    let by_file = source(&stream, &[bounded[0], ("url", &url), ("password.file", path)]);
    assert_eq!(read_to_end(&by_file, &stream, None).numbers(), [1, 2, 3]);
}

#[cfg(feature = "tls")]
#[test]
fn a_server_behind_tls_is_read_and_a_wrong_authority_refused() {
    let stream = Stream::new();
    stream.add_numbers(1..=3);
    let url = variable("REDIS_TLS_URL");
    let (right, wrong) = (variable("REDIS_CA"), variable("REDIS_WRONG_CA"));
    let options = [("scan.bounded.mode", "latest-offset"), ("url", url.as_str())];
    let trusting = source(&stream, &[&options[..], &[("tls.ca", &right)]].concat());
    assert_eq!(read_to_end(&trusting, &stream, None).numbers(), [1, 2, 3]);
    let error = opening(&source(&stream, &[&options[..], &[("tls.ca", &wrong)]].concat()), &stream);
    assert_eq!((error.kind(), error.wrong_option()), (ErrorKind::Configuration, Some("tls.ca")));
}

#[test]
fn streams_on_all_nodes_of_a_cluster_are_read_together() {
    let url = variable("REDIS_CLUSTER");
    let prefix = super::server::unique("source");
    let streams: Vec<Stream> = (0..8)
        .map(|n| Stream { key: format!("{prefix}:{n}"), url: url.clone(), cluster: true })
        .collect();
    for (n, stream) in streams.iter().enumerate() {
        stream.add_numbers((1..=1000).map(|m| 1000 * n as i64 + m));
    }
    for mode in ["positions", "group"] {
        let names = format!("{prefix}:{{0..7}}");
        let bounded = ("scan.bounded.mode", "latest-offset");
        let options = [("stream", names.as_str()), bounded, ("read", mode), ("group", mode)];
        let source = source(&streams[0], &options);
        let mut readers: Vec<_> =
            streams.iter().map(|stream| open(&source, stream, None)).collect();
        let mut offsets = Vec::new();
        for (n, reader) in readers.iter_mut().enumerate() {
            let got = read(reader.as_mut(), usize::MAX).unwrap();
            let n = n as i64;
            assert_eq!(got.numbers(), (1000 * n + 1..=1000 * n + 1000).collect::<Vec<_>>());
            offsets.push((streams[n as usize].split(), reader.offset()));
        }
        source.checkpointed(1, &offsets).unwrap();
        for stream in &streams {
            let pending: Vec<redis::Value> = stream.run(&format!("XPENDING KEY {mode}"));
            assert_eq!(pending[0], redis::Value::Int(0), "{mode}");
        }
    }
}
