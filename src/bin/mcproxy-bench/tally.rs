//! Counts and latencies of a phase.

use hdrhistogram::Histogram;

use crate::requests::Op;

/// The longest latency that is told apart, nanoseconds.
const LATENCY_MAX: u64 = 1_000_000_000_000;

/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// What happened; added up over lanes at the end.
pub(crate) struct Tally {
    /// Reads answered; a multiget is one.
    pub(crate) gets: u64,
    /// Sets answered.
    pub(crate) sets: u64,
    /// Keys that a value came for.
    pub(crate) hits: u64,
    /// Keys that none came for.
    pub(crate) misses: u64,
    /// Operations answered with a SERVER_ERROR or a binary status like it; among gets and sets too.
    pub(crate) errors: u64,
    /// Operations of a schedule that were not sent before it was given up.
    pub(crate) unsent: u64,
    /// Bytes.
    pub(crate) sent: u64,
    /// Bytes.
    pub(crate) received: u64,
    /// When the last answer came: nanoseconds since the start of the run.
    pub(crate) ended: u64,
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Open loop: from when an operation was due to when it was sent, nanoseconds. It is part of the latency.
    pub(crate) lateness: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, DIGITS).expect("bounds that it takes");
        Tally {
            gets: 0,
            sets: 0,
            hits: 0,
            misses: 0,
            errors: 0,
            unsent: 0,
            sent: 0,
            received: 0,
            ended: 0,
            latency: histogram(),
            lateness: histogram(),
        }
    }

    /// One operation was answered after so many nanoseconds.
    #[inline]
    pub(crate) fn answered(&mut self, op: Op, latency: u64) {
        match op {
            Op::Get | Op::Multiget => self.gets += 1,
            Op::Set => self.sets += 1,
        }
        self.latency.saturating_record(latency);
    }

    /// One operation of a schedule was sent so many nanoseconds after it was due.
    #[inline]
    pub(crate) fn sent_late(&mut self, lateness: u64) {
        self.lateness.saturating_record(lateness);
    }

    /// Operations answered.
    pub(crate) fn operations(&self) -> u64 {
        self.gets + self.sets
    }

    /// Adds what another lane counted.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.gets += other.gets;
        self.sets += other.sets;
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors += other.errors;
        self.unsent += other.unsent;
        self.sent += other.sent;
        self.received += other.received;
        self.ended = self.ended.max(other.ended);
        self.latency.add(&other.latency).expect("the same bounds");
        self.lateness.add(&other.lateness).expect("the same bounds");
    }
}

/// The time that this part of all times did not exceed, microseconds.
pub(crate) fn percentile(times: &Histogram<u64>, percent: f64) -> f64 {
    // A histogram gives the end of the range that a time fell in; the maximum is exact enough to cap it.
    let nanoseconds = times.value_at_quantile(percent / 100.0).min(times.max());
    nanoseconds as f64 / 1000.0
}
