//! What this process has used, as Linux accounts for it. Elsewhere nothing is known, and said so.

use std::fs;
use std::time::Duration;

/// Ticks of the accounting clock per second, the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of all threads so far, to a hundredth of a second.
pub fn cpu_time() -> Option<Duration> {
    cpu_time_in(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn cpu_time_in(stat: &str) -> Option<Duration> {
    // Fields count from behind the name, which may hold anything but ends at the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// Bytes of memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// At most, since the last [`forget_peak`].
    pub peak: u64,
}

/// The memory in use.
pub fn memory() -> Option<Memory> {
    memory_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn memory_in(status: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory { resident: bytes("VmRSS")?, peak: bytes("VmHWM")? })
}

/// Starts a new peak from what is in use now. `false` where the system does not allow it.
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_whatever_the_process_is_called() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 99 0 0 0 150 25 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_time_in(stat), Some(Duration::from_millis(1750)));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(memory_in(status), Some(Memory { resident: 1 << 20, peak: 2 << 20 }));
        assert_eq!((cpu_time_in(""), memory_in("")), (None, None));
    }
}
