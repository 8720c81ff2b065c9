//! The coordinator under random interleavings of facts, judged by bookkeeping of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill_core::error::{Error, ErrorKind};

use crate::protocol::{Coordinator, Decision, Fact, Schedule};

const SECOND: Duration = Duration::from_secs(1);

fn schedule() -> Schedule {
    Schedule { interval: 10 * SECOND, min_pause: SECOND, timeout: 60 * SECOND, max_failures: 3 }
}

/// A job that carries out decisions, and knows by itself what may be decided.
struct Job {
    coordinator: Coordinator,
    random: ChaCha8Rng,
    now: Duration,
    shards: usize,
    sinks: usize,
    /// Facts that have not been told yet, to be told in any order, twice or never.
    to_tell: Vec<Fact>,
    started: Vec<u64>,
    told: BTreeSet<String>,
    published: Vec<u64>,
    to_publish: Option<u64>,
    committed: Vec<(u64, usize)>,
    abandoned: Vec<u64>,
    fatal: bool,
    drained: bool,
    end: Option<Decision>,
}

impl Job {
    fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (shards, sinks) = (random.random_range(1..4), random.random_range(0..3));
        let coordinator = Coordinator::new(shards, sinks, 5, schedule(), Duration::ZERO);
        Self {
            coordinator,
            random,
            now: Duration::ZERO,
            shards,
            sinks,
            to_tell: vec![],
            started: vec![4],
            told: BTreeSet::new(),
            published: vec![],
            to_publish: None,
            committed: vec![],
            abandoned: vec![],
            fatal: false,
            drained: false,
            end: None,
        }
    }

    /// Tells a fact, and checks and carries out what is decided.
    fn tell(&mut self, fact: Fact) {
        self.told.insert(format!("{fact:?}"));
        match &fact {
            Fact::Published { epoch } => {
                self.published.push(*epoch);
                self.to_publish = None;
            }
            Fact::Committed { sink, epoch } => self.committed.push((*epoch, *sink)),
            Fact::Fatal { .. } => self.fatal = true,
            Fact::Drain => self.drained = true,
            _ => {}
        }
        for decision in self.coordinator.handle(self.now, fact) {
            assert!(self.end.is_none(), "{decision:?} after the end");
            self.carry_out(decision);
        }
    }

    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::StartEpoch { epoch, full, last } => self.start(epoch, full, last),
            Decision::Publish(epoch) => {
                assert!(self.is_complete(epoch), "epoch {epoch} lacks an acknowledgement");
                assert!(!self.abandoned.contains(&epoch) && !self.published.contains(&epoch));
                for before in self.published.clone() {
                    assert!(self.is_committed(before), "{before} is not committed before {epoch}");
                }
                self.to_publish = Some(epoch);
                self.to_tell.push(Fact::Published { epoch });
            }
            Decision::Commit(epoch) => {
                assert_eq!(self.published.last(), Some(&epoch), "only what exists is committed");
                let commits = (0..self.sinks).map(|sink| Fact::Committed { sink, epoch });
                self.to_tell.extend(commits);
            }
            Decision::Abandon(epoch, _) => {
                assert_eq!(self.started.last(), Some(&epoch));
                assert!(!self.published.contains(&epoch), "what exists is not abandoned");
                self.to_publish = None;
                self.to_tell.retain(|fact| *fact != Fact::Published { epoch });
                self.abandoned.push(epoch);
            }
            Decision::Finished(epoch) => {
                assert!(self.drained);
                assert_eq!(self.published.last(), Some(&epoch));
                assert!(self.published.iter().all(|epoch| self.is_committed(*epoch)));
                self.end = Some(Decision::Finished(epoch));
            }
            Decision::FailJob(reason) => {
                let last: Vec<_> = self.started.iter().rev().take(3).collect();
                let all_failed = last.iter().all(|epoch| self.abandoned.contains(epoch));
                assert!(self.fatal || all_failed, "no reason to fail: {reason}");
                self.end = Some(Decision::FailJob(reason));
            }
        }
    }

    fn start(&mut self, epoch: u64, full: bool, last: bool) {
        let before = *self.started.last().unwrap();
        assert_eq!(epoch, before + 1, "numbers are not skipped");
        let over = self.published.contains(&before) || self.abandoned.contains(&before);
        assert!(over || before == 4, "two epochs at a time");
        assert_eq!(full, !self.published.contains(&before), "increments need an epoch under them");
        assert_eq!(last, self.drained);
        self.started.push(epoch);
        for shard in 0..self.shards {
            self.to_tell.push(Fact::ShardAcked { shard, epoch });
            self.to_tell.push(Fact::StateWritten { shard, epoch });
            let staged = (0..self.sinks).map(|sink| Fact::Staged { sink, shard, epoch });
            self.to_tell.extend(staged);
        }
    }

    fn is_complete(&self, epoch: u64) -> bool {
        (0..self.shards).all(|shard| {
            let staged = |sink| self.was_told(&Fact::Staged { sink, shard, epoch });
            self.was_told(&Fact::ShardAcked { shard, epoch })
                && self.was_told(&Fact::StateWritten { shard, epoch })
                && (0..self.sinks).all(staged)
        })
    }

    fn is_committed(&self, epoch: u64) -> bool {
        (0..self.sinks).all(|sink| self.committed.contains(&(epoch, sink)))
    }

    fn was_told(&self, fact: &Fact) -> bool {
        self.told.contains(&format!("{fact:?}"))
    }

    /// Something happens.
    fn step(&mut self, trouble: u32) {
        if self.random.random_ratio(1, 4) || self.to_tell.is_empty() {
            self.now += Duration::from_millis(self.random.random_range(0..9000));
            return self.tell(Fact::Tick);
        }
        let epoch = *self.started.last().unwrap();
        let at = self.random.random_range(0..self.to_tell.len());
        match self.random.random_range(0..1000) {
            0 if trouble > 1 => self.tell(Fact::Fatal { reason: "a shard died".to_owned() }),
            1..4 if trouble > 0 => self.tell(Fact::Drain),
            4..20 => self.tell(Fact::Requested),
            20..50 if trouble > 0 && epoch > 4 && !self.published.contains(&epoch) => {
                self.tell(Fact::Failed { epoch, reason: "disk full".to_owned() });
            }
            // An acknowledgement is lost: the epoch must time out. A publication always ends.
            50..70 if trouble > 0 && !self.to_tell_must_come(at) => {
                self.to_tell.swap_remove(at);
            }
            70..170 if !matches!(self.to_tell[at], Fact::Published { .. }) => {
                self.tell(self.to_tell[at].clone());
            }
            _ => {
                let fact = self.to_tell.swap_remove(at);
                self.tell(fact);
            }
        }
    }

    fn to_tell_must_come(&self, at: usize) -> bool {
        matches!(self.to_tell[at], Fact::Published { .. } | Fact::Committed { .. })
    }
}

