//! Discovery: asks unbounded sources from time to time whether they have new splits. A thread of its own,
//! since asking may take as long as a broker likes. Invariant: every split is told of once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tidemill_core::graph::{Graph, NodeKind};
use tidemill_core::source::{Source, SplitId};
use tidemill_core::{Error, ErrorKind, Result};

use crate::shard::Event;

/// A source and the splits of it that are being read.
struct Watched {
    node: String,
    source: Arc<dyn Source>,
    known: HashSet<SplitId>,
}

/// Asks until dropped.
pub(crate) struct Discovery {
    _alive: Sender<()>,
}

impl Discovery {
    /// Starts asking the graph's unbounded sources every `interval`; `None` where there are none.
    /// `known` are the splits that each node reads already.
    pub fn start(
        graph: &Graph,
        known: impl Fn(&str) -> HashSet<SplitId>,
        interval: Duration,
        events: Sender<Event>,
    ) -> Result<Option<Self>> {
        let mut watched = Vec::new();
        for node in graph.nodes() {
            if let NodeKind::Source(source) = &node.kind
                && !source.source.is_bounded()
            {
                let (node, source) = (node.name.clone(), source.source.clone());
                watched.push(Watched { known: known(&node), node, source });
            }
        }
        if watched.is_empty() {
            return Ok(None);
        }
        let (alive, dropped) = channel();
        std::thread::Builder::new()
            .name("tidemill-discovery".to_owned())
            .spawn(move || run(watched, interval, &events, &dropped))
            .map_err(|e| Error::external("the discovery thread cannot be started").caused_by(e))?;
        Ok(Some(Self { _alive: alive }))
    }
}

fn run(
    mut watched: Vec<Watched>,
    interval: Duration,
    events: &Sender<Event>,
    dropped: &Receiver<()>,
) {
    while let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(interval) {
        for source in &mut watched {
            let event = match source.look() {
                Ok(splits) if splits.is_empty() => continue,
                Ok(splits) => Event::Discovered { node: source.node.clone(), splits },
                Err(error) if error.kind() == ErrorKind::Transient => {
                    tracing::warn!(source = source.node, %error, "cannot look for new splits now");
                    continue;
                }
                Err(error) => Event::Failed(error.at(&source.node)),
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

impl Watched {
    /// The splits that have come since the last look, sorted.
    fn look(&mut self) -> Result<Vec<SplitId>> {
        let found = self.source.splits()?;
        let mut new: Vec<SplitId> =
            found.into_iter().filter(|split| self.known.insert(split.clone())).collect();
        new.sort();
        Ok(new)
    }
}
