//! Settings of a worker without the program around it.

use std::sync::Arc;
use std::time::Duration;

use mcproxy::limits::Limits;
use mcproxy::memory::Budget;
use mcproxy::ownership::fence::Tokens;
use mcproxy::placement::{Placement, Server};
use mcproxy::proxy::settings::{BackendSettings, Process, ReadErrors, Rejoin, Settings};

/// One worker in front of backends of these names, at addresses; the program's defaults, and memory enough for
/// whatever is done.
pub(crate) fn in_front_of(names: &[String]) -> Settings {
    let servers: Vec<Server> = names.iter().map(|name| Server::named(name.clone(), 1)).collect();
    let backends = names.iter().map(|name| BackendSettings { name: name.clone(), by_name: false });
    Settings {
        backends: backends.collect(),
        placement: Arc::new(Placement::rendezvous(&servers)),
        workers: 1,
        max_conns: 10_000,
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_millis(500),
        failure_limit: 3,
        retry_interval: Duration::from_secs(1),
        auto_eject: false,
        rejoin: Rejoin::Flush,
        cas_fence: Duration::from_secs(600),
        tokens: Arc::new(Tokens::new(1 << 10)),
        memory: Arc::new(Budget::new(1 << 30)),
        read_errors: ReadErrors::Error,
        join_gets: true,
        flush_all_enabled: true,
        limits: Limits::default(),
        process: Process::default(),
    }
}
