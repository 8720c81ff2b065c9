//! How far a consumer group is behind: what `tidemill lag` shows, from a table's options alone. The job
//! need not run.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use tidemill_core::Result;
use tidemill_core::table::{GroupLag, SplitLag, TableSpec};

use crate::client::connection::Connection;
use crate::client::error;
use crate::source::KafkaSource;
use crate::source::queue::PartitionQueue;
use crate::source::session::{Partition, topic_partition};

/// How long the records are waited for whose age is wanted.
const RECORDS: Duration = Duration::from_secs(10);

/// What the group has read of one partition.
struct PartitionLag {
    topic: String,
    partition: i32,
    start: i64,
    committed: Option<i64>,
    end: i64,
    records: Option<u64>,
    seconds: Option<f64>,
}

impl From<PartitionLag> for SplitLag {
    fn from(lag: PartitionLag) -> Self {
        Self {
            split: format!("{}/{}", lag.topic, lag.partition),
            start: lag.start.to_string(),
            committed: lag.committed.map(|committed| committed.to_string()),
            end: lag.end.to_string(),
            records: lag.records,
            seconds: lag.seconds,
            pending: None,
        }
    }
}

/// The lag of the source that `table` describes, in job `job`.
///
/// # Errors
/// What is wrong with the options, or brokers that do not answer or refuse.
pub(crate) fn of_table(table: &TableSpec, job: &str) -> Result<GroupLag> {
    let source = KafkaSource::of_table(table)?;
    let session = source.session()?;
    let splits = session.splits()?;
    let (asking, reading) = (session.asking()?, session.reading(job)?);
    let mut partitions = Vec::with_capacity(splits.len());
    for split in &splits {
        let (topic, partition) = topic_partition(split)?;
        partitions.push(partition_lag(&Partition {
            asking: &asking,
            reading: &reading,
            topic,
            partition,
        })?);
    }
    add_ages(&reading, &mut partitions)?;
    let splits = partitions.into_iter().map(SplitLag::from).collect();
    Ok(GroupLag { group: session.config.group(job), splits })
}

fn partition_lag(partition: &Partition<'_>) -> Result<PartitionLag> {
    let (start, end) = partition.range()?;
    let committed = partition.committed()?;
    let records = committed.map(|committed| u64::try_from(end - committed).unwrap_or(0));
    Ok(PartitionLag {
        topic: partition.topic.to_owned(),
        partition: partition.partition,
        start,
        committed,
        end,
        records,
        seconds: records.filter(|records| *records == 0).map(|_| 0.0),
    })
}

/// Reads the record that each group is at, for its timestamp.
fn add_ages(connection: &Arc<Connection>, partitions: &mut [PartitionLag]) -> Result<()> {
    let mut list = TopicPartitionList::new();
    let mut waiting = Vec::new();
    for (index, lag) in partitions.iter().enumerate() {
        let Some(committed) = lag.committed.filter(|_| lag.records > Some(0)) else { continue };
        let waker = std::task::Waker::noop().clone();
        let queue = PartitionQueue::open(connection.consumer(), &lag.topic, lag.partition, waker)?;
        let at = Offset::Offset(committed.max(lag.start));
        let added = list.add_partition_offset(&lag.topic, lag.partition, at);
        added.map_err(|error| error::from_kafka(&error, &lag.topic))?;
        waiting.push((index, queue));
    }
    let assigned = connection.consumer().assign(&list);
    assigned.map_err(|error| error::from_kafka(&error, "partitions were not assigned"))?;
    let start = Instant::now();
    while !waiting.is_empty() && start.elapsed() < RECORDS {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        waiting.retain_mut(|(index, queue)| {
            let messages = queue.take(1);
            let record = messages.iter().find(|message| message.error().is_none());
            let Some(record) = record else { return true };
            partitions[*index].seconds = record.timestamp().0.map(|written| {
                let age =
                    now.saturating_sub(Duration::from_millis(u64::try_from(written).unwrap_or(0)));
                age.as_secs_f64()
            });
            false
        });
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
