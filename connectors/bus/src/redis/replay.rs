//! A replay on a thread: every stream of a topic from some place on, as nobody (`XREAD`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use redis::{Cmd, Value, cmd};

use super::Shared;
use super::entry::{Id, of_one_stream};
use super::server::{Server, stream};
use crate::mailbox::{Mailbox, MailboxFeed, Split, share};
use crate::{BusError, Delivery, Start, Subscription};

/// How many entries are asked for at a time, of one stream.
const READ: usize = 256;

/// How long nothing is asked after nothing has come, and after Redis has not answered.
const IDLE: Duration = Duration::from_millis(20);

/// The stream of a replay; ready when Redis has answered.
pub(super) async fn subscription(
    shared: Arc<Shared>,
    topic: &str,
    from: Start,
) -> Result<Subscription, BusError> {
    let mailbox = Mailbox::new();
    let (started, starting) = oneshot::channel();
    let feed = MailboxFeed(mailbox.clone());
    let server = Server::new(shared.clone());
    let mut worker =
        Worker { server, mailbox: mailbox.clone(), last: BTreeMap::new(), asked: None };
    let topic = topic.to_owned();
    let run = move || {
        let begun = worker.begin(&topic, &from);
        let is_begun = begun.is_ok();
        // The subscriber may have gone in the meantime.
        let _ = started.send(begun);
        mailbox.end(if is_begun { worker.run() } else { Ok(()) });
    };
    let thread = std::thread::Builder::new().name("bus-replay".to_owned());
    thread.spawn(run).map_err(|error| BusError::Failed {
        address: shared.address(),
        reason: error.to_string(),
    })?;
    starting.await.unwrap_or(Err(BusError::Closed))?;
    Ok(Subscription::new(feed))
}

struct Worker {
    server: Server,
    mailbox: Arc<Mailbox<Id>>,
    /// The last entry that was read, or need not be, of each stream.
    last: BTreeMap<Split, Id>,
    /// The stream that was asked last.
    asked: Option<Split>,
}

impl Worker {
    fn begin(&mut self, topic: &str, from: &Start) -> Result<(), BusError> {
        let name: Arc<str> = topic.into();
        for partition in 0..self.server.partitions(topic)? {
            let last = match from {
                Start::Earliest => Id::default(),
                Start::Time(micros) => self.before_time(&stream(topic, partition), *micros)?,
                Start::Offsets(offsets) => match offsets.get(&partition) {
                    None => Id::default(),
                    Some(offset) => Id::parse(&offset.0)
                        .ok_or_else(|| BusError::InvalidOffset {
                            topic: topic.to_owned(),
                            partition,
                            offset: offset.0.clone(),
                        })?
                        .before(),
                },
            };
            self.last.insert((name.clone(), partition), last);
        }
        Ok(())
    }

    /// The entry before the first that is not older; the last of all where there is none.
    fn before_time(&mut self, stream: &str, micros: i64) -> Result<Id, BusError> {
        let millis = u64::try_from(micros.div_euclid(1000) + i64::from(micros % 1000 != 0));
        let wanted = Id(millis.unwrap_or(0), 0).before();
        let mut newest = cmd("XREVRANGE");
        newest.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
        let newest = self.server.connection()?.query::<Vec<Value>>(stream.as_bytes(), &newest);
        let newest = newest
            .and_then(|entries| entries.into_iter().next().map(super::entry::parse).transpose());
        let newest = newest.map_err(|error| self.server.error(&error))?;
        Ok(newest.map_or(Id::default(), |entry| wanted.min(entry.id)))
    }

    fn run(&mut self) -> Result<(), BusError> {
        let mut is_down = false;
        while !self.mailbox.is_closing() {
            match self.read() {
                Ok(0) => self.mailbox.wait(IDLE),
                Ok(_) => is_down = false,
                Err(error) if error.may_pass() => {
                    if !std::mem::replace(&mut is_down, true) {
                        self.mailbox.put(&("".into(), 0), Err(error));
                    }
                    self.mailbox.wait(10 * IDLE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks every stream for what there is room for: how many entries have come.
    fn read(&mut self) -> Result<usize, BusError> {
        let mut asked: Vec<(Split, Id)> =
            self.last.iter().map(|(split, last)| (split.clone(), *last)).collect();
        let count = share(&mut asked, self.mailbox.room(), READ, self.asked.as_ref());
        if asked.is_empty() {
            return Ok(0);
        }
        self.asked = asked.last().map(|(split, _)| split.clone());
        let commands = asked.iter().map(|(split, last)| {
            let key = stream(&split.0, split.1);
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(count).arg("STREAMS").arg(&key).arg(last.to_string());
            (key, read)
        });
        let commands: Vec<(String, Cmd)> = commands.collect();
        let answers = self.server.connection()?.pipeline(&commands);
        let answers = answers.map_err(|error| self.server.error(&error))?;
        let mut come = 0;
        for ((split, mut last), answer) in asked.into_iter().zip(answers) {
            let entries = answer.and_then(of_one_stream);
            let entries = entries.map_err(|error| self.server.error(&error))?;
            come += entries.len();
            for entry in entries {
                last = entry.id;
                if let Some(event) = entry.event {
                    let offset = entry.id.into();
                    let delivery = Delivery::new(split.0.clone(), split.1, offset, event, || {});
                    self.mailbox.put(&split, Ok(delivery));
                }
            }
            self.last.insert(split, last);
        }
        Ok(come)
    }
}
