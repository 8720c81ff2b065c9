//! Reads all that a topic holds and counts records and bytes: what no consumer built on librdkafka can
//! beat, against which `benches/peers/kafka.sh` measures the rest.
//!
//! ```text
//! bare_consumer BROKERS TOPIC CONSUMERS
//! ```
//!
//! Partitions are dealt out among so many consumers, a thread each. Prints one line: rows, seconds
//! from the first record to the last, bytes.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(30);

type Failure = Box<dyn Error + Send + Sync>;

/// Offsets from the first record of a partition to behind its last.
struct Range {
    partition: i32,
    start: i64,
    end: i64,
}

/// What one consumer has read, and when.
struct Tally {
    rows: i64,
    bytes: u64,
    first: Instant,
    last: Instant,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, consumers] = arguments.as_slice() else {
        return Err("usage: bare_consumer BROKERS TOPIC CONSUMERS".into());
    };
    let consumers: usize = consumers.parse()?;
    let ranges = ranges(&consumer(brokers)?, topic)?;
    let tallies = thread::scope(|scope| {
        let readers: Vec<_> = (0..consumers)
            .map(|n| {
                let share: Vec<&Range> = ranges.iter().skip(n).step_by(consumers).collect();
                scope.spawn(move || read(brokers, topic, &share))
            })
            .collect();
        let joined =
            readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked"));
        joined.map(|tally| tally?).collect::<Result<Vec<Tally>, Failure>>()
    })?;
    let first = tallies.iter().map(|tally| tally.first).min();
    let last = tallies.iter().map(|tally| tally.last).max();
    let seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    let rows: i64 = tallies.iter().map(|tally| tally.rows).sum();
    let bytes: u64 = tallies.iter().map(|tally| tally.bytes).sum();
    println!("rows={rows} seconds={seconds:.3} bytes={bytes}");
    Ok(())
}

fn consumer(brokers: &str) -> Result<BaseConsumer, Failure> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare-consumer")
        .set("enable.auto.commit", "false")
        // By default a queue that has been full is not filled again for a second.
        .set("fetch.queue.backoff.ms", "10")
        .create()?)
}

fn ranges(consumer: &BaseConsumer, topic: &str) -> Result<Vec<Range>, Failure> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    partitions
        .map(|partition| {
            let partition = partition.id();
            let (start, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
            Ok(Range { partition, start, end })
        })
        .collect()
}

fn read(brokers: &str, topic: &str, ranges: &[&Range]) -> Result<Tally, Failure> {
    let consumer = consumer(brokers)?;
    let mut assignment = TopicPartitionList::new();
    for range in ranges {
        assignment.add_partition_offset(topic, range.partition, Offset::Offset(range.start))?;
    }
    consumer.assign(&assignment)?;
    let rows: i64 = ranges.iter().map(|range| range.end - range.start).sum();
    let now = Instant::now();
    let mut tally = Tally { rows: 0, bytes: 0, first: now, last: now };
    while tally.rows < rows {
        let message = consumer.poll(PATIENCE).ok_or("no record came for 30 s")??;
        if tally.rows == 0 {
            tally.first = Instant::now();
        }
        tally.rows += 1;
        tally.bytes += message.payload().map_or(0, |payload| payload.len() as u64);
    }
    tally.last = Instant::now();
    Ok(tally)
}
