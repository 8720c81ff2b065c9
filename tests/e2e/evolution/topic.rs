//! A topic whose writers move from one schema to the next while a job reads it, and while it is down: what
//! fits the table is counted, what does not is a dead letter, and nothing else is.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tidemill_formats::registry::{Definition, Registry, RegistryConfig, SchemaKind, framing};
use tidemill_registry::{Running as RunningRegistry, Server};

use crate::clicks::Destination;
use crate::job_folder::{Running, assert_lines, lines, part_files, summary};
use crate::kafka::broker::{Broker, Topic};
use crate::pipelines::fast_disk;

/// Records of a phase.
const RECORDS: u64 = 2_000;

const PARTITIONS: u64 = 2;

/// Microseconds between records, and the first one's time: 2024-01-01.
const START: i64 = 1_704_067_200_000;

const JOB: &str = "
SET 'pipeline.name' = 'evolving';
SET 'execution.checkpointing.dir' = 'checkpoints';
CREATE TABLE orders (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT, coupon STRING,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{brokers}',
        'properties.group.id' = '{topic}', 'scan.startup.mode' = 'earliest-offset', {format}{more});
CREATE TABLE totals (window_start TIMESTAMP(3), user_id BIGINT, n BIGINT, total BIGINT, coupons BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'output', 'format' = 'csv');
INSERT INTO totals
SELECT window_start, user_id, COUNT(*), SUM(amount), COUNT(coupon)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, user_id;
";

/// An order, as all writers mean it.
#[derive(Debug, Clone)]
struct Order {
    user: i64,
    millis: i64,
    amount: i64,
    coupon: Option<&'static str>,
}

/// The shapes in which orders are written, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Amounts of 32 bits, no coupons.
    First,
    /// Amounts of 64 bits, coupons; other places and numbers.
    Second,
    /// Amounts are texts: no table of numbers can hold them.
    Unreadable,
}

/// Writes orders in one format.
trait Writer {
    /// The format's options in the table.
    fn options(&self) -> String;

    fn write(&self, shape: Shape, order: &Order) -> Vec<u8>;
}

/// A topic, the job that reads it, and what is expected of it.
struct Rig {
    dir: TempDir,
    topic: Arc<Topic>,
    writer: Box<dyn Writer>,
    written: u64,
    groups: BTreeMap<(i64, i64), (u64, i64, u64)>,
    unreadable: u64,
}

impl Rig {
    fn new(writer: impl Writer + 'static) -> Self {
        let topic = Broker::shared().topic("orders", PARTITIONS as usize);
        let (writer, dir) = (Box::new(writer), tempfile::tempdir_in(fast_disk()).unwrap());
        Self { dir, topic, writer, written: 0, groups: BTreeMap::new(), unreadable: 0 }
    }

    /// Writes so many orders, their shapes in turn.
    fn send(&mut self, records: u64, shapes: &[Shape]) {
        let mut out = self.topic.writer();
        for _ in 0..records {
            let n = self.written;
            let shape = shapes[(n as usize / 7) % shapes.len()];
            let order = order(n, shape);
            out.write((n % PARTITIONS) as usize, &[], &self.writer.write(shape, &order));
            self.written += 1;
            if shape == Shape::Unreadable {
                self.unreadable += 1;
                continue;
            }
            let group = (order.millis - order.millis % 10_000, order.user);
            let (n, total, coupons) = self.groups.entry(group).or_default();
            *n += 1;
            *total += order.amount;
            *coupons += u64::from(order.coupon.is_some());
        }
        out.finish();
    }

    /// `tidemill run` of the job, its source with more options.
    fn run(&self, more: &str) -> Command {
        let job = JOB
            .replace("{topic}", self.topic.name())
            .replace("{brokers}", self.topic.broker().addresses())
            .replace("{format}", &self.writer.options())
            .replace("{more}", more);
        fs::write(self.path("job.sql"), job).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["run", "job.sql", "-o", "json", "--parallelism", "2"]);
        command.args(["--checkpoint-interval", "100ms"]).current_dir(self.dir.path());
        command.env_remove("TIDEMILL_LOG").env_remove("FAILPOINTS");
        command
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Waits until checkpoints hold all that has been written.
    fn until_read(&self, running: &mut Running) {
        let group = self.topic.group(self.topic.name());
        running.until("all orders", || group.committed() == self.written);
    }

