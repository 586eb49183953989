//! A backend with its socket: one thread, one event loop, one store.
//!
//! All that a connection has sent is carried out before its answers are written, in one write. A connection
//! that does not take its answers is not read from until it has.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::session::{Session, Then};
use super::store::{Clock, Store};

/// Bytes of keys, values and what surrounds them that a backend holds: memcached's default.
pub const STORE_BYTES_MAX: usize = 64 << 20;

/// Bytes read from a connection at once.
const READ_BYTES: usize = 64 << 10;

/// Reads and turns of answers that one connection gets before the others have their turn.
const STEPS: usize = 16;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// How soon accepting is tried again after the process has run out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX);

/// A running backend. It ends when this is dropped.
#[derive(Debug)]
pub struct EmbeddedBackend {
    /// Where it listens: a port of 127.0.0.1 that the system chose.
    pub address: SocketAddr,
    /// What it was called at its start.
    pub name: String,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBackend {
    /// Binds a port of 127.0.0.1 and starts the thread, which carries `name`.
    ///
    /// # Errors
    /// What the system says when it gives no port, no descriptor or no thread.
    pub fn start(name: &str) -> io::Result<EmbeddedBackend> {
        Self::start_with(name, STORE_BYTES_MAX)
    }

    /// The same with another bound for what it holds, bytes.
    ///
    /// # Errors
    /// As [`EmbeddedBackend::start`].
    pub fn start_with(name: &str, bytes_max: usize) -> io::Result<EmbeddedBackend> {
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server::new(poll, listener, bytes_max, Arc::clone(&stop));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || server.run())?;
        Ok(EmbeddedBackend { address, name: name.to_owned(), stop, waker, thread: Some(thread) })
    }
}

impl Drop for EmbeddedBackend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A waker fails only if its descriptor is gone, and then the thread is too.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    time: SteadyTime,
    store: Store,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that had more to do when their turn ended.
    again: Vec<usize>,
    /// Accepting failed for want of something, and no event will tell when it is there.
    accept_again: bool,
    scratch: Scratch,
}

/// Buffers that every turn uses, so that an idle connection holds none.
struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
}

/// Unix time at the start, carried on by a clock that does not jump.
struct SteadyTime {
    unix: Duration,
    started: Instant,
}

impl SteadyTime {
    fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SteadyTime { unix, started: Instant::now() }
    }

    fn now(&self) -> Clock {
        Clock((self.unix + self.started.elapsed()).as_secs())
    }
}

struct Connection {
    socket: TcpStream,
    session: Session,
    /// Answers that the socket did not take, from `written` on.
    unsent: Vec<u8>,
    written: usize,
    /// The session holds requests that it will carry out when these answers are gone.
    full: bool,
    /// The session wants the connection closed when these answers are gone.
    closing: bool,
    /// The kernel has said that there is something to read, and no read has come back short since.
    readable: bool,
    /// The kernel has said that the other side will send no more.
    half_closed: bool,
    /// It is in the list of those that had more to do.
    queued: bool,
}

/// How a connection's turn ended.
enum Turn {
    /// It waits for the socket.
    Waits,
    /// It has more to do.
    Again,
    /// It is over.
    Over,
}

