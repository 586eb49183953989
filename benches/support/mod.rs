//! What the benches and tests/allocations.rs share: requests with the answers that they must get, a dry run
//! of a worker's core against embedded backends that records both sides, and the replay of what it recorded.
//!
//! Nothing but the replay is measured, and the replay does nothing but call the core: backends' answers are
//! computed while recording, from the bytes that the core sends, so that it may compose and join requests as
//! it likes.

// Each program compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub(crate) mod answer;
pub(crate) mod counted;
pub(crate) mod load;
pub(crate) mod parts;
#[path = "../../tests/support/random.rs"]
pub(crate) mod random;
pub(crate) mod recording;
pub(crate) mod replay;
pub(crate) mod request;
#[path = "../../tests/support/settings.rs"]
pub(crate) mod settings;

/// Operations that a figure is the mean of. A multiple of 500 clients, of pipelines of 16 requests, and of
/// gets of 20 keys by 50 clients; benches/gate divides by it too.
pub(crate) const OPERATIONS: usize = 4_000;

/// Operations before them, in which the buffers of a core find their sizes.
pub(crate) const WARM_UP: usize = 2_000;