    fn expected(&self) -> Vec<String> {
        let line = |(key, value): (&(i64, i64), &(u64, i64, u64))| {
            let seconds = (key.0 - START) / 1000;
            let start = format!("2024-01-01 00:{:02}:{:02}", seconds / 60, seconds % 60);
            format!("{start},{},{},{},{}", key.1, value.0, value.1, value.2)
        };
        let mut lines: Vec<String> = self.groups.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn order(n: u64, shape: Shape) -> Order {
    let wide = if shape == Shape::Second { 3_000_000_000 } else { 0 };
    let coupon = (shape == Shape::Second && n.is_multiple_of(2)).then_some("spring");
    Order {
        user: (n / 2 % 5) as i64,
        millis: START + n as i64 * 20,
        amount: wide + n as i64,
        coupon,
    }
}

/// The whole story: old records, new ones while the job runs, and both with unreadable ones among them
/// while it is down; then it comes back and reads to the end.
fn follow(writer: impl Writer + 'static) {
    let mut rig = Rig::new(writer);
    rig.send(RECORDS, &[Shape::First]);
    let mut running = Running::start(rig.run(""), rig.path("log"));
    rig.until_read(&mut running);
    rig.send(RECORDS, &[Shape::First, Shape::Second]);
    rig.until_read(&mut running);
    rig.send(RECORDS, &[Shape::Second, Shape::Unreadable]);
    rig.until_read(&mut running);
    running.kill();
    rig.send(RECORDS, &[Shape::Second, Shape::First, Shape::Unreadable]);
    let ended = rig.run(", 'scan.bounded.mode' = 'latest-offset'").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let counts = |name: &str| summary(&said)["ledgers"][0][name].as_u64().unwrap();
    let found = ["records_in", "counted", "dead_letters", "late"].map(counts);
    let readable = rig.written - rig.unreadable;
    assert_eq!(found, [rig.written, readable, rig.unreadable, 0], "{said}");
    let dead_letters = lines(&part_files(&rig.path("checkpoints/dead-letters/evolving")));
    assert_eq!(dead_letters.len() as u64, rig.unreadable);
    assert!(dead_letters.iter().all(|letter| letter.contains("amount")), "{}", dead_letters[0]);
    assert_lines(&lines(&part_files(&rig.path("output"))), &rig.expected(), "totals");
}

struct Json;

impl Writer for Json {
    fn options(&self) -> String {
        "'format' = 'json', 'json.timestamp-format.epoch' = 'millis'".to_owned()
    }

    fn write(&self, shape: Shape, order: &Order) -> Vec<u8> {
        let Order { user, millis, amount, coupon } = order;
        let record = match (shape, coupon) {
            (Shape::First, _) => format!(r#"{{"user_id":{user},"ts":{millis},"amount":{amount}}}"#),
            (Shape::Second, Some(coupon)) => format!(
                r#"{{"coupon":"{coupon}","amount":{amount},"by":{{"x":1}},"ts":{millis},"user_id":{user}}}"#
            ),
            (Shape::Second, None) => {
                format!(r#"{{"coupon":null,"amount":{amount},"ts":{millis},"user_id":{user}}}"#)
            }
            (Shape::Unreadable, _) => {
                format!(r#"{{"user_id":{user},"ts":{millis},"amount":"{amount} €"}}"#)
            }
        };
        record.into_bytes()
    }
}

/// A registry with a schema for each shape.
struct Schemas {
    server: RunningRegistry,
    ids: [u32; 3],
}

impl Schemas {
    fn new(kind: SchemaKind, texts: [&str; 3]) -> Self {
        let server = Server::new().start("127.0.0.1:0").unwrap();
        let registry = Registry::new(RegistryConfig::new(&server.url()).unwrap()).unwrap();
        let register =
            |text| registry.register("orders-value", &Definition::new(kind, text)).unwrap();
        Self { ids: texts.map(register), server }
    }

    fn frame(&self, shape: Shape) -> Vec<u8> {
        let mut frame = Vec::new();
        framing::write_header(self.ids[shape as usize], &mut frame);
        frame
    }
}

struct Avro(Schemas);

impl Avro {
    fn new() -> Self {
        let field = |name: &str, of: &str| format!(r#"{{"name":"{name}","type":{of}}}"#);
        let ts = field("ts", r#"{"type":"long","logicalType":"timestamp-millis"}"#);
        let record = |fields: &[String]| {
            let fields = fields.join(",");
            format!(r#"{{"type":"record","name":"order","fields":[{fields}]}}"#)
        };
        let user = field("user_id", r#""int""#);
        let first = record(&[user.clone(), ts.clone(), field("amount", r#""int""#)]);
        let second = record(&[
            field("coupon", r#"["null","string"]"#),
            field("amount", r#""long""#),
            field("discounts", r#"{"type":"array","items":"int"}"#),
            ts.clone(),
            field("user_id", r#""long""#),
        ]);
        let unreadable = record(&[user, ts, field("amount", r#""string""#)]);
        Self(Schemas::new(SchemaKind::Avro, [&first, &second, &unreadable]))
    }
}

impl Writer for Avro {
    fn options(&self) -> String {
        format!("'format' = 'avro-confluent', 'avro-confluent.url' = '{}'", self.0.server.url())
    }

    fn write(&self, shape: Shape, order: &Order) -> Vec<u8> {
        let zigzag = |value: i64| varint(((value << 1) ^ (value >> 63)) as u64);
        let text = |text: &str| [zigzag(text.len() as i64), text.as_bytes().to_vec()].concat();
        let (user, ts, amount) = (zigzag(order.user), zigzag(order.millis), zigzag(order.amount));
        let datum = match shape {
            Shape::First => [user, ts, amount].concat(),
            Shape::Second => {
                let coupon =
                    order.coupon.map_or_else(|| zigzag(0), |c| [zigzag(1), text(c)].concat());
                let discounts = [zigzag(2), zigzag(5), zigzag(7), zigzag(0)].concat();
                [coupon, amount, discounts, ts, user].concat()
            }
            Shape::Unreadable => [user, ts, text("five")].concat(),
        };
        [self.0.frame(shape), datum].concat()
    }
}

struct Protobuf(Schemas);

impl Protobuf {
    fn new() -> Self {
        let file = |fields: &str| {
            format!(
                "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; message Order {{ \
                 google.protobuf.Timestamp ts = 2; {fields} }}"
            )
        };
        let first = file("int64 user_id = 1; int32 amount = 3;");
        let second =
            file("int64 user_id = 7; int64 amount = 3; optional string coupon = 9; bool gift = 1;");
        let unreadable = file("int64 user_id = 1; string amount = 3;");
        Self(Schemas::new(SchemaKind::Protobuf, [&first, &second, &unreadable]))
    }
}

impl Writer for Protobuf {
    fn options(&self) -> String {
        let url = self.0.server.url();
        format!("'format' = 'protobuf-confluent', 'protobuf-confluent.url' = '{url}'")
    }

    fn write(&self, shape: Shape, order: &Order) -> Vec<u8> {
        let number = |field: u64, value: i64| [varint(field << 3), varint(value as u64)].concat();
        let bytes = |field: u64, bytes: &[u8]| {
            [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
        };
        let nanos = order.millis % 1000 * 1_000_000;
        let ts = bytes(2, &[number(1, order.millis / 1000), number(2, nanos)].concat());
        let fields = match shape {
            Shape::First => [ts, number(1, order.user), number(3, order.amount)].concat(),
            Shape::Second => {
                let coupon = order.coupon.map_or_else(Vec::new, |c| bytes(9, c.as_bytes()));
                [number(1, 1), number(7, order.user), coupon, ts, number(3, order.amount)].concat()
            }
            Shape::Unreadable => [number(1, order.user), ts, bytes(3, b"five")].concat(),
        };
        // The first message of its file.
        [self.0.frame(shape), vec![0], fields].concat()
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn json_records_change_their_shape_while_a_job_runs_and_while_it_is_down() {
    follow(Json);
}

#[test]
fn avro_schemas_change_while_a_job_runs_and_while_it_is_down() {
    follow(Avro::new());
}

#[test]
fn protobuf_schemas_change_while_a_job_runs_and_while_it_is_down() {
    follow(Protobuf::new());
}
