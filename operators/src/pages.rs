//! Memory for large tables: on large pages, where the system has them. A table of many megabytes that
//! is touched at random misses the processor's table of pages at nearly every row, and the system clears
//! and enters its pages one by one when they are touched first. Under the tables of groups, on the data
//! path. Invariant: what memory holds is never changed here.

/// Memory of so many bytes gains by large pages. Smaller memory is all going to be touched.
const LARGE: usize = 4 << 20;

/// Pages are at least so large, in bytes.
const SMALL_PAGE: usize = 4 << 10;

/// So many zeros.
pub(crate) fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    let mut zeros = vec![T::default(); len];
    if size_of_val(&*zeros) < LARGE {
        enter_pages(&mut zeros);
    } else {
        prefer_large_pages(&zeros);
    }
    zeros
}

/// Has the system enter each page by a write. A group is read before it is written, and a page that is read first is entered
/// twice, the second time with all other processors stopped.
fn enter_pages<T: Copy>(memory: &mut [T]) {
    for at in memory.iter_mut().step_by(SMALL_PAGE / size_of::<T>()) {
        // SAFETY: it is written where it was read.
        unsafe { std::ptr::write_volatile(at, *at) };
    }
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
