//! The driver over mio: readiness from epoll or kqueue made to look like completion.
//!
//! Reads go into one hot buffer per worker. A read that leaves room in it has emptied the socket, so the
//! usual request costs one read and no second one that finds nothing; edges that come later bring their own
//! event. Writes are tried at once; what the kernel does not take waits here for the next writable edge.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::io::{Errno, writev};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::conns::{Conns, Identified};
use super::gathering;
use super::socket::{BackendAddress, Socket, failure_of};
use super::told::{self, Told};
use super::{Action, Calls, ConnId, Failure, Handler, Io};
use crate::buffer::Outbox;
use crate::control::{Waker, WorkerHandle};
use crate::time::Time;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Reads of one connection in one tick; after them the others have their turn.
const READS_PER_TICK: usize = 4;

/// Bytes read in one tick after which clients that have something to say are read from in the next one: a
/// crowd that sends much does not make everybody wait for all of it.
const BYTES_PER_TICK: usize = 4 << 20;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// Slices in one vectored write.
const SLICES: usize = 64;

/// With fewer clients no tick waits for more: a selector cannot be asked to wait for several events, so all
/// of the time is slept through, and few clients have soon said all that they can.
const CLIENTS_GATHERED: usize = 128;

/// The token of the mailbox; no connection has it.
const MAILBOX: Token = Token(usize::MAX);

/// The engine of one worker.
pub struct MioIo {
    poll: Poll,
    /// What the kernel has told in this tick, and after a wait for more.
    events: [Events; 2],
    handle: WorkerHandle,
    addresses: Vec<BackendAddress>,
    conns: Conns<Conn>,
    scratch: Box<[u8]>,
    told: Told,
    /// Connections to be looked at in the next tick without an event, each once.
    ready: Ready,
    calls: Calls,
    /// Events to wait for.
    wanted: usize,
    now: Time,
}

/// Connections to be looked at, links apart from clients.
#[derive(Default)]
struct Ready {
    links: Vec<ConnId>,
    clients: Vec<ConnId>,
    /// Bytes read in this tick.
    bytes: usize,
}

/// One socket.
struct Conn {
    id: ConnId,
    socket: Socket,
    /// A write that the kernel has not taken whole.
    sending: Option<Box<Sending>>,
    connecting: bool,
    paused: bool,
    /// There may be something to read. Edges come once, so this stays until a read has found nothing.
    readable: bool,
    /// There is room to write, and nobody has tried it.
    writable: bool,
    /// The other side has ended or broken the connection: read until that is seen.
    hangup: bool,
    /// Nothing more will be read: end of file, or failure.
    ended: bool,
    /// It stands in the list of what is ready.
    listed: bool,
}

struct Sending {
    buffer: Outbox,
    written: usize,
}

impl MioIo {
    /// An engine whose mailbox is `handle`'s.
    ///
    /// # Errors
    /// The kernel gives no selector.
    pub fn new(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> io::Result<Self> {
        let poll = Poll::new()?;
        handle.wake_by(Waker::Mio(mio::Waker::new(poll.registry(), MAILBOX)?));
        Ok(MioIo {
            poll,
            events: [EVENTS; 2].map(Events::with_capacity),
            handle,
            addresses,
            conns: Conns::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            told: Told::default(),
            ready: Ready::default(),
            calls: Calls::default(),
            wanted: 1,
            now: Time::default(),
        })
    }

    /// The system call of a tick; in a busy worker a second one, some time after it.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let clients = self.conns.clients();
        let gathers = self.wanted > 1 && clients >= CLIENTS_GATHERED && timeout != Some(Duration::ZERO);
        let began = if gathers { self.handle.clock() } else { self.now };
        let mut came = self.select(0, timeout)?;
        self.events[1].clear();
        if gathers && (1..self.wanted).contains(&came) {
            // The time that it took until something came counts: who comes alone does not wait.
            let waited = self.handle.clock().since(began);
            if let Some(left) = gathering::time(clients).checked_sub(waited) {
                self.calls.polls += 1;
                std::thread::sleep(left);
                came += self.select(1, Some(Duration::ZERO))?;
            }
        }
        self.wanted = gathering::events_wanted(self.wanted, came);
        self.now = self.handle.clock();
        Ok(())
    }

    /// Takes what the kernel has to tell into one of the lists. Gives how much that is.
    fn select(&mut self, list: usize, timeout: Option<Duration>) -> io::Result<usize> {
        self.calls.polls += 1;
        match self.poll.poll(&mut self.events[list], timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events[list].clear(),
            other => other?,
        }
        Ok(self.events[list].iter().count())
    }

    fn take_mail<H: Handler>(&mut self, handler: &mut H) {
        let MioIo { poll, conns, handle, addresses, told, .. } = self;
        told::take_mail(handle, addresses, handler, |id, socket| {
            if insert(poll, conns, id, socket, false).is_err() {
                told.failed(id, Failure::Unreachable);
            }
        });
    }

