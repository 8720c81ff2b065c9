//! What clients get: every row once and in order, a snapshot first, in the form that they ask for.

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use arrow::ipc::reader::StreamReader;
use futures::StreamExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{drain, json as next, rows, serve};
use crate::WebSocket;

#[tokio::test]
async fn a_client_gets_every_row_once_and_in_order_whenever_it_connects() {
    const ROWS: i64 = 3000;
    let mut served = serve(WebSocket::stream("s").snapshot_rows(ROWS as usize));
    let mut clients = Vec::new();
    for n in 0..ROWS {
        served.write(&rows([("a", n)]));
        if n % 100 == 50 {
            clients.push(served.client("").await);
        }
    }
    let ended = served.end();
    for mut client in clients {
        let (numbers, close) = drain(&mut client).await;
        assert_eq!(numbers, (0..ROWS).collect::<Vec<_>>());
        let close = close.unwrap();
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1001, "the job has ended"));
    }
    ended.await.unwrap();
}

#[tokio::test]
async fn a_snapshot_holds_the_last_rows() {
    let mut served = serve(WebSocket::stream("s").snapshot_rows(3));
    served.write(&rows((0..10_000).map(|n| ("a", n))));
    served.write(&rows([("b", 10_000)]));
    let mut first = served.client("").await;
    // This client has seen the last row, so all rows are in the snapshot of the next.
    while next(&mut first).await["n"] != json!(10_000) {}
    let mut client = served.client("").await;
    served.end();
    assert_eq!(drain(&mut client).await.0, [9998, 9999, 10_000]);
}

#[tokio::test]
async fn a_snapshot_of_a_table_holds_the_last_row_of_each_key() {
    let mut served = serve(WebSocket::stream("s").upsert(["user"]).snapshot_rows(3));
    let users = ["a", "b", "c", "d", "e"];
    // More rows than are kept before they are thinned out.
    for n in 0..2000 {
        served.write(&rows(users.iter().map(|user| (*user, n))));
    }
    served.write(&rows([("c", 2000)]));
    let mut first = served.client("").await;
    // This client has seen the last row, so all rows are in the snapshot of the next.
    while next(&mut first).await != json!({"user": "c", "n": 2000}) {}
    let mut client = served.client("").await;
    for row in [("d", 1999), ("e", 1999), ("c", 2000)] {
        assert_eq!(next(&mut client).await, json!({"user": row.0, "n": row.1}));
    }
    served.write(&rows([("a", 2001)]));
    assert_eq!(next(&mut client).await, json!({"user": "a", "n": 2001}));
}

#[tokio::test]
async fn clients_filter_by_key() {
    let mut served = serve(WebSocket::stream("s").key(["user"]));
    let awkward = "a \"b\", c\u{8}/ü?&=";
    served.write(&rows([("a", 1), (awkward, 2), ("a,", 3)]));
    let encoded: String = url::form_urlencoded::byte_serialize(awkward.as_bytes()).collect();
    let mut all = served.client("").await;
    for n in 1..=3 {
        assert_eq!(next(&mut all).await["n"], json!(n));
    }
    let mut some = [served.client("?key=a").await, served.client(&format!("?key={encoded}")).await];
    let mut nobody = served.client("?key=b").await;
    assert_eq!(next(&mut some[0]).await["n"], json!(1), "from the snapshot");
    assert_eq!(next(&mut some[1]).await["n"], json!(2), "from the snapshot");
    served.write(&rows([("a", 4), (awkward, 5), ("c", 6), ("a", 7)]));
    served.end();
    assert_eq!(drain(&mut all).await.0, [4, 5, 6, 7]);
    assert_eq!(drain(&mut some[0]).await.0, [4, 7]);
    assert_eq!(drain(&mut some[1]).await.0, [5]);
    assert_eq!(drain(&mut nobody).await.0, [] as [i64; 0]);
}

#[tokio::test]
async fn a_key_of_several_columns_is_given_column_by_column() {
    let mut served = serve(WebSocket::stream("s").key(["user", "n"]));
    served.write(&rows([("a", 1), ("a", 2), ("b", 2)]));
    let mut client = served.client("?key=a&key=2").await;
    served.end();
    assert_eq!(drain(&mut client).await.0, [2]);
}

#[tokio::test]
async fn batches_come_as_arrays_where_asked_for() {
    let mut served = serve(WebSocket::stream("s").key(["user"]));
    served.write(&rows([("a", 1), ("b", 2), ("a", 3)]));
    let mut all = served.client("?batch=true").await;
    let mut some = served.client("?batch=true&key=a").await;
    let row = |user: &str, n: i64| json!({"user": user, "n": n});
    assert_eq!(next(&mut all).await, json!([row("a", 1), row("b", 2), row("a", 3)]));
    assert_eq!(next(&mut some).await, json!([row("a", 1), row("a", 3)]));
    served.write(&rows([("a", 4), ("b", 5)]));
    assert_eq!(next(&mut all).await, json!([row("a", 4), row("b", 5)]));
    assert_eq!(next(&mut some).await, json!([row("a", 4)]));
}

#[tokio::test]
async fn arrow_frames_can_be_read_one_by_one_by_any_reader_of_arrow() {
    let mut served = serve(WebSocket::stream("s").arrow());
    let mut clients = [served.client("").await, served.client("?format=arrow").await];
    let mut text = served.client("?format=json").await;
    served.write(&rows([("a", 0)]));
    served.write(&rows([("a", 1), ("b", 2)]));
    served.end();
    for client in &mut clients {
        let mut batches = Vec::new();
        while let Some(Ok(Message::Binary(frame))) = client.next().await {
            batches.extend(StreamReader::try_new(&frame[..], None).unwrap().map(Result::unwrap));
        }
        assert_eq!(batches[0].column(0).data_type(), &DataType::Utf8, "no views");
        let all = concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(all.column(1).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
    }
    assert_eq!(drain(&mut text).await.0, [0, 1, 2]);
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let mut served = serve(WebSocket::stream("s"));
    let mut client = served.client("").await;
    served.write(&rows([("a", 1)]));
    assert_eq!(next(&mut client).await["n"], 1);
    client.close(None).await.unwrap();
    let answer = client.next().await;
    assert!(matches!(answer, Some(Ok(Message::Close(_)))), "{answer:?}");
    assert!(client.next().await.is_none(), "the connection ends as it should");
    served.end().await.unwrap();
}
