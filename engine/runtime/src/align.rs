//! Watermark alignment: sources of a group wait for their slowest split, on whatever shard it is.
//!
//! Every shard publishes how far the slowest of its splits has come. A split further ahead of the
//! minimum than allowed is not read until it is ahead by seven eighths of that at most: a shard that
//! was woken for each batch of another would sleep and wake all the time. Invariants: the slowest
//! split itself is never held; who holds one that may go on is woken.
//!
//! Who holds a split says so and then looks how far the others have come; who has come further says
//! so and then looks who waits. With sequentially consistent stores and loads one of the two sees the
//! other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tidemill_core::EventTime;
use tidemill_core::graph::{Alignment, Graph, NodeKind};
use tidemill_core::time::{BEGINNING, END_OF_TIME};

use crate::waker::ShardWaker;

/// The alignment groups of a job.
pub(crate) struct Groups(HashMap<String, Arc<Group>>);

/// A group: each source in it on each shard.
struct Group {
    members: Vec<Member>,
    joined: AtomicUsize,
}

/// A source on a shard, in a cache line of its own.
#[repr(align(64))]
struct Member {
    /// Its slowest split has come so far.
    reached: AtomicI64,
    /// Its shard is to be woken when all have come so far; the end of time where none of its splits is held.
    awaits: AtomicI64,
    shard: OnceLock<ShardWaker>,
}

impl Groups {
    /// The groups that a graph's sources name.
    pub fn new(graph: &Graph, shards: usize) -> Self {
        let mut sizes: HashMap<&str, usize> = HashMap::new();
        for node in graph.nodes() {
            if let NodeKind::Source(source) = &node.kind
                && let Some(alignment) = &source.alignment
            {
                *sizes.entry(&alignment.group).or_default() += shards;
            }
        }
        let named = |(name, size): (&str, usize)| (name.to_owned(), Arc::new(Group::of(size)));
        Self(sizes.into_iter().map(named).collect())
    }

    /// What one source may do on one shard. Called once for each.
    pub fn pace(&self, alignment: Option<&Alignment>, shard: &ShardWaker) -> Pace {
        let aligned = alignment.and_then(|alignment| {
            let group = self.0.get(&alignment.group)?.clone();
            let own = group.joined.fetch_add(1, Ordering::Relaxed);
            // It is this one's place alone.
            let _ = group.members[own].shard.set(shard.clone());
            Some(Aligned { group, own, max_drift: alignment.max_drift })
        });
        Pace(aligned)
    }
}

impl Group {
    fn of(size: usize) -> Self {
        let member = |_| Member {
            reached: AtomicI64::new(BEGINNING),
            awaits: AtomicI64::new(END_OF_TIME),
            shard: OnceLock::new(),
        };
        Self { members: (0..size).map(member).collect(), joined: AtomicUsize::new(0) }
    }

    /// All have come so far.
    fn slowest(&self) -> EventTime {
        let reached = self.members.iter().map(|member| member.reached.load(Ordering::SeqCst));
        reached.min().unwrap_or(END_OF_TIME)
    }

    /// Wakes the shards that wait for no more than what all have come to.
    fn wake(&self, slowest: EventTime) {
        let (relaxed, ordered) = (Ordering::Relaxed, Ordering::SeqCst);
        for member in &self.members {
            let awaited = member.awaits.load(ordered);
            let is_there = awaited <= slowest && awaited != END_OF_TIME;
            // One shard wakes it, the others see that it is done.
            if is_there
                && member.awaits.compare_exchange(awaited, END_OF_TIME, ordered, relaxed).is_ok()
                && let Some(shard) = member.shard.get()
            {
                shard.wake();
            }
        }
    }
}

/// How far ahead a source may run on one shard.
pub(crate) struct Pace(Option<Aligned>);

struct Aligned {
    group: Arc<Group>,
    own: usize,
    max_drift: i64,
}

