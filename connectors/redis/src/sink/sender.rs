//! The thread that sends one writer's writes: at least once, in pipelines, over a connection of its own.
//!
//! ```text
//! lane ──▶ piece ──▶ pipeline ──▶ Redis
//!            ▲                      │ done, refused: settled
//!            └── backoff, breaker ◀─┘ what may pass: again, from the first that failed
//! ```
//!
//! Invariant: what is settled is in Redis or refused. Writes to one key arrive in their order: where one has
//! failed, those behind it are sent again, too, so that an older value never stays over a newer one. Only
//! counters, which add up in any order, are not: what was added once is not added again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use redis::{RedisError, RedisResult, Value};
use tidemill_core::retry::{CircuitBreaker, RetrySettings};
use tidemill_core::time::Clock;
use tidemill_core::{Error, Result};

use super::lane::Lane;
use super::refusals::Refused;
use super::reply::{Verdict, checked, judge, no_cluster};
use super::resp::Commands;
use super::writes::{Write, Writes};
use crate::client::error::{describe, from_redis};
use crate::client::{Config, Connection, Failure};

/// What one pipeline holds at most.
const PIPELINE_WRITES: usize = 2_000;
const PIPELINE_BYTES: usize = 1 << 20;

/// How the thread is set up.
pub(crate) struct SenderSettings {
    /// The sink's name, for metrics.
    pub name: String,
    /// Where results go, for messages.
    pub place: String,
    /// How Redis is reached.
    pub config: Config,
    /// Writes behind one that failed need not be sent again.
    pub any_order: bool,
    pub shard: usize,
    pub clock: Arc<dyn Clock>,
    /// How a server that is away is waited for.
    pub retry: RetrySettings,
}

/// See the module.
pub(crate) struct Sender {
    settings: SenderSettings,
    lane: Arc<Lane>,
    connection: Option<Connection>,
    /// The run of the server that it last talked to, where that can be told.
    server: Option<String>,
    breaker: CircuitBreaker,
}

/// What an attempt left.
struct Left {
    /// Writes to be sent again, in order.
    writes: Vec<usize>,
    /// Why.
    reason: String,
}

/// A thread that panics fails its lane: nobody waits for ever.
struct Watch(Arc<Lane>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&Error::internal("the thread that sends to Redis panicked"));
        }
    }
}

