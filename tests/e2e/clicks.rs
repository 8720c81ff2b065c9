//! The input of tests of delivery: clicks in JSON, out of order, some of them late, some that the job filters
//! out, some that are no clicks; the same for the same seed.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where clicks go: a producer of partitions.
pub trait Destination {
    /// Writes a record into a partition; waits while too many are under way.
    fn write(&mut self, partition: usize, key: &[u8], payload: &[u8]);
}

/// Users, and so keys.
const USERS: i64 = 500;

/// Input starts at noon, so that no window reaches into the day before.
const NOON: i64 = 12 * 3_600_000;

const DAY: i64 = 24 * 3_600_000;

/// One partition's clicks. Times are milliseconds of January 2024.
pub struct Clicks {
    rng: ChaCha8Rng,
    partition: usize,
    now: i64,
    written: u64,
    buffer: Vec<u8>,
}

impl Clicks {
    /// Those of a partition, from noon on.
    pub fn of(seed: u64, partition: usize) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed << 16 | partition as u64);
        Self { rng, partition, now: NOON, written: 0, buffer: Vec::new() }
    }

    /// The same, from another time on.
    #[must_use]
    pub fn starting_at(self, now: i64) -> Self {
        Self { now, ..self }
    }

    /// The time that they have reached.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Writes the next one.
    pub fn write(&mut self, to: &mut impl Destination) {
        self.written += 1;
        self.buffer.clear();
        let user = self.rng.random_range(0..USERS);
        if self.written % 1000 == 500 {
            write!(self.buffer, "{{\"user_id\": nobody, \"number\": {}}}", self.written).unwrap();
        } else {
            self.now += self.rng.random_range(0..40);
            let behind = match self.rng.random_range(0..50) {
                0 => self.rng.random_range(0..60_000),
                1..6 => self.rng.random_range(0..6_000),
                _ => 0,
            };
            let amount = self.rng.random_range(-3..20);
            self.compose(user, self.now - behind, amount);
        }
        to.write(self.partition, user.to_string().as_bytes(), &self.buffer);
    }

    /// Writes a click so far ahead that all windows of those before it fire.
    pub fn write_sentinel(&mut self, to: &mut impl Destination) {
        self.now += 3_600_000;
        self.buffer.clear();
        self.compose(0, self.now, 1);
        to.write(self.partition, b"0", &self.buffer);
    }

    fn compose(&mut self, user: i64, at: i64, amount: i64) {
        let at = text(at);
        write!(self.buffer, r#"{{"user_id":{user},"ts":"{at}","amount":{amount}}}"#).unwrap();
    }
}

/// Writes so many clicks, evenly over the partitions.
pub fn fill(to: &mut impl Destination, partitions: usize, seed: u64, records: u64) {
    let mut clicks: Vec<Clicks> = (0..partitions).map(|p| Clicks::of(seed, p)).collect();
    for number in 0..records {
        clicks[number as usize % partitions].write(to);
    }
}

/// Clicks written before the producer rests for [`PAUSE`].
const BURST: usize = 200;
const PAUSE: Duration = Duration::from_millis(40);

/// Writes clicks until told to stop, then one into every partition that closes all windows before it.
/// `rest` is called between bursts.
pub fn produce<D: Destination>(
    to: &mut D,
    partitions: usize,
    stop: &AtomicBool,
    rest: impl Fn(&mut D),
) {
    let mut clicks: Vec<Clicks> = (0..partitions).map(|p| Clicks::of(3, p)).collect();
    while !stop.load(Ordering::SeqCst) {
        for number in 0..BURST {
            clicks[number % partitions].write(to);
        }
        rest(to);
        thread::park_timeout(PAUSE);
    }
    clicks.iter_mut().for_each(|clicks| clicks.write_sentinel(to));
}

/// Tells a producer to stop, so that a test that fails does not wait for it.
pub struct StopsWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for StopsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A time of January 2024 as SQL writes it.
pub fn text(millis: i64) -> String {
    let (day, millis) = (1 + millis / DAY, millis % DAY);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("2024-01-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// What [`text`] wrote; whole seconds may stand without their fraction.
pub fn millis(text: &str) -> Option<i64> {
    let rest = text.strip_prefix("2024-01-")?;
    let number = |range: std::ops::Range<usize>| rest.get(range)?.parse::<i64>().ok();
    let fraction = match rest.get(11..)? {
        "" => 0,
        fraction => fraction.strip_prefix('.').filter(|f| f.len() == 3)?.parse().ok()?,
    };
    let seconds = (number(3..5)? * 60 + number(6..8)?) * 60 + number(9..11)?;
    Some((number(0..2)? - 1) * DAY + seconds * 1000 + fraction)
}

#[test]
fn times_are_read_as_they_are_written() {
    for time in [0, NOON + 1, DAY - 1, DAY, 30 * DAY + 3_723_004] {
        assert_eq!(millis(&text(time)), Some(time));
    }
    assert_eq!(millis("2024-01-02 00:00:01"), Some(DAY + 1000));
}
