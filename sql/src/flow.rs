//! Options of tables that say how fast rows may come, and what happens when they cannot go.

use tidemill_core::Error;
use tidemill_core::graph::{Buffer, BufferCapacity};
use tidemill_core::retry::RetrySettings;
use tidemill_core::table::Options;

const POLICY: &str = "buffer.policy";
const RECORDS: &str = "buffer.capacity.records";
const BYTES: &str = "buffer.capacity.bytes";
const THRESHOLD: &str = "sink.breaker.threshold";

/// `'buffer.*'`: what becomes of records that come faster than they are processed.
pub(crate) fn buffer(options: &Options) -> Result<Buffer, Error> {
    let policy = options.choice(POLICY, &["block", "drop-oldest", "drop-newest"], 0)?;
    if policy == 0 {
        return match [RECORDS, BYTES].into_iter().find(|name| options.get(name).is_some()) {
            Some(name) => Err(Error::option(
                name,
                format!(
                    "option '{name}' needs '{POLICY}' = 'drop-oldest' or 'drop-newest': a source that \
                     blocks has no buffer, it is not read while there is no room"
                ),
            )),
            None => Ok(Buffer::Block),
        };
    }
    let default = BufferCapacity::default();
    let capacity = BufferCapacity {
        records: options.parsed(RECORDS)?.unwrap_or(default.records),
        bytes: options.bytes(BYTES)?.unwrap_or(default.bytes),
    };
    for (name, size) in [(RECORDS, capacity.records), (BYTES, capacity.bytes)] {
        if size == 0 {
            return Err(Error::option(name, format!("option '{name}' must be at least 1")));
        }
    }
    Ok(if policy == 1 { Buffer::DropOldest(capacity) } else { Buffer::DropNewest(capacity) })
}

/// `'sink.breaker.*'` and `'sink.retry.deadline'`: how a sink is called again.
pub(crate) fn retry(options: &Options) -> Result<RetrySettings, Error> {
    let mut retry = RetrySettings::default();
    if let Some(threshold) = options.parsed(THRESHOLD)? {
        if threshold == 0 {
            let message = format!("option '{THRESHOLD}' must be at least 1 failure");
            return Err(Error::option(THRESHOLD, message));
        }
        retry.threshold = threshold;
    }
    retry.pause = options.duration("sink.breaker.pause")?.unwrap_or(retry.pause);
    let deadline = options.duration("sink.retry.deadline")?;
    retry.backoff.deadline = deadline.unwrap_or(retry.backoff.deadline);
    Ok(retry)
}
