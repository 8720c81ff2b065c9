//! The Nexmark queries of `benches/nexmark`, as they are measured: their answers against loops over the same
//! events, which are generated for the purpose by another way: one kind at a time, all columns, one split.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, TimeUnit};
use tidemill::core::source::{Read, SplitId};
use tidemill::core::table::{ConnectorFactory, Options, TableSpec};
use tidemill::core::testing::reader_context;
use tidemill::core::time::VirtualClock;
use tidemill::generator::NexmarkFactory;
use tidemill::memory::{MemoryHandle, MemoryTables};
use tidemill::prelude::*;
use tidemill::sql::Registry;

const SECOND: i64 = 1_000_000;

/// Events of each run, and how many are a second of event time.
const EVENTS: &str = "200000";
const RATE: &str = "2000";

/// A row, each value as text; times in microseconds, decimals without their point.
type Row = Vec<String>;

/// Runs a query on so many shards, its input in as many splits: the rows of each of its tables, sorted.
fn run(query: &str, tables: &[&str], shards: usize) -> Vec<Vec<Row>> {
    let splits = format!("'events.num' = '{EVENTS}', 'splits' = '{shards}'");
    let text = query
        .replace("'connector' = 'blackhole'", "'connector' = 'memory'")
        .replace("'events.num' = '10000000'", &splits)
        .replace("-event.rate' = '100000'", &format!("-event.rate' = '{RATE}'"));
    assert_ne!(text, query);
    let memory = MemoryTables::new();
    let handles: Vec<_> = tables.iter().map(|table| memory.sink(*table)).collect();
    let mut connectors: Vec<Arc<dyn ConnectorFactory>> = tidemill::cli::connectors();
    connectors.push(Arc::new(memory));
    let mut job = Job::from_sql("nexmark.sql", &text, &Registry::new(connectors))
        .unwrap_or_else(|error| panic!("{error}"));
    let summary = job.parallelism(shards).run_blocking().unwrap();
    assert_eq!(summary.records_in.to_string(), EVENTS);
    assert!(summary.ledgers.iter().all(|ledger| ledger.balances()), "{:?}", summary.ledgers);
    handles.iter().map(rows).collect()
}

/// The answers of a query, which are the same on one shard and on three.
fn answers(query: &str, tables: &[&str]) -> Vec<Vec<Row>> {
    let answers = run(query, tables, 1);
    assert!(answers == run(query, tables, 3), "three shards give what one gives");
    answers
}

fn rows(handle: &MemoryHandle) -> Vec<Row> {
    let row = |batch: &RecordBatch, row| batch.columns().iter().map(|c| value(c, row)).collect();
    let of = |batch: &RecordBatch| (0..batch.num_rows()).map(|n| row(batch, n)).collect::<Vec<_>>();
    let mut rows: Vec<Row> = handle.batches().iter().flat_map(of).collect();
    rows.sort();
    rows
}

fn value(column: &ArrayRef, row: usize) -> String {
    assert!(column.is_valid(row), "no answer is null");
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
        }
        DataType::Decimal128(_, 3) => {
            column.as_primitive::<Decimal128Type>().value(row).to_string()
        }
        DataType::Utf8View => column.as_string_view().value(row).to_owned(),
        other => panic!("no query answers with {other}"),
    }
}

/// All events of a kind, in order: these columns of them.
fn events(kind: &str, columns: &[(&str, DataType)]) -> Vec<Row> {
    let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    let options = [("nexmark.table", kind), ("events.num", EVENTS), ("next-event.rate", RATE)];
    let table = TableSpec {
        name: kind.to_owned(),
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: Options::from_iter(options),
    };
    let source = NexmarkFactory.source(&table).unwrap();
    let context = reader_context(Arc::new(VirtualClock::default()));
    let mut reader = source.open(&SplitId::new("nexmark/0"), None, &context).unwrap();
    let mut events = Vec::new();
    while let Read::Batch(batch) = reader.read(1_000).unwrap() {
        let rows = &batch.rows;
        let row = |n| rows.columns().iter().map(|column| value(column, n)).collect::<Row>();
        events.extend((0..rows.num_rows()).map(row));
    }
    events
}

const NUMBER: DataType = DataType::Int64;
const TEXT: DataType = DataType::Utf8View;

fn bids() -> Vec<Row> {
    let columns = [
        ("auction", NUMBER),
        ("bidder", NUMBER),
        ("price", NUMBER),
        ("dateTime", TIMESTAMP),
        ("extra", TEXT),
    ];
    let bids = events("bid", &columns);
    assert_eq!(bids.len(), 200_000 / 50 * 46);
    bids
}

fn number(text: &str) -> i64 {
    text.parse().unwrap()
}

/// Start and end of the ten seconds that a time lies in.
fn ten_seconds(time: &str) -> (i64, i64) {
    let start = number(time).div_euclid(10 * SECOND) * 10 * SECOND;
    (start, start + 10 * SECOND)
}

fn sorted(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.into_iter().collect();
    rows.sort();
    rows
}

fn row<const N: usize>(values: [&dyn ToString; N]) -> Row {
    values.iter().map(|value| value.to_string()).collect()
}

