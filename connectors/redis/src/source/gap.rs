//! Entries that are gone before they were read, and streams that are not what they were. Decided from the
//! position and what Redis tells of the stream; nothing here asks anybody.
//!
//! Two facts carry the judgement. Trimming takes the oldest: as long as an entry is there that had been read by
//! some earlier look, no entry behind that look's position was trimmed. And each entry that the stream has no
//! more, was counted when it was read, or is missing: those removed less those counted that are in front of the
//! first are the ones that nobody has read. Whether these were trimmed or deleted by their ids is certain
//! where the newest deleted id is not behind the place up to which the count is sure.

use metrics::counter;
use tidemill_core::{Error, Result};

use super::config::OutOfRange;
use super::id::EntryId;
use super::info::StreamInfo;

/// A position, and how many entries the stream has had up to there, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub at: EntryId,
    pub count: Option<u64>,
    /// Up to there `count` has been found right; behind it, entries that were deleted by their ids before they
    /// were read may be missing in it.
    pub sure: EntryId,
}

impl Place {
    /// A place with a count that is right.
    pub fn sure(at: EntryId, count: Option<u64>) -> Self {
        Self { at, count, sure: at }
    }
}

/// What a reader knows when it looks whether anything is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub place: Place,
    /// No entry was trimmed unread up to there.
    pub whole: EntryId,
    /// The position at the last look.
    pub since: EntryId,
    /// What has been read behind it.
    pub recent: &'a [EntryId],
}

impl Look<'_> {
    /// At a place behind which nothing was read.
    pub fn first(place: Place) -> Self {
        Self { place, whole: place.sure, since: place.at, recent: &[] }
    }
}

/// What has become of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is gone, and the count is right.
    Fine,
    /// So many entries are in front of the position; those that were not read were deleted by their ids, or
    /// this was not known.
    Counted(u64),
    /// Nothing was trimmed unread, but entries may have been deleted by their ids: the count is not sure.
    Whole,
    /// It cannot be told yet whether anything is gone.
    Open,
    /// At most so many entries are gone that nobody has read; trimmed or deleted by their ids, or some of
    /// each.
    Doubt(Option<u64>),
    /// So many entries were trimmed before they were read.
    Trimmed(u64),
    /// The stream ends before the position, or has had fewer entries: it lost some, or is another one.
    Replaced,
}

/// What has become of a position.
pub(crate) fn judge(look: Look<'_>, info: &StreamInfo) -> Verdict {
    let Place { at, count, sure } = look.place;
    let is_whole = info.first.is_some_and(|first| first <= look.whole);
    let Some(count) = count else { return uncounted(at, is_whole, info) };
    if info.last < at || info.added < count {
        return Verdict::Replaced;
    }
    let removed = info.added.saturating_sub(info.length);
    let in_front = in_front_of_first(look, count, info);
    // What was read in front of the first has been removed by now.
    if in_front.is_some_and(|count| count > removed) {
        return Verdict::Replaced;
    }
    let missing = match info.last == at {
        true => Some(info.added - count),
        false => in_front.map(|count| removed - count),
    };
    match missing {
        Some(0) => Verdict::Fine,
        Some(_) if is_whole => Verdict::Counted(info.added),
        Some(missing) if info.deleted <= sure => Verdict::Trimmed(missing),
        missing @ Some(_) => Verdict::Doubt(missing),
        None if is_whole && info.deleted <= sure => Verdict::Fine,
        None if is_whole => Verdict::Whole,
        None => Verdict::Open,
    }
}

/// How many entries were counted in front of the first that there is; `None` where that was before the last
/// look.
fn in_front_of_first(look: Look<'_>, count: u64, info: &StreamInfo) -> Option<u64> {
    let Some(first) = info.first else { return Some(count) };
    let behind = look.recent.len() - look.recent.partition_point(|id| *id < first);
    (first > look.since).then(|| count.saturating_sub(behind as u64))
}

