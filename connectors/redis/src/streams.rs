//! Names of streams, as the option `stream` has them: several with semicolons between them, partitioned
//! ones as `orders:{0..7}`, which stands for `orders:0` to `orders:7`. Braces without `..` stand for
//! themselves (Redis puts all keys with the same text in braces on one node of a cluster).

use tidemill_core::{Error, Result};

/// So many streams a table may have.
const STREAMS_MAX: usize = 4096;

/// One stream of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its key in Redis.
    pub key: String,
    /// Its number: the one in its name, of a partitioned stream; else its place in the list.
    pub partition: i32,
}

/// The streams that `text` names, in its order.
///
/// # Errors
/// A configuration error about the option `stream`.
pub fn parse(text: &str) -> Result<Vec<Stream>> {
    let mut streams: Vec<Stream> = Vec::new();
    for name in text.split(';').map(str::trim).filter(|name| !name.is_empty()) {
        match range(name)? {
            None => {
                let partition = i32::try_from(streams.len()).unwrap_or(i32::MAX);
                streams.push(Stream { key: name.to_owned(), partition });
            }
            Some((before, first, last, after)) => {
                streams.extend((first..=last).map(|n| Stream {
                    key: format!("{before}{n}{after}"),
                    partition: i32::try_from(n).unwrap_or(i32::MAX),
                }));
            }
        }
        if streams.len() > STREAMS_MAX {
            return Err(wrong(text, &format!("it names more than {STREAMS_MAX} streams")));
        }
    }
    for (n, stream) in streams.iter().enumerate() {
        if streams[..n].iter().any(|other| other.key == stream.key) {
            return Err(wrong(text, &format!("it names '{}' twice", stream.key)));
        }
    }
    if streams.is_empty() {
        return Err(Error::option("stream", "option 'stream' names no stream"));
    }
    Ok(streams)
}

type Range<'a> = (&'a str, usize, usize, &'a str);

/// The numbers in `name`, and what stands before and behind them.
fn range(name: &str) -> Result<Option<Range<'_>>> {
    let braces = name.match_indices('{').find_map(|(open, _)| {
        let close = open + name[open..].find('}')?;
        name[open + 1..close].split_once("..").map(|(first, last)| (open, close, first, last))
    });
    let Some((open, close, first, last)) = braces else {
        let unclosed = name.rfind('{').is_some_and(|open| !name[open..].contains('}'));
        return match unclosed && name.contains("..") {
            true => Err(wrong(name, "a brace is not closed: write 'orders:{0..7}'")),
            false => Ok(None),
        };
    };
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last - first < STREAMS_MAX => {
            Ok(Some((&name[..open], first, last, &name[close + 1..])))
        }
        _ => Err(wrong(name, "write 'orders:{0..7}' for the streams orders:0 to orders:7")),
    }
}

fn wrong(text: &str, why: &str) -> Error {
    Error::option("stream", format!("option 'stream' = '{text}': {why}"))
}

/// The partition, of `partitions`, of a record with this key: the same for ever, and in every program
/// that uses XXH3 with seed 0.
///
/// ```
/// assert_eq!(tidemill_redis::streams::partition_of(b"user-1", 8), 1);
/// ```
pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    let hash = xxhash_rust::xxh3::xxh3_64(key);
    usize::try_from(hash % (partitions.max(1) as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<(String, i32)> {
        let streams = parse(text).unwrap();
        streams.into_iter().map(|stream| (stream.key, stream.partition)).collect()
    }

    #[test]
    fn ranges_are_expanded_and_other_braces_stay() {
        let named = |names: &[(&str, i32)]| -> Vec<_> {
            names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        assert_eq!(keys("a"), named(&[("a", 0)]));
        assert_eq!(keys("b ; a;"), named(&[("b", 0), ("a", 1)]));
        assert_eq!(keys("o:{6..8}x"), named(&[("o:6x", 6), ("o:7x", 7), ("o:8x", 8)]));
        assert_eq!(keys("{eu}:o:{0..1}"), named(&[("{eu}:o:0", 0), ("{eu}:o:1", 1)]));
        assert_eq!(keys("{eu}:o"), named(&[("{eu}:o", 0)]));
    }

    #[test]
    fn names_that_make_no_sense_are_refused() {
        for text in ["", ";", "a;a", "a{0..1};a0", "a{1..0}", "a{x..y}", "a{0..99999}", "a{0.."] {
            assert_eq!(parse(text).unwrap_err().wrong_option(), Some("stream"), "{text}");
        }
    }
}
