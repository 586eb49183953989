//! What a proxy is told once: immutable, shared by all workers.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;
use crate::memory::Budget;
use crate::ownership::fence::Tokens;
use crate::placement::Placement;

/// Everything that the core needs of the configuration.
#[derive(Debug)]
pub struct Settings {
    /// In the order of the configuration; indexes into it name a backend everywhere.
    pub backends: Vec<BackendSettings>,
    /// Key -> index of a backend.
    pub placement: Arc<Placement>,
    /// How many workers there are.
    pub workers: usize,
    /// Most clients, over all workers.
    pub max_conns: usize,
    /// From a request to its answer.
    pub timeout: Duration,
    /// From the wish for a link to a standing one, over all addresses.
    pub connect_timeout: Duration,
    /// Consecutive failures after which a backend is down.
    pub failure_limit: u32,
    /// How often a down backend is tried.
    pub retry_interval: Duration,
    /// A down backend's keys go to the others.
    pub auto_eject: bool,
    /// What is done with a backend that returns.
    pub rejoin: Rejoin,
    /// The longest that a client is taken to hold a CAS token.
    pub cas_fence: Duration,
    /// What was handed out while fences stand, for all workers.
    pub tokens: Arc<Tokens>,
    /// Bytes that all workers together may buffer.
    pub memory: Arc<Budget>,
    /// What a read gets whose backend does not answer.
    pub read_errors: ReadErrors,
    /// Gets of several clients that meet in one tick leave as one request.
    pub join_gets: bool,
    /// Clients may drop everything.
    pub flush_all_enabled: bool,
    /// Bounds.
    pub limits: Limits,
    /// The process, for `stats`.
    pub process: Process,
}

/// A backend's identity.
#[derive(Debug)]
pub struct BackendSettings {
    /// What errors and `stats` call it.
    pub name: String,
    /// Its address is a name to be looked up before each connect.
    pub by_name: bool,
}

/// What a read gets whose backend does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadErrors {
    /// The error.
    #[default]
    Error,
    /// A miss, unless its answer would bear a CAS token.
    Miss,
    /// A miss, for gets and gats too.
    MissAll,
}

/// What is done with an ejected backend that returns, and has missed writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rejoin {
    /// It is made to forget them: key by key, or if they are too many, all of it.
    #[default]
    Flush,
    /// Nothing: it may answer with what is older.
    AsIs,
}

/// Facts about the process that `stats` prints.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Unix time, in seconds, at which the workers' clocks stood at zero.
    pub started: u64,
    /// What moves its bytes.
    pub io: &'static str,
}
