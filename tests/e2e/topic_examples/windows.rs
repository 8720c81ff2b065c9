//! Which rows count in which windows: plain Rust over the records of a topic, partition by partition.

use std::collections::BTreeMap;

/// Out-of-orderness of all examples, in milliseconds.
const BEHIND: i64 = 5_000;

/// Milliseconds since 2026-01-01 of a time such as `2026-01-01 00:03:20.500`, on that day or the one
/// before.
pub fn millis(time: &str) -> i64 {
    let number = |from: usize, to: usize| time[from..to].parse::<i64>().unwrap();
    let day = match &time[..10] {
        "2025-12-31" => -1,
        "2026-01-01" => 0,
        _ => panic!("{time} is not of these days"),
    };
    let minutes = (day * 24 + number(11, 13)) * 60 + number(14, 16);
    let fraction = if time.len() > 20 { number(20, 23) } else { 0 };
    (minutes * 60 + number(17, 19)) * 1_000 + fraction
}

/// The time of a whole minute, as results write it.
pub fn minute(millis: i64) -> String {
    let minutes = millis.div_euclid(60_000);
    assert!(minutes < 24 * 60 && millis % 60_000 == 0, "{millis}");
    let day = if minutes < 0 { "2025-12-31" } else { "2026-01-01" };
    let minutes = minutes.rem_euclid(24 * 60);
    format!("{day} {:02}:{:02}:00", minutes / 60, minutes % 60)
}

/// Tumbling windows of one length.
pub struct Windows<K, V> {
    size: i64,
    /// Highest time of each partition so far.
    newest: BTreeMap<i32, i64>,
    groups: BTreeMap<(i64, K), V>,
    pub late: u64,
}

impl<K: Ord, V: Default> Windows<K, V> {
    /// Windows of so many milliseconds over these partitions.
    pub fn new(size: i64, partitions: i32) -> Self {
        let newest = (0..partitions).map(|partition| (partition, i64::MIN / 2)).collect();
        Self { size, newest, groups: BTreeMap::new(), late: 0 }
    }

    /// A row: raises its partition's watermark, and counts unless that had passed its window's end.
    /// `key` is `None` for a row that no window is for.
    pub fn add(&mut self, partition: i32, time: i64, key: Option<K>, count: impl FnOnce(&mut V)) {
        let newest = self.newest.get_mut(&partition).unwrap();
        let watermark = *newest - BEHIND;
        *newest = time.max(*newest);
        let start = time.div_euclid(self.size) * self.size;
        let Some(key) = key else { return };
        if start + self.size <= watermark {
            self.late += 1;
        } else {
            count(self.groups.entry((start, key)).or_default());
        }
    }

    /// The windows that have fired, by the least watermark of all partitions.
    pub fn fired(self) -> BTreeMap<(i64, K), V> {
        let watermark = self.newest.values().min().unwrap() - BEHIND;
        let fired = |start: i64| start + self.size <= watermark;
        self.groups.into_iter().filter(|((start, _), _)| fired(*start)).collect()
    }

    /// All windows, as when the topic has ended.
    pub fn all(self) -> BTreeMap<(i64, K), V> {
        self.groups
    }
}
