//! `bookings.sql` and `08_bookings.rs`.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::stage::{Record, Stage, records, stop, until_records};
use crate::examples::bookings::{Hotel, Places, run};
use crate::job_folder::{lines, part_files};
use crate::kafka::broker::Broker;

const ROOMS: [&str; 3] = ["single", "double", "suite"];

/// The commands among the records, by identifier.
fn commands(records: &[Record]) -> HashMap<String, (&Record, Value)> {
    let command = |record| Record::json(record).map(|json| (record, json));
    let commands = records.iter().filter_map(command);
    commands
        .map(|(record, json)| (json["command_id"].as_str().unwrap().to_owned(), (record, json)))
        .collect()
}

/// Why the service of the job file declines a command.
fn declined(command: &Value) -> Option<&'static str> {
    let text = |name: &str| command[name].as_str().unwrap();
    let reserves = text("command") == "reserve";
    if !ROOMS.contains(&text("room")) {
        Some("there is no such room")
    } else if reserves && command["nights"].as_u64() > Some(12) {
        Some("no room is free for so long")
    } else if reserves && command["price"].as_f64() > Some(5_000.0) {
        Some("the card was declined")
    } else {
        None
    }
}

/// The identifiers in a column, by key, in the order of the topic.
fn order<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut order = BTreeMap::<Vec<u8>, Vec<String>>::new();
    for record in records {
        if let Some(json) = record.json() {
            let id = json["command_id"].as_str().unwrap().to_owned();
            order.entry(json["booking_id"].as_str().unwrap().into()).or_default().push(id);
        }
    }
    order
}

#[test]
fn the_job_file_answers_every_command_once_in_order_under_its_correlation_id() {
    let mut stage = Stage::new("bookings", Broker::shared());
    let topic = stage.topic("COMMANDS", 3);
    let replies = stage.topic("REPLIES", 3);
    let dead_letters = stage.topic("DEAD_LETTERS", 1);
    stage.set("GROUP", topic.name());
    let arguments = ["bookings", "--events", "6000", "--keys", "300", "--malformed", "1%"];
    stage.generate(&arguments, &topic);
    let mut running = stage.start(2, "log");
    until_records(&mut running, &replies, 5_940);
    running.until("all dead letters", || records(&dead_letters).len() >= 60);
    let summary = stop(running);
    assert_eq!(summary["ledgers"][0]["dead_letters"], 60, "{summary}");

    let held = records(&topic);
    let commands = commands(&held);
    let found = records(&replies);
    assert_eq!((found.len(), commands.len()), (5_940, 5_940));
    for reply in &found {
        let json = reply.json().unwrap();
        let (record, command) = &commands[json["command_id"].as_str().unwrap()];
        let reason = declined(command);
        assert_eq!(json["reason"].as_str(), reason, "{command}");
        let status = if reason.is_none() { "accepted" } else { "declined" };
        assert_eq!(
            (json["status"].as_str(), &json["booking_id"]),
            (Some(status), &command["booking_id"])
        );
        assert_eq!(reply.key, record.key);
        for header in ["correlation-id", "event-type", "source"] {
            assert!(record.header(header).is_some());
            assert_eq!(reply.header(header), record.header(header), "{header}");
        }
        assert_eq!(json["correlation_id"].as_str(), record.header("correlation-id"));
        assert_eq!(reply.header("causation-id"), json["command_id"].as_str());
    }
    assert_eq!(order(&found), order(&held));
}

#[test]
fn the_rust_example_tells_errors_apart() {
    let mut stage = Stage::new("bookings", Broker::shared());
    let topic = stage.topic("COMMANDS", 3);
    let (replies, refused) = (stage.topic("REPLIES", 3), stage.topic("DECLINED", 3));
    stage.generate(&["bookings", "--events", "6000", "--keys", "300", "--malformed", "1%"], &topic);
    let summary = run(&Places {
        brokers: topic.broker().addresses(),
        commands: topic.name(),
        replies: replies.name(),
        declined: refused.name(),
        checkpoints: &stage.checkpoints(),
    });
    let summary = summary.unwrap();

    let held = records(&topic);
    let (mut done, mut business, mut permanent, mut transient) = (0, 0, 0, 0);
    for (id, (_, command)) in commands(&held) {
        let reserves = command["command"] == "reserve";
        if !ROOMS.contains(&command["room"].as_str().unwrap()) {
            permanent += 1;
        } else if reserves && Hotel::silences(&id) == u32::MAX {
            transient += 1;
        } else if reserves && command["price"].as_f64() > Some(Hotel::CARD_LIMIT) {
            business += 1;
        } else {
            done += 1;
        }
    }
    assert!(transient > 0 && permanent > 20 && business > 20, "{transient} {permanent} {business}");
    assert_eq!((records(&replies).len(), records(&refused).len()), (done, business));
    let letters = lines(&part_files(&stage.path("checkpoints/dead-letters/bookings")));
    let letters: Vec<Value> = letters.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |class: &str, attempts: u64| {
        letters.iter().filter(|l| l["class"] == class && l["attempts"] == attempts).count()
    };
    // Of those that are permanent 60 are no JSON, and never came to the hotel.
    assert_eq!(
        (of("permanent", 1), of("transient", 4)),
        (permanent + 60, transient),
        "{letters:?}"
    );
    assert_eq!(letters.len(), permanent + 60 + transient);
    assert!(summary.ledgers.iter().all(|rows| rows.balances()));
    assert_correlated(&held, &records(&replies));
    let answers = records(&refused);
    assert!(answers.iter().all(|row| row.json().unwrap()["reason"] == "the card was declined"));
    assert_correlated(&held, &answers);
}

/// That answers have the correlation ids of their commands.
fn assert_correlated(held: &[Record], answers: &[Record]) {
    let commands = commands(held);
    for answer in answers {
        let json = answer.json().unwrap();
        let (command, _) = &commands[json["command_id"].as_str().unwrap()];
        assert_eq!(answer.header("correlation-id"), command.header("correlation-id"));
    }
}
