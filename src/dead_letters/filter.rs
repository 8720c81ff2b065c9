//! Which letters are meant. Invariant: what is not said does not exclude.

use std::str::FromStr;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use regex::Regex;
use tidemill_core::table::parse_duration;
use tidemill_core::time::{Clock, SystemClock, micros};
use tidemill_core::{ErrorClass, EventTime};
use tidemill_kafka::dead_letter::Letter;

/// All conditions that are said must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub class: Option<ErrorClass>,
    pub operator: Option<String>,
    pub reason: Option<Regex>,
    pub since: Option<Since>,
}

impl Filter {
    pub fn accepts(&self, letter: &Letter) -> bool {
        self.class.is_none_or(|class| letter.letter.class == class)
            && self.operator.as_ref().is_none_or(|operator| letter.operator == *operator)
            && self.reason.as_ref().is_none_or(|reason| reason.is_match(&letter.letter.reason))
            && self.since.is_none_or(|since| letter.failed_at >= since.0)
    }
}

/// A time (UTC), or how long ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(pub EventTime);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let now = SystemClock::default().now();
        let ago = parse_duration(text).and_then(micros).map(|ago| now.saturating_sub(ago));
        let time = || string_to_timestamp_nanos(text).ok().map(|nanos| nanos.div_euclid(1_000));
        ago.or_else(time).map(Self).ok_or_else(|| {
            format!("'{text}' is no time: write '2026-01-01 00:00:00' (UTC), or how long ago: 2h")
        })
    }
}
