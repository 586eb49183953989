//! The driver over mio: readiness from epoll or kqueue made to look like completion.
//!
//! Reads go into one hot buffer per worker. A read that leaves room in it has emptied the socket, so the usual
//! request costs one read and no second one that finds nothing; edges that come later bring their own event.
//! Writes are tried at once; what the kernel does not take waits here for the next writable edge.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};

use super::{Action, ConnId, Failure, Handler, Io};
use crate::buffer::Outbox;
use crate::control::{Mail, WorkerHandle};
use crate::time::Time;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Reads of one connection in one tick; after them the others have their turn.
const READS_PER_TICK: usize = 4;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// Slices in one vectored write.
const SLICES: usize = 64;

/// The token of the mailbox; no connection has it.
const MAILBOX: Token = Token(usize::MAX);

/// Where a backend is reached.
#[derive(Clone, Debug)]
pub enum BackendAddress {
    /// Over TCP: one address, or those that a name had when it was last looked up.
    Tcp(Vec<SocketAddr>),
    /// A unix socket.
    Unix(PathBuf),
}

/// The engine of one worker.
pub struct MioIo {
    poll: Poll,
    events: Events,
    handle: WorkerHandle,
    addresses: Vec<BackendAddress>,
    clients: Vec<Option<Conn>>,
    links: Vec<Option<Conn>>,
    scratch: Box<[u8]>,
    /// What became of submitted actions, to be told at the next poll.
    completions: VecDeque<Completion>,
    /// Connections that may have more to read than was read.
    readable: VecDeque<ConnId>,
    ready: Vec<Ready>,
    now: Time,
}

/// One socket.
struct Conn {
    id: ConnId,
    socket: Socket,
    /// A write that the kernel has not taken whole.
    sending: Option<Box<Sending>>,
    connecting: bool,
    paused: bool,
    /// Something came while it was paused.
    unread: bool,
    /// Nothing more will be read: end of file, or failure.
    ended: bool,
}

/// A connected stream, whichever its family.
pub enum Socket {
    /// TCP
    Tcp(TcpStream),
    /// Unix
    Unix(UnixStream),
}

struct Sending {
    buffer: Outbox,
    written: usize,
}

enum Completion {
    Sent(ConnId, Outbox, usize),
    Failed(ConnId, Failure),
    Closed(ConnId),
}

#[derive(Clone, Copy)]
struct Ready {
    id: ConnId,
    readable: bool,
    writable: bool,
    /// The other side has ended or broken the connection: read until that is seen.
    ended: bool,
}

impl MioIo {
    /// An engine whose mailbox is `handle`'s.
    ///
    /// # Errors
    /// The kernel gives no selector.
    pub fn new(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> io::Result<Self> {
        let poll = Poll::new()?;
        handle.wake_by(mio::Waker::new(poll.registry(), MAILBOX)?);
        Ok(MioIo {
            poll,
            events: Events::with_capacity(EVENTS),
            handle,
            addresses,
            clients: Vec::new(),
            links: Vec::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            completions: VecDeque::new(),
            readable: VecDeque::new(),
            ready: Vec::new(),
            now: Time::default(),
        })
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        let table = if id.is_link() { &mut self.links } else { &mut self.clients };
        table.get_mut(id.index())?.as_mut().filter(|conn| conn.id == id)
    }

    fn insert(&mut self, id: ConnId, mut socket: Socket, connecting: bool) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(id.to_bits() as usize);
        match &mut socket {
            Socket::Tcp(stream) => self.poll.registry().register(stream, token, interest)?,
            Socket::Unix(stream) => self.poll.registry().register(stream, token, interest)?,
        }
        let conn = Conn { id, socket, sending: None, connecting, paused: false, unread: false, ended: false };
        let table = if id.is_link() { &mut self.links } else { &mut self.clients };
        if table.len() <= id.index() {
            table.resize_with(id.index() + 1, || None);
        }
        debug_assert!(table[id.index()].is_none(), "an index is used again only after its end was told");
        table[id.index()] = Some(conn);
        Ok(())
    }

