//! Where dead letters go: a topic, or a folder of NDJSON files, by default beside the checkpoints; and what
//! `tidemill dlq` does with them there.
//!
//! | module | what it is for |
//! |---|---|
//! | `shelf`, `folder` | letters where they lie |
//! | `filter` | which are meant |
//! | `reason` | what is the same mistake |
//! | `replay`, `destination` | sending their records again |

mod destination;
mod filter;
mod folder;
mod reason;
mod replay;
mod shelf;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Edge, Graph, NodeId, NodeKind, Port, Routing, SinkNode};
use tidemill_core::sink::Sink;
use tidemill_core::{Error, Result};
use tidemill_files::FileSink;
use tidemill_kafka::dead_letter::{Address, DeadLetterSink, HeaderNames};
use tidemill_runtime::CheckpointSettings;

pub(crate) use self::destination::Destination;
pub(crate) use self::filter::{Filter, Since};
pub(crate) use self::reason::masked;
pub(crate) use self::replay::{Replay, Replayed};
pub(crate) use self::shelf::{Found, LetterId, Shelf};

/// A place for a job's dead letters: `kafka://HOST:PORT,…/TOPIC`, or a folder.
///
/// ```
/// use tidemill::DeadLetters;
/// use tidemill::kafka::dead_letter::HeaderNames;
///
/// let place = DeadLetters::at("kafka://localhost:9092/letters").headers(HeaderNames::Spring);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    url: String,
    headers: HeaderNames,
    at_least_once: bool,
}

impl DeadLetters {
    /// At a URL. A topic that is not there is made, with one partition; the brokers of `kafka:///TOPIC` are
    /// those of `KAFKA_BROKERS`, and how one is let in always stands in the environment.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), headers: HeaderNames::default(), at_least_once: false }
    }

    /// In a topic, provenance stands in headers of these names, beside Tidemill's own.
    #[must_use]
    pub fn headers(mut self, names: HeaderNames) -> Self {
        self.headers = names;
        self
    }

    /// Into a topic without transactions, with checkpoints too.
    #[must_use]
    pub fn at_least_once(mut self) -> Self {
        self.at_least_once = true;
        self
    }

    /// The sink there.
    ///
    /// # Errors
    /// A configuration error where the URL is neither a folder's nor a topic's.
    pub(crate) fn sink(&self) -> Result<Arc<dyn Sink>> {
        if let Some(address) = Address::parse(&self.url)? {
            let sink = DeadLetterSink::new(&address)?.headers(self.headers);
            return Ok(Arc::new(if self.at_least_once { sink.at_least_once() } else { sink }));
        }
        Ok(Arc::new(FileSink::new(folder_at(&self.url)?)))
    }
}

impl<T: Into<String>> From<T> for DeadLetters {
    fn from(url: T) -> Self {
        Self::at(url)
    }
}

/// The folder, or the file, that a URL or a path names. Errors do not repeat a URL: it may hold a secret.
///
/// # Errors
/// A configuration error for the URL of anything else.
pub(crate) fn folder_at(url: &str) -> Result<PathBuf> {
    match url.split_once("://") {
        None => Ok(PathBuf::from(url)),
        Some(("file", path)) => Ok(PathBuf::from(path)),
        Some(_) => Err(Error::option(
            "dead-letters",
            "dead letters are in a topic or in a folder: write kafka://HOST:PORT/TOPIC, or a path",
        )),
    }
}

/// The sink of a job that names one, or its folder.
///
/// # Errors
/// As for [`DeadLetters::sink`].
pub(crate) fn sink(
    place: Option<&DeadLetters>,
    job: &str,
    checkpoints: Option<&CheckpointSettings>,
) -> Result<Arc<dyn Sink>> {
    match place {
        Some(place) => place.sink(),
        None => Ok(Arc::new(FileSink::new(folder(job, checkpoints)))),
    }
}

/// The folder that holds the dead letters of a job that names no place for them.
pub(crate) fn folder(job: &str, checkpoints: Option<&CheckpointSettings>) -> PathBuf {
    let local = checkpoints.and_then(|checkpoints| folder_at(&checkpoints.url).ok());
    let name: String =
        job.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    local.as_deref().unwrap_or(Path::new("")).join("dead-letters").join(name)
}

/// Connects the dead-letter outputs of all sources that keep their dead letters, and of what is
/// below them, to a sink. Returns whether there are any.
pub(crate) fn connect(graph: &mut Graph, sink: Arc<dyn Sink>) -> bool {
    let mut nodes: Vec<NodeId> = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let keeps = match &node.kind {
            NodeKind::Source(source) => source.on_error == OnError::DeadLetter,
            NodeKind::Operator(_) | NodeKind::Keyed(_) | NodeKind::Sink(_) => {
                node.inputs.iter().any(|edge| nodes.contains(&edge.from))
            }
        };
        if keeps {
            nodes.push(id);
        }
    }
    let edge = |from| Edge { from, port: Port::DeadLetter, routing: Routing::Local };
    let edges: Vec<Edge> = nodes.into_iter().map(edge).collect();
    if edges.is_empty() {
        return false;
    }
    graph.add("dead-letters", edges, NodeKind::Sink(SinkNode::new(sink)));
    true
}
