//! A core whose calls each are a function of their own, never inlined. The instruction benches count what
//! runs between the entry and the return of these functions and nothing else (callgrind's --toggle-collect),
//! so that the replay's own instructions are not the core's. None of them may call another one: that would
//! turn the counting off.

use mcproxy::buffer::Outbox;
use mcproxy::io::{Action, ConnId, Failure, Handler};
use mcproxy::proxy::Proxy;
use mcproxy::proxy::message::Message;
use mcproxy::time::Time;

use super::replay::Core;

/// The functions of [`Counted`] as callgrind names them, and no others.
pub(crate) const PATTERN: &str = "<*::Counted as *>::*";

/// A core under observation.
pub(crate) struct Counted(pub(crate) Proxy);

impl Core for Counted {
    #[inline(never)]
    fn handle_timeout(&mut self, now: Time) {
        self.0.handle_timeout(now);
    }

    #[inline(never)]
    fn poll_action(&mut self) -> Option<Action> {
        self.0.poll_action()
    }
}

impl Handler for Counted {
    #[inline(never)]
    fn handle_now(&mut self, now: Time) {
        self.0.handle_now(now);
    }

    #[inline(never)]
    fn handle_accepted(&mut self) -> ConnId {
        self.0.handle_accepted()
    }

    #[inline(never)]
    fn handle_received(&mut self, conn: ConnId, bytes: &[u8]) {
        self.0.handle_received(conn, bytes);
    }

    #[inline(never)]
    fn handle_eof(&mut self, conn: ConnId) {
        self.0.handle_eof(conn);
    }

    #[inline(never)]
    fn handle_failed(&mut self, conn: ConnId, failure: Failure) {
        self.0.handle_failed(conn, failure);
    }

    #[inline(never)]
    fn handle_sent(&mut self, conn: ConnId, buffer: Outbox, written: usize) {
        self.0.handle_sent(conn, buffer, written);
    }

    #[inline(never)]
    fn handle_progress(&mut self, conn: ConnId) {
        self.0.handle_progress(conn);
    }

    #[inline(never)]
    fn handle_connected(&mut self, conn: ConnId) {
        self.0.handle_connected(conn);
    }

    #[inline(never)]
    fn handle_closed(&mut self, conn: ConnId) {
        self.0.handle_closed(conn);
    }

    #[inline(never)]
    fn handle_resolved(&mut self, backend: usize, addresses: usize) {
        self.0.handle_resolved(backend, addresses);
    }

    #[inline(never)]
    fn handle_message(&mut self, message: Message) {
        self.0.handle_message(message);
    }

    #[inline(never)]
    fn has_actions(&self) -> bool {
        self.0.has_actions()
    }
}
