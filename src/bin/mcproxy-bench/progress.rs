//! The line on stderr that says how far a run is. On a terminal it is one line that changes every second;
//! elsewhere a line is written every few seconds, so that a log shows that something goes on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::report::grouped;

const ON_TERMINAL: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Of one phase.
pub(crate) struct Progress {
    label: &'static str,
    /// How long the phase takes, or how many operations it has.
    goal: Goal,
    terminal: bool,
    started: Instant,
    shown: Instant,
    before: u64,
}

/// When a phase ends.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    Time(Duration),
    Operations(u64),
}

impl Progress {
    /// A phase begins now.
    pub(crate) fn start(label: &'static str, goal: Goal) -> Self {
        let now = Instant::now();
        Progress {
            label,
            goal,
            terminal: std::io::stderr().is_terminal(),
            started: now,
            shown: now,
            before: 0,
        }
    }

    /// How often to call [`Progress::show`].
    pub(crate) fn interval(&self) -> Duration {
        if self.terminal { ON_TERMINAL } else { ELSEWHERE }
    }

    /// So many operations are done.
    pub(crate) fn show(&mut self, operations: u64) {
        let since = self.shown.elapsed();
        if since < self.interval() / 2 {
            return;
        }
        let rate = operations.saturating_sub(self.before) as f64 / since.as_secs_f64();
        let (elapsed, done) = (self.started.elapsed().as_secs_f64(), grouped(operations));
        let far = match self.goal {
            Goal::Time(time) => format!("{elapsed:.0} of {} s, {done} operations", time.as_secs_f64()),
            Goal::Operations(total) => format!("{elapsed:.0} s, {done} of {} operations", grouped(total)),
        };
        self.write(&format!("{}: {far}, {}/s", self.label, grouped(rate as u64)));
        (self.shown, self.before) = (Instant::now(), operations);
    }

    /// Something other than operations is done.
    pub(crate) fn say(&self, text: &str) {
        self.write(&format!("{}: {text}", self.label));
    }

    fn write(&self, text: &str) {
        // A closed stderr is no reason to stop measuring.
        let _ = match self.terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{text}"),
            false => writeln!(std::io::stderr(), "{text}"),
        };
    }
}

impl Drop for Progress {
    /// The line goes away.
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
