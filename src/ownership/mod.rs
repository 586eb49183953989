//! Who owns a key. It is decided once for the whole process, by the [`Coordinator`], and never by a worker:
//! two workers that disagree would write one key to two servers.
//!
//! | file | subject |
//! |---|---|
//! | `coordinator.rs` | health of backends, ejection and return: the decisions |
//! | `change.rs` | the three steps in which workers take a decision over |
//! | `fence.rs` | CAS tokens that mean nothing any more |
//! | `identity.rs` | which process answers at a backend's address |

pub mod change;
pub mod coordinator;
pub mod fence;
pub mod identity;

use std::sync::Arc;

use crate::placement::Placement;
use crate::time::Time;

pub use coordinator::Coordinator;
use fence::Fence;

/// Who owns which key now: what workers go by. Immutable; each decision makes a new one.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// Grows with each.
    pub number: u64,
    /// The owners of keys when all backends serve.
    pub home: Arc<Placement>,
    /// The owners of keys now.
    pub present: Arc<Placement>,
    /// By backend: it is ejected, and its keys have other owners.
    pub away: Arc<[bool]>,
    /// Tokens of these keys are looked at before they are used. Oldest first.
    pub fences: Arc<[Fence]>,
    /// A backend that is down, and about to be ejected, has not forgotten what it was written for others: the
    /// keys are still to be kept in mind, though nobody is away.
    pub unforgotten: bool,
}

impl Ownership {
    /// All backends serve.
    pub fn new(home: Arc<Placement>, backends: usize) -> Self {
        let away = vec![false; backends].into();
        Ownership { number: 0, present: home.clone(), home, away, fences: Arc::new([]), unforgotten: false }
    }

    /// Some backend is ejected.
    pub fn is_away(&self) -> bool {
        self.away.contains(&true)
    }

    /// The number of the newest fence that stands over `key` at `now`.
    pub fn fence_over(&self, key: &[u8], now: Time) -> Option<u64> {
        let standing = self.fences.iter().rev().find(|fence| fence.until > now && fence.covers(key));
        standing.map(|fence| fence.number)
    }
}
