//! Sends the records of letters again, and remembers which.
//!
//! ```text
//! read ─▶ select ─▶ send a group ─▶ all acknowledged ─▶ remember ─▶ …
//! ```
//!
//! Invariant: what is remembered has been acknowledged. So a replay that crashes sends again what it did not
//! come to remember, and nothing is skipped. Where nothing is remembered, letters that are old enough to have been
//! replayed and forgotten are not sent unasked.

use serde::Serialize;
use tidemill_core::time::{Clock, SystemClock};
use tidemill_core::{Error, EventTime, Result};
use tidemill_kafka::dead_letter::Progress;

use super::destination::Destination;
use super::filter::Filter;
use super::shelf::{Found, Shelf};

/// Records that are sent before it is remembered that they were.
const GROUP: usize = 500;

/// How long brokers remember a group that is not used, if they are not configured otherwise: 7 days, in
/// microseconds. What failed later was never replayed by a group that they have forgotten.
const REMEMBERED: i64 = 7 * 24 * 3_600 * 1_000_000;

/// What is to be sent again.
pub(crate) struct Replay {
    pub filter: Filter,
    /// A record that was replayed so often is left alone.
    pub max_replays: u32,
    /// Only say what would be sent.
    pub dry_run: bool,
    /// Old letters too where nothing is remembered.
    pub from_start: bool,
}

/// What was done with the letters of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Replayed {
    /// Sent and acknowledged; in a dry run, those that would be sent.
    pub sent: u64,
    /// The other side will never take them.
    pub refused: u64,
    /// Replayed before.
    pub replayed_before: u64,
    /// The filter passes over them.
    pub filtered: u64,
    /// They were replayed as often as allowed, and failed again.
    pub at_maximum: u64,
    /// Nobody knows which topic they came from.
    pub without_topic: u64,
    /// Their payload is not in the letter.
    pub without_payload: u64,
    /// Not looked at, because what a filter leaves out could not be remembered any more.
    pub left: u64,
}

impl Replay {
    /// Sends the letters of a place to a destination.
    ///
    /// # Errors
    /// Either side fails.
    pub fn run(&self, shelf: &Shelf, destination: &mut Destination) -> Result<Replayed> {
        let mut replayed = Replayed::default();
        for section in shelf.sections() {
            let remembered = shelf.progress(&section)?;
            let unsure_before = (remembered.is_none() && !self.from_start)
                .then(|| SystemClock::default().now() - REMEMBERED);
            let progress = remembered.unwrap_or_default();
            let start = progress.offset();
            let mut section = Section {
                replay: self,
                shelf,
                destination,
                section,
                progress,
                unsure_before,
                waiting: None,
                is_full: false,
                group: Vec::new(),
                replayed: &mut replayed,
            };
            let name = section.section.clone();
            let end = shelf.read(&name, start, &mut |found| section.take(found))?;
            section.send(end)?;
        }
        Ok(replayed)
    }
}

/// A section while it is replayed.
struct Section<'a> {
    replay: &'a Replay,
    shelf: &'a Shelf,
    destination: &'a mut Destination,
    section: String,
    progress: Progress,
    /// Letters that failed before this may have been replayed and forgotten.
    unsure_before: Option<EventTime>,
    /// The first letter that is not replayed.
    waiting: Option<i64>,
    /// No more can be remembered beyond it.
    is_full: bool,
    group: Vec<Found>,
    replayed: &'a mut Replayed,
}

impl Section<'_> {
    /// Takes the next letter; whether the one after is wanted.
    fn take(&mut self, found: Found) -> Result<bool> {
        let position = found.id.position;
        if self.progress.contains(position) {
            self.replayed.replayed_before += 1;
            return Ok(true);
        }
        if let Some(count) = self.left_alone(&found) {
            *count += 1;
            self.waiting.get_or_insert(position);
            return Ok(true);
        }
        if self.unsure_before.is_some_and(|before| found.letter.failed_at < before) {
            return Err(unsure(&found));
        }
        if self.waiting.is_some() && !self.is_full && !self.progress.has_room(self.group.len() + 1)
        {
            self.send(position)?;
            self.is_full = !self.progress.has_room(1);
        }
        if self.is_full {
            self.replayed.left += 1;
            return Ok(true);
        }
        self.group.push(found);
        if self.group.len() >= GROUP {
            self.send(position + 1)?;
        }
        Ok(true)
    }

    /// The count of those that are not sent for the reason that this one is not.
    fn left_alone(&mut self, found: &Found) -> Option<&mut u64> {
        let Replay { filter, max_replays, .. } = self.replay;
        if !filter.accepts(&found.letter) {
            Some(&mut self.replayed.filtered)
        } else if found.letter.replays() >= *max_replays {
            Some(&mut self.replayed.at_maximum)
        } else if found.omitted_bytes.is_some() {
            Some(&mut self.replayed.without_payload)
        } else if !self.destination.knows_place_for(&found.letter) {
            Some(&mut self.replayed.without_topic)
        } else {
            None
        }
    }

    /// Sends what was gathered, and remembers it. `next` is the position behind all that was looked at.
    fn send(&mut self, next: i64) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        if self.replay.dry_run {
            self.replayed.sent += group.len() as u64;
            return Ok(());
        }
        let letters: Vec<_> = group.iter().map(|found| &found.letter).collect();
        let refused = self.destination.send(&letters)?;
        for (found, refused) in group.iter().zip(refused) {
            let position = found.id.position;
            match refused {
                None => {
                    self.progress.add(position);
                    self.replayed.sent += 1;
                }
                Some(why) => {
                    tracing::warn!("{} was refused: {why}", found.id);
                    self.waiting = Some(self.waiting.map_or(position, |first| first.min(position)));
                    self.replayed.refused += 1;
                }
            }
        }
        self.progress.advance(self.waiting.unwrap_or(next));
        self.shelf.save(&self.section, &self.progress)
    }
}

fn unsure(found: &Found) -> Error {
    Error::configuration(format!(
        "letter {} is older than 7 days, and the group does not remember what was replayed: either nothing \
         ever was, or it was and brokers have forgotten it (offsets.retention.minutes). To send all that the \
         filter accepts, write --from-start; to send what cannot have been replayed, --since 7d",
        found.id
    ))
}
