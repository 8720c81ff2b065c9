//! Windows and watermarks, as the builder takes them.

use std::time::Duration;

use tidemill_core::time::micros;
use tidemill_core::watermark::WatermarkStrategy;
use tidemill_core::window::{AlignedWindow, WindowSpec};
use tidemill_core::{Error, Result};

/// How far out of order a source's rows may be.
#[derive(Debug, Clone, Copy)]
pub struct Watermarks {
    bound: Duration,
    idle_after: Option<Duration>,
    max_future: Duration,
}

impl Watermarks {
    /// Rows are at most `bound` behind the newest row of their split; those further behind are late
    /// for the windows that have passed.
    pub fn bounded(bound: Duration) -> Self {
        Self { bound, idle_after: None, max_future: Duration::from_secs(86_400) }
    }

    /// A split without a row for so long does not hold the watermark back.
    #[must_use]
    pub fn idle_after(mut self, idle_after: Duration) -> Self {
        self.idle_after = Some(idle_after);
        self
    }

    /// A row so far ahead of both the wall clock and its split's neighbours is a dead letter (one
    /// day, if not said otherwise).
    #[must_use]
    pub fn max_future(mut self, max_future: Duration) -> Self {
        self.max_future = max_future;
        self
    }

    pub(crate) fn strategy(self) -> Result<WatermarkStrategy> {
        Ok(WatermarkStrategy {
            bound: length(self.bound)?,
            idle_after: self.idle_after,
            max_future: length(self.max_future)?,
        })
    }
}

/// How rows are grouped by time: [`Tumbling`], [`Hopping`], [`Cumulating`] or [`Session`].
pub trait Window {
    /// The window, checked.
    ///
    /// # Errors
    /// Lengths that make no window.
    fn spec(&self) -> Result<WindowSpec>;
}

/// Windows of one size, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Tumbling {
    size: Duration,
    offset: Duration,
}

impl Tumbling {
    /// Windows of this size, aligned to the epoch.
    pub fn of(size: Duration) -> Self {
        Self { size, offset: Duration::ZERO }
    }

    /// Windows start so long after the epoch's alignment.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset;
        self
    }
}

impl Window for Tumbling {
    fn spec(&self) -> Result<WindowSpec> {
        let window = AlignedWindow::tumbling(length(self.size)?, length(self.offset)?)?;
        Ok(WindowSpec::Aligned(window))
    }
}

/// Windows of one size that start at a fixed distance and overlap.
#[derive(Debug, Clone, Copy)]
pub struct Hopping {
    size: Duration,
    slide: Duration,
    offset: Duration,
}

impl Hopping {
    /// Windows of `size`, one starting every `slide`; the size is a multiple of the slide.
    pub fn of(size: Duration, slide: Duration) -> Self {
        Self { size, slide, offset: Duration::ZERO }
    }

    /// Windows start so long after the epoch's alignment.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset;
        self
    }
}

impl Window for Hopping {
    fn spec(&self) -> Result<WindowSpec> {
        let (size, slide) = (length(self.size)?, length(self.slide)?);
        Ok(WindowSpec::Aligned(AlignedWindow::hopping(size, slide, length(self.offset)?)?))
    }
}

/// Windows that share a start and grow step by step up to a size.
#[derive(Debug, Clone, Copy)]
pub struct Cumulating {
    size: Duration,
    step: Duration,
    offset: Duration,
}

impl Cumulating {
    /// Windows that grow by `step` up to `size`; the size is a multiple of the step.
    pub fn of(size: Duration, step: Duration) -> Self {
        Self { size, step, offset: Duration::ZERO }
    }

    /// Windows start so long after the epoch's alignment.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset;
        self
    }
}

impl Window for Cumulating {
    fn spec(&self) -> Result<WindowSpec> {
        let (size, step) = (length(self.size)?, length(self.step)?);
        Ok(WindowSpec::Aligned(AlignedWindow::cumulating(size, step, length(self.offset)?)?))
    }
}

/// Per key: rows that follow one another within a gap.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    gap: Duration,
}

impl Session {
    /// A session ends when no row has come for `gap`.
    pub fn gap(gap: Duration) -> Self {
        Self { gap }
    }
}

impl Window for Session {
    fn spec(&self) -> Result<WindowSpec> {
        WindowSpec::session(length(self.gap)?)
    }
}

fn length(duration: Duration) -> Result<i64> {
    micros(duration)
        .ok_or_else(|| Error::configuration(format!("{duration:?} is longer than time itself")))
}
