//! Emit delay: from the moment a source batch was read to the moment a sink takes the results that
//! it caused.

use std::sync::Arc;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// A station's part in measuring emit delay.
#[derive(Clone)]
pub(crate) struct DelayRecorder {
    histogram: Arc<Mutex<Histogram<u64>>>,
    /// When the source batch was read that caused the current step, in nanoseconds since the job
    /// started.
    pub cause: u64,
}

/// Quantiles of the emit delay, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct EmitDelay {
    /// Half of the results were faster.
    pub p50_us: u64,
    /// 99 of 100 results were faster.
    pub p99_us: u64,
    /// 999 of 1000 results were faster.
    pub p999_us: u64,
    /// Results measured.
    pub results: u64,
}

impl DelayRecorder {
    pub fn new() -> Self {
        // Microseconds up to an hour, to three digits; what is longer counts as an hour.
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3)
            .expect("the bounds and the precision are valid constants");
        Self { histogram: Arc::new(Mutex::new(histogram)), cause: 0 }
    }

    /// `rows` results reach a sink at `now` (nanoseconds since the job started).
    pub fn record(&self, now: u64, rows: usize) {
        let micros = now.saturating_sub(self.cause) / 1_000;
        let mut histogram = self.histogram.lock();
        let highest = histogram.high();
        // A value clamped to the histogram's range is always recorded.
        let _ = histogram.record_n(micros.clamp(1, highest), rows as u64);
    }

    /// The quantiles so far.
    pub fn quantiles(&self) -> EmitDelay {
        let histogram = self.histogram.lock();
        EmitDelay {
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            results: histogram.len(),
        }
    }
}
