//! A file's content, unpacked where it is compressed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::{Error, Result};

/// How a file is compressed, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// How the file of this name is compressed, if it is.
pub(crate) fn compression(path: &Path) -> Option<Compression> {
    match path.extension()?.to_str()? {
        "gz" => Some(Compression::Gzip),
        "zst" => Some(Compression::Zstd),
        _ => None,
    }
}

/// The file's content from `byte` on, and the file's size.
pub(crate) fn open_file(
    path: &Path,
    byte: u64,
    bytes_read: &Arc<AtomicU64>,
) -> Result<(Box<dyn Read + Send>, u64)> {
    let failed = |error: std::io::Error| Error::external("cannot be opened").caused_by(error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if byte > 0 {
        file.seek(SeekFrom::Start(byte)).map_err(failed)?;
    }
    let counted = Counted { file, bytes_read: bytes_read.clone() };
    Ok(match compression(path) {
        Some(Compression::Gzip) => (Box::new(flate2::read::MultiGzDecoder::new(counted)), size),
        Some(Compression::Zstd) => (Box::new(zstd::Decoder::new(counted).map_err(failed)?), size),
        None => (Box::new(counted.file), size),
    })
}

/// Counts what is read of a compressed file.
struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
