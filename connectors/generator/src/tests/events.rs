//! Events: the same for the same seed however they are cut, and right in either encoding.

use std::path::Path;

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, Value as Proto,
};
use serde_json::Value;

use crate::events::{Encoding, Event, EventKind, EventSettings, Fate, Headers, Shares, generator};

const SECOND: i64 = 1_000_000;

/// 2026-01-01 00:00:00 UTC.
const START: i64 = 1_767_225_600_000_000;

fn settings(shares: &[(&str, &str)]) -> EventSettings {
    let share = |name: &str| {
        let found = shares.iter().find(|(of, _)| *of == name);
        found.map(|(_, share)| share.parse().unwrap()).unwrap_or_default()
    };
    EventSettings {
        seed: 42,
        keys: 100,
        skew: 0.0,
        start: START,
        interval_us: 1_000,
        shares: Shares {
            malformed: share("malformed"),
            late: share("late"),
            duplicates: share("duplicates"),
            unknown_type: share("unknown"),
        },
        late_by_us: 600 * SECOND,
    }
}

/// An event that outlives its generator.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    key: String,
    value: Vec<u8>,
    headers: Vec<(String, String)>,
    fate: Fate,
}

impl Sent {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.value)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.value)))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Rows `0..rows`, `step` at a time.
fn events(kind: &EventKind, settings: EventSettings, rows: u64, step: u64) -> Vec<Sent> {
    let mut generator = generator(kind.clone(), settings).unwrap();
    let mut sent = Vec::new();
    let mut keep = |event: &Event<'_>| {
        let headers: &Headers<'_> = &event.headers;
        sent.push(Sent {
            key: text(event.key),
            value: event.value.to_vec(),
            headers: headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
            fate: event.fate,
        });
        Ok(())
    };
    for start in (0..rows).step_by(step as usize) {
        generator.generate(start..rows.min(start + step), &mut keep).unwrap();
    }
    sent
}

fn kinds() -> [EventKind; 5] {
    [
        EventKind::UserEvents,
        EventKind::CustomerEvents(Encoding::Json),
        EventKind::CustomerEvents(Encoding::Protobuf { prefix: vec![0, 0, 0, 0, 7, 0] }),
        EventKind::Bookings,
        EventKind::Nexmark,
    ]
}

