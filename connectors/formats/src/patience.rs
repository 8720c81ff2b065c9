//! When a short way is worth trying: always where it leads somewhere, seldom where it never does.

/// So many misses in a row are taken lightly.
const MISSES_LIGHT: u32 = 4;

/// The longest pause is two to this power.
const PAUSE_LOG_MAX: u32 = 10;

/// Remembers how a short way has fared.
#[derive(Default)]
pub(crate) struct Patience {
    /// In a row.
    misses: u32,
    /// Times that it is not to be tried.
    pause: u32,
}

impl Patience {
    /// Whether to try now.
    #[inline]
    pub(crate) fn tries(&mut self) -> bool {
        if self.pause == 0 {
            return true;
        }
        self.pause -= 1;
        false
    }

    /// It was tried, and led to an end or not.
    #[inline]
    pub(crate) fn tried(&mut self, hit: bool) {
        if hit {
            self.misses = 0;
            return;
        }
        self.misses += 1;
        let over = self.misses.saturating_sub(MISSES_LIGHT).min(PAUSE_LOG_MAX);
        self.pause = if over == 0 { 0 } else { 1 << over };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_works_is_hardly_ever_tried_and_what_works_again_always() {
        let mut patience = Patience::default();
        let tries = (0..100_000).filter(|_| {
            let tries = patience.tries();
            if tries {
                patience.tried(false);
            }
            tries
        });
        assert!(tries.count() < 130);
        while !patience.tries() {}
        patience.tried(true);
        assert!((0..10).all(|_| {
            patience.tried(true);
            patience.tries()
        }));
    }
}
