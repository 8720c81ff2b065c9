//! Whether the process may open as many connections as a stream allows.

/// What a job needs besides: files, brokers, its own pipes.
const OTHERS: usize = 128;

/// Says so where it may not. Only Linux tells without a system call of its own.
pub(crate) fn check(connections: usize) {
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else { return };
    if let Some(limit) = open_files(&limits)
        && limit < connections + OTHERS
    {
        tracing::warn!(
            "this process may have {limit} files open, too few for {connections} WebSocket clients: \
             start it after `ulimit -n {}`, or lower 'max-connections'",
            connections + OTHERS
        );
    }
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
}
