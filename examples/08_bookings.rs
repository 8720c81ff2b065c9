//! Bookings: commands in, replies out, and each kind of error where it belongs.
//!
//! | the hotel says | class of the error | what becomes of the command |
//! |---|---|---|
//! | there is no such room | permanent | a dead letter: it will never work |
//! | the payment service does not answer | transient | tried again; a dead letter when that is in vain |
//! | the card was declined | business | a declined booking: a normal outcome, to a topic of its own |
//!
//! Replies keep the headers of their commands, `correlation-id` among them.
//!
//! ```sh
//! scripts/services up
//! tidemill generate bookings --to kafka://127.0.0.1:19092/booking-commands --partitions 3 --events 20000
//! for topic in booking-replies bookings-declined; do
//!   scripts/services tool topics --create --topic $topic --partitions 3
//! done
//! KAFKA_BROKERS=127.0.0.1:19092 cargo run --example 08_bookings
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::Error;
use tidemill::core::dead_letter::OnError;
use tidemill::core::retry::Backoff;
use tidemill::kafka::{StartAt, StopAt};
use tidemill::prelude::*;
use tidemill::runtime::JobSummary;

/// Where the example reads and writes.
pub struct Places<'a> {
    /// Addresses of the brokers.
    pub brokers: &'a str,
    /// The topic of `tidemill generate bookings`.
    pub commands: &'a str,
    /// The topic of replies.
    pub replies: &'a str,
    /// The topic of declined commands.
    pub declined: &'a str,
    /// The folder of checkpoints and dead letters.
    pub checkpoints: &'a str,
}

/// What somebody wants.
#[derive(Debug, Clone, Deserialize)]
pub struct Command {
    /// Its identifier.
    pub command_id: String,
    /// The booking that it is about.
    pub booking_id: String,
    /// `reserve`, `confirm` or `cancel`.
    pub command: String,
    /// What kind of room.
    pub room: String,
    /// For how much.
    pub price: f64,
}

/// What they get.
#[derive(Debug, Serialize)]
struct Reply {
    command_id: String,
    booking_id: String,
    status: String,
}

/// A hotel whose payment service is down now and then.
#[derive(Default)]
pub struct Hotel {
    /// How often the payment service was asked about a command.
    asked: Mutex<HashMap<String, u32>>,
}

impl Hotel {
    /// The highest price that cards are good for.
    pub const CARD_LIMIT: f64 = 5_000.0;

    /// How often the payment service does not answer about a command before it does: for most never, for
    /// one in 64 twice, for one in 1024 always.
    pub fn silences(command_id: &str) -> u32 {
        match command_id.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte)) {
            hash if hash % 1_024 == 0 => u32::MAX,
            hash if hash % 64 == 1 => 2,
            _ => 0,
        }
    }

    /// Does what a command says.
    ///
    /// The engine may call it again for the same command, after a silence or a crash: a hotel that is
    /// not an example remembers by `command_id` what it has done.
    fn book(&self, command: Command) -> tidemill::Result<Reply> {
        if !["single", "double", "suite"].contains(&command.room.as_str()) {
            return Err(Error::permanent(format!("there is no room of kind '{}'", command.room)));
        }
        if command.command == "reserve" {
            self.pay(&command)?;
        }
        let status = format!("{} done", command.command);
        Ok(Reply { command_id: command.command_id, booking_id: command.booking_id, status })
    }

    fn pay(&self, command: &Command) -> tidemill::Result<()> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(command.command_id.clone()).or_default();
        *times += 1;
        if *times <= Self::silences(&command.command_id) {
            return Err(Error::transient("the payment service does not answer"));
        }
        if command.price > Self::CARD_LIMIT {
            return Err(Error::business("the card was declined"));
        }
        Ok(())
    }
}

/// Answers the commands that the topic holds now, and ends there.
pub fn run(places: &Places) -> tidemill::Result<JobSummary> {
    let text = |name| (name, DataType::Utf8View);
    let price = ("price", DataType::Float64);
    let commands = Kafka::topic(places.commands)
        .brokers(places.brokers)
        .start_at(StartAt::Earliest)
        .stop_at(StopAt::Latest)
        .json(schema([
            text("command_id"),
            text("booking_id"),
            text("command"),
            text("room"),
            price,
        ]));
    let to = |topic| {
        KafkaSink::topic(topic).brokers(places.brokers).key(["booking_id"]).json().exactly_once()
    };
    let ms = Duration::from_millis;
    let patience = RetryPolicy {
        attempts: 4,
        backoff: Backoff { first: ms(10), max: ms(40), deadline: ms(1_000) },
        ..RetryPolicy::default()
    };

    let hotel = Hotel::default();
    let mut job = Job::named("bookings");
    let replies = job
        .source_named("commands", commands)
        .on_error(OnError::DeadLetter)
        .map_rows(
            schema([text("command_id"), text("booking_id"), text("status")]),
            move |command: Command| hotel.book(command),
        )
        .retry(patience);
    replies.declined().sink_named("declined", to(places.declined));
    replies.sink_named("replies", to(places.replies));
    job.checkpoints(places.checkpoints, Duration::from_secs(2)).run_blocking()
}

/// Runs it on the topics of the book.
pub fn main() -> tidemill::Result<()> {
    let brokers = std::env::var("KAFKA_BROKERS").unwrap_or_else(|_| "localhost:9092".to_owned());
    let summary = run(&Places {
        brokers: &brokers,
        commands: "booking-commands",
        replies: "booking-replies",
        declined: "bookings-declined",
        checkpoints: "/tmp/tidemill-checkpoints/08",
    })?;
    for rows in &summary.ledgers {
        assert!(rows.balances(), "no row is lost silently");
        println!("{}: {} in, {} dead letters", rows.node, rows.records_in, rows.dead_letters);
    }
    Ok(())
}
