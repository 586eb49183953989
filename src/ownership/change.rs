//! What the coordinator and the workers tell each other. A change of owners has three steps:
//!
//! ```text
//!  coordinator                      each worker
//!     | -- Prepare ------------------> | requests for the keys that move wait from now on;
//!     |                                | what is in flight for them is failed or awaited
//!     | <---------------- Confirmed -- | nothing of it is in flight any more
//!     |  all have confirmed:           |
//!     |  [Clean -> worker 0 -> Cleaned]| on a return: what the backend has missed
//!     | -- Commit -------------------> | the new table; requests that waited go on
//! ```
//! So no worker goes by the new table while another goes by the old one: in between, for the keys that
//! move, nobody goes by any. `Cancel` in place of `Commit` leaves everything as it was.

use std::sync::Arc;

use super::Ownership;
use super::identity::Identity;

/// A change that is being made.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is true after it.
    pub next: Ownership,
    /// The backend that it is about.
    pub backend: usize,
    /// What has happened to that.
    pub kind: Kind,
}

/// What happens to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does not answer, and its keys go to others.
    Eject,
    /// It answers again, and gets its keys back.
    Return,
    /// It is another process than before: what was in flight to the old one is lost.
    Restart,
}

/// From a worker to the coordinator.
#[derive(Debug)]
pub enum Notice {
    /// A backend has not answered, or a connect to it has failed.
    Failed {
        /// Which.
        backend: usize,
        /// In words.
        why: &'static str,
    },
    /// A link to a backend that does not say who it is has ended: the process behind may be gone.
    Lost {
        /// Which.
        backend: usize,
    },
    /// A backend that was suspected has answered a request.
    Heard {
        /// Which.
        backend: usize,
    },
    /// A link has been told who is there. It takes no requests until that is vouched for.
    Met {
        /// Which backend.
        backend: usize,
        /// Who it is; `None` where it does not say.
        identity: Option<Identity>,
    },
    /// A probe has come to its end.
    Probed {
        /// Which backend.
        backend: usize,
        /// It was answered.
        answered: bool,
    },
    /// A worker has no link to a backend any more whose bytes could still be applied.
    Settled {
        /// Which backend.
        backend: usize,
    },
    /// Step two of a change is done.
    Confirmed {
        /// The number of the change's ownership.
        number: u64,
        /// Links to its backend whose bytes could still be applied.
        unsettled: usize,
        /// On a return: what was written elsewhere.
        written: Written,
    },
    /// A returning backend has, or has not, forgotten what it has missed.
    Cleaned {
        /// The number of the change's ownership.
        number: u64,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What came of the wish that a backend forgets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has. True: one that stood in for it, and is down, has not.
    Done(bool),
    /// It says that it will not.
    Refused(String),
    /// It has not answered.
    Failed(String),
}

/// From the coordinator to a worker.
#[derive(Clone, Debug)]
pub enum Order {
    /// What to think of a backend.
    Health {
        /// Which.
        backend: usize,
        /// How it is.
        health: Health,
    },
    /// Find out, on a fresh link, whether a backend answers.
    Probe {
        /// Which.
        backend: usize,
    },
    /// Links to this process may be used; those to another one are to be given up.
    Vouched {
        /// Which backend.
        backend: usize,
        /// Who it is.
        identity: Option<Identity>,
    },
    /// Step one of a change.
    Prepare(Arc<Change>),
    /// Make a returning backend forget what it has missed.
    Clean {
        /// The number of the change's ownership.
        number: u64,
        /// What.
        written: Written,
    },
    /// Step three of a change: or a change that takes nothing away from anybody.
    Commit(Arc<Ownership>),
    /// The change is not made.
    Cancel {
        /// The number of its ownership.
        number: u64,
    },
}

/// How a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It answers, as far as is known.
    #[default]
    Up,
    /// It has failed; its next answer is of interest.
    Suspect,
    /// It has failed too often and is not asked.
    Down,
}

/// Keys of an ejected backend that were written while others owned them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Some of them.
    pub keys: Vec<Box<[u8]>>,
    /// There are more than were kept.
    pub more: bool,
}

impl Written {
    /// None was.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.more
    }

    /// Adds another worker's, at most `keys_max` in all.
    pub fn add(&mut self, mut other: Written, keys_max: usize) {
        self.more |= other.more || self.keys.len() + other.keys.len() > keys_max;
        if self.more {
            self.keys = Vec::new();
        } else {
            self.keys.append(&mut other.keys);
        }
    }
}
