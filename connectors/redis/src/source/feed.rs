//! One stream, as the fetching thread reads it: where it is, what it asks for next, what becomes of the
//! answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisResult, Value};
use tidemill_core::Error;

use super::config::SourceConfig;
use super::entries::Entries;
use super::gap::{self, Place};
use super::id::EntryId;
use super::info::{self, StreamInfo};
use super::lane::{Lane, Piece, Told};
use super::offset::Position;
use super::start;

/// How often Redis is asked how much there is, and whether anything is gone.
const CHECK: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct Feed {
    pub lane: Arc<Lane>,
    /// Behind what was fetched last.
    place: Place,
    stop: Option<EntryId>,
    info: StreamInfo,
    checked: Option<Instant>,
    /// Where it was when Redis was asked last.
    checked_at: EntryId,
    /// The last answer held nothing of it.
    quiet: bool,
    done: bool,
}

impl Feed {
    /// From `position` on, of a stream of which `info` was told.
    pub fn new(lane: Arc<Lane>, position: &Position, info: StreamInfo) -> Self {
        Self {
            lane,
            place: Place { at: position.at, count: position.count },
            stop: position.stop,
            info,
            checked: None,
            checked_at: position.at,
            quiet: false,
            done: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.done || self.lane.is_closed()
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// There is no room for its entries.
    pub fn unwatched(&mut self) {
        self.checked = None;
        self.quiet = false;
    }

    /// The server was away, and may have lost something.
    pub fn reconnected(&mut self) {
        self.checked = None;
    }

    pub fn is_check_due(&self) -> bool {
        self.checked.is_none_or(|checked| checked.elapsed() >= CHECK)
    }

    /// What to ask now and then.
    pub fn checks(&self) -> Vec<Cmd> {
        vec![info::ask_stream(&self.lane.key)]
    }

    /// Takes in the answers to [`Feed::checks`].
    ///
    /// # Errors
    /// What Redis answers instead.
    pub fn check(
        &mut self,
        config: &SourceConfig,
        answers: Vec<RedisResult<Value>>,
    ) -> RedisResult<()> {
        let mut answers = answers.into_iter();
        let info = info::stream(answers.next().unwrap_or(Ok(Value::Nil)))?;
        let verdict = gap::judge(self.place, self.checked_at, &info);
        let policy = start::policy(config, &self.lane.key);
        match policy.go_on(verdict, self.place, self.info.added.max(info.added), &info) {
            Ok(place) if place != self.place => {
                self.place = place;
                self.put(Entries::default());
            }
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
        self.lane.tell(Told { added: Some(info.added), lag: None });
        self.checked = Some(Instant::now());
        self.checked_at = self.place.at;
        self.info = info;
        Ok(())
    }

    /// The command that reads it, without its arguments.
    pub fn command(&self) -> Cmd {
        redis::cmd("XREAD")
    }

    /// Behind which entry to read.
    pub fn argument(&self) -> String {
        self.place.at.to_string()
    }

    /// Takes in what the answer holds of it.
    pub fn take(&mut self, entries: Entries) {
        self.quiet = entries.len() == 0;
        self.put(entries);
    }

    /// The answer holds nothing of it.
    pub fn nothing(&mut self) {
        self.quiet = true;
        // What was there when Redis was asked for the last id, is read.
        if self.stop.is_some_and(|stop| self.info.last >= stop) {
            self.end();
        }
    }

    fn put(&mut self, mut entries: Entries) {
        let mut is_at_end = false;
        if let Some(stop) = self.stop {
            let within = entries.up_to(stop);
            is_at_end = within < entries.len() || entries.last_id() == Some(stop);
            entries.truncate(within);
        }
        if let Some(last) = entries.last_id() {
            let count = self.place.count.map(|count| count + entries.len() as u64);
            self.place = Place { at: last, count };
        }
        let entries = Arc::new(entries);
        self.lane.put(Piece { entries, next: 0, behind: self.place, claimed: false });
        if is_at_end {
            self.end();
        }
    }

    fn end(&mut self) {
        self.done = true;
        self.lane.end();
    }

    pub fn fail(&mut self, error: Error) {
        self.done = true;
        self.lane.fail(error);
    }
}
