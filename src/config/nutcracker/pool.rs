//! One pool of the file: its keys, checked. What twemproxy takes is known by name here, key by key.

use std::collections::HashSet;
use std::time::Duration;

use super::super::{Backend, Listen, Rejoin, address, complaint, shown};
use super::yaml::{self, Entry, Value};
use super::{Complaint, forms};
use crate::placement::Method;
use crate::placement::hash::TwemproxyHash;

/// A way of twemproxy's to place keys, but for the hash.
type Distribution = fn(TwemproxyHash) -> Method;

/// Longer times than this are cut.
const TIMEOUT_MAX: Duration = super::super::TIME_MAX;
const RETRY_MIN: Duration = super::super::TIME_MIN;
const RETRY_MAX: Duration = super::super::RETRY_INTERVAL_MAX;

/// A pool as its file has it, with twemproxy's defaults where it is silent.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) line: usize,
    pub(super) listen: Listen,
    /// The line of `listen`.
    pub(super) listen_line: usize,
    pub(super) socket_mode: Option<u32>,
    pub(super) method: Method,
    pub(super) hash_tag: Option<[u8; 2]>,
    /// None: twemproxy waits for ever.
    pub(super) timeout: Option<Duration>,
    pub(super) backlog: u32,
    /// None: no bound.
    pub(super) client_connections: Option<usize>,
    /// None: no server is ejected.
    pub(super) health: Option<Health>,
    pub(super) backends: Vec<Backend>,
    /// The line of `servers`.
    pub(super) servers_line: usize,
    /// What is otherwise here than there, each with its line.
    pub(super) warnings: Vec<Complaint>,
}

/// When a server is ejected, and how often it is tried from then on.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) failure_limit: u32,
    pub(super) retry_interval: Duration,
}

/// Checks the keys of a pool; `rejoin` is what its warnings speak of.
pub(super) fn checked(pool: yaml::Pool, rejoin: Rejoin) -> Result<Pool, Complaint> {
    let yaml::Pool { name, line, entries } = pool;
    let mut keys = Keys { rejoin, ..Keys::default() };
    let mut seen = HashSet::new();
    for entry in &entries {
        let key = &entry.key;
        let set = match seen.insert(key.clone()) {
            true => keys.set(entry),
            false => Err(Complaint::at(entry.line, format!("{}: given twice", shown(key)))),
        };
        set.map_err(|complaint| complaint.of_pool(&name))?;
    }
    keys.finished(&name, line).map_err(|complaint| complaint.of_pool(&name))
}

/// What has been read of a pool so far.
#[derive(Default)]
struct Keys {
    listen: Option<(Listen, Option<u32>, usize)>,
    hash: Option<TwemproxyHash>,
    distribution: Option<Distribution>,
    hash_tag: Option<[u8; 2]>,
    timeout: Option<Duration>,
    backlog: Option<u32>,
    client_connections: Option<usize>,
    auto_eject: bool,
    failure_limit: Option<u32>,
    retry_timeout: Option<(u32, usize)>,
    servers: Option<(Vec<Backend>, usize)>,
    rejoin: Rejoin,
    warnings: Vec<Complaint>,
}

impl Keys {
    fn set(&mut self, entry: &Entry) -> Result<(), Complaint> {
        let Entry { key, line, value } = entry;
        match value {
            Value::List(texts) if key == "servers" => {
                self.servers = Some((servers(texts, *line)?, *line));
                Ok(())
            }
            Value::List(_) => {
                Err(Complaint::at(*line, format!("{}: a list; only servers is one", shown(key))))
            }
            Value::Text(_) if key == "servers" => {
                let what = "servers: must be a list, each server on a line that begins with a dash";
                Err(Complaint::at(*line, what.to_string()))
            }
            // A password, which is not to stand in a log.
            Value::Text(_) if key == "redis_auth" => {
                let what = "redis_auth: is for a pool of redis servers, and mcproxy is for memcached";
                Err(Complaint::at(*line, what.to_string()))
            }
            Value::Text(text) => self
                .set_text(key, text, *line)
                .map_err(|what| Complaint::at(*line, complaint(key, text, what))),
        }
    }

    /// An error is what is wrong with the value.
    fn set_text(&mut self, key: &str, text: &str, line: usize) -> Result<(), String> {
        match key {
            "listen" => self.listen = Some(forms::listen(text).map(|(listen, mode)| (listen, mode, line))?),
            "hash" => self.hash = Some(hash(text)?),
            "distribution" => self.distribution = Some(distribution(text)?),
            "hash_tag" => self.hash_tag = Some(forms::hash_tag(text)?),
            "timeout" => self.timeout = self.timeout(text, line)?,
            "backlog" => self.backlog = Some(forms::whole(text)?),
            "client_connections" => {
                self.client_connections = Some(forms::whole(text)? as usize).filter(|most| *most > 0);
                if self.client_connections.is_some() {
                    self.warn(key, text, line, "is kept here; twemproxy 0.5 reads it and bounds nothing");
                }
            }
            "redis" => {
                if forms::truth(text)? {
                    return Err("mcproxy is for memcached; leave the pools of redis to twemproxy".to_string());
                }
            }
            "redis_db" => {
                if forms::whole(text)? > 0 {
                    self.warn(key, text, line, "has no meaning for memcached");
                }
            }
            "tcpkeepalive" => {
                if !forms::truth(text)? {
                    self.warn(key, text, line, "connections to servers are kept alive here");
                }
            }
            "preconnect" => {
                if forms::truth(text)? {
                    self.warn(key, text, line, "connections to servers are opened here when first needed");
                }
            }
            "auto_eject_hosts" => {
                self.auto_eject = forms::truth(text)?;
                if self.auto_eject {
                    self.warn(key, text, line, return_of_servers(self.rejoin));
                }
            }
            "server_connections" => {
                if forms::whole(text)? == 0 {
                    return Err("must not be 0".to_string());
                }
                let what = "has no effect: each worker (--threads) has one connection to each server, \
                            and one more if clients speak binary";
                self.warn(key, text, line, what);
            }
            "server_retry_timeout" => self.retry_timeout = Some((forms::whole(text)?, line)),
            "server_failure_limit" => self.failure_limit = Some(forms::whole(text)?.max(1)),
            _ => return Err("twemproxy 0.5 has no such key".to_string()),
        }
        Ok(())
    }

