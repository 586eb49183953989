//! What the server promises beside its answers, each sentence by a test of its own: over real sockets, with the
//! real program and real memcacheds.
//!
//! Times are chosen so that only a broken promise can be slow: where a request must not wait for something,
//! that something would take an hour.

mod support;

#[path = "server/absent.rs"]
mod absent;
#[path = "server/addresses.rs"]
mod addresses;
#[path = "server/admission.rs"]
mod admission;
#[path = "server/agreement.rs"]
mod agreement;
#[path = "server/embedded.rs"]
mod embedded;
#[path = "server/ending.rs"]
mod ending;
#[path = "server/engine.rs"]
mod engine;
#[path = "server/flush.rs"]
mod flush;
#[path = "server/joined.rs"]
mod joined;
#[path = "server/large.rs"]
mod large;
#[path = "server/listeners.rs"]
mod listeners;
#[path = "server/one_worker.rs"]
mod one_worker;
#[path = "server/own_answers.rs"]
mod own_answers;
#[path = "server/reads.rs"]
mod reads;
#[path = "server/rig.rs"]
mod rig;
#[path = "server/timeouts.rs"]
mod timeouts;
#[path = "server/values.rs"]
mod values;
