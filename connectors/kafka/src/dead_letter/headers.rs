//! A letter's provenance as headers of a record, under names that other tools know, and back.
//!
//! ```text
//! the record's own headers │ the names asked for │ tidemill.*
//! ```
//!
//! Invariant: what is read back has exactly the record's own headers, whatever those are called: how many
//! they are is written down.

use jiff::Timestamp;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::{Header, SourceRecord};
use tidemill_core::source::SplitId;
use tidemill_core::{Error, ErrorClass, EventTime, Result};

use super::letter::{Coordinates, Letter, REPLAYS, class, text};

/// How many headers are the record's own.
const OWN_HEADERS: &str = "tidemill.headers";
/// How many bytes a payload had that the topic is too small for.
const OMITTED: &str = "tidemill.payload-omitted";

const CONNECT: &str = "__connect.errors.";
const STREAMS: &str = "__streams.errors.";
const SPRING: &str = "kafka_dlt-";
const OURS: &str = "tidemill.";

/// Whose names the headers of dead letters have, beside Tidemill's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderNames {
    /// Kafka Connect's: `__connect.errors.*`.
    #[default]
    Connect,
    /// Kafka Streams' (KIP-1034): `__streams.errors.*`.
    Streams,
    /// Spring's: `kafka_dlt-*`.
    Spring,
}

impl HeaderNames {
    /// The names called `connect`, `streams` or `spring`.
    ///
    /// # Errors
    /// A configuration error for any other.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "connect" => Ok(Self::Connect),
            "streams" => Ok(Self::Streams),
            "spring" => Ok(Self::Spring),
            _ => Err(Error::option(
                "dead-letters.headers",
                format!(
                    "'dead-letters.headers' = '{name}' must be 'connect', 'streams' or 'spring'"
                ),
            )),
        }
    }
}

/// The headers of a letter in a topic: those of its record, and its provenance.
pub(super) fn of(letter: &Letter, names: HeaderNames) -> Vec<Header> {
    let own = letter.letter.record.headers.iter().filter(|header| header.name != REPLAYS);
    let mut headers: Vec<Header> = own.cloned().collect();
    let count = headers.len();
    match names {
        HeaderNames::Connect => connect(letter, &mut headers),
        HeaderNames::Streams => streams(letter, &mut headers),
        HeaderNames::Spring => spring(letter, &mut headers),
    }
    let DeadLetter { split, record, attempts, first_failed_at, .. } = &letter.letter;
    let mut ours = |name: &str, value: String| {
        headers.push(Header::new(format!("{OURS}{name}"), value));
    };
    ours("class", letter.letter.class.name().to_owned());
    ours("job", letter.job.clone());
    ours("source", letter.source.clone());
    ours("operator", letter.operator.clone());
    ours("split", split.to_string());
    ours("position", record.position.clone());
    ours("epoch", letter.epoch.to_string());
    ours("attempts", attempts.to_string());
    ours("first-failed-at", instant(first_failed_at.unwrap_or(letter.failed_at)));
    ours("failed-at", instant(letter.failed_at));
    if let Some(timestamp) = record.timestamp {
        ours("timestamp", instant(timestamp));
    }
    ours("replays", letter.replays().to_string());
    headers.push(Header::new(OWN_HEADERS, count.to_string()));
    headers
}

/// Says of a letter that its payload of so many bytes is missing.
pub(super) fn omitted(bytes: usize) -> Header {
    Header::new(OMITTED, bytes.to_string())
}

fn exception(letter: &Letter) -> String {
    format!("{OURS}{}", letter.letter.class.name())
}

