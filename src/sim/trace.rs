//! What happened, in order: a hash of all of it, and, when a seed is looked at, the lines to read.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::time::Time;

/// Lines that a failing seed shows.
const LINES_KEPT: usize = 60;

/// Whether the lines of a trace are made, and what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Only the hash.
    #[default]
    Off,
    /// The last of them are kept for the report of a violation.
    Last,
    /// All are printed as they come, to stderr.
    Print,
}

/// The trace of a run.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    tracing: Tracing,
    lines: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(tracing: Tracing) -> Self {
        Trace { hash: 0, tracing, lines: VecDeque::new() }
    }

    /// Something happened: `what` and `bytes` go into the hash, `line` is for people.
    pub(super) fn note(&mut self, now: Time, what: &[u64], bytes: &[u8], line: impl FnOnce() -> String) {
        for number in [now.0].iter().chain(what) {
            self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        if !bytes.is_empty() {
            self.hash = xxh3_64_with_seed(bytes, self.hash);
        }
        if self.tracing != Tracing::Off {
            self.keep(format!("{:>10} us  {}", now.0, line()));
        }
    }

    /// Of everything so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, oldest first.
    pub(super) fn last(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    fn keep(&mut self, line: String) {
        if self.tracing == Tracing::Print {
            return eprintln!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Bytes for people, long ones cut short.
pub(super) fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(160)];
    let rest = if cut.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{rest}", cut.escape_ascii())
}
