//! In-process memory backends, for trying the proxy out, for benchmarks that must not measure memcached, and
//! for tests. Not for production: one thread each, and all is lost at the end.
//!
//! | module | subject |
//! |---|---|
//! | [`server`] | a backend with its socket and its thread |
//! | [`session`] | one connection: bytes of requests to bytes of answers; no socket, no clock |
//! | [`store`] | the items and what memcached's commands do to them; no socket, no clock |
//! | [`counters`] | what a store counts |

mod base64;
mod binary;
pub mod counters;
mod meta;
pub mod server;
pub mod session;
mod stats;
pub mod store;
mod table;
mod text;

pub use server::EmbeddedBackend;
