//! How the binary's allocator treats memory that has been freed. Stands beside the data path. Invariant: what
//! is asked of it is kept for the next batch, not what the process never used.
//!
//! Every batch is allocated and freed as a whole, a megabyte or so. Left to itself, glibc gives that back to the
//! system each time, and the system clears it page by page for the next one, which took a third to a half of a
//! query that passes rows on.

/// Free memory at the end of a heap that is kept, in bytes.
const KEPT: i32 = 64 << 20;

/// What is mapped for itself, and given back when it is freed: more than a column of a batch.
const MAPPED: i32 = 8 << 20;

/// Keeps freed memory at hand.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Where glibc refuses, it goes on as it was.
        glibc::mallopt(glibc::M_TRIM_THRESHOLD, KEPT);
        glibc::mallopt(glibc::M_MMAP_THRESHOLD, MAPPED);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    pub const M_TRIM_THRESHOLD: i32 = -1;
    pub const M_MMAP_THRESHOLD: i32 = -3;

    // SAFETY: the signature is that of `malloc.h`, where `int` has 32 bits; it takes any values, from any thread.
    unsafe extern "C" {
        pub safe fn mallopt(parameter: i32, value: i32) -> i32;
    }
}
