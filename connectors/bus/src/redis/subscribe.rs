//! A member of a group on a thread: leases, reading, acknowledgements.
//!
//! ```text
//! lease taken ─▶ what others left pending, in order of ids (XAUTOCLAIM) ─▶ new entries (XREADGROUP) ─▶ …
//! ```
//!
//! Invariant: a stream is read only under a valid lease, and what is pending before what is new; an entry
//! is delivered once for each time that its stream changes hands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use redis::{Cmd, RedisError, RedisResult, Value, cmd};
use tidemill_redis::client::Failure;
use uuid::Uuid;

use super::Shared;
use super::entry::{Entry, Id, of_one_stream, parse};
use super::lease::{Attendance, HEARTBEAT};
use super::server::{Server, stream};
use crate::mailbox::{Mailbox, MailboxFeed, Split, share};
use crate::{BusError, Delivery, Subscription, UNACKNOWLEDGED_MAX};

/// How many entries are asked for at a time, of one stream.
const READ: usize = 256;

/// How long nothing is asked after nothing has come: longer and longer.
const IDLE: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
];

/// How long a server that does not answer is left alone.
const RETRY: Duration = Duration::from_millis(200);

/// The stream of what a member gets; ready when Redis has answered.
pub(super) async fn subscription(
    shared: Arc<Shared>,
    topics: &[&str],
    group: &str,
) -> Result<Subscription, BusError> {
    let mailbox = Mailbox::new();
    let member = Uuid::now_v7().to_string();
    let attendances = topics.iter().map(|topic| Topic {
        name: (*topic).into(),
        partitions: 0,
        attendance: Attendance::new(topic, group, &member),
    });
    let worker = Worker {
        topics: attendances.collect(),
        group: group.to_owned(),
        member,
        mailbox: mailbox.clone(),
        owned: BTreeMap::new(),
        acknowledged: Vec::new(),
        last: None,
        server: Server::new(shared.clone()),
    };
    let (started, starting) = oneshot::channel();
    let feed = MailboxFeed(mailbox.clone());
    let thread = std::thread::Builder::new().name("bus-subscriber".to_owned());
    let run = move || mailbox.end(worker.run(started));
    thread.spawn(run).map_err(|error| BusError::Failed {
        address: shared.address(),
        reason: error.to_string(),
    })?;
    starting.await.unwrap_or(Err(BusError::Closed))?;
    Ok(Subscription::new(feed))
}

struct Topic {
    name: Arc<str>,
    partitions: u32,
    attendance: Attendance,
}

/// A stream that the member reads.
struct Owned {
    topic: usize,
    until: Instant,
    /// Where to go on among what is pending; `None` when all of it has come.
    pending: Option<Id>,
    /// Delivered and not acknowledged.
    outstanding: BTreeSet<Id>,
    /// Whether the subscriber was told that it must acknowledge before more comes.
    is_told: bool,
}

impl Owned {
    /// How many more may be delivered.
    fn room(&mut self) -> usize {
        let room = UNACKNOWLEDGED_MAX.saturating_sub(self.outstanding.len());
        self.is_told &= room == 0;
        room
    }

    /// What the subscriber must be told, once.
    fn reminder(&mut self, split: &Split) -> Option<BusError> {
        let oldest = self.outstanding.first()?;
        let is_told = std::mem::replace(&mut self.is_told, true);
        (!is_told).then(|| BusError::Unacknowledged {
            topic: split.0.to_string(),
            partition: split.1,
            offset: oldest.to_string(),
            count: self.outstanding.len() as u64,
        })
    }
}

struct Worker {
    server: Server,
    topics: Vec<Topic>,
    group: String,
    member: String,
    mailbox: Arc<Mailbox<Id>>,
    owned: BTreeMap<Split, Owned>,
    /// What was acknowledged and Redis has not been told.
    acknowledged: Vec<(Split, Id)>,
    /// The stream that was asked last.
    last: Option<Split>,
}

impl Worker {
    fn run(mut self, started: oneshot::Sender<Result<(), BusError>>) -> Result<(), BusError> {
        let begun = self.begin();
        let is_begun = begun.is_ok();
        // The subscriber may have gone in the meantime.
        let _ = started.send(begun);
        if !is_begun {
            return Ok(());
        }
        let (mut attended, mut idle, mut is_down) = (Instant::now(), 0, false);
        while !self.mailbox.is_closing() {
            let result = self.turn(&mut attended);
            match result {
                Ok(0) => {
                    self.mailbox.wait(IDLE[idle]);
                    idle = (idle + 1).min(IDLE.len() - 1);
                }
                Ok(_) => (idle, is_down) = (0, false),
                Err(error) if error.may_pass() => {
                    self.interrupted(error, &mut is_down);
                    self.mailbox.wait(RETRY);
                }
                Err(error) => return Err(error),
            }
        }
        self.leave()
    }

    fn begin(&mut self) -> Result<(), BusError> {
        for topic in &mut self.topics {
            topic.partitions = self.server.partitions(&topic.name)?;
        }
        self.attend()
    }

