//! How a payload says which schema it was written with.
//!
//! ```text
//! ┌───────┬──────────────────┬──────────────────────────────┬─────────┐
//! │ 0x00  │ id, u32 big end. │ message indexes (Protobuf)   │ message │
//! └───────┴──────────────────┴──────────────────────────────┴─────────┘
//! ```
//!
//! Message indexes are zigzag varints: how many, then each; a path into the nested messages of the
//! schema's file. `[0]`, the first message, is a single zero byte. Source: Confluent's description
//! of the wire format.

/// What every framed payload begins with.
pub const MAGIC: u8 = 0;

/// Magic byte and id.
pub const HEADER_BYTES: usize = 5;

/// Messages are nested at most so deep: more indexes than that are no indexes.
const INDEXES_MAX: usize = 64;

/// The schema's id, and what follows it.
///
/// # Errors
/// The reason why the payload has no frame.
pub fn split(payload: &[u8]) -> Result<(u32, &[u8]), String> {
    match payload {
        [MAGIC, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        [] => Err("the payload is empty: a schema registry's frame is expected".into()),
        [MAGIC, ..] => Err(format!(
            "{} bytes: a schema registry's frame has {HEADER_BYTES} before the record",
            payload.len()
        )),
        [first, ..] => Err(format!(
            "the first byte is {first:#04x} and not {MAGIC:#04x}: the payload was not written with \
             a schema registry"
        )),
    }
}

/// Appends magic byte and id.
pub fn write_header(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Message indexes from the front of `bytes`, and how many bytes they take.
///
/// # Errors
/// The reason why there are none.
pub fn read_indexes(bytes: &[u8]) -> Result<(Vec<usize>, usize), String> {
    let mut at = 0;
    let count = read_index(bytes, &mut at)?;
    if count == 0 {
        return Ok((vec![0], at));
    }
    if count > INDEXES_MAX {
        return Err(format!("message indexes: {count} are more than messages are nested"));
    }
    let indexes = (0..count).map(|_| read_index(bytes, &mut at)).collect::<Result<_, _>>()?;
    Ok((indexes, at))
}

/// Appends message indexes.
pub fn write_indexes(indexes: &[usize], out: &mut Vec<u8>) {
    if indexes == [0] {
        out.push(0);
        return;
    }
    for index in std::iter::once(&indexes.len()).chain(indexes) {
        let mut zigzag = (*index as u64) << 1;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    }
}

/// One zigzag varint that must not be negative.
fn read_index(bytes: &[u8], at: &mut usize) -> Result<usize, String> {
    let mut zigzag = 0u64;
    for shift in (0..35).step_by(7) {
        let Some(byte) = bytes.get(*at) else {
            return Err("message indexes: the payload ends within them".into());
        };
        *at += 1;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let index = zigzag >> 1;
            return match usize::try_from(index) {
                Ok(index) if zigzag & 1 == 0 => Ok(index),
                _ => Err("message indexes: one is negative".into()),
            };
        }
    }
    Err("message indexes: a varint of more than 5 bytes".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_those_of_the_wire_format() {
        let mut frame = Vec::new();
        write_header(0x0102_0304, &mut frame);
        write_indexes(&[0], &mut frame);
        assert_eq!(frame, [0, 1, 2, 3, 4, 0]);
        let (id, rest) = split(&frame).unwrap();
        assert_eq!((id, rest), (0x0102_0304, &[0u8][..]));
        assert_eq!(read_indexes(rest).unwrap(), (vec![0], 1));

        let mut indexes = Vec::new();
        write_indexes(&[1, 0, 100], &mut indexes);
        assert_eq!(indexes, [6, 2, 0, 200, 1]);
        // `[0]` may be written out, too.
        assert_eq!(read_indexes(&[2, 0, 9]).unwrap(), (vec![0], 2));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(split(b"{\"a\":1}").unwrap_err().contains("0x7b"));
        assert!(split(&[0, 1, 2]).unwrap_err().contains("3 bytes"));
        assert!(split(&[]).unwrap_err().contains("empty"));
        for bad in [&[][..], &[1][..], &[6, 2][..], &[255; 9][..], &[254, 255, 3, 0][..]] {
            read_indexes(bad).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn indexes_read_back_as_they_were_written(
            indexes in proptest::collection::vec(0usize..100_000, 1..9),
            rest in any::<Vec<u8>>(),
        ) {
            let mut bytes = Vec::new();
            write_indexes(&indexes, &mut bytes);
            let length = bytes.len();
            bytes.extend(rest);
            prop_assert_eq!(read_indexes(&bytes), Ok((indexes, length)));
        }

        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = split(&bytes);
            let _ = read_indexes(&bytes);
        }
    }
}
