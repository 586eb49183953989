//! In-process memory backends, for trying the proxy out, for benchmarks that must not measure memcached, and for
//! tests. Not for production: one thread each, and all is lost at the end.
//!
//! | module | subject |
//! |---|---|
//! | [`store`] | the items and what memcached's commands do to them; no socket, no clock |
//! | [`counters`] | what a store counts |

pub mod counters;
pub mod store;
mod table;
