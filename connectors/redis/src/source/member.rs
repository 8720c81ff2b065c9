//! Reading one stream as a consumer of a group. First what the consumer has got before and not acknowledged,
//! then what dead consumers left, then new entries; of each, in the order of ids. See [`super::pending`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, RedisResult, Value};

use super::entries::Entries;
use super::id::EntryId;
use super::offset::Position;
use super::pending::Pending;
use crate::client::connection::send;

/// Entries that are taken over with one command. Redis does nothing else meanwhile.
const CLAIMS: usize = 1000;

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
    phase: Phase,
    next_claim: Instant,
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
}

/// What a command has brought.
pub(crate) struct Found {
    pub entries: Entries,
    /// They were taken over, now or before.
    pub claimed: bool,
    /// So many are pending and not in the stream any more.
    pub gone: usize,
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
        Self { group, consumer, claim_after, pending, restored, phase, next_claim }
    }

    /// Who takes over what others left.
    fn claimer(&self) -> String {
        format!("{}-claimed", self.consumer)
    }

    /// What was found is among what is pending.
    pub fn took(&self, ids: impl Iterator<Item = EntryId>, claimed: bool) {
        self.pending.got(ids, claimed);
        if claimed && self.phase == Phase::New {
            self.pending.fetched();
        }
    }

    /// Whether it reads what nobody has got, together with other streams.
    pub fn reads_new(&mut self) -> bool {
        if self.phase == Phase::New && Instant::now() >= self.next_claim {
            self.claim_later();
            if self.pending.may_claim(self.claim_after) {
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
        }
    }

    /// What one of the two consumers got before, behind `behind`. What the checkpoint holds, up to `held`,
    /// is acknowledged, and what is in the stream no more.
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
        let lost = gone.iter().filter(|id| **id > held).count();
        let ids = (0..known).map(|index| entries.id(index)).chain(gone).collect::<Vec<_>>();
        acknowledge(node, key, &self.group, &ids)?;
        entries.skip(known);
        Ok((Found { entries, claimed, gone: lost }, last))
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
            return Ok(Found { entries: Entries::default(), claimed: true, gone: 0 });
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
        Ok(Found { entries, claimed: true, gone })
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
        &self,
        node: &mut redis::Connection,
        key: &str,
        from: &str,
    ) -> RedisResult<()> {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(key).arg(&self.group).arg(from).arg("MKSTREAM");
        match send(node, &command) {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(()),
        }
    }
}

/// Acknowledges entries.
///
/// # Errors
/// What Redis answers instead.
fn acknowledge(
    node: &mut redis::Connection,
    key: &str,
    group: &str,
    ids: &[EntryId],
) -> RedisResult<()> {
    for command in acknowledgements(key, group, ids) {
        send(node, &command)?;
    }
    Ok(())
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
