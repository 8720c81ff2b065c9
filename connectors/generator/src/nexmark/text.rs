//! The texts that fields are drawn from.
//!
//! Long texts are not written row by row: a string view points into a text that all batches
//! share. The channels, their addresses and the filler are the same for every seed.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, MAX_INLINE_VIEW_LEN, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer};

use crate::random::{Draw, Random, Stream};

/// Longest filler text, and so the largest average size of an event.
pub(crate) const EXTRA_MAX: u64 = 32_768;

/// Where fillers begin in the text that they are cut from: so few that their first letters stay in a core's cache.
const FILLER_STARTS: u64 = 8_192;

/// Length of that text: of the longest filler, a fifth above the average, from the last start.
const FILLER: u64 = FILLER_STARTS + EXTRA_MAX + EXTRA_MAX / 5 + 1;

/// Channels that are not hot.
const CHANNELS: u64 = 10_000;

const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Seed of the texts that do not depend on the job's seed.
const TEXT_SEED: u64 = 2_002;

/// Texts for many rows to point at.
pub(crate) struct Pool {
    views: Vec<u128>,
    text: Buffer,
}

impl Pool {
    fn new(texts: impl Iterator<Item = String>) -> Self {
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for text in texts {
            places.push((all.len(), text.len()));
            all.extend(text.into_bytes());
        }
        // A pool holds less than a megabyte, so offsets fit.
        let view = |(start, length): &(usize, usize)| {
            make_view(&all[*start..start + length], 0, *start as u32)
        };
        let views = places.iter().map(view).collect();
        Self { views, text: Buffer::from_vec(all) }
    }

    /// The view of a text.
    pub(crate) fn view(&self, text: usize) -> u128 {
        self.views[text]
    }

    /// What the views are of.
    pub(crate) fn text(&self) -> &Buffer {
        &self.text
    }
}

/// Texts by their views. They are not looked at again: checking UTF-8 took a third of the time of a
/// pass-through query.
///
/// # Safety
/// Every view is 0, which is the empty text, or was made of valid UTF-8 that lies where it says in `blocks`.
pub(crate) unsafe fn array(
    views: Vec<u128>,
    blocks: &[Buffer],
    valid: Option<NullBuffer>,
) -> ArrayRef {
    // SAFETY: the caller's views are within these blocks, and valid UTF-8.
    Arc::new(unsafe { StringViewArray::new_unchecked(views.into(), blocks.to_vec(), valid) })
}

/// A channel, by number; the last ones are hot.
pub(crate) fn channel_number(mut draw: Draw) -> usize {
    let hot = draw.below(2) > 0;
    let number =
        if hot { CHANNELS + draw.below(HOT_CHANNELS.len() as u64) } else { draw.below(CHANNELS) };
    number as usize
}

/// Names of channels.
pub(crate) fn channels() -> &'static Pool {
    static POOL: LazyLock<Pool> = LazyLock::new(|| {
        let channels = (0..CHANNELS).map(|number| format!("channel-{number}"));
        Pool::new(channels.chain(HOT_CHANNELS.map(str::to_owned)))
    });
    &POOL
}

/// Addresses of channels.
pub(crate) fn urls() -> &'static Pool {
    static POOL: LazyLock<Pool> = LazyLock::new(|| {
        let stream = Stream::new(TEXT_SEED, 0);
        Pool::new((0..CHANNELS + HOT_CHANNELS.len() as u64).map(|n| url(n, &mut stream.at(n))))
    });
    &POOL
}

/// Nine in ten of the channels that are not hot have their identifier in their address.
fn url(number: u64, random: &mut Random) -> String {
    let mut url = "https://www.nexmark.com/".to_owned();
    for _ in 0..3 {
        url += &word(random, 5, '_');
        url.push('/');
    }
    url += "item.htm?query=1";
    if number < CHANNELS && random.below(10) > 0 {
        let identifier = (number as i32).reverse_bits().unsigned_abs();
        url += &format!("&channel_id={identifier}");
    }
    url
}

/// What fillers are cut from.
pub(crate) struct Filler(Buffer);

impl Filler {
    /// The same for all.
    pub(crate) fn get() -> &'static Self {
        static TEXT: LazyLock<Filler> = LazyLock::new(|| {
            let mut random = Stream::new(TEXT_SEED, 1).at(0);
            let letter = |_| b'a' + random.below(26) as u8;
            Filler(Buffer::from_vec((0..FILLER).map(letter).collect::<Vec<u8>>()))
        });
        &TEXT
    }

    /// The view of a text of this length, at most [`EXTRA_MAX`], from somewhere.
    #[inline]
    pub(crate) fn view(&self, length: u64, mut draw: Draw) -> u128 {
        let start = draw.below(FILLER_STARTS) as usize;
        let text = &self.0[start..start + length as usize];
        match text.first_chunk::<4>() {
            // As `make_view` makes it, of what is known here: length, first letters, block 0, offset.
            Some(first) if text.len() > MAX_INLINE_VIEW_LEN as usize => {
                let first = u128::from(u32::from_le_bytes(*first));
                u128::from(length) | first << 32 | (start as u128) << 96
            }
            _ => make_view(text, 0, start as u32),
        }
    }

    /// What the views are of: ASCII, so that any part of it is valid UTF-8.
    pub(crate) fn text(&self) -> &Buffer {
        &self.0
    }
}

/// How long fillers are: from the least on, so many lengths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    least: u64,
    count: u64,
}

impl Lengths {
    /// What brings an event of `size` bytes to `average` on average: within a fifth.
    pub(crate) fn of(size: u64, average: u64) -> Self {
        let missing = average.saturating_sub(size);
        let spread = (missing + 2) / 5;
        Self { least: missing - spread, count: (2 * spread).max(1) }
    }

    /// One of them.
    pub(crate) fn choose(self, draw: &mut Draw) -> u64 {
        self.least + draw.below(self.count)
    }
}

/// 3 to `max - 1` lower-case letters, one in thirteen of them `special`; spaces at either end are
/// cut off.
pub(crate) fn word(random: &mut Random, max: u64, special: char) -> String {
    let length = 3 + random.below(max - 3);
    let mut word = String::with_capacity(length as usize);
    for _ in 0..length {
        word.push(match random.below(13) {
            0 => special,
            _ => char::from(b'a' + random.below(26) as u8),
        });
    }
    word.trim().to_owned()
}

/// One of `choices`.
pub(crate) fn one_of<'a>(choices: &[&'a str], random: &mut Random) -> &'a str {
    choices[random.below(choices.len() as u64) as usize]
}
