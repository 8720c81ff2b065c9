//! The stream that print sinks share.
//!
//! Last link of the data path. All shards of all print sinks of a job write to one console; a
//! whole batch goes out under its lock, so that lines never mix, and the console knows which sink
//! spoke last, so that a table whose rows follow another's gets its header again.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::{Error, ErrorKind, Result};

/// Message of the error that ends a job whose reader (`head`, a closed pager) has gone.
const READER_GONE: &str = "whoever read the output has closed it, so nothing more is printed";

/// Whether the job ended because its output was closed by the reader, which is the reader's
/// choice and no fault worth reporting.
pub fn reader_is_gone(error: &Error) -> bool {
    error.kind() == ErrorKind::External && error.message().ends_with(READER_GONE)
}

/// An output stream that several sinks share. Clones write to the same stream.
#[derive(Clone)]
pub struct Console {
    name: &'static str,
    stream: Arc<Mutex<Stream>>,
}

struct Stream {
    out: Box<dyn Write + Send>,
    sinks: usize,
    last: Option<usize>,
}

impl Console {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::named("standard output", Box::new(io::stdout()))
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self::named("standard error", Box::new(io::stderr()))
    }

    /// Anything else that can be written to.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self::named("the given writer", out)
    }

    fn named(name: &'static str, out: Box<dyn Write + Send>) -> Self {
        Self { name, stream: Arc::new(Mutex::new(Stream { out, sinks: 0, last: None })) }
    }

    /// What it writes to, for people.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A number for one more sink.
    pub(crate) fn register(&self) -> usize {
        let mut stream = self.stream.lock();
        stream.sinks += 1;
        stream.sinks
    }

    /// Writes what `text` makes of whether another sink (`Some(true)`), this one (`Some(false)`)
    /// or none (`None`) wrote before, and flushes.
    pub(crate) fn write(
        &self,
        sink: usize,
        text: impl FnOnce(Option<bool>) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let mut stream = self.stream.lock();
        let text = text(stream.last.map(|last| last != sink))?;
        stream.last = Some(sink);
        let written = stream.out.write_all(&text).and_then(|()| stream.out.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Error::external(READER_GONE),
            _ => Error::external(format!("cannot write to {}", self.name)).caused_by(error),
        })
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Console").field(&self.name).finish()
    }
}