/// The same where nobody has counted.
fn uncounted(at: EntryId, is_whole: bool, info: &StreamInfo) -> Verdict {
    if info.last == at {
        Verdict::Counted(info.added)
    } else if is_whole || info.last < at {
        Verdict::Whole
    } else {
        Verdict::Doubt(None)
    }
}

impl Verdict {
    /// The same where nothing is read any more, behind `at`.
    pub fn at_end(self, at: EntryId, info: &StreamInfo) -> Self {
        let goes_on = info.last > at && info.first.is_none_or(|first| first > at);
        match self {
            Self::Open => Self::Doubt(None),
            // It was trimmed further than it was to be read.
            Self::Trimmed(lost) if goes_on => Self::Doubt(Some(lost)),
            verdict => verdict,
        }
    }
}

impl Look<'_> {
    /// The place with the count that `info` tells, where it does.
    fn counted(&self, info: &StreamInfo) -> Place {
        let place = self.place;
        if info.last == place.at {
            return Place::sure(place.at, Some(info.added));
        }
        let first = info.first.unwrap_or(info.last.next());
        let behind = self.recent.len() - self.recent.partition_point(|id| *id < first);
        // One that was read and deleted behind the first would count twice.
        if first <= self.since || (behind > 0 && info.deleted >= first) {
            return place;
        }
        let removed = info.added.saturating_sub(info.length);
        Place::sure(place.at, Some(removed + behind as u64))
    }
}

/// How many entries are in front of `at`, where the stream alone tells.
pub(crate) fn count(at: EntryId, info: &StreamInfo) -> Option<u64> {
    if at >= info.last {
        Some(info.added)
    } else if info.first.is_none_or(|first| first > at) {
        Some(info.added.saturating_sub(info.length))
    } else {
        None
    }
}

/// What to do about a stream whose position is not there any more.
pub(crate) struct Policy<'a> {
    pub stream: &'a str,
    pub server: &'a str,
    pub policy: OutOfRange,
}

