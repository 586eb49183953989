//! What threads tell each other: never on the path of a request.

use std::sync::Arc;
use std::time::Duration;

use crate::ownership::change::Order;
use crate::stats::Counters;

/// From one worker, or from the control plane, to a worker.
#[derive(Debug)]
pub enum Message {
    /// Report your counters.
    CountersWanted {
        /// Who asks.
        worker: usize,
        /// To be given back with the answer.
        ticket: u64,
    },
    /// The answer to it.
    Counters {
        /// Who answers.
        worker: usize,
        /// As asked.
        ticket: u64,
        /// What it has to report.
        report: Box<Report>,
    },
    /// Begin counting anew.
    ResetCounters,
    /// Memory is short: if a client stands still, it gives way.
    MakeRoom,
    /// The control plane has decided something.
    Order(Order),
    /// A backend has said which version it runs.
    Version {
        /// Which, by its place in the configuration.
        backend: usize,
        /// Its words.
        version: Arc<[u8]>,
    },
    /// No new clients will come; finish what is in flight within this time, then stop.
    Drain(Duration),
}

/// What a worker reports of itself.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its counters.
    pub counters: Counters,
    /// Its view of each backend, in the order of the configuration.
    pub backends: Vec<BackendReport>,
}

/// What a worker thinks of a backend.
#[derive(Clone, Debug, Default)]
pub struct BackendReport {
    /// It has failed too often and is not asked.
    pub down: bool,
    /// Others own its keys.
    pub away: bool,
    /// It has answered on a link that stands.
    pub up: bool,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests that it did not answer.
    pub errors: u64,
    /// Requests that await its answer.
    pub waiting: u64,
    /// Links whose sending side is shut down.
    pub retired: u64,
}
