//! Decoding of one batch of records, beside Arrow's own readers over the same bytes.

use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill_core::table::Options;
use tidemill_formats::decoder;

const ROWS: usize = 8_192;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Int64, true),
        Field::new("kind", DataType::Utf8View, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

/// Lines of 54 to 58 bytes as JSON, of about half that as CSV.
fn lines(format: &str) -> Vec<String> {
    let line = |n: usize| {
        let (user, amount, ts) = (n * 7 % 10_000, n % 1_000, 1_357_035_300_000 + n);
        match format {
            "json" => {
                format!(r#"{{"user":{user},"kind":"view","amount":{amount}.5,"ts":{ts}}}"#)
            }
            _ => format!("{user},view,{amount}.5,2013-01-01T10:{:02}:00Z", n % 60),
        }
    };
    (0..ROWS).map(line).collect()
}

fn decode(c: &mut Criterion) {
    for format in ["json", "csv"] {
        let lines = lines(format);
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let mut group = c.benchmark_group(format!("decode/{format}"));
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("tidemill", |b| {
            let mut decoder = decoder(format, schema(), &Options::default()).expect("it exists");
            b.iter(|| {
                for line in &lines {
                    decoder.decode(black_box(line.as_bytes())).expect("every line is good");
                }
                decoder.finish().expect("columns are as long as each other")
            });
        });
        group.bench_function("arrow", |b| {
            b.iter(|| {
                let text = black_box(text.as_bytes());
                if format == "json" {
                    let reader = arrow::json::ReaderBuilder::new(schema()).with_batch_size(ROWS);
                    reader.build(text).expect("a valid schema").next()
                } else {
                    let reader = arrow::csv::ReaderBuilder::new(schema()).with_batch_size(ROWS);
                    reader.build(text).expect("a valid schema").next()
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
