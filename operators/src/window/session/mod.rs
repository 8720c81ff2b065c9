//! Session windows: per key, rows at most a gap apart. `[first, last + gap)`.
//!
//! ```text
//! rows ─▶ combiner: runs, or rows ─▶ EXCHANGE ─▶ merger: sessions ─▶ fire when the watermark has passed
//! rows ─▶ fused: sessions ─▶ fire when the watermark has passed           one shard
//! ```
//!
//! A row at or above its split's watermark can only touch sessions that end at or after it, and a
//! session fires when the watermark has gone beyond its end; so a row is late exactly when its event
//! time is below its split's watermark, and no session that it belongs to has fired.
//!
//! | module | what it does |
//! |---|---|
//! | `admit` | decides each row's fate: it counts, is late, or a dead letter |
//! | `keys`, `words` | a number for each key |
//! | `open`, `timers` | the bounds of open sessions, and which are due |
//! | `live`, `resting` | their aggregates: growing, and as states in Arrow columns |
//! | `sessions` | all of these together |
//! | `passing` | rows on their way through the exchange as they are |
//! | `combiner`, `merger`, `fused` | the three operators |

mod admit;
mod combiner;
mod fused;
mod keys;
mod live;
mod merger;
mod open;
mod passing;
mod resting;
mod sessions;
mod timers;
mod words;

pub(super) use combiner::Combiner;
pub(super) use fused::Fused;
pub(super) use merger::Merger;
