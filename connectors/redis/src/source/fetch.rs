//! The thread that reads streams: all streams of a server with one command (`XREAD`, `XREADGROUP`), those of a
//! cluster with one for each slot. It fills the lanes that have room; a shard never waits for Redis.
//!
//! While something waits in a stream, it asks for much and does not wait; at the end of all of them it lets
//! Redis hold the answer back (`BLOCK`) until something comes. Where the server is away it tries again and
//! again, and the readers have nothing meanwhile; what a user must mend ends the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::gauge;
use parking_lot::Mutex;
use redis::{Cmd, ConnectionLike, RedisError, RedisResult, Value};
use tidemill_core::retry::Backoff;
use tidemill_core::{ErrorKind, Result};

use super::config::{OutOfRange, SourceConfig};
use super::entries::Entries;
use super::feed::Feed;
use super::lane::Bell;
use crate::client::Connection;
use crate::client::connection::send;
use crate::client::error::{self, Failure};

/// How long Redis may hold an answer back: where all streams are at their ends; where only those are that
/// may be read now, and others wait for room.
const BLOCK: Duration = Duration::from_millis(100);
const BLOCK_BRIEFLY: Duration = Duration::from_millis(5);

/// How much one answer should hold, and how many entries at most. Redis does nothing else while it puts an
/// answer together, and it counts entries, not bytes: where entries suddenly become long, one answer holds so
/// many of them.
const ANSWER_BYTES: usize = 2 << 20;
const ENTRIES_MAX: usize = 2048;

/// What an entry is taken to be long, before any is known.
const ENTRY_BYTES: usize = 1024;

const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(2),
    deadline: Duration::MAX,
};

/// The thread's handle; it ends with it.
pub(crate) struct Fetcher {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Mutex<Vec<Feed>>,
    bell: Arc<Bell>,
    stopping: AtomicBool,
}

impl Fetcher {
    /// Starts the thread for some streams of one source.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: Arc<SourceConfig>) -> Result<Self> {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            bell: Arc::default(),
            stopping: AtomicBool::new(false),
        });
        let work = Work {
            name: config.names(),
            config,
            shared: shared.clone(),
            feeds: Vec::new(),
            connection: None,
            lost: None,
            state: State::Unknown,
            entry_bytes: ENTRY_BYTES,
            regroups: false,
        };
        let thread = std::thread::Builder::new().name("redis-fetch".to_owned());
        thread.spawn(move || work.run())?;
        Ok(Self { shared })
    }

    /// What wakes the thread.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.shared.bell
    }

    /// Reads one more stream.
    pub fn add(&self, feed: Feed) {
        self.shared.inbox.lock().push(feed);
        self.shared.bell.ring();
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.bell.ring();
    }
}

/// The thread.
struct Work {
    name: String,
    config: Arc<SourceConfig>,
    shared: Arc<Shared>,
    feeds: Vec<Feed>,
    connection: Option<Connection>,
    /// When the connection before was.
    lost: Option<Instant>,
    state: State,
    /// How long the longest entries are, as far as the last answers tell.
    entry_bytes: usize,
    /// Consumer groups are gone, and are to be made again.
    regroups: bool,
}

/// Whether the server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Up,
    /// For so many attempts it has not.
    Down(u32),
}

impl Work {
    fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            self.feeds.append(&mut self.shared.inbox.lock());
            self.feeds.retain(|feed| !feed.is_done());
            if self.feeds.is_empty() {
                self.shared.bell.wait(Duration::from_secs(10));
                continue;
            }
            match self.round() {
                Ok(()) => self.answered(),
                Err(error) => self.failed(&error),
            }
        }
    }

    /// One command for all streams that may be read now.
    fn round(&mut self) -> RedisResult<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.outlast();
                self.feeds.iter_mut().for_each(Feed::reconnected);
                Connection::open(&self.config.client)?
            }
        };
        let mut active: Vec<&mut Feed> = Vec::new();
        let mut waiting = false;
        for feed in &mut self.feeds {
            match feed.lane.room() {
                Some(_) => active.push(feed),
                None => {
                    feed.unwatched();
                    waiting = true;
                }
            }
        }
        let streams = active.len().max(1);
        let most = ENTRIES_MAX.div_ceil(streams);
        let count = (ANSWER_BYTES / (self.entry_bytes * streams)).clamp(1, most);
        if !active.is_empty() {
            let node = connection.node(active[0].lane.key.as_bytes())?;
            let regroups = std::mem::take(&mut self.regroups);
            prepare(node, &self.config, &mut active, (regroups, count))?;
        }
        let stepping = active.len() < streams;
        if active.is_empty() {
            self.connection = Some(connection);
            if waiting {
                self.shared.bell.wait(BLOCK);
            }
            return Ok(());
        }
        let block = match active.iter().all(|feed| feed.is_quiet()) && !stepping {
            true if waiting => Some(BLOCK_BRIEFLY),
            true => Some(BLOCK),
            false => None,
        };
        let command = command(&active, count, block);
        let node = connection.node(active[0].lane.key.as_bytes())?;
        let answer = send(node, &command)?;
        // Forgotten slowly: answers of short entries between two of long ones must not hide these.
        let longest = take(answer, &mut active)?;
        self.entry_bytes = longest.max(self.entry_bytes - self.entry_bytes / 16).max(1);
        self.connection = Some(connection);
        Ok(())
    }

    /// Waits until Redis holds no answer back any more for the connection before: what it would send there
    /// is pending by then, and found.
    fn outlast(&mut self) {
        let Some(lost) = self.lost.take() else { return };
        if !self.feeds.iter().any(Feed::is_member) {
            return;
        }
        while !self.shared.stopping.load(Ordering::Acquire) {
            let left = (2 * BLOCK).saturating_sub(lost.elapsed());
            if left.is_zero() {
                return;
            }
            self.shared.bell.wait(left);
        }
    }

    fn answered(&mut self) {
        if self.state == State::Up {
            return;
        }
        if let State::Down(_) = self.state {
            tracing::info!("redis source {}: goes on", self.name);
        }
        self.state = State::Up;
        self.feeds.iter().for_each(|feed| feed.lane.set_down(false));
        gauge!("tidemill_redis_up", "source" => self.name.clone()).set(1.0);
    }

    fn failed(&mut self, error: &RedisError) {
        self.connection = None;
        self.lost = Some(Instant::now());
        let what = || format!("redis source {} at {}", self.name, self.config.client.place());
        let failure = Failure::of(error);
        if failure == Failure::NoGroup && self.config.out_of_range != OutOfRange::Fail {
            tracing::warn!("{}: {error}; the group is made again ('scan.out-of-range')", what());
            self.regroups = true;
            return;
        }
        if failure.kind() != ErrorKind::Transient {
            for feed in &mut self.feeds {
                feed.fail(error::from_redis(error, what()));
            }
            return;
        }
        // Where a cluster's slots have gone is asked with the next connection.
        let attempts = match self.state {
            State::Down(attempts) => attempts + 1,
            _ => {
                let error = error::from_redis(error, what());
                tracing::warn!("{error}; trying again until it answers");
                gauge!("tidemill_redis_up", "source" => self.name.clone()).set(0.0);
                1
            }
        };
        self.state = State::Down(attempts);
        self.feeds.iter().for_each(|feed| feed.lane.set_down(true));
        let wait = BACKOFF.wait(attempts, Duration::ZERO, rand::random::<f64>());
        self.shared.bell.wait(wait.unwrap_or(BACKOFF.max));
    }
}

