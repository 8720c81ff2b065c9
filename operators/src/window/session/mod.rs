//! Session windows: per key, rows at most a gap apart. `[first, last + gap)`.
//!
//! ```text
//! rows ─▶ combiner: runs of rows ─▶ EXCHANGE ─▶ merger: sessions ─▶ fire when the watermark has passed
//! ```
//!
//! A row at or above its split's watermark can only touch sessions that end at or after it, and a
//! session fires when the watermark has gone beyond its end; so a row is late exactly when its event
//! time is below its split's watermark, and no session that it belongs to has fired.

mod combiner;
mod fragments;
mod fused;
mod merger;

pub(super) use combiner::Combiner;
pub(super) use fused::Fused;
pub(super) use merger::Merger;