    /// The connection was lost, and with it perhaps answers with entries: those are pending now.
    fn interrupted(&mut self, error: BusError, is_down: &mut bool) {
        self.owned.values_mut().for_each(|owned| owned.pending = Some(Id::default()));
        if !std::mem::replace(is_down, true) {
            let split: Split = ("".into(), 0);
            self.mailbox.put(&split, Err(error));
        }
    }

    /// Acknowledges, looks after the leases, and reads: how many entries have come.
    fn turn(&mut self, attended: &mut Instant) -> Result<usize, BusError> {
        self.acknowledge()?;
        if attended.elapsed() >= HEARTBEAT {
            self.attend()?;
            *attended = Instant::now();
        }
        self.drop_expired();
        self.read()
    }

    /// Takes, renews and gives back leases.
    fn attend(&mut self) -> Result<(), BusError> {
        for index in 0..self.topics.len() {
            let attended = self.attend_topic(index);
            attended.map_err(|error| self.error(&error))??;
        }
        Ok(())
    }

    fn error(&mut self, error: &RedisError) -> BusError {
        self.server.error(error)
    }

    fn attend_topic(&mut self, index: usize) -> RedisResult<Result<(), BusError>> {
        let topic = &self.topics[index];
        let connection = match self.server.connection() {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(error)),
        };
        let wanted = topic.attendance.attend(connection, topic.partitions)?;
        for partition in 0..topic.partitions {
            let split = (topic.name.clone(), partition);
            let is_wanted = wanted.contains(&partition);
            match (is_wanted, self.owned.get_mut(&split)) {
                (true, Some(owned)) => match topic.attendance.renew(connection, partition)? {
                    Some(until) => owned.until = until,
                    None => lose(&mut self.owned, &self.mailbox, &split),
                },
                (true, None) => {
                    if let Some(until) = topic.attendance.take(connection, partition)? {
                        make_group(connection, &stream(&topic.name, partition), &self.group)?;
                        let (pending, outstanding) = (Some(Id::default()), BTreeSet::new());
                        let is_told = false;
                        let owned = Owned { topic: index, until, pending, outstanding, is_told };
                        self.owned.insert(split, owned);
                    }
                }
                (false, Some(_)) => {
                    lose(&mut self.owned, &self.mailbox, &split);
                    topic.attendance.release(connection, partition)?;
                }
                (false, None) => {}
            }
        }
        Ok(Ok(()))
    }

    /// A lease that could not be renewed in time may be another's.
    fn drop_expired(&mut self) {
        let now = Instant::now();
        let expired = self.owned.iter().filter(|(_, owned)| owned.until <= now);
        for split in expired.map(|(split, _)| split.clone()).collect::<Vec<_>>() {
            lose(&mut self.owned, &self.mailbox, &split);
        }
    }

    fn acknowledge(&mut self) -> Result<(), BusError> {
        self.acknowledged.extend(self.mailbox.take_acknowledged());
        if self.acknowledged.is_empty() {
            return Ok(());
        }
        let mut of_stream: BTreeMap<&Split, Cmd> = BTreeMap::new();
        for (split, id) in &self.acknowledged {
            if let Some(owned) = self.owned.get_mut(split) {
                owned.outstanding.remove(id);
            }
            let command = of_stream.entry(split).or_insert_with(|| {
                let mut acknowledge = cmd("XACK");
                acknowledge.arg(stream(&split.0, split.1)).arg(&self.group);
                acknowledge
            });
            command.arg(id.to_string());
        }
        let commands = of_stream.into_iter().map(|(split, c)| (stream(&split.0, split.1), c));
        let commands: Vec<(String, Cmd)> = commands.collect();
        let answers = self.server.connection()?.pipeline(&commands);
        let failed = match answers {
            Ok(answers) => answers.into_iter().find_map(Result::err),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            return Err(self.error(&error));
        }
        self.acknowledged.clear();
        Ok(())
    }

    /// Asks every stream for what there is room for; where there is not room for one entry of each, as many
    /// streams as there is room for, by turns.
    fn read(&mut self) -> Result<usize, BusError> {
        let mut splits = Vec::new();
        for (split, owned) in &mut self.owned {
            match owned.room() {
                0 => {
                    let told = owned.reminder(split).into_iter();
                    told.for_each(|told| self.mailbox.put(split, Err(told)));
                }
                room => splits.push((split.clone(), room)),
            }
        }
        let count = share(&mut splits, self.mailbox.room(), READ, self.last.as_ref());
        if splits.is_empty() {
            return Ok(0);
        }
        self.last = splits.last().map(|(split, _)| split.clone());
        let commands = splits.iter().map(|(split, room)| {
            let (key, count) = (stream(&split.0, split.1), count.min(*room));
            let command = match self.owned.get(split).and_then(|owned| owned.pending) {
                Some(from) => claim(&key, &self.group, &self.member, from, count),
                None => read_new(&key, &self.group, &self.member, count),
            };
            (key, command)
        });
        let commands: Vec<(String, Cmd)> = commands.collect();
        let answers = self.server.connection()?.pipeline(&commands);
        let answers = answers.map_err(|error| self.error(&error))?;
        let mut come = 0;
        for ((split, _), answer) in splits.iter().zip(answers) {
            come += match answer.and_then(|answer| self.take(split, answer)) {
                Ok(count) => count,
                Err(error) if Failure::of(&error) == Failure::NoGroup => {
                    self.group_is_gone(split)?;
                    0
                }
                Err(error) => return Err(self.error(&error)),
            };
        }
        Ok(come)
    }

    /// Somebody has deleted the stream: it begins anew.
    fn group_is_gone(&mut self, split: &Split) -> Result<(), BusError> {
        let made = make_group(self.server.connection()?, &stream(&split.0, split.1), &self.group);
        made.map_err(|error| self.error(&error))
    }

    /// What a stream has answered: how many entries have come, pending ones that are out already included.
    fn take(&mut self, split: &Split, answer: Value) -> RedisResult<usize> {
        let Some(owned) = self.owned.get_mut(split) else { return Ok(0) };
        let entries = match owned.pending {
            None => of_one_stream(answer)?,
            Some(_) => {
                let (next, entries, deleted) = claimed(answer)?;
                owned.pending = next;
                if deleted > 0 {
                    self.mailbox.put(split, Err(lost(split, deleted)));
                }
                entries
            }
        };
        let come = entries.len() + usize::from(owned.pending.is_some());
        for Entry { id, event } in entries {
            let Some(event) = event else { continue };
            if !owned.outstanding.insert(id) {
                continue;
            }
            let (mailbox, of) = (self.mailbox.clone(), split.clone());
            let acknowledge = move || mailbox.acknowledge(of, id);
            let delivery = Delivery::new(split.0.clone(), split.1, id.into(), event, acknowledge);
            self.mailbox.put(split, Ok(delivery));
        }
        Ok(come)
    }

    /// Tells Redis what was acknowledged, and gives everything back.
    fn leave(&mut self) -> Result<(), BusError> {
        let acknowledged = self.acknowledge();
        for (split, owned) in std::mem::take(&mut self.owned) {
            let attendance = &self.topics[owned.topic].attendance;
            let released = attendance.release(self.server.connection()?, split.1);
            released.map_err(|error| self.server.error(&error))?;
        }
        for topic in &self.topics {
            let left = topic.attendance.leave(self.server.connection()?);
            left.map_err(|error| self.server.error(&error))?;
        }
        acknowledged
    }
}

