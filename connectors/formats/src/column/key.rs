//! A short text that is looked for at one place, compared a word at a time: a field's name as JSON usually
//! has it, or all that stands between two values.

const WORD: usize = 8;

/// A text like `"name":`, to be compared with the bytes in front of a value.
pub(crate) struct Key {
    text: Vec<u8>,
    /// The first bytes, and which of them count; the lowest byte comes first.
    head: u64,
    head_mask: u64,
    /// The last eight bytes, where there are as many.
    tail: u64,
}

impl Key {
    /// The key of `name`; none matches where JSON has to escape the name.
    pub(crate) fn new(name: &str) -> Self {
        let escaped = |letter: char| matches!(letter, '"' | '\\') || letter.is_control();
        if name.contains(escaped) {
            Self::of(&[0xff])
        } else {
            Self::of(format!("\"{name}\":").as_bytes())
        }
    }

    /// This very text.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut head = [0; WORD];
        let known = text.len().min(WORD);
        head[..known].copy_from_slice(&text[..known]);
        let head_mask = if known == WORD { u64::MAX } else { (1 << (8 * known)) - 1 };
        let tail = text.len().checked_sub(WORD).map_or(0, |at| word(text, at).unwrap_or(0));
        Self { head: u64::from_le_bytes(head), head_mask, tail, text: text.to_vec() }
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it stands in `bytes` at `at`.
    #[inline]
    pub(crate) fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let Some(head) = word(bytes, at) else { return self.is_at_end(bytes, at) };
        if head & self.head_mask != self.head {
            return false;
        }
        match self.len() {
            0..=WORD => true,
            length if length <= 2 * WORD => word(bytes, at + length - WORD) == Some(self.tail),
            _ => self.is_at_end(bytes, at),
        }
    }

    fn is_at_end(&self, bytes: &[u8], at: usize) -> bool {
        bytes.get(at..).is_some_and(|rest| rest.starts_with(&self.text))
    }
}

/// The eight bytes at `at`, the first the lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk::<WORD>()?;
    Some(u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_where_its_text_is(
            name in "[a-c]{0,20}", before in "[a-c\":]{0,9}", after in "[a-c\":]{0,9}", at in 0usize..20
        ) {
            let text = format!("{before}\"{name}\":{after}");
            let key = Key::new(&name);
            let expected = text.as_bytes().get(at..).is_some_and(|rest| rest.starts_with(format!("\"{name}\":").as_bytes()));
            prop_assert_eq!(key.is_at(text.as_bytes(), at), expected);
            prop_assert!(key.is_at(text.as_bytes(), before.len()));
        }
    }

    #[test]
    fn a_name_that_json_escapes_is_never_found() {
        for name in ["a\"", "\\", "\n"] {
            let text = format!("\"{name}\":1,\"b\":2");
            assert!((0..text.len()).all(|at| !Key::new(name).is_at(text.as_bytes(), at)));
        }
    }
}