impl Policy<'_> {
    /// Where to go on after `verdict`. `seen` is how many entries the stream is known to have had.
    ///
    /// # Errors
    /// Entries are gone, and the source is told to fail then.
    pub fn go_on(
        &self,
        verdict: Verdict,
        look: Look<'_>,
        seen: u64,
        info: &StreamInfo,
    ) -> Result<Place> {
        let place = look.place;
        let count = place.count.unwrap_or(0);
        match verdict {
            Verdict::Fine => Ok(Place { sure: place.at, ..place }),
            Verdict::Counted(count) => Ok(Place::sure(place.at, Some(count))),
            Verdict::Whole | Verdict::Open => Ok(place),
            Verdict::Doubt(missing) => {
                tracing::warn!("{}", self.doubtful(look.whole, missing));
                Ok(look.counted(info))
            }
            Verdict::Trimmed(lost) => {
                let on = Place::sure(place.at, Some(count + lost));
                self.skip(self.trimmed(look.whole, lost), lost, on, info)
            }
            Verdict::Replaced => {
                let unread = seen.saturating_sub(place.count.unwrap_or(seen));
                let removed = info.added.saturating_sub(info.length);
                let on = Place::sure(EntryId::ZERO, Some(removed));
                self.skip(self.replaced(place, unread, info), unread, on, info)
            }
        }
    }

    /// Goes on at `on`, the oldest entry that there is, or at the end, where the source is told to.
    fn skip(&self, gap: String, lost: u64, on: Place, info: &StreamInfo) -> Result<Place> {
        let (on, skipped) = match self.policy {
            OutOfRange::Fail => {
                let message = format!(
                    "{gap}; set 'scan.out-of-range' = 'earliest' or 'latest' to go on all the same"
                );
                return Err(Error::external(message));
            }
            OutOfRange::Earliest => (on, 0),
            OutOfRange::Latest => {
                let end = Place::sure(info.last, Some(info.added));
                (end, info.added.saturating_sub(on.count.unwrap_or(info.added)))
            }
        };
        let lost = lost + skipped;
        tracing::warn!(
            "{gap}; going on behind {}, {lost} entries lost ('scan.out-of-range')",
            on.at
        );
        lose(self.stream, lost);
        Ok(on)
    }

    /// So many entries were pending and are in the stream no more.
    ///
    /// # Errors
    /// The source is told to fail then.
    pub fn gone(&self, entries: u64) -> Result<()> {
        let gap = format!(
            "{entries} entries of stream '{}' at {} were deleted or trimmed while they were pending: \
             raise the MAXLEN of whoever writes",
            self.stream, self.server
        );
        if self.policy == OutOfRange::Fail {
            let message =
                format!("{gap}; set 'scan.out-of-range' = 'earliest' to go on all the same");
            return Err(Error::external(message));
        }
        tracing::warn!("{gap}; {entries} entries lost ('scan.out-of-range')");
        lose(self.stream, entries);
        Ok(())
    }

    /// The consumer group is gone that a checkpoint tells of.
    ///
    /// # Errors
    /// The source is told to fail then.
    pub fn group_gone(&self, group: &str) -> Result<()> {
        let gap = format!(
            "consumer group '{group}' of stream '{}' at {} is gone: it was deleted, or Redis has lost \
             its data. What its consumers had not acknowledged is known to nobody",
            self.stream, self.server
        );
        if self.policy == OutOfRange::Fail {
            let message = format!(
                "{gap}; set 'scan.out-of-range' = 'earliest' to make it again behind the checkpoint"
            );
            return Err(Error::external(message));
        }
        tracing::warn!("{gap}; it is made again ('scan.out-of-range')");
        Ok(())
    }

    fn trimmed(&self, whole: EntryId, lost: u64) -> String {
        format!(
            "{lost} entries of stream '{}' at {} were trimmed before they were read, behind {whole}: raise \
             the MAXLEN of whoever writes, or read faster",
            self.stream, self.server
        )
    }

    fn doubtful(&self, whole: EntryId, missing: Option<u64>) -> String {
        let many = missing.map_or_else(String::new, |missing| format!("up to {missing} "));
        format!(
            "{many}entries of stream '{}' at {} may have been trimmed before they were read, behind \
             {whole}: it has been trimmed, and which of the entries that are gone were read, or deleted \
             with XDEL, cannot be told; they are not in tidemill_redis_entries_lost_total",
            self.stream, self.server
        )
    }

    fn replaced(&self, place: Place, unread: u64, info: &StreamInfo) -> String {
        let read = place.count.unwrap_or(0);
        let gone = match read.saturating_sub(info.added) {
            0 => String::new(),
            gone => format!("{gone} entries that had been read are not in it any more, and "),
        };
        format!(
            "stream '{}' at {} is not what it was: {read} entries have been read, up to {}, and it \
             has had {} up to {}. It was deleted and created again, or Redis has lost its data (it \
             was restarted without persistence). {gone}at least {unread} that had not been read are \
             lost",
            self.stream, self.server, place.at, info.added, info.last
        )
    }
}

