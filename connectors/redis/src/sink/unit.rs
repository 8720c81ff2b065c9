//! A unit of exactly once: keys that one transaction can write, and the epoch key beside them.
//!
//! ```text
//! tidemill:JOB:SINK:epoch   hash   instance  the number of the committer that may write
//!                                  epoch     the last one whose writes are in Redis
//! ```
//!
//! On one server there is one unit. In a cluster a transaction writes the keys of one slot: there is a unit
//! for every slot that the sink's keys can be in, and its epoch key has the same hash tag.
//!
//! Invariant: what to do with an epoch follows from the epoch key alone.

use std::collections::HashMap;

use redis::cluster_routing::Slot;
use tidemill_core::{Epoch, Error, Result};

use super::template::tag;

/// Fields of the epoch key.
pub(crate) const INSTANCE: &str = "instance";
pub(crate) const EPOCH: &str = "epoch";

/// What the epoch key holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The newest committer.
    pub instance: Option<u64>,
    /// The last epoch that is in Redis.
    pub epoch: Option<Epoch>,
}

/// What a committer does about an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A newer committer has taken over.
    Fenced,
    /// Its writes are in Redis already.
    Nothing,
    /// They are to be written.
    Write,
}

/// What committer `instance` does about `epoch`. A number below its own is of a Redis that has lost writes.
pub(crate) fn decide(stored: Stored, instance: u64, epoch: Epoch) -> Decision {
    match stored {
        Stored { instance: Some(newest), .. } if newest > instance => Decision::Fenced,
        Stored { epoch: Some(last), .. } if last >= epoch => Decision::Nothing,
        _ => Decision::Write,
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its epoch key.
    pub key: String,
}

/// The units of a sink.
#[derive(Debug)]
pub(crate) struct Units {
    pub units: Vec<Unit>,
    /// Which unit the keys of a slot belong to; empty where there is only one.
    of_slot: HashMap<Slot, usize>,
}

/// Where the keys of a sink can be, in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Places {
    /// Anywhere.
    Scattered,
    /// Where these keys are.
    Of(Vec<Vec<u8>>),
}

impl Units {
    /// The units of the sink `node` of `job`.
    ///
    /// # Errors
    /// A configuration error where no transaction can write all keys of a cluster.
    pub fn new(job: &str, node: &str, is_cluster: bool, places: &Places) -> Result<Self> {
        if !is_cluster {
            let key = format!("tidemill:{job}:{node}:epoch");
            return Ok(Self { units: vec![Unit { key }], of_slot: HashMap::new() });
        }
        let Places::Of(keys) = places else {
            let message = "in a cluster a transaction writes the keys of one slot, and those of this sink can \
                           be in any: give them a hash tag of their own, as in '{{revenue}}:{user_id}', or \
                           write 'sink.delivery-guarantee' = 'at-least-once'";
            return Err(Error::option("sink.delivery-guarantee", message));
        };
        let mut units = Vec::new();
        let mut of_slot = HashMap::new();
        for key in keys {
            let slot = slot(key);
            if of_slot.contains_key(&slot) {
                continue;
            }
            let tag = tag(key).map_or(&key[..], |tag| &key[tag]);
            let tag = String::from_utf8_lossy(tag);
            let epoch_key = format!("tidemill:{{{tag}}}:{job}:{node}:epoch");
            if self::slot(epoch_key.as_bytes()) != slot {
                let key = String::from_utf8_lossy(key);
                let message = format!(
                    "'{key}' has a brace in its name, so that no epoch key can be beside it in a cluster: \
                     choose another name"
                );
                return Err(Error::option("sink.delivery-guarantee", message));
            }
            of_slot.insert(slot, units.len());
            units.push(Unit { key: epoch_key });
        }
        Ok(Self { units, of_slot })
    }

    /// The unit that `key` belongs to; `None` where it is none of the sink's.
    pub fn of(&self, key: &[u8]) -> Option<usize> {
        if self.of_slot.is_empty() { Some(0) } else { self.of_slot.get(&slot(key)).copied() }
    }
}

fn slot(key: &[u8]) -> Slot {
    Slot::for_key(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_written_once_by_the_newest_committer() {
        let stored = |instance, epoch| Stored { instance, epoch };
        assert_eq!(decide(stored(Some(3), Some(6)), 3, 7), Decision::Write);
        assert_eq!(decide(stored(Some(3), Some(7)), 3, 7), Decision::Nothing);
        assert_eq!(decide(stored(Some(3), Some(9)), 3, 7), Decision::Nothing);
        assert_eq!(decide(stored(Some(4), Some(6)), 3, 7), Decision::Fenced);
        assert_eq!(decide(stored(Some(4), Some(7)), 3, 7), Decision::Fenced, "even to say so");
        assert_eq!(decide(stored(None, None), 3, 7), Decision::Write, "Redis was emptied");
        assert_eq!(decide(stored(Some(2), Some(4)), 3, 7), Decision::Write, "Redis went back");
    }

    #[test]
    fn epoch_keys_of_a_cluster_are_beside_the_keys_that_they_speak_of() {
        let keys =
            |keys: &[&str]| Places::Of(keys.iter().map(|key| key.as_bytes().to_vec()).collect());
        let units =
            Units::new("job", "sink", true, &keys(&["{eu}:orders:0", "{eu}:orders:1"])).unwrap();
        assert_eq!(units.units, [Unit { key: "tidemill:{eu}:job:sink:epoch".into() }]);
        let streams = ["orders:0", "orders:1", "orders:2"];
        let units = Units::new("job", "sink", true, &keys(&streams)).unwrap();
        for stream in streams {
            let unit = &units.units[units.of(stream.as_bytes()).unwrap()];
            assert_eq!(slot(unit.key.as_bytes()), slot(stream.as_bytes()), "{unit:?}");
        }
        assert_eq!(units.of(b"somewhere else"), None);
        let refused = |places: &Places| Units::new("j", "s", true, places).unwrap_err().to_string();
        assert!(refused(&Places::Scattered).contains("{{revenue}}:{user_id}"));
        assert!(refused(&keys(&["a}b"])).contains("brace"));
        let single = Units::new("job", "sink", false, &Places::Scattered).unwrap();
        assert_eq!(single.of(b"anything"), Some(0));
        assert_eq!(single.units[0].key, "tidemill:job:sink:epoch");
    }
}
