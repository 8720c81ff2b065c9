//! The entries of a map: an object whose field names nobody knows beforehand.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::decode::read_value;
use super::scan::Scanner;
use crate::column::{Column, Fit};

/// So many keys are compared with each other, more are hashed.
const COMPARED_KEYS_MAX: usize = 16;

/// Entries of a map; of duplicate keys the last counts. The opening brace is where the scanner is.
pub(super) fn read_map<'a>(
    scanner: &mut Scanner<'a>,
    keys: &mut Column,
    values: &mut Column,
    depth: usize,
) -> Fit {
    let (before, rows) = (scanner.clone(), keys.len());
    let mut seen: Vec<Cow<'a, [u8]>> = Vec::new();
    let mut more = !scanner.open(b'}');
    while more {
        let key = scanner.key()?;
        if seen.len() == COMPARED_KEYS_MAX || seen.contains(&key) {
            keys.truncate(rows);
            values.truncate(rows);
            *scanner = before;
            return read_distinct(scanner, keys, values, depth);
        }
        read_entry(scanner, &key, keys, values, depth)?;
        seen.push(key);
        more = scanner.more(b'}')?;
    }
    Ok(())
}

/// As [`read_map`], where keys are many or come twice: the texts of all values first.
fn read_distinct<'a>(
    scanner: &mut Scanner<'a>,
    keys: &mut Column,
    values: &mut Column,
    depth: usize,
) -> Fit {
    let mut entries: Vec<(Cow<'a, [u8]>, Scanner<'a>)> = Vec::new();
    let mut known: HashMap<Cow<'a, [u8]>, usize> = HashMap::new();
    let mut more = !scanner.open(b'}');
    while more {
        let key = scanner.key()?;
        let value = scanner.clone();
        scanner.any(depth + 1)?;
        match known.entry(key.clone()) {
            Entry::Occupied(entry) => entries[*entry.get()].1 = value,
            Entry::Vacant(entry) => {
                entry.insert(entries.len());
                entries.push((key, value));
            }
        }
        more = scanner.more(b'}')?;
    }
    for (key, mut value) in entries {
        read_entry(&mut value, &key, keys, values, depth)?;
    }
    Ok(())
}

fn read_entry(
    scanner: &mut Scanner,
    key: &[u8],
    keys: &mut Column,
    values: &mut Column,
    depth: usize,
) -> Fit {
    keys.append_bytes(key);
    read_value(scanner, values, depth + 1)
        .map_err(|bad| bad.inside(format_args!(".{}", String::from_utf8_lossy(key))))
}
