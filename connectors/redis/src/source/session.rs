//! What the readers of one source share: the threads that fetch, a connection that asks and tells, and what
//! the group was told.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::cluster_routing::Slot;
use redis::{Cmd, RedisResult, Value};
use tidemill_core::source::{Offset, SplitId};
use tidemill_core::{Error, ErrorKind, Result};

use super::config::{ReadMode, SourceConfig};
use super::entries::Entries;
use super::feed::Feed;
use super::fetch::Fetcher;
use super::gap::{self, Place};
use super::id::EntryId;
use super::info::StreamInfo;
use super::lane::Lane;
use super::layout::Layout;
use super::member::{Member, acknowledgements};
use super::offset::Position;
use super::pending::Pending;
use super::start::{self, Facts};
use crate::client::error::{self, Failure};
use crate::client::{Connection, Version};
use crate::streams::Stream;

/// How long a server is waited for that a job needs to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Session {
    pub config: Arc<SourceConfig>,
    pub layout: Arc<Layout>,
    job: OnceLock<String>,
    asking: Mutex<Option<Connection>>,
    /// One for all streams of a server, or for those of one slot of a cluster.
    fetchers: Mutex<HashMap<Option<Slot>, Fetcher>>,
    /// What the group was told, by stream.
    told: Mutex<HashMap<String, Place>>,
    /// What the consumer has not acknowledged, by stream.
    pending: Mutex<HashMap<String, Arc<Pending>>>,
}

impl Session {
    pub fn new(config: SourceConfig) -> Self {
        Self {
            layout: Arc::new(config.layout.clone()),
            config: Arc::new(config),
            job: OnceLock::new(),
            asking: Mutex::default(),
            fetchers: Mutex::default(),
            told: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    /// The streams, each a split.
    pub fn splits(&self) -> Vec<SplitId> {
        self.config.streams.iter().map(|stream| SplitId::new(&stream.key)).collect()
    }

    /// What Redis tells of `stream` to job `job`, which waits for a server that is away.
    ///
    /// # Errors
    /// Redis refuses, or does not answer for long.
    pub fn facts(&self, stream: &Stream, job: &str) -> Result<Facts> {
        let group = self.config.group(self.job.get_or_init(|| job.to_owned()));
        let stop = self.config.stop.as_ref();
        self.wait_for(stream, |connection| Facts::ask(connection, stream, &group, stop))
    }

    /// The first entry behind `at`.
    ///
    /// # Errors
    /// As for [`Session::facts`].
    pub fn next_behind(&self, stream: &Stream, at: EntryId) -> Result<Option<EntryId>> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&stream.key).arg(at.next().to_string()).arg("+").arg("COUNT").arg(1);
        let found: Value =
            self.wait_for(stream, |connection| connection.query(stream.key.as_bytes(), &command))?;
        let mut entries = Entries::default();
        entries.add(found).map_err(Error::internal)?;
        Ok(entries.last_id())
    }

