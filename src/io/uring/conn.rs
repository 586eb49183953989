//! One connection, and what the kernel is doing for it.
//!
//! ```text
//! receiving: Idle --arm--> Armed --pause, close--> Cancelling
//!             ^--------------+-- its last completion --+
//! sending:   none --a send fell short--> Some, in the kernel --its completion--> the rest again, or none
//! closing:   what is in the kernel is cancelled; when all of it has come back, the descriptor is closed
//! ```
#![allow(unsafe_code)] // What is submitted names bytes of the connection's own buffer.

use rustix::io::Errno;

use super::operations::{self, Kind, Manner, Slices, number};
use super::ring::{Completion, Ring};
use crate::buffer::Outbox;
use crate::io::conns::Identified;
use crate::io::socket::Socket;
use crate::io::{ConnId, Failure, Handler};

/// One socket.
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) socket: Socket,
    /// A send that waits in the kernel for room. It is the kernel's until it completes.
    pub(super) sending: Option<Box<Sending>>,
    receiving: Receiving,
    /// The kernel waits for the other side's end.
    pub(super) watched: bool,
    /// The kernel waits for the connect's end.
    pub(super) connecting: bool,
    pub(super) paused: bool,
    /// Nothing more will be received: end of file, or failure.
    pub(super) ended: bool,
    pub(super) failed: Failed,
    /// It is being given up.
    pub(super) closing: bool,
    /// Our sending side is to be shut down, or is.
    pub(super) shut: bool,
    /// A send of this tick, of which nothing is known yet.
    pub(super) fresh: bool,
    /// It has sent something.
    pub(super) has_sent: bool,
    /// The tick in which it was last told of bytes.
    pub(super) fed: u32,
}

/// A send that goes on.
pub(super) struct Sending {
    pub(super) buffer: Outbox,
    pub(super) written: usize,
    pub(super) slices: Option<Box<Slices>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Idle,
    Armed,
    Cancelling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    No,
    /// It is told when its buffer has come back.
    Untold,
    Told,
}

/// What is to be done about a receive that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// It ran out of buffers: begin again when there are some.
    Again,
}

impl Identified for Conn {
    #[inline]
    fn id(&self) -> ConnId {
        self.id
    }
}

impl Conn {
    pub(super) fn new(id: ConnId, socket: Socket) -> Self {
        Conn {
            id,
            socket,
            sending: None,
            receiving: Receiving::Idle,
            watched: false,
            connecting: false,
            paused: false,
            ended: false,
            failed: Failed::No,
            closing: false,
            shut: false,
            fresh: false,
            has_sent: false,
            fed: 0,
        }
    }

    /// The kernel has nothing of it.
    pub(super) fn is_idle(&self) -> bool {
        let waits = self.watched || self.connecting || self.fresh;
        self.receiving == Receiving::Idle && self.sending.is_none() && !waits
    }

    /// It stands: from now on it is received from.
    ///
    /// Bytes and the end that follows them at once are one event for a multishot receive, which takes the
    /// bytes and then waits for ever (seen on Linux 6.18: unix sockets, and resets). So the end is watched
    /// for itself, and when it has come the receive begins anew, which looks before it waits.
    pub(super) fn begin(&mut self, ring: &mut Ring) {
        self.arm(ring);
        self.watched = true;
        ring.in_flight += 1;
        // SAFETY: it names no memory.
        unsafe { ring.push(&operations::hangup(&self.socket, self.id)) };
    }

    /// The other side's end has come, and all that was received is dealt with.
    pub(super) fn hung_up(&mut self, ring: &mut Ring) {
        if !self.ended {
            self.disarm(ring);
        }
    }

