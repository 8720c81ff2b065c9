//! Commands as they go over the wire, one behind the other.
//!
//! ```text
//! *3 $3 SET $1 k $1 v     an array of bulk strings: the Redis serialization protocol, version 2
//! ```
//!
//! They are packed on the shard, and from there on moved as bytes: into a queue, into a checkpoint, into a
//! socket.
//!
//! Invariant: what [`Arguments`] reads is what [`put_command`] wrote, byte for byte.

use std::io::Write;

/// Appends a command.
pub(crate) fn put_command(arguments: &[&[u8]], out: &mut Vec<u8>) {
    put_header(arguments.len(), out);
    arguments.iter().for_each(|argument| put_argument(argument, out));
}

/// Appends the beginning of a command of `count` arguments, its name included.
pub(crate) fn put_header(count: usize, out: &mut Vec<u8>) {
    write!(out, "*{count}\r\n").expect("a Vec takes every write");
}

/// Appends an argument.
pub(crate) fn put_argument(argument: &[u8], out: &mut Vec<u8>) {
    write!(out, "${}\r\n", argument.len()).expect("a Vec takes every write");
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

/// The commands of packed bytes; what is torn ends them.
pub(crate) struct Commands<'a>(pub &'a [u8]);

impl<'a> Iterator for Commands<'a> {
    type Item = Vec<&'a [u8]>;

    fn next(&mut self) -> Option<Vec<&'a [u8]>> {
        let mut rest = self.0;
        let count = take_number(&mut rest, b'*')?;
        let mut arguments = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let length = take_number(&mut rest, b'$')?;
            let (argument, behind) = rest.split_at_checked(length)?;
            arguments.push(argument);
            rest = behind.strip_prefix(b"\r\n")?;
        }
        self.0 = rest;
        Some(arguments)
    }
}

/// The key of the first of packed commands.
pub(crate) fn key(commands: &[u8]) -> Option<&[u8]> {
    let mut rest = commands;
    take_number(&mut rest, b'*').filter(|count| *count > 1)?;
    let name = take_number(&mut rest, b'$')?;
    rest = rest.get(name + 2..)?;
    let length = take_number(&mut rest, b'$')?;
    rest.get(..length)
}

fn take_number(bytes: &mut &[u8], kind: u8) -> Option<usize> {
    let rest = bytes.strip_prefix(&[kind])?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    *bytes = rest[end..].strip_prefix(b"\r\n")?;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_commands_are_what_the_client_would_pack_and_read_back() {
        let mut packed = Vec::new();
        put_command(&[b"HSET", b"k\r\n$", b"", b"v"], &mut packed);
        assert_eq!(packed, redis::cmd("HSET").arg(b"k\r\n$").arg("").arg("v").get_packed_command());
        put_command(&[b"PEXPIRE", b"k\r\n$", b"10"], &mut packed);
        assert_eq!(key(&packed), Some(&b"k\r\n$"[..]));
        let mut commands = Commands(&packed);
        assert_eq!(commands.next(), Some(vec![&b"HSET"[..], b"k\r\n$", b"", b"v"]));
        assert_eq!(commands.next(), Some(vec![&b"PEXPIRE"[..], b"k\r\n$", b"10"]));
        assert_eq!(commands.next(), None);
        assert!(commands.0.is_empty());
        (0..packed.len() - 1).for_each(|end| {
            assert!(Commands(&packed[..end]).count() < 2, "torn after {end} bytes");
        });
    }
}
