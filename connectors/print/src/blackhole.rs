//! A sink that drops everything: for measuring a job without the cost of delivery.

use std::sync::Arc;
use std::task::Poll;

use tidemill_core::element::Epoch;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Batch, Error, Result};

/// A sink that takes every row and keeps none. It does not even count them: the engine does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blackhole;

impl Sink for Blackhole {
    fn guarantee(&self, _: bool) -> Guarantee {
        let why = "rows are dropped; after a crash some are dropped again".to_owned();
        Guarantee { delivery: Delivery::AtLeastOnce, why }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Self))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "blackhole".to_owned()
    }
}

impl SinkWriter for Blackhole {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }
}

/// `'connector' = 'blackhole'`: makes [`Blackhole`] sinks.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlackholeFactory;

impl ConnectorFactory for BlackholeFactory {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn options(&self) -> Vec<OptionSpec> {
        Vec::new()
    }

    fn source(&self, _: &TableSpec) -> Result<Arc<dyn Source>> {
        Err(Error::option("connector", "'blackhole' only takes rows: nothing can be read from it"))
    }

    fn sink(&self, _: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(Blackhole))
    }
}
