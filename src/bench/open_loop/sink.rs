//! A sink that notes when the results of each window came.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use parking_lot::Mutex;
use tidemill_core::element::Epoch;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::time::Clock;
use tidemill_core::{Batch, Error, EventTime, Result};

/// Results of a window that came together.
#[derive(Debug, Clone, Copy)]
pub struct Emission {
    /// The window's end.
    pub window_end: EventTime,
    /// How many results.
    pub results: u64,
    /// When, by the job's clock.
    pub at: Duration,
}

/// The sink.
#[derive(Default)]
pub struct DelaySink {
    /// What has come, in no order.
    pub emissions: Arc<Mutex<Vec<Emission>>>,
}

impl Sink for DelaySink {
    fn guarantee(&self, _: bool) -> Guarantee {
        let why = "only the time of results is noted".to_owned();
        Guarantee { delivery: Delivery::AtLeastOnce, why }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let (emissions, clock) = (self.emissions.clone(), context.clock.clone());
        Ok(Box::new(DelayWriter { emissions, clock }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "delays".to_owned()
    }
}

pub(super) struct DelayWriter {
    pub emissions: Arc<Mutex<Vec<Emission>>>,
    pub clock: Arc<dyn Clock>,
}

impl SinkWriter for DelayWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let at = self.clock.elapsed();
        let ends = batch.rows.column_by_name("window_end");
        let ends =
            ends.ok_or_else(|| Error::internal("the results have no column `window_end`"))?;
        let ends = ends.as_primitive::<TimestampMicrosecondType>().values();
        let windows = ends.chunk_by(|a, b| a == b);
        let emission = |run: &[i64]| Emission { window_end: run[0], results: run.len() as u64, at };
        self.emissions.lock().extend(windows.map(emission));
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }
}