#[test]
fn no_interleaving_of_facts_breaks_the_protocol() {
    let seeds =
        std::env::var("TIDEMILL_SEED_COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(2000);
    let (mut finished, mut failed, mut abandoned) = (0, 0, 0);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut job = Job::new(seed);
        for _ in 0..400 {
            job.step((seed % 3) as u32);
        }
        abandoned += job.abandoned.len();
        // From now on all goes well: the job drains and ends, whatever happened before.
        job.tell(Fact::Drain);
        for _ in 0..2000 {
            if job.end.is_none() {
                job.step(0);
            }
        }
        match job.end {
            Some(Decision::Finished(_)) => finished += 1,
            Some(_) => failed += 1,
            None => panic!("seed {seed}: the job hangs: {:?}", job.coordinator),
        }
    }
    assert!(finished > seeds / 2 && failed > 0 && abandoned > 0, "{finished} {failed} {abandoned}");
}

/// Tells all that a shard has to say about an epoch.
fn acknowledge(
    coordinator: &mut Coordinator,
    now: Duration,
    shard: usize,
    epoch: u64,
) -> Vec<Decision> {
    let facts = [
        Fact::ShardAcked { shard, epoch },
        Fact::StateWritten { shard, epoch },
        Fact::Staged { sink: 0, shard, epoch },
    ];
    facts.into_iter().flat_map(|fact| coordinator.handle(now, fact)).collect()
}

#[test]
fn an_epoch_follows_its_schedule_and_waits_for_the_commit_before() {
    let mut c = Coordinator::new(1, 1, 1, schedule(), Duration::ZERO);
    assert_eq!(c.wake_at(), Some(10 * SECOND));
    assert!(c.handle(9 * SECOND, Fact::Tick).is_empty());
    let start = |epoch, full| vec![Decision::StartEpoch { epoch, full, last: false }];
    assert_eq!(c.handle(10 * SECOND, Fact::Tick), start(1, true));
    assert_eq!(c.wake_at(), Some(70 * SECOND), "the timeout");
    assert_eq!(acknowledge(&mut c, 11 * SECOND, 0, 1), [Decision::Publish(1)]);
    let commit = c.handle(12 * SECOND, Fact::Published { epoch: 1 });
    assert_eq!(commit, [Decision::Commit(1)]);
    assert_eq!(c.wake_at(), Some(20 * SECOND));
    assert_eq!(c.handle(20 * SECOND, Fact::Tick), start(2, false), "while sinks commit");
    assert_eq!(acknowledge(&mut c, 21 * SECOND, 0, 2), [], "but it is not published");
    let published = c.handle(29 * SECOND, Fact::Committed { sink: 0, epoch: 1 });
    assert_eq!(published, [Decision::Publish(2)]);
    c.handle(39 * SECOND, Fact::Published { epoch: 2 });
    assert_eq!(c.wake_at(), Some(40 * SECOND), "a pause behind a long checkpoint");
}

