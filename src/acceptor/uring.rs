//! Listeners that an io_uring accepts at.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Listener, PAUSE};
use crate::control::Waker;
use crate::io::socket::Socket;
use crate::io::uring::Accepts;

/// Listeners by their places.
pub(super) struct Doors {
    accepts: Accepts,
    listeners: Vec<Listener>,
    /// Those at which nothing is accepted now.
    unarmed: Vec<usize>,
    /// Some of them only after a pause.
    pausing: bool,
}

impl Doors {
    pub(super) fn new(listeners: Vec<Listener>) -> io::Result<(Self, Waker)> {
        let (accepts, stop) = Accepts::new()?;
        let unarmed = (0..listeners.len()).collect();
        Ok((Doors { accepts, listeners, unarmed, pausing: false }, stop))
    }

    /// Waits, and hands on what comes. True if it is stopped.
    pub(super) fn wait(
        &mut self,
        each: &mut impl FnMut(usize, io::Result<Socket>) -> bool,
    ) -> io::Result<bool> {
        let Doors { accepts, listeners, unarmed, pausing } = self;
        if !*pausing {
            for index in unarmed.drain(..) {
                accepts.arm(&listeners[index], index)?;
            }
        }
        let timeout = std::mem::take(pausing).then_some(PAUSE);
        accepts.wait(timeout, |index, accepted, over| {
            let socket = accepted.map(|fd| match &listeners[index] {
                Listener::Tcp(_) => Socket::tcp(fd),
                Listener::Unix(_) => Socket::unix(fd),
            });
            *pausing |= !each(index, socket);
            if over {
                unarmed.push(index);
            }
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}
