//! The control plane: binds, starts the workers, waits for signals, brings everything to an end.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::acceptor::Acceptor;
use crate::config::{Address, Backend, Config, Listen};
use crate::control::Control;
use crate::embedded::EmbeddedBackend;
use crate::io::mio::{BackendAddress, MioIo};
use crate::limits::{CAS_TOKENS, Limits};
use crate::memory::Budget;
use crate::ownership::Coordinator;
use crate::ownership::fence::Tokens;
use crate::placement::{Placement, Server};
use crate::proxy::Proxy;
use crate::proxy::message::Message;
use crate::proxy::settings::{BackendSettings, Process, Settings};
use crate::{control_loop, listen, resolver, worker};

/// Descriptors that the process needs beside those of its clients and links.
const OWN_DESCRIPTORS: u64 = 64;

/// Runs until a signal ends it.
///
/// # Errors
/// One line for stderr; the process then ends with status 1.
pub fn run(config: &Config) -> Result<(), String> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for wanted in &config.listen {
        let (listener, at) = listen::bind(wanted).map_err(|error| format!("--listen {wanted}: {error}"))?;
        listeners.push(listener);
        bound.push(at);
    }
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("signals: {error}"))?;
    let max_conns = fit_descriptors(config);
    let embedded = start_embedded(config)?;
    let addresses = backend_addresses(config, &embedded);
    let (control, workers) = start_workers(config, max_conns, addresses)?;
    let (acceptor, stop) = Acceptor::new(listeners, control.clone(), max_conns)
        .map_err(|error| format!("accepting: {error}"))?;
    let accepting = spawn("acceptor", move || acceptor.run())?;
    announce(config, &bound, !embedded.is_empty());
    wait_for_end(signals, config);
    let _ = stop.wake();
    let _ = accepting.join();
    remove_sockets(&bound);
    control.send_all(|| Message::Drain(config.drain_timeout));
    for worker in workers {
        let _ = worker.join();
    }
    log::info!("stopped");
    Ok(())
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

type Worker = JoinHandle<std::io::Result<()>>;

fn start_workers(
    config: &Config,
    max_conns: usize,
    addresses: Vec<BackendAddress>,
) -> Result<(Arc<Control>, Vec<Worker>), String> {
    let mut resolvers: Vec<Option<Sender<usize>>> = Vec::new();
    let mut questions = Vec::new();
    for (index, backend) in config.backends.iter().enumerate() {
        resolvers.push(if let Address::Host { host, port } = &backend.address {
            let (ask, asked) = unbounded();
            questions.push((index, host.clone(), *port, asked));
            Some(ask)
        } else {
            None
        });
    }
    let (notify, notices) = unbounded();
    let (control, handles) = Control::new(config.threads, resolvers, notify);
    for (backend, host, port, asked) in questions {
        let control = control.clone();
        spawn("resolver", move || {
            resolver::run(backend, &host, port, &asked, &control);
            Ok(())
        })?;
    }
    let settings = Arc::new(settings(config, max_conns));
    let coordinator = Coordinator::new(settings.clone(), seed(config.threads));
    let door = control.clone();
    spawn("control", move || {
        control_loop::run(coordinator, &notices, &door);
        Ok(())
    })?;
    let mut workers = Vec::new();
    for (index, handle) in handles.into_iter().enumerate() {
        let io = MioIo::new(handle, addresses.clone()).map_err(|error| format!("worker {index}: {error}"))?;
        let proxy = Proxy::new(settings.clone(), index);
        let run = move || {
            let _guard = EndWithWorker;
            let ended = worker::run(proxy, io);
            if let Err(error) = &ended {
                log::error!("worker {index} has failed: {error}");
                std::process::exit(1);
            }
            ended
        };
        workers.push(spawn(&format!("worker {index}"), run)?);
    }
    Ok((control, workers))
}

fn settings(config: &Config, max_conns: usize) -> Settings {
    let servers: Vec<Server> = config
        .backends
        .iter()
        .map(|Backend { name, weight, label, .. }| Server {
            name: name.clone(),
            weight: *weight,
            label: label.clone(),
        })
        .collect();
    let backend = |backend: &Backend| BackendSettings {
        name: backend.name.clone(),
        by_name: matches!(backend.address, Address::Host { .. }),
    };
    Settings {
        backends: config.backends.iter().map(backend).collect(),
        placement: Arc::new(Placement::rendezvous(&servers)),
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
        memory: Arc::new(Budget::new(config.memory_limit)),
        read_errors: config.read_errors,
        join_gets: config.join_gets,
        flush_all_enabled: config.flush_all_enabled,
        limits: limits(config),
        process: Process { id: std::process::id(), started: unix_time() },
    }
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

/// Raises the descriptor limit to fit the configuration; gives how many clients it really allows.
fn fit_descriptors(config: &Config) -> usize {
    let retired = Limits::default().retired_links_max as u64 + 2;
    let links = (config.threads * config.backends.len()) as u64 * retired;
    let reserve = links.min(4096) + OWN_DESCRIPTORS;
    let wanted = config.max_conns as u64 + reserve;
    let got = rlimit::increase_nofile_limit(wanted).unwrap_or(1024);
    if got >= wanted {
        return config.max_conns;
    }
    let fits = usize::try_from(got.saturating_sub(reserve)).unwrap_or(0).max(1);
    log::warn!("--max-conns {}: the descriptor limit is {got}, so at most {fits} clients", config.max_conns);
    fits
}

fn announce(config: &Config, bound: &[Listen], embedded: bool) {
    for at in bound {
        log::info!("listening on {at}");
    }
    let names: Vec<&str> = config.backends.iter().map(|backend| &backend.name[..]).collect();
    log::info!("{} workers in front of {}", config.threads, names.join(", "));
    if embedded {
        log::warn!(
            "embedded backends keep their items in this process: for trials and tests, not for production"
        );
        if let Some(Listen::Tcp { port, .. }) = bound.iter().find(|at| matches!(at, Listen::Tcp { .. })) {
            println!("Try it:");
            println!(
                "  printf 'set greeting 0 0 5\\r\\nhello\\r\\nget greeting\\r\\nquit\\r\\n' | nc 127.0.0.1 {port}"
            );
        }
    }
}

/// Waits for the first signal. A second one ends the process at once.
fn wait_for_end(mut signals: Signals, config: &Config) {
    if let Some(signal) = signals.forever().next() {
        let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
        log::info!("{name}: finishing what is in flight, at most {:?}", config.drain_timeout);
    }
    let again = thread::Builder::new().name("signals".to_string()).spawn(move || {
        if signals.forever().next().is_some() {
            log::warn!("second signal: ending at once");
            std::process::exit(1);
        }
    });
    // Without this thread a second signal does nothing; the drain still ends by its deadline.
    drop(again);
}

fn remove_sockets(bound: &[Listen]) {
    for at in bound {
        if let Listen::Unix(path) = at {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<Worker, String> {
    thread::Builder::new().name(name.to_string()).spawn(body).map_err(|error| format!("{name}: {error}"))
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Differs between workers and runs: it only spreads retries.
fn seed(worker: usize) -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    (time ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(worker as u64)
}
