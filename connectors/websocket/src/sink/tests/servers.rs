//! One server for each address, for as long as somebody uses it; and what is refused before it starts.

use std::net::TcpListener;

use tidemill_core::sink::Sink;
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::testing::sink_context;

use super::{connect, drain, rows, schema, serve};
use crate::{WebSocket, WebSocketFactory, WebSocketSink};

fn open(
    sink: &WebSocketSink,
    shard: usize,
) -> tidemill_core::Result<Box<dyn tidemill_core::sink::SinkWriter>> {
    sink.writer(&sink_context(shard, 1, schema()))
}

#[tokio::test]
async fn shards_write_to_one_stream_and_streams_share_an_address() {
    let served = serve(WebSocket::stream("s"));
    let port = served.url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let mut second_shard = open(&served.sink, 1).unwrap();
    let other = WebSocket::stream("other").port(port);
    let mut other_writer = open(&other, 0).unwrap();
    let same = WebSocket::stream("s").port(port);
    let mut same_writer = open(&same, 0).unwrap();
    let Err(error) = open(&WebSocket::stream("s").port(port).key(["user"]), 0) else {
        panic!("a stream with another key has the same name");
    };
    assert_eq!(error.wrong_option(), Some("name"));

    let mut client = served.client("").await;
    let mut of_other = connect(&other.url().unwrap(), &[]).await.unwrap();
    let mut served = served;
    served.write(&rows([("a", 1)]));
    second_shard.write(&rows([("a", 2)])).unwrap();
    same_writer.write(&rows([("a", 3)])).unwrap();
    other_writer.write(&rows([("a", 4)])).unwrap();
    served.end().await.unwrap();
    let rest = tokio::task::spawn_blocking(move || drop((second_shard, same_writer, other_writer)));
    assert_eq!(drain(&mut client).await.0, [1, 2, 3]);
    assert_eq!(drain(&mut of_other).await.0, [4]);
    rest.await.unwrap();

    // Everybody has gone, so the address is free: for us again, and for anybody.
    drop(open(&WebSocket::stream("s").port(port).key(["user"]), 0).unwrap());
    drop(TcpListener::bind(("127.0.0.1", port)).unwrap());
}

#[test]
fn an_address_that_is_taken_is_an_error_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let Err(error) = open(&WebSocket::stream("s").port(port), 0) else { panic!("it is taken") };
    assert_eq!(error.wrong_option(), Some("port"));
    assert!(error.to_string().contains("choose another 'port'"), "{error}");
}

#[test]
fn mistakes_in_a_table_name_the_option() {
    let check = |options: &[(&str, &str)]| {
        let table = TableSpec {
            name: "results".to_owned(),
            schema: schema(),
            metadata: Vec::new(),
            primary_key: vec![0],
            partitioned_by: Vec::new(),
            options: options.iter().copied().collect::<Options>(),
        };
        WebSocketFactory.sink(&table).map(|sink| sink.describe())
    };
    let plain = check(&[]).unwrap();
    assert_eq!(plain, "websocket ws://127.0.0.1:8090/streams/results (json, key user)");
    let other = check(&[("port", "0"), ("format", "arrow-ipc"), ("key.fields", "user; n")]);
    assert_eq!(
        other.unwrap(),
        "websocket ws://127.0.0.1:0/streams/results (arrow-ipc, key user, n)"
    );
    for (option, value) in [
        ("port", "seventy"),
        ("name", "a/b"),
        ("format", "csv"),
        ("key.fields", "nobody"),
        ("slow-client", "shoot"),
        ("allowed-origins", "example.com"),
        ("client.buffer", "0"),
        ("ping.interval", "0 s"),
        ("url", "ws://localhost"),
        ("token", ""),
        ("max-connections", "-1"),
        ("json.timestamp-format.standard", "roman"),
    ] {
        let error = check(&[(option, value)]).unwrap_err();
        assert_eq!(error.wrong_option(), Some(option), "{error}");
    }
    let both = check(&[("token", "a"), ("token.file", "b")]).unwrap_err();
    assert_eq!(both.wrong_option(), Some("token.file"));
}
