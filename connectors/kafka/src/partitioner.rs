//! Which partition a record goes to: the step between a record's bytes and the producer.
//!
//! Invariant: a record with a key goes where every other client would put it (Java's murmur2), whatever
//! shard or run writes it. The hash is fixed for ever.

/// How partitions are chosen (`'sink.partitioner'`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partitioning {
    /// By the hash of the key; without a key, one partition for a while and then the next.
    #[default]
    KeyHash,
    /// Every shard writes into one partition.
    Fixed,
    /// One partition after the other, record by record.
    RoundRobin,
}

impl Partitioning {
    /// Its names in job files, in the order of [`Partitioning::ALL`].
    pub(crate) const NAMES: [&str; 3] = ["default", "fixed", "round-robin"];
    pub(crate) const ALL: [Self; 3] = [Self::KeyHash, Self::Fixed, Self::RoundRobin];
}

/// How many bytes without a key go into one partition before the next is taken: the default
/// `batch.size` of Java's producer, after which it does the same.
const STICKY_BYTES: usize = 16 * 1024;

/// Chooses partitions for the records of one shard.
#[derive(Debug)]
pub(crate) struct Partitioner {
    partitioning: Partitioning,
    shard: usize,
    /// The partition of the next record that has no say in it, before the modulo.
    turn: usize,
    /// Bytes that went into it.
    bytes: usize,
}

impl Partitioner {
    pub fn new(partitioning: Partitioning, shard: usize) -> Self {
        Self { partitioning, shard, turn: shard, bytes: 0 }
    }

    /// The partition, out of `partitions` (at least one), of a record of `bytes` bytes.
    pub fn choose(&mut self, key: Option<&[u8]>, bytes: usize, partitions: i32) -> i32 {
        let among = |turn: usize| (turn % partitions.max(1) as usize) as i32;
        match (self.partitioning, key) {
            (Partitioning::KeyHash, Some(key)) => of_key(key, partitions),
            (Partitioning::KeyHash, None) => {
                let chosen = among(self.turn);
                self.bytes += bytes;
                if self.bytes >= STICKY_BYTES {
                    self.turn = self.turn.wrapping_add(1);
                    self.bytes = 0;
                }
                chosen
            }
            (Partitioning::Fixed, _) => among(self.shard),
            (Partitioning::RoundRobin, _) => {
                let chosen = among(self.turn);
                self.turn = self.turn.wrapping_add(1);
                chosen
            }
        }
    }
}

/// The partition of a key, as Java's default partitioner has it.
pub(crate) fn of_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// MurmurHash2 by Austin Appleby, 32 bits, with the seed that Apache Kafka's clients use.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_java_client() {
        // From org.apache.kafka.common.utils.UtilsTest.
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn keys_go_where_librdkafka_puts_them() {
        let mut state = 42u64;
        for length in 0..200 {
            let key: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            for partitions in [1, 3, 8, 97] {
                // SAFETY: the function reads `len` bytes of the key and none of the other pointers;
                // a key is there, so it does not ask the topic for anything.
                let theirs = unsafe {
                    rdkafka::bindings::rd_kafka_msg_partitioner_murmur2_random(
                        std::ptr::null(),
                        key.as_ptr().cast(),
                        key.len(),
                        partitions,
                        std::ptr::null_mut(),
                        std::ptr::null_mut(),
                    )
                };
                assert_eq!(of_key(&key, partitions), theirs, "length {length}, of {partitions}");
            }
        }
    }

    #[test]
    fn records_without_a_key_stay_for_a_batch_and_then_move_on() {
        let mut partitioner = Partitioner::new(Partitioning::KeyHash, 1);
        let chosen: Vec<i32> =
            (0..8).map(|_| partitioner.choose(None, STICKY_BYTES / 2, 3)).collect();
        assert_eq!(chosen, [1, 1, 2, 2, 0, 0, 1, 1]);
    }

    #[test]
    fn fixed_keeps_a_shard_in_one_partition_and_round_robin_takes_turns() {
        let mut fixed = Partitioner::new(Partitioning::Fixed, 5);
        let mut turns = Partitioner::new(Partitioning::RoundRobin, 0);
        let chosen: Vec<(i32, i32)> = (0..4)
            .map(|n| {
                let key = [n as u8];
                (fixed.choose(Some(&key), 1, 3), turns.choose(Some(&key), 1, 3))
            })
            .collect();
        assert_eq!(chosen, [(2, 0), (2, 1), (2, 2), (2, 0)]);
    }
}
