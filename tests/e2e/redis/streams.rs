//! Partitioned streams for tests: filled and read back through the `redis` crate alone, so that nothing
//! of Tidemill has a say in the verdict.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::{Connection, Pipeline};

use super::server::Space;
use crate::clicks::{Destination, fill};
use crate::totals::Log;

/// Entries that are sent without waiting for the answers to those before.
const BATCH: usize = 1_000;

/// Entries of one answer.
const PAGE: usize = 10_000;

/// An entry: its id, and its fields and values in turns.
type Entry = (String, Vec<Vec<u8>>);

/// The streams `NAME:0`, `NAME:1` and so on.
#[derive(Debug, Clone)]
pub struct Streams {
    space: Arc<Space>,
    name: String,
    count: usize,
}

impl Streams {
    /// So many, empty, their name made the space's own.
    pub fn new(space: &Arc<Space>, name: &str, count: usize) -> Self {
        Self { space: space.clone(), name: space.name(name), count }
    }

    /// What the option `stream` takes.
    pub fn pattern(&self) -> String {
        format!("{}:{{0..{}}}", self.name, self.count - 1)
    }

    /// The key of one of them.
    pub fn key(&self, partition: usize) -> String {
        format!("{}:{partition}", self.name)
    }

    /// Their keys.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(|partition| self.key(partition))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A connection to where they are.
    pub fn connect(&self) -> Connection {
        self.space.server().connect()
    }

    /// How many entries they hold.
    pub fn entries(&self) -> u64 {
        self.entries_by(&mut self.connect())
    }

    /// The same over a connection that is already there.
    pub fn entries_by(&self, connection: &mut Connection) -> u64 {
        let mut asked = redis::pipe();
        self.keys().for_each(|key| {
            asked.cmd("XLEN").arg(key);
        });
        asked.query::<Vec<u64>>(connection).unwrap().iter().sum()
    }

    /// How many entries a group has been given and not acknowledged.
    pub fn pending(&self, group: &str, connection: &mut Connection) -> u64 {
        let pending = |key| {
            let asked = redis::cmd("XPENDING").arg(key).arg(group).take();
            // There is no group before the job has made it.
            asked
                .query::<(u64, redis::Value, redis::Value, redis::Value)>(connection)
                .map_or(0, |p| p.0)
        };
        self.keys().map(pending).sum()
    }

    /// Writes so many clicks, evenly over them.
    pub fn fill(&self, seed: u64, records: u64) {
        let mut writer = self.writer();
        fill(&mut writer, self.count, seed, records);
        writer.finish();
    }

    /// A producer.
    pub fn writer(&self) -> Writer {
        Writer {
            streams: self.clone(),
            connection: self.connect(),
            waiting: redis::pipe(),
            partitions: Vec::new(),
            acknowledged: BTreeSet::new(),
            keeps_ids: false,
        }
    }

    /// The entries of one of them, in order.
    fn pages(&self, partition: usize, mut take: impl FnMut(Entry)) {
        let (key, mut connection) = (self.key(partition), self.connect());
        let mut start = "-".to_owned();
        loop {
            let mut asked = redis::cmd("XRANGE");
            asked.arg(&key).arg(start).arg("+").arg("COUNT").arg(PAGE);
            let entries: Vec<Entry> = asked.query(&mut connection).unwrap();
            let Some((last, _)) = entries.last() else { return };
            start = format!("({last}");
            entries.into_iter().for_each(&mut take);
        }
    }

    /// The ids of the entries of all of them, each with its partition.
    fn ids(&self) -> BTreeSet<(usize, String)> {
        let mut ids = BTreeSet::new();
        for partition in 0..self.count {
            self.pages(partition, |(id, _)| {
                ids.insert((partition, id));
            });
        }
        ids
    }
}

/// The payloads.
impl Log for Streams {
    fn each(&self, mut take: impl FnMut(usize, &[u8])) {
        for partition in 0..self.count {
            self.pages(partition, |(id, fields)| {
                let mut pairs = fields.chunks_exact(2);
                let payload = pairs.find(|pair| pair[0] == b"payload");
                take(partition, &payload.unwrap_or_else(|| panic!("{id} has no payload"))[1]);
            });
        }
    }
}

/// Fills streams.
pub struct Writer {
    streams: Streams,
    connection: Connection,
    waiting: Pipeline,
    /// Those of the waiting entries.
    partitions: Vec<usize>,
    acknowledged: BTreeSet<(usize, String)>,
    /// It also goes on where the server has gone for a while.
    keeps_ids: bool,
}

impl Destination for Writer {
    fn write(&mut self, partition: usize, key: &[u8], payload: &[u8]) {
        let entry = self.waiting.cmd("XADD").arg(self.streams.key(partition)).arg("*");
        entry.arg("payload").arg(payload).arg("key").arg(key);
        self.partitions.push(partition);
        if self.partitions.len() == BATCH {
            self.send();
        }
    }
}

impl Writer {
    /// One that remembers what was acknowledged, and sends again, as soon as the server is back, what was
    /// not.
    #[must_use]
    pub fn persevering(self) -> Self {
        Self { keeps_ids: true, ..self }
    }

    /// Sends what is waiting.
    pub fn send(&mut self) {
        let ids: Vec<String> = loop {
            match self.waiting.query(&mut self.connection) {
                Ok(ids) => break ids,
                Err(error) => assert!(self.keeps_ids, "entries were not taken: {error}"),
            }
            self.connection = self.streams.space.server().wait();
        };
        if self.keeps_ids {
            self.acknowledged.extend(self.partitions.iter().copied().zip(ids));
        }
        self.waiting.clear();
        self.partitions.clear();
    }

    /// Sends the rest, and makes sure that all that was ever acknowledged is there.
    pub fn finish(mut self) {
        if !self.partitions.is_empty() {
            self.send();
        }
        if self.keeps_ids {
            let lost = self.acknowledged.difference(&self.streams.ids()).count();
            assert_eq!(lost, 0, "Redis has lost entries that it had acknowledged");
        }
    }
}
