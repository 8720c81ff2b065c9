//! Metrics: stable names, Prometheus conventions, published from the counters once a second.
//!
//! | name | type | labels |
//! |---|---|---|
//! | `tidemill_records_in_total`, `tidemill_records_out_total` | counter | job, operator, shard |
//! | `tidemill_records_counted_total`, `tidemill_records_late_total`, `tidemill_records_filtered_total`, `tidemill_records_dead_letters_total` | counter | job, operator, shard |
//! | `tidemill_records_dropped_total` | counter | job, source, split |
//! | `tidemill_queue_depth`, `tidemill_state_bytes`, `tidemill_watermark_lag_seconds` | gauge | job, operator, shard |
//! | `tidemill_busy_ratio`, `tidemill_backpressured_ratio`, `tidemill_idle_ratio` | gauge | job, shard |
//! | `tidemill_split_watermark_lag_seconds`, `tidemill_split_records_total` | gauge, counter | job, operator, shard, split |
//! | `tidemill_split_lag_records`, `tidemill_split_lag_seconds` | gauge | job, operator, shard, split, against: `position` (what is read next) or `committed` (what the outside was told) |
//! | `tidemill_link_blocked_seconds_total` | gauge that only grows | job, from, to: seconds that `from` had something and `to` had no room, summed over shards |
//! | `tidemill_memory_bytes` | gauge | job, kind: `queues`, `buffers`, `state`, `sinks` |
//! | `tidemill_memory_budget_bytes` | gauge | job; only with a budget |
//! | `tidemill_circuit_breaker_state` | gauge: 0 closed, 1 open, 2 half open | job, sink, calls: `write` or `commit`; those of sinks with I/O of their own: sink; of functions: job, function |
//! | `tidemill_emit_delay_seconds` | gauge | job, quantile |
//! | `tidemill_checkpoint_duration_seconds`, `tidemill_checkpoint_age_seconds`, `tidemill_checkpoint_bytes`, `tidemill_checkpoint_epoch` | gauge | job |
//! | `tidemill_checkpoints_completed_total`, `tidemill_checkpoints_abandoned_total` | counter | job |
//!
//! Counting itself is an atomic addition per batch; nothing here runs on a shard's thread. A key
//! never becomes a label.

use std::sync::atomic::Ordering;

use metrics::{Label, counter, gauge};
use tidemill_core::EventTime;
use tidemill_core::source::Behind;
use tidemill_core::time::{BEGINNING, END_OF_TIME};

use crate::stats::StationStats;
use crate::status::Shared;

/// Publishes everything.
pub(crate) fn publish(shared: &Shared) {
    for (shard, stations) in shared.stats.iter().enumerate() {
        for (operator, stats) in stations {
            publish_station(shared, operator, shard, stats);
        }
    }
    publish_shards(shared);
    publish_splits(shared);
    publish_flow(shared);
    publish_job(shared);
}

fn labels(shared: &Shared, more: &[(&'static str, &str)]) -> Vec<Label> {
    let mut labels = vec![Label::new("job", shared.job.clone())];
    labels.extend(more.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())));
    labels
}

fn publish_station(shared: &Shared, operator: &str, shard: usize, stats: &StationStats) {
    let labels = labels(shared, &[("operator", operator), ("shard", &shard.to_string())]);
    let counts = stats.counts();
    counter!("tidemill_records_in_total", labels.clone()).absolute(counts.records_in);
    counter!("tidemill_records_out_total", labels.clone()).absolute(counts.records_out);
    counter!("tidemill_records_counted_total", labels.clone()).absolute(counts.counted);
    counter!("tidemill_records_late_total", labels.clone()).absolute(counts.late);
    counter!("tidemill_records_filtered_total", labels.clone()).absolute(counts.filtered);
    counter!("tidemill_records_dead_letters_total", labels.clone()).absolute(counts.dead_letters);
    let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed) as f64;
    gauge!("tidemill_queue_depth", labels.clone()).set(load(&stats.queue));
    gauge!("tidemill_state_bytes", labels.clone()).set(load(&stats.state_bytes));
    if let Some(lag) = lag_seconds(shared, Some(stats.watermark.load(Ordering::Relaxed))) {
        gauge!("tidemill_watermark_lag_seconds", labels).set(lag);
    }
}

