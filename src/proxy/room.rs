//! Memory of what comes and goes with requests, kept so that a warm worker allocates nothing.

use crate::buffer::{Pool, Spare};

use super::fanout::Fanout;
use super::joined::JoinedGet;
use super::replies::Early;

/// Bytes that each pool keeps at most: enough for outboxes of as many connections as one tick brings, little
/// enough to be lost among ten thousand idle ones.
const POOL_BYTES: usize = 1 << 20;

/// The largest single thing that is kept, bytes: what a client's pipeline of multi-key reads makes of it.
const EACH_BYTES: usize = 72 << 10;

/// Room for what comes and goes with requests.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) spare: Spare,
    pub(super) early: Pool<Early>,
    pub(super) joined: Pool<JoinedGet>,
    pub(super) fanouts: Pool<Fanout>,
}

impl Room {
    /// Nothing is kept yet.
    pub(super) fn new() -> Self {
        Room {
            spare: Spare::new(POOL_BYTES, EACH_BYTES),
            early: Pool::new(POOL_BYTES, EACH_BYTES),
            joined: Pool::new(POOL_BYTES, EACH_BYTES),
            fanouts: Pool::new(POOL_BYTES, EACH_BYTES),
        }
    }
}