    fn wait_for<T>(
        &self,
        stream: &Stream,
        mut question: impl FnMut(&mut Connection) -> RedisResult<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let error = match self.ask(&stream.key, &mut question) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Transient || start.elapsed() >= PATIENCE {
                return Err(error);
            }
            tracing::debug!("{error}; asking again");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks once, by the connection that is there or a new one.
    fn ask<T>(
        &self,
        key: &str,
        question: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T> {
        let mut asking = self.asking.lock();
        if asking.is_none() {
            let client = &self.config.client;
            let mut connection = client.connect()?;
            let what = "reading streams (XGROUP SETID … ENTRIESREAD, XINFO STREAM's entries-added)";
            connection.require(client, key.as_bytes(), Version(7, 0), what)?;
            *asking = Some(connection);
        }
        let Some(connection) = asking.as_mut() else { unreachable!("it was just made") };
        question(connection).map_err(|error| {
            if Failure::of(&error).kind() == ErrorKind::Transient {
                *asking = None;
            }
            let place = self.config.client.place();
            error::from_redis(&error, format!("stream '{key}' at {place}"))
        })
    }

    /// Has `stream` fetched from `position` on.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn follow(
        &self,
        stream: &Stream,
        position: &Position,
        info: StreamInfo,
        pending: Option<Arc<Pending>>,
        waker: Waker,
    ) -> Result<Arc<Lane>> {
        let slot = self.config.client.is_cluster().then(|| Slot::for_key(&stream.key));
        let mut fetchers = self.fetchers.lock();
        let fetcher = match fetchers.entry(slot) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Fetcher::start(self.config.clone())?)
            }
        };
        let streams = self.config.streams.len();
        let lane = Arc::new(Lane::new(&stream.key, waker, fetcher.bell().clone(), streams));
        let member = pending.and_then(|pending| self.member(pending, position));
        fetcher.add(Feed::new(lane.clone(), position, info, member));
        Ok(lane)
    }

    /// Who reads as a consumer of the group.
    fn member(&self, pending: Arc<Pending>, position: &Position) -> Option<Member> {
        let ReadMode::Group { consumer, claim_after } = &self.config.mode else { return None };
        let job = self.job.get()?;
        let consumer = consumer.clone().unwrap_or_else(|| job.clone());
        Some(Member::new(self.config.group(job), consumer, *claim_after, pending, *position))
    }

    /// Joins the group, where the source reads as one of its consumers; makes it where it is not there.
    /// `restored` says that the job goes on from a checkpoint.
    ///
    /// # Errors
    /// Redis refuses, or does not answer; or the group is gone, and the source is told to fail then.
    pub fn join(
        &self,
        stream: &Stream,
        position: &Position,
        facts: &Facts,
        restored: bool,
    ) -> Result<Option<Arc<Pending>>> {
        let (ReadMode::Group { .. }, Some(job)) = (&self.config.mode, self.job.get()) else {
            return Ok(None);
        };
        let group = self.config.group(job);
        if facts.group.is_none() {
            if restored {
                start::policy(&self.config, &stream.key).group_gone(&group)?;
            }
            let place = Place::sure(position.at, gap::count(position.at, &facts.info));
            let mut create = set_id("CREATE", &stream.key, &group, &place);
            create.arg("MKSTREAM");
            self.wait_for(stream, |connection| {
                match connection.query::<Value>(stream.key.as_bytes(), &create) {
                    Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
                    _ => Ok(()),
                }
            })?;
        }
        let pending = Arc::new(Pending::restored(position.claimed));
        self.pending.lock().insert(stream.key.clone(), pending.clone());
        Ok(Some(pending))
    }

    /// Up to where the group was told that `stream` is read.
    pub fn told(&self, stream: &str) -> Option<Place> {
        self.told.lock().get(stream).copied()
    }

    /// Tells the group how far a checkpoint has come. What goes wrong is logged: the next checkpoint tells
    /// it again.
    ///
    /// # Errors
    /// An offset that is none.
    pub fn checkpointed(&self, offsets: &[(SplitId, Offset)]) -> Result<()> {
        let Some(job) = self.job.get() else { return Ok(()) };
        let group = self.config.group(job);
        if let ReadMode::Group { .. } = self.config.mode {
            return self.acknowledge(&group, offsets);
        }
        let mut places = Vec::with_capacity(offsets.len());
        for (split, offset) in offsets {
            let position = Position::parse(&offset.0)?;
            let place = Place::sure(position.at, position.count);
            if self.told(split.as_str()) != Some(place) {
                places.push((split.as_str(), place));
            }
        }
        let Some((first, _)) = places.first() else { return Ok(()) };
        match self.ask(first, |connection| set_ids(connection, &group, &places)) {
            Ok(()) => {
                let mut told = self.told.lock();
                told.extend(places.into_iter().map(|(key, place)| (key.to_owned(), place)));
            }
            Err(error) => tracing::warn!(
                "redis source {}: group '{group}' was not told how far it is read: {error}",
                self.config.names()
            ),
        }
        Ok(())
    }
}

impl Session {
    /// Acknowledges what a checkpoint holds; what goes wrong is tried again with the next.
    fn acknowledge(&self, group: &str, offsets: &[(SplitId, Offset)]) -> Result<()> {
        for (split, offset) in offsets {
            let position = Position::parse(&offset.0)?;
            let Some(pending) = self.pending.lock().get(split.as_str()).cloned() else { continue };
            let (own, claimed, ids) = pending.held(&position);
            let commands = acknowledgements(split.as_str(), group, &ids);
            let commands: Vec<(&str, Cmd)> =
                commands.into_iter().map(|command| (split.as_str(), command)).collect();
            let told = match commands.is_empty() {
                true => Ok(()),
                false => self.ask(split.as_str(), |connection| {
                    connection
                        .pipeline(&commands)?
                        .into_iter()
                        .try_for_each(|answer| answer.map(drop))
                }),
            };
            match told {
                Ok(()) => pending.acknowledged((own, claimed), &position),
                Err(error) => {
                    tracing::warn!("{} entries were not acknowledged: {error}", ids.len())
                }
            }
        }
        Ok(())
    }
}

/// Sets where the group is in each stream; makes the group, and the stream, where they are not there.
fn set_ids(connection: &mut Connection, group: &str, places: &[(&str, Place)]) -> RedisResult<()> {
    let commands: Vec<(&str, Cmd)> =
        places.iter().map(|(key, place)| (*key, set_id("SETID", key, group, place))).collect();
    let answers = connection.pipeline(&commands)?;
    let mut missing = Vec::new();
    for (answer, (key, place)) in answers.into_iter().zip(places) {
        match answer {
            Err(error) if is_missing(&error) => {
                let mut create = set_id("CREATE", key, group, place);
                create.arg("MKSTREAM");
                missing.push((*key, create));
            }
            answer => drop(answer?),
        }
    }
    for answer in connection.pipeline(&missing)? {
        answer?;
    }
    Ok(())
}

fn set_id(subcommand: &str, key: &str, group: &str, place: &Place) -> Cmd {
    let mut command = redis::cmd("XGROUP");
    command.arg(subcommand).arg(key).arg(group).arg(place.at.to_string());
    if let Some(count) = place.count {
        command.arg("ENTRIESREAD").arg(count);
    }
    command
}

/// Neither the group nor, maybe, the stream is there.
fn is_missing(error: &redis::RedisError) -> bool {
    let no_key = error.detail().is_some_and(|detail| detail.contains("requires the key to exist"));
    Failure::of(error) == Failure::NoGroup || no_key
}
