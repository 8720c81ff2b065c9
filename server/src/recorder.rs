//! The process's metrics recorder, rendered as Prometheus text.
//!
//! The engine speaks to the `metrics` facade, so a program that embeds it may install a recorder
//! of its own instead.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tidemill_core::{Error, Result};

/// Upper bounds of the buckets of histograms in seconds: from half a millisecond, a linger's
/// fraction, to ten minutes, a checkpoint that is in trouble.
pub(crate) const SECONDS_BUCKETS: [f64; 17] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0, 600.0,
];

/// How often samples are moved into their buckets when nobody asks for the metrics: without it
/// they would pile up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Makes this process count, and returns what renders the counts. Further calls return the same.
///
/// # Errors
/// The program has installed another recorder.
pub fn install_recorder() -> Result<PrometheusHandle> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = installed.as_ref() {
        return Ok(handle.clone());
    }
    let handle = builder()?.install_recorder().map_err(|error| {
        Error::configuration(
            "this process already records its metrics elsewhere: serve that recorder's instead",
        )
        .caused_by(error)
    })?;
    let upkeep = handle.clone();
    let keep_up = move || loop {
        thread::sleep(UPKEEP_INTERVAL);
        upkeep.run_upkeep();
    };
    thread::Builder::new()
        .name("tidemill-metrics".to_owned())
        .spawn(keep_up)
        .map_err(|error| Error::external("cannot start the metrics thread").caused_by(error))?;
    *installed = Some(handle.clone());
    Ok(handle)
}

pub(crate) fn builder() -> Result<PrometheusBuilder> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS_BUCKETS);
    builder.map_err(|error| Error::internal("metrics have no buckets").caused_by(error))
}
