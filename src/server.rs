//! The control plane: binds, starts the pools, waits for signals, brings everything to an end.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::acceptor::{Acceptor, Listener};
use crate::config::{Config, Listen, Program};
use crate::io::engine::Engine;
use crate::limits::Limits;
use crate::memory::Budget;
use crate::proxy::message::Message;
use crate::{listen, logging};
use pool::Pool;

mod pool;

/// Descriptors that the process needs beside those of its clients and links.
const OWN_DESCRIPTORS: u64 = 64;

/// Runs until a signal ends it.
///
/// # Errors
/// One line for stderr; the process then ends with status 1.
pub fn run(program: &Program) -> Result<(), String> {
    // What is about the process is the same in all pools.
    let process = program.pools.first().expect("there is a pool");
    let engine = Engine::choose(process.io)?;
    let bound = bind(program)?;
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("signals: {error}"))?;
    let max_conns = fit_descriptors(program);
    let memory = Arc::new(Budget::new(process.memory_limit));
    let mut pools = Vec::new();
    for config in &program.pools {
        let clients = config.max_conns.min(max_conns);
        let pool = Pool::start(config, engine, clients, memory.clone(), &prefix(program, config));
        pools.push(pool.map_err(|error| format!("{}{error}", prefix(program, config)))?);
    }
    let (listeners, addresses): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
    let entrances = pools.iter().zip(listeners).map(|(pool, listeners)| pool.entrance(listeners)).collect();
    let (acceptor, stop) =
        Acceptor::new(entrances, max_conns, engine).map_err(|error| format!("accepting: {error}"))?;
    let accepting = spawn("acceptor", "", move || acceptor.run())?;
    announce(program, &addresses);
    wait_for_end(signals, process);
    stop.stop();
    let _ = accepting.join();
    addresses.iter().flatten().for_each(remove_socket);
    for pool in &pools {
        pool.control.send_all(|| Message::Drain(process.drain_timeout));
    }
    for worker in pools.into_iter().flat_map(|pool| pool.workers) {
        let _ = worker.join();
    }
    log::info!("stopped");
    Ok(())
}

type Worker = JoinHandle<std::io::Result<()>>;

/// What a pool's lines begin with: its name, where there are several.
fn prefix(program: &Program, config: &Config) -> String {
    match &config.pool {
        Some(name) if program.pools.len() > 1 => format!("pool {name}: "),
        _ => String::new(),
    }
}

/// A pool's listeners, and what they listen at.
type Bound = (Vec<Listener>, Vec<Listen>);

/// The listeners of each pool.
fn bind(program: &Program) -> Result<Vec<Bound>, String> {
    let bind = |config: &Config| {
        let bound = config.listen.iter().map(|wanted| {
            listen::bind(wanted, config.backlog, config.socket_mode).map_err(|error| match &config.pool {
                Some(name) => format!("pool {name}: listen {wanted}: {error}"),
                None => format!("--listen {wanted}: {error}"),
            })
        });
        bound.collect::<Result<Vec<_>, _>>().map(|bound| bound.into_iter().unzip())
    };
    program.pools.iter().map(bind).collect()
}

/// Raises the descriptor limit to fit the configuration; gives how many clients it really allows.
fn fit_descriptors(program: &Program) -> usize {
    let retired = Limits::default().retired_links_max as u64 + 2;
    let links_of = |config: &Config| ((config.threads * config.backends.len()) as u64 * retired).min(4096);
    let reserve = program.pools.iter().map(links_of).sum::<u64>() + OWN_DESCRIPTORS;
    let wanted = program.max_conns as u64 + reserve;
    let got = rlimit::increase_nofile_limit(wanted).unwrap_or(1024);
    if got >= wanted {
        return program.max_conns;
    }
    let fits = usize::try_from(got.saturating_sub(reserve)).unwrap_or(0).max(1);
    log::warn!("--max-conns {}: the descriptor limit is {got}, so at most {fits} clients", program.max_conns);
    fits
}

fn announce(program: &Program, bound: &[Vec<Listen>]) {
    for (config, bound) in program.pools.iter().zip(bound) {
        let prefix = prefix(program, config);
        for at in bound {
            log::info!("{prefix}listening on {at}");
        }
        let names: Vec<&str> = config.backends.iter().map(|backend| &backend.name[..]).collect();
        log::info!("{prefix}{} workers in front of {}", config.threads, names.join(", "));
        if pool::is_embedded(config) {
            announce_embedded(bound);
        }
    }
}

fn announce_embedded(bound: &[Listen]) {
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

/// Waits for the first signal. A second one ends the process at once.
fn wait_for_end(mut signals: Signals, process: &Config) {
    if let Some(signal) = signals.forever().next() {
        let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
        log::info!("{name}: finishing what is in flight, at most {:?}", process.drain_timeout);
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

fn remove_socket(at: &Listen) {
    if let Listen::Unix(path) = at {
        let _ = std::fs::remove_file(path);
    }
}

/// Starts a thread whose log lines begin with `prefix`.
fn spawn(
    name: &str,
    prefix: &str,
    body: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<Worker, String> {
    let prefix = prefix.to_string();
    let run = move || {
        logging::begin_lines_with(&prefix);
        body()
    };
    thread::Builder::new().name(name.to_string()).spawn(run).map_err(|error| format!("{name}: {error}"))
}
