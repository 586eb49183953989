//! The CAS fence. After a key has changed its owner, a token that somebody holds may be of the old owner, and
//! the new one may have issued the same number: both count from 1. So while a fence stands over a key, a
//! `cas` is forwarded only with a token that the present owner has handed out since the change, whoever got
//! it; every other one is answered as if somebody else had been faster, and the client reads again.
//!
//! What was handed out is kept in one table for all workers, of a fixed size. What falls out of it costs a
//! client one more read, and never an update.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::placement::Placement;
use crate::time::Time;

/// A change of owners, remembered until no token from before it is around.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Grows with each; tokens count for the fence under which they were handed out.
    pub number: u64,
    /// When it ends.
    pub until: Time,
    /// Which keys.
    pub over: Over,
}

/// The keys that have a new owner.
#[derive(Clone, Debug)]
pub enum Over {
    /// Those which these two give to different backends.
    Moved {
        /// Before.
        from: Arc<Placement>,
        /// After.
        to: Arc<Placement>,
    },
    /// Those of a backend that is another process now.
    Restarted {
        /// Which.
        backend: usize,
        /// Who owned what then.
        present: Arc<Placement>,
    },
    /// All keys: too many fences were in the way.
    Everything,
}

impl Fence {
    /// It stands over this key.
    pub fn covers(&self, key: &[u8]) -> bool {
        match &self.over {
            Over::Moved { from, to } => from.owner(key) != to.owner(key),
            Over::Restarted { backend, present } => present.owner(key) == *backend,
            Over::Everything => true,
        }
    }
}

/// Tokens handed out under fences, by all workers to whomever.
#[derive(Debug)]
pub struct Tokens {
    /// Fingerprints in sets of [`WAYS`]; zero is free.
    places: Box<[AtomicU64]>,
}

/// Places among which a fingerprint may stand.
const WAYS: usize = 8;

impl Tokens {
    /// Room for so many, a power of two and at least eight; eight bytes each, given by the kernel when they
    /// are first used.
    pub fn new(count: usize) -> Self {
        assert!(count.is_power_of_two() && count >= WAYS, "{count} places");
        Tokens { places: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The owner of `key` has handed out `token` under this fence.
    pub fn remember(&self, key: &[u8], token: u64, fence: u64) {
        let mark = fingerprint(key, token, fence);
        let set = self.set(mark);
        let fits = |place: &&AtomicU64| [0, mark].contains(&place.load(Ordering::Relaxed));
        // No place free: one goes, whichever the fingerprint says.
        let place = set.iter().find(fits).unwrap_or(&set[mark as usize % WAYS]);
        // The reply that bears the token leaves after this, and the cas that bears it comes after that.
        place.store(mark, Ordering::Release);
    }

    /// It has, and the table has not forgotten.
    pub fn knows(&self, key: &[u8], token: u64, fence: u64) -> bool {
        let mark = fingerprint(key, token, fence);
        self.set(mark).iter().any(|place| place.load(Ordering::Acquire) == mark)
    }

    fn set(&self, mark: u64) -> &[AtomicU64] {
        let sets = self.places.len() / WAYS;
        let first = (mark >> 32) as usize % sets * WAYS;
        &self.places[first..first + WAYS]
    }
}

/// 64 bits of all three: that two differ and have the same one happens once in 2^64.
fn fingerprint(key: &[u8], token: u64, fence: u64) -> u64 {
    let token = xxh3_64_with_seed(&token.to_le_bytes(), fence);
    xxh3_64_with_seed(key, token).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_out_is_known_by_key_token_and_fence() {
        let tokens = Tokens::new(64);
        tokens.remember(b"key", 7, 1);
        assert!(tokens.knows(b"key", 7, 1));
        for (key, token, fence) in [(&b"kez"[..], 7, 1), (b"key", 8, 1), (b"key", 7, 2), (b"", 7, 1)] {
            assert!(!tokens.knows(key, token, fence), "{token} {fence}");
        }
    }

    #[test]
    fn a_full_table_forgets_and_never_invents() {
        let tokens = Tokens::new(64);
        for token in 0..10_000 {
            tokens.remember(b"key", token, 1);
            assert!(tokens.knows(b"key", token, 1), "the last one is there");
        }
        let known = (0..10_000).filter(|&token| tokens.knows(b"key", token, 1)).count();
        assert!(known <= 64, "{known} of a table of 64");
        assert!((10_000..20_000).all(|token| !tokens.knows(b"key", token, 1)));
    }

    #[test]
    fn the_same_token_again_takes_no_other_place() {
        let tokens = Tokens::new(8);
        for _ in 0..100 {
            tokens.remember(b"key", 1, 1);
        }
        (2..9).for_each(|token| tokens.remember(b"key", token, 1));
        assert!((1..9).all(|token| tokens.knows(b"key", token, 1)));
    }
}
