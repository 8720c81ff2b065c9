//! As many connections as the process may open files. With more, the job could not open its own.

use super::accept::HANDSHAKES_MAX;

/// What a job needs besides: files, brokers, its own pipes.
const OTHERS: usize = 128;

/// How many of these connections a stream can have; says so where it is fewer. Only Linux tells without a
/// system call of its own.
pub(crate) fn connections(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(limit) = open_files(&limits) else { return wanted };
    let possible = within(limit, wanted);
    if possible < wanted {
        tracing::warn!(
            "this process may have {limit} files open, too few for {wanted} WebSocket clients: it \
             takes {possible}. Start it after `ulimit -n {}`, or lower 'max-connections'",
            wanted + HANDSHAKES_MAX + OTHERS
        );
    }
    possible
}

fn within(limit: usize, wanted: usize) -> usize {
    wanted.min(limit.saturating_sub(HANDSHAKES_MAX + OTHERS).max(1))
}

/// The soft limit.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             63415                63415                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files  unlimited  unlimited  files"), None);
    }

    #[test]
    fn what_a_job_needs_itself_is_left_to_it() {
        assert_eq!(within(4096, 1024), 1024);
        assert_eq!(within(1024, 1024), 832);
        assert_eq!(within(100, 1024), 1);
    }
}
