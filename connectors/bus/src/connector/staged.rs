//! Events in a checkpoint: what a sink's writer has made in an epoch, byte for byte.
//!
//! ```text
//! for each event:  key?  payload?  timestamp?  number of headers  (name  value?)*
//! ```
//!
//! `?` is a byte that says whether it is there; lengths are four bytes, little-endian.

use tidemill_core::record::Header;
use tidemill_core::{Error, Result};

use crate::Event;

/// Adds an event to an epoch's.
pub(super) fn add(event: &Event, to: &mut Vec<u8>) {
    add_optional(event.key.as_deref(), to);
    add_optional(event.payload.as_deref(), to);
    to.push(u8::from(event.timestamp.is_some()));
    to.extend(event.timestamp.unwrap_or_default().to_le_bytes());
    to.extend((event.headers.len() as u32).to_le_bytes());
    for header in &event.headers {
        add_bytes(header.name.as_bytes(), to);
        add_optional(header.value.as_deref(), to);
    }
}

fn add_optional(bytes: Option<&[u8]>, to: &mut Vec<u8>) {
    to.push(u8::from(bytes.is_some()));
    add_bytes(bytes.unwrap_or_default(), to);
}

fn add_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend((bytes.len() as u32).to_le_bytes());
    to.extend(bytes);
}

/// All events of an epoch.
///
/// # Errors
/// Bytes that [`add`] has not written.
pub(super) fn read(mut bytes: &[u8]) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let event = read_one(&mut bytes);
        let corrupt = || Error::corrupt("the staged events of a bus in memory are unreadable");
        events.push(event.ok_or_else(corrupt)?);
    }
    Ok(events)
}

fn read_one(bytes: &mut &[u8]) -> Option<Event> {
    let (key, payload) = (optional(bytes)?, optional(bytes)?);
    let is_timed = take(bytes, 1)?[0] == 1;
    let timestamp = i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
    let mut headers = Vec::new();
    for _ in 0..length(bytes)? {
        let name = sized(bytes)?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        headers.push(Header { name, value: optional(bytes)? });
    }
    Some(Event { key, headers, timestamp: is_timed.then_some(timestamp), payload })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?) as usize)
}

fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = length(bytes)?;
    take(bytes, count)
}

fn optional(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let is_there = take(bytes, 1)?[0] == 1;
    let value = sized(bytes)?;
    Some(is_there.then(|| value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_and_torn_ones_are_noticed() {
        let events = [
            Event::keyed("k", "payload").with_header("a", "1").with_header("a", "").at(-5),
            Event { headers: vec![Header { name: "n".into(), value: None }], ..Event::default() },
            Event::new(""),
        ];
        let mut bytes = Vec::new();
        events.iter().for_each(|event| add(event, &mut bytes));
        assert_eq!(read(&bytes).unwrap(), events);
        let mut whole = Vec::new();
        for event in &events {
            whole.push(
                whole.last().copied().unwrap_or(0) + {
                    let mut one = Vec::new();
                    add(event, &mut one);
                    one.len()
                },
            );
        }
        for cut in (1..bytes.len()).filter(|cut| !whole.contains(cut)) {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
