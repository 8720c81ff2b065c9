//! Events as lines of a file or of standard output: payloads alone, without keys and headers.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use tidemill_core::{Error, Result};
use tidemill_generator::events::Event;

use super::{Delivered, Target, Wants};

/// Bytes that are written at once.
const BUFFER: usize = 256 * 1024;

/// A file or standard output.
pub struct Lines {
    name: String,
    out: Box<dyn Write>,
    held: Vec<u8>,
    /// Lines in `held`.
    waiting: u64,
    written: u64,
    /// Lines that nobody wanted any more.
    lost: u64,
}

impl Lines {
    /// A file, which is replaced where there is one.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| {
            Error::configuration(format!("the file {name} cannot be created")).caused_by(error)
        })?;
        Ok(Self::to(name, Box::new(file)))
    }

    /// Standard output.
    pub fn stdout() -> Self {
        Self::to("standard output".to_owned(), Box::new(io::stdout()))
    }

    fn to(name: String, out: Box<dyn Write>) -> Self {
        let held = Vec::with_capacity(BUFFER + 1024);
        Self { name, out, held, waiting: 0, written: 0, lost: 0 }
    }

    fn send(&mut self) -> Result<()> {
        let written = self.out.write_all(&self.held).and_then(|()| self.out.flush());
        match written {
            Ok(()) => self.written += self.waiting,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.lost += self.waiting,
            Err(error) => {
                let message = format!("cannot write to {}", self.name);
                return Err(Error::external(message).caused_by(error));
            }
        }
        self.held.clear();
        self.waiting = 0;
        Ok(())
    }
}

impl Target for Lines {
    fn write(&mut self, event: &Event<'_>) -> Result<()> {
        self.held.extend_from_slice(event.value);
        self.held.push(b'\n');
        self.waiting += 1;
        if self.held.len() >= BUFFER { self.send() } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<Wants> {
        self.send()?;
        Ok(if self.lost > 0 { Wants::NoMore } else { Wants::More })
    }

    fn finish(&mut self) -> Result<Delivered> {
        self.send()?;
        Ok(Delivered { acknowledged: self.written, failed: self.lost, why: None })
    }
}
