//! Reads one stream: what its lane holds, decoded where it lies.
//!
//! Invariant: the position is behind every entry that was returned and behind nothing else, but for what no
//! reader gets to see: entries that were deleted or trimmed away.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::retry::Backoff;
use tidemill_core::source::{Behind, Lag, Offset, Read, ReaderContext, SplitId, SplitReader};
use tidemill_core::time::Clock;
use tidemill_core::{ErrorKind, Result};

use super::decode::BatchDecoder;
use super::gap::Place;
use super::id::EntryId;
use super::lane::{Lane, Took};
use super::offset::Position;
use super::pending::Pending;
use super::records::Taken;
use super::session::Session;
use super::start;
use crate::streams::Stream;

/// How entries are tried again whose schema cannot be had at the moment.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(5),
    deadline: Duration::MAX,
};

/// See the module.
pub(crate) struct Reader {
    session: Arc<Session>,
    stream: Stream,
    /// `None` where nothing is left to read.
    lane: Option<Arc<Lane>>,
    /// Where it is read as a consumer of a group.
    pending: Option<Arc<Pending>>,
    decoder: BatchDecoder,
    position: Position,
    first: Position,
    held: Option<Held>,
    clock: Arc<dyn Clock>,
}

/// Entries that could not be judged yet.
struct Held {
    taken: Taken,
    /// Where the reader is once they are.
    next: Position,
    attempts: u32,
    again: Duration,
}

impl Reader {
    /// The reader of `split` from `from` on.
    ///
    /// # Errors
    /// As for [`start::position`], or Redis does not answer.
    pub fn open(
        session: &Arc<Session>,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Self> {
        let config = &session.config;
        let stream = config.stream(split.as_str())?;
        let facts = session.facts(stream, &context.job)?;
        let mut position = start::position(config, stream, &facts, from, context.discovered)?;
        let pending = session.join(stream, &position, &facts, from.is_some())?;
        if pending.is_some() {
            // Where the group is says nothing of what this consumer has got and nobody has counted.
            let at = if from.is_some() { position.at } else { EntryId::ZERO };
            position = Position { at, count: None, sure: at, ..position };
        }
        let waker = context.waker.clone();
        let lane = match position.is_at_end() {
            true => None,
            false => Some(session.follow(stream, &position, facts.info, pending.clone(), waker)?),
        };
        Ok(Self {
            session: session.clone(),
            stream: stream.clone(),
            lane,
            pending,
            decoder: BatchDecoder::new(stream.clone(), session.layout.clone())?,
            position,
            first: position,
            held: None,
            clock: context.clock.clone(),
        })
    }

    /// Rows and dead letters of `taken`, behind which the reader is at `next`; keeps them where they cannot
    /// be judged yet.
    fn decode(&mut self, taken: Taken, next: Position, attempts: u32) -> Result<Read> {
        match self.decoder.decode(&taken) {
            Ok(batch) => {
                if attempts > 1 {
                    tracing::info!("stream '{}': goes on", self.stream.key);
                }
                self.position = next;
                Ok(Read::Batch(batch))
            }
            Err(error) if error.kind() == ErrorKind::Transient => {
                let wait = BACKOFF.wait(attempts, Duration::ZERO, 0.0).unwrap_or(BACKOFF.max);
                if attempts == 1 {
                    tracing::warn!("stream '{}': {error}; waiting", self.stream.key);
                }
                let again = self.clock.elapsed() + wait;
                self.held = Some(Held { taken, next, attempts, again });
                Ok(Read::Pending)
            }
            Err(error) => Err(error),
        }
    }

    /// `records` behind the end, where the last that was read is `at`.
    fn behind(&self, at: EntryId, records: u64) -> Behind {
        let written = at.time().filter(|_| records > 0 && at > EntryId::ZERO);
        let age = written.map_or(0, |written| self.clock.now().saturating_sub(written));
        let time = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        Behind { records, time }
    }
}

impl SplitReader for Reader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        if let Some(held) = self.held.take() {
            if self.clock.elapsed() < held.again {
                self.held = Some(held);
                return Ok(Read::Pending);
            }
            return self.decode(held.taken, held.next, held.attempts + 1);
        }
        let Some(lane) = &self.lane else { return Ok(Read::End) };
        let place = self.position.place();
        let Took { taken, place, claimed, ended } =
            lane.take(max_rows, place, self.position.claimed)?;
        let resets = self.pending.as_ref().is_some_and(|pending| pending.resets());
        let claimed = if resets { EntryId::ZERO } else { claimed };
        let Place { at, count, sure } = place;
        let next = Position { at, count, sure, claimed, ..self.position };
        if taken.len() > 0 {
            return self.decode(taken, next, 1);
        }
        self.position = next;
        Ok(if ended { Read::End } else { Read::Pending })
    }

    fn offset(&self) -> Offset {
        Offset::from(&self.position)
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let stop = self.position.stop?;
        // Ids are times: how much of the time between the first and the last entry is read.
        let (first, now) = (self.first.at.millis, self.position.at.millis);
        let all = stop.millis.checked_sub(first).filter(|_| first > 0)?;
        Some((now.saturating_sub(first).min(all), all))
    }

    fn lag(&self) -> Option<Lag> {
        let lane = self.lane.as_ref()?;
        let told = lane.told();
        let at = self.position.at;
        if self.pending.is_some() {
            // Of the group as a whole, and of what this consumer has not returned yet.
            let lag = told.lag?;
            let pending = told.pending.unwrap_or(0);
            return Some(Lag {
                position: self.behind(at, lag + lane.waiting()),
                committed: Some(self.behind(at, lag + pending)),
            });
        }
        let added = told.added?;
        let behind = |place: Place| Some(self.behind(place.at, added.saturating_sub(place.count?)));
        Some(Lag {
            position: behind(self.position.place())?,
            committed: self.session.told(&self.stream.key).and_then(behind),
        })
    }

    fn waits(&self) -> bool {
        self.held.is_some() || self.lane.as_ref().is_some_and(|lane| lane.is_down())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            lane.close();
        }
    }
}