impl Pace {
    /// Whether it has to wait for anybody.
    pub fn is_aligned(&self) -> bool {
        self.0.is_some()
    }

    /// Its slowest split has come so far; the end of time where none holds the others.
    pub fn publish(&self, watermark: EventTime) {
        let Some(Aligned { group, own, .. }) = &self.0 else { return };
        let reached = &group.members[*own].reached;
        if reached.load(Ordering::Relaxed) != watermark {
            reached.store(watermark, Ordering::SeqCst);
            group.wake(group.slowest());
        }
    }

    /// Takes for each of its splits how far it has come and whether it is held, and changes the latter. The shard is
    /// woken when the first of those that are held may go on.
    pub fn hold<'a>(&self, splits: impl Iterator<Item = (EventTime, &'a mut bool)>) {
        let Some(Aligned { group, own, max_drift }) = &self.0 else { return };
        let resume_drift = max_drift - max_drift / 8;
        let slowest = group.slowest();
        let mut awaited = END_OF_TIME;
        for (watermark, held) in splits {
            let drift = if *held { resume_drift } else { *max_drift };
            *held = watermark > slowest.saturating_add(drift);
            if *held {
                awaited = awaited.min(watermark.saturating_sub(resume_drift));
            }
        }
        let awaits = &group.members[*own].awaits;
        if awaits.load(Ordering::Relaxed) != awaited {
            awaits.store(awaited, Ordering::SeqCst);
            // Who came there in the meantime has not seen that it was waited for.
            group.wake(group.slowest());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// Two members of a group whose splits may be 80 apart.
    fn two(shard: &ShardWaker) -> [Pace; 2] {
        let groups = Groups(HashMap::from([("all".to_owned(), Arc::new(Group::of(2)))]));
        let alignment = Alignment { group: "all".to_owned(), max_drift: 80 };
        [(); 2].map(|()| groups.pace(Some(&alignment), shard))
    }

    #[test]
    fn who_is_held_waits_until_the_slowest_has_come_up_by_an_eighth() {
        let [fast, slow] = two(&ShardWaker::default());
        let mut held = false;
        // How far the slow one and the fast one have come, and whether the latter is held.
        let steps =
            [(0, 80, false), (0, 81, true), (10, 81, true), (11, 81, false), (11, 91, false)];
        for (slowest, watermark, expected) in steps {
            slow.publish(slowest);
            fast.publish(watermark);
            fast.hold([(watermark, &mut held)].into_iter());
            assert_eq!(held, expected, "{watermark} beside {slowest}");
        }
        held = true;
        slow.hold([(11, &mut held)].into_iter());
        assert!(!held, "the slowest itself");
    }

    #[test]
    fn a_shard_that_waits_is_woken_once_the_slowest_is_there() {
        for comes_before in [false, true] {
            let shard = ShardWaker::default();
            let [fast, slow] = two(&shard);
            fast.publish(100);
            slow.publish(0);
            let (held_now, is_held) = mpsc::channel();
            let woken = thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    shard.bind();
                    let mut held = false;
                    let look = |_: &_| {
                        if comes_before {
                            slow.publish(30);
                        }
                    };
                    fast.hold([(100, &mut held)].into_iter().inspect(look));
                    held_now.send(held).unwrap();
                    let (asleep, minute) = (Instant::now(), Duration::from_secs(60));
                    thread::park_timeout(minute);
                    asleep.elapsed() < minute
                });
                assert!(is_held.recv().unwrap());
                if !comes_before {
                    slow.publish(29);
                    let Aligned { group, own, .. } = fast.0.as_ref().unwrap();
                    assert_eq!(group.members[*own].awaits.load(Ordering::SeqCst), 30, "not yet");
                    slow.publish(30);
                }
                waiting.join().unwrap()
            });
            assert!(woken, "nobody woke it, comes before: {comes_before}");
        }
    }
}