    /// Looks at the links, or at the clients, of which the kernel has told something. True if there is mail.
    fn handle_events<H: Handler>(&mut self, links: bool, handler: &mut H) -> bool {
        let MioIo { events, conns, ready, scratch, calls, .. } = self;
        let mut mail = false;
        for event in events.iter().flatten() {
            let id = ConnId::from_bits(event.token().0 as u64);
            if event.token() == MAILBOX {
                mail = true;
            } else if id.is_link() == links
                && let Some(conn) = conns.find(id)
            {
                conn.readable |= event.is_readable();
                conn.writable |= event.is_writable();
                conn.hangup |= event.is_read_closed() || event.is_error();
                if !links && ready.bytes > BYTES_PER_TICK {
                    conn.list(ready);
                } else if !conn.listed {
                    conn.look_at(scratch, calls, ready, handler);
                }
            }
        }
        mail
    }

    /// Looks at those that were left over from the tick before.
    fn handle_ready<H: Handler>(&mut self, links: bool, handler: &mut H) {
        let MioIo { conns, ready, scratch, calls, .. } = self;
        let list =
            |ready: &mut Ready| std::mem::take(if links { &mut ready.links } else { &mut ready.clients });
        let mut ids = list(ready).into_iter();
        while links || ready.bytes <= BYTES_PER_TICK {
            let Some(id) = ids.next() else { return };
            if let Some(conn) = conns.find(id) {
                conn.listed = false;
                conn.look_at(scratch, calls, ready, handler);
            }
        }
        // The others come before those who have still more to say, or these would be read from for ever.
        let again = std::mem::replace(&mut ready.clients, ids.collect());
        ready.clients.extend(again);
    }

    fn send(&mut self, id: ConnId, buffer: Outbox) {
        let Some(conn) = self.conns.find(id) else {
            return self.told.sent(id, buffer, 0);
        };
        debug_assert!(conn.sending.is_none(), "one send in flight");
        let mut written = 0;
        match write_all(&conn.socket, &buffer, &mut written, &mut self.calls) {
            Ok(true) => self.told.sent(id, buffer, written),
            Ok(false) => conn.sending = Some(Box::new(Sending { buffer, written })),
            Err(_) => {
                conn.ended = true;
                self.told.sent(id, buffer, written);
                self.told.failed(id, Failure::Reset);
            }
        }
    }

    fn connect(&mut self, id: ConnId, backend: usize, address: usize) {
        let connected = Socket::connect(&self.addresses[backend], address)
            .and_then(|socket| insert(&self.poll, &mut self.conns, id, socket, true));
        if let Err(error) = connected {
            self.told.failed(id, failure_of(&error));
        }
    }

    fn close(&mut self, id: ConnId) {
        if let Some(mut conn) = self.conns.take(id) {
            // Closing takes it out of the selector; what is still in the event list finds no connection.
            if let Some(sending) = conn.sending.take() {
                self.told.sent(id, sending.buffer, sending.written);
            }
            drop(conn);
        }
        if !id.is_link() {
            self.handle.client_closed();
        }
        self.told.closed(id);
    }
}

impl Io for MioIo {
    fn poll<H: Handler>(&mut self, timeout: Option<Duration>, handler: &mut H) -> io::Result<()> {
        self.told.tell(handler);
        if handler.has_actions() {
            return Ok(());
        }
        let busy = !(self.ready.links.is_empty() && self.ready.clients.is_empty());
        self.wait(if busy { Some(Duration::ZERO) } else { timeout })?;
        handler.handle_now(self.now);
        self.ready.bytes = 0;
        let mut mail = false;
        for links in [true, false] {
            self.handle_ready(links, handler);
            mail = self.handle_events(links, handler);
        }
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
                if let Some(conn) = self.conns.find(id) {
                    conn.paused = true;
                }
            }
            Action::ResumeRead(id) => {
                if let Some(conn) = self.conns.find(id) {
                    conn.paused = false;
                    if conn.readable || conn.hangup {
                        conn.list(&mut self.ready);
                    }
                }
            }
            Action::ShutdownWrite(id) => {
                if let Some(conn) = self.conns.find(id) {
                    // Trying to go on would look like a connection that has failed.
                    if let Some(sending) = conn.sending.take() {
                        self.told.sent(id, sending.buffer, sending.written);
                    }
                    conn.socket.shutdown_write();
                }
            }
            Action::Close(id) => self.close(id),
            Action::Tell { worker, message } => self.handle.tell(worker, *message),
            Action::Notify(notice) => self.handle.notify(*notice),
            Action::Stop => {}
        }
    }

    fn now(&self) -> Time {
        self.now
    }

    fn take_calls(&mut self) -> Calls {
        std::mem::take(&mut self.calls)
    }
}

/// Has the kernel tell of a socket from now on.
fn insert(
    poll: &Poll,
    conns: &mut Conns<Conn>,
    id: ConnId,
    socket: Socket,
    connecting: bool,
) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    let token = Token(id.to_bits() as usize);
    poll.registry().register(&mut SourceFd(&socket.as_fd().as_raw_fd()), token, interest)?;
    conns.insert(Conn {
        id,
        socket,
        sending: None,
        connecting,
        paused: false,
        readable: false,
        writable: false,
        hangup: false,
        ended: false,
        listed: false,
    });
    Ok(())
}

