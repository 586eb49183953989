//! mcproxy: a memcached proxy. This page is the map of its modules.
//!
//! Bytes of clients come in through a driver ([`io`]), are parsed ([`protocol`]), get an owner
//! ([`placement`]), and leave in one write per backend and tick; replies come back the same way.
//! All of that logic is one sans-I/O state machine, [`proxy::Proxy`]; the rest is shell around it.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | command line, twemproxy's file -> checked, resolved pools ([`config::Program`]) |
//! | [`server`] | control plane: start, signals, end |
//! | [`logging`] | log lines, and of which pool they speak |
//! | [`listen`], [`acceptor`] | where clients come in, and how they are dealt out to workers |
//! | [`resolver`] | backends' names -> addresses, off the loops |
//! | [`control`] | what threads share: mailboxes and the count of clients |
//! | [`worker`] | the loop, generic over [`io::Io`] |
//! | [`control_loop`] | the loop of the control plane |
//! | [`proxy`] | a worker's logic: clients, links, slots, fan-out; no sockets, no clock |
//! | [`io`] | the drivers: mio |
//! | [`protocol`] | parsers and composers for text, meta and binary |
//! | [`placement`] | key -> backend |
//! | [`ownership`] | who owns a key now: health, ejection, return, the CAS fence; no thread, no clock |
//! | [`buffer`] | outbox and recycled buffers |
//! | [`limits`] | every bound, in one place |
//! | [`memory`] | one budget of bytes for all workers |
//! | [`stats`] | counters and how `stats` prints them |
//! | [`sim`] | the same core in a simulated world: seeded faults, virtual time, checks |
//! | [`embedded`] | in-process memory backends for trials, benchmarks and tests |
//! | [`time`] | instants and durations as the core knows them |

pub mod acceptor;
pub mod buffer;
pub mod config;
pub mod control;
pub mod control_loop;
pub mod detect;
pub mod embedded;
pub mod io;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod map;
pub mod memory;
pub mod ownership;
pub mod placement;
pub mod protocol;
pub mod proxy;
pub mod resolver;
pub mod server;
pub mod sim;
pub mod stats;
pub mod time;
pub mod worker;
