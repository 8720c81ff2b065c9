//! Where the reader of a partition begins and ends.

use tidemill_core::source::Offset;
use tidemill_core::{Error, Result};

use super::config::{SourceConfig, StartAt, StopAt};
use super::offset::Position;
use super::range;
use super::session::Partition;
use crate::client::properties::OffsetReset;
use crate::client::topics::Topic;

/// Where a reader begins: where the checkpoint says, else where the source is told to.
///
/// # Errors
/// A topic that was created again, records that are gone, no offset to start from, or brokers that do
/// not tell.
pub(crate) fn position(
    config: &SourceConfig,
    partition: &Partition<'_>,
    topic: &Topic,
    from: Option<&Offset>,
    discovered: bool,
) -> Result<Position> {
    let (low, high) = partition.range()?;
    let restored = from.map(|offset| Position::parse(&offset.0)).transpose()?;
    if let Some(restored) = &restored {
        topic.check_is(restored.topic_id.as_deref())?;
    }
    let next = match &restored {
        Some(restored) => restored.next,
        None if discovered => low,
        None => start(config, partition, (low, high))?,
    };
    let next = range::within(config.out_of_range, partition, next, (low, high))?;
    let stop = match (&config.stop, restored.and_then(|restored| restored.stop)) {
        (None, _) => None,
        (Some(_), Some(stop)) => Some(stop),
        (Some(stop), None) => Some(end(stop, partition, high)?),
    };
    Ok(Position { next, stop, topic_id: topic.id.clone() })
}

fn start(config: &SourceConfig, partition: &Partition<'_>, (low, high): (i64, i64)) -> Result<i64> {
    match &config.start {
        StartAt::Earliest => Ok(low),
        StartAt::Latest => Ok(high),
        StartAt::Timestamp(millis) => Ok(partition.at_time(*millis)?.unwrap_or(high)),
        StartAt::Offsets(offsets) => match offsets.get(&partition.partition) {
            Some(offset) => Ok(*offset),
            None => of_group(config, partition, (low, high)),
        },
        StartAt::Group => of_group(config, partition, (low, high)),
    }
}

fn of_group(
    config: &SourceConfig,
    partition: &Partition<'_>,
    (low, high): (i64, i64),
) -> Result<i64> {
    if let Some(committed) = partition.committed()? {
        return Ok(committed);
    }
    match config.client.offset_reset().unwrap_or(OffsetReset::Earliest) {
        OffsetReset::Earliest => Ok(low),
        OffsetReset::Latest => Ok(high),
        OffsetReset::None => {
            let Partition { topic, partition, .. } = partition;
            let message = format!(
                "the consumer group has no offset of {topic}/{partition}, and \
                 'properties.auto.offset.reset' is 'none': set it to 'earliest' or 'latest', or \
                 set 'scan.startup.mode'"
            );
            Err(Error::option("scan.startup.mode", message))
        }
    }
}

fn end(stop: &StopAt, partition: &Partition<'_>, high: i64) -> Result<i64> {
    let Partition { topic, partition: number, .. } = partition;
    let missing = |option: &str, what: &str| {
        Error::option(option, format!("the end of {topic}/{number} is not known: {what}"))
    };
    match stop {
        StopAt::Latest => Ok(high),
        StopAt::Timestamp(millis) => Ok(partition.at_time(*millis)?.unwrap_or(high)),
        StopAt::Group => partition
            .committed()?
            .ok_or_else(|| missing("scan.bounded.mode", "the consumer group has no offset of it")),
        StopAt::Offsets(offsets) => offsets.get(number).copied().ok_or_else(|| {
            let option = "scan.bounded.specific-offsets";
            missing(option, &format!("'{option}' does not name the partition"))
        }),
    }
}
