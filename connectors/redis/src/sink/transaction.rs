//! One transaction: all writes of an epoch that belong to a unit, and its epoch key, or none of them.
//!
//! ```text
//! WATCH, HMGET epoch key ─▶ decide ─▶ look at the keys ─▶ MULTI, writes, HSET epoch key ─▶ EXEC
//!        ▲                                                                                │
//!        └────────────── the epoch key has changed, or the connection is lost ◀───────────┘
//! ```
//!
//! Redis carries a transaction out without looking at anything else, and writes it to its log (AOF) as one. But
//! it does not take back what it has done when a command fails. So the keys are looked at before: one that
//! holds something else refuses the whole transaction, and nothing is written.
//!
//! Invariant: an error that is not [`Outcome::Partly`] says that nothing was written, or that it is not known;
//! and then the epoch key tells.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{ErrorKind as RedisKind, RedisError, RedisResult, ServerErrorKind, Value};
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use super::reply::{checked, no_cluster};
use super::resp::put_command;
use super::sender::exchange;
use super::unit::{Decision, EPOCH, INSTANCE, Stored, Unit, decide};
use super::writes::{Write, Writes};
use crate::client::error::{describe, from_redis};
use crate::client::{Config, Connection, Failure};

/// Bytes of commands that are sent before their answers are read.
const PIECE_BYTES: usize = 1 << 20;

/// Commands that are.
const PIECE_COMMANDS: usize = 10_000;

/// How long an answer may take, and how much longer for every command of a transaction.
const ANSWER: Duration = Duration::from_secs(5);
const ANSWER_PER_COMMAND: Duration = Duration::from_micros(50);

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The epoch key is watched and read.
    Watch,
    /// The keys are what they should be.
    Look,
    /// Everything is queued.
    Queue,
    /// It is carried out.
    Execute,
}

/// What keys must hold before they are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It does not matter: it is replaced.
    Anything,
    /// A value of this type, or nothing.
    Type(&'static str),
    /// An integer, or nothing.
    Integer,
    /// A number, or nothing.
    Number,
}

/// How a transaction ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Redis has it now; the epoch that it had before.
    Written(Option<Epoch>),
    /// Redis had it before.
    Known,
    /// Redis has it, but for writes that it refused: how many, and the first of them.
    Partly(usize, String),
}

/// What a transaction is about.
pub(crate) struct Transaction<'a> {
    pub unit: &'a Unit,
    pub instance: u64,
    pub epoch: Epoch,
    /// All writes of the epoch, and which of them are this unit's.
    pub writes: &'a Writes,
    pub own: &'a [usize],
    pub expected: Expected,
}

/// Carries transactions out, each over a connection that knows of no other.
pub(crate) struct Transactions {
    config: Config,
    /// Where results go, for messages.
    place: String,
    connection: Option<Connection>,
}

impl Transactions {
    pub fn new(config: Config, place: String) -> Self {
        Self { config, place, connection: None }
    }

    /// Makes this the newest committer of a unit: its number, and the last epoch that is in Redis. `now` is
    /// wall-clock time in milliseconds; numbers follow it, so that they rise even where Redis has lost the
    /// last one.
    ///
    /// # Errors
    /// `Transient` where it may work later.
    pub fn enter(&mut self, unit: &Unit, now: u64) -> Result<(u64, Option<Epoch>)> {
        let stored = self.watch(unit)?;
        let instance = stored.instance.map_or(now, |newest| now.max(newest + 1));
        let mut bytes = Vec::new();
        let text = instance.to_string();
        put_command(&[b"MULTI"], &mut bytes);
        let key = unit.key.as_bytes();
        put_command(&[b"HSET", key, INSTANCE.as_bytes(), text.as_bytes()], &mut bytes);
        put_command(&[b"EXEC"], &mut bytes);
        let answers = self.with(unit, ANSWER, |connection| exchange(connection, &bytes, 3));
        match self.answered(answers)?.pop() {
            Some(Value::Array(_)) => Ok((instance, stored.epoch)),
            _ => Err(self.disturbed()),
        }
    }

    /// Carries `transaction` out, up to and including `until`.
    ///
    /// # Errors
    /// `Transient` where it may work later, and [`Outcome::Known`] may be the answer then; `Fenced`.
    pub fn run(&mut self, transaction: &Transaction<'_>, until: Step) -> Result<Outcome> {
        let outcome = self.steps(transaction, until);
        if outcome.is_err() {
            // What was watched or queued goes with the connection.
            self.connection = None;
        }
        outcome
    }

