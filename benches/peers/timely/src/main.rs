//! Timely dataflow as a peer of Tidemill, run by `../run`.
//!
//! ```text
//! timely-peer FOLDER tumbling|hopping
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
mod group;
mod slices;

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use checksum::Checksum;
use columns::Columns;
use group::{Count, Totals};
use slices::Windows;

/// Windows of 10 s.
const TUMBLING: Windows = Windows { slide: 10_000_000, slices: 1 };

/// Windows of 10 s, every 2 s.
const HOPPING: Windows = Windows { slide: 2_000_000, slices: 5 };

/// How far out of order rows come, in microseconds; also the bound of watermarks.
const DISORDER: i64 = 1_000_000;

/// Groups the rows on so many workers.
type Job = fn(&Arc<Columns>, usize) -> Result<Checksum, String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next();
    let job: Job = match (arguments.next().as_deref(), arguments.next()) {
        (Some("tumbling"), None) => {
            |rows, workers| dataflow::run::<Totals>(rows, TUMBLING, workers)
        }
        (Some("hopping"), None) => |rows, workers| dataflow::run::<Count>(rows, HOPPING, workers),
        _ => {
            eprintln!("usage: timely-peer FOLDER tumbling|hopping");
            return ExitCode::from(2);
        }
    };
    match serve(Path::new(&folder.unwrap_or_default()), job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("timely-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(folder: &Path, job: Job) -> Result<(), String> {
    let rows = Columns::read(folder)
        .map_err(|error| format!("the rows in {} cannot be read: {error}", folder.display()))?;
    let rows = Arc::new(rows);
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("the input cannot be read: {error}"))?;
        let workers = line.trim().parse().ok().filter(|workers| *workers > 0);
        let workers = workers.ok_or_else(|| format!("'{line}' is no number of workers"))?;
        let start = Instant::now();
        let checksum = job(&rows, workers)?;
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
