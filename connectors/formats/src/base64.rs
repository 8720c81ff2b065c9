//! Base64 (RFC 4648, section 4), which is how text formats hold `BYTES`.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The 6 bits of each letter; 255 for what is no letter.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Appends `bytes` as padded base64.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            out.push(if letter <= group.len() {
                ALPHABET[(bits >> (18 - 6 * letter) & 63) as usize]
            } else {
                b'='
            });
        }
    }
}

/// Appends what `text` stands for, padded or not; `None` where it is no base64.
pub(crate) fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let padding = text.iter().rev().take(2).take_while(|letter| **letter == b'=').count();
    if padding > 0 && !text.len().is_multiple_of(4) {
        return None;
    }
    let (mut bits, mut held) = (0u32, 0);
    for letter in &text[..text.len() - padding] {
        let value = VALUES[usize::from(*letter)];
        if value == 255 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    // What is left over is padding of a whole byte: zero bits, and never a letter on its own.
    (held < 6 && bits & ((1 << held) - 1) == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
            encode(bytes.as_bytes(), &mut encoded);
            assert_eq!(encoded, text.as_bytes());
            decode(text.as_bytes(), &mut decoded).unwrap();
            assert_eq!(decoded, bytes.as_bytes());
        }
        for bad in ["Z", "Zg=", "Zh==", "Z*==", "====", "Zm9v="] {
            assert_eq!(decode(bad.as_bytes(), &mut Vec::new()), None, "{bad}");
        }
    }
}