    /// Tells what became of the actions submitted since the last poll.
    fn complete<H: Handler>(&mut self, handler: &mut H) {
        while let Some(completion) = self.completions.pop_front() {
            match completion {
                Completion::Sent(id, buffer, written) => handler.handle_sent(id, buffer, written),
                Completion::Failed(id, failure) => handler.handle_failed(id, failure),
                Completion::Closed(id) => handler.handle_closed(id),
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        self.now = self.handle.clock();
        Ok(())
    }

    fn take_mail<H: Handler>(&mut self, handler: &mut H) {
        while let Some(mail) = self.handle.receive() {
            match mail {
                Mail::Client(socket) => {
                    let id = handler.handle_accepted();
                    if self.insert(id, socket, false).is_err() {
                        self.completions.push_back(Completion::Failed(id, Failure::Unreachable));
                    }
                }
                Mail::Resolved { backend, addresses } => {
                    let count = addresses.len();
                    if count > 0 {
                        self.addresses[backend] = BackendAddress::Tcp(addresses);
                    }
                    handler.handle_resolved(backend, count);
                }
                Mail::Message(message) => handler.handle_message(message),
            }
        }
    }

    fn handle_ready<H: Handler>(&mut self, ready: Ready, handler: &mut H) {
        let Some(conn) = self.conn(ready.id) else { return };
        if conn.connecting {
            if !(ready.writable || ready.ended) {
                return;
            }
            match connect_result(&conn.socket) {
                Ok(true) => {
                    conn.connecting = false;
                    handler.handle_connected(ready.id);
                }
                Ok(false) => return,
                Err(failure) => {
                    conn.ended = true;
                    return handler.handle_failed(ready.id, failure);
                }
            }
        }
        if ready.readable || ready.ended {
            self.read(ready.id, ready.ended, handler);
        }
        if ready.writable {
            self.go_on_writing(ready.id, handler);
        }
    }

    /// Reads what is there, within a tick's share.
    fn read<H: Handler>(&mut self, id: ConnId, to_the_end: bool, handler: &mut H) {
        for _ in 0..READS_PER_TICK {
            let table = if id.is_link() { &mut self.links } else { &mut self.clients };
            let Some(Some(conn)) = table.get_mut(id.index()) else { return };
            if conn.id != id || conn.ended {
                return;
            }
            if conn.paused {
                conn.unread = true;
                return;
            }
            match conn.socket.read(&mut self.scratch) {
                Ok(0) => {
                    conn.ended = true;
                    return handler.handle_eof(id);
                }
                Ok(length) => {
                    handler.handle_received(id, &self.scratch[..length]);
                    if length < self.scratch.len() && !to_the_end {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    conn.ended = true;
                    return handler.handle_failed(id, Failure::Reset);
                }
            }
        }
        self.readable.push_back(id);
    }

    fn go_on_writing<H: Handler>(&mut self, id: ConnId, handler: &mut H) {
        let Some(conn) = self.conn(id) else { return };
        let Some(mut sending) = conn.sending.take() else { return };
        match write_all(&mut conn.socket, &sending.buffer, &mut sending.written) {
            Ok(true) => handler.handle_sent(id, sending.buffer, sending.written),
            Ok(false) => conn.sending = Some(sending),
            Err(_) => {
                conn.ended = true;
                handler.handle_sent(id, sending.buffer, sending.written);
                handler.handle_failed(id, Failure::Reset);
            }
        }
    }

    fn send(&mut self, id: ConnId, buffer: Outbox) {
        let Some(conn) = self.conn(id) else {
            return self.completions.push_back(Completion::Sent(id, buffer, 0));
        };
        debug_assert!(conn.sending.is_none(), "one send in flight");
        let mut written = 0;
        match write_all(&mut conn.socket, &buffer, &mut written) {
            Ok(true) => self.completions.push_back(Completion::Sent(id, buffer, written)),
            Ok(false) => conn.sending = Some(Box::new(Sending { buffer, written })),
            Err(_) => {
                self.completions.push_back(Completion::Sent(id, buffer, written));
                self.completions.push_back(Completion::Failed(id, Failure::Reset));
            }
        }
    }

    fn connect(&mut self, id: ConnId, backend: usize, address: usize) {
        let socket = match &self.addresses[backend] {
            BackendAddress::Tcp(addresses) => match addresses.get(address) {
                Some(&address) => TcpStream::connect(address).map(Socket::Tcp),
                None => Err(ErrorKind::AddrNotAvailable.into()),
            },
            BackendAddress::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        };
        let connected = socket.and_then(|socket| {
            socket.set_options();
            self.insert(id, socket, true)
        });
        if let Err(error) = connected {
            self.completions.push_back(Completion::Failed(id, failure_of(&error)));
        }
    }

    fn close(&mut self, id: ConnId) {
        let table = if id.is_link() { &mut self.links } else { &mut self.clients };
        if let Some(place) = table.get_mut(id.index())
            && place.as_ref().is_some_and(|conn| conn.id == id)
            && let Some(mut conn) = place.take()
        {
            // Closing takes it out of the selector; what is still in the event list finds no connection.
            if let Some(sending) = conn.sending.take() {
                self.completions.push_back(Completion::Sent(id, sending.buffer, sending.written));
            }
            drop(conn);
        }
        if !id.is_link() {
            self.handle.client_closed();
        }
        self.completions.push_back(Completion::Closed(id));
    }
}

impl Io for MioIo {
    fn poll<H: Handler>(&mut self, timeout: Option<Duration>, handler: &mut H) -> io::Result<()> {
        self.complete(handler);
        if handler.has_actions() {
            return Ok(());
        }
        let busy = !self.readable.is_empty();
        self.wait(if busy { Some(Duration::ZERO) } else { timeout })?;
        handler.handle_now(self.now);
        let mut mail = false;
        let mut ready = std::mem::take(&mut self.ready);
        for event in &self.events {
            if event.token() == MAILBOX {
                mail = true;
                continue;
            }
            ready.push(Ready {
                id: ConnId::from_bits(event.token().0 as u64),
                readable: event.is_readable(),
                writable: event.is_writable(),
                ended: event.is_read_closed() || event.is_error(),
            });
        }
        for _ in 0..self.readable.len() {
            if let Some(id) = self.readable.pop_front() {
                ready.push(Ready { id, readable: true, writable: false, ended: false });
            }
        }
        for links in [true, false] {
            for &ready in ready.iter().filter(|ready| ready.id.is_link() == links) {
                self.handle_ready(ready, handler);
            }
        }
        ready.clear();
        self.ready = ready;
        if mail {
            self.take_mail(handler);
        }
        Ok(())
    }

    fn submit(&mut self, action: Action) {
        match action {
            Action::Send { conn, buffer } => self.send(conn, buffer),
            Action::Connect { conn, backend, address } => self.connect(conn, backend, address),
            Action::Resolve { backend } => self.handle.resolve(backend),
            Action::PauseRead(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.paused = true;
                }
            }
            Action::ResumeRead(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.paused = false;
                    if std::mem::take(&mut conn.unread) {
                        self.readable.push_back(id);
                    }
                }
            }
            Action::ShutdownWrite(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.socket.shutdown_write();
                }
            }
            Action::Close(id) => self.close(id),
            Action::Tell { worker, message } => self.handle.tell(worker, message),
            Action::Stop => {}
        }
    }

