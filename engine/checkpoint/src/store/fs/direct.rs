//! Writes large files past the system's cache of pages. Under the folder of checkpoints: what is written every
//! second is read after a crash at most, and a copy of it in fresh pages costs the shards, whose processors the
//! coordinator shares, more than all else about writing it. Invariant: the file has these bytes, and no more.

use std::fs::File;
use std::io::{Result, Write};
use std::path::Path;

/// Less is not worth it.
#[cfg(any(target_os = "linux", test))]
const LEAST: usize = 256 << 10;

/// Writes a new file, or in place of one, past the cache if the system can do that; else as usual.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<File> {
    #[cfg(target_os = "linux")]
    if bytes.len() >= LEAST {
        match linux::create(path, bytes) {
            Err(e) if linux::is_refusal(&e) => {}
            done => return done,
        }
    }
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{Error, ErrorKind, IoSlice, Result, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    /// What memory and places in the file are multiples of.
    const BLOCK: usize = 4096;

    /// Blocks that are written at once.
    const BLOCKS: usize = 256;

    #[repr(align(4096))]
    #[derive(Clone)]
    struct Block([u8; BLOCK]);

    /// Whether writing as usual may do what could not be done this way, or say better why it cannot.
    pub fn is_refusal(error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
    }

    /// # Errors
    /// A [refusal](is_refusal) where the file system does not know how, or takes less than a block.
    pub fn create(path: &Path, bytes: &[u8]) -> Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        let mut file = options.open(path)?;
        let mut blocks = vec![Block([0; BLOCK]); BLOCKS.min(bytes.len().div_ceil(BLOCK))];
        for bytes in bytes.chunks(BLOCKS * BLOCK) {
            let used = bytes.len().div_ceil(BLOCK);
            for (block, bytes) in blocks.iter_mut().zip(bytes.chunks(BLOCK)) {
                block.0[..bytes.len()].copy_from_slice(bytes);
            }
            write_all(&mut file, &blocks[..used])?;
        }
        // Behind the last byte there is the rest of a block.
        file.set_len(bytes.len() as u64)?;
        Ok(file)
    }

    fn write_all(file: &mut File, mut blocks: &[Block]) -> Result<()> {
        while !blocks.is_empty() {
            let slices: Vec<_> = blocks.iter().map(|block| IoSlice::new(&block.0)).collect();
            match file.write_vectored(&slices) {
                Ok(written) if written > 0 && written % BLOCK == 0 => {
                    blocks = &blocks[written / BLOCK..];
                }
                Ok(_) => return Err(ErrorKind::InvalidInput.into()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_have_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [9 * LEAST, 0, 1, LEAST - 1, 5 * LEAST + 4095, LEAST + 1, LEAST] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 31 / 7) as u8).collect();
            create(&path, &bytes).unwrap().sync_all().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes");
            #[cfg(target_os = "linux")]
            match linux::create(&path, &bytes) {
                Ok(_) => assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes"),
                Err(e) => assert!(linux::is_refusal(&e), "{e}"),
            }
        }
    }
}
