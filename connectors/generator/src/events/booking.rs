//! `bookings`: commands to a booking service, which answers each.
//!
//! One in a hundred asks for a kind of room that no hotel has.

use tidemill_core::Result;

use super::message::{Json, Message};
use super::rows::{Kind, Row, damage_json};
use super::text::Clockface;
use crate::random::Random;

const ROOMS: [&str; 3] = ["single", "double", "suite"];
const NO_ROOM: &str = "treehouse";
const NO_ROOM_ONE_IN: u64 = 100;
const NIGHTS_MAX: u64 = 14;
const NIGHT_CENTS_MIN: u64 = 4_000;
const NIGHT_CENTS_MAX: u64 = 40_000;

/// Commands about bookings, keyed by booking.
pub(super) struct Bookings;

impl Kind for Bookings {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn key_prefix(&self) -> &'static str {
        "booking-"
    }

    fn has_causes(&self) -> bool {
        false
    }

    fn write(&self, row: &Row, face: &mut Clockface, out: &mut Vec<u8>) -> Result<&'static str> {
        let mut random = row.random.clone();
        let command = command(random.below(10));
        let room = match random.below(NO_ROOM_ONE_IN) {
            0 => NO_ROOM,
            n => ROOMS[n as usize % ROOMS.len()],
        };
        let nights = 1 + random.below(NIGHTS_MAX);
        let night = NIGHT_CENTS_MIN + random.below(NIGHT_CENTS_MAX - NIGHT_CENTS_MIN);
        let mut json = Json::begin(out);
        json.text(("command_id", 1), &[&row.event_id]);
        json.numbered(("booking_id", 2), self.key_prefix(), row.key);
        json.text(("command", 3), &[command.as_bytes()]);
        json.text(("room", 4), &[room.as_bytes()]);
        json.number(("nights", 5), nights);
        json.cents(("price", 6), nights * night);
        json.time(("ts", 7), row.time, face)?;
        json.end();
        Ok(command)
    }

    fn damage(&self, payload: &mut Vec<u8>, random: Random) {
        damage_json(payload, random);
    }
}

fn command(of_ten: u64) -> &'static str {
    match of_ten {
        0..=5 => "reserve",
        6..=8 => "confirm",
        _ => "cancel",
    }
}