fn customer_event() -> MessageDescriptor {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/proto");
    let files = protox::compile(["customer_event.proto"], [folder]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("tidemill.examples.CustomerEvent").unwrap()
}

#[test]
fn the_same_seed_gives_the_same_events_however_they_are_cut() {
    let shares = settings(&[("malformed", "2%"), ("late", "3%"), ("duplicates", "10%")]);
    for kind in kinds() {
        let whole = events(&kind, shares, 3_000, 3_000);
        assert_eq!(whole.len(), 3_000);
        for step in [1, 7, 1_024] {
            assert_eq!(events(&kind, shares, 3_000, step), whole, "{kind:?} by {step}");
        }
        let other = events(&kind, EventSettings { seed: 43, ..shares }, 3_000, 3_000);
        let same = whole.iter().zip(&other).filter(|(a, b)| a.value == b.value).count();
        assert!(same < 30, "{kind:?}: {same} events do not depend on the seed");
    }
}

#[test]
fn what_is_wrong_with_an_event_shows_and_is_counted_exactly() {
    let shares = settings(&[("malformed", "1%"), ("late", "2%"), ("duplicates", "5%")]);
    for kind in kinds() {
        let sent = events(&kind, shares, 10_000, 500);
        let count = |fate| sent.iter().filter(|event| event.fate == fate).count();
        let counts = [Fate::Malformed, Fate::Late, Fate::Duplicate].map(count);
        assert_eq!(counts, [100, 200, 500], "{kind:?}");
        for (n, event) in sent.iter().enumerate() {
            if event.fate == Fate::Duplicate {
                let same = |other: &&Sent| (&other.key, &other.value) == (&event.key, &event.value);
                let before = &sent[..n];
                let original = before.iter().rev().take(64).find(same);
                let original = original.unwrap_or_else(|| panic!("{kind:?}: {n} repeats nothing"));
                assert_eq!(original.headers, event.headers);
            } else if !matches!(kind, EventKind::CustomerEvents(Encoding::Protobuf { .. })) {
                let readable = serde_json::from_slice::<Value>(&event.value).is_ok();
                assert_eq!(readable, event.fate != Fate::Malformed, "{kind:?}: row {n}");
                assert!(!event.value.contains(&b'\n'), "a line of a file: row {n}");
            }
        }
    }
}

#[test]
fn user_events_are_what_a_table_of_them_declares() {
    let sent = events(&EventKind::UserEvents, settings(&[("late", "10%")]), 10_000, 1_000);
    let mut types = std::collections::BTreeMap::<String, usize>::new();
    for (n, event) in sent.iter().enumerate() {
        let json = event.json();
        let behind = if event.fate == Fate::Late { 600 } else { 0 };
        let millis = n as i64 - behind * 1_000;
        let minute = (60 * 24 + millis.div_euclid(60_000)) % (60 * 24);
        let rest = millis.rem_euclid(60_000);
        let day = if millis < 0 { "2025-12-31" } else { "2026-01-01" };
        let (hour, minute) = (minute / 60, minute % 60);
        let ts = format!("{day} {hour:02}:{minute:02}:{:02}.{:03}", rest / 1_000, rest % 1_000);
        assert_eq!(json["ts"], ts, "row {n}");
        assert_eq!(json["user_id"], event.key);
        assert_eq!(json["event_id"].as_str(), event.header("event-id"));
        assert_eq!(json["event_type"].as_str(), event.header("event-type"));
        let amount = json["amount"].as_f64();
        assert_eq!(amount.is_some(), json["event_type"] == "purchase", "{json}");
        assert!(amount.is_none_or(|amount| (1.0..=500.0).contains(&amount)));
        *types.entry(json["event_type"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(types.keys().collect::<Vec<_>>(), ["click", "login", "logout", "purchase"]);
    assert!(types.values().all(|n| *n > 1_000), "{types:?}");
}

#[test]
fn an_event_that_was_made_once_is_made_so_for_ever() {
    let first = &events(&EventKind::UserEvents, settings(&[]), 1, 1)[0];
    let expected = concat!(
        r#"{"event_id":"33052230-a6b6-81b5-bd18-2c984cda25bc","user_id":"user-10","#,
        r#""event_type":"click","ts":"2026-01-01 00:00:00.000","page":"/products/306"}"#
    );
    assert_eq!(text(&first.value), expected);
}

/// The value of a field under its JSON form.
fn as_json(message: &DynamicMessage, field: &str) -> Value {
    let descriptor = message.descriptor().get_field_by_name(field).unwrap();
    match message.get_field(&descriptor).as_ref() {
        Proto::String(text) => text.as_str().into(),
        Proto::I64(number) => (*number).into(),
        Proto::EnumNumber(number) => {
            let kind = descriptor.kind();
            kind.as_enum().unwrap().get_value(*number).unwrap().name().into()
        }
        other => panic!("{field}: {other:?}"),
    }
}

#[test]
fn protobuf_and_json_say_the_same_of_a_customer() {
    let prefix = vec![0, 0, 0, 0, 7, 0];
    let shares = settings(&[("malformed", "1%"), ("unknown", "3%")]);
    let encoding = Encoding::Protobuf { prefix: prefix.clone() };
    let wire = events(&EventKind::CustomerEvents(encoding), shares, 5_000, 5_000);
    let json = events(&EventKind::CustomerEvents(Encoding::Json), shares, 5_000, 5_000);
    let descriptor = customer_event();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for (n, (wire, json)) in wire.iter().zip(&json).enumerate() {
        assert_eq!((&wire.key, wire.fate), (&json.key, json.fate));
        let message = wire.value.strip_prefix(prefix.as_slice()).unwrap();
        let decoded = DynamicMessage::decode(descriptor.clone(), message);
        if wire.fate == Fate::Malformed {
            assert!(decoded.is_err(), "row {n}");
            continue;
        }
        let (decoded, json) = (decoded.unwrap(), json.json());
        for field in ["event_id", "customer_id", "correlation_id", "causation_id", "version"] {
            assert_eq!(as_json(&decoded, field), json[field], "row {n}");
        }
        let time = decoded.get_field_by_name("occurred_at").unwrap();
        let time = time.as_message().unwrap();
        let part = |name| time.get_field_by_name(name).unwrap().into_owned();
        assert_eq!(part("seconds"), Proto::I64(START / SECOND + n as i64 / 1_000));
        assert_eq!(part("nanos"), Proto::I32(n as i32 % 1_000 * 1_000_000));
        let member = json["event_type"].as_str().unwrap();
        *seen.entry(member.to_owned()).or_default() += 1;
        if wire.fate == Fate::UnknownType {
            assert_eq!((member, decoded.unknown_fields().count()), ("merged", 1));
            continue;
        }
        let change = decoded.get_field_by_name(member).unwrap();
        let change = change.as_message().unwrap();
        let fields = json[member].as_object().unwrap();
        assert_eq!(change.fields().count(), fields.len(), "row {n}: {json}");
        for (field, value) in fields {
            assert_eq!(as_json(change, field), *value, "row {n}");
        }
    }
    assert_eq!((seen.len(), seen["merged"]), (6, 150), "{seen:?}");
}

#[test]
fn nexmark_events_are_those_of_the_connector() {
    let sent = events(&EventKind::Nexmark, settings(&[("late", "1%")]), 2_000, 300);
    let kinds: Vec<_> = sent.iter().map(|event| event.header("event-type").unwrap()).collect();
    let count = |kind: &str| kinds.iter().filter(|of| **of == kind).count();
    assert_eq!([count("person"), count("auction"), count("bid")], [40, 120, 1_840]);
    for (n, event) in sent.iter().enumerate() {
        let json = event.json();
        let kind = kinds[n];
        let number = ["person", "auction", "bid"].iter().position(|of| *of == kind);
        assert_eq!(json["event_type"].as_u64().map(|n| n as usize), number);
        let others = ["person", "auction", "bid"].iter().filter(|of| **of != kind);
        assert!(others.into_iter().all(|other| json[other].is_null()), "{json}");
        let key = if kind == "bid" { &json["bid"]["auction"] } else { &json[kind]["id"] };
        assert_eq!(key.to_string(), event.key);
        let expected =
            if event.fate == Fate::Late { "2025-12-31 23:5" } else { "2026-01-01 00:00:0" };
        let time = json[kind]["dateTime"].as_str().unwrap();
        assert!(time.starts_with(expected), "row {n}: {time}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |kind: &EventKind, settings| match generator(kind.clone(), settings) {
        Ok(_) => panic!("{settings:?} were taken"),
        Err(error) => error.to_string(),
    };
    let usual = settings(&[]);
    let user = EventKind::UserEvents;
    assert!(refused(&user, EventSettings { keys: 0, ..usual }).contains("1 key"));
    assert!(refused(&user, EventSettings { skew: -1.0, ..usual }).contains("skew"));
    assert!(refused(&user, EventSettings { interval_us: -1, ..usual }).contains("negative"));
    assert!(refused(&user, settings(&[("unknown", "1%")])).contains("customer-events"));
    assert!(refused(&user, settings(&[("late", "60%"), ("malformed", "0.5")])).contains("add up"));
    let nexmark = EventSettings { interval_us: 7, ..usual };
    assert!(refused(&EventKind::Nexmark, nexmark).contains("divide one second"));
    let far = EventSettings { interval_us: i64::MAX / 2, ..usual };
    let mut generator = generator(user, far).unwrap();
    let error = generator.generate(0..9, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("closer"), "{error}");
}
