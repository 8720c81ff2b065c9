//! One description of an event's fields, written as JSON or as Protobuf.
//!
//! All texts are made here, of plain ASCII without quotes: nothing needs escaping.

use tidemill_core::{EventTime, Result};

use super::text::{self, Clockface};

/// A field: its name in JSON, and its number in Protobuf.
pub(super) type Field = (&'static str, u32);

/// Takes the fields of a message, in order.
pub(super) trait Message {
    /// A text, in pieces.
    fn text(&mut self, field: Field, pieces: &[&[u8]]);
    /// A name followed by a number: `customer-7`.
    fn numbered(&mut self, field: Field, name: &str, number: u64);
    /// A whole number.
    fn number(&mut self, field: Field, number: u64);
    /// Hundredths.
    fn cents(&mut self, field: Field, cents: u64);
    /// A value of an enum, by name and number.
    fn choice(&mut self, field: Field, choice: (&'static str, u32));
    /// A time.
    fn time(&mut self, field: Field, time: EventTime, face: &mut Clockface) -> Result<()>;
    /// The member of a `oneof` that is set, by name and number, under the name of the `oneof`; and
    /// its content.
    fn one_of(&mut self, name: &'static str, member: Field, content: impl FnOnce(&mut Self));
}

/// Writes a JSON object.
pub(super) struct Json<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Json<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn quoted(&mut self, name: &str, pieces: &[&[u8]]) {
        self.name(name);
        self.out.push(b'"');
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece));
        self.out.push(b'"');
    }
}

impl Message for Json<'_> {
    fn text(&mut self, field: Field, pieces: &[&[u8]]) {
        self.quoted(field.0, pieces);
    }

    fn numbered(&mut self, field: Field, name: &str, number: u64) {
        self.name(field.0);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        text::number(number, self.out);
        self.out.push(b'"');
    }

    fn number(&mut self, field: Field, number: u64) {
        self.name(field.0);
        text::number(number, self.out);
    }

    fn cents(&mut self, field: Field, cents: u64) {
        self.name(field.0);
        text::cents(cents, self.out);
    }

    fn choice(&mut self, field: Field, choice: (&'static str, u32)) {
        self.quoted(field.0, &[choice.0.as_bytes()]);
    }

    fn time(&mut self, field: Field, time: EventTime, face: &mut Clockface) -> Result<()> {
        self.name(field.0);
        self.out.push(b'"');
        face.write(time, self.out)?;
        self.out.push(b'"');
        Ok(())
    }

    fn one_of(&mut self, name: &'static str, member: Field, content: impl FnOnce(&mut Self)) {
        self.quoted(name, &[member.0.as_bytes()]);
        self.name(member.0);
        self.out.push(b'{');
        self.first = true;
        content(self);
        self.first = false;
        self.out.push(b'}');
    }
}

/// Writes a Protobuf message in the wire format.
pub(super) struct Wire<'a> {
    out: &'a mut Vec<u8>,
}

/// Wire types.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;

impl<'a> Wire<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    fn tag(&mut self, field: Field, wire_type: u64) {
        varint(u64::from(field.1) << 3 | wire_type, self.out);
    }

    fn scalar(&mut self, field: Field, value: u64) {
        // A zero is what a field has anyway.
        if value != 0 {
            self.tag(field, VARINT);
            varint(value, self.out);
        }
    }

    /// A field whose length is known only when its content is written.
    fn sized<R>(&mut self, field: Field, content: impl FnOnce(&mut Self) -> R) -> R {
        self.tag(field, LENGTH);
        let start = self.out.len();
        let result = content(self);
        match self.out.len() - start {
            short @ 0..0x80 => self.out.insert(start, short as u8),
            long => {
                let mut length = Vec::with_capacity(2);
                varint(long as u64, &mut length);
                self.out.splice(start..start, length);
            }
        }
        result
    }
}

impl Message for Wire<'_> {
    fn text(&mut self, field: Field, pieces: &[&[u8]]) {
        self.tag(field, LENGTH);
        varint(pieces.iter().map(|piece| piece.len() as u64).sum(), self.out);
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece));
    }

    fn numbered(&mut self, field: Field, name: &str, number: u64) {
        self.sized(field, |wire| {
            wire.out.extend_from_slice(name.as_bytes());
            text::number(number, wire.out);
        });
    }

    fn number(&mut self, field: Field, number: u64) {
        self.scalar(field, number);
    }

    fn cents(&mut self, field: Field, cents: u64) {
        self.scalar(field, cents);
    }

    fn choice(&mut self, field: Field, choice: (&'static str, u32)) {
        self.scalar(field, u64::from(choice.1));
    }

    fn time(&mut self, field: Field, time: EventTime, _: &mut Clockface) -> Result<()> {
        let nanos = time.rem_euclid(1_000_000).unsigned_abs() * 1_000;
        self.sized(field, |wire| {
            // Negative numbers are written as the 64 bits that they are.
            wire.scalar(("seconds", 1), time.div_euclid(1_000_000) as u64);
            wire.scalar(("nanos", 2), nanos);
        });
        Ok(())
    }

    fn one_of(&mut self, _: &'static str, member: Field, content: impl FnOnce(&mut Self)) {
        self.sized(member, content);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
