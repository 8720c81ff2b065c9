//! Decoding of one batch of records, beside what the best crates need for the same bytes.
//!
//! The others are given the easier task where theirs differs: Arrow's readers get the whole batch
//! as one text, simd-json stops at its tape, and serde knows the fields when it is compiled and
//! makes no columns. Each record of `json/54` is 54 to 58 bytes, of `json/200` 200 to 204.

use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use tidemill_core::table::Options;
use tidemill_formats::json::JsonFormat;
use tidemill_formats::registry::framing;
use tidemill_formats::{Decoder, Format, decoder};

const ROWS: usize = 8_192;

fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
    let field = |(name, data_type): (&str, DataType)| Field::new(name, data_type, true);
    Arc::new(Schema::new(fields.into_iter().map(field).collect::<Vec<_>>()))
}

fn views() -> SchemaRef {
    schema(vec![
        ("user", DataType::Int64),
        ("kind", DataType::Utf8View),
        ("amount", DataType::Float64),
        ("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ])
}

/// The first three are what a reader that is compiled for the record sees of it.
#[derive(Deserialize)]
struct View<'a> {
    user: i64,
    kind: &'a str,
    amount: f64,
    ts: i64,
}

fn view_json(n: usize) -> String {
    let (user, amount, ts) = (n * 7 % 10_000, n % 1_000, 1_357_035_300_000 + n);
    format!(r#"{{"user":{user},"kind":"view","amount":{amount}.5,"ts":{ts}}}"#)
}

fn view_csv(n: usize) -> String {
    let (user, amount) = (n * 7 % 10_000, n % 1_000);
    format!("{user},view,{amount}.5,2013-01-01T10:{:02}:00Z", n % 60)
}

fn events() -> SchemaRef {
    let session = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("country", DataType::Utf8View, true),
    ];
    schema(vec![
        ("event_id", DataType::Utf8View),
        ("user_id", DataType::Utf8View),
        ("event_type", DataType::Utf8View),
        ("amount", DataType::Float64),
        ("currency", DataType::Utf8View),
        ("session", DataType::Struct(session.into())),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ])
}

#[derive(Deserialize)]
struct Event<'a> {
    event_id: &'a str,
    user_id: &'a str,
    event_type: &'a str,
    amount: f64,
    currency: &'a str,
    #[serde(borrow)]
    session: Session<'a>,
    ts: &'a str,
}

#[derive(Deserialize)]
struct Session<'a> {
    id: i64,
    country: &'a str,
}

fn event_json(n: usize) -> String {
    format!(
        concat!(
            r#"{{"event_id":"0f8fad5b-d9cb-469f-a165-{:012}","user_id":"user-{:06}","#,
            r#""event_type":"purchase","amount":{}.95,"currency":"EUR","#,
            r#""session":{{"id":{},"country":"DE"}},"ts":"2013-01-01T10:{:02}:50.123Z"}}"#,
        ),
        n,
        n * 7 % 10_000,
        n % 1_000,
        n * 11 % 100_000,
        n % 60
    )
}

fn ours(c: &mut Criterion, group: &str, format: &str, schema: &SchemaRef, lines: &[String]) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("tidemill", |b| {
        let mut decoder = decoder(format, schema.clone(), &Options::default()).expect("it exists");
        b.iter(|| {
            for line in lines {
                decoder.decode(black_box(line.as_bytes())).expect("every line is good");
            }
            decoder.finish().expect("columns are as long as each other")
        });
    });
}

/// Arrow's own reader over the records, one a line.
fn arrows(c: &mut Criterion, group: &str, format: &str, schema: &SchemaRef, lines: &[String]) {
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("arrow", |b| {
        b.iter(|| {
            let text = black_box(text.as_bytes());
            if format == "json" {
                let reader = arrow::json::ReaderBuilder::new(schema.clone()).with_batch_size(ROWS);
                reader.build(text).expect("a valid schema").next()
            } else {
                let reader = arrow::csv::ReaderBuilder::new(schema.clone()).with_batch_size(ROWS);
                reader.build(text).expect("a valid schema").next()
            }
        });
    });
}

