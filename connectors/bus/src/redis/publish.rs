//! Publishing to Redis: a thread adds the events of all who publish, in pipelines.
//!
//! Invariant: an event is added at most once for each call. When an answer is lost, who has published is
//! told so, and knows best whether to do it again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use futures::channel::oneshot;
use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue as _};
use tidemill_redis::client::{Failure, error};

use super::Shared;
use super::entry::{Id, add};
use super::server::{Server, stream};
use crate::permits::{Permit, Permits};
use crate::{BusError, Event, Receipt, partition_of};

/// How many events may be under way.
const UNDER_WAY: usize = 10_000;

/// How many go in one pipeline.
const PIPELINE: usize = 512;

/// An event under way.
struct Ticket {
    topic: String,
    event: Event,
    report: oneshot::Sender<Result<Receipt, BusError>>,
    _permit: Permit,
}

/// The thread, as those who publish see it.
pub(super) struct Publisher {
    tickets: Mutex<Sender<Ticket>>,
    permits: Arc<Permits>,
}

impl Publisher {
    pub fn start(shared: Arc<Shared>) -> Result<Self, BusError> {
        // Bounded by the permits.
        let (tickets, coming) = channel();
        let address = shared.address();
        let server = Server::new(shared);
        let thread = std::thread::Builder::new().name("bus-publisher".to_owned());
        thread
            .spawn(move || Worker { server, keyless: 0 }.run(&coming))
            .map_err(|error| BusError::Failed { address, reason: error.to_string() })?;
        Ok(Self { tickets: Mutex::new(tickets), permits: Permits::new(UNDER_WAY) })
    }

    pub async fn publish(&self, topic: &str, event: Event) -> Result<Receipt, BusError> {
        let permit = self.permits.acquire().await;
        let (report, reported) = oneshot::channel();
        let ticket = Ticket { topic: topic.to_owned(), event, report, _permit: permit };
        self.tickets.lock().send(ticket).map_err(|_| BusError::Closed)?;
        reported.await.unwrap_or(Err(BusError::Closed))
    }
}

struct Worker {
    server: Server,
    /// Events without a key so far.
    keyless: u32,
}

impl Worker {
    fn run(mut self, coming: &Receiver<Ticket>) {
        while let Ok(first) = coming.recv() {
            let tickets = std::iter::once(first).chain(coming.try_iter().take(PIPELINE - 1));
            let (mut placed, mut commands) = (Vec::new(), Vec::new());
            for ticket in tickets {
                match self.place(&ticket) {
                    Ok((partition, command)) => {
                        placed.push((ticket, partition));
                        commands.push(command);
                    }
                    Err(error) => answer(ticket, Err(error)),
                }
            }
            self.send(placed, &commands);
        }
    }

    fn place(&mut self, ticket: &Ticket) -> Result<(u32, (String, Cmd)), BusError> {
        let partitions = self.server.partitions(&ticket.topic)?;
        let partition = match &ticket.event.key {
            Some(key) => partition_of(key, partitions),
            None => {
                self.keyless = self.keyless.wrapping_add(1);
                self.keyless % partitions
            }
        };
        let stream = stream(&ticket.topic, partition);
        let command = add(&stream, &ticket.event);
        Ok((partition, (stream, command)))
    }

    fn send(&mut self, placed: Vec<(Ticket, u32)>, commands: &[(String, Cmd)]) {
        let sent = self.server.connection().map(|connection| connection.pipeline(commands));
        let answers = match sent {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => {
                let error = self.server.error(&error);
                return placed.into_iter().for_each(|(t, _)| answer(t, Err(error.clone())));
            }
            Err(error) => {
                return placed.into_iter().for_each(|(t, _)| answer(t, Err(error.clone())));
            }
        };
        for ((ticket, partition), added) in placed.into_iter().zip(answers) {
            let id = added.and_then(|id| Ok(String::from_redis_value(id)?));
            let receipt = match id.map(|id| Id::parse(&id)) {
                Ok(Some(id)) => {
                    Ok(Receipt { topic: ticket.topic.clone(), partition, offset: id.into() })
                }
                Ok(None) => Err(BusError::Closed),
                Err(error) => Err(not_published(&ticket.topic, &mut self.server, &error)),
            };
            answer(ticket, receipt);
        }
    }
}

fn answer(ticket: Ticket, receipt: Result<Receipt, BusError>) {
    // Nobody waits any more where the future was dropped.
    let _ = ticket.report.send(receipt);
}

fn not_published(topic: &str, server: &mut Server, error: &redis::RedisError) -> BusError {
    match Failure::of(error) {
        Failure::Authentication | Failure::Authorisation => server.error(error),
        failure => BusError::PublishFailed {
            topic: topic.to_owned(),
            reason: error::describe(error),
            may_pass: failure.kind() == tidemill_core::ErrorKind::Transient,
        },
    }
}
