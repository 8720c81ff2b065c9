//! What a producer does when the broker does not take a record: pure decisions, in front of the client
//! library's own queue.
//!
//! ```text
//! send ──▶ passes? ──yes──▶ client queue ──▶ broker ──▶ acknowledged
//!             │ no              │ full, or came back
//!             └────▶ held ◀─────┘      held ──▶ client queue, in order, when the wait is over
//! ```
//!
//! Invariant: records that wait go out again in the order they were sent, and nothing that was sent later
//! overtakes them. So the order per key survives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::retry::{Backoff, BreakerState, CircuitBreaker, RetrySettings};
use tidemill_core::{Error, ErrorKind};

use super::lane::Lane;
use super::record::Owned;

/// What goes with a record to the client library and comes back with its delivery report.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// Its place in the order.
    pub number: u64,
    /// Whose it is.
    pub lane: Arc<Lane>,
    /// What it weighs against the lane's bound.
    pub bytes: usize,
    /// How often it has failed.
    pub attempts: u32,
    /// When it was sent first.
    pub sent_at: Duration,
    /// The record's own timestamp, which delivery reports of failures do not hold.
    pub timestamp: Option<i64>,
    /// It was refused together with others, and goes alone now to see which of them it was.
    pub alone: bool,
}

/// A record that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub record: Owned,
    pub ticket: Ticket,
}

/// Why a record came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returned {
    /// It could not be delivered in its time.
    Failed,
    /// Another one's failure brought it back.
    Bystander,
    /// Its batch was refused for what may be another's fault.
    Suspect,
}

/// Why a producer is finished.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub kind: ErrorKind,
    pub message: String,
}

impl Finished {
    pub fn error(&self) -> Error {
        Error::new(self.kind, self.message.clone())
    }
}

pub(crate) struct Outbox {
    backoff: Backoff,
    breaker: CircuitBreaker,
    held: BTreeMap<u64, Held>,
    sent: u64,
    /// Records came back: nothing goes out before this, nor before the client has given back all.
    resume_at: Option<Duration>,
    /// A suspect is on its way alone.
    alone: bool,
    /// What is in the client's queue is to come back, so that it does not overtake.
    recall: bool,
    /// What the last failed attempt ended with.
    last: String,
    finished: Option<Finished>,
}

impl Outbox {
    pub fn new(retry: RetrySettings) -> Self {
        Self {
            backoff: retry.backoff,
            breaker: retry.breaker(),
            held: BTreeMap::new(),
            sent: 0,
            resume_at: None,
            alone: false,
            recall: false,
            last: String::new(),
            finished: None,
        }
    }

    /// The place of the next record.
    pub fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Whether a new record may go to the client at once.
    pub fn passes(&self) -> bool {
        self.held.is_empty()
            && self.resume_at.is_none()
            && !self.alone
            && self.breaker.state() == BreakerState::Closed
    }

    /// Keeps a record for later.
    pub fn hold(&mut self, held: Held) {
        self.held.insert(held.ticket.number, held);
    }

    /// Whether no record waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A record came back: it goes out again later, unless its time is over.
    /// `jitter` is as in [`Backoff::wait`].
    pub fn returned(
        &mut self,
        mut held: Held,
        why: Returned,
        now: Duration,
        jitter: f64,
        reason: &str,
    ) {
        let first_of_many = self.resume_at.is_none();
        let mut resume_at = now;
        match why {
            Returned::Bystander => {}
            Returned::Suspect => held.ticket.alone = true,
            Returned::Failed => {
                held.ticket.attempts += 1;
                reason.clone_into(&mut self.last);
                let spent = now.saturating_sub(held.ticket.sent_at);
                match self.backoff.wait(held.ticket.attempts, spent, jitter) {
                    Some(wait) => resume_at = now + wait,
                    None => self.give_up(spent),
                }
                if first_of_many {
                    self.breaker.failed(now);
                }
            }
        }
        self.recall |= first_of_many;
        // The wait is decided by the first of a burst: the others failed with it.
        self.resume_at =
            Some(if first_of_many { resume_at } else { self.resume_at.unwrap_or(now) });
        self.hold(held);
    }

    /// Gives up where the oldest record has waited for too long, whatever it waited for.
    pub fn expire(&mut self, now: Duration) {
        let Some(oldest) = self.held.values().next().filter(|_| self.is_troubled()) else { return };
        let spent = now.saturating_sub(oldest.ticket.sent_at);
        if spent >= self.backoff.deadline {
            self.give_up(spent);
        }
    }

    fn give_up(&mut self, spent: Duration) {
        let (seconds, reason) = (spent.as_secs(), &self.last);
        self.fail(
            ErrorKind::External,
            format!(
                "a record was not acknowledged within {seconds} s; the last attempt ended with: \
                 {reason}. Nothing is lost: bring the broker back and start the job again, or raise \
                 'properties.delivery.timeout.ms'"
            ),
        );
    }

    /// The producer is finished; the first reason stays.
    pub fn fail(&mut self, kind: ErrorKind, message: String) {
        self.finished.get_or_insert(Finished { kind, message });
    }

    pub fn finished(&self) -> Option<&Finished> {
        self.finished.as_ref()
    }

    /// The broker took a record, or judged one.
    pub fn answered(&mut self) {
        self.breaker.succeeded();
    }

    /// No broker can be reached. Says nothing new to a breaker that is open: that it was not reached
    /// meanwhile must not keep it open for ever.
    pub fn disconnected(&mut self, now: Duration) {
        if self.breaker.state() == BreakerState::Closed {
            self.breaker.failed(now);
        }
    }

