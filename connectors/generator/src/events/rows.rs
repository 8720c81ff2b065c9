//! Kinds of events that are made one at a time: what all of them have in common.

use std::ops::Range;

use tidemill_core::{Error, EventTime, Result};

use super::keys::Keys;
use super::shares::{Fate, Fates};
use super::text::{Clockface, ID_BYTES, id};
use super::{Event, EventGenerator, EventSettings, Headers};
use crate::random::{Random, Stream};

/// What one key does within so many rows belongs together.
const CONVERSATION_ROWS: u64 = 4_096;

/// Streams of random numbers, never renumbered; those of fates come before.
mod draw {
    pub(super) const KEY: u64 = 16;
    pub(super) const CONTENT: u64 = 17;
    pub(super) const EVENT_ID: u64 = 18;
    pub(super) const CAUSATION_ID: u64 = 19;
    pub(super) const DAMAGE: u64 = 20;
    pub(super) const CORRELATION_ID: u64 = 21;
}

/// A kind of event.
pub(super) trait Kind: Send {
    /// Media type of the payloads.
    fn content_type(&self) -> &'static str;

    /// What stands before the number in a key.
    fn key_prefix(&self) -> &'static str;

    /// Whether events are the consequence of others.
    fn has_causes(&self) -> bool;

    /// Appends the payload of `row` to `out`, and says what has happened.
    fn write(&self, row: &Row, face: &mut Clockface, out: &mut Vec<u8>) -> Result<&'static str>;

    /// Makes the payload one that no decoder can read.
    fn damage(&self, payload: &mut Vec<u8>, random: Random);
}

/// What a row is made from.
pub(super) struct Row {
    /// Its number.
    pub(super) number: u64,
    /// Its key, without what stands before.
    pub(super) key: u64,
    pub(super) time: EventTime,
    /// For its content.
    pub(super) random: Random,
    /// It is to be of a type that the schema does not have.
    pub(super) unknown_type: bool,
    pub(super) event_id: [u8; ID_BYTES],
    pub(super) correlation_id: [u8; ID_BYTES],
    pub(super) causation_id: [u8; ID_BYTES],
}

/// Cuts a text short, so that it never ends: what no JSON decoder can read. One in four becomes
/// something that is no text at all.
pub(super) fn damage_json(payload: &mut Vec<u8>, mut random: Random) {
    let length = payload.len() as u64;
    if random.below(4) == 0 {
        payload.clear();
        payload.extend_from_slice(b"\xff\xfe#");
        payload.extend((0..random.below(24)).map(|n| b'!' + n as u8));
    } else {
        payload.truncate(1 + random.below(length - 1) as usize);
    }
}

/// Generates a kind of events row by row.
pub(super) struct Rows<K> {
    kind: K,
    settings: EventSettings,
    fates: Fates,
    keys: Keys,
    face: Clockface,
    key: Vec<u8>,
    payload: Vec<u8>,
}

impl<K: Kind> Rows<K> {
    pub(super) fn new(kind: K, settings: EventSettings) -> Self {
        let key = kind.key_prefix().as_bytes().to_vec();
        Self {
            kind,
            settings,
            fates: Fates::new(settings.seed, settings.shares),
            keys: Keys::new(settings.keys, settings.skew),
            face: Clockface::new(settings.start, settings.interval_us),
            key,
            payload: Vec::new(),
        }
    }

    fn stream(&self, draw: u64) -> Stream {
        Stream::new(self.settings.seed, draw)
    }

    /// What row `number` is made from, when it comes with this fate.
    fn row(&self, number: u64, fate: Fate) -> Result<Row> {
        let key = self.keys.draw(self.stream(draw::KEY).at(number));
        let conversation = draw::CORRELATION_ID + number / CONVERSATION_ROWS;
        let causation_id = match self.kind.has_causes() {
            true => id(self.stream(draw::CAUSATION_ID).at(number)),
            false => [b'-'; ID_BYTES],
        };
        Ok(Row {
            number,
            key,
            time: time(&self.settings, number, fate)?,
            random: self.stream(draw::CONTENT).at(number),
            unknown_type: fate == Fate::UnknownType,
            event_id: id(self.stream(draw::EVENT_ID).at(number)),
            correlation_id: id(self.stream(conversation).at(key)),
            causation_id,
        })
    }

    fn event(&mut self, number: u64, each: &mut dyn FnMut(&Event<'_>) -> Result<()>) -> Result<()> {
        let fate = self.fates.of(number);
        let row = match fate {
            Fate::Duplicate => {
                let repeated = self.fates.repeated_by(number);
                self.row(repeated, self.fates.of(repeated))?
            }
            fate => self.row(number, fate)?,
        };
        self.key.truncate(self.kind.key_prefix().len());
        super::text::number(row.key, &mut self.key);
        self.payload.clear();
        let event_type = self.kind.write(&row, &mut self.face, &mut self.payload)?;
        if fate == Fate::Malformed {
            let random = self.stream(draw::DAMAGE).at(number);
            self.kind.damage(&mut self.payload, random);
        }
        each(&Event {
            key: &self.key,
            value: &self.payload,
            headers: Headers {
                event_type,
                event_id: &row.event_id,
                correlation_id: &row.correlation_id,
                causation_id: self.kind.has_causes().then_some(row.causation_id.as_slice()),
                content_type: self.kind.content_type(),
            },
            fate,
        })
    }
}

impl<K: Kind> EventGenerator for Rows<K> {
    fn generate(
        &mut self,
        rows: Range<u64>,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        rows.into_iter().try_for_each(|number| self.event(number, each))
    }
}

/// When a row happens.
pub(super) fn time(settings: &EventSettings, number: u64, fate: Fate) -> Result<EventTime> {
    let late = if fate == Fate::Late { settings.late_by_us } else { 0 };
    let since = i64::try_from(number).ok().and_then(|n| n.checked_mul(settings.interval_us));
    let time = since.and_then(|since| settings.start.checked_add(since));
    time.and_then(|time| time.checked_sub(late)).ok_or_else(|| {
        Error::configuration(format!(
            "the time of event {number} is out of range: put events closer to each other"
        ))
    })
}
