//! Asks for memory before it is needed. On the data path where the cache does not hold what comes
//! next: groups, where there are many, and the batches of a table in memory. The processor looks some
//! rows ahead by itself, but not over all that is done with one. Invariant: nothing depends on it but
//! time (`benches/kernels.rs` and `tidemill bench tumbling` run through it).

/// Has the first line of what a reference points to brought into the cache, and does not wait for it.
#[inline(always)]
pub fn prefetch<T: ?Sized>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads and changes nothing, of a valid address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(what);
}

/// The same of all that follows each other from an index on: so many, or those that there are.
#[inline(always)]
pub fn prefetch_all<T>(all: &[T], start: usize, len: usize) {
    /// Bytes of a line of the cache.
    const LINE: usize = 64;
    let some = all.get(start..all.len().min(start + len)).unwrap_or_default();
    some.iter().step_by((LINE / size_of::<T>().max(1)).max(1)).for_each(prefetch);
}
