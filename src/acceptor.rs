//! Accepts clients and deals them out: one thread for all listeners, so that the bound on clients is exact
//! and the workers are loaded evenly, however the kernel hashes connections.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use ::mio::net::{TcpListener, UnixListener};

use crate::control::{Control, Waker};
use crate::io::engine::Engine;
use crate::io::socket::Socket;

mod mio;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod uring;

/// How long accepting pauses when the process or the machine has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

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
    doors: Doors,
    policy: Policy,
}

/// Who is let in.
struct Policy {
    entrances: Vec<(Arc<Control>, usize)>,
    /// By listener: whose it is.
    entrance_of: Vec<usize>,
    max_conns: usize,
    out_of_descriptors: bool,
}

/// The listeners, and what waits for them.
enum Doors {
    Mio(mio::Doors),
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    Uring(Box<uring::Doors>),
}

impl Acceptor {
    /// An acceptor with so many clients at most over all pools, and what stops it.
    ///
    /// # Errors
    /// The kernel gives no selector, or no ring.
    pub fn new(entrances: Vec<Entrance>, max_conns: usize, engine: Engine) -> io::Result<(Self, Stop)> {
        let (mut listeners, mut entrance_of, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        for (place, entrance) in entrances.into_iter().enumerate() {
            entrance_of.extend(entrance.listeners.iter().map(|_| place));
            listeners.extend(entrance.listeners);
            rules.push((entrance.control, entrance.max_conns));
        }
        let (doors, stop) = match engine {
            Engine::Mio => mio::Doors::new(listeners).map(|(doors, stop)| (Doors::Mio(doors), stop)),
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Engine::Uring => {
                uring::Doors::new(listeners).map(|(doors, stop)| (Doors::Uring(Box::new(doors)), stop))
            }
        }?;
        let policy = Policy { entrances: rules, entrance_of, max_conns, out_of_descriptors: false };
        Ok((Acceptor { doors, policy }, Stop(stop)))
    }

    /// Accepts until it is stopped.
    ///
    /// # Errors
    /// The engine has failed.
    pub fn run(self) -> io::Result<()> {
        let Acceptor { mut doors, mut policy } = self;
        let mut each = |listener: usize, accepted| policy.decide(listener, accepted);
        loop {
            let stopped = match &mut doors {
                Doors::Mio(doors) => doors.wait(&mut each),
                #[cfg(all(target_os = "linux", feature = "io-uring"))]
                Doors::Uring(doors) => doors.wait(&mut each),
            }?;
            if stopped {
                return Ok(());
            }
        }
    }
}

/// Ends an acceptor.
pub struct Stop(Waker);

impl Stop {
    /// It accepts no more, and its thread ends.
    pub fn stop(&self) {
        self.0.wake();
    }
}

impl Policy {
    /// Deals with a client of a listener, or with why there is none. False if that listener is to be left
    /// alone for a while.
    fn decide(&mut self, listener: usize, accepted: io::Result<Socket>) -> bool {
        match accepted {
            Ok(socket) => {
                if std::mem::take(&mut self.out_of_descriptors) {
                    log::info!("accepting clients again");
                }
                self.admit(self.entrance_of[listener], socket);
                true
            }
            Err(error) if is_passing(&error) => true,
            Err(error) => {
                if !std::mem::replace(&mut self.out_of_descriptors, true) {
                    log::error!("cannot accept clients for now: {error}");
                }
                false
            }
        }
    }

    fn admit(&self, entrance: usize, socket: Socket) {
        let (control, max_conns) = &self.entrances[entrance];
        let all = || self.entrances.iter().map(|(control, _)| control.clients()).sum::<usize>();
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