    fn now(&self) -> Time {
        self.now
    }
}

impl Socket {
    /// Small writes leave at once, and a peer that vanished is noticed in the end.
    pub fn set_options(&self) {
        if let Socket::Tcp(stream) = self {
            // A socket that refuses an option works without it.
            let _ = stream.set_nodelay(true);
            let _ = socket2::SockRef::from(stream).set_keepalive(true);
        }
    }

    fn shutdown_write(&self) {
        // The connection may be gone already; that is told by a read.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(buffer),
            Socket::Unix(stream) => stream.write(buffer),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write_vectored(slices),
            Socket::Unix(stream) => stream.write_vectored(slices),
        }
    }
}

/// Writes what the kernel takes. True when all of it is written.
fn write_all(socket: &mut Socket, buffer: &Outbox, written: &mut usize) -> io::Result<bool> {
    while *written < buffer.len() {
        let wrote = match buffer.single(*written) {
            Some(bytes) => socket.write(bytes),
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let filled = buffer.slices(*written, &mut slices);
                socket.write_vectored(&slices[..filled])
            }
        };
        match wrote {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// True if a connect has succeeded, false if it is still under way.
fn connect_result(socket: &Socket) -> Result<bool, Failure> {
    let (error, peer) = match socket {
        Socket::Tcp(stream) => (stream.take_error(), stream.peer_addr().map(drop)),
        Socket::Unix(stream) => (stream.take_error(), stream.peer_addr().map(drop)),
    };
    if let Ok(Some(error)) | Err(error) = error {
        return Err(failure_of(&error));
    }
    match peer {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(failure_of(&error)),
    }
}

fn failure_of(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
        _ => Failure::Unreachable,
    }
}

/// The clock of a process: microseconds since `epoch`.
pub fn time_since(epoch: Instant) -> Time {
    Time(u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
}