impl Conn {
    /// Does what can be done now that something has become known of it.
    #[inline]
    fn look_at<H: Handler>(
        &mut self,
        scratch: &mut [u8],
        calls: &mut Calls,
        ready: &mut Ready,
        handler: &mut H,
    ) {
        if self.connecting && !self.finish_connect(handler) {
            return;
        }
        self.read(scratch, calls, ready, handler);
        if std::mem::take(&mut self.writable) && self.sending.is_some() {
            self.go_on_writing(calls, handler);
        }
    }

    /// Reads what is there, within a tick's share.
    #[inline]
    fn read<H: Handler>(
        &mut self,
        scratch: &mut [u8],
        calls: &mut Calls,
        ready: &mut Ready,
        handler: &mut H,
    ) {
        if self.paused || self.ended {
            return;
        }
        for _ in 0..READS_PER_TICK {
            if !(self.readable || self.hangup) {
                return;
            }
            calls.reads += 1;
            match read(&self.socket, scratch) {
                Ok(0) => {
                    self.ended = true;
                    return handler.handle_eof(self.id);
                }
                Ok(length) => {
                    self.readable = length == scratch.len();
                    ready.bytes += length;
                    handler.handle_received(self.id, &scratch[..length]);
                }
                Err(Errno::WOULDBLOCK) => {
                    self.readable = false;
                    self.hangup = false;
                }
                Err(Errno::INTR) => {}
                Err(_) => return self.fail(handler),
            }
        }
        if self.readable || self.hangup {
            self.list(ready);
        }
    }

    #[cold]
    fn go_on_writing<H: Handler>(&mut self, calls: &mut Calls, handler: &mut H) {
        let Some(sending) = &mut self.sending else { return };
        let before = sending.written;
        match write_all(&self.socket, &sending.buffer, &mut sending.written, calls) {
            Ok(true) => self.give_back(handler),
            Ok(false) if sending.written > before => handler.handle_progress(self.id),
            Ok(false) => {}
            Err(_) => self.fail(handler),
        }
    }

    /// It is looked at in the next tick.
    #[inline]
    fn list(&mut self, ready: &mut Ready) {
        if !std::mem::replace(&mut self.listed, true) {
            let list = if self.id.is_link() { &mut ready.links } else { &mut ready.clients };
            list.push(self.id);
        }
    }

    /// Sees what has become of a connect. True if the connection stands.
    #[cold]
    fn finish_connect<H: Handler>(&mut self, handler: &mut H) -> bool {
        if !(self.writable || self.hangup) {
            return false;
        }
        match self.socket.connect_result() {
            Ok(true) => {
                self.connecting = false;
                handler.handle_connected(self.id);
                true
            }
            Ok(false) => false,
            Err(failure) => {
                self.ended = true;
                handler.handle_failed(self.id, failure);
                false
            }
        }
    }

    /// The buffer that is being sent goes back, if there is one.
    fn give_back<H: Handler>(&mut self, handler: &mut H) {
        if let Some(sending) = self.sending.take() {
            handler.handle_sent(self.id, sending.buffer, sending.written);
        }
    }

    /// It is broken: the buffer goes back, and nothing is told of it any more.
    fn fail<H: Handler>(&mut self, handler: &mut H) {
        self.ended = true;
        self.give_back(handler);
        handler.handle_failed(self.id, Failure::Reset);
    }
}

impl Identified for Conn {
    #[inline]
    fn id(&self) -> ConnId {
        self.id
    }
}

/// Straight to the kernel: the C library's calls, which can be cancelled by another thread, cost 35
/// instructions more each.
#[inline]
fn read(socket: &Socket, buffer: &mut [u8]) -> Result<usize, Errno> {
    recv(socket, buffer, RecvFlags::empty()).map(|(length, _)| length)
}

#[inline]
fn write(socket: &Socket, buffer: &[u8]) -> Result<usize, Errno> {
    send(socket, buffer, SendFlags::NOSIGNAL)
}

/// Writes the bytes from `from` on, which stand in more than one piece.
#[cold]
fn write_pieces(socket: &Socket, buffer: &Outbox, from: usize) -> Result<usize, Errno> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let filled = buffer.slices(from, &mut slices);
    writev(socket, &slices[..filled])
}

/// Writes what the kernel takes. True when all of it is written.
#[inline]
fn write_all(
    socket: &Socket,
    buffer: &Outbox,
    written: &mut usize,
    calls: &mut Calls,
) -> Result<bool, Errno> {
    let length = buffer.len();
    while *written < length {
        calls.writes += 1;
        let wrote = match buffer.single(*written) {
            Some(bytes) => write(socket, bytes),
            None => write_pieces(socket, buffer, *written),
        };
        match wrote {
            Ok(0) => return Err(Errno::PIPE),
            Ok(count) => *written += count,
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
