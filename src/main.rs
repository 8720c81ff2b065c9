//! The `tidemill` binary: see [`tidemill::cli`].

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    tidemill::cli::main()
}
