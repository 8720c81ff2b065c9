//! `customer-events`: changes of customers, each of one type (`examples/proto/customer_event.proto`).
//!
//! As JSON an event has the columns that the Protobuf format gives it: the set member of the `oneof`
//! under its own name, and that name in `event_type`.

use tidemill_core::Result;

use super::message::{Field, Json, Message, Wire};
use super::rows::{Kind, Row, damage_json};
use super::text::Clockface;
use crate::random::Random;

/// How events are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoding {
    /// As a JSON object.
    Json,
    /// As a Protobuf message `CustomerEvent`.
    Protobuf {
        /// What stands before each message: the framing of a schema registry, or nothing.
        prefix: Vec<u8>,
    },
}

/// Changes of customers, keyed by customer.
pub(super) struct Customers {
    encoding: Encoding,
}

impl Customers {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding }
    }
}

const NAMES: [&str; 8] = ["Ada", "Bela", "Chinua", "Dina", "Emeka", "Freya", "Goro", "Hana"];
const FAMILIES: [&str; 8] =
    ["Lovelace", "Okafor", "Sato", "Silva", "Novak", "Haddad", "Berg", "Moreau"];
const TIERS: [(&str, u32); 3] = [("TIER_BASIC", 1), ("TIER_PLUS", 2), ("TIER_PREMIUM", 3)];
const STATUSES: [(&str, u32); 3] =
    [("STATUS_ACTIVE", 1), ("STATUS_SUSPENDED", 2), ("STATUS_CLOSED", 3)];
const FIELDS: [&str; 3] = ["name", "language", "newsletter"];
const REASONS: [&str; 3] = ["asked for it", "inactive", "fraud"];

/// Which fields of a customer's contact change.
const EMAIL: u64 = 1;
const PHONE: u64 = 2;

/// The members of the `oneof`, and one that readers do not know.
const CREATED: Field = ("created", 10);
const UPDATED: Field = ("updated", 11);
const DELETED: Field = ("deleted", 12);
const STATUS_CHANGED: Field = ("status_changed", 13);
const CONTACT_UPDATED: Field = ("contact_updated", 14);
const MERGED: Field = ("merged", 15);

impl Kind for Customers {
    fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => "application/json",
            Encoding::Protobuf { .. } => "application/x-protobuf",
        }
    }

    fn key_prefix(&self) -> &'static str {
        "customer-"
    }

    fn has_causes(&self) -> bool {
        true
    }

    fn write(&self, row: &Row, face: &mut Clockface, out: &mut Vec<u8>) -> Result<&'static str> {
        let mut random = row.random.clone();
        let member = if row.unknown_type { MERGED } else { member(random.below(10)) };
        match &self.encoding {
            Encoding::Json => {
                let mut json = Json::begin(out);
                write_event(&mut json, row, member, random, face)?;
                json.end();
            }
            Encoding::Protobuf { prefix } => {
                out.extend_from_slice(prefix);
                write_event(&mut Wire::begin(out), row, member, random, face)?;
            }
        }
        Ok(member.0)
    }

    fn damage(&self, payload: &mut Vec<u8>, mut random: Random) {
        match &self.encoding {
            Encoding::Json => damage_json(payload, random),
            // The last member of a message has a length: whatever is missing of it shows. The other
            // way, a field of a wire type that there is not.
            Encoding::Protobuf { .. } if random.below(2) == 0 => {
                payload.pop();
            }
            Encoding::Protobuf { .. } => payload.push(0x0f),
        }
    }
}

fn member(of_ten: u64) -> Field {
    match of_ten {
        0 | 1 => CREATED,
        2..=4 => UPDATED,
        5 => DELETED,
        6 | 7 => STATUS_CHANGED,
        _ => CONTACT_UPDATED,
    }
}

fn write_event<M: Message>(
    event: &mut M,
    row: &Row,
    member: Field,
    random: Random,
    face: &mut Clockface,
) -> Result<()> {
    event.text(("event_id", 1), &[&row.event_id]);
    event.numbered(("customer_id", 2), "customer-", row.key);
    event.text(("correlation_id", 3), &[&row.correlation_id]);
    event.text(("causation_id", 4), &[&row.causation_id]);
    // Grows from one event of a customer to the next.
    event.number(("version", 5), row.number + 1);
    event.time(("occurred_at", 6), row.time, face)?;
    event.one_of("event_type", member, |change| write_change(change, member, row, random));
    Ok(())
}

fn write_change<M: Message>(change: &mut M, member: Field, row: &Row, mut random: Random) {
    let mut pick = |choices: u64| random.below(choices) as usize;
    match member {
        CREATED => {
            let (name, family) = (NAMES[pick(8)], FAMILIES[pick(8)]);
            change.text(("name", 1), &[name.as_bytes(), b" ", family.as_bytes()]);
            change.text(("email", 2), &[name.as_bytes(), b"@example.com"]);
            change.choice(("tier", 3), TIERS[pick(3)]);
        }
        UPDATED => {
            change.text(("field", 1), &[FIELDS[pick(3)].as_bytes()]);
            change.text(("old_value", 2), &[NAMES[pick(8)].as_bytes()]);
            change.text(("new_value", 3), &[NAMES[pick(8)].as_bytes()]);
        }
        DELETED => change.text(("reason", 1), &[REASONS[pick(3)].as_bytes()]),
        STATUS_CHANGED => {
            let old = pick(3);
            change.choice(("old_status", 1), STATUSES[old]);
            change.choice(("new_status", 2), STATUSES[(old + 1 + pick(2)) % 3]);
        }
        CONTACT_UPDATED => {
            let which = 1 + pick(3) as u64;
            if which & EMAIL > 0 {
                change.text(("email", 1), &[NAMES[pick(8)].as_bytes(), b"@example.org"]);
            }
            if which & PHONE > 0 {
                change.numbered(("phone", 2), "+49 30 ", 1_000_000 + pick(9_000_000) as u64);
            }
        }
        _ => change.numbered(("into_customer_id", 1), "customer-", row.key / 2),
    }
}
