//! Accepts clients and deals them out: one thread for all listeners, so that the bound on clients is exact
//! and the workers are loaded evenly, however the kernel hashes connections.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Token};

use crate::control::Control;
use crate::io::socket::Socket;

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

/// Where the clients of a pool come in.
pub struct Entrance {
    /// All of its listeners.
    pub listeners: Vec<Listener>,
    /// Its workers.
    pub control: Arc<Control>,
    /// Its clients at most.
    pub max_conns: usize,
}

/// The thread's state.
pub struct Acceptor {
    poll: Poll,
    entrances: Vec<Entrance>,
    /// By token: which listener of which entrance.
    listeners: Vec<(usize, usize)>,
    max_conns: usize,
    out_of_descriptors: bool,
}

impl Acceptor {
    /// An acceptor with so many clients at most over all pools, and what stops it.
    ///
    /// # Errors
    /// The kernel gives no selector.
    pub fn new(mut entrances: Vec<Entrance>, max_conns: usize) -> io::Result<(Self, mio::Waker)> {
        let poll = Poll::new()?;
        let mut listeners = Vec::new();
        for (entrance, Entrance { listeners: own, .. }) in entrances.iter_mut().enumerate() {
            for (index, listener) in own.iter_mut().enumerate() {
                let (token, interest) = (Token(listeners.len()), Interest::READABLE);
                match listener {
                    Listener::Tcp(listener) => poll.registry().register(listener, token, interest)?,
                    Listener::Unix(listener) => poll.registry().register(listener, token, interest)?,
                }
                listeners.push((entrance, index));
            }
        }
        let stop = mio::Waker::new(poll.registry(), STOP)?;
        Ok((Acceptor { poll, entrances, listeners, max_conns, out_of_descriptors: false }, stop))
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
    fn accept_all(&mut self, token: usize) -> bool {
        let (entrance, index) = self.listeners[token];
        loop {
            let accepted = match &self.entrances[entrance].listeners[index] {
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::tcp(stream)),
                Listener::Unix(listener) => listener.accept().map(|(stream, _)| Socket::unix(stream)),
            };
            match accepted {
                Ok(socket) => {
                    if std::mem::take(&mut self.out_of_descriptors) {
                        log::info!("accepting clients again");
                    }
                    self.admit(entrance, socket);
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

    fn admit(&self, entrance: usize, socket: Socket) {
        let Entrance { control, max_conns, .. } = &self.entrances[entrance];
        let all = || self.entrances.iter().map(|entrance| entrance.control.clients()).sum::<usize>();
        if control.clients() >= *max_conns || (self.entrances.len() > 1 && all() >= self.max_conns) {
            let words = b"ERROR Too many open connections\r\n";
            // It is closed in any case; whether it still listens is its own affair.
            let _ = rustix::net::send(&socket, words, rustix::net::SendFlags::NOSIGNAL);
            return;
        }
        socket.set_options();
        control.place_client(socket);
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