/// The member reads this stream no longer.
fn lose(owned: &mut BTreeMap<Split, Owned>, mailbox: &Mailbox<Id>, split: &Split) {
    owned.remove(split);
    mailbox.purge(split);
}

fn lost(split: &Split, count: u64) -> BusError {
    BusError::EventsLost {
        topic: split.0.to_string(),
        partition: split.1,
        count,
        reason: "they were deleted from the stream before they were acknowledged".to_owned(),
    }
}

/// The group of a stream, both made where they are not there; it begins with the oldest entry.
fn make_group(
    connection: &mut tidemill_redis::client::Connection,
    stream: &str,
    group: &str,
) -> RedisResult<()> {
    let mut create = cmd("XGROUP");
    create.arg("CREATE").arg(stream).arg(group).arg("0").arg("MKSTREAM");
    match connection.query::<Value>(stream.as_bytes(), &create) {
        Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
        _ => Ok(()),
    }
}

/// What is pending from `from` on becomes this member's, whoever had it: the lease says that nobody else
/// reads it.
fn claim(stream: &str, group: &str, member: &str, from: Id, count: usize) -> Cmd {
    let mut claim = cmd("XAUTOCLAIM");
    claim.arg(stream).arg(group).arg(member).arg(0).arg(from.to_string());
    claim.arg("COUNT").arg(count);
    claim
}

fn read_new(stream: &str, group: &str, member: &str, count: usize) -> Cmd {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg(group).arg(member).arg("COUNT").arg(count);
    read.arg("STREAMS").arg(stream).arg(">");
    read
}

/// `[next id, entries, ids that are deleted]`
fn claimed(answer: Value) -> RedisResult<(Option<Id>, Vec<Entry>, u64)> {
    let mut parts: Vec<Value> = redis::from_redis_value(answer)?;
    parts.reverse();
    let mut part = || parts.pop().unwrap_or(Value::Array(Vec::new()));
    let next: String = redis::from_redis_value(part())?;
    let entries: Vec<Value> = redis::from_redis_value(part())?;
    let deleted: Vec<String> = redis::from_redis_value(part())?;
    let entries = entries.into_iter().map(parse).collect::<RedisResult<_>>()?;
    let next = Id::parse(&next).filter(|next| *next != Id::default());
    Ok((next, entries, deleted.len() as u64))
}
