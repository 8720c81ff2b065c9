//! Reading one stream as a consumer of a group. First what the consumer has got before and not acknowledged,
//! then what dead consumers left, then new entries; of each, in the order of ids. See [`super::pending`].
//!
//! Redis counts entries as got when it sends them. Where a connection breaks, nobody knows what was under way,
//! so before anything else is got, what is pending behind the last entry that arrived is read again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, RedisResult, Value};

use super::entries::Entries;
use super::id::EntryId;
use super::offset::Position;
use super::pending::Pending;
use crate::client::connection::send;

/// Entries that are taken over with one command. Redis does nothing else meanwhile.
const CLAIMS: usize = 256;

/// How often it is looked whether a consumer has died.
const CLAIM_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(30);

/// See the module.
pub(crate) struct Member {
    pub group: String,
    pub consumer: String,
    claim_after: Duration,
    pub pending: Arc<Pending>,
    /// What the checkpoint holds that the reader began with.
    restored: Position,
    /// The last entry that arrived: of its own; of those taken over in this pass.
    arrived: Arrived,
    phase: Phase,
    next_claim: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Arrived {
    own: EntryId,
    claimed: EntryId,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What the consumer got before, behind this entry.
    Own(EntryId),
    /// What it took over before, behind this entry.
    Claimed(EntryId),
    /// What dead consumers left, from this entry on.
    Claiming(EntryId),
    /// What nobody has got.
    New,
    /// What was under way to the consumer when a connection broke, behind this entry.
    OwnAgain(EntryId),
    /// What it was taking over then, behind this entry; from the other one on it goes on.
    ClaimedAgain(EntryId, EntryId),
}

/// What a command has brought.
pub(crate) struct Found {
    pub entries: Entries,
    /// They were taken over, now or before.
    pub claimed: bool,
    /// So many are pending and not in the stream any more.
    pub gone: usize,
    /// Those of them that are still to be acknowledged, once they are told of.
    pub told: Vec<EntryId>,
}

impl Member {
    pub fn new(
        group: String,
        consumer: String,
        claim_after: Duration,
        pending: Arc<Pending>,
        restored: Position,
    ) -> Self {
        let phase = Phase::Own(EntryId::ZERO);
        let next_claim = Instant::now();
        let arrived = Arrived::default();
        Self { group, consumer, claim_after, pending, restored, arrived, phase, next_claim }
    }

    /// The connection is a new one: what was under way by the one before has not arrived, and is pending.
    pub fn reconnected(&mut self) {
        self.phase = match self.phase {
            Phase::New => Phase::OwnAgain(self.arrived.own),
            Phase::Claiming(from) => Phase::ClaimedAgain(self.arrived.claimed, from),
            // What is read by its id comes again.
            phase => phase,
        };
    }

    /// Who takes over what others left.
    fn claimer(&self) -> String {
        format!("{}-claimed", self.consumer)
    }

    /// What was found is among what is pending.
    pub fn took(&mut self, ids: impl Iterator<Item = EntryId>, claimed: bool) {
        let arrived = if claimed { &mut self.arrived.claimed } else { &mut self.arrived.own };
        let before = *arrived;
        self.pending.got(ids.inspect(|id| *arrived = *id), claimed);
        if !claimed && *arrived < before {
            tracing::warn!(
                "group '{}' went back from {before} to {arrived}, as Redis does where it comes back without its \
                 last writes: what is between them is read and counted again",
                self.group
            );
        }
        if claimed && self.phase == Phase::New {
            self.pending.fetched();
        }
    }

    /// Whether it reads what nobody has got, together with other streams.
    pub fn reads_new(&mut self) -> bool {
        if self.phase == Phase::New && Instant::now() >= self.next_claim {
            self.claim_later();
            if self.pending.may_claim(self.claim_after) {
                self.arrived.claimed = EntryId::ZERO;
                self.phase = Phase::Claiming(EntryId::ZERO);
            }
        }
        self.phase == Phase::New
    }

    fn claim_later(&mut self) {
        let every = (self.claim_after / 2).clamp(*CLAIM_EVERY.start(), *CLAIM_EVERY.end());
        self.next_claim = Instant::now() + every;
    }

    /// Whether what was read last is new.
    pub fn is_reading_new(&self) -> bool {
        self.phase == Phase::New
    }

    /// Reads more of what the consumer got before, or of what others left.
    ///
    /// # Errors
    /// What Redis answers instead.
    pub fn step(
        &mut self,
        node: &mut redis::Connection,
        key: &str,
        count: usize,
    ) -> RedisResult<Option<Found>> {
        match self.phase {
            Phase::Own(behind) => {
                let held = self.restored.at;
                let (found, last) = self.before(node, key, (behind, held, count), false)?;
                self.phase = last.map_or(Phase::Claimed(EntryId::ZERO), Phase::Own);
                Ok(Some(found))
            }
            Phase::Claimed(behind) => {
                let held = self.restored.claimed;
                let (found, last) = self.before(node, key, (behind, held, count), true)?;
                // A pass that was under way goes on behind what it had taken over.
                self.phase = match last {
                    Some(last) => Phase::Claimed(last),
                    None if behind.max(held) > EntryId::ZERO => {
                        Phase::Claiming(behind.max(held).next())
                    }
                    None => Phase::Claiming(EntryId::ZERO),
                };
                Ok(Some(found))
            }
            Phase::Claiming(from) => self.claim(node, key, from).map(Some),
            Phase::New => Ok(None),
            Phase::OwnAgain(behind) => {
                let held = EntryId::ZERO;
                let (found, last) = self.before(node, key, (behind, held, count), false)?;
                self.phase = last.map_or(Phase::New, Phase::OwnAgain);
                Ok(Some(found))
            }
            Phase::ClaimedAgain(behind, from) => {
                let held = EntryId::ZERO;
                let (found, last) = self.before(node, key, (behind, held, count), true)?;
                self.phase = match last {
                    // A pass goes on in the order of ids.
                    Some(last) => Phase::ClaimedAgain(last, from.max(last.next())),
                    None => Phase::Claiming(from),
                };
                Ok(Some(found))
            }
        }
    }

