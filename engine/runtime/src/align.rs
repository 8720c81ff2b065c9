//! Watermark alignment: sources of a group wait for their slowest split, on whatever shard it is.
//!
//! Every shard publishes how far the slowest of its splits has come; a split further ahead of the
//! minimum than allowed is not read. Invariant: the slowest split itself is never held.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tidemill_core::EventTime;
use tidemill_core::graph::{Alignment, Graph, NodeKind};
use tidemill_core::time::{BEGINNING, END_OF_TIME};

/// The alignment groups of a job.
pub(crate) struct Groups(HashMap<String, Arc<Group>>);

/// A group: how far each source in it has come on each shard.
struct Group {
    members: Vec<AtomicI64>,
    joined: AtomicUsize,
}

impl Groups {
    /// The groups that a graph's sources name.
    pub fn new(graph: &Graph, shards: usize) -> Self {
        let mut sizes: HashMap<&str, usize> = HashMap::new();
        for node in graph.nodes() {
            if let NodeKind::Source(source) = &node.kind
                && let Some(alignment) = &source.alignment
            {
                *sizes.entry(&alignment.group).or_default() += shards;
            }
        }
        let group = |size| {
            let members = (0..size).map(|_| AtomicI64::new(BEGINNING)).collect();
            Arc::new(Group { members, joined: AtomicUsize::new(0) })
        };
        Self(sizes.into_iter().map(|(name, size)| (name.to_owned(), group(size))).collect())
    }

    /// What one source may do on one shard. Called once for each.
    pub fn pace(&self, alignment: Option<&Alignment>) -> Pace {
        let aligned = alignment.and_then(|alignment| {
            let group = self.0.get(&alignment.group)?.clone();
            let own = group.joined.fetch_add(1, Ordering::Relaxed);
            Some(Aligned { group, own, max_drift: alignment.max_drift })
        });
        Pace(aligned)
    }
}

/// How far ahead a source may run on one shard.
pub(crate) struct Pace(Option<Aligned>);

struct Aligned {
    group: Arc<Group>,
    own: usize,
    max_drift: i64,
}

impl Pace {
    /// Whether it has to wait for anybody.
    pub fn is_aligned(&self) -> bool {
        self.0.is_some()
    }

    /// Its slowest split has come so far; the end of time where none holds the others.
    pub fn publish(&self, watermark: EventTime) {
        if let Some(aligned) = &self.0 {
            aligned.group.members[aligned.own].store(watermark, Ordering::Relaxed);
        }
    }

    /// Splits beyond this wait.
    pub fn limit(&self) -> EventTime {
        let Some(aligned) = &self.0 else { return END_OF_TIME };
        let members = aligned.group.members.iter().map(|member| member.load(Ordering::Relaxed));
        members.min().unwrap_or(END_OF_TIME).saturating_add(aligned.max_drift)
    }
}
