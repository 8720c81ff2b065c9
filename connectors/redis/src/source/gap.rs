//! Entries that are gone before they were read, and streams that are not what they were. Decided from the
//! position and what Redis tells of the stream; nothing here asks anybody.
//!
//! How many entries a stream has had up to a position tells what is between: of those ever added, the ones
//! that it has no more are the oldest, as trimming goes.

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
}

/// What has become of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next entry is there, or will come.
    Fine,
    /// So many entries are in front of the position: this was not known, or some were deleted by hand.
    Counted(u64),
    /// The next entries are gone; how many, where that is known.
    Trimmed(Option<u64>),
    /// The stream ends before the position, or has had fewer entries: it lost some, or is another one.
    Replaced,
}

/// What has become of `place`. `checked` is where the position was when this was asked last.
pub(crate) fn judge(place: Place, checked: EntryId, info: &StreamInfo) -> Verdict {
    let removed = info.added.saturating_sub(info.length);
    let is_trimmed = info.first.is_none_or(|first| first > place.at) && info.last > place.at;
    match place.count {
        Some(count) if info.last < place.at || info.added < count => Verdict::Replaced,
        // What was read last has been removed by now, so it is among those.
        Some(count) if is_trimmed && count > removed => Verdict::Replaced,
        Some(count) if is_trimmed && count < removed => Verdict::Trimmed(Some(removed - count)),
        Some(count) if info.last == place.at && count < info.added => {
            if info.deleted > checked {
                Verdict::Counted(info.added)
            } else {
                Verdict::Trimmed(Some(info.added - count))
            }
        }
        Some(_) => Verdict::Fine,
        None if info.last == place.at => Verdict::Counted(info.added),
        None if is_trimmed && info.last > EntryId::ZERO => Verdict::Trimmed(None),
        None => Verdict::Fine,
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
    /// Where to go on, by `verdict`. `seen` is how many entries the stream was known to have had.
    ///
    /// # Errors
    /// Entries are gone, and the source is told to fail then.
    pub fn go_on(
        &self,
        verdict: Verdict,
        place: Place,
        seen: u64,
        info: &StreamInfo,
    ) -> Result<Place> {
        let (gap, lost) = match verdict {
            Verdict::Fine => return Ok(place),
            Verdict::Counted(count) => return Ok(Place { count: Some(count), ..place }),
            Verdict::Trimmed(lost) => (self.trimmed(place, lost), lost),
            Verdict::Replaced => {
                let unread = seen.saturating_sub(place.count.unwrap_or(seen));
                (self.replaced(place, unread, info), Some(unread))
            }
        };
        let earliest = match verdict {
            Verdict::Replaced => EntryId::ZERO,
            _ => place.at,
        };
        let removed = info.added.saturating_sub(info.length);
        let (on, skipped) = match self.policy {
            OutOfRange::Fail => {
                let message = format!(
                    "{gap}; set 'scan.out-of-range' = 'earliest' or 'latest' to go on all the same"
                );
                return Err(Error::external(message));
            }
            // At the end of the stream nothing is between what is gone and what comes.
            OutOfRange::Earliest if info.last == place.at => {
                (Place { at: earliest, count: Some(info.added) }, 0)
            }
            OutOfRange::Earliest => (Place { at: earliest, count: Some(removed) }, 0),
            OutOfRange::Latest => (Place { at: info.last, count: Some(info.added) }, info.length),
        };
        let lost = lost.unwrap_or(0) + skipped;
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

    fn trimmed(&self, place: Place, lost: Option<u64>) -> String {
        let many = lost.map_or_else(|| "entries".to_owned(), |lost| format!("{lost} entries"));
        format!(
            "{many} of stream '{}' at {} were trimmed before they were read, behind {}: raise the \
             MAXLEN of whoever writes, or read faster",
            self.stream, self.server, place.at
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

    fn verdict(at: u64, count: Option<u64>, info: &StreamInfo) -> Verdict {
        judge(Place { at: id(at), count }, EntryId::ZERO, info)
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
        assert_eq!(verdict(4, Some(4), &stream(6, 9)), Verdict::Trimmed(Some(1)));
        assert_eq!(verdict(4, Some(4), &stream(10, 9)), Verdict::Trimmed(Some(5)), "all of it");
        assert_eq!(
            verdict(9, Some(7), &stream(9, 9)),
            Verdict::Trimmed(Some(2)),
            "between two looks"
        );
        assert_eq!(verdict(4, None, &stream(6, 9)), Verdict::Trimmed(None));
        assert_eq!(verdict(4, None, &stream(3, 9)), Verdict::Fine);
    }

    #[test]
    fn deleting_entries_by_id_is_nobodys_loss() {
        let info = StreamInfo { deleted: id(5), length: 7, ..stream(1, 9) };
        assert_eq!(verdict(9, Some(7), &info), Verdict::Counted(9));
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
        let place = Place { at: id(4), count: Some(4) };
        let info = stream(6, 9);
        let go_on = |policy| {
            let policy = Policy { stream: "s", server: "h:1", policy };
            policy.go_on(judge(place, EntryId::ZERO, &info), place, 9, &info)
        };
        let error = go_on(OutOfRange::Fail).unwrap_err().to_string();
        for part in ["1 entries", "'s'", "h:1", "4-0", "scan.out-of-range"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(go_on(OutOfRange::Earliest).unwrap(), Place { at: id(4), count: Some(5) });
        assert_eq!(go_on(OutOfRange::Latest).unwrap(), Place { at: id(9), count: Some(9) });
    }
}