fn connect(letter: &Letter, headers: &mut Vec<Header>) {
    let mut add = |name: &str, value: String| {
        headers.push(Header::new(format!("{CONNECT}{name}"), value));
    };
    if let Some(Coordinates { topic, partition, offset }) = letter.coordinates() {
        add("topic", topic);
        add("partition", partition.to_string());
        add("offset", offset.to_string());
    }
    let is_source = letter.operator == letter.source;
    add("connector.name", letter.job.clone());
    add("task.id", "0".to_owned());
    add("stage", if is_source { "VALUE_CONVERTER" } else { "TRANSFORMATION" }.to_owned());
    add("class.name", letter.operator.clone());
    add("exception.class.name", exception(letter));
    add("exception.message", letter.letter.reason.clone());
}

fn streams(letter: &Letter, headers: &mut Vec<Header>) {
    let mut add = |name: &str, value: String| {
        headers.push(Header::new(format!("{STREAMS}{name}"), value));
    };
    let reason = &letter.letter.reason;
    add("exception", format!("{}: {reason}", exception(letter)));
    add("message", reason.clone());
    if let Some(Coordinates { topic, partition, offset }) = letter.coordinates() {
        add("topic", topic);
        add("partition", partition.to_string());
        add("offset", offset.to_string());
    }
}

/// Numbers are big-endian bytes here.
fn spring(letter: &Letter, headers: &mut Vec<Header>) {
    let mut add = |name: &str, value: Vec<u8>| {
        headers.push(Header::new(format!("{SPRING}{name}"), value));
    };
    if let Some(Coordinates { topic, partition, offset }) = letter.coordinates() {
        add("original-topic", topic.into_bytes());
        add("original-partition", partition.to_be_bytes().to_vec());
        add("original-offset", offset.to_be_bytes().to_vec());
    }
    if let Some(timestamp) = letter.letter.record.timestamp {
        add("original-timestamp", timestamp.div_euclid(1_000).to_be_bytes().to_vec());
        add("original-timestamp-type", b"CreateTime".to_vec());
    }
    add("exception-fqcn", exception(letter).into_bytes());
    add("exception-message", letter.letter.reason.clone().into_bytes());
}

/// A time as people read it; where the calendar has no such year, in microseconds.
fn instant(at: EventTime) -> String {
    Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

fn parse_instant(text: &str) -> Option<EventTime> {
    let calendar = text.parse::<Timestamp>().map(Timestamp::as_microsecond);
    calendar.ok().or_else(|| text.parse().ok())
}

/// A record of a dead-letter topic as a letter. What Connect, Streams or Spring has written is understood
/// as far as it says something.
pub fn read(record: SourceRecord) -> Letter {
    let SourceRecord { payload, key, headers, timestamp, .. } = record;
    let (own, provenance) = divide(headers);
    let find = Provenance(&provenance);
    let ours = |name: &str| find.text(&format!("{OURS}{name}"));
    let time = |name: &str| ours(name).and_then(parse_instant);
    let failed_at = time("failed-at").or(timestamp).unwrap_or_default();
    let (split, position) = match (ours("split"), ours("position")) {
        (Some(split), Some(position)) => (split.to_owned(), position.to_owned()),
        _ => find.place(),
    };
    let connector = || find.text(&format!("{CONNECT}connector.name"));
    let operator = || find.text(&format!("{CONNECT}class.name"));
    let record =
        SourceRecord { position, payload, key, headers: own, timestamp: time("timestamp") };
    let letter = DeadLetter {
        split: SplitId::new(split),
        record,
        reason: find.reason().to_owned(),
        class: ours("class").and_then(class).unwrap_or(ErrorClass::Permanent),
        attempts: ours("attempts").and_then(|n| n.parse().ok()).unwrap_or(1),
        first_failed_at: time("first-failed-at").or(Some(failed_at)),
    };
    Letter {
        job: ours("job").or_else(connector).unwrap_or_default().to_owned(),
        source: ours("source").unwrap_or_default().to_owned(),
        operator: ours("operator").or_else(operator).unwrap_or_default().to_owned(),
        epoch: ours("epoch").and_then(|n| n.parse().ok()).unwrap_or(0),
        failed_at,
        letter,
    }
}

/// Why a letter cannot be sent again as it was: its payload was too large for the topic.
pub fn omitted_bytes(headers: &[Header]) -> Option<u64> {
    let header = headers.iter().rev().find(|header| header.name == OMITTED)?;
    text(header)?.parse().ok()
}

/// The record's own headers, replays included, and those that were added.
fn divide(headers: Vec<Header>) -> (Vec<Header>, Vec<Header>) {
    let count = headers.iter().rev().find(|header| header.name == OWN_HEADERS);
    let count = count.and_then(text).and_then(|count| count.parse::<usize>().ok());
    let (mut own, added): (Vec<_>, Vec<_>) = match count {
        Some(count) => {
            let mut own = headers;
            let added = own.split_off(count.min(own.len()));
            (own, added)
        }
        None => headers.into_iter().partition(|header| {
            [CONNECT, STREAMS, SPRING, OURS].iter().all(|prefix| !header.name.starts_with(prefix))
        }),
    };
    let replays = added.iter().rev().find(|header| header.name == REPLAYS);
    own.extend(replays.filter(|header| text(header) != Some("0")).cloned());
    (own, added)
}

/// The headers that were added to a record.
struct Provenance<'a>(&'a [Header]);

