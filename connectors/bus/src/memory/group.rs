//! A consumer group in memory: its members, what each of them reads, and how far the group has come.
//!
//! Invariant: a partition has one reader at most. When it changes hands, it is read again from the
//! committed place.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::progress::Progress;

/// A partition of a topic.
pub(crate) type Split = (Arc<str>, u32);

/// Where a group is in one partition.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// The member that reads it.
    pub owner: Option<u64>,
    /// Everything before it was acknowledged.
    pub committed: u64,
    /// What is delivered next.
    pub next: u64,
    pub progress: Progress,
}

impl Place {
    /// Goes back to the committed place, with another owner or none.
    fn hand_over(&mut self, owner: Option<u64>) {
        self.owner = owner;
        self.next = self.committed;
        self.progress.reset();
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The topics of each member.
    members: BTreeMap<u64, Vec<Arc<str>>>,
    pub places: BTreeMap<Split, Place>,
}

impl Group {
    /// Takes a member in. Its partitions have places already.
    pub fn join(&mut self, member: u64, topics: Vec<Arc<str>>) {
        self.members.insert(member, topics);
        self.rebalance();
    }

    /// A member has left: what it had not acknowledged goes to others.
    pub fn leave(&mut self, member: u64) {
        self.members.remove(&member);
        self.rebalance();
    }

    /// Whether some member reads the topic.
    pub fn reads(&self, topic: &str) -> bool {
        self.members.values().flatten().any(|read| **read == *topic)
    }

    fn may_read(&self, member: u64, topic: &str) -> bool {
        self.members.get(&member).is_some_and(|topics| topics.iter().any(|read| **read == *topic))
    }

    /// Gives every partition a reader, and all about as many; as few as possible change hands.
    fn rebalance(&mut self) {
        let mut owners: Vec<(Split, Option<u64>)> = Vec::new();
        for (split, place) in &self.places {
            let owner = place.owner.filter(|owner| self.may_read(*owner, &split.0));
            owners.push((split.clone(), owner));
        }
        let count = |owners: &[(Split, Option<u64>)], member: u64| {
            owners.iter().filter(|(_, owner)| *owner == Some(member)).count()
        };
        for index in 0..owners.len() {
            if owners[index].1.is_none() {
                let able = self.members.keys().copied();
                let able = able.filter(|member| self.may_read(*member, &owners[index].0.0));
                owners[index].1 = able.min_by_key(|member| count(&owners, *member));
            }
        }
        while let Some((index, member)) = self.unfair(&owners, count) {
            owners[index].1 = Some(member);
        }
        for (split, owner) in owners {
            if let Some(place) = self.places.get_mut(&split).filter(|place| place.owner != owner) {
                place.hand_over(owner);
            }
        }
    }

    /// A partition that should go to a member which has at least two fewer than its owner.
    fn unfair(
        &self,
        owners: &[(Split, Option<u64>)],
        count: impl Fn(&[(Split, Option<u64>)], u64) -> usize,
    ) -> Option<(usize, u64)> {
        for (index, (split, owner)) in owners.iter().enumerate() {
            let Some(owner) = owner else { continue };
            let has = count(owners, *owner);
            let poorer = self.members.keys().copied().find(|member| {
                self.may_read(*member, &split.0) && count(owners, *member) + 2 <= has
            });
            if let Some(poorer) = poorer {
                return Some((index, poorer));
            }
        }
        None
    }

    /// The partitions of a member, those behind `last` first.
    pub fn owned(&self, member: u64, last: Option<&Split>) -> Vec<Split> {
        let owned = self.places.iter().filter(|(_, place)| place.owner == Some(member));
        let mut owned: Vec<Split> = owned.map(|(split, _)| split.clone()).collect();
        let behind = owned.iter().position(|split| Some(split) > last).unwrap_or(0);
        owned.rotate_left(behind);
        owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(partitions: u32) -> (Group, Vec<Arc<str>>) {
        let topic: Arc<str> = "orders".into();
        let mut group = Group::default();
        for partition in 0..partitions {
            group.places.insert((topic.clone(), partition), Place::default());
        }
        (group, vec![topic])
    }

    fn counts(group: &Group, members: &[u64]) -> Vec<usize> {
        members.iter().map(|member| group.owned(*member, None).len()).collect()
    }

    #[test]
    fn partitions_are_shared_evenly_and_stay_where_they_can() {
        let (mut group, topics) = group(8);
        group.join(1, topics.clone());
        group.join(2, topics.clone());
        assert_eq!(counts(&group, &[1, 2]), [4, 4]);
        let before = group.owned(1, None);
        group.join(3, topics);
        let mut shares = counts(&group, &[1, 2, 3]);
        shares.sort_unstable();
        assert_eq!(shares, [2, 3, 3]);
        assert!(group.owned(1, None).iter().all(|split| before.contains(split)));
        group.leave(2);
        assert_eq!(counts(&group, &[1, 2, 3]), [4, 0, 4]);
    }

    #[test]
    fn what_was_not_acknowledged_goes_with_the_partition() {
        let (mut group, topics) = group(1);
        group.join(1, topics.clone());
        let place = group.places.values_mut().next().unwrap();
        (0..3).for_each(|offset| place.progress.delivered(offset));
        (place.next, place.committed) = (3, 1);
        group.join(2, topics);
        assert_eq!(counts(&group, &[1, 2]), [1, 0], "nothing changes hands without need");
        group.leave(1);
        let place = group.places.values().next().unwrap();
        assert_eq!((place.owner, place.next), (Some(2), 1));
        group.leave(2);
        assert_eq!(group.places.values().next().unwrap().owner, None);
    }

    #[test]
    fn members_read_only_what_they_subscribed_to() {
        let (mut group, topics) = group(2);
        group.places.insert(("payments".into(), 0), Place::default());
        group.join(1, topics);
        assert_eq!(counts(&group, &[1]), [2]);
        group.join(2, vec!["payments".into()]);
        assert_eq!(counts(&group, &[1, 2]), [2, 1]);
        assert!(group.reads("payments"));
    }
}
