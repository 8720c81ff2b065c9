//! How text is written down in bytes.

use std::borrow::Cow;

use tidemill_core::table::Options;
use tidemill_core::{Error, Result};

/// A charset, by its name in Java.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8
    #[default]
    Utf8,
    /// US-ASCII
    Ascii,
    /// ISO-8859-1
    Latin1,
    /// UTF-16BE
    Utf16Be,
    /// UTF-16LE
    Utf16Le,
}

const ALL: [Charset; 5] =
    [Charset::Utf8, Charset::Ascii, Charset::Latin1, Charset::Utf16Be, Charset::Utf16Le];

impl Charset {
    pub(super) fn parse(options: &Options, name: &str) -> Result<Self> {
        let Some(text) = options.get(name) else { return Ok(Self::default()) };
        let known = ALL.into_iter().find(|charset| charset.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| {
            let names = ALL.map(Self::name).join("', '");
            let message = format!("option '{name}' = '{text}' must be one of '{names}'");
            Error::option(name, message)
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Ascii => "US-ASCII",
            Self::Latin1 => "ISO-8859-1",
            Self::Utf16Be => "UTF-16BE",
            Self::Utf16Le => "UTF-16LE",
        }
    }

    /// The same text in UTF-8; `None` where the bytes are no text in this charset.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
        let is_text = match self {
            Self::Utf8 => std::str::from_utf8(bytes).is_ok(),
            Self::Ascii => bytes.is_ascii(),
            Self::Latin1 if bytes.is_ascii() => true,
            Self::Latin1 => {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                return Some(Cow::Owned(text.into_bytes()));
            }
            Self::Utf16Be => return utf16(bytes, u16::from_be_bytes),
            Self::Utf16Le => return utf16(bytes, u16::from_le_bytes),
        };
        is_text.then_some(Cow::Borrowed(bytes))
    }

    /// Appends a text, given in UTF-8; `None` where a letter is not in this charset.
    pub(super) fn encode(self, text: &str, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Utf8 => out.extend_from_slice(text.as_bytes()),
            Self::Ascii => out.extend_from_slice(Some(text).filter(|t| t.is_ascii())?.as_bytes()),
            Self::Latin1 => {
                for letter in text.chars() {
                    out.push(u8::try_from(u32::from(letter)).ok()?);
                }
            }
            Self::Utf16Be => out.extend(text.encode_utf16().flat_map(u16::to_be_bytes)),
            Self::Utf16Le => out.extend(text.encode_utf16().flat_map(u16::to_le_bytes)),
        }
        Some(())
    }
}

fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Option<Cow<'_, [u8]>> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let text: Result<String, _> =
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    Some(Cow::Owned(text.ok()?.into_bytes()))
}