/// How far a watermark is behind the wall clock; none before the first row and after the last.
fn lag_seconds(shared: &Shared, watermark: Option<EventTime>) -> Option<f64> {
    let watermark = watermark.filter(|w| *w != BEGINNING && *w != END_OF_TIME)?;
    Some(shared.clock.now().saturating_sub(watermark) as f64 / 1e6)
}

fn publish_shards(shared: &Shared) {
    for (shard, view) in shared.views.iter().enumerate() {
        let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed) as f64;
        let (busy, idle) = (load(&view.times.busy), load(&view.times.idle));
        let backpressured = load(&view.times.backpressured);
        let total = (busy + idle + backpressured).max(1.0);
        let labels = labels(shared, &[("shard", &shard.to_string())]);
        gauge!("tidemill_busy_ratio", labels.clone()).set(busy / total);
        gauge!("tidemill_backpressured_ratio", labels.clone()).set(backpressured / total);
        gauge!("tidemill_idle_ratio", labels).set(idle / total);
    }
}

fn publish_splits(shared: &Shared) {
    for split in shared.views.iter().flat_map(|view| view.splits.lock().clone()) {
        let shard = split.shard.to_string();
        let labels = labels(
            shared,
            &[("operator", &split.source), ("shard", &shard), ("split", split.split.as_str())],
        );
        counter!("tidemill_split_records_total", labels.clone()).absolute(split.records);
        let (source, id) = (("source", split.source.as_str()), ("split", split.split.as_str()));
        let of_source = self::labels(shared, &[source, id]);
        counter!("tidemill_records_dropped_total", of_source).absolute(split.dropped);
        if let Some(lag) = lag_seconds(shared, split.watermark) {
            gauge!("tidemill_split_watermark_lag_seconds", labels.clone()).set(lag);
        }
        if let Some(lag) = split.lag {
            publish_lag(&labels, "position", lag.position);
            lag.committed.into_iter().for_each(|lag| publish_lag(&labels, "committed", lag));
        }
    }
}

fn publish_flow(shared: &Shared) {
    for link in shared.links.status() {
        let labels = labels(shared, &[("from", &link.from), ("to", &link.to)]);
        gauge!("tidemill_link_blocked_seconds_total", labels).set(link.blocked_seconds);
    }
    let memory = shared.memory.status();
    for (kind, bytes) in memory.kinds {
        gauge!("tidemill_memory_bytes", labels(shared, &[("kind", kind)])).set(bytes as f64);
    }
    if let Some(budget) = memory.budget {
        gauge!("tidemill_memory_budget_bytes", labels(shared, &[])).set(budget as f64);
    }
    for guard in &shared.guards {
        let labels = labels(shared, &[("sink", &guard.sink), ("calls", guard.calls)]);
        gauge!("tidemill_circuit_breaker_state", labels).set(f64::from(guard.state() as u32));
    }
}

fn publish_lag(labels: &[Label], against: &'static str, behind: Behind) {
    let mut labels = labels.to_vec();
    labels.push(Label::new("against", against));
    gauge!("tidemill_split_lag_records", labels.clone()).set(behind.records as f64);
    gauge!("tidemill_split_lag_seconds", labels).set(behind.time.as_secs_f64());
}

fn publish_job(shared: &Shared) {
    let delay = shared.delay.quantiles();
    for (quantile, micros) in
        [("0.5", delay.p50_us), ("0.99", delay.p99_us), ("0.999", delay.p999_us)]
    {
        let labels = labels(shared, &[("quantile", quantile)]);
        gauge!("tidemill_emit_delay_seconds", labels).set(micros as f64 / 1e6);
    }
    let checkpoints = shared.changing.lock().checkpoints.clone();
    let labels = || labels(shared, &[]);
    counter!("tidemill_checkpoints_completed_total", labels()).absolute(checkpoints.completed);
    counter!("tidemill_checkpoints_abandoned_total", labels()).absolute(checkpoints.abandoned);
    if let (Some(epoch), Some(at)) = (checkpoints.last_epoch, checkpoints.last_at) {
        let age = shared.clock.now().saturating_sub(at) as f64 / 1e6;
        gauge!("tidemill_checkpoint_epoch", labels()).set(epoch as f64);
        gauge!("tidemill_checkpoint_age_seconds", labels()).set(age);
        gauge!("tidemill_checkpoint_bytes", labels()).set(checkpoints.last_bytes as f64);
    }
    if let Some(duration) = checkpoints.last_duration {
        gauge!("tidemill_checkpoint_duration_seconds", labels()).set(duration.as_secs_f64());
    }
}