impl Server {
    fn new(poll: Poll, listener: TcpListener, bytes_max: usize, stop: Arc<AtomicBool>) -> Self {
        let time = SteadyTime::start();
        let store = Store::new(bytes_max, time.now());
        Server {
            poll,
            listener,
            stop,
            time,
            store,
            connections: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
            accept_again: false,
            scratch: Scratch { input: vec![0; READ_BYTES].into(), output: Vec::new() },
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stop.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::error!("embedded backend {}: {error}", self.listener_name());
                    return;
                }
            }
            let clock = self.time.now();
            if self.accept_again {
                self.accept();
            }
            for index in std::mem::take(&mut self.again) {
                if let Some(Some(connection)) = self.connections.get_mut(index) {
                    connection.queued = false;
                }
                self.turn(index, clock);
            }
            for event in &events {
                match event.token() {
                    STOP => {}
                    LISTENER => self.accept(),
                    Token(index) => {
                        if let Some(Some(connection)) = self.connections.get_mut(index) {
                            connection.readable |= event.is_readable();
                            connection.half_closed |= event.is_read_closed() || event.is_error();
                            self.turn(index, clock);
                        }
                    }
                }
            }
        }
    }

    fn listener_name(&self) -> String {
        self.listener.local_addr().map_or_else(|_| String::from("?"), |address| address.to_string())
    }

    /// How long to wait for events.
    fn patience(&self) -> Option<Duration> {
        match (self.again.is_empty(), self.accept_again) {
            (false, _) => Some(Duration::ZERO),
            (true, true) => Some(ACCEPT_AGAIN),
            (true, false) => None,
        }
    }

    /// Takes all connections that wait.
    fn accept(&mut self) {
        self.accept_again = false;
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if let Err(error) = self.add(socket) {
                        log::warn!("embedded backend {}: {error}", self.listener_name());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    fn add(&mut self, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut socket, Token(index), interest) {
            self.free.push(index);
            return Err(error);
        }
        self.connections[index] = Some(Connection::new(socket));
        self.store.connections += 1;
        self.store.counters.total_connections += 1;
        Ok(())
    }

    fn turn(&mut self, index: usize, clock: Clock) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        match connection.turn(&mut self.store, clock, &mut self.scratch) {
            Turn::Waits => {}
            Turn::Again => {
                if !connection.queued {
                    connection.queued = true;
                    self.again.push(index);
                }
            }
            Turn::Over => {
                // Closing the socket takes it off the poll. An event of this round may still carry the index;
                // it finds nobody there, or a newcomer that it makes look for bytes in vain.
                self.connections[index] = None;
                self.free.push(index);
                self.store.connections -= 1;
            }
        }
    }
}

impl Connection {
    fn new(socket: TcpStream) -> Self {
        Connection {
            socket,
            session: Session::new(),
            unsent: Vec::new(),
            written: 0,
            full: false,
            closing: false,
            readable: false,
            half_closed: false,
            queued: false,
        }
    }

    /// Goes on until the socket has no more to give or takes no more, but not longer than its turn.
    fn turn(&mut self, store: &mut Store, clock: Clock, scratch: &mut Scratch) -> Turn {
        for _ in 0..STEPS {
            match self.step(store, clock, scratch) {
                Ok(None) => {}
                Ok(Some(turn)) => return turn,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Waits,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Turn::Over,
            }
        }
        Turn::Again
    }

    /// One read or one turn of answers, and one write. `None` when there may be more to do.
    fn step(&mut self, store: &mut Store, clock: Clock, scratch: &mut Scratch) -> io::Result<Option<Turn>> {
        self.write_unsent(store)?;
        if self.closing {
            return Ok(Some(Turn::Over));
        }
        let mut received = 0;
        if !self.full {
            if !self.readable && !self.half_closed {
                return Ok(Some(Turn::Waits));
            }
            received = match self.socket.read(&mut scratch.input) {
                Ok(0) => return Ok(Some(Turn::Over)),
                Ok(bytes) => bytes,
                Err(error) => {
                    if error.kind() == ErrorKind::WouldBlock {
                        (self.readable, self.half_closed) = (false, false);
                    }
                    return Err(error);
                }
            };
            // A stream socket that gives less than it was asked for is empty (epoll(7)); an end that comes
            // later is a new event, and one that came before is in `half_closed`.
            self.readable = received == scratch.input.len();
            store.counters.bytes_read += received as u64;
        }
        scratch.output.clear();
        let then = self.session.receive(&scratch.input[..received], store, clock, &mut scratch.output);
        self.full = then == Then::Full;
        self.closing = then == Then::Close;
        self.write(&mut scratch.output, store)?;
        Ok(None)
    }

    fn write_unsent(&mut self, store: &mut Store) -> io::Result<()> {
        while self.written < self.unsent.len() {
            let bytes = self.socket.write(&self.unsent[self.written..])?;
            self.written += bytes;
            store.counters.bytes_written += bytes as u64;
        }
        self.unsent = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Writes `output`; what the socket does not take is kept.
    fn write(&mut self, output: &mut Vec<u8>, store: &mut Store) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        let bytes = match self.socket.write(output) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        store.counters.bytes_written += bytes as u64;
        if bytes < output.len() {
            // The buffer goes along, so that a large answer is not copied.
            self.unsent = std::mem::take(output);
            self.written = bytes;
        }
        Ok(())
    }
}
