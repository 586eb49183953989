//! twemproxy's own configuration, `--nutcracker FILE`: what nutcracker 0.5 takes, as one [`Config`] for each
//! pool.
//!
//! Every key that it knows is known here. What has no meaning here is a warning; what would put keys
//! elsewhere or answer otherwise is refused, and so is what twemproxy itself refuses. The forms and defaults
//! are those of its nc_conf.c and nc_conf.h, and were tried with Debian's nutcracker 0.5.0.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;

use super::{Config, Listen, Program, shown};
use crate::limits::{NUTCRACKER_BYTES_MAX, NUTCRACKER_POOLS_MAX};
use crate::placement::{HashedPart, Placement, Server, TWEMPROXY_WEIGHT_MAX};
use pool::Pool;

mod forms;
mod pool;
#[cfg(test)]
mod tests;
mod yaml;

/// Of a server.
const WEIGHT: RangeInclusive<u64> = 1..=TWEMPROXY_WEIGHT_MAX as u64;

/// The pools of the file at `path`, in its order. What the file does not say is as in `base`;
/// `max_conns_given` says that it bounds the clients of all pools together.
///
/// # Errors
/// The line to print, without the program's name: it names the file, the line, the pool, the key and the
/// value.
pub(super) fn program(path: &str, base: &Config, max_conns_given: bool) -> Result<Program, String> {
    let text = read(path).map_err(|what| super::complaint("--nutcracker", path, what))?;
    pools_of(&text, base, max_conns_given).map_err(|complaint| format!("{}{complaint}", shown(path))).map(
        |mut program| {
            for warning in &mut program.warnings {
                warning.insert_str(0, &shown(path));
            }
            program
        },
    )
}

/// What is wrong, or otherwise than with twemproxy, in which line. Its `Display` follows the name of the
/// file.
#[derive(Debug)]
struct Complaint {
    line: usize,
    pool: Option<String>,
    what: String,
}

impl Complaint {
    fn at(line: usize, what: String) -> Self {
        Complaint { line, pool: None, what }
    }

    fn of_pool(mut self, name: &str) -> Self {
        self.pool = Some(shown(name));
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pool {
            Some(pool) => write!(f, ":{}: pool {pool}: {}", self.line, self.what),
            None => write!(f, ":{}: {}", self.line, self.what),
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let most = NUTCRACKER_BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > NUTCRACKER_BYTES_MAX {
        return Err(format!("the file has more than {NUTCRACKER_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_string())
}

/// The same of the file's text; the name of the file is missing in errors and warnings.
fn pools_of(text: &str, base: &Config, max_conns_given: bool) -> Result<Program, Complaint> {
    let pools = yaml::pools(text)?;
    if pools.is_empty() {
        return Err(Complaint::at(1, "no pools".to_string()));
    }
    if let Some(pool) = pools.get(NUTCRACKER_POOLS_MAX) {
        let what = format!("too many pools, {NUTCRACKER_POOLS_MAX} are allowed");
        return Err(Complaint::at(pool.line, what).of_pool(&pool.name));
    }
    let pools =
        pools.into_iter().map(|pool| pool::checked(pool, base.rejoin)).collect::<Result<Vec<_>, _>>()?;
    refuse_doubles(&pools)?;
    let max_conns = process_max_conns(&pools, base, max_conns_given);
    let mut warnings = Vec::new();
    let mut configs = Vec::new();
    let threads = shares(base.threads, pools.len());
    for (mut pool, threads) in pools.into_iter().zip(threads) {
        warnings.extend(std::mem::take(&mut pool.warnings).iter().map(Complaint::to_string));
        let line = pool.servers_line;
        let name = pool.name.clone();
        let config = config(pool, base, threads, max_conns);
        check_placement(&config)
            .map_err(|what| Complaint::at(line, format!("servers: {what}")).of_pool(&name))?;
        configs.push(config);
    }
    Ok(Program { pools: configs, max_conns, warnings })
}

/// No two pools have a name or an address in common.
fn refuse_doubles(pools: &[Pool]) -> Result<(), Complaint> {
    let (mut names, mut places) = (HashMap::new(), HashMap::<&Listen, &str>::new());
    for pool in pools {
        if names.insert(&pool.name, ()).is_some() {
            let what = "an earlier pool has this name".to_string();
            return Err(Complaint::at(pool.line, what).of_pool(&pool.name));
        }
        if let Some(earlier) = places.insert(&pool.listen, &pool.name) {
            let what = format!("listen {}: pool {} listens there", pool.listen, shown(earlier));
            return Err(Complaint::at(pool.listen_line, what).of_pool(&pool.name));
        }
    }
    Ok(())
}

/// The most clients of all pools together: what was asked for; else what is usual, or what the file has
/// bounds for if that is more.
fn process_max_conns(pools: &[Pool], base: &Config, given: bool) -> usize {
    let bounds = pools.iter().filter_map(|pool| pool.client_connections);
    let wanted = bounds.fold(0, usize::saturating_add).min(super::MAX_CONNS_MAX);
    if given { base.max_conns } else { base.max_conns.max(wanted) }
}

/// So many workers shared out to so many pools, at least one to each.
fn shares(threads: usize, pools: usize) -> impl Iterator<Item = usize> {
    (0..pools).map(move |pool| (threads / pools + usize::from(pool < threads % pools)).max(1))
}

fn config(pool: Pool, base: &Config, threads: usize, max_conns: usize) -> Config {
    let (auto_eject, failure_limit, retry_interval) = match pool.health {
        Some(health) => (true, health.failure_limit, health.retry_interval),
        None => (false, base.failure_limit, base.retry_interval),
    };
    Config {
        pool: Some(shown(&pool.name)),
        listen: vec![pool.listen],
        backlog: pool.backlog,
        socket_mode: pool.socket_mode,
        backends: pool.backends,
        placement: pool.method,
        hashed_part: HashedPart { prefix: Vec::new(), tag: pool.hash_tag },
        threads,
        max_conns: pool.client_connections.unwrap_or(max_conns).min(max_conns),
        // One time there for both: for the connection, and for the answer.
        timeout: pool.timeout.unwrap_or(base.timeout),
        connect_timeout: pool.timeout.unwrap_or(base.connect_timeout),
        failure_limit,
        retry_interval,
        auto_eject,
        ..base.clone()
    }
}

/// Whether the servers can be placed so.
fn check_placement(config: &Config) -> Result<(), String> {
    let servers: Vec<Server> = config.backends.iter().map(super::Backend::server).collect();
    Placement::new(config.placement, config.hashed_part.clone(), &servers).map(drop)
}