#[test]
fn a_failed_epoch_is_followed_by_a_full_one_and_three_in_a_row_fail_the_job() {
    let mut c = Coordinator::new(1, 0, 1, schedule(), Duration::ZERO);
    let mut now = Duration::ZERO;
    for epoch in 1..=3 {
        now = c.wake_at().unwrap();
        let start = Decision::StartEpoch { epoch, full: true, last: false };
        assert_eq!(c.handle(now, Fact::Tick), [start]);
        let reason = "no space left".to_owned();
        let decisions = c.handle(now, Fact::Failed { epoch, reason: reason.clone() });
        assert_eq!(decisions[0], Decision::Abandon(epoch, reason));
        let failed = matches!(decisions.get(1), Some(Decision::FailJob(why)) if why.contains("no space left"));
        assert_eq!(failed, epoch == 3);
    }
    assert_eq!(c.wake_at(), None);
    assert!(c.handle(now + 99 * SECOND, Fact::Tick).is_empty());
}

#[test]
fn an_epoch_that_takes_too_long_is_abandoned_and_says_what_was_missing() {
    let mut c = Coordinator::new(2, 1, 1, schedule(), Duration::ZERO);
    c.handle(10 * SECOND, Fact::Tick);
    acknowledge(&mut c, 11 * SECOND, 0, 1);
    let decisions = c.handle(70 * SECOND, Fact::Tick);
    let Some(Decision::Abandon(1, reason)) = decisions.first() else { panic!("{decisions:?}") };
    assert!(reason.contains("barrier not passed by shards [1]"), "{reason}");
    assert!(acknowledge(&mut c, 70 * SECOND, 1, 1).is_empty(), "too late");
}

#[test]
fn draining_makes_one_last_epoch_after_the_one_in_flight() {
    let mut c = Coordinator::new(1, 1, 1, schedule(), Duration::ZERO);
    c.handle(SECOND, Fact::Requested);
    assert!(c.handle(SECOND, Fact::Drain).is_empty(), "epoch 1 comes first");
    acknowledge(&mut c, SECOND, 0, 1);
    let decisions = c.handle(SECOND, Fact::Published { epoch: 1 });
    let last = Decision::StartEpoch { epoch: 2, full: false, last: true };
    assert_eq!(decisions, [Decision::Commit(1), last]);
    c.handle(SECOND, Fact::Committed { sink: 0, epoch: 1 });
    assert_eq!(acknowledge(&mut c, SECOND, 0, 2), [Decision::Publish(2)]);
    assert_eq!(c.handle(SECOND, Fact::Published { epoch: 2 }), [Decision::Commit(2)]);
    let done = c.handle(SECOND, Fact::Committed { sink: 0, epoch: 2 });
    assert_eq!(done, [Decision::Finished(2)]);
}

#[test]
fn bookkeeping_that_is_wrong_ends_the_job() {
    for fact in [
        Fact::ShardAcked { shard: 2, epoch: 1 },
        Fact::Staged { sink: 1, shard: 0, epoch: 1 },
        Fact::Published { epoch: 1 },
        Fact::Committed { sink: 0, epoch: 9 },
    ] {
        let mut c = Coordinator::new(2, 1, 1, schedule(), Duration::ZERO);
        c.handle(10 * SECOND, Fact::Tick);
        let decisions = c.handle(10 * SECOND, fact.clone());
        assert!(matches!(decisions[..], [Decision::FailJob(_)]), "{fact:?}: {decisions:?}");
    }
}

#[test]
fn a_publication_of_unknown_outcome_is_not_taken_for_an_abandoned_epoch() {
    for kind in [ErrorKind::Fenced, ErrorKind::Transient] {
        let fact = Fact::not_published(3, &Error::new(kind, "who knows"));
        assert!(matches!(fact, Fact::Fatal { .. }));
    }
    let fact = Fact::not_published(3, &Error::external("disk full"));
    assert_eq!(fact, Fact::Failed { epoch: 3, reason: "disk full".to_owned() });
}