    fn timeout(&mut self, text: &str, line: usize) -> Result<Option<Duration>, String> {
        let wanted = Duration::from_millis(forms::whole(text)?.into());
        if wanted > TIMEOUT_MAX {
            self.warn("timeout", text, line, &format!("is {} ms here, the most", TIMEOUT_MAX.as_millis()));
        }
        Ok(Some(wanted.min(TIMEOUT_MAX)).filter(|time| !time.is_zero()))
    }

    fn warn(&mut self, key: &str, text: &str, line: usize, what: &str) {
        self.warnings.push(Complaint::at(line, complaint(key, text, what)));
    }

    /// The keys as a whole, when all have been read.
    fn finished(mut self, name: &str, line: usize) -> Result<Pool, Complaint> {
        let missing = |key: &str| Complaint::at(line, format!("{key}: missing"));
        let (listen, socket_mode, listen_line) = self.listen.take().ok_or_else(|| missing("listen"))?;
        let (backends, servers_line) = self.servers.take().ok_or_else(|| missing("servers"))?;
        if self.timeout.is_none() {
            let what = "timeout: without one twemproxy waits for ever; here a request without an answer gets \
                        its error after 1s";
            self.warnings.push(Complaint::at(line, what.to_string()));
        }
        let health = self.health();
        let warnings = self.warnings.into_iter().map(|warning| warning.of_pool(name)).collect();
        Ok(Pool {
            name: name.to_string(),
            line,
            listen,
            listen_line,
            socket_mode,
            method: self.distribution.unwrap_or(Method::TwemproxyKetama)(
                self.hash.unwrap_or(TwemproxyHash::Fnv1a64),
            ),
            hash_tag: self.hash_tag,
            timeout: self.timeout,
            backlog: self.backlog.unwrap_or(512),
            client_connections: self.client_connections,
            health,
            backends,
            servers_line,
            warnings,
        })
    }

    /// How often a server that is down is tried, and how many failures make it so. twemproxy looks at these
    /// two keys only if it ejects.
    fn health(&mut self) -> Option<Health> {
        if !self.auto_eject {
            return None;
        }
        let interval = match self.retry_timeout {
            Some((wanted, line)) => {
                let wanted = Duration::from_millis(wanted.into());
                if wanted > RETRY_MAX {
                    let what =
                        "is 5000 ms here, the most: it is asked whether it is back, by no client's request";
                    self.warn("server_retry_timeout", &wanted.as_millis().to_string(), line, what);
                }
                wanted.clamp(RETRY_MIN, RETRY_MAX)
            }
            None => RETRY_MAX,
        };
        Some(Health { failure_limit: self.failure_limit.unwrap_or(2), retry_interval: interval })
    }
}

fn hash(text: &str) -> Result<TwemproxyHash, String> {
    TwemproxyHash::parse(text).ok_or_else(|| {
        let names: Vec<&str> = TwemproxyHash::ALL.iter().map(|hash| hash.name()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn distribution(text: &str) -> Result<Distribution, String> {
    match text {
        "ketama" => Ok(Method::TwemproxyKetama),
        "modula" => Ok(Method::TwemproxyModula),
        "random" => {
            Err("a key would have no server of its own, and what is written by it would be found by \
                         chance; ketama and modula are served"
                .to_string())
        }
        _ => Err("must be ketama or modula".to_string()),
    }
}

/// What is to be known of auto_eject_hosts before the first server returns.
fn return_of_servers(rejoin: Rejoin) -> &'static str {
    match rejoin {
        Rejoin::Flush => {
            "a server that returns and has missed writes is made to forget them here, key by key or by a \
             flush; with twemproxy it answers with what is older, and so it does here with --rejoin as-is"
        }
        Rejoin::AsIs => {
            "with --rejoin as-is, a server that returns and has missed writes answers with what is older, \
             as with twemproxy; without that flag it is made to forget them"
        }
    }
}

/// The servers in the order of the file. twemproxy takes no two that it hashes by one name, and mcproxy none
/// that it calls by one name.
fn servers(texts: &[(String, usize)], line: usize) -> Result<Vec<Backend>, Complaint> {
    if texts.len() > address::BACKENDS_MAX {
        let (text, line) = &texts[address::BACKENDS_MAX];
        let what = format!("too many servers, {} are allowed", address::BACKENDS_MAX);
        return Err(Complaint::at(*line, complaint("servers", text, what)));
    }
    if texts.is_empty() {
        return Err(Complaint::at(line, "servers: the list is empty".to_string()));
    }
    let (mut backends, mut names, mut labels) = (Vec::new(), HashSet::new(), HashSet::new());
    for (text, line) in texts {
        let wrong = |what: String| Complaint::at(*line, complaint("servers", text, what));
        let (backend, hashed) = forms::server(text).map_err(wrong)?;
        if !names.insert(backend.name.clone()) || !labels.insert(hashed) {
            return Err(wrong("duplicate: an earlier server of the pool has this name".to_string()));
        }
        backends.push(backend);
    }
    Ok(backends)
}
