//! How the binary's allocator treats memory that has been freed. Stands beside the data path. Invariant: what
//! is asked of it is kept for the next batch, not what the process never used.
//!
//! Every batch is allocated and freed as a whole, a megabyte or so. Left to itself, glibc gives that back to the
//! system each time, and the system clears it page by page for the next one, which took a third to a half of a
//! query that passes rows on.

/// Free memory at the end of a heap that is kept, in bytes.
const KEPT: i32 = 64 << 20;

/// As much is free in the heap before, at least, when one that has become empty is given back: threads have heaps of no
/// more than 64 MiB each, and one at a border would lose its last heap and get it anew all the time.
const SPARE: i32 = 32 << 20;

/// What is mapped for itself, and given back when it is freed: more than a column of a batch.
const MAPPED: i32 = 8 << 20;

/// Keeps freed memory at hand.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, bytes) in
        [(libc::M_TRIM_THRESHOLD, KEPT), (libc::M_TOP_PAD, SPARE), (libc::M_MMAP_THRESHOLD, MAPPED)]
    {
        // SAFETY: it takes any values, from any thread; where glibc refuses, it goes on as it was.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}
