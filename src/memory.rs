//! One budget of bytes for all that a process buffers, in requests and in unread answers. Workers borrow from
//! it in pieces, so that one busy worker may use most of it, and give pieces back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes borrowed or given back at once.
const PIECE: usize = 256 << 10;

/// The budget of a process.
#[derive(Debug)]
pub struct Budget {
    /// What may be taken.
    usable: usize,
    taken: AtomicUsize,
}

impl Budget {
    /// For a process that may use so many bytes for what it buffers. A fifth of it is left to the allocator,
    /// which keeps some room between what is in use.
    pub fn new(limit: usize) -> Self {
        Budget { usable: limit - limit / 5, taken: AtomicUsize::new(0) }
    }

    /// Bytes that may be taken.
    pub fn usable(&self) -> usize {
        self.usable
    }

    /// Bytes that workers have borrowed.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes so many bytes; false if there are not so many left.
    fn take(&self, bytes: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|&taken| taken <= self.usable);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A worker's part of the budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    borrowed: usize,
    /// Bytes that the worker holds: more than it has borrowed only until it has looked after that.
    held: usize,
    short: bool,
}

impl Share {
    /// Nothing is held yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Share { budget, borrowed: 0, held: 0, short: false }
    }

    /// Something holds `now` bytes, and held `charged` when it was last charged.
    #[inline]
    pub fn charge(&mut self, now: usize, charged: &mut usize) {
        self.held = self.held + now - *charged;
        *charged = now;
    }

    /// Bytes that it has of the budget.
    pub fn borrowed(&self) -> usize {
        self.borrowed
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Borrows what is missing, or gives back what is not needed. False if there is no more to borrow.
    #[inline]
    pub fn settle(&mut self) -> bool {
        let fits = self.held <= self.borrowed && self.borrowed - self.held <= 2 * PIECE;
        fits || self.adjust()
    }

    /// Bytes held that could not be borrowed.
    pub fn lacking(&self) -> usize {
        self.held.saturating_sub(self.borrowed)
    }

    /// At the last look there was nothing more to borrow.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.short
    }

    #[cold]
    fn adjust(&mut self) -> bool {
        let wanted = self.held.next_multiple_of(PIECE);
        if wanted > self.borrowed {
            if !self.budget.take(wanted - self.borrowed) {
                self.short = true;
                return false;
            }
        } else {
            self.budget.give(self.borrowed - wanted);
        }
        self.borrowed = wanted;
        self.short = false;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.borrowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_budget() {
        let budget = Arc::new(Budget::new(5 * PIECE));
        let (mut first, mut second) = (Share::new(budget.clone()), Share::new(budget.clone()));
        let (mut a, mut b) = (0, 0);
        first.charge(3 * PIECE - 10, &mut a);
        assert!(first.settle());
        assert_eq!((budget.taken(), first.held()), (3 * PIECE, 3 * PIECE - 10));
        second.charge(PIECE + 1, &mut b);
        assert!(!second.settle() && second.is_short());
        assert_eq!((second.lacking(), budget.taken()), (PIECE + 1, 3 * PIECE));
        first.charge(100, &mut a);
        assert!(first.settle(), "all but a piece goes back");
        assert_eq!(budget.taken(), PIECE);
        assert!(second.settle() && !second.is_short());
        assert_eq!(budget.taken(), 3 * PIECE);
        drop(second);
        assert_eq!(budget.taken(), PIECE);
    }

    #[test]
    fn a_little_more_or_less_borrows_nothing() {
        let budget = Arc::new(Budget::new(100 * PIECE));
        let mut share = Share::new(budget.clone());
        let mut charged = 0;
        share.charge(5 * PIECE, &mut charged);
        share.settle();
        for less in [1, PIECE, 2 * PIECE] {
            share.charge(5 * PIECE - less, &mut charged);
            assert!(share.settle());
            assert_eq!(budget.taken(), 5 * PIECE);
        }
        share.charge(0, &mut charged);
        assert!(share.settle());
        assert_eq!(budget.taken(), 0);
    }
}
