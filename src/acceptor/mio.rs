//! Listeners that mio waits for.

use std::io::{self, ErrorKind};

use mio::{Events, Interest, Poll, Token};

use super::{Listener, PAUSE};
use crate::control::Waker;
use crate::io::socket::Socket;

const STOP: Token = Token(usize::MAX);

/// Listeners by their tokens.
pub(super) struct Doors {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    /// Those that are tried again after a pause.
    again: Vec<usize>,
}

impl Doors {
    pub(super) fn new(mut listeners: Vec<Listener>) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let (token, interest) = (Token(index), Interest::READABLE);
            match listener {
                Listener::Tcp(listener) => poll.registry().register(listener, token, interest)?,
                Listener::Unix(listener) => poll.registry().register(listener, token, interest)?,
            }
        }
        let stop = mio::Waker::new(poll.registry(), STOP)?;
        let events = Events::with_capacity(64);
        Ok((Doors { poll, events, listeners, again: Vec::new() }, Waker::Mio(stop)))
    }

    /// Waits, and hands on what comes. True if it is stopped.
    pub(super) fn wait(
        &mut self,
        each: &mut impl FnMut(usize, io::Result<Socket>) -> bool,
    ) -> io::Result<bool> {
        let timeout = (!self.again.is_empty()).then_some(PAUSE);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            other => other?,
        }
        let mut ready = std::mem::take(&mut self.again);
        for event in &self.events {
            if event.token() == STOP {
                return Ok(true);
            }
            ready.push(event.token().0);
        }
        for index in ready {
            if !accept_all(&self.listeners[index], |accepted| each(index, accepted)) {
                self.again.push(index);
            }
        }
        Ok(false)
    }
}

/// Accepts all that wait at a listener. False if it has to be tried again later.
fn accept_all(listener: &Listener, mut each: impl FnMut(io::Result<Socket>) -> bool) -> bool {
    loop {
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Socket::unix(stream)),
        };
        if matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            return true;
        }
        if !each(accepted) {
            return false;
        }
    }
}
