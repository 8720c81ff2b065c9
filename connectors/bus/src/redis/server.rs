//! A connection that is made again when it is lost, Redis's errors as those of a bus, and what all clients
//! must agree on about a topic.

use std::sync::Arc;

use redis::{RedisError, cmd};
use tidemill_redis::client::{Connection, Failure, error};

use super::Shared;
use crate::BusError;
use crate::memory::PARTITIONS;

/// The key of a topic's partition.
pub(super) fn stream(topic: &str, partition: u32) -> String {
    format!("{topic}:{partition}")
}

/// A thread's connection.
pub(super) struct Server {
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Server {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, connection: None }
    }

    pub fn address(&self) -> String {
        self.shared.address()
    }

    /// The connection, made where there is none.
    pub fn connection(&mut self) -> Result<&mut Connection, BusError> {
        if self.connection.is_none() {
            let connected = self.shared.config.connect();
            self.connection = Some(connected.map_err(|error| {
                let (address, reason) = (self.address(), error.to_string());
                match error.kind() {
                    tidemill_core::ErrorKind::Transient => {
                        BusError::ConnectionFailed { address, reason }
                    }
                    _ => BusError::Unauthorised { address, reason },
                }
            })?);
        }
        self.connection.as_mut().ok_or(BusError::Closed)
    }

    /// What an error means; a connection that is lost is made again at the next call.
    pub fn error(&mut self, error: &RedisError) -> BusError {
        let failure = Failure::of(error);
        if failure == Failure::Transient {
            self.connection = None;
        }
        self.shared.error(failure, error)
    }

    /// How many partitions a topic has. The first client to ask decides, and the others must agree.
    pub fn partitions(&mut self, topic: &str) -> Result<u32, BusError> {
        if let Some(known) = self.shared.known.lock().get(topic) {
            return Ok(*known);
        }
        let (key, wanted) = (format!("{topic}:partitions"), self.shared.partitions);
        let mut set = cmd("SET");
        set.arg(&key).arg(wanted.unwrap_or(PARTITIONS)).arg("NX");
        let mut get = cmd("GET");
        get.arg(&key);
        let connection = self.connection()?;
        let found = connection
            .query::<Option<String>>(key.as_bytes(), &set)
            .and_then(|_| connection.query::<u32>(key.as_bytes(), &get));
        let found = found.map_err(|error| self.error(&error))?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(BusError::OtherPartitions { topic: topic.to_owned(), wanted, found });
        }
        self.shared.known.lock().insert(topic.to_owned(), found);
        Ok(found)
    }
}

impl Shared {
    pub fn address(&self) -> String {
        format!("redis://{}", self.config.place())
    }

    fn error(&self, failure: Failure, error: &RedisError) -> BusError {
        let (address, reason) = (self.address(), error::describe(error));
        match failure {
            Failure::Transient | Failure::OutOfMemory | Failure::Moved => {
                BusError::ConnectionFailed { address, reason }
            }
            Failure::Authentication | Failure::Authorisation | Failure::Tls => {
                BusError::Unauthorised { address, reason }
            }
            _ => BusError::Failed { address, reason },
        }
    }

    /// How many streams a topic has, asked for on the calling thread.
    ///
    /// # Errors
    /// Redis does not answer, or has another number than the address says.
    pub fn ask_partitions(self: &Arc<Self>, topic: &str) -> Result<u32, BusError> {
        Server::new(self.clone()).partitions(topic)
    }

    /// What was said or else is usual.
    pub fn expected_partitions(&self) -> u32 {
        self.partitions.unwrap_or(PARTITIONS)
    }
}
