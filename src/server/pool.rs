//! One pool: its backends, its workers, their control loop.

use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Worker, spawn};
use crate::acceptor::{Entrance, Listener};
use crate::config::{Address, Backend, Config};
use crate::control::Control;
use crate::embedded::EmbeddedBackend;
use crate::io::Io;
use crate::io::engine::Engine;
use crate::io::mio::MioIo;
use crate::io::socket::BackendAddress;
use crate::limits::{CAS_TOKENS, Limits};
use crate::memory::Budget;
use crate::ownership::Coordinator;
use crate::ownership::fence::Tokens;
use crate::placement::{Placement, Server};
use crate::proxy::Proxy;
use crate::proxy::settings::{BackendSettings, Process, Settings};
use crate::{control_loop, resolver, worker};

/// A running pool.
pub(super) struct Pool {
    /// What its threads share.
    pub(super) control: Arc<Control>,
    /// Its workers.
    pub(super) workers: Vec<Worker>,
    max_conns: usize,
    /// They end when they are dropped.
    _embedded: Vec<(usize, EmbeddedBackend)>,
}

impl Pool {
    /// Starts its threads. It has at most `max_conns` clients, and shares `memory` with other pools; its
    /// threads' log lines begin with `prefix`.
    ///
    /// # Errors
    /// One line that says what could not be started.
    pub(super) fn start(
        config: &Config,
        engine: Engine,
        max_conns: usize,
        memory: Arc<Budget>,
        prefix: &str,
    ) -> Result<Self, String> {
        let embedded = start_embedded(config)?;
        let addresses = backend_addresses(config, &embedded);
        let settings = Arc::new(settings(config, engine, max_conns, memory)?);
        let (control, workers) = start_threads(config, engine, settings, addresses, prefix)?;
        Ok(Pool { control, workers, max_conns, _embedded: embedded })
    }

    /// How clients of these listeners come in.
    pub(super) fn entrance(&self, listeners: Vec<Listener>) -> Entrance {
        Entrance { listeners, control: self.control.clone(), max_conns: self.max_conns }
    }
}

/// Whether some of its backends live in this process.
pub(super) fn is_embedded(config: &Config) -> bool {
    config.backends.iter().any(|backend| backend.address == Address::Embedded)
}

/// A worker that panics takes the process with it: the others could not answer for its clients.
struct EndWithWorker;