/// Counts entries that nobody will read.
pub(crate) fn lose(stream: &str, entries: u64) {
    counter!("tidemill_redis_entries_lost_total", "stream" => stream.to_owned()).increment(entries);
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn id(millis: u64) -> EntryId {
        EntryId { millis, number: 0 }
    }

    /// A stream that has had the entries 1 to `added`, and has those from `first` on.
    fn stream(first: u64, added: u64) -> StreamInfo {
        let first = Some(first).filter(|first| *first <= added);
        StreamInfo {
            length: first.map_or(0, |first| added + 1 - first),
            added,
            last: id(added),
            first: first.map(id),
            deleted: EntryId::ZERO,
        }
    }

    fn look(at: u64, count: Option<u64>) -> Look<'static> {
        Look::first(Place::sure(id(at), count))
    }

    fn verdict(at: u64, count: Option<u64>, info: &StreamInfo) -> Verdict {
        judge(look(at, count), info)
    }

    #[test]
    fn trimming_behind_the_position_costs_nothing() {
        for first in 1..=5 {
            assert_eq!(verdict(4, Some(4), &stream(first, 9)), Verdict::Fine, "{first}");
        }
        assert_eq!(verdict(9, Some(9), &stream(10, 9)), Verdict::Fine, "all trimmed, all read");
        assert_eq!(verdict(0, Some(0), &StreamInfo::default()), Verdict::Fine);
    }

    #[test]
    fn trimming_past_the_position_is_counted_exactly() {
        assert_eq!(verdict(4, Some(4), &stream(6, 9)), Verdict::Trimmed(1));
        assert_eq!(verdict(4, Some(4), &stream(10, 9)), Verdict::Trimmed(5), "all of it");
        // Between two looks: 3 was the last then, and 8 and 9 were read since.
        let recent = [id(8), id(9)];
        let place = Place { at: id(9), count: Some(5), sure: id(3) };
        let later = Look { place, whole: id(3), since: id(3), recent: &recent };
        assert_eq!(judge(later, &stream(8, 9)), Verdict::Trimmed(4));
        assert_eq!(judge(later, &stream(8, 12)), Verdict::Trimmed(4), "with more behind it");
        assert_eq!(judge(later, &stream(3, 12)), Verdict::Fine, "3 is there still");
        assert_eq!(verdict(4, None, &stream(6, 9)), Verdict::Doubt(None));
        assert_eq!(verdict(4, None, &stream(3, 9)), Verdict::Whole);
    }

    #[test]
    fn deleting_entries_by_id_is_nobodys_loss() {
        let place = Place { at: id(9), count: Some(7), sure: id(3) };
        let look = Look { place, whole: id(8), since: id(8), recent: &[id(9)] };
        let info = StreamInfo { deleted: id(5), length: 7, ..stream(1, 9) };
        assert_eq!(judge(look, &info), Verdict::Counted(9));
        let trimmed = StreamInfo { length: 1, first: Some(id(9)), ..info };
        assert_eq!(judge(look, &trimmed), Verdict::Doubt(Some(2)), "and it was trimmed");
    }

    #[test]
    fn another_stream_of_the_same_name_is_recognised() {
        let replaced = Verdict::Replaced;
        assert_eq!(verdict(9, Some(9), &StreamInfo::default()), replaced, "it is gone");
        assert_eq!(verdict(9, Some(9), &stream(1, 5)), replaced, "it ends before");
        let later = StreamInfo { last: id(99), first: Some(id(90)), ..stream(1, 5) };
        assert_eq!(verdict(9, Some(9), &later), replaced, "its ids go on, its count does not");
        let longer = StreamInfo { last: id(99), first: Some(id(90)), ..stream(1, 20) };
        assert_eq!(
            verdict(9, Some(9), &longer),
            replaced,
            "it has lost none, and not what was read"
        );
    }

    #[test]
    fn what_is_lost_is_said_or_skipped() {
        let info = stream(6, 9);
        let look = look(4, Some(4));
        let go_on = |policy| {
            let policy = Policy { stream: "s", server: "h:1", policy };
            policy.go_on(judge(look, &info), look, 9, &info)
        };
        let error = go_on(OutOfRange::Fail).unwrap_err().to_string();
        for part in ["1 entries", "'s'", "h:1", "4-0", "scan.out-of-range"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(go_on(OutOfRange::Earliest).unwrap(), Place::sure(id(4), Some(5)));
        assert_eq!(go_on(OutOfRange::Latest).unwrap(), Place::sure(id(9), Some(9)));
    }

    /// A stream, and a reader that looks now and then.
    struct World {
        there: Vec<u64>,
        added: u64,
        deleted: u64,
        /// Trimmed before they were read, and deleted by their ids before that; said so far.
        lost: u64,
        unread_deleted: bool,
        place: Place,
        whole: EntryId,
        since: EntryId,
        recent: Vec<EntryId>,
    }

    impl World {
        fn info(&self) -> StreamInfo {
            StreamInfo {
                length: self.there.len() as u64,
                added: self.added,
                last: id(self.added),
                first: self.there.first().copied().map(id),
                deleted: id(self.deleted),
            }
        }

        fn act(&mut self, what: u32, size: u64) {
            let at = self.place.at.millis;
            match what {
                0..=3 => {
                    self.there.extend(self.added + 1..=self.added + size);
                    self.added += size;
                }
                4 => {
                    let trimmed = self.there.len().min(size as usize);
                    self.lost += self.there.drain(..trimmed).filter(|n| *n > at).count() as u64;
                }
                5 if !self.there.is_empty() => {
                    let n = self.there.remove(size as usize % self.there.len());
                    self.deleted = self.deleted.max(n);
                    self.unread_deleted |= n > at;
                }
                6..=9 => {
                    let next = self.there.partition_point(|n| *n <= at);
                    let mut read = self.there[next..].iter().take(size as usize).copied().map(id);
                    self.recent.extend(read.clone());
                    self.place.count = self.place.count.map(|count| count + read.len() as u64);
                    self.place.at = read.next_back().unwrap_or(self.place.at);
                }
                _ => {}
            }
        }

        /// It goes on from what a checkpoint holds.
        fn restart(&mut self) {
            (self.whole, self.since) = (self.place.sure, self.place.at);
            self.recent.clear();
        }

        /// What the look has said.
        fn look(&mut self) -> Verdict {
            let info = self.info();
            let (place, whole, since) = (self.place, self.whole, self.since);
            let look = Look { place, whole, since, recent: &self.recent };
            let verdict = judge(look, &info);
            let policy = Policy { stream: "s", server: "h:1", policy: OutOfRange::Earliest };
            self.place = policy.go_on(verdict, look, info.added, &info).unwrap();
            if verdict != Verdict::Open {
                self.whole = self.place.at;
            }
            self.since = self.place.at;
            self.recent.clear();
            verdict
        }
    }

    #[test]
    fn no_loss_is_passed_over_and_none_is_made_up() {
        let mut said = [0; 3];
        for seed in 0..3000 {
            let mut random = StdRng::seed_from_u64(seed);
            let place = Place::sure(EntryId::ZERO, Some(0));
            let mut world = World {
                there: Vec::new(),
                added: 0,
                deleted: 0,
                lost: 0,
                unread_deleted: false,
                place,
                whole: place.at,
                since: place.at,
                recent: Vec::new(),
            };
            // Without entries that are deleted by their ids everything is exact.
            let kinds = if seed % 2 == 0 { 10 } else { 9 };
            for step in 0..200 {
                let what = random.random_range(0..kinds);
                let what = if kinds == 9 && what >= 5 { what + 1 } else { what };
                world.act(what, random.random_range(1..8));
                if random.random_range(0..20) == 0 {
                    world.restart();
                }
                if random.random_range(0..4) > 0 && step < 199 {
                    continue;
                }
                let verdict = world.look();
                let context = format!("seed {seed}, step {step}: {verdict:?}, {}", world.lost);
                match verdict {
                    Verdict::Trimmed(lost) => {
                        said[0] += 1;
                        assert!(lost >= world.lost && world.lost > 0, "{context}");
                        assert!(lost == world.lost || world.unread_deleted, "{context}");
                    }
                    Verdict::Doubt(most) => {
                        said[1] += 1;
                        assert!(kinds == 10 && most.is_none_or(|n| n >= world.lost), "{context}");
                    }
                    Verdict::Open => {
                        said[2] += 1;
                        continue;
                    }
                    Verdict::Replaced => panic!("{context}"),
                    _ => assert_eq!(world.lost, 0, "{context}"),
                }
                world.lost = 0;
            }
        }
        assert!(said.iter().all(|times| *times > 100), "{said:?}");
    }
}
