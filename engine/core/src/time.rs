//! Event time and clocks.
//!
//! Event time is microseconds since the Unix epoch, UTC, in an `i64`. The two ends of the range
//! are reserved: [`BEGINNING`] is the watermark before any row, [`END_OF_TIME`] the watermark
//! after the last.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use multiversion::multiversion;

/// Microseconds since 1970-01-01T00:00:00Z; negative before.
pub type EventTime = i64;

/// The watermark of an input that has seen nothing.
pub const BEGINNING: EventTime = i64::MIN;

/// The watermark of an input that has ended: every window fires.
pub const END_OF_TIME: EventTime = i64::MAX;

/// The least and the greatest of some event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The least.
    pub min: EventTime,
    /// The greatest.
    pub max: EventTime,
}

impl TimeRange {
    /// The range of no times: whatever is added to it is its range.
    pub const EMPTY: Self = Self { min: EventTime::MAX, max: EventTime::MIN };

    /// The range of these times; `None` where there are none. A tenth of a nanosecond for each,
    /// where the processor has wide vectors.
    pub fn of(times: &[EventTime]) -> Option<Self> {
        (!times.is_empty()).then(|| Self::EMPTY.with(times))
    }

    /// The range of this and more times.
    #[must_use]
    pub fn with(self, times: &[EventTime]) -> Self {
        self.and(range(times))
    }

    /// The range of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The range of times; with the widest vectors that the processor has.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2",
    "aarch64+neon"
))]
fn range(times: &[EventTime]) -> TimeRange {
    let mut range = TimeRange::EMPTY;
    for time in times {
        range.min = range.min.min(*time);
        range.max = range.max.max(*time);
    }
    range
}

/// A duration in whole microseconds, or `None` where it exceeds an `i64` of them (292 000 years).
pub fn micros(duration: Duration) -> Option<i64> {
    i64::try_from(duration.as_micros()).ok()
}

/// Where the engine gets the time from, so that tests own it.
pub trait Clock: Send + Sync {
    /// Wall-clock time in microseconds since the Unix epoch.
    fn now(&self) -> EventTime;

    /// Time since some fixed moment; never goes back. What durations are measured with.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> EventTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        micros(since_epoch).unwrap_or(END_OF_TIME - 1)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct VirtualClock {
    now: Mutex<(EventTime, Duration)>,
}

impl VirtualClock {
    /// A clock that shows `now`.
    pub fn starting_at(now: EventTime) -> Self {
        Self { now: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        now.0 = now.0.saturating_add(micros(by).unwrap_or(i64::MAX));
        now.1 += by;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> EventTime {
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn elapsed(&self) -> Duration {
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1
    }
}
