//! What both kinds of engine keep for the core, and hand on between system calls: what became of actions, and
//! mail.

use super::socket::{BackendAddress, Socket};
use super::{ConnId, Failure, Handler};
use crate::buffer::Outbox;
use crate::control::{Mail, WorkerHandle};

/// What became of submitted actions, in order, to be told at the next poll.
#[derive(Default)]
pub(super) struct Told(Vec<Outcome>);

enum Outcome {
    Sent(ConnId, Outbox, usize),
    Failed(ConnId, Failure),
    Closed(ConnId),
}

impl Told {
    /// So many bytes of a buffer were written; it goes back.
    #[inline]
    pub(super) fn sent(&mut self, id: ConnId, buffer: Outbox, written: usize) {
        self.0.push(Outcome::Sent(id, buffer, written));
    }

    /// A connection has failed.
    pub(super) fn failed(&mut self, id: ConnId, failure: Failure) {
        self.0.push(Outcome::Failed(id, failure));
    }

    /// A connection is gone.
    pub(super) fn closed(&mut self, id: ConnId) {
        self.0.push(Outcome::Closed(id));
    }

    /// Tells all of it.
    #[inline]
    pub(super) fn tell<H: Handler>(&mut self, handler: &mut H) {
        for outcome in self.0.drain(..) {
            match outcome {
                Outcome::Sent(id, buffer, written) => handler.handle_sent(id, buffer, written),
                Outcome::Failed(id, failure) => handler.handle_failed(id, failure),
                Outcome::Closed(id) => handler.handle_closed(id),
            }
        }
    }
}

/// Hands on all mail. A new client's socket is the engine's: `add` takes it, with its identity.
pub(super) fn take_mail<H: Handler>(
    handle: &WorkerHandle,
    addresses: &mut [BackendAddress],
    handler: &mut H,
    mut add: impl FnMut(ConnId, Socket),
) {
    while let Some(mail) = handle.receive() {
        match mail {
            Mail::Client(socket) => add(handler.handle_accepted(), socket),
            Mail::Resolved { backend, addresses: found } => {
                let count = found.len();
                // A name that has lost its meaning keeps the addresses it had.
                if count > 0 {
                    addresses[backend] = BackendAddress::Tcp(found);
                }
                handler.handle_resolved(backend, count);
            }
            Mail::Message(message) => handler.handle_message(message),
        }
    }
}