/// The tape, in buffers that are kept; it is made in place, so each record is copied first.
fn simd_tape(c: &mut Criterion, group: &str, lines: &[String]) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("simd-json tape", |b| {
        let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
        b.iter(|| {
            for line in lines {
                copy.clear();
                copy.extend_from_slice(black_box(line.as_bytes()));
                let tape = simd_json::to_tape_with_buffers(&mut copy, &mut buffers);
                black_box(tape.expect("every line is good"));
            }
        });
    });
}

/// `serde_json` into a struct of the record's own fields, which `fold` looks at.
fn serde_struct<'a, T: Deserialize<'a>>(
    c: &mut Criterion,
    group: &str,
    lines: &'a [String],
    fold: impl Fn(T) -> usize,
) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("serde struct", |b| {
        b.iter(|| {
            let record = |line: &'a String| {
                let line: &'a str = black_box(line);
                fold(serde_json::from_str(line).expect("every line is good"))
            };
            lines.iter().map(record).sum::<usize>()
        });
    });
}

fn json(c: &mut Criterion) {
    let lines: Vec<_> = (0..ROWS).map(view_json).collect();
    ours(c, "json/54", "json", &views(), &lines);
    arrows(c, "json/54", "json", &views(), &lines);
    simd_tape(c, "json/54", &lines);
    serde_struct(c, "json/54", &lines, |view: View| {
        view.user as usize + view.kind.len() + view.amount as usize + view.ts as usize
    });
    let lines: Vec<_> = (0..ROWS).map(event_json).collect();
    ours(c, "json/200", "json", &events(), &lines);
    arrows(c, "json/200", "json", &events(), &lines);
    simd_tape(c, "json/200", &lines);
    serde_struct(c, "json/200", &lines, |event: Event| {
        let texts = [event.event_id, event.user_id, event.event_type, event.currency, event.ts];
        let texts = texts.iter().map(|text| text.len()).sum::<usize>();
        let session = event.session.id as usize + event.session.country.len();
        texts + event.amount as usize + session
    });
}

fn csv(c: &mut Criterion) {
    let lines: Vec<_> = (0..ROWS).map(view_csv).collect();
    ours(c, "csv", "csv", &views(), &lines);
    arrows(c, "csv", "csv", &views(), &lines);
}

/// The same records as `json/54`, in 20 to 22 bytes and a registry's frame around them for Arrow.
fn avro(c: &mut Criterion) {
    let json = JsonFormat::default();
    let mut decoder = json.decoder(views()).expect("JSON has these types");
    for n in 0..ROWS {
        decoder.decode(view_json(n).as_bytes()).expect("every line is good");
    }
    let rows = decoder.finish().expect("columns are as long as each other");
    let options = [("avro.schema", AVRO)].into_iter().collect();
    let format = Format::parse("avro", &options).expect("a valid schema");
    let mut records = Vec::new();
    let mut encoder = format.encoder(views()).expect("Avro has these types");
    encoder.encode(&rows, &mut |record| records.push(record.to_vec())).expect("it fits");

    let mut group = c.benchmark_group("avro");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("tidemill", |b| {
        let mut decoder = format.decoder(views()).expect("the schema has these columns");
        b.iter(|| {
            for record in &records {
                decoder.decode(black_box(record)).expect("every record is good");
            }
            decoder.finish().expect("columns are as long as each other")
        });
    });
    let framed = |record: &Vec<u8>| {
        let mut framed = Vec::new();
        framing::write_header(1, &mut framed);
        framed.extend_from_slice(record);
        framed
    };
    let framed: Vec<_> = records.iter().map(framed).collect();
    group.bench_function("arrow", |b| {
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        let schema = AvroSchema::new(AVRO.to_owned());
        store.set(Fingerprint::Id(1), schema).expect("a valid schema");
        let builder = ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(ROWS);
        let mut decoder = builder.build_decoder().expect("a valid schema");
        b.iter(|| {
            for record in &framed {
                decoder.decode(black_box(record)).expect("every record is good");
            }
            decoder.flush().expect("every record is good")
        });
    });
}

const AVRO: &str = r#"{"type":"record","name":"view","fields":[
    {"name":"user","type":["null","long"]},
    {"name":"kind","type":["null","string"]},
    {"name":"amount","type":["null","double"]},
    {"name":"ts","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}]}"#;

criterion_group!(benches, json, csv, avro);
criterion_main!(benches);
