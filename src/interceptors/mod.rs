//! Interceptors that come with Tidemill, and the builder's part for them and for those of one's own.
//!
//! | interceptor | what it does |
//! |---|---|
//! | [`Logging`] | a line of log for every so many batches, without what is in them |
//! | [`Metrics`] | counters by split and sink |
//! | [`Headers`] | headers on what is written: constant ones, and message, correlation and causation ids |
//!
//! They stand on the data path behind a source's decoding and in front of a sink's encoding. Invariant: what
//! they add is a function of the input alone, so that a job that is run again writes the same.

mod headers;
mod logging;
mod metrics;

use std::sync::Arc;

use tidemill_core::Result;
pub use tidemill_core::interceptor::Interceptor;
use tidemill_core::interceptor::{around_sink, around_source};
use tidemill_core::sink::{Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter};
use tidemill_sql::Registry;

pub use self::headers::Headers;
pub use self::logging::Logging;
pub use self::metrics::Metrics;
use crate::stream::Stream;

/// The registry with the interceptors of this module under the names that job files have for them, unless
/// it has others of these names.
pub(crate) fn registered(registry: Registry) -> Registry {
    let built_in: [(&str, Arc<dyn Interceptor>); 3] = [
        ("headers", Arc::new(Headers::ids())),
        ("logging", Arc::new(Logging::default())),
        ("metrics", Arc::new(Metrics)),
    ];
    let missing = built_in.into_iter().filter(|(name, _)| !registry.has_interceptor(name));
    let missing: Vec<_> = missing.collect();
    missing.into_iter().fold(registry, |registry, (name, interceptor)| {
        registry.with_interceptor(name, interceptor)
    })
}

impl Stream {
    /// All that this source reads passes through an interceptor; of several, through the first that is named
    /// first.
    #[must_use]
    pub fn intercept(self, interceptor: impl Interceptor + 'static) -> Self {
        let result = self.with_source(|source| {
            source.source = around_source(source.source.clone(), vec![Arc::new(interceptor)]);
        });
        self.keep(result);
        self
    }
}

/// Sinks that are intercepted.
pub trait Intercept: Sink + Sized + 'static {
    /// All that is written passes through an interceptor first; of several, through the last that is named
    /// first.
    fn intercept(self, interceptor: impl Interceptor + 'static) -> Intercepted {
        Intercepted(around_sink(Arc::new(self), vec![Arc::new(interceptor)]))
    }
}

impl<S: Sink + 'static> Intercept for S {}

/// A sink behind interceptors.
pub struct Intercepted(Arc<dyn Sink>);

impl Sink for Intercepted {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        self.0.guarantee(checkpointed)
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        self.0.writer(context)
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        self.0.committer(context)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