    /// Receives, if it is wanted and not done already.
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        let wanted = !(self.paused || self.ended || self.closing || self.connecting);
        if wanted && self.receiving == Receiving::Idle {
            self.receiving = Receiving::Armed;
            ring.in_flight += 1;
            // SAFETY: it names no memory but the ring of buffers, which the engine keeps until nothing is in
            // flight.
            unsafe { ring.push(&operations::receive(&self.socket, self.id)) };
        }
    }

    /// Receives no more. What the kernel has received still comes.
    pub(super) fn disarm(&mut self, ring: &mut Ring) {
        if self.receiving == Receiving::Armed {
            self.receiving = Receiving::Cancelling;
            self.cancel(Kind::Receive, ring);
        }
    }

    /// Waits for the end of a connect.
    pub(super) fn await_connect(&mut self, ring: &mut Ring) {
        self.connecting = true;
        ring.in_flight += 1;
        // SAFETY: it names no memory.
        unsafe { ring.push(&operations::writable(&self.socket, self.id)) };
    }

    /// Everything that is in the kernel is to come back.
    pub(super) fn cancel_all(&mut self, ring: &mut Ring) {
        self.disarm(ring);
        self.cancel_send(ring);
        if self.connecting {
            self.cancel(Kind::Connect, ring);
        }
        if self.watched {
            self.cancel(Kind::Hangup, ring);
        }
    }

    pub(super) fn cancel_send(&mut self, ring: &mut Ring) {
        if self.sending.is_some() {
            self.cancel(Kind::Send, ring);
        }
    }

    fn cancel(&self, what: Kind, ring: &mut Ring) {
        // SAFETY: it names no memory.
        unsafe { ring.push(&operations::cancel(number(what, self.id))) };
    }

    /// The rest of a send goes to the kernel, to be written when there is room.
    pub(super) fn go_on_sending(&mut self, mut sending: Box<Sending>, ring: &mut Ring) {
        let number = number(Kind::Send, self.id);
        let Sending { buffer, written, slices } = &mut *sending;
        let (entry, _) = operations::send(&self.socket, buffer, *written, slices, Manner::Waiting, number);
        self.sending = Some(sending);
        ring.in_flight += 1;
        // SAFETY: the bytes and slices are those of `sending`, which nobody touches before its completion:
        // the connection stays in the table until then, also when it is closed, and an engine that ends waits
        // for it or never frees it.
        unsafe { ring.push(&entry) };
    }

    /// The multishot receive has told something, and nothing but bytes has been dealt with.
    pub(super) fn received<H: Handler>(
        &mut self,
        completion: Completion,
        bytes: &[u8],
        ring: &mut Ring,
        handler: &mut H,
    ) -> Then {
        if !completion.more() {
            self.receiving = Receiving::Idle;
        }
        let deaf = self.ended || self.closing;
        // What was held back comes before the end too.
        if !(deaf || bytes.is_empty()) {
            handler.handle_received(self.id, bytes);
        }
        match completion.result {
            1.. => {}
            0 if deaf => {}
            0 => {
                self.ended = true;
                handler.handle_eof(self.id);
            }
            result => match Errno::from_raw_os_error(-result) {
                Errno::NOBUFS => return Then::Again,
                Errno::CANCELED | Errno::INTR | Errno::AGAIN => {}
                _ => self.fail(ring, handler),
            },
        }
        self.arm(ring);
        Then::Nothing
    }

    /// The wait for a connect has ended.
    #[cold]
    pub(super) fn connect_ended<H: Handler>(&mut self, ring: &mut Ring, handler: &mut H) {
        self.connecting = false;
        if self.closing {
            return;
        }
        match self.socket.connect_result() {
            Ok(true) => {
                handler.handle_connected(self.id);
                self.begin(ring);
            }
            Ok(false) => self.await_connect(ring),
            Err(failure) => {
                self.ended = true;
                self.failed = Failed::Told;
                handler.handle_failed(self.id, failure);
            }
        }
    }

    /// A waiting send has come back, with what it has written.
    #[cold]
    pub(super) fn send_ended<H: Handler>(&mut self, result: i32, ring: &mut Ring, handler: &mut H) {
        let Some(mut sending) = self.sending.take() else { return };
        sending.written += usize::try_from(result).unwrap_or(0);
        let whole = sending.written == sending.buffer.len();
        let over = whole || self.closing || self.shut || self.failed != Failed::No;
        if !over {
            if result > 0 {
                handler.handle_progress(self.id);
            }
            if result > 0 || is_passing(result) {
                return self.go_on_sending(sending, ring);
            }
            self.failed = Failed::Untold;
            self.ended = true;
        }
        handler.handle_sent(self.id, sending.buffer, sending.written);
        self.after_send(handler);
    }

    /// Its buffer has come back: what has waited for that is done.
    pub(super) fn after_send<H: Handler>(&mut self, handler: &mut H) {
        if self.failed == Failed::Untold && !self.closing {
            self.failed = Failed::Told;
            handler.handle_failed(self.id, Failure::Reset);
        }
        if self.shut {
            self.socket.shutdown_write();
        }
    }

    /// It is broken; its buffer comes back first.
    fn fail<H: Handler>(&mut self, ring: &mut Ring, handler: &mut H) {
        self.ended = true;
        if self.failed == Failed::No && !self.closing {
            self.failed = Failed::Untold;
            self.cancel_send(ring);
            if self.sending.is_none() {
                self.after_send(handler);
            }
        }
    }
}

/// Nothing was written, and that is no failure.
pub(super) fn is_passing(result: i32) -> bool {
    matches!(Errno::from_raw_os_error(-result), Errno::AGAIN | Errno::INTR | Errno::CANCELED)
}
