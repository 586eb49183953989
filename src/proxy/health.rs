//! A backend's health: failures reported, probes made, and what its requests get when it does not answer.

use crate::io::ConnId;
use crate::ownership::change::{Health, Notice};
use crate::protocol::binary::status;

use super::Proxy;
use super::backend::{Why, error_text};
use super::binary_requests::response;
use super::joined::{Asker, JoinedGet};
use super::link::{Expect, LinkProtocol, LinkState, Target};
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
        // A mark's client was told, and counted, when it became one.
        self.counters.timeouts += u64::from(why == Why::TimedOut && target != Target::Mark);
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
            Target::Cleaning(number) => self.cleaning_failed(number, why.words()),
            Target::Forgetting(number) => self.not_forgotten(number, backend, why.words()),
            Target::Joined | Target::Mark => {}
        }
    }

    /// Answers those whose keys a backend has not answered.
    pub(super) fn fail_joined(&mut self, backend: usize, joined: &JoinedGet, why: Why) {
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
                self.counters.timeouts += u64::from(why == Why::TimedOut);
            }
        }
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
            Expect::Meta { read: true, quiet, .. } => {
                self.counters.backend_errors_as_misses += 1;
                return if quiet { Vec::new() } else { [b"EN", expect.echo(key), b"\r\n"].concat() };
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

    /// A backend has failed: the control plane hears of it, at most once in each --timeout.
    pub(super) fn count_failure(&mut self, backend: usize, why: Why) {
        let (now, timeout) = (self.now, self.settings.timeout);
        let state = &mut self.backends[backend];
        if state.last_failure.is_none_or(|last| now >= last + timeout) {
            state.last_failure = Some(now);
            self.notify(Notice::Failed { backend, why: why.words() });
        }
    }

    /// A backend has answered.
    #[inline]
    pub(super) fn backend_heard(&mut self, backend: usize) {
        if self.backends[backend].health == Health::Suspect {
            self.suspect_heard(backend);
        }
    }

    #[cold]
    fn suspect_heard(&mut self, backend: usize) {
        self.backends[backend].health = Health::Up;
        self.backends[backend].last_failure = None;
        self.notify(Notice::Heard { backend });
    }

    pub(super) fn take_health(&mut self, backend: usize, health: Health) {
        let state = &mut self.backends[backend];
        state.health = health;
        if health == Health::Up {
            state.last_failure = None;
        }
    }

    /// Finds out whether a down backend answers: on a fresh link, for an old one may owe much.
    pub(super) fn probe(&mut self, backend: usize) {
        if self.backends[backend].probing.is_some() {
            return;
        }
        if let Some(conn) = self.backends[backend].text {
            self.make_room_for_probe(backend, conn);
        }
        if self.backends[backend].text.is_none() {
            let conn = self.open_link(backend, LinkProtocol::Text);
            self.backends[backend].probing = Some(conn);
        }
    }

    fn make_room_for_probe(&mut self, backend: usize, conn: ConnId) {
        let Some(link) = self.link(conn) else { return };
        if link.state == LinkState::Met {
            // It has answered already, and only waits to be vouched for.
            self.notify(Notice::Probed { backend, answered: true });
        } else if link.is_opening() {
            // It is fresh enough.
            self.backends[backend].probing = Some(conn);
        } else if link.queue.pipeline.is_empty() && link.staged == 0 {
            self.backends[backend].text = None;
            self.shut_link(conn);
        } else {
            self.retire_link(conn, Why::TimedOut);
        }
    }
}
