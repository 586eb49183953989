//! Flags by which threads tell each other that something is over.

use std::sync::atomic::{AtomicBool, Ordering};

/// Raises a flag when it is dropped, by whatever way: a thread that fails must not leave others that go on for
/// ever, and whom the test then waits for.
pub(crate) struct RaisedAtLast<'a>(pub(crate) &'a AtomicBool);

impl Drop for RaisedAtLast<'_> {
    fn drop(&mut self) {
        raise(self.0);
    }
}

/// Raises it.
pub(crate) fn raise(flag: &AtomicBool) {
    flag.store(true, Ordering::Relaxed);
}

/// Whether it has been raised.
pub(crate) fn is_up(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}
