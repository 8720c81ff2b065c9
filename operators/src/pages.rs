//! Memory for tables: entered by a write, and on large pages, where the system has them and the table is large. A table of
//! many megabytes that is touched at random misses the processor's table of pages at nearly every row. Under the tables of
//! groups, on the data path. Invariant: what is given out is zeros, whatever was asked of the system.

/// Smaller memory gains nothing by large pages.
const LARGE: usize = 4 << 20;

/// A page is at least so large, in bytes.
const SMALL_PAGE: usize = 4 << 10;

/// A large one is so large, on most systems.
const LARGE_PAGE: usize = 2 << 20;

/// So many zeros.
pub(crate) fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    let mut zeros = vec![T::default(); len];
    if size_of_val(&*zeros) >= LARGE {
        prefer_large_pages(&zeros);
    }
    enter_pages(&mut zeros);
    zeros
}

/// Has the system enter each page by a write. A group is read before it is written, and a page that is read first is entered
/// twice, the second time with all other processors stopped.
fn enter_pages<T: Copy + Default>(zeros: &mut [T]) {
    let (start, bytes) = (zeros.as_ptr().addr(), size_of_val(zeros));
    let mut at = 0;
    while at < bytes {
        let zero = &mut zeros[at / size_of::<T>()];
        // SAFETY: it is a place of its own, which needs no drop, and it is what was there. Volatile, so that it is done
        // although nothing changes, and without a look at it.
        unsafe { std::ptr::write_volatile(zero, T::default()) };
        let is_large = (start + at).is_multiple_of(LARGE_PAGE) && bytes - at >= LARGE_PAGE;
        at += if is_large { LARGE_PAGE } else { SMALL_PAGE - (start + at) % SMALL_PAGE };
    }
}

/// Asks the system for large pages under memory that has not been touched yet. It may say no, and then
/// the memory is as it was.
#[cfg(target_os = "linux")]
fn prefer_large_pages<T>(memory: &[T]) {
    /// As large as pages of any system may be.
    const PAGE: usize = 64 << 10;
    let bytes = size_of_val(memory);
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
