//! The rows in Redis streams, one for each split.

use std::sync::Arc;

use arrow::array::RecordBatch;
use redis::Value;
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};
use tidemill_redis::client::Config;
use tidemill_redis::client::error::from_redis;
use tidemill_redis::{RedisStream, RedisStreamSource, StartAt, StopAt};

use super::super::input;
use super::super::workload::Workload;
use super::{Split, records, unique_name};

/// Entries of one command, or of one answer.
const COUNT: usize = 1000;

/// The field that holds a record, where the connector looks for it.
const FIELD: &str = "payload";

/// Streams that are gone when this is dropped.
pub(crate) struct Streams {
    url: String,
    config: Config,
    names: Vec<String>,
}

impl Streams {
    /// Makes so many streams and deals out the rows to them in turns, a batch at a time.
    ///
    /// # Errors
    /// A server that is not named, cannot be reached, or does not take the rows.
    pub fn fill(
        url: Option<&str>,
        workload: &Workload,
        rows: &[RecordBatch],
        count: usize,
    ) -> Result<Self> {
        let url = url.map(str::to_owned).or_else(|| std::env::var("REDIS_URL").ok());
        let url = url.ok_or_else(|| {
            Error::configuration(
                "--source redis needs a server: name it with --redis URL or REDIS_URL \
                 (`scripts/services up redis`, then `scripts/services env`)",
            )
        })?;
        let config = Config::parse(&Options::from_iter([("url", url.as_str())]))?;
        let name = unique_name();
        let names = (0..count).map(|number| format!("{name}:{number}")).collect();
        let streams = Self { url, config, names };
        streams.add(workload, rows)?;
        Ok(streams)
    }

    /// All of them, as the engine reads them.
    pub fn source(&self, workload: &Workload) -> RedisStreamSource {
        RedisStream::streams(self.names.join(";"))
            .url(&self.url)
            .start_at(StartAt::Earliest)
            .stop_at(StopAt::Latest)
            .json(input::schema(workload))
    }

    /// Each stream.
    pub fn splits(self: &Arc<Self>) -> Vec<Stream> {
        (0..self.names.len()).map(|number| Stream { streams: self.clone(), number }).collect()
    }

    fn add(&self, workload: &Workload, rows: &[RecordBatch]) -> Result<()> {
        let mut connection = self.config.connect()?;
        let mut send = |commands: &mut Vec<(&str, redis::Cmd)>| -> Result<()> {
            let answers = connection.pipeline(commands).map_err(|error| self.failed(&error))?;
            commands.clear();
            match answers.into_iter().find_map(Result::err) {
                Some(error) => Err(self.failed(&error)),
                None => Ok(()),
            }
        };
        let mut commands = Vec::with_capacity(COUNT);
        records(workload, rows, |batch, row| {
            let name = self.names[batch % self.names.len()].as_str();
            let mut command = redis::cmd("XADD");
            command.arg(name).arg("*").arg(FIELD).arg(row);
            commands.push((name, command));
            if commands.len() < COUNT { Ok(()) } else { send(&mut commands) }
        })?;
        if commands.is_empty() { Ok(()) } else { send(&mut commands) }
    }

    fn failed(&self, error: &redis::RedisError) -> Error {
        from_redis(error, format!("benchmark rows on {}", self.config.place()))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for name in &self.names {
            let gone = self.config.connect().and_then(|mut connection| {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(name);
                connection.query::<()>(name.as_bytes(), &unlink).map_err(|e| self.failed(&e))
            });
            if let Err(error) = gone {
                eprintln!("warning: the stream {name} was not deleted: {error}");
            }
        }
    }
}

/// A stream, read over a connection of its own.
pub(crate) struct Stream {
    streams: Arc<Streams>,
    number: usize,
}

impl Split for Stream {
    fn read(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let name = self.streams.names[self.number].as_str();
        let mut connection = self.streams.config.connect()?;
        let mut position = b"0".to_vec();
        loop {
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(COUNT).arg("STREAMS").arg(name).arg(&position);
            let answer: Value = connection
                .query(name.as_bytes(), &command)
                .map_err(|error| self.streams.failed(&error))?;
            if answer == Value::Nil {
                return Ok(());
            }
            let last = entries(&answer, &mut each)?;
            position = last.ok_or_else(|| unreadable(name))?;
        }
    }
}

fn unreadable(name: &str) -> Error {
    Error::internal(format!("the stream {name} holds something else than the benchmark's rows"))
}

/// Hands over the records of an answer about one stream; the id of the last, `None` where the answer is
/// no such thing.
fn entries(answer: &Value, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<Option<Vec<u8>>> {
    let Value::Array(streams) = answer else { return Ok(None) };
    let [Value::Array(stream)] = streams.as_slice() else { return Ok(None) };
    let [_, Value::Array(entries)] = stream.as_slice() else { return Ok(None) };
    let mut last = None;
    for entry in entries {
        let Value::Array(entry) = entry else { return Ok(None) };
        let [Value::BulkString(id), Value::Array(fields)] = entry.as_slice() else {
            return Ok(None);
        };
        let [_, Value::BulkString(record)] = fields.as_slice() else { return Ok(None) };
        each(record)?;
        last = Some(id);
    }
    Ok(last.cloned())
}
