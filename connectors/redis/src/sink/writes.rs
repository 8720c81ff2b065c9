//! The writes of a batch: what moves from the encoder to a connection or into a checkpoint.
//!
//! A write is what one row becomes: one to three commands on one key.
//!
//! Invariant: the writes of a row stand together and in the order of rows.

use std::ops::Range;

use tidemill_core::record::SourceRecord;

use super::resp::{self, Commands};

/// Writes, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    /// Their commands, packed.
    bytes: Vec<u8>,
    /// Where each write ends, and how many commands it has.
    marks: Vec<(usize, u8)>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Write<'a> {
    /// Its commands, packed.
    pub bytes: &'a [u8],
    /// How many.
    pub commands: u8,
}

impl Writes {
    /// Appends a write.
    pub fn push(&mut self, write: Write<'_>) {
        self.bytes.extend_from_slice(write.bytes);
        self.marks.push((self.bytes.len(), write.commands));
    }

    /// How many writes.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many bytes all take on the wire.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Write `index`.
    pub fn get(&self, index: usize) -> Write<'_> {
        let start = index.checked_sub(1).map_or(0, |before| self.marks[before].0);
        let (end, commands) = self.marks[index];
        Write { bytes: &self.bytes[start..end], commands }
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Write<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The writes from `start` on that fit into a pipeline of `max_writes` and `max_bytes`; one at least.
    pub fn piece(&self, start: usize, max_writes: usize, max_bytes: usize) -> Range<usize> {
        let before = start.checked_sub(1).map_or(0, |before| self.marks[before].0);
        let fits = |(end, _): &&(usize, u8)| end - before <= max_bytes;
        let more = self.marks[start..].iter().take(max_writes).take_while(fits).count();
        start..start + more.max(1)
    }
}

impl<'a> Write<'a> {
    /// The key that it writes to.
    pub fn key(&self) -> &'a [u8] {
        resp::key(self.bytes).unwrap_or_default()
    }

    /// As a dead letter keeps it: under its Redis key, with what was to stand there. It never was at a
    /// position; `place` says where it was to go.
    pub fn to_record(self, place: &str) -> SourceRecord {
        let commands: Vec<Vec<&[u8]>> = Commands(self.bytes).collect();
        let named = commands.iter().find(|command| !matches!(command[0], b"HDEL" | b"PEXPIRE"));
        let payload = named.or(commands.first()).map(|command| payload(command));
        SourceRecord {
            position: format!("to {place}"),
            payload,
            key: Some(self.key().to_vec()),
            ..SourceRecord::default()
        }
    }
}

/// What a command was to write: fields and values as a JSON object, or the value alone.
fn payload(command: &[&[u8]]) -> Vec<u8> {
    let fields = match command[0] {
        b"HSET" => &command[2..],
        // XADD stream [MAXLEN ~ n] * field value …
        b"XADD" if command.get(2) == Some(&&b"MAXLEN"[..]) => &command[6..],
        b"XADD" => &command[3..],
        b"SET" => return command[2].to_vec(),
        _ => return command.last().map(|value| value.to_vec()).unwrap_or_default(),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = fields.chunks_exact(2).map(|pair| (text(pair[0]), text(pair[1]).into()));
    serde_json::Value::Object(fields.collect()).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::resp::put_command;

    fn write(commands: &[&[&[u8]]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| put_command(command, &mut bytes));
        bytes
    }

    #[test]
    fn a_dead_letter_holds_what_was_to_be_written_under_its_key() {
        let letter = |commands: &[&[&[u8]]]| {
            let bytes = write(commands);
            let record = Write { bytes: &bytes, commands: commands.len() as u8 }.to_record("redis");
            assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
            String::from_utf8(record.payload.unwrap()).unwrap()
        };
        let hash: &[&[u8]] = &[b"HSET", b"k", b"n", b"1", b"x", b"\"q\""];
        let expected = r#"{"n":"1","x":"\"q\""}"#;
        assert_eq!(letter(&[&[b"HDEL", b"k", b"gone"], hash, &[b"PEXPIRE", b"k", b"9"]]), expected);
        let entry: &[&[u8]] = &[b"XADD", b"k", b"MAXLEN", b"~", b"9", b"*", b"payload", b"{}"];
        assert_eq!(letter(&[entry]), r#"{"payload":"{}"}"#);
        assert_eq!(letter(&[&[b"XADD", b"k", b"*", b"a", b"b"]]), r#"{"a":"b"}"#);
        assert_eq!(letter(&[&[b"SET", b"k", b"value", b"PX", b"5"]]), "value");
        assert_eq!(letter(&[&[b"INCRBY", b"k", b"7"]]), "7");
    }

    #[test]
    fn pieces_cover_all_writes_within_their_bounds() {
        let mut writes = Writes::default();
        for n in 0..10u8 {
            let bytes = write(&[&[b"SET", &[n], &vec![b'x'; usize::from(n) * 10]]]);
            writes.push(Write { bytes: &bytes, commands: 1 });
        }
        let (mut start, mut pieces) = (0, Vec::new());
        while start < writes.len() {
            let piece = writes.piece(start, 3, 150);
            start = piece.end;
            pieces.push(piece);
        }
        assert_eq!(pieces[0], 0..3, "as many as may go");
        assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
        let bytes = |piece: &Range<usize>| {
            piece.clone().map(|index| writes.get(index).bytes.len()).sum::<usize>()
        };
        assert!(pieces.iter().all(|piece| piece.len() == 1 || bytes(piece) <= 150));
    }
}