    pub fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Whether [`Outbox::answered`] would change anything.
    pub fn is_troubled(&self) -> bool {
        self.breaker.state() != BreakerState::Closed || self.resume_at.is_some()
    }

    /// Whether the client's queue is to be called back now; said once.
    pub fn take_recall(&mut self) -> bool {
        std::mem::take(&mut self.recall)
    }

    /// The next record that goes to the client, when one may: `in_flight` records are with it.
    pub fn next(&mut self, now: Duration, in_flight: usize) -> Option<Held> {
        self.alone &= in_flight > 0;
        let first = self.held.first_entry()?;
        let waits = self.resume_at.is_some_and(|at| in_flight > 0 || now < at);
        let must_be_alone = self.alone || (first.get().ticket.alone && in_flight > 0);
        if waits || must_be_alone || self.finished.is_some() {
            return None;
        }
        match self.breaker.state() {
            BreakerState::Closed => {}
            BreakerState::Open if in_flight == 0 && self.breaker.allows(now) => {}
            BreakerState::Open | BreakerState::HalfOpen => return None,
        }
        self.resume_at = None;
        let held = first.remove();
        self.alone = held.ticket.alone;
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn outbox() -> Outbox {
        let backoff = Backoff { first: SECOND, max: SECOND, deadline: 60 * SECOND };
        Outbox::new(RetrySettings { backoff, ..RetrySettings::default() })
    }

    fn held(outbox: &mut Outbox) -> Held {
        let lane = Arc::new(Lane::new(std::task::Waker::noop().clone()));
        let ticket = Ticket {
            number: outbox.number(),
            lane,
            bytes: 0,
            attempts: 0,
            sent_at: Duration::ZERO,
            timestamp: None,
            alone: false,
        };
        Held { record: Owned::default(), ticket }
    }

    fn drain(outbox: &mut Outbox, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next(now, 0)).map(|held| held.ticket.number).collect()
    }

    #[test]
    fn records_go_out_again_in_order_whatever_order_they_came_back_in() {
        let mut outbox = outbox();
        let mut records: Vec<_> = (0..4).map(|_| held(&mut outbox)).collect();
        let last = records.pop().unwrap();
        outbox.returned(records.remove(1), Returned::Failed, SECOND, 0.0, "timed out");
        assert!(outbox.take_recall() && !outbox.take_recall(), "the client's queue is called back");
        records.into_iter().for_each(|r| outbox.returned(r, Returned::Bystander, SECOND, 0.0, ""));
        assert!(!outbox.passes(), "what is new must not overtake");
        outbox.hold(last);
        assert!(outbox.next(3 * SECOND, 1).is_none(), "the client still has some");
        assert!(outbox.next(SECOND, 0).is_none(), "it waits before it tries again");
        assert_eq!(drain(&mut outbox, 3 * SECOND), [1, 2, 3, 4]);
        assert!(outbox.passes() && outbox.finished().is_none());
    }

    #[test]
    fn a_record_whose_time_is_over_ends_the_producer_and_is_still_there() {
        let mut outbox = outbox();
        let record = held(&mut outbox);
        outbox.returned(record, Returned::Failed, 61 * SECOND, 0.0, "broker down");
        let failure = outbox.finished().unwrap();
        assert_eq!(failure.kind, ErrorKind::External);
        assert!(failure.message.contains("broker down"), "{}", failure.message);
        assert!(outbox.next(100 * SECOND, 0).is_none());
    }

    #[test]
    fn a_record_that_is_held_back_for_too_long_is_given_up_too() {
        let mut outbox = outbox();
        (0..RetrySettings::default().threshold).for_each(|_| outbox.disconnected(SECOND));
        let record = held(&mut outbox);
        outbox.hold(record);
        outbox.expire(59 * SECOND);
        assert!(outbox.finished().is_none());
        outbox.expire(60 * SECOND);
        assert!(outbox.finished().is_some());
    }

    #[test]
    fn an_open_breaker_holds_all_back_and_then_lets_one_try() {
        let mut outbox = outbox();
        (0..RetrySettings::default().threshold).for_each(|_| outbox.disconnected(SECOND));
        outbox.disconnected(2 * SECOND);
        assert!(!outbox.passes());
        for _ in 0..3 {
            let record = held(&mut outbox);
            outbox.hold(record);
        }
        assert_eq!(drain(&mut outbox, 2 * SECOND), [0; 0]);
        let later = SECOND + RetrySettings::default().pause;
        assert_eq!(drain(&mut outbox, later), [1], "one trial");
        assert_eq!(outbox.breaker(), BreakerState::HalfOpen);
        outbox.answered();
        assert_eq!(drain(&mut outbox, later), [2, 3]);
    }

    #[test]
    fn suspects_go_one_by_one() {
        let mut outbox = outbox();
        let records: Vec<_> = (0..2).map(|_| held(&mut outbox)).collect();
        records.into_iter().for_each(|r| outbox.returned(r, Returned::Suspect, SECOND, 0.0, ""));
        let innocent = held(&mut outbox);
        outbox.hold(innocent);
        assert_eq!(outbox.next(SECOND, 0).unwrap().ticket.number, 1);
        assert!(outbox.next(SECOND, 1).is_none() && !outbox.passes());
        assert_eq!(outbox.next(SECOND, 0).unwrap().ticket.number, 2);
        assert!(outbox.next(SECOND, 1).is_none(), "nor does anything join the last");
        assert_eq!(outbox.next(SECOND, 0).unwrap().ticket.number, 3);
    }
}
