//! Timely dataflow as a peer of Tidemill, run by `../run`.
//!
//! ```text
//! timely-peer FOLDER
//! ```
//!
//! Reads the rows in the folder and says `ready`. Then it groups them once for every line of its input, which is a
//! number of workers, and answers with a line of JSON.
//!
//! Invariant: each answer carries the checksum of all its results.

#![deny(missing_docs)]

mod checksum;
mod columns;
mod dataflow;
mod slices;

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use columns::Columns;

/// Length of the windows, in microseconds.
const WINDOW: i64 = 10_000_000;

/// How far out of order rows come, in microseconds; also the bound of watermarks.
const DISORDER: i64 = 1_000_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: timely-peer FOLDER");
        return ExitCode::from(2);
    };
    match serve(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("timely-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(folder: &Path) -> Result<(), String> {
    let rows = Columns::read(folder)
        .map_err(|error| format!("the rows in {} cannot be read: {error}", folder.display()))?;
    let rows = Arc::new(rows);
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("the input cannot be read: {error}"))?;
        let workers = line.trim().parse().ok().filter(|workers| *workers > 0);
        let workers = workers.ok_or_else(|| format!("'{line}' is no number of workers"))?;
        let start = Instant::now();
        let checksum = dataflow::run(&rows, workers)?;
        let seconds = start.elapsed().as_secs_f64();
        say(&format!("{{\"seconds\": {seconds}, \"checksum\": {}}}", checksum.json()))?;
    }
    Ok(())
}

fn say(line: &str) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    let written = writeln!(output, "{line}").and_then(|()| output.flush());
    written.map_err(|error| format!("the answer cannot be written: {error}"))
}
