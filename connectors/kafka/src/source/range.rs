//! Offsets whose records are gone: the job ends with the size of the gap, or goes on and counts it.

use metrics::counter;
use tidemill_core::{Error, Result};

use super::config::OutOfRange;
use super::session::Partition;

/// `next`, if there are records from there to `high`, or may come; else where to go on.
///
/// # Errors
/// Records are gone, and the source is told to fail then.
pub(crate) fn within(
    policy: OutOfRange,
    partition: &Partition<'_>,
    next: i64,
    (low, high): (i64, i64),
) -> Result<i64> {
    if (low..=high).contains(&next) {
        return Ok(next);
    }
    let Partition { topic, partition, .. } = partition;
    let gap = if next < low {
        format!(
            "the records {next} to {} of {topic}/{partition} are gone ({} of them): the oldest \
             there is {low}",
            low - 1,
            low - next
        )
    } else {
        format!(
            "{topic}/{partition} ends before offset {high}, {} records before the next to be read \
             ({next}): it was cut off, or created again",
            next - high
        )
    };
    let (on, lost) = match policy {
        OutOfRange::Fail => {
            let message = format!(
                "{gap}; set 'scan.out-of-range' = 'earliest' or 'latest' to go on all the same, or \
                 keep records longer (retention.ms, retention.bytes)"
            );
            return Err(Error::external(message));
        }
        OutOfRange::Earliest => (low, low - next),
        OutOfRange::Latest => (high, high - next),
    };
    let lost = u64::try_from(lost).unwrap_or(0);
    tracing::warn!("{gap}; going on at {on}, {lost} records lost ('scan.out-of-range')");
    let labels = [("topic", (*topic).to_owned()), ("partition", partition.to_string())];
    counter!("tidemill_kafka_records_lost_total", &labels).increment(lost);
    Ok(on)
}