    fn steps(&mut self, transaction: &Transaction<'_>, until: Step) -> Result<Outcome> {
        let stored = self.watch(transaction.unit)?;
        match decide(stored, transaction.instance, transaction.epoch) {
            Decision::Write => {}
            Decision::Nothing => {
                self.forget(transaction.unit)?;
                return Ok(Outcome::Known);
            }
            Decision::Fenced => return Err(self.fenced(transaction)),
        }
        for step in [Step::Watch, Step::Look, Step::Queue] {
            match step {
                Step::Look => self.look(transaction)?,
                Step::Queue => self.queue(transaction)?,
                Step::Watch | Step::Execute => {}
            }
            if step == until {
                return Ok(Outcome::Written(stored.epoch));
            }
        }
        self.execute(transaction, stored)
    }

    /// Watches the epoch key, and reads it.
    fn watch(&mut self, unit: &Unit) -> Result<Stored> {
        let mut bytes = Vec::new();
        let key = unit.key.as_bytes();
        put_command(&[b"WATCH", key], &mut bytes);
        put_command(&[b"HGET", key, INSTANCE.as_bytes()], &mut bytes);
        put_command(&[b"HGET", key, EPOCH.as_bytes()], &mut bytes);
        let answers = self.with(unit, ANSWER, |connection| exchange(connection, &bytes, 3));
        let mut numbers = self.answered(answers)?.into_iter().skip(1).map(number);
        let instance = numbers.next().flatten();
        Ok(Stored { instance, epoch: numbers.next().flatten() })
    }

    fn forget(&mut self, unit: &Unit) -> Result<()> {
        let mut bytes = Vec::new();
        put_command(&[b"UNWATCH"], &mut bytes);
        let answers = self.with(unit, ANSWER, |connection| exchange(connection, &bytes, 1));
        self.answered(answers).map(|_| ())
    }

    /// Refuses keys that hold something else than what is written to them.
    fn look(&mut self, transaction: &Transaction<'_>) -> Result<()> {
        let name: &[u8] = match transaction.expected {
            Expected::Anything => return Ok(()),
            Expected::Type(_) => b"TYPE",
            Expected::Integer | Expected::Number => b"GET",
        };
        let own = transaction.own.iter().map(|index| transaction.writes.get(*index).key());
        let keys: Vec<&[u8]> = own.collect::<BTreeSet<_>>().into_iter().collect();
        for keys in keys.chunks(PIECE_COMMANDS) {
            let mut bytes = Vec::new();
            keys.iter().for_each(|key| put_command(&[name, key], &mut bytes));
            let answers = self.with(transaction.unit, ANSWER, |c| exchange(c, &bytes, keys.len()));
            let answers = answers.map_err(|error| self.failed(&error))?;
            for (key, answer) in keys.iter().zip(answers) {
                let wrong = match answer {
                    Ok(value) => wrong_with(transaction.expected, &value),
                    Err(error) if Failure::of(&error) == Failure::WrongType => {
                        Some("it holds no number".to_owned())
                    }
                    Err(error) => return Err(self.failed(&error)),
                };
                if let Some(wrong) = wrong {
                    return Err(self.in_the_way(key, &wrong));
                }
            }
        }
        Ok(())
    }

    /// Hands over everything, but for the word to do it.
    fn queue(&mut self, transaction: &Transaction<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        put_command(&[b"MULTI"], &mut bytes);
        let mut count = 1;
        for write in transaction.own.iter().map(|index| transaction.writes.get(*index)) {
            bytes.extend_from_slice(write.bytes);
            count += usize::from(write.commands);
            if bytes.len() >= PIECE_BYTES || count >= PIECE_COMMANDS {
                self.hand_over(transaction.unit, &bytes, count)?;
                bytes.clear();
                count = 0;
            }
        }
        let (instance, epoch) = (transaction.instance.to_string(), transaction.epoch.to_string());
        let key = transaction.unit.key.as_bytes();
        let (instance, epoch) = (instance.as_bytes(), epoch.as_bytes());
        let marker = [b"HSET", key, INSTANCE.as_bytes(), instance, EPOCH.as_bytes(), epoch];
        put_command(&marker, &mut bytes);
        self.hand_over(transaction.unit, &bytes, count + 1)
    }

    fn hand_over(&mut self, unit: &Unit, bytes: &[u8], count: usize) -> Result<()> {
        let answers = self.with(unit, ANSWER, |connection| exchange(connection, bytes, count));
        self.answered(answers).map(|_| ())
    }