    /// What one of the two consumers got before, behind `behind`. What the checkpoint holds, up to `held`,
    /// is acknowledged.
    fn before(
        &self,
        node: &mut redis::Connection,
        key: &str,
        (behind, held, count): (EntryId, EntryId, usize),
        claimed: bool,
    ) -> RedisResult<(Found, Option<EntryId>)> {
        let consumer = if claimed { self.claimer() } else { self.consumer.clone() };
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.group).arg(consumer).arg("COUNT").arg(count);
        command.arg("STREAMS").arg(key).arg(behind.to_string());
        let mut entries = Entries::default();
        let gone = entries.add(only(send(node, &command)?)).map_err(wrong)?;
        let last = entries.last_id().max(gone.last().copied());
        let known = entries.up_to(held);
        let (read, told): (Vec<EntryId>, _) = gone.into_iter().partition(|id| *id <= held);
        let ids = (0..known).map(|index| entries.id(index)).chain(read).collect::<Vec<_>>();
        self.acknowledge(node, key, &ids)?;
        entries.skip(known);
        Ok((Found { entries, claimed, gone: told.len(), told }, last))
    }

    /// Acknowledges entries.
    ///
    /// # Errors
    /// What Redis answers instead.
    pub fn acknowledge(
        &self,
        node: &mut redis::Connection,
        key: &str,
        ids: &[EntryId],
    ) -> RedisResult<()> {
        for command in acknowledgements(key, &self.group, ids) {
            send(node, &command)?;
        }
        Ok(())
    }

    /// Takes over what others have held for long, from `from` on.
    fn claim(
        &mut self,
        node: &mut redis::Connection,
        key: &str,
        from: EntryId,
    ) -> RedisResult<Found> {
        self.claim_later();
        if !self.pending.may_claim(self.claim_after) {
            self.phase = Phase::New;
            return Ok(Found {
                entries: Entries::default(),
                claimed: true,
                gone: 0,
                told: Vec::new(),
            });
        }
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(key).arg(&self.group).arg(self.claimer());
        command.arg(self.claim_after.as_millis() as u64).arg(from.to_string());
        command.arg("COUNT").arg(CLAIMS);
        let Value::Array(parts) = send(node, &command)? else {
            return Err(wrong("no answer to XAUTOCLAIM"));
        };
        let mut parts = parts.into_iter();
        let (Some(Value::BulkString(next)), Some(list)) = (parts.next(), parts.next()) else {
            return Err(wrong("no answer to XAUTOCLAIM"));
        };
        let gone = match parts.next() {
            Some(Value::Array(gone)) => gone.len(),
            _ => 0,
        };
        let mut entries = Entries::default();
        entries.add(list).map_err(wrong)?;
        self.phase = match EntryId::of_bytes(&next) {
            Some(next) if next > EntryId::ZERO => Phase::Claiming(next),
            _ => Phase::New,
        };
        // What is gone, Redis has taken off the list by itself.
        Ok(Found { entries, claimed: true, gone, told: Vec::new() })
    }

    /// The command that reads what nobody has got, without its arguments.
    pub fn command(&self) -> Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.group).arg(&self.consumer);
        command
    }

    /// Makes the group, where it is not there, with what is behind `from`.
    ///
    /// # Errors
    /// What Redis answers instead.
    pub fn make_group(
        &mut self,
        node: &mut redis::Connection,
        key: &str,
        from: &str,
    ) -> RedisResult<()> {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(key).arg(&self.group).arg(from).arg("MKSTREAM");
        self.arrived.own = EntryId::ZERO;
        match send(node, &command) {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(()),
        }
    }
}

/// The commands that acknowledge entries.
pub(crate) fn acknowledgements(key: &str, group: &str, ids: &[EntryId]) -> Vec<Cmd> {
    let command = |ids: &[EntryId]| {
        let mut command = redis::cmd("XACK");
        command.arg(key).arg(group);
        ids.iter().for_each(|id| _ = command.arg(id.to_string()));
        command
    };
    ids.chunks(CLAIMS).map(command).collect()
}

/// The entries in an answer that concerns one stream.
fn only(answer: Value) -> Value {
    let Value::Array(mut streams) = answer else { return Value::Nil };
    match streams.pop() {
        Some(Value::Array(mut parts)) => parts.pop().unwrap_or(Value::Nil),
        _ => Value::Nil,
    }
}

fn wrong(what: &'static str) -> RedisError {
    RedisError::from((
        redis::ErrorKind::Parse,
        "an answer of Redis is not as expected",
        what.to_owned(),
    ))
}
