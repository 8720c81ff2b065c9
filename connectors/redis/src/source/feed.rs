//! One stream, as the fetching thread reads it: where it is, what it asks for next, what becomes of the
//! answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use redis::{Cmd, RedisResult, Value};
use tidemill_core::Error;

use super::config::SourceConfig;
use super::entries::Entries;
use super::gap::{self, Place, Verdict};
use super::id::EntryId;
use super::info::{self, GroupInfo, StreamInfo};
use super::lane::{Lane, Piece, Told};
use super::member::Member;
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
    /// Where it is read as a consumer of a group.
    member: Option<Member>,
}

impl Feed {
    /// From `position` on, of a stream of which `info` was told.
    pub fn new(
        lane: Arc<Lane>,
        position: &Position,
        info: StreamInfo,
        member: Option<Member>,
    ) -> Self {
        Self {
            lane,
            place: Place { at: position.at, count: position.count },
            stop: position.stop,
            info,
            checked: None,
            checked_at: position.at,
            quiet: false,
            done: false,
            member,
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
        if let Some(member) = &mut self.member {
            member.reconnected();
        }
    }

    /// Whether Redis keeps account of what it has sent.
    pub fn is_member(&self) -> bool {
        self.member.is_some()
    }

    pub fn is_check_due(&self) -> bool {
        self.checked.is_none_or(|checked| checked.elapsed() >= CHECK)
    }

    /// What to ask now and then.
    pub fn checks(&self) -> Vec<Cmd> {
        let mut commands = vec![info::ask_stream(&self.lane.key)];
        commands.extend(self.member.as_ref().map(|_| info::ask_groups(&self.lane.key)));
        commands
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
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let info = info::stream(next())?;
        match &self.member {
            None => {
                self.check_position(config, &info);
                self.lane.tell(Told { added: Some(info.added), lag: None, pending: None });
            }
            Some(member) => {
                let group = info::group(next(), &member.group)?;
                self.check_group(config, &info, group);
            }
        }
        self.checked = Some(Instant::now());
        self.checked_at = self.place.at;
        self.info = info;
        Ok(())
    }

    fn check_position(&mut self, config: &SourceConfig, info: &StreamInfo) {
        let verdict = gap::judge(self.place, self.checked_at, info);
        let policy = start::policy(config, &self.lane.key);
        match policy.go_on(verdict, self.place, self.info.added, info) {
            Ok(place) if place != self.place => {
                self.place = place;
                self.put(Entries::default(), false);
            }
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }

    /// Whether entries are gone that no consumer of the group has got.
    fn check_group(&mut self, config: &SourceConfig, info: &StreamInfo, group: Option<GroupInfo>) {
        // It is made again before it is read.
        let Some(group) = group else { return };
        let place = Place { at: group.delivered, count: group.read };
        let verdict = gap::judge(place, self.checked_at, info);
        if matches!(verdict, Verdict::Trimmed(_)) && self.place != place {
            let policy = start::policy(config, &self.lane.key);
            if let Err(error) = policy.go_on(verdict, place, info.added, info) {
                return self.fail(error);
            }
            // That is what was said; the next time it is no news.
            self.place = place;
        }
        let pending = Some(group.pending);
        self.lane.tell(Told { added: None, lag: group.lag, pending });
        let labels = [("stream", self.lane.key.clone())];
        gauge!("tidemill_redis_pending", &labels).set(group.pending as f64);
    }

    /// Whether it is read with the command for all streams; else [`Feed::step`] reads it.
    pub fn is_common(&mut self) -> bool {
        self.member.as_mut().is_none_or(Member::reads_new)
    }

    /// Reads what the consumer got before, or what dead ones left.
    ///
    /// # Errors
    /// What Redis answers instead.
    pub fn step(
        &mut self,
        config: &SourceConfig,
        node: &mut redis::Connection,
        count: usize,
    ) -> RedisResult<()> {
        let Some(member) = &mut self.member else { return Ok(()) };
        let Some(found) = member.step(node, &self.lane.key, count)? else { return Ok(()) };
        if found.gone > 0 {
            if let Err(error) = start::policy(config, &self.lane.key).gone(found.gone as u64) {
                self.fail(error);
                return Ok(());
            }
            member.acknowledge(node, &self.lane.key, &found.told)?;
        }
        self.put(found.entries, found.claimed);
        Ok(())
    }

    /// Makes the group, where it is gone and the source is told to go on all the same.
    ///
    /// # Errors
    /// What Redis answers instead.
    pub fn make_group(&mut self, node: &mut redis::Connection, from: &str) -> RedisResult<()> {
        match &mut self.member {
            Some(member) => member.make_group(node, &self.lane.key, from),
            None => Ok(()),
        }
    }

    /// The command that reads it, without its arguments.
    pub fn command(&self) -> Cmd {
        self.member.as_ref().map_or_else(|| redis::cmd("XREAD"), Member::command)
    }

    /// Behind which entry to read.
    pub fn argument(&self) -> String {
        match self.member {
            Some(_) => ">".to_owned(),
            None => self.place.at.to_string(),
        }
    }

    /// Takes in what the answer holds of it.
    pub fn take(&mut self, entries: Entries) {
        self.quiet = entries.len() == 0;
        self.put(entries, false);
    }

    /// The answer holds nothing of it.
    pub fn nothing(&mut self) {
        self.quiet = true;
        // What was there when Redis was asked for the last id, is read.
        if self.stop.is_some_and(|stop| self.info.last >= stop) {
            self.end();
        }
    }

    fn put(&mut self, mut entries: Entries, claimed: bool) {
        let mut is_at_end = false;
        if let Some(stop) = self.stop {
            let within = entries.up_to(stop);
            is_at_end = within < entries.len() || entries.last_id() == Some(stop);
            entries.truncate(within);
        }
        let mut behind = self.place;
        if let Some(last) = entries.last_id() {
            let count = self.place.count.map(|count| count + entries.len() as u64);
            behind = Place { at: last, count: count.filter(|_| self.member.is_none()) };
        }
        match &mut self.member {
            None => self.place = behind,
            Some(member) => {
                member.took((0..entries.len()).map(|index| entries.id(index)), claimed);
                // Of what was got before, or left by dead consumers, the end is not the stream's.
                is_at_end = is_at_end && member.is_reading_new();
            }
        }
        if entries.len() > 0 || self.member.is_none() {
            self.lane.put(Piece { entries: Arc::new(entries), next: 0, behind, claimed });
        }
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
