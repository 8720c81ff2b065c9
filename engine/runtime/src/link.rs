//! Links between stations: for how long an outlet was full while what feeds it had something.
//!
//! The clock is read by the shard's loop anyway; a link that is never full costs nothing. Invariant: a link's
//! blocked time never exceeds the time since the job's start, times the shards that feed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// A link from a node to another, over all shards.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub from: String,
    pub to: String,
    blocked_ns: AtomicU64,
}

/// For how long a link was full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkStatus {
    /// The node that emits.
    pub from: String,
    /// The node that takes.
    pub to: String,
    /// Seconds that `from` had something and could not go on since `to` was full, summed over the
    /// shards of `from`.
    pub blocked_seconds: f64,
}

impl Link {
    pub fn new(from: &str, to: &str) -> Self {
        Self { from: from.to_owned(), to: to.to_owned(), ..Self::default() }
    }

    pub fn status(&self) -> LinkStatus {
        let blocked = Duration::from_nanos(self.blocked_ns.load(Ordering::Relaxed));
        LinkStatus {
            from: self.from.clone(),
            to: self.to.clone(),
            blocked_seconds: blocked.as_secs_f64(),
        }
    }
}

/// All links of a job.
#[derive(Default)]
pub(crate) struct Links(Mutex<Vec<Arc<Link>>>);

impl Links {
    /// The link between two nodes.
    pub fn of(&self, from: &str, to: &str) -> Arc<Link> {
        let mut links = self.0.lock();
        if let Some(link) = links.iter().find(|link| link.from == from && link.to == to) {
            return link.clone();
        }
        let link = Arc::new(Link::new(from, to));
        links.push(link.clone());
        link
    }

    pub fn status(&self) -> Vec<LinkStatus> {
        self.0.lock().iter().map(|link| link.status()).collect()
    }
}

/// One shard's end of a link.
pub(crate) struct Blocked {
    link: Arc<Link>,
    since: Option<u64>,
}

impl Blocked {
    pub fn new(link: Arc<Link>) -> Self {
        Self { link, since: None }
    }

    /// The outlet is full, or is not, at `now` (nanoseconds since the job started).
    pub fn is(&mut self, full: bool, now: u64) {
        match (self.since, full) {
            (None, true) => self.since = Some(now),
            (Some(_), false) => {
                self.tell(now);
                self.since = None;
            }
            _ => {}
        }
    }

    /// Lets others see what has gathered up to `now`.
    pub fn tell(&mut self, now: u64) {
        if let Some(since) = &mut self.since {
            self.link.blocked_ns.fetch_add(now.saturating_sub(*since), Ordering::Relaxed);
            *since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_full_to_free_and_shows_before_that() {
        let link = Arc::new(Link::new("a", "b"));
        let mut blocked = Blocked::new(link.clone());
        let seconds = |n: u64| n * 1_000_000_000;
        blocked.is(false, seconds(1));
        blocked.is(true, seconds(2));
        blocked.is(true, seconds(3));
        blocked.tell(seconds(4));
        assert_eq!(link.status().blocked_seconds, 2.0);
        blocked.is(false, seconds(7));
        blocked.tell(seconds(9));
        assert_eq!(link.status().blocked_seconds, 5.0);
    }
}
