//! Sends generated events to a topic, a file or standard output: the work behind `tidemill generate`.
//!
//! | module | what it is |
//! |---|---|
//! | [`lines`] | a file or standard output, an event a line |
//! | [`kafka`] | a topic, which it creates |
//! | [`schema`] | the schema of customer events, and how it is registered |
//!
//! Invariant: generated = acknowledged + failed, whenever and however it ends.

mod kafka;
mod lines;
mod schema;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tidemill_core::Result;
use tidemill_generator::events::{Event, EventGenerator, Fate};

pub use kafka::{Compression, KafkaSettings, KafkaTarget};
pub use lines::Lines;
pub use schema::customer_event_prefix;

/// Events that are generated between two looks at the clock, the deliveries and the signals.
const CHUNK: u64 = 1_024;

/// Longest wait for the next event that is due, so that a signal is heard.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// Where events go.
pub trait Target {
    /// Takes an event. May wait until there is room for it.
    fn write(&mut self, event: &Event<'_>) -> Result<()>;

    /// Called every now and then: sends on what is held, and says whether more is wanted.
    fn poll(&mut self) -> Result<Wants>;

    /// Waits until it is known what became of every event.
    fn finish(&mut self) -> Result<Delivered>;
}

/// Whether a target goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// It takes more.
    More,
    /// Whoever reads has gone.
    NoMore,
}

/// What became of the events that a target took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// They have arrived.
    pub acknowledged: u64,
    /// They have not, or it is not known.
    pub failed: u64,
    /// Why the first of them failed.
    pub why: Option<String>,
}

/// How much is generated, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// So many events; without end if `None`.
    pub events: Option<u64>,
    /// So many a second; flat out if `None`.
    pub per_second: Option<f64>,
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// All events.
    pub generated: u64,
    /// Those that no decoder can read.
    pub malformed: u64,
    /// Those that came long after their time.
    pub late: u64,
    /// Those that repeat one before them.
    pub duplicates: u64,
    /// Those of a type that the schema does not have.
    pub unknown_type: u64,
    /// Those that have arrived.
    pub acknowledged: u64,
    /// Those that have not.
    pub failed: u64,
    /// Why the first of them has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Bytes of all payloads.
    pub bytes: u64,
    /// From the first event to the last acknowledgement.
    pub seconds: f64,
    /// Events per second.
    pub rate: f64,
}

/// Generates events until there are enough, `stop` is set, or the target wants no more. `progress`
/// hears every now and then how many there are.
///
/// # Errors
/// What the generator or the target say. What could not be delivered is no error here: see
/// [`Report::failed`].
pub fn run(
    generator: &mut dyn EventGenerator,
    target: &mut dyn Target,
    limits: Limits,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::default();
    let end = limits.events.unwrap_or(u64::MAX);
    while report.generated < end && !stop.load(Ordering::Relaxed) {
        let due = limits.due(begun.elapsed(), report.generated).min(end);
        if due > report.generated {
            let rows = report.generated..due.min(report.generated + CHUNK);
            generator.generate(rows, &mut |event| {
                target.write(event)?;
                report.count(event);
                Ok(())
            })?;
        } else {
            std::thread::sleep(limits.wait(begun.elapsed(), due));
        }
        if target.poll()? == Wants::NoMore {
            break;
        }
        progress(report.generated);
    }
    let delivered = target.finish()?;
    report.acknowledged = delivered.acknowledged;
    report.failed = delivered.failed;
    report.failure = delivered.why;
    report.seconds = begun.elapsed().as_secs_f64();
    report.rate = report.generated as f64 / report.seconds.max(1e-9);
    Ok(report)
}

impl Limits {
    /// Events below this number are due.
    fn due(&self, elapsed: Duration, generated: u64) -> u64 {
        match self.per_second {
            None => generated.saturating_add(CHUNK),
            Some(rate) => (elapsed.as_secs_f64() * rate) as u64 + 1,
        }
    }

    /// How long until event `number` is due.
    fn wait(&self, elapsed: Duration, number: u64) -> Duration {
        let at = self.per_second.map_or(0.0, |rate| number as f64 / rate);
        let wait = (at - elapsed.as_secs_f64()).clamp(0.0, WAIT_MAX.as_secs_f64());
        Duration::from_secs_f64(wait)
    }
}

impl Report {
    fn count(&mut self, event: &Event<'_>) {
        self.generated += 1;
        self.bytes += event.value.len() as u64;
        match event.fate {
            Fate::Sound => {}
            Fate::Malformed => self.malformed += 1,
            Fate::Late => self.late += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::UnknownType => self.unknown_type += 1,
        }
    }
}
