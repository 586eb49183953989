//! The simulator: the production worker loop over a world that is drawn from a seed. Clients, backends, the
//! network and the clock are simulated; [`crate::worker::step`], the core and everything below it are the
//! ones that run in production. Faults are drawn with the seed, and what every client is told is held against
//! what the model backends have done.
//!
//! ```text
//!  clients.rs --- network.rs --- io.rs --- worker::step --- io.rs --- network.rs --- memcached.rs
//!  (requests.rs,  (flows, delays,         (the real loop)                            (embedded::Session
//!   answers.rs)    weather.rs)                                                        and Store, lies.rs)
//!        \                                                                                /
//!         judge.rs: was it so at some time in between? <------------- history.rs: what was so when
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `world.rs` | a run from its first event to its last check |
//! | `plan.rs` | what a seed draws |
//! | `schedule.rs`, `random.rs` | virtual time, chance |
//! | `network.rs`, `weather.rs` | connections and what befalls them |
//! | `io.rs` | the engine of a worker: [`crate::io::Io`] |
//! | `memcached.rs`, `lies.rs` | the model backends and their faults |
//! | `clients.rs`, `requests.rs`, `answers.rs` | clients: habits, what they ask, what they hear |
//! | `history.rs`, `owners.rs` | what was so when on which backend, and who owned which key when |
//! | `judge.rs` | whether an answer agrees |
//! | `council.rs` | what the control plane and the workers make of changes of owners |
//! | `balance.rs` | the workers' counters at the end |
//! | `trace.rs`, `tally.rs` | what happened, for people and for comparing; how often |

mod answers;
mod balance;
mod clients;
mod council;
mod history;
mod io;
mod judge;
mod lies;
mod memcached;
mod network;
mod owners;
mod plan;
mod random;
mod requests;
mod schedule;
mod tally;
mod trace;
mod weather;
mod world;

pub use plan::Profile;
pub use tally::Tally;
pub use trace::Tracing;
pub use world::Outcome;

/// Runs the world of `seed` to its end, or to the first broken promise.
///
/// # Panics
/// Where the core itself panics, which is a broken promise too.
pub fn run(seed: u64, tracing: Tracing) -> Outcome {
    world::World::new(seed, tracing).run()
}
