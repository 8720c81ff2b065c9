//! Memory of chunks that no batch refers to any more, shared by all readers of a source: what is read next
//! finds it in the caches, and the system need not hand out pages again and again.

use std::sync::{Arc, Mutex, PoisonError};

/// So many chunks are kept at most.
const CHUNKS_MAX: usize = 8;

/// Chunks to be filled again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    chunks: Arc<Mutex<Vec<Arc<Vec<u8>>>>>,
}

impl Pool {
    /// An empty chunk, with room where there is any.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let free = chunks.iter_mut().rposition(|chunk| Arc::get_mut(chunk).is_some());
        let free = free.and_then(|free| Arc::into_inner(chunks.swap_remove(free)));
        let mut chunk = free.unwrap_or_default();
        chunk.clear();
        chunk
    }

    /// A chunk of `chunk_bytes` or so, which batches may still refer to, is read.
    pub(crate) fn give(&self, chunk: Arc<Vec<u8>>, chunk_bytes: usize) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if chunks.len() < CHUNKS_MAX && (1..=4 * chunk_bytes).contains(&chunk.capacity()) {
            chunks.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_is_referred_to_is_left_alone() {
        let pool = Pool::default();
        let held = Arc::new(vec![1u8; 10]);
        pool.give(held.clone(), 10);
        pool.give(Arc::new(vec![2; 1_000]), 10);
        assert_eq!(pool.take().capacity(), 0);
        drop(held);
        assert!(pool.take().capacity() >= 10);
        assert_eq!(pool.take().capacity(), 0);
    }
}
