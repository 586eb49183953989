//! `--nutcracker FILE`: twemproxy's own configuration, beside the real nutcracker and memcacheds.

mod support;

#[path = "nutcracker/beside.rs"]
mod beside;
#[path = "nutcracker/files.rs"]
mod files;
#[path = "nutcracker/pools.rs"]
mod pools;
#[path = "nutcracker/refused.rs"]
mod refused;
// What it takes to run a proxy; its own tests are those of tests/server.rs.
#[path = "server/rig.rs"]
mod rig;