    fn execute(&mut self, transaction: &Transaction<'_>, stored: Stored) -> Result<Outcome> {
        let own = || transaction.own.iter().map(|index| transaction.writes.get(*index));
        let commands: u32 = own().map(|write| u32::from(write.commands)).sum();
        let mut bytes = Vec::new();
        put_command(&[b"EXEC"], &mut bytes);
        let patience = ANSWER + ANSWER_PER_COMMAND * commands;
        let answer = self.with(transaction.unit, patience, |connection| {
            connection.send_packed_command(&bytes)?;
            connection.recv_response()
        });
        let answers = match answer.map_err(|error| self.failed(&error))? {
            Value::Array(answers) => answers,
            Value::ServerError(error) => return Err(self.failed(&error.into())),
            // The epoch key has changed: whoever did it may have taken over.
            _ => return Err(self.disturbed()),
        };
        let mut answers = answers.into_iter().map(checked);
        let mut refused = own().filter_map(|write: Write<'_>| {
            let mut errors =
                answers.by_ref().take(usize::from(write.commands)).filter_map(Result::err);
            let first = errors.next();
            errors.for_each(drop);
            first.map(|error| {
                format!("'{}': {}", String::from_utf8_lossy(write.key()), describe(&error))
            })
        });
        Ok(match refused.next() {
            None => Outcome::Written(stored.epoch),
            Some(first) => Outcome::Partly(1 + refused.count(), first),
        })
    }

    /// Does something with the server that has the unit.
    fn with<T>(
        &mut self,
        unit: &Unit,
        patience: Duration,
        act: impl FnOnce(&mut redis::Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&self.config)?),
        };
        let node = connection.node(unit.key.as_bytes())?;
        node.set_read_timeout(Some(patience))?;
        node.set_write_timeout(Some(ANSWER))?;
        let result = act(node);
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// The values of answers, or the first error among them.
    fn answered(&mut self, answers: RedisResult<Vec<RedisResult<Value>>>) -> Result<Vec<Value>> {
        let answers = answers.map_err(|error| self.failed(&error))?;
        let answers: RedisResult<Vec<Value>> = answers.into_iter().collect();
        answers.map_err(|error| self.failed(&error))
    }

    fn failed(&mut self, error: &RedisError) -> Error {
        self.connection = None;
        match Failure::of(error) {
            Failure::Moved if !self.config.is_cluster() => no_cluster(&self.place),
            Failure::Fatal if is_aborted_for_now(error) => {
                Error::transient(format!("{}: {}", self.place, describe(error)))
            }
            _ => from_redis(error, &self.place),
        }
    }

    fn disturbed(&self) -> Error {
        Error::transient(format!("{}: another committer is at work", self.place))
    }

    fn fenced(&self, transaction: &Transaction<'_>) -> Error {
        let (place, key) = (&self.place, &transaction.unit.key);
        let message = format!(
            "{place}: another instance of this job has taken over (it is noted in '{key}'); this one stops"
        );
        Error::new(ErrorKind::Fenced, message)
    }

    fn in_the_way(&self, key: &[u8], wrong: &str) -> Error {
        let (place, key) = (&self.place, String::from_utf8_lossy(key));
        Error::external(format!(
            "{place}: key '{key}' is in the way: {wrong}. Delete or rename it, or choose other keys for the \
             sink"
        ))
    }
}

/// Whether a transaction was given up for a reason that may pass.
fn is_aborted_for_now(error: &RedisError) -> bool {
    let reasons = ["OOM ", "READONLY ", "LOADING ", "MISCONF ", "MASTERDOWN ", "NOREPLICAS "];
    let detail = error.detail().unwrap_or_default();
    error.kind() == RedisKind::Server(ServerErrorKind::ExecAbort)
        && reasons.iter().any(|reason| detail.contains(reason))
}

fn number(value: Value) -> Option<u64> {
    redis::from_redis_value::<Option<u64>>(value).ok().flatten()
}

fn wrong_with(expected: Expected, value: &Value) -> Option<String> {
    let text = match value {
        Value::SimpleString(text) => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => return None,
    };
    match expected {
        Expected::Anything => None,
        Expected::Type(name) if text == "none" || text == name => None,
        Expected::Type(name) => Some(format!("it holds a {text}, and a {name} is to be written")),
        Expected::Integer if text.parse::<i64>().is_ok() => None,
        Expected::Number if text.parse::<f64>().is_ok() => None,
        Expected::Integer | Expected::Number => Some("it holds no number".to_owned()),
    }
}