/// Does what streams need before they are read, and what is done for each on its own: makes groups again,
/// asks what there is, reads what consumers had got before. Leaves those that are read together.
fn prepare(
    node: &mut redis::Connection,
    config: &SourceConfig,
    active: &mut Vec<&mut Feed>,
    (regroups, count): (bool, usize),
) -> RedisResult<()> {
    if regroups {
        let from = if config.out_of_range == OutOfRange::Latest { "$" } else { "0" };
        active.iter_mut().try_for_each(|feed| feed.make_group(node, from))?;
    }
    check(node, config, active)?;
    for feed in active.iter_mut() {
        if !feed.is_done() && !feed.is_common() {
            feed.step(config, node, count)?;
        }
    }
    active.retain_mut(|feed| !feed.is_done() && feed.is_common());
    Ok(())
}

/// Asks what there is to know of the streams that are due.
fn check(
    node: &mut redis::Connection,
    config: &SourceConfig,
    active: &mut [&mut Feed],
) -> RedisResult<()> {
    let mut packed = Vec::new();
    let due: Vec<usize> = (0..active.len()).filter(|n| active[*n].is_check_due()).collect();
    let commands: Vec<Vec<Cmd>> = due.iter().map(|n| active[*n].checks()).collect();
    let all = commands.iter().flatten();
    all.clone().for_each(|command| command.write_packed_command(&mut packed));
    if !packed.is_empty() {
        let mut answers = node.req_packed_commands(&packed, 0, all.count())?.into_iter();
        for (n, commands) in due.into_iter().zip(&commands) {
            let answers = answers.by_ref().take(commands.len()).map(Value::extract_error);
            active[n].check(config, answers.collect())?;
        }
    }
    Ok(())
}

fn command(active: &[&mut Feed], count: usize, block: Option<Duration>) -> Cmd {
    let mut command = active[0].command();
    command.arg("COUNT").arg(count);
    if let Some(block) = block {
        command.arg("BLOCK").arg(block.as_millis() as u64);
    }
    command.arg("STREAMS");
    active.iter().for_each(|feed| _ = command.arg(&feed.lane.key));
    active.iter().for_each(|feed| _ = command.arg(feed.argument()));
    command
}

/// Hands the answer out: `[[stream, entries], …]`, in the order of the command. Returns how long its longest
/// entry is.
fn take(answer: Value, active: &mut [&mut Feed]) -> RedisResult<usize> {
    let streams = match answer {
        Value::Nil => Vec::new(),
        Value::Array(streams) => streams,
        _ => return Err(unreadable("no list of streams")),
    };
    let mut longest = 0;
    let mut feeds = active.iter_mut();
    for stream in streams {
        let Value::Array(parts) = stream else { return Err(unreadable("a stream that is none")) };
        let mut parts = parts.into_iter();
        let (Some(Value::BulkString(key)), Some(list)) = (parts.next(), parts.next()) else {
            return Err(unreadable("a stream that is none"));
        };
        let feed = loop {
            let feed = feeds.next().ok_or_else(|| unreadable("a stream that was not asked for"))?;
            if feed.lane.key.as_bytes() == key {
                break feed;
            }
            feed.nothing();
        };
        let mut entries = Entries::default();
        entries.add(list).map_err(unreadable)?;
        longest = longest.max(entries.longest());
        feed.take(entries);
    }
    feeds.for_each(|feed| feed.nothing());
    Ok(longest)
}

fn unreadable(what: &'static str) -> RedisError {
    RedisError::from((
        redis::ErrorKind::Parse,
        "an answer of Redis is not as expected",
        what.to_owned(),
    ))
}
