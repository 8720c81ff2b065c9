//! `user-events`: what users of a shop do.

use tidemill_core::Result;

use super::message::{Json, Message};
use super::rows::{Kind, Row, damage_json};
use super::text::Clockface;
use crate::random::Random;

/// Of 100 events so many are logins, purchases and logouts; the rest are clicks.
const LOGINS: u64 = 20;
const PURCHASES: u64 = 15;
const LOGOUTS: u64 = 15;

const AMOUNT_CENTS_MIN: u64 = 100;
const AMOUNT_CENTS_MAX: u64 = 50_000;
const PAGES: u64 = 500;

/// Events of users, keyed by user.
pub(super) struct Users;

impl Kind for Users {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn key_prefix(&self) -> &'static str {
        "user-"
    }

    fn has_causes(&self) -> bool {
        false
    }

    fn write(&self, row: &Row, face: &mut Clockface, out: &mut Vec<u8>) -> Result<&'static str> {
        let mut random = row.random.clone();
        let event_type = event_type(random.below(100));
        let mut json = Json::begin(out);
        json.text(("event_id", 1), &[&row.event_id]);
        json.numbered(("user_id", 2), self.key_prefix(), row.key);
        json.text(("event_type", 3), &[event_type.as_bytes()]);
        json.time(("ts", 4), row.time, face)?;
        match event_type {
            "purchase" => {
                let spread = AMOUNT_CENTS_MAX - AMOUNT_CENTS_MIN + 1;
                json.cents(("amount", 5), AMOUNT_CENTS_MIN + random.below(spread));
            }
            "click" => json.numbered(("page", 6), "/products/", random.below(PAGES)),
            _ => {}
        }
        json.end();
        Ok(event_type)
    }

    fn damage(&self, payload: &mut Vec<u8>, random: Random) {
        damage_json(payload, random);
    }
}

fn event_type(percent: u64) -> &'static str {
    match percent {
        n if n < LOGINS => "login",
        n if n < LOGINS + PURCHASES => "purchase",
        n if n < LOGINS + PURCHASES + LOGOUTS => "logout",
        _ => "click",
    }
}
