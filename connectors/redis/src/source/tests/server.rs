//! Streams of a test's own, filled through the redis crate alone, and a shard's calls to a source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use redis::{Cmd, FromRedisValue, Value};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::Records;
use tidemill_core::source::{Offset, Read, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::TableSpec;
use tidemill_core::time::SystemClock;
use tidemill_core::{Error, Result};

use crate::client::{Config, Connection};
use crate::source::RedisStreamSource;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run scripts/test, or scripts/services up"))
}

/// A name that no other test and no earlier run has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{what}-{nanos:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Wakes the thread that made it.
fn waker() -> Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

/// A stream on some server; it is deleted in the end.
pub struct Stream {
    pub key: String,
    pub url: String,
    pub cluster: bool,
}

impl Stream {
    /// A new one, on the server of the tests.
    pub fn new() -> Self {
        Self::called(unique("source"))
    }

    pub fn called(key: String) -> Self {
        Self { key, url: variable("REDIS_URL"), cluster: false }
    }

    pub fn at(url: &str) -> Self {
        Self { key: unique("source"), url: url.to_owned(), cluster: false }
    }

    pub fn connect(&self) -> Connection {
        let config = match self.cluster {
            true => Config::with_environment(
                &[("url", self.url.as_str()), ("cluster", "true")].into_iter().collect(),
                |_| None,
            ),
            false => Config::of_url(&self.url),
        };
        config.unwrap().connect().unwrap()
    }

    /// Runs a command, whose second or third word is `KEY` where the stream's is to stand.
    pub fn run<T: FromRedisValue>(&self, words: &str) -> T {
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(if word == "KEY" { self.key.as_str() } else { word });
        }
        self.connect().query(self.key.as_bytes(), &command).unwrap()
    }

    /// Runs commands, nothing else between them.
    pub fn run_together(&self, commands: impl IntoIterator<Item = String>) {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for words in commands {
            let mut command = Cmd::new();
            for word in words.split(' ') {
                command.arg(if word == "KEY" { self.key.as_str() } else { word });
            }
            pipeline.add_command(command);
        }
        self.connect().transaction::<Value>(self.key.as_bytes(), &pipeline).unwrap();
    }

    /// Adds entries: id, and fields with their values.
    pub fn add<'a>(&self, entries: impl IntoIterator<Item = (String, Vec<(&'a str, Vec<u8>)>)>) {
        let entry = |(id, fields): (String, Vec<(&str, Vec<u8>)>)| {
            let mut command = redis::cmd("XADD");
            command.arg(&self.key).arg(id);
            fields.iter().for_each(|(name, value)| _ = command.arg(name).arg(value));
            (self.key.clone(), command)
        };
        let commands: Vec<_> = entries.into_iter().map(entry).collect();
        for chunk in commands.chunks(10_000) {
            let answers = self.connect().pipeline(chunk).unwrap();
            answers.into_iter().for_each(|answer| drop(answer.unwrap()));
        }
    }

    /// Adds the entry `n-0` with `{"n": n}` for each number.
    pub fn add_numbers(&self, numbers: impl IntoIterator<Item = i64>) {
        self.add(numbers.into_iter().map(|n| (format!("{n}-0"), vec![("payload", json(n))])));
    }

    pub fn split(&self) -> SplitId {
        SplitId::new(&self.key)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(mut connection) = Config::of_url(&self.url).and_then(|config| config.connect()) {
            let mut command = redis::cmd("DEL");
            let _: Result<Value, _> = connection.query(self.key.as_bytes(), command.arg(&self.key));
        }
    }
}

pub fn json(n: i64) -> Vec<u8> {
    format!("{{\"n\":{n}}}").into_bytes()
}

/// A table that reads `stream`.
pub fn table(
    stream: &Stream,
    fields: Vec<Field>,
    metadata: &[(usize, &str)],
    options: &[(&str, &str)],
) -> TableSpec {
    let mut all = vec![("stream", stream.key.as_str()), ("url", stream.url.as_str())];
    if stream.cluster {
        all.push(("cluster", "true"));
    }
    all.retain(|(name, _)| options.iter().all(|(other, _)| other != name));
    all.extend(options.iter().filter(|(_, value)| !value.is_empty()));
    TableSpec {
        name: "entries".to_owned(),
        schema: Arc::new(Schema::new(fields)),
        metadata: metadata.iter().map(|(column, key)| (*column, (*key).to_owned())).collect(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: all.into_iter().collect(),
    }
}

/// A source of numbers; an option without a value is left out.
pub fn source(stream: &Stream, options: &[(&str, &str)]) -> RedisStreamSource {
    let mut all = vec![("format", "json")];
    all.retain(|(name, _)| options.iter().all(|(other, _)| other != name));
    all.extend(options);
    let fields = vec![Field::new("n", DataType::Int64, false)];
    RedisStreamSource::of_table(&table(stream, fields, &[], &all)).unwrap()
}

pub fn context() -> ReaderContext {
    ReaderContext {
        waker: waker(),
        clock: Arc::new(SystemClock::default()),
        job: "job".into(),
        discovered: false,
        checkpointed: true,
    }
}

/// What was read.
#[derive(Default)]
pub struct Got {
    pub batches: Vec<RecordBatch>,
    pub letters: Vec<DeadLetter>,
    pub records: Vec<Arc<dyn Records>>,
    pub ended: bool,
}

impl Got {
    pub fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum::<usize>() + self.letters.len()
    }

    /// The numbers in the first column.
    pub fn numbers(&self) -> Vec<i64> {
        let columns = self.batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
        columns.flat_map(|column| column.values().to_vec()).collect()
    }

    /// All rows in one.
    pub fn batch(&self, schema: &SchemaRef) -> RecordBatch {
        arrow::compute::concat_batches(schema, &self.batches).unwrap()
    }
}

/// Reads until there are `count` records, or the end.
pub fn read(reader: &mut dyn SplitReader, count: usize) -> Result<Got> {
    let mut got = Got::default();
    let start = Instant::now();
    while got.count() < count {
        match reader.read(count - got.count())? {
            Read::Batch(batch) => {
                got.letters.extend(batch.dead_letters);
                got.records.extend(batch.records);
                got.batches.push(batch.rows);
            }
            Read::Pending => {
                assert!(start.elapsed() < PATIENCE, "{} of {count} records", got.count());
                std::thread::park_timeout(Duration::from_millis(100));
            }
            Read::End => {
                got.ended = true;
                break;
            }
        }
    }
    Ok(got)
}

pub fn open(
    source: &RedisStreamSource,
    stream: &Stream,
    from: Option<&str>,
) -> Box<dyn SplitReader> {
    let from = from.map(|text| Offset(text.to_owned()));
    source.open(&stream.split(), from.as_ref(), &context()).unwrap()
}

/// Reads all that a bounded source has.
pub fn read_to_end(source: &RedisStreamSource, stream: &Stream, from: Option<&str>) -> Got {
    let got = read(open(source, stream, from).as_mut(), usize::MAX).unwrap();
    assert!(got.ended);
    got
}

/// The error of what should not have worked.
pub fn refused<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}