#[test]
fn q0_passes_every_bid_on() {
    let query = include_str!("../../benches/nexmark/q0.sql");
    assert!(answers(query, &["nexmark_q0"])[0] == sorted(bids()));
}

#[test]
fn q1_converts_every_price_exactly() {
    let query = include_str!("../../benches/nexmark/q1.sql");
    let converted = bids().into_iter().map(|mut bid| {
        bid[2] = (number(&bid[2]) * 908).to_string();
        bid
    });
    assert!(answers(query, &["nexmark_q1"])[0] == sorted(converted));
}

#[test]
fn q2_selects_one_auction_in_123() {
    let query = include_str!("../../benches/nexmark/q2.sql");
    let selected = bids().into_iter().filter(|bid| number(&bid[0]) % 123 == 0);
    let expected = sorted(selected.map(|bid| vec![bid[0].clone(), bid[2].clone()]));
    assert!(expected.len() > 500);
    assert_eq!(answers(query, &["nexmark_q2"])[0], expected);
}

#[test]
fn q5_counts_bids_by_auction_and_finds_the_most() {
    let query = include_str!("../../benches/nexmark/q5.sql");
    let mut counts = BTreeMap::<(i64, String), i64>::new();
    for bid in bids() {
        let last = number(&bid[3]).div_euclid(2 * SECOND) * 2 * SECOND;
        for start in (0..5).map(|back| last - back * 2 * SECOND) {
            *counts.entry((start, bid[0].clone())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::<i64, i64>::new();
    for ((start, _), count) in &counts {
        let most = most.entry(*start).or_default();
        *most = (*most).max(*count);
    }
    let end = |start: &i64| start + 10 * SECOND;
    let counts = counts.iter().map(|((s, auction), count)| row([auction, count, s, &end(s)]));
    let most = most.iter().map(|(s, count)| row([count, s, &end(s)]));
    let answers = answers(query, &["nexmark_q5_bids", "nexmark_q5_most"]);
    assert!(answers[0] == sorted(counts));
    assert_eq!(answers[1], sorted(most));
}

#[test]
fn q7_finds_the_highest_price() {
    let query = include_str!("../../benches/nexmark/q7.sql");
    let mut highest = BTreeMap::<i64, i64>::new();
    for bid in bids() {
        let highest = highest.entry(ten_seconds(&bid[3]).1).or_default();
        *highest = (*highest).max(number(&bid[2]));
    }
    let expected = sorted(highest.iter().map(|(end, price)| row([price, end])));
    assert_eq!(answers(query, &["nexmark_q7"])[0], expected);
}

#[test]
fn q8_lists_who_registered_and_who_sold() {
    let query = include_str!("../../benches/nexmark/q8.sql");
    let windowed = |mut event: Row| {
        let (start, end) = ten_seconds(&event.pop().unwrap());
        event.extend([start.to_string(), end.to_string()]);
        event
    };
    let people = events("person", &[("id", NUMBER), ("name", TEXT), ("dateTime", TIMESTAMP)]);
    let sellers = events("auction", &[("seller", NUMBER), ("dateTime", TIMESTAMP)]);
    let distinct = |events: Vec<Row>| {
        let rows: BTreeSet<Row> = events.into_iter().map(windowed).collect();
        Vec::from_iter(rows)
    };
    let answers = answers(query, &["nexmark_q8_people", "nexmark_q8_sellers"]);
    assert!(answers[0] == distinct(people));
    assert!(answers[1] == distinct(sellers));
}

#[test]
fn q11_counts_bids_by_session() {
    let query = include_str!("../../benches/nexmark/q11.sql");
    let gap = 10 * SECOND;
    let mut times = BTreeMap::<String, Vec<i64>>::new();
    for bid in bids() {
        times.entry(bid[1].clone()).or_default().push(number(&bid[3]));
    }
    let mut sessions = Vec::new();
    for (bidder, times) in &times {
        let ends = |pair: &[i64]| pair[1] - pair[0] > gap;
        let mut start = 0;
        for end in 1..=times.len() {
            if end == times.len() || ends(&times[end - 1..=end]) {
                let (first, last) = (times[start], times[end - 1] + gap);
                sessions.push(row([bidder, &(end - start), &first, &last]));
                start = end;
            }
        }
    }
    let (sessions_found, bidders) = (sessions.len(), times.len());
    assert!(
        sessions_found > bidders + 100,
        "some of {bidders} bidders come back: {sessions_found} sessions"
    );
    assert!(answers(query, &["nexmark_q11"])[0] == sorted(sessions));
}

#[test]
fn q12_counts_every_bid_once_in_windows_of_the_wall_clock() {
    let query = include_str!("../../benches/nexmark/q12.sql");
    let mut expected = BTreeMap::<i64, i64>::new();
    for bid in bids() {
        *expected.entry(number(&bid[1])).or_default() += 1;
    }
    for shards in [1, 3] {
        let mut counts = BTreeMap::<i64, i64>::new();
        for answer in run(query, &["nexmark_q12"], shards).remove(0) {
            *counts.entry(number(&answer[0])).or_default() += number(&answer[1]);
            assert_eq!(ten_seconds(&answer[2]), (number(&answer[2]), number(&answer[3])));
        }
        assert!(counts == expected);
    }
}
