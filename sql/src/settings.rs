//! `SET 'key' = 'value'`: which keys there are, and whether their values make sense.

use std::collections::BTreeMap;

use tidemill_core::table::{parse_bytes, parse_duration};

use crate::diagnostic::{Fallible, Problem};
use crate::token::Name;

/// Settings and what their values are.
const KNOWN: [(&str, Value); 11] = [
    ("dead-letters", Value::Text),
    ("dead-letters.delivery-guarantee", Value::Text),
    ("dead-letters.headers", Value::Text),
    ("execution.checkpointing.dir", Value::Text),
    ("execution.checkpointing.interval", Value::Duration),
    ("execution.runtime-mode", Value::One("streaming")),
    ("memory.budget", Value::Bytes),
    ("parallelism.default", Value::Count),
    ("pipeline.name", Value::Text),
    ("table.exec.source.idle-timeout", Value::Duration),
    ("table.local-time-zone", Value::One("UTC")),
];

#[derive(Clone, Copy)]
enum Value {
    Text,
    Duration,
    Count,
    Bytes,
    One(&'static str),
}

/// The setting of idle sources, for tables that do not say it themselves.
pub(crate) const IDLE_TIMEOUT: &str = "table.exec.source.idle-timeout";

/// What is wrong with a setting.
pub(crate) enum Wrong {
    /// There is no such key.
    Key,
    /// The value makes no sense, for this reason.
    Value(String),
}

/// Checks a setting.
pub(crate) fn check(key: &str, value: &str) -> Result<(), Wrong> {
    let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == key) else {
        return Err(Wrong::Key);
    };
    let wrong = |what: &str| Err(Wrong::Value(format!("setting '{key}' = '{value}' {what}")));
    match kind {
        Value::Duration if parse_duration(value).is_none() => {
            wrong("is not a duration: write '10 s'")
        }
        Value::Count if !value.parse::<u32>().is_ok_and(|count| count > 0) => {
            wrong("is not a positive number")
        }
        Value::Bytes if parse_bytes(value).is_none_or(|bytes| bytes == 0) => {
            wrong("is not a size: write '512 mb'")
        }
        Value::One(only) if !value.eq_ignore_ascii_case(only) => {
            wrong(&format!("is not supported: it can only be '{only}'"))
        }
        _ => Ok(()),
    }
}

/// The keys that there are.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(known, _)| *known)
}

/// Notes a setting; a later one of the same key wins.
pub(crate) fn set(settings: &mut BTreeMap<String, String>, key: Name, value: Name) -> Fallible<()> {
    match check(&key.text, &value.text) {
        Ok(()) => {
            settings.insert(key.text, value.text);
            Ok(())
        }
        Err(Wrong::Key) => Err(Problem::new(key.span, format!("unknown setting '{}'", key.text))
            .suggest_or_list(&key.text, "settings", names())),
        Err(Wrong::Value(message)) => Err(Problem::new(value.span, message)),
    }
}