impl Sender {
    /// Starts the thread, which ends when the lane is closed or has failed.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(settings: SenderSettings, lane: Arc<Lane>) -> Result<()> {
        let breaker = settings.retry.breaker();
        let sender = Self { settings, lane, connection: None, server: None, breaker };
        let thread = std::thread::Builder::new().name("redis-sink".to_owned());
        thread.spawn(move || sender.run())?;
        Ok(())
    }

    fn run(mut self) {
        let lane = self.lane.clone();
        let _watch = Watch(lane.clone());
        self.show_breaker();
        while let Some(writes) = lane.next() {
            let mut start = 0;
            while start < writes.len() {
                let piece = writes.piece(start, PIPELINE_WRITES, PIPELINE_BYTES);
                start = piece.end;
                if let Err(error) = self.deliver(&writes, piece) {
                    lane.fail(&error);
                    return;
                }
                if lane.is_closed() {
                    return;
                }
            }
        }
    }

    /// Sends writes until all are settled, or the lane is closed.
    fn deliver(&mut self, writes: &Writes, piece: Range<usize>) -> Result<()> {
        let mut pending: Vec<usize> = piece.collect();
        let mut attempt = 0;
        let mut since = self.settings.clock.elapsed();
        loop {
            let left = self.attempt(writes, &pending, attempt + 1)?;
            let now = self.settings.clock.elapsed();
            let Some(left) = left else {
                self.breaker.succeeded();
                self.show_breaker();
                return Ok(());
            };
            if left.writes.len() < pending.len() {
                (attempt, since) = (0, now);
            }
            attempt += 1;
            pending = left.writes;
            counter!("tidemill_redis_writes_retried_total", "sink" => self.settings.name.clone())
                .increment(pending.len() as u64);
            self.breaker.failed(now);
            self.show_breaker();
            let spent = now.saturating_sub(since);
            let wait = self.settings.retry.backoff.wait(attempt, spent, rand::random());
            let wait = wait.ok_or_else(|| self.give_up(spent, &left.reason))?;
            tracing::warn!(attempt, "{}: {}; tried again", self.settings.place, left.reason);
            let pause = self.breaker.retry_at().map_or(wait, |at| wait.max(at.saturating_sub(now)));
            if self.lane.pause(pause) {
                return Ok(());
            }
            self.breaker.allows(self.settings.clock.elapsed());
            self.show_breaker();
        }
    }

    fn give_up(&self, spent: Duration, reason: &str) -> Error {
        let (place, seconds) = (&self.settings.place, spent.as_secs());
        Error::external(format!(
            "{place}: a write was not acknowledged within {seconds} s; the last attempt ended with: {reason}. \
             Bring Redis back and start the job again: with checkpoints nothing is lost"
        ))
    }

    /// Sends once. `None` where all are settled.
    fn attempt(
        &mut self,
        writes: &Writes,
        pending: &[usize],
        attempt: u32,
    ) -> Result<Option<Left>> {
        let answers = match self.send(writes, pending) {
            Ok(answers) => answers,
            Err(error) => {
                return match Failure::of(&error) {
                    Failure::Moved if !self.settings.config.is_cluster() => {
                        Err(no_cluster(&self.settings.place))
                    }
                    Failure::Transient | Failure::OutOfMemory | Failure::Moved => {
                        Ok(Some(Left { writes: pending.to_vec(), reason: describe(&error) }))
                    }
                    _ => Err(from_redis(&error, &self.settings.place)),
                };
            }
        };
        let mut answers = answers.into_iter();
        let mut verdicts = Vec::with_capacity(pending.len());
        for index in pending {
            let write = writes.get(*index);
            verdicts.push(self.verdict(write, answers.by_ref().take(usize::from(write.commands))));
        }
        self.settle(writes, pending, verdicts, attempt)
    }

    /// What is to be done after what was said of a write's commands. Takes all the answers.
    fn verdict(
        &self,
        write: Write<'_>,
        answers: impl Iterator<Item = RedisResult<Value>>,
    ) -> Verdict {
        let errors: Vec<RedisError> = answers.filter_map(Result::err).collect();
        let Some(error) = errors.first() else { return Verdict::Done };
        judge(error, write, &self.settings.place, self.settings.config.is_cluster())
    }

    /// Takes note of what is done and refused; what is left goes again.
    fn settle(
        &mut self,
        writes: &Writes,
        pending: &[usize],
        verdicts: Vec<Verdict>,
        attempt: u32,
    ) -> Result<Option<Left>> {
        let mut left: Option<Left> = None;
        let (mut refused, mut settled, mut bytes) = (Vec::new(), 0, 0);
        for (index, verdict) in pending.iter().zip(verdicts) {
            let write = writes.get(*index);
            match (verdict, &mut left) {
                (Verdict::Fatal(error), _) => return Err(error),
                (Verdict::Refused(reason), _) => {
                    let record = write.to_record(&self.settings.place);
                    refused.push(Refused { record, reason, attempts: attempt });
                }
                (Verdict::Done, Some(left)) if !self.settings.any_order => {
                    left.writes.push(*index);
                    continue;
                }
                (Verdict::Done, _) => {}
                (Verdict::Again(reason, failure), left) => {
                    // The name of a server that is no master, or not ready, may lead to another by now.
                    if failure != Failure::OutOfMemory {
                        self.connection = None;
                    }
                    let left = left.get_or_insert_with(|| Left { writes: Vec::new(), reason });
                    left.writes.push(*index);
                    continue;
                }
            }
            settled += 1;
            bytes += write.bytes.len();
        }
        self.lane.settled(settled, bytes, refused);
        Ok(left)
    }

    /// The answers to all commands of these writes, in order.
    fn send(&mut self, writes: &Writes, pending: &[usize]) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answers = self.send_over(&mut connection, writes, pending)?;
        self.connection = Some(connection);
        Ok(answers)
    }

    /// A new connection. A server that was started anew may have lost what it had acknowledged: that is said.
    fn connect(&mut self) -> RedisResult<Connection> {
        let mut connection = Connection::open(&self.settings.config)?;
        if self.settings.config.is_cluster() {
            return Ok(connection);
        }
        let server = run_of(&mut connection);
        if server.is_some() && self.server.is_some() && server != self.server {
            tracing::warn!(
                "{}: Redis was started anew: unless it keeps a log (appendonly yes), what it had acknowledged \
                 before is lost there, and is not written again",
                self.settings.place
            );
        }
        self.server = server.or(self.server.take());
        Ok(connection)
    }

    fn send_over(
        &self,
        connection: &mut Connection,
        writes: &Writes,
        pending: &[usize],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        if self.settings.config.is_cluster() {
            let mut commands = Vec::new();
            for write in pending.iter().map(|index| writes.get(*index)) {
                commands.extend(Commands(write.bytes).map(|arguments| {
                    let mut command = redis::Cmd::new();
                    arguments.iter().for_each(|argument| {
                        command.arg(*argument);
                    });
                    (write.key(), command)
                }));
            }
            return connection.pipeline(&commands);
        }
        let mut bytes = Vec::new();
        let mut count = 0;
        for write in pending.iter().map(|index| writes.get(*index)) {
            bytes.extend_from_slice(write.bytes);
            count += usize::from(write.commands);
        }
        exchange(connection.node(b"")?, &bytes, count)
    }

    fn show_breaker(&self) {
        let (sink, shard) = (self.settings.name.clone(), self.settings.shard.to_string());
        gauge!("tidemill_circuit_breaker_state", "sink" => sink, "shard" => shard)
            .set(f64::from(self.breaker.state() as u32));
    }
}

/// Which run of the server this is; `None` where it does not tell.
fn run_of(connection: &mut Connection) -> Option<String> {
    let mut info = redis::cmd("INFO");
    let info: String = connection.query(b"", info.arg("server")).ok()?;
    let mut lines = info.lines().filter_map(|line| line.strip_prefix("run_id:"));
    lines.next().map(str::to_owned)
}

/// Sends packed commands and reads `count` answers.
///
/// # Errors
/// The connection is lost: nothing is known of any of them.
pub(crate) fn exchange(
    connection: &mut redis::Connection,
    bytes: &[u8],
    count: usize,
) -> Result<Vec<RedisResult<Value>>, RedisError> {
    connection.send_packed_command(bytes)?;
    (0..count).map(|_| connection.recv_response().map(checked)).collect()
}
