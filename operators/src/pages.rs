//! Memory for large tables: on large pages, where the system has them. A table of many megabytes that
//! is touched at random misses the processor's table of pages at nearly every row, and the system clears
//! and enters its pages one by one when they are touched first. Under the tables of groups, on the data
//! path. Invariant: what memory holds is never changed here.

/// Smaller memory gains nothing.
const LARGE: usize = 4 << 20;

/// So many zeros.
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Vec<T> {
    let zeros = vec![T::default(); len];
    prefer_large_pages(&zeros);
    zeros
}

/// Asks the system for large pages under memory that has not been touched yet. It may say no, and then
/// the memory is as it was.
#[cfg(target_os = "linux")]
fn prefer_large_pages<T>(memory: &[T]) {
    /// As large as pages of any system may be.
    const PAGE: usize = 64 << 10;
    let bytes = size_of_val(memory);
    if bytes < LARGE {
        return;
    }
    let start = memory.as_ptr().addr().next_multiple_of(PAGE);
    let end = (memory.as_ptr().addr() + bytes) / PAGE * PAGE;
    // SAFETY: the pages from `start` to `end` lie inside `memory`, so they are mapped, and this advice
    // changes neither what they hold nor who may use them.
    unsafe {
        libc::madvise(memory.as_ptr().with_addr(start) as *mut _, end - start, libc::MADV_HUGEPAGE)
    };
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages<T>(_: &[T]) {}
