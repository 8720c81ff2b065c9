//! The `tidemill` binary: see [`tidemill::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill::cli::main()
}
