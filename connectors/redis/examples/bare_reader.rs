//! Reads all that some streams hold and counts entries and bytes: what a program that uses the `redis` crate
//! can do at best, against which `benches/peers/redis.sh` measures the rest.
//!
//! ```text
//! bare_reader URL STREAMS CONNECTIONS [parse]
//! ```
//!
//! `STREAMS` has commas between its names. They are dealt out among so many connections, a thread each, which ask
//! for a thousand entries of each of their streams at once. With `parse`, payloads are read as JSON and their
//! amounts added up. Prints one line: rows, seconds from the first request to the last answer, bytes, and the sum.

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;
use std::time::Instant;

use redis::Value;
use serde::Deserialize;

/// Entries of one stream in one answer.
const COUNT: usize = 1000;

type Failure = Box<dyn Error + Send + Sync>;

/// What is read of an event.
#[derive(Deserialize)]
struct Event {
    amount: Option<f64>,
}

/// What one connection has read.
#[derive(Default)]
struct Tally {
    rows: u64,
    bytes: u64,
    /// Of the bytes themselves, so that all of them are touched.
    checksum: u64,
    amounts: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, streams, connections, parses) = match arguments.as_slice() {
        [url, streams, connections] => (url, streams, connections, false),
        [url, streams, connections, parse] if parse == "parse" => (url, streams, connections, true),
        _ => return Err("usage: bare_reader URL STREAMS CONNECTIONS [parse]".into()),
    };
    let streams: Vec<&str> = streams.split(',').collect();
    let connections: usize = connections.parse()?;
    let start = Instant::now();
    let tallies = thread::scope(|scope| {
        let readers: Vec<_> = (0..connections)
            .map(|n| {
                let share: Vec<&str> =
                    streams.iter().skip(n).step_by(connections).copied().collect();
                scope.spawn(move || read(url, &share, parses))
            })
            .collect();
        let joined =
            readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked"));
        joined.map(|tally| tally?).collect::<Result<Vec<Tally>, Failure>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).fold(0, u64::wrapping_add);
    let (rows, bytes) = (sum(|tally| tally.rows), sum(|tally| tally.bytes));
    let checksum = sum(|tally| tally.checksum);
    let amounts: f64 = tallies.iter().map(|tally| tally.amounts).sum();
    println!(
        "rows={rows} seconds={seconds:.3} bytes={bytes} checksum={checksum} amounts={amounts:.2}"
    );
    Ok(())
}

/// Reads streams until an answer holds nothing more.
fn read(url: &str, streams: &[&str], parses: bool) -> Result<Tally, Failure> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut positions: BTreeMap<Vec<u8>, Vec<u8>> =
        streams.iter().map(|stream| (stream.as_bytes().to_vec(), b"0".to_vec())).collect();
    let mut tally = Tally::default();
    loop {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(COUNT).arg("STREAMS");
        positions.keys().for_each(|stream| {
            command.arg(stream);
        });
        positions.values().for_each(|position| {
            command.arg(position);
        });
        let Value::Array(answered) = command.query(&mut connection)? else { return Ok(tally) };
        for stream in &answered {
            let Value::Array(stream) = stream else { return Err("no stream".into()) };
            let [Value::BulkString(name), Value::Array(entries)] = stream.as_slice() else {
                return Err("no stream with its entries".into());
            };
            for entry in entries {
                tally.entry(entry, parses)?;
            }
            if let Some(Value::Array(last)) = entries.last()
                && let Some(Value::BulkString(id)) = last.first()
                && let Some(position) = positions.get_mut(name)
            {
                position.clone_from(id);
            }
        }
    }
}

impl Tally {
    fn entry(&mut self, entry: &Value, parses: bool) -> Result<(), Failure> {
        let Value::Array(entry) = entry else { return Err("no entry".into()) };
        let [_, Value::Array(fields)] = entry.as_slice() else {
            return Err("no id with its fields".into());
        };
        self.rows += 1;
        for pair in fields.chunks_exact(2) {
            let [Value::BulkString(name), Value::BulkString(value)] = pair else {
                return Err("no field with its value".into());
            };
            self.bytes += value.len() as u64;
            self.checksum += value.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            if parses && name == b"payload" {
                self.amounts += serde_json::from_slice::<Event>(value)?.amount.unwrap_or(0.0);
            }
        }
        Ok(())
    }
}
