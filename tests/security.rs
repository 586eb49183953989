//! What clients with bad intentions send: on a link that others share, every request that the proxy writes
//! must be one that a memcached answers once, and no bytes of a client may become a command of their own.
//!
//! `tests/parser_vs_memcached.rs` holds the parsers to that, request by request; here it is the whole
//! program, and the oracle is a real memcached that is fed what the proxy has written, byte by byte.

mod support;

#[path = "security/hostile.rs"]
mod hostile;
#[path = "security/injection.rs"]
mod injection;
#[path = "security/oracle.rs"]
mod oracle;
#[path = "security/strangers.rs"]
mod strangers;
