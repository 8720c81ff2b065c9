//! A batch of messages along the plan, beside prost-reflect's messages for the same bytes.
//!
//! prost-reflect is given the easier task: it stops at its messages and makes no columns. Records of
//! `small` are 29 to 32 bytes, of `nested` about 110: a `oneof`, an enum, a `Timestamp`, a list.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use tidemill_formats::protobuf::{ProtobufFormat, schema};
use tidemill_formats::{Decoder, Encoder};

const ROWS: usize = 8_192;

const FILE: &str = r#"
syntax = "proto3";
import "google/protobuf/timestamp.proto";
enum Kind { NONE = 0; VIEW = 1; BUY = 2; }
message Small { int64 user = 1; Kind kind = 2; double amount = 3; int64 ts = 4; string page = 5; }
message Item { string sku = 1; int32 count = 2; double price = 3; }
message Nested {
  string event_id = 1;
  string correlation_id = 2;
  google.protobuf.Timestamp at = 3;
  int64 version = 4;
  oneof change { Item added = 5; string removed = 6; }
  repeated int32 tags = 7;
  Kind kind = 8;
}
"#;

fn described(name: &str) -> MessageDescriptor {
    let folder = tempfile::tempdir().expect("there is room for a file");
    let path = folder.path().join("bench.proto");
    std::fs::write(&path, FILE).expect("the folder is new");
    let set = protox::compile([&path], [folder.path()]).expect("the file is valid");
    let set = DescriptorPool::decode(set.encode_to_vec().as_slice()).expect("it compiled");
    set.get_message_by_name(name).expect("it is in the file")
}

fn small(message: &MessageDescriptor, n: usize) -> Vec<u8> {
    let mut record = DynamicMessage::new(message.clone());
    record.set_field_by_name("user", Value::I64((n * 7 % 10_000) as i64));
    record.set_field_by_name("kind", Value::EnumNumber(1 + n as i32 % 2));
    record.set_field_by_name("amount", Value::F64((n % 1_000) as f64 + 0.5));
    record.set_field_by_name("ts", Value::I64(1_357_035_300_000 + n as i64));
    record.set_field_by_name("page", Value::String(format!("/p/{}", n % 100)));
    record.encode_to_vec()
}

fn nested(message: &MessageDescriptor, n: usize) -> Vec<u8> {
    let mut record = DynamicMessage::new(message.clone());
    let part = |name: &str| {
        let field = message.get_field_by_name(name).expect("it is in the file");
        let kind = field.kind();
        DynamicMessage::new(kind.as_message().expect("it is a message").clone())
    };
    let mut at = part("at");
    at.set_field_by_number(1, Value::I64(1_357_035_300 + n as i64));
    at.set_field_by_number(2, Value::I32(500_000_000));
    let mut added = part("added");
    added.set_field_by_number(1, Value::String(format!("sku-{}", n % 1_000)));
    added.set_field_by_number(2, Value::I32(n as i32 % 7));
    added.set_field_by_number(3, Value::F64(9.99));
    record.set_field_by_name("event_id", Value::String(format!("event-{n:026}")));
    record.set_field_by_name("correlation_id", Value::String(format!("cause-{:026}", n / 3)));
    record.set_field_by_name("at", Value::Message(at));
    record.set_field_by_name("version", Value::I64(3));
    record.set_field_by_name("added", Value::Message(added));
    record.set_field_by_name("tags", Value::List((0..3).map(Value::I32).collect()));
    record.set_field_by_name("kind", Value::EnumNumber(2));
    record.encode_to_vec()
}

fn protobuf(c: &mut Criterion) {
    type Make = fn(&MessageDescriptor, usize) -> Vec<u8>;
    for (name, make) in [("Small", small as Make), ("Nested", nested)] {
        let message = described(name);
        let payloads: Vec<_> = (0..ROWS).map(|n| make(&message, n)).collect();
        let format = ProtobufFormat::new(message.clone());
        let mut decoder = format.decoder(schema(&message)).expect("the columns are the message's");
        let mut encoder = format.encoder(schema(&message)).expect("the columns are the message's");
        let mut decode = move || {
            for payload in &payloads {
                decoder.decode(black_box(payload)).expect("every payload is good");
            }
            decoder.finish().expect("columns are as long as each other")
        };
        let batch = decode();
        let mut group = c.benchmark_group(format!("protobuf/{}", name.to_lowercase()));
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("decode", |b| b.iter(&mut decode));
        group.bench_function("encode", |b| {
            b.iter(|| {
                let mut bytes = 0;
                encoder.encode(&batch, &mut |payload| bytes += payload.len()).expect("it was read");
                bytes
            });
        });
        let payloads: Vec<_> = (0..ROWS).map(|n| make(&message, n)).collect();
        group.bench_function("prost-reflect decode", |b| {
            b.iter(|| {
                for payload in &payloads {
                    let payload = black_box(payload.as_slice());
                    let decoded = DynamicMessage::decode(message.clone(), payload);
                    black_box(decoded.expect("every payload is good"));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, protobuf);
criterion_main!(benches);
