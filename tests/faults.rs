//! What clients see when backends freeze, die, come back or cannot be reached, and when clients themselves
//! misbehave: the real program with two workers, real memcacheds, real sockets.
//!
//! Times are chosen so that a slow machine can only make a test longer: an answer is waited for until it
//! comes, and what is said to last is measured from before it begins.

mod support;

#[path = "faults/clients.rs"]
mod clients;
#[path = "faults/compares.rs"]
mod compares;
#[path = "faults/eject.rs"]
mod eject;
#[path = "faults/fleet.rs"]
mod fleet;
#[path = "faults/frozen.rs"]
mod frozen;
#[path = "faults/holdings.rs"]
mod holdings;
#[path = "faults/idle.rs"]
mod idle;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/overlap.rs"]
mod overlap;
#[path = "faults/rejoin.rs"]
mod rejoin;
#[path = "faults/restart.rs"]
mod restart;
#[path = "server/rig.rs"]
mod rig;
#[path = "faults/unreachable.rs"]
mod unreachable;
