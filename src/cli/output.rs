//! What commands print to standard output. Whoever reads it may have heard enough: a closed pipe ends the
//! command quietly.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line, as `println!` does.
macro_rules! outln {
    ($($text:tt)*) => {
        $crate::cli::output::print(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints, as `print!` does.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::output::print(format_args!($($text)*)) };
}

pub(crate) use {out, outln};

/// Prints `text`; ends the process where that cannot be done.
pub(crate) fn print(text: Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: standard output cannot be written: {error}");
        std::process::exit(1);
    }
}
