//! Counts a kernel in a process of its own, under valgrind's callgrind.
//!
//! Invariant: what is counted depends on the code and the kernel's input. The process gets no
//! environment, so that nothing in it moves memory about; valgrind itself lays memory out alike in
//! every run. Copies are made alike on every machine: see `ALIKE_EVERYWHERE`.

use std::path::Path;
use std::process::Command;

use tidemill_core::{Error, Result};

use crate::kernels::{COUNTED_REGION, Kernel};

/// The argument that makes this program run one kernel and print how many elements it went over.
pub const RUN_KERNEL: &str = "--kernel";

/// What tells the C library not to choose its way of copying by the processor and by the sizes of its
/// caches. Of a copy by one instruction for a whole block, callgrind counts every byte; from which
/// size on that way is taken differs between machines, and with it the count of a kernel that
/// copies much (state out: by 6 %).
const ALIKE_EVERYWHERE: &str =
    "glibc.cpu.hwcaps=-AVX2,-ERMS,-FSRM:glibc.cpu.x86_non_temporal_threshold=0x10000000";

/// Instructions of a kernel for each of its elements.
///
/// # Errors
/// Where valgrind is missing or the kernel fails, with what they said.
pub fn per_element(kernel: &Kernel) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("callgrind.out");
    let elements = run(kernel, &file)?;
    let counts = std::fs::read_to_string(&file)?;
    let instructions = total(&counts).ok_or_else(|| {
        Error::internal(format!(
            "callgrind counted nothing for '{}': has `{COUNTED_REGION}` been renamed or inlined?",
            kernel.name
        ))
    })?;
    Ok(instructions as f64 / elements as f64)
}

/// Runs the kernel and lets callgrind write what it counted; returns the number of elements.
fn run(kernel: &Kernel, counts: &Path) -> Result<usize> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{COUNTED_REGION}*"))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(std::env::current_exe()?)
        .args([RUN_KERNEL, kernel.name])
        .env_clear()
        .env("GLIBC_TUNABLES", ALIKE_EVERYWHERE);
    if let Some(path) = std::env::var_os("PATH") {
        valgrind.env("PATH", path);
    }
    let output = valgrind.output().map_err(|error| {
        Error::external("valgrind cannot be started: run scripts/services install").caused_by(error)
    })?;
    let printed = String::from_utf8_lossy(&output.stdout);
    match printed.trim().parse() {
        Ok(elements) if output.status.success() => Ok(elements),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Error::external(format!("kernel '{}' failed: {said}", kernel.name)))
        }
    }
}

/// The sum in a file of callgrind's; none where nothing was counted.
fn total(counts: &str) -> Option<u64> {
    let total = counts.lines().find_map(|line| line.strip_prefix("totals:"))?;
    total.trim().parse().ok().filter(|total| *total > 0)
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_read_and_nothing_is_no_total() {
        assert_eq!(total("version: 1\nfn=(1) a\n3 4\n\ntotals: 1234\n"), Some(1_234));
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("summary: 5\n"), None);
    }
}
