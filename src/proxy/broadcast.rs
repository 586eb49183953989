//! flush_all: it goes to all backends, keeps its place in the client's order on every link, and is answered
//! when all have answered.

use crate::io::ConnId;
use crate::protocol::binary::{self, Request, opcode, status};
use crate::protocol::compose;

use super::Proxy;
use super::binary_requests::{is_silenced, response};
use super::link::{Expect, LineVerb, LinkProtocol, Target};
use super::link_queue::Value;
use super::replies::Answer;

/// A request that all backends must answer.
#[derive(Debug)]
pub(super) struct Broadcast {
    client: ConnId,
    slot: u32,
    waiting: usize,
    /// The words of those that did not say OK, and how many they are.
    failure: Option<Vec<u8>>,
    failures: usize,
    form: Form,
}

/// Backends that one error names; of the others it says how many they are.
const NAMED_MAX: usize = 8;

impl Broadcast {
    /// Adds a backend's words, `SERVER_ERROR backend NAME ...`, to the error.
    fn fail(&mut self, words: &[u8]) {
        self.failures += 1;
        match &mut self.failure {
            None => self.failure = Some(words.to_vec()),
            Some(failure) if self.failures <= NAMED_MAX => {
                failure.extend_from_slice(b", ");
                failure.extend_from_slice(words.strip_prefix(b"SERVER_ERROR ").unwrap_or(words));
            }
            Some(_) => {}
        }
    }

    /// The error in words, if there is one.
    fn error(&mut self) -> Option<Vec<u8>> {
        let mut words = self.failure.take()?;
        if self.failures > NAMED_MAX {
            words.extend_from_slice(format!(", and {} more", self.failures - NAMED_MAX).as_bytes());
        }
        Some(words)
    }
}

/// How its answer looks.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text { noreply: bool },
    Binary { opcode: u8, opaque: [u8; 4] },
}

impl Proxy {
    pub(super) fn flush_all(&mut self, conn: ConnId, delay: Option<i32>, noreply: bool) {
        if !self.settings.flush_all_enabled {
            let refusal: &[u8] = if noreply { b"" } else { b"CLIENT_ERROR flush_all not allowed\r\n" };
            return self.answer_now(conn, refusal);
        }
        let target = self.begin_broadcast(conn, Form::Text { noreply });
        let expect = Expect::Line { verb: LineVerb::FlushAll, quiet: false };
        for backend in self.serving() {
            self.queue_or_fail(backend, LinkProtocol::Text, target, expect, &[], |out, _| {
                compose::flush_all(out, delay);
                Value::None
            });
        }
    }

    pub(super) fn flush_all_binary(&mut self, conn: ConnId, request: &Request<'_>) {
        let (opcode, opaque) = (request.opcode, request.opaque);
        if !self.settings.flush_all_enabled {
            return self.answer_now(conn, &response(opcode, opaque, status::AUTH_ERROR, b"Auth failure."));
        }
        let target = self.begin_broadcast(conn, Form::Binary { opcode, opaque });
        let expect = Expect::Binary { opcode, opaque, compares: false, tag: 0 };
        debug_assert_eq!(binary::answering(opcode).0, opcode::FLUSH);
        for backend in self.serving() {
            self.queue_or_fail(backend, LinkProtocol::Binary, target, expect, &[], |out, tag| {
                compose::binary_head(out, request, opcode::FLUSH, tag);
                Value::None
            });
        }
    }

    /// Those that are not ejected; the others are made to forget everything when they return.
    fn serving(&self) -> impl Iterator<Item = usize> + use<> {
        let away = self.ownership.away.clone();
        (0..self.backends.len()).filter(move |&backend| !away[backend])
    }

    /// One backend has answered: with OK, or with these words.
    pub(super) fn broadcast_answered(&mut self, id: (u32, u32), failure: Option<Vec<u8>>) {
        let Some(broadcast) = self.broadcasts.get_mut(id.0 as usize, id.1) else { return };
        broadcast.waiting -= 1;
        if let Some(words) = failure {
            broadcast.fail(&words);
        }
        if broadcast.waiting == 0
            && let Some(done) = self.broadcasts.remove(id.0 as usize, id.1)
        {
            self.answer_broadcast(done);
        }
    }

    fn begin_broadcast(&mut self, conn: ConnId, form: Form) -> Target {
        self.counters.cmd_flush += 1;
        let slot = self.reserve_slot(conn);
        self.note_write_to_all();
        let waiting = self.serving().count();
        let (index, generation) = self.broadcasts.insert(Broadcast {
            client: conn,
            slot,
            waiting,
            failure: None,
            failures: 0,
            form,
        });
        Target::Broadcast(index, generation)
    }

    fn answer_broadcast(&mut self, mut done: Broadcast) {
        let failure = done.error();
        let failed = failure.is_some();
        let answer = match (done.form, failure) {
            (Form::Text { noreply: true }, _) => {
                self.counters.backend_errors_unheard += u64::from(failed);
                Vec::new()
            }
            (Form::Text { .. }, None) => b"OK\r\n".to_vec(),
            (Form::Text { .. }, Some(words)) => [&words[..], b"\r\n"].concat(),
            (Form::Binary { opcode, .. }, None) if is_silenced(opcode, status::OK) => Vec::new(),
            (Form::Binary { opcode, opaque }, None) => response(opcode, opaque, status::OK, b""),
            (Form::Binary { opcode, opaque }, Some(words)) => {
                response(opcode, opaque, status::TEMPORARY_FAILURE, &words)
            }
        };
        self.counters.backend_errors += u64::from(failed);
        self.answer(done.client, done.slot, Answer::copied(&answer));
    }
}
