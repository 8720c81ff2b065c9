//! Two nodes, each with half of the slots.

use super::server::{Server, ask};
use super::*;
use crate::{Redis, RedisStream};

/// A cluster of two.
fn cluster() -> [Server; 2] {
    let nodes = [(); 2].map(|()| Server::start(&["--cluster-enabled", "yes"]));
    for (node, slots) in nodes.iter().zip([["0", "8191"], ["8192", "16383"]]) {
        let _: () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]);
    }
    let port = nodes[1].port().to_string();
    let _: () = nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    for node in &nodes {
        let is_up = || {
            let info: String = node.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_size:2")
        };
        while !is_up() {
            std::thread::yield_now();
        }
    }
    nodes
}

fn count(nodes: &[Server], pattern: &str) -> Vec<usize> {
    nodes.iter().map(|node| ask::<Vec<String>>(&node.url(), &["KEYS", pattern]).len()).collect()
}

#[test]
fn writes_find_their_nodes_at_least_once() {
    let nodes = cluster();
    let sink = Redis::hash("k:{user_id}").cluster().url(nodes[0].url());
    assert!(deliver(&sink, &[users(0..1_000, 1), users(0..1_000, 2)]).unwrap().is_empty());
    let counts = count(&nodes, "k:*");
    assert_eq!(counts.iter().sum::<usize>(), 1_000);
    assert!(counts.iter().all(|count| *count > 300), "{counts:?}");
    let alone = Redis::hash("k:{user_id}").url(nodes[0].url());
    let error = deliver(&alone, &[users(0..100, 1)]).unwrap_err();
    assert!(error.to_string().contains("'cluster' = 'true'"), "{error}");
}

#[test]
fn streams_of_a_cluster_are_written_exactly_once_each_with_an_epoch_key_beside_it() {
    let nodes = cluster();
    let sink = RedisStream::to("orders:{0..7}").key_fields(["user_id"]).cluster().exactly_once();
    let sink = sink.url(nodes[1].url());
    let output = [staged(&sink, "job", 0, &[users(0..1_000, 1)])];
    let commit = |epoch| {
        let mut committer = sink.committer(&context("job", 0, schema())).unwrap();
        committer.commit(epoch, &output).unwrap();
        committer.commit(epoch, &output).unwrap();
        assert_eq!(committer.committed().unwrap(), Some(epoch));
    };
    commit(1);
    commit(1);
    let lengths = || {
        let of = |node: &Server| -> usize {
            let streams: Vec<String> = ask(&node.url(), &["KEYS", "orders:*"]);
            streams.iter().map(|stream| ask::<usize>(&node.url(), &["XLEN", stream])).sum()
        };
        nodes.iter().map(of).sum::<usize>()
    };
    assert_eq!(lengths(), 1_000);
    assert_eq!(count(&nodes, "tidemill:*:epoch").iter().sum::<usize>(), 8);
    // One of the epoch keys is lost: only its stream is written again.
    let (node, lost) = nodes
        .iter()
        .find_map(|node| {
            let keys: Vec<String> = ask(&node.url(), &["KEYS", "tidemill:*:epoch"]);
            Some((node, keys.into_iter().next()?))
        })
        .unwrap();
    let _: usize = ask(&node.url(), &["HSET", &lost, "epoch", "0"]);
    let again = commit_again(&sink, &output);
    assert!(again.is_ok_and(|committed| committed == Some(1)));
    assert!((1_001..2_000).contains(&lengths()), "{}", lengths());
}

fn commit_again(sink: &RedisSink, output: &[Staged]) -> Result<Option<Epoch>> {
    let mut committer = sink.committer(&context("job", 0, schema()))?;
    committer.commit(1, output)?;
    committer.committed()
}

#[test]
fn hashes_with_a_hash_tag_are_written_exactly_once_in_one_transaction() {
    let nodes = cluster();
    let sink = Redis::hash("{{revenue}}:{user_id}").cluster().exactly_once().url(nodes[0].url());
    let output = [staged(&sink, "job", 0, &[users(0..100, 1)])];
    let mut committer = sink.committer(&context("job", 0, schema())).unwrap();
    committer.commit(1, &output).unwrap();
    let counts = count(&nodes, "{revenue}:*");
    assert!(counts == [100, 0] || counts == [0, 100], "{counts:?}");
    assert_eq!(count(&nodes, "tidemill:{revenue}:job:sink:epoch").iter().sum::<usize>(), 1);
}
