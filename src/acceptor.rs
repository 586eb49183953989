//! Accepts clients and deals them out: one thread for all listeners, so that the bound on clients is exact
//! and the workers are loaded evenly, however the kernel hashes connections.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Token};

use crate::control::Control;
use crate::io::mio::Socket;

/// How long accepting pauses when the process or the machine has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

const STOP: Token = Token(usize::MAX);

/// A listening socket.
pub enum Listener {
    /// TCP
    Tcp(TcpListener),
    /// Unix
    Unix(UnixListener),
}

/// The thread's state.
pub struct Acceptor {
    poll: Poll,
    listeners: Vec<Listener>,
    control: Arc<Control>,
    max_conns: usize,
    out_of_descriptors: bool,
}

impl Acceptor {
    /// An acceptor, and what stops it.
    ///
    /// # Errors
    /// The kernel gives no selector.
    pub fn new(
        mut listeners: Vec<Listener>,
        control: Arc<Control>,
        max_conns: usize,
    ) -> io::Result<(Self, mio::Waker)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let (token, interest) = (Token(index), Interest::READABLE);
            match listener {
                Listener::Tcp(listener) => poll.registry().register(listener, token, interest)?,
                Listener::Unix(listener) => poll.registry().register(listener, token, interest)?,
            }
        }
        let stop = mio::Waker::new(poll.registry(), STOP)?;
        Ok((Acceptor { poll, listeners, control, max_conns, out_of_descriptors: false }, stop))
    }

    /// Accepts until it is stopped.
    ///
    /// # Errors
    /// The selector has failed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut again: Vec<usize> = Vec::new();
        loop {
            let timeout = (!again.is_empty()).then_some(PAUSE);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            let mut ready = std::mem::take(&mut again);
            for event in &events {
                if event.token() == STOP {
                    return Ok(());
                }
                ready.push(event.token().0);
            }
            for listener in ready {
                if !self.accept_all(listener) {
                    again.push(listener);
                }
            }
        }
    }

    /// Accepts all that wait at a listener. False if it has to be tried again later.
    fn accept_all(&mut self, index: usize) -> bool {
        loop {
            let accepted = match &self.listeners[index] {
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
                Listener::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
            };
            match accepted {
                Ok(socket) => {
                    if std::mem::take(&mut self.out_of_descriptors) {
                        log::info!("accepting clients again");
                    }
                    self.admit(socket);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.out_of_descriptors, true) {
                        log::error!("cannot accept clients for now: {error}");
                    }
                    return false;
                }
            }
        }
    }

    fn admit(&self, mut socket: Socket) {
        if self.control.clients() >= self.max_conns {
            let words = b"ERROR Too many open connections\r\n";
            // It is closed in any case; whether it still listens is its own affair.
            let _ = match &mut socket {
                Socket::Tcp(stream) => stream.write(words),
                Socket::Unix(stream) => stream.write(words),
            };
            return;
        }
        socket.set_options();
        self.control.place_client(socket);
    }
}

/// Errors of one connection that ended before it was accepted (accept(2)).
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut
    )
}