impl<'a> Provenance<'a> {
    fn value(&self, name: &str) -> Option<&'a Header> {
        self.0.iter().rev().find(|header| header.name == name)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.value(name).and_then(text)
    }

    fn reason(&self) -> &'a str {
        let names = [
            format!("{CONNECT}exception.message"),
            format!("{STREAMS}message"),
            format!("{SPRING}exception-message"),
        ];
        names.iter().find_map(|name| self.text(name)).unwrap_or_default()
    }

    /// Split and position from the names of others.
    fn place(&self) -> (String, String) {
        let number = |name: &str| {
            let bytes = self.value(name)?.value.as_deref()?;
            let long = || bytes.try_into().ok().map(i64::from_be_bytes);
            let int = bytes.try_into().ok().map(|bytes| i64::from(i32::from_be_bytes(bytes)));
            int.or_else(long).map(|number| number.to_string())
        };
        for (prefix, binary) in [(CONNECT, false), (STREAMS, false), ("kafka_dlt-original-", true)]
        {
            let get = |name: &str| {
                let name = format!("{prefix}{name}");
                if binary { number(&name) } else { self.text(&name).map(str::to_owned) }
            };
            let topic = self.text(&format!("{prefix}topic"));
            if let (Some(topic), Some(partition), Some(offset)) =
                (topic, get("partition"), get("offset"))
            {
                return (format!("{topic}/{partition}"), format!("offset {offset}"));
            }
        }
        ("unknown".to_owned(), "unknown".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: Vec<Header>) -> Letter {
        let record = SourceRecord {
            position: "offset 42".to_owned(),
            payload: Some(b"\xff{broken".to_vec()),
            key: Some(b"\x00key".to_vec()),
            headers,
            timestamp: Some(1_700_000_000_123_000),
        };
        let letter = DeadLetter {
            class: ErrorClass::Transient,
            attempts: 5,
            first_failed_at: Some(1_700_000_001_000_001),
            ..DeadLetter::new(SplitId::new("orders/3"), record, "n: 'x' is not a BIGINT")
        };
        let (job, source) = ("totals".to_owned(), "orders".to_owned());
        let (operator, failed_at) = ("book".to_owned(), 1_700_000_002_000_002);
        Letter { job, source, operator, epoch: 7, failed_at, letter }
    }

    fn in_topic(letter: &Letter, names: HeaderNames) -> SourceRecord {
        let headers = of(letter, names);
        SourceRecord { position: "offset 0".to_owned(), headers, ..letter.letter.record.clone() }
    }

    #[test]
    fn a_letter_comes_back_whole_whatever_its_headers_are_called() {
        let nothing = Header { name: "none".to_owned(), value: None };
        let cases = [
            vec![],
            vec![Header::new("correlation-id", "c"), nothing, Header::new("correlation-id", "d")],
            // It has been a dead letter before.
            vec![Header::new("__connect.errors.topic", "old"), Header::new("tidemill.job", "old")],
            vec![Header::new("a", "b"), Header::new(REPLAYS, "2")],
        ];
        for headers in cases {
            for names in [HeaderNames::Connect, HeaderNames::Streams, HeaderNames::Spring] {
                let sent = letter(headers.clone());
                let read = read(in_topic(&sent, names));
                assert_eq!(read, sent, "{names:?}");
            }
        }
    }

    #[test]
    fn provenance_has_the_names_and_forms_that_others_expect() {
        let value = |names, name: &str| {
            let headers = of(&letter(vec![]), names);
            let header = headers.into_iter().find(|header| header.name == name);
            header.unwrap_or_else(|| panic!("{name}")).value.unwrap()
        };
        let connect = |name: &str| value(HeaderNames::Connect, &format!("{CONNECT}{name}"));
        assert_eq!(connect("topic"), b"orders");
        assert_eq!(connect("partition"), b"3");
        assert_eq!(connect("offset"), b"42");
        assert_eq!(connect("connector.name"), b"totals");
        assert_eq!(connect("stage"), b"TRANSFORMATION");
        assert_eq!(connect("exception.message"), b"n: 'x' is not a BIGINT");
        assert_eq!(value(HeaderNames::Streams, "__streams.errors.offset"), b"42");
        let spring = |name: &str| value(HeaderNames::Spring, &format!("{SPRING}{name}"));
        assert_eq!(spring("original-partition"), [0, 0, 0, 3]);
        assert_eq!(spring("original-offset"), [0, 0, 0, 0, 0, 0, 0, 42]);
        assert_eq!(spring("original-timestamp"), 1_700_000_000_123_i64.to_be_bytes());
        let ours = |name: &str| value(HeaderNames::Connect, &format!("{OURS}{name}"));
        assert_eq!(ours("failed-at"), b"2023-11-14T22:13:22.000002Z");
        assert_eq!((ours("class"), ours("replays")), (b"transient".to_vec(), b"0".to_vec()));
    }

    #[test]
    fn letters_of_others_are_understood() {
        let other = |headers| SourceRecord { headers, ..SourceRecord::new("offset 9", "x") };
        let own = Header::new("trace", "t");
        let spring = vec![
            own.clone(),
            Header::new("kafka_dlt-original-topic", "orders"),
            Header::new("kafka_dlt-original-partition", 3_i32.to_be_bytes()),
            Header::new("kafka_dlt-original-offset", 42_i64.to_be_bytes()),
            Header::new("kafka_dlt-exception-message", "boom"),
        ];
        let connect = vec![
            Header::new("__connect.errors.topic", "orders"),
            Header::new("__connect.errors.partition", "3"),
            Header::new("__connect.errors.offset", "42"),
            Header::new("__connect.errors.exception.message", "boom"),
            own.clone(),
        ];
        for headers in [spring, connect] {
            let letter = read(other(headers));
            let place = Coordinates { topic: "orders".to_owned(), partition: 3, offset: 42 };
            assert_eq!(letter.coordinates(), Some(place));
            assert_eq!(letter.letter.record.headers, std::slice::from_ref(&own));
            assert_eq!(letter.letter.reason, "boom");
        }
    }

    #[test]
    fn a_replay_is_counted_and_changes_nothing_else() {
        let first = letter(vec![Header::new("a", "1")]);
        let again = Letter {
            letter: DeadLetter { record: first.replayed(), ..first.letter.clone() },
            ..first.clone()
        };
        let again = read(in_topic(&again, HeaderNames::Connect));
        assert_eq!((first.replays(), again.replays()), (0, 1));
        let twice = again.replayed();
        assert_eq!(twice.headers, [Header::new("a", "1"), Header::new(REPLAYS, "2")]);
        assert_eq!(
            (twice.key, twice.payload),
            (first.letter.record.key, first.letter.record.payload)
        );
    }
}
