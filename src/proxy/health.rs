//! A backend's health: failures counted, probes made, and what its requests get when it does not answer.

use std::time::Duration;

use crate::io::ConnId;
use crate::protocol::binary::status;
use crate::time::Time;

use super::Proxy;
use super::backend::{Probe, RETRY_INTERVAL_MAX, Why, error_text};
use super::binary_requests::response;
use super::joined::{Asker, JoinedGet};
use super::link::{Expect, LinkProtocol, Target};
use super::replies::Answer;
use super::settings::ReadErrors;

impl Proxy {
    /// Opens a link to every backend, so that their versions are known and the absent are named in the log.
    pub(super) fn greet_backends(&mut self) {
        for backend in 0..self.backends.len() {
            self.open_link(backend, LinkProtocol::Text);
        }
    }

    /// Answers a request whose backend did not.
    #[cold]
    pub(super) fn fail(&mut self, backend: usize, target: Target, expect: Expect, key: &[u8], why: Why) {
        match target {
            Target::Slot(conn, slot) => {
                self.backends[backend].errors += 1;
                let answer = self.failure_answer(backend, expect, key, why);
                self.answer(conn, slot, Answer::copied(&answer));
            }
            Target::Broadcast(index, generation) => {
                let text = error_text(&self.settings.backends[backend].name, why);
                self.broadcast_answered((index, generation), Some(text.into_bytes()));
            }
            Target::Joined | Target::Greeting | Target::Mark => {}
        }
    }

    /// Answers those whose keys a backend has not answered; gives how many they are.
    pub(super) fn fail_joined(&mut self, backend: usize, joined: &JoinedGet, why: Why) -> u64 {
        let mut failed = 0;
        let with_cas = joined.read.with_cas();
        let mut from = 0;
        while let Some(number) = joined.next_missing(from) {
            from = number + 1;
            let mut askers = joined.askers_of(number);
            while let Some(asker) = askers.next(joined) {
                match asker {
                    Asker::Slot(conn, slot) => self.fail_get(backend, conn, slot, with_cas, why),
                    Asker::Part(fanout, key) => self.part_failed(fanout, key, why),
                }
                failed += 1;
            }
        }
        failed
    }

    /// Answers a get whose backend did not.
    #[cold]
    pub(super) fn fail_get(&mut self, backend: usize, conn: ConnId, slot: u32, with_cas: bool, why: Why) {
        self.backends[backend].errors += 1;
        if self.reads_as_miss(with_cas) {
            self.counters.backend_errors_as_misses += 1;
            return self.answer(conn, slot, Answer::copied(b"END\r\n"));
        }
        self.counters.backend_errors += 1;
        let text = error_text(&self.settings.backends[backend].name, why);
        self.answer(conn, slot, Answer { rest: b"\r\n", ..Answer::copied(text.as_bytes()) });
    }

    /// The answer to a read of a text client, if the backend's failure is to look like a miss.
    pub(super) fn reads_as_miss(&self, with_cas: bool) -> bool {
        match self.settings.read_errors {
            ReadErrors::Error => false,
            ReadErrors::Miss => !with_cas,
            ReadErrors::MissAll => true,
        }
    }

    fn failure_answer(&mut self, backend: usize, expect: Expect, key: &[u8], why: Why) -> Vec<u8> {
        match expect {
            Expect::Meta { read: true, quiet, raw_key, .. } => {
                self.counters.backend_errors_as_misses += 1;
                let echo = &key[usize::from(raw_key)..];
                return if quiet { Vec::new() } else { [b"EN", echo, b"\r\n"].concat() };
            }
            Expect::Line { quiet: true, .. } | Expect::Unlinked { quiet: true } => {
                self.counters.backend_errors_unheard += 1;
                return Vec::new();
            }
            _ => self.counters.backend_errors += 1,
        }
        let text = error_text(&self.settings.backends[backend].name, why);
        match expect {
            Expect::Binary { opcode, opaque, .. } | Expect::BinaryUnlinked { opcode, opaque, .. } => {
                response(opcode, opaque, status::TEMPORARY_FAILURE, text.as_bytes())
            }
            _ => [text.as_bytes(), b"\r\n"].concat(),
        }
    }

    /// A backend has failed: at most once in each --timeout. Enough of them in a row, and it is down.
    pub(super) fn count_failure(&mut self, backend: usize, why: Why) {
        let (now, timeout) = (self.now, self.settings.timeout);
        // A probe that fails is followed by the next; overdue requests are many, and say the same thing
        // again.
        if self.backends[backend].down.is_some() && why != Why::TimedOut {
            return self.schedule_probe(backend);
        }
        let state = &mut self.backends[backend];
        if state.last_failure.is_some_and(|last| now < last + timeout) {
            return;
        }
        state.last_failure = Some(now);
        if state.down.is_some() {
            return self.schedule_probe(backend);
        }
        state.failures += 1;
        let failures = state.failures;
        let name = &self.settings.backends[backend].name;
        if failures >= self.settings.failure_limit {
            let failures =
                if failures == 1 { "1 failure".to_string() } else { format!("{failures} failures in a row") };
            log::warn!("backend {name} is down after {failures}: {}", why.words());
            self.schedule_probe(backend);
        } else if failures == 1 {
            log::warn!("backend {name}: {}", why.words());
        }
    }

    /// A backend has answered.
    #[inline]
    pub(super) fn backend_heard(&mut self, backend: usize) {
        let state = &mut self.backends[backend];
        if state.failures != 0 {
            state.failures = 0;
            state.last_failure = None;
            if state.down.take().is_some() {
                log::info!("backend {} is up again", self.settings.backends[backend].name);
            }
        }
    }

    /// Tries a down backend if it is time to. Gives when to look again.
    pub(super) fn probe(&mut self, backend: usize) -> Option<Time> {
        let probe = self.backends[backend].down?;
        if self.now >= probe.at {
            let guard = self.settings.connect_timeout + self.settings.timeout * 2;
            self.backends[backend].down = Some(Probe { at: self.now + guard, ..probe });
            self.shut_if_idle(backend);
            if self.backends[backend].text.is_none() {
                self.open_link(backend, LinkProtocol::Text);
            }
        }
        self.backends[backend].down.map(|probe| probe.at)
    }

    /// A probe goes out on a fresh link; one with requests in flight is left to answer or to end by itself.
    fn shut_if_idle(&mut self, backend: usize) {
        let Some(conn) = self.backends[backend].text else { return };
        if self.link(conn).is_some_and(|link| link.queue.pipeline.is_empty() && link.staged == 0) {
            self.backends[backend].text = None;
            self.shut_link(conn);
        }
    }

    fn schedule_probe(&mut self, backend: usize) {
        let first = self.settings.retry_interval;
        let interval = match self.backends[backend].down {
            None => first,
            Some(probe) => (probe.interval * 2).min(RETRY_INTERVAL_MAX.max(first)),
        };
        let at = self.now + interval - self.jittered(interval / 10);
        self.backends[backend].down = Some(Probe { at, interval });
        self.wake_at(at);
    }

    /// A duration between zero and `most`, so that the workers of many proxies do not try all at once.
    fn jittered(&mut self, most: Duration) -> Duration {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        most.mul_f64((self.jitter >> 11) as f64 / (1u64 << 53) as f64)
    }
}
