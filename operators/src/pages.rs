//! Memory for tables: entered by a write, and on large pages, where the system has them and the table is large. A table of
//! many megabytes that is touched at random misses the processor's table of pages at nearly every row. Under the tables of
//! groups, on the data path. Invariant: what is given out is zeros, whatever was asked of the system.

use std::hint::black_box;

/// Smaller memory gains nothing by large pages.
const LARGE: usize = 4 << 20;

/// A page is at least so large, in bytes.
const SMALL_PAGE: usize = 4 << 10;

/// A large one is so large, on most systems.
const LARGE_PAGE: usize = 2 << 20;

/// So many zeros.
pub(crate) fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    let mut zeros = vec![T::default(); len];
    let is_large = size_of_val(&*zeros) >= LARGE;
    if is_large {
        prefer_large_pages(&zeros);
    }
    enter_pages(&mut zeros, is_large);
    zeros
}

/// So many zeros instead of what there was, in its memory if that is enough.
pub(crate) fn renew<T: Copy + Default>(memory: &mut Vec<T>, len: usize) {
    if memory.capacity() < len {
        *memory = zeros(len);
    } else {
        memory.clear();
        memory.resize(len, T::default());
    }
}

/// Has the system enter each page by a write, large ones where they may lie. A group is read before it is written, and a
/// page that is read first is entered twice, the second time with all other processors interrupted.
fn enter_pages<T: Copy + Default>(zeros: &mut [T], may_be_large: bool) {
    let (start, bytes) = (zeros.as_ptr().addr(), size_of_val(zeros));
    let mut at = 0;
    while at < bytes {
        // What is written is not known to the compiler, so it does write it; what is there is not looked at.
        zeros[at / size_of::<T>()] = black_box(T::default());
        let is_large =
            may_be_large && (start + at).is_multiple_of(LARGE_PAGE) && bytes - at >= LARGE_PAGE;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_is_zeros() {
        for bytes in [0, 8, SMALL_PAGE, SMALL_PAGE + 8, LARGE - 8, LARGE, LARGE + LARGE_PAGE + 24] {
            let words: Vec<u64> = zeros(bytes / 8);
            assert!(words.len() == bytes / 8 && words.iter().all(|word| *word == 0));
            let cells: Vec<[u64; 4]> = zeros(bytes / 32);
            assert!(cells.len() == bytes / 32 && cells.iter().all(|cell| *cell == [0; 4]));
        }
    }

    #[test]
    fn used_memory_is_zeros_again() {
        let mut words = vec![7u64; 100];
        for len in [10, 100, 30, LARGE, 0, 5] {
            renew(&mut words, len);
            assert!(words.len() == len && words.iter().all(|word| *word == 0));
            words.fill(7);
        }
    }
}
