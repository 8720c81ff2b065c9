//! What Redis tells about a stream and its consumer groups (`XINFO`).

use std::collections::HashMap;

use redis::{Cmd, RedisResult, Value};

use super::id::EntryId;

/// What there is to know about a stream. One that does not exist has had no entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StreamInfo {
    /// How many entries it has.
    pub length: u64,
    /// How many it has ever had.
    pub added: u64,
    /// The last that was ever added.
    pub last: EntryId,
    /// The oldest that it has.
    pub first: Option<EntryId>,
    /// The newest that was deleted by its id (`XDEL`); trimming leaves no such trace.
    pub deleted: EntryId,
}

/// What there is to know about a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GroupInfo {
    /// The last entry that any of its consumers has got.
    pub delivered: EntryId,
    /// How many entries the stream has had up to there, where Redis knows.
    pub read: Option<u64>,
    /// How many entries it has not got, where Redis knows.
    pub lag: Option<u64>,
    /// How many entries its consumers have got and not acknowledged.
    pub pending: u64,
}

pub(crate) fn ask_stream(key: &str) -> Cmd {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(key);
    command
}

pub(crate) fn ask_groups(key: &str) -> Cmd {
    let mut command = redis::cmd("XINFO");
    command.arg("GROUPS").arg(key);
    command
}

/// Of a stream that does not exist.
fn is_missing<T>(answer: &RedisResult<T>) -> bool {
    answer.as_ref().is_err_and(|error| {
        error.code() == Some("ERR")
            && error.detail().is_some_and(|text| text.contains("no such key"))
    })
}

/// The answer to [`ask_stream`].
///
/// # Errors
/// What Redis answers instead.
pub(crate) fn stream(answer: RedisResult<Value>) -> RedisResult<StreamInfo> {
    if is_missing(&answer) {
        return Ok(StreamInfo::default());
    }
    let fields: HashMap<String, Value> = redis::from_redis_value(answer?)?;
    let first = match fields.get("first-entry") {
        Some(Value::Array(entry)) => entry.first().and_then(id),
        _ => None,
    };
    Ok(StreamInfo {
        length: number(&fields, "length").unwrap_or(0),
        added: number(&fields, "entries-added").unwrap_or(0),
        last: fields.get("last-generated-id").and_then(id).unwrap_or_default(),
        first,
        deleted: fields.get("max-deleted-entry-id").and_then(id).unwrap_or_default(),
    })
}

/// Of the answer to [`ask_groups`], the group called `name`, if there is one.
///
/// # Errors
/// What Redis answers instead.
pub(crate) fn group(answer: RedisResult<Value>, name: &str) -> RedisResult<Option<GroupInfo>> {
    if is_missing(&answer) {
        return Ok(None);
    }
    let groups: Vec<HashMap<String, Value>> = redis::from_redis_value(answer?)?;
    let is_it = |group: &HashMap<String, Value>| match group.get("name") {
        Some(Value::BulkString(other)) => other == name.as_bytes(),
        _ => false,
    };
    Ok(groups.into_iter().find(is_it).map(|fields| GroupInfo {
        delivered: fields.get("last-delivered-id").and_then(id).unwrap_or_default(),
        read: number(&fields, "entries-read"),
        lag: number(&fields, "lag"),
        pending: number(&fields, "pending").unwrap_or(0),
    }))
}

fn id(value: &Value) -> Option<EntryId> {
    match value {
        Value::BulkString(text) => EntryId::of_bytes(text),
        _ => None,
    }
}

fn number(fields: &HashMap<String, Value>, name: &str) -> Option<u64> {
    match fields.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}