impl Drop for EndWithWorker {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// A backend known by name: its index, the name, the port, and where it is asked for.
type Question = (usize, String, u16, Receiver<usize>);

fn start_threads(
    config: &Config,
    engine: Engine,
    settings: Arc<Settings>,
    addresses: Vec<BackendAddress>,
    prefix: &str,
) -> Result<(Arc<Control>, Vec<Worker>), String> {
    let (resolvers, questions) = resolvers(config);
    let (notify, notices) = unbounded();
    let (control, handles) = Control::new(config.threads, resolvers, notify);
    for (backend, host, port, asked) in questions {
        let control = control.clone();
        spawn("resolver", prefix, move || {
            resolver::run(backend, &host, port, &asked, &control);
            Ok(())
        })?;
    }
    let coordinator = Coordinator::new(settings.clone(), seed(config.threads));
    let door = control.clone();
    spawn("control", prefix, move || {
        control_loop::run(coordinator, &notices, &door);
        Ok(())
    })?;
    let mut workers = Vec::new();
    for (index, handle) in handles.into_iter().enumerate() {
        let proxy = Proxy::new(settings.clone(), index);
        let failed = |error| format!("worker {index}: {error}");
        let addresses = addresses.clone();
        workers.push(match engine {
            Engine::Mio => start_worker(proxy, MioIo::new(handle, addresses).map_err(failed)?, index, prefix),
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Engine::Uring => {
                let io = crate::io::uring::UringIo::new(handle, addresses).map_err(failed)?;
                start_worker(proxy, io, index, prefix)
            }
        }?);
    }
    Ok((control, workers))
}

fn start_worker(
    proxy: Proxy,
    io: impl Io + Send + 'static,
    index: usize,
    prefix: &str,
) -> Result<Worker, String> {
    let run = move || {
        let _guard = EndWithWorker;
        let ended = worker::run(proxy, io);
        if let Err(error) = &ended {
            log::error!("worker {index} has failed: {error}");
            std::process::exit(1);
        }
        ended
    };
    spawn(&format!("worker {index}"), prefix, run)
}

/// For each backend where to ask for its addresses, if it is known by name; and who is to answer that.
fn resolvers(config: &Config) -> (Vec<Option<Sender<usize>>>, Vec<Question>) {
    let (mut resolvers, mut questions) = (Vec::new(), Vec::new());
    for (index, backend) in config.backends.iter().enumerate() {
        resolvers.push(if let Address::Host { host, port } = &backend.address {
            let (ask, asked) = unbounded();
            questions.push((index, host.clone(), *port, asked));
            Some(ask)
        } else {
            None
        });
    }
    (resolvers, questions)
}

fn settings(
    config: &Config,
    engine: Engine,
    max_conns: usize,
    memory: Arc<Budget>,
) -> Result<Settings, String> {
    let servers: Vec<Server> = config.backends.iter().map(Backend::server).collect();
    let backend = |backend: &Backend| BackendSettings {
        name: backend.name.clone(),
        by_name: matches!(backend.address, Address::Host { .. }),
    };
    let placement = Placement::new(config.placement, config.hashed_part.clone(), &servers);
    Ok(Settings {
        backends: config.backends.iter().map(backend).collect(),
        placement: Arc::new(placement?),
        workers: config.threads,
        max_conns,
        timeout: config.timeout,
        connect_timeout: config.connect_timeout,
        failure_limit: config.failure_limit,
        retry_interval: config.retry_interval,
        auto_eject: config.auto_eject,
        rejoin: config.rejoin,
        cas_fence: config.cas_fence,
        tokens: Arc::new(Tokens::new(CAS_TOKENS)),
        memory,
        read_errors: config.read_errors,
        join_gets: config.join_gets,
        flush_all_enabled: config.flush_all_enabled,
        limits: limits(config),
        process: Process { id: std::process::id(), started: unix_time(), io: engine.name() },
    })
}

fn limits(config: &Config) -> Limits {
    let limits = Limits::default();
    // Two of the largest values may wait for a link, whatever else does.
    let link_bytes_max = limits.link_bytes_max.max(config.value_max * 2);
    Limits { value_max: config.value_max, link_bytes_max, ..limits }
}

fn start_embedded(config: &Config) -> Result<Vec<(usize, EmbeddedBackend)>, String> {
    let wanted =
        config.backends.iter().enumerate().filter(|(_, backend)| backend.address == Address::Embedded);
    wanted
        .map(|(index, backend)| {
            let started = EmbeddedBackend::start(&backend.name);
            started.map(|started| (index, started)).map_err(|error| format!("{}: {error}", backend.name))
        })
        .collect()
}

fn backend_addresses(config: &Config, embedded: &[(usize, EmbeddedBackend)]) -> Vec<BackendAddress> {
    let address = |(index, backend): (usize, &Backend)| match &backend.address {
        Address::Host { .. } => BackendAddress::Tcp(Vec::new()),
        Address::Ip(address) => BackendAddress::Tcp(vec![*address]),
        Address::Unix(path) => BackendAddress::Unix(path.clone()),
        Address::Embedded => {
            let started = embedded.iter().find(|(of, _)| *of == index);
            BackendAddress::Tcp(started.map(|(_, backend)| backend.address).into_iter().collect())
        }
    };
    config.backends.iter().enumerate().map(address).collect()
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Differs between workers and runs: it only spreads retries.
fn seed(worker: usize) -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    (time ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(worker as u64)
}
