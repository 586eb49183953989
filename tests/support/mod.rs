//! What the tests over real sockets share: servers as child processes, clients, scripted backends, a relay
//! that can be told to do harm, a small random generator, and readable reports.
//!
//! Every wait has a bound that only says "this hangs"; no test depends on how fast the machine is.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub(crate) mod base64;
pub(crate) mod binary;
pub(crate) mod client;
pub(crate) mod counting;
pub(crate) mod engine;
pub(crate) mod flag;
pub(crate) mod inbox;
pub(crate) mod mock;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod pushy;
pub(crate) mod random;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod settings;
pub(crate) mod tally;
