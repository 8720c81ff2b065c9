//! `SET 'key' = 'value'`: which keys there are, and whether their values make sense.

use std::collections::BTreeMap;

use tidemill_core::table::parse_duration;

use crate::diagnostic::{Fallible, Problem};
use crate::token::Name;

/// Settings and what their values are.
const KNOWN: [(&str, Value); 7] = [
    ("execution.checkpointing.dir", Value::Text),
    ("execution.checkpointing.interval", Value::Duration),
    ("execution.runtime-mode", Value::One("streaming")),
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
    One(&'static str),
}

/// The setting of idle sources, for tables that do not say it themselves.
pub(crate) const IDLE_TIMEOUT: &str = "table.exec.source.idle-timeout";

/// Notes a setting; a later one of the same key wins.
pub(crate) fn set(settings: &mut BTreeMap<String, String>, key: Name, value: Name) -> Fallible<()> {
    let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == key.text) else {
        let names = KNOWN.iter().map(|(known, _)| *known);
        return Err(Problem::new(key.span, format!("unknown setting '{}'", key.text))
            .suggest_or_list(&key.text, "settings", names));
    };
    let wrong = |what: &str| {
        let message = format!("setting '{}' = '{}' {what}", key.text, value.text);
        Err(Problem::new(value.span, message))
    };
    match kind {
        Value::Duration if parse_duration(&value.text).is_none() => {
            return wrong("is not a duration: write '10 s'");
        }
        Value::Count if !value.text.parse::<u32>().is_ok_and(|count| count > 0) => {
            return wrong("is not a positive number");
        }
        Value::One(only) if !value.text.eq_ignore_ascii_case(only) => {
            return wrong(&format!("is not supported: it can only be '{only}'"));
        }
        _ => {}
    }
    settings.insert(key.text, value.text);
    Ok(())
}
