//! One stream, as the fetching thread reads it: where it is, what it asks for next, what becomes of the
//! answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use redis::{Cmd, RedisResult, Value};
use tidemill_core::Error;

use super::config::SourceConfig;
use super::entries::Entries;
use super::gap::{self, Look, Place, Verdict};
use super::id::EntryId;
use super::info::{self, GroupInfo, StreamInfo};
use super::lane::{Lane, Piece, Told};
use super::member::Member;
use super::offset::Position;
use super::start;

/// How often Redis is asked how much there is, and whether anything is gone.
const CHECK: Duration = Duration::from_millis(200);

/// After so many entries it is asked in any case.
const RECENT_MAX: usize = 65_536;

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
    /// What has been read since.
    recent: Vec<EntryId>,
    /// No entry was trimmed unread up to there; of a group, where it was at the last look.
    whole: Option<EntryId>,
    /// Of a group, it could not be told at the last look whether anything is gone.
    open: bool,
    /// All is read; whether anything is gone is to be asked once more.
    ending: bool,
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
            place: position.place(),
            stop: position.stop,
            info,
            checked: None,
            checked_at: position.at,
            recent: Vec::new(),
            whole: member.is_none().then_some(position.sure),
            open: false,
            ending: false,
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
        self.recent.len() >= RECENT_MAX
            || self.checked.is_none_or(|checked| checked.elapsed() >= CHECK)
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
        self.recent.clear();
        self.info = info;
        if self.ending && !self.done {
            self.done = true;
            self.lane.end();
        }
        Ok(())
    }

    fn check_position(&mut self, config: &SourceConfig, info: &StreamInfo) {
        let at = self.place.at;
        let whole = self.whole.unwrap_or(at);
        let look = Look { place: self.place, whole, since: self.checked_at, recent: &self.recent };
        let mut verdict = gap::judge(look, info);
        if self.ending {
            verdict = verdict.at_end(at, info);
        }
        let policy = start::policy(config, &self.lane.key);
        match policy.go_on(verdict, look, self.info.added.max(info.added), info) {
            Ok(place) => {
                if verdict != Verdict::Open {
                    self.whole = Some(place.at);
                }
                if place != self.place {
                    self.place = place;
                    self.put(Entries::default(), false);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Whether entries are gone that no consumer of the group has got.
    fn check_group(&mut self, config: &SourceConfig, info: &StreamInfo, group: Option<GroupInfo>) {
        // It is made again before it is read.
        let Some(group) = group else { return };
        let whole = self.whole.replace(group.delivered).unwrap_or(group.delivered);
        // What is read of the stream, the group's others read as well: Redis alone counts.
        let place = Place { at: group.delivered, count: group.read, sure: whole };
        let look = Look { whole, ..Look::first(place) };
        let verdict = gap::judge(look, info);
        // Of a group nothing more will be known; it is said once, as long as it goes on.
        let open = matches!(verdict, Verdict::Open | Verdict::Doubt(None));
        let was_open = std::mem::replace(&mut self.open, open);
        let verdict = match verdict {
            _ if open && was_open => Verdict::Whole,
            Verdict::Open => Verdict::Doubt(None),
            verdict => verdict,
        };
        let is_news = self.place.at != place.at || self.place.count != place.count;
        if is_news && matches!(verdict, Verdict::Trimmed(_) | Verdict::Doubt(_)) {
            let policy = start::policy(config, &self.lane.key);
            if let Err(error) = policy.go_on(verdict, look, info.added, info) {
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
            let count = count.filter(|_| self.member.is_none());
            behind = Place { at: last, count, ..self.place };
        }
        match &mut self.member {
            None => {
                self.place = behind;
                self.recent.extend((0..entries.len()).map(|index| entries.id(index)));
            }
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

    /// All is read. Whether entries between were trimmed is asked before it is said.
    fn end(&mut self) {
        self.ending = true;
        self.checked = None;
    }

    pub fn fail(&mut self, error: Error) {
        self.done = true;
        self.lane.fail(error);
    }
}
