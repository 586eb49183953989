//! The driver over io_uring: one system call a tick, which submits what is to be sent and waits for what
//! comes; a few where more has come than the kernel deals with in one.
//!
//! A connection is received from by one operation that stays in the kernel and takes buffers of a small ring
//! ([`buffers`]). A send is tried at once and never waits: when the kernel has taken it, it is over, and only
//! one that fell short tells of itself. So an answer costs no completion, and our own sends never end the
//! wait. What fell short goes on as an operation that waits for room, whose buffer is the kernel's until it
//! completes.
//!
//! Who owns what: the bytes of a send are the engine's, in `fresh` or in the connection's `sending`, until
//! the send is over; a connection that is closed stays in the table until all that the kernel does for it has
//! come back; an engine that ends cancels everything and waits, and what does not come back is never freed.
#![allow(unsafe_code)] // Submissions name memory: see above, and each block.

mod accept;
mod buffers;
mod conn;
mod cut;
mod operations;
mod ring;
mod trial;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::conns::Conns;
use super::gathering;
use super::socket::{BackendAddress, Socket, failure_of};
use super::told::{self, Told};
use super::{Action, Calls, ConnId, Handler, Io};
use crate::buffer::Outbox;
use crate::control::{Waker, WorkerHandle};
use crate::time::Time;
use buffers::{Buffers, Piece};
use conn::{Conn, Failed, Sending, Then};
use cut::CutBursts;
use operations::{Kind, Manner, Slices, plain_number};
use ring::{Completion, Ring};

pub(crate) use accept::Accepts;
pub use trial::check;

/// Room of an engine, in numbers that a test can shrink.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Operations submitted at once; a power of two.
    pub submissions: u32,
    /// Completions that wait to be seen; a power of two, more than `submissions`.
    pub completions: u32,
    /// Buffers to receive into; a power of two. All of them together bound what one tick brings.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: usize,
    /// The kernel may fill them bit by bit, if it can.
    pub incremental: bool,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { submissions: 512, completions: 4096, buffers: 64, buffer_bytes: 16 << 10, incremental: true }
    }
}

/// After a silent send the core may have something to do although nothing comes, such as to close: it is
/// asked after so long at most.
const LINGER: Duration = Duration::from_millis(1);

/// After so long without an event the buffers' memory goes back to the system: beside thousands of idle
/// clients it is a hundred bytes of each.
const IDLE: Duration = Duration::from_millis(500);

/// Times that a tick asks for more of what is there.
const LOOKS: usize = 32;

/// Times that the kernel may not have taken everything before it counts as broken.
const TURNS: usize = 100_000;

/// A send of so many bytes tells of itself: the core waits for its end to go on.
const LARGE: usize = 16 << 10;

/// Spare lists of slices kept.
const SLICES_KEPT: usize = 64;

/// The engine of one worker.
pub struct UringIo {
    ring: Ring,
    /// Freed only when nothing is in flight.
    buffers: ManuallyDrop<Buffers>,
    conns: Conns<Conn>,
    handle: WorkerHandle,
    addresses: Vec<BackendAddress>,
    /// What other threads write to.
    event: Arc<OwnedFd>,
    /// There may be mail.
    mail: bool,
    /// The sends of this tick.
    fresh: Vec<Fresh>,
    /// Some of them do not tell of their end.
    silent: bool,
    told: Told,
    /// Completions of this tick: of connections that are being closed, of links, of clients.
    events: [Vec<Event>; 3],
    /// Connections that are being closed.
    closing: usize,
    /// Receives that found no buffer: of links, of clients that got nothing in this tick, of others.
    starved: [Vec<ConnId>; 3],
    cut: CutBursts,
    /// Connections whose other side has ended in this tick.
    hung_up: Vec<ConnId>,
    /// Boxed, for the kernel is told where they are.
    #[allow(clippy::vec_box)]
    spare_slices: Vec<Box<Slices>>,
    tick: u32,
    /// Events to wait for.
    wanted: usize,
    /// When events last came, if buffers have been filled since they were released.
    used: Option<Time>,
    now: Time,
}

/// A send that is over as soon as the kernel has taken it.
struct Fresh {
    id: ConnId,
    buffer: Outbox,
    slices: Option<Box<Slices>>,
    /// What came of it; all of the bytes that were asked for, if it says nothing.
    result: i32,
}

/// A completion of a connection, and the bytes that it has brought.
#[derive(Clone, Copy)]
struct Event {
    completion: Completion,
    piece: Piece,
}

impl Event {
    /// Both have brought bytes of the same connection.
    #[inline]
    fn goes_on_in(&self, next: Completion) -> bool {
        self.completion.user_data == next.user_data && self.completion.result > 0 && next.result > 0
    }
}

impl UringIo {
    /// An engine whose mailbox is `handle`'s.
    ///
    /// # Errors
    /// The kernel gives no ring.
    pub fn new(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> io::Result<Self> {
        UringIo::with(handle, addresses, Sizes::default())
    }

    /// The same with other bounds.
    ///
    /// # Errors
    /// The kernel gives no ring.
    pub fn with(handle: WorkerHandle, addresses: Vec<BackendAddress>, sizes: Sizes) -> io::Result<Self> {
        let ring = Ring::new(sizes.submissions, sizes.completions)?;
        let mut buffers = Buffers::new(sizes.buffers, sizes.buffer_bytes, sizes.incremental);
        buffers.register(ring.uring())?;
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        handle.wake_by(Waker::Event(event.clone()));
        Ok(UringIo {
            ring,
            buffers: ManuallyDrop::new(buffers),
            conns: Conns::new(),
            handle,
            addresses,
            event,
            mail: false,
            fresh: Vec::new(),
            silent: false,
            told: Told::default(),
            events: [const { Vec::new() }; 3],
            closing: 0,
            starved: [const { Vec::new() }; 3],
            cut: CutBursts::default(),
            hung_up: Vec::new(),
            spare_slices: Vec::new(),
            tick: 0,
            wanted: 1,
            used: None,
            now: Time::default(),
        })
    }

    fn await_mail(&mut self) {
        self.ring.in_flight += 1;
        // SAFETY: it names no memory; the descriptor is open as long as this value lives.
        unsafe { self.ring.push(&operations::readable(&*self.event, plain_number(Kind::Mail, 0))) };
    }

    /// The system call of a tick; more of them if more has come than it deals with, or it was short of room.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.timeout(timeout);
        let before = self.count_events();
        if self.wanted > 1 && timeout != Some(Duration::ZERO) {
            self.ring.gather(self.wanted as u32, gathering::time(self.conns.clients()), timeout)?;
        } else {
            self.ring.enter(1, timeout)?;
        }
        self.reap();
        self.look_again()?;
        // Who sends much does not make a tick busy.
        let came = if self.buffers.have_brought_enough() { 0 } else { self.count_events() - before };
        self.wanted = gathering::events_wanted(self.wanted, came);
        self.catch_up()?;
        self.now = self.handle.clock();
        self.tick = self.tick.wrapping_add(1);
        self.note_use(self.count_events() > before);
        Ok(())
    }

    /// The kernel does twenty pieces of work a call (io_uring.h: IO_LOCAL_TW_DEFAULT_MAX), unless more is
    /// waited for.
    fn look_again(&mut self) -> io::Result<()> {
        for _ in 0..LOOKS {
            if !self.ring.has_work() || self.buffers.have_brought_enough() {
                break;
            }
            self.ring.enter(0, None)?;
            self.reap();
        }
        Ok(())
    }

    /// Until the kernel has taken and told everything, for which it may have been short of room.
    fn catch_up(&mut self) -> io::Result<()> {
        for _ in 0..TURNS {
            if !self.ring.is_behind() {
                return Ok(());
            }
            self.ring.enter(0, None)?;
            self.reap();
        }
        Err(io::Error::other("io_uring takes no submissions"))
    }

    /// How long to wait, if the core would do so for `timeout`.
    fn timeout(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let silent = std::mem::take(&mut self.silent);
        let own = if !self.cut.is_empty() {
            Duration::ZERO
        } else if silent {
            LINGER
        } else if self.used.is_some() {
            IDLE
        } else {
            return timeout;
        };
        Some(timeout.map_or(own, |timeout| timeout.min(own)))
    }

    /// Releases the buffers' memory when nothing has come for a while.
    fn note_use(&mut self, something_came: bool) {
        if something_came {
            self.used = Some(self.now);
        } else if self.used.take_if(|used| self.now.since(*used) >= IDLE).is_some() {
            self.buffers.release();
        }
    }

    fn count_events(&self) -> usize {
        self.events.iter().map(Vec::len).sum()
    }

    /// Takes all completions, and sorts them.
    fn reap(&mut self) {
        let UringIo { ring, buffers, conns, fresh, events, closing, mail, .. } = self;
        let mut over = 0;
        let mut mail_over = false;
        ring.take(|completion| {
            let last = usize::from(!completion.more());
            match operations::kind(completion.user_data) {
                Kind::Receive | Kind::Send | Kind::Connect | Kind::Hangup => {
                    over += last;
                    let id = operations::conn(completion.user_data);
                    let list = if *closing > 0 && conns.find(id).is_none_or(|conn| conn.closing) {
                        0
                    } else if id.is_link() {
                        1
                    } else {
                        2
                    };
                    let piece = buffers.take(completion.flags, completion.result);
                    if let Some(last) = events[list].last_mut()
                        && last.goes_on_in(completion)
                        && buffers.join(&mut last.piece, piece)
                    {
                        last.completion = completion;
                    } else {
                        events[list].push(Event { completion, piece });
                    }
                }
                Kind::SendNow => {
                    fresh[operations::place(completion.user_data)].result = completion.result;
                }
                Kind::Mail => {
                    over += last;
                    *mail = true;
                    mail_over |= last > 0;
                }
                // Something was over before it could be cancelled.
                Kind::Cancel | Kind::Accept => {}
            }
        });
        self.ring.in_flight -= over;
        if mail_over {
            self.await_mail();
        }
    }

    /// Tells what became of the sends of this tick, which are over.
    fn settle<H: Handler>(&mut self, handler: &mut H) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for Fresh { id, buffer, slices, result } in fresh.drain(..) {
            let UringIo { conns, ring, spare_slices, .. } = self;
            let Some(conn) = conns.find(id) else {
                debug_assert!(false, "a connection stays until its sends are over");
                continue;
            };
            conn.fresh = false;
            let written = usize::try_from(result).unwrap_or(0);
            if written == buffer.len() {
                handler.handle_sent(id, buffer, written);
            } else if (written > 0 || conn::is_passing(result)) && !(conn.closing || conn.shut) {
                conn.go_on_sending(Box::new(Sending { buffer, written, slices }), ring);
                continue;
            } else {
                handler.handle_sent(id, buffer, written);
                if !(conn.closing || conn.shut || conn.failed == Failed::Told) {
                    (conn.ended, conn.failed) = (true, Failed::Untold);
                }
            }
            if let Some(slices) = slices
                && spare_slices.len() < SLICES_KEPT
            {
                spare_slices.push(slices);
            }
            if conn.shut || conn.failed == Failed::Untold {
                conn.after_send(handler);
            }
            if conn.closing && conn.is_idle() {
                self.forget(id);
                handler.handle_closed(id);
            }
        }
        self.fresh = fresh;
    }

    /// Hands on the completions of one list.
    fn handle_events<H: Handler>(&mut self, list: usize, handler: &mut H) {
        let mut events = std::mem::take(&mut self.events[list]);
        for Event { completion, piece } in events.drain(..) {
            if self.buffers.is_cut(completion.flags, piece) || !self.cut.is_empty() {
                self.put_together(completion, piece, handler);
            } else {
                self.handle_event(completion, piece, None, handler);
            }
        }
        self.events[list] = events;
    }

    /// A completion while a burst is cut, or of one that is.
    #[cold]
    fn put_together<H: Handler>(&mut self, completion: Completion, piece: Piece, handler: &mut H) {
        let id = operations::conn(completion.user_data);
        let receives = operations::kind(completion.user_data) == Kind::Receive;
        match if receives { self.cut.take(id) } else { None } {
            Some(mut bytes) => {
                bytes.extend_from_slice(self.buffers.bytes(piece));
                self.handle_event(completion, piece, Some(&bytes), handler);
            }
            None if receives && self.buffers.is_cut(completion.flags, piece) => {
                self.cut.keep(id, self.buffers.bytes(piece), self.tick);
            }
            None => self.handle_event(completion, piece, None, handler),
        }
    }

    /// Hands on the parts of bursts of which the tick has brought nothing more.
    #[cold]
    fn release_cut<H: Handler>(&mut self, handler: &mut H) {
        let UringIo { cut, conns, tick, .. } = self;
        cut.release(*tick, |id, bytes| {
            if conns.find(id).is_some_and(|conn| !(conn.ended || conn.closing)) {
                handler.handle_received(id, bytes);
            }
        });
    }

    fn handle_event<H: Handler>(
        &mut self,
        completion: Completion,
        piece: Piece,
        joined: Option<&[u8]>,
        handler: &mut H,
    ) {
        let id = operations::conn(completion.user_data);
        let UringIo { conns, ring, buffers, starved, hung_up, tick, .. } = self;
        let Some(conn) = conns.find(id) else { return };
        match operations::kind(completion.user_data) {
            Kind::Send => conn.send_ended(completion.result, ring, handler),
            Kind::Connect => conn.connect_ended(ring, handler),
            Kind::Hangup => {
                conn.watched = false;
                hung_up.push(id);
            }
            _ => {
                let bytes = joined.unwrap_or_else(|| buffers.bytes(piece));
                if joined.is_some() {
                    conn.fed = *tick;
                }
                if conn.received(completion, bytes, ring, handler) == Then::Again {
                    let class = if id.is_link() { 0 } else { 1 + usize::from(conn.fed == *tick) };
                    starved[class].push(id);
                }
                conn.fed = *tick;
            }
        }
        if conn.closing && conn.is_idle() {
            self.forget(id);
            handler.handle_closed(id);
        }
    }

    /// All bytes of this tick were seen: their room is the kernel's again, and who found none has his turn.
    fn give_back(&mut self) {
        let UringIo { conns, ring, buffers, starved, hung_up, .. } = self;
        buffers.give_back();
        for id in hung_up.drain(..) {
            if let Some(conn) = conns.find(id) {
                conn.hung_up(ring);
            }
        }
        for list in starved {
            for id in list.drain(..) {
                if let Some(conn) = conns.find(id) {
                    conn.arm(ring);
                }
            }
        }
    }

    fn take_mail<H: Handler>(&mut self, handler: &mut H) {
        let UringIo { ring, conns, handle, addresses, .. } = self;
        told::take_mail(handle, addresses, handler, |id, socket| {
            let mut conn = Conn::new(id, socket);
            conn.begin(ring);
            conns.insert(conn);
        });
    }

    #[inline]
    fn send(&mut self, id: ConnId, buffer: Outbox) {
        let UringIo { ring, conns, fresh, spare_slices, .. } = self;
        let conn = conns.find(id).filter(|conn| !conn.closing && !buffer.is_empty());
        let Some(conn) = conn else { return self.told.sent(id, buffer, 0) };
        debug_assert!(conn.sending.is_none() && !conn.fresh, "one send in flight");
        let first = !std::mem::replace(&mut conn.has_sent, true) && id.is_link();
        let tells = first || conn.paused || conn.ended || buffer.len() >= LARGE;
        let manner = if tells { Manner::Now } else { Manner::Silent };
        let mut slices = if buffer.single(0).is_none() { spare_slices.pop() } else { None };
        let number = plain_number(Kind::SendNow, fresh.len());
        let (entry, asked) = operations::send(&conn.socket, &buffer, 0, &mut slices, manner, number);
        conn.fresh = true;
        self.silent |= !tells;
        fresh.push(Fresh { id, buffer, slices, result: asked as i32 });
        // SAFETY: the bytes and slices are those of what was put into `fresh`, on the heap, where they stay
        // until the kernel has taken the entry: `fresh` is emptied only after that. The send never waits, so
        // that it is over then. The connection's descriptor stays open as long, for it is `fresh`.
        unsafe { ring.push(&entry) };
    }

    fn connect(&mut self, id: ConnId, backend: usize, address: usize) {
        match Socket::connect(&self.addresses[backend], address) {
            Ok(socket) => {
                let mut conn = Conn::new(id, socket);
                conn.await_connect(&mut self.ring);
                self.conns.insert(conn);
            }
            Err(error) => self.told.failed(id, failure_of(&error)),
        }
    }

    fn shutdown_write(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.shut = true;
        if conn.sending.is_some() {
            conn.cancel_send(&mut self.ring);
        } else if !conn.fresh {
            conn.socket.shutdown_write();
        }
    }

    fn close(&mut self, id: ConnId) {
        match self.conns.find(id) {
            Some(conn) => {
                if std::mem::replace(&mut conn.closing, true) {
                    return;
                }
                conn.cancel_all(&mut self.ring);
                self.closing += 1;
                if !conn.is_idle() {
                    return;
                }
                self.forget(id);
            }
            // Its connect failed at once.
            None if !id.is_link() => self.handle.client_closed(),
            None => {}
        }
        self.told.closed(id);
    }

    /// Closes the descriptor of a connection that the kernel has nothing of.
    fn forget(&mut self, id: ConnId) {
        drop(self.conns.take(id));
        self.closing -= 1;
        if !id.is_link() {
            self.handle.client_closed();
        }
    }
}

impl Io for UringIo {
    fn poll<H: Handler>(&mut self, timeout: Option<Duration>, handler: &mut H) -> io::Result<()> {
        if self.ring.enable()? {
            self.await_mail();
        }
        self.told.tell(handler);
        if handler.has_actions() {
            return Ok(());
        }
        self.wait(timeout)?;
        self.settle(handler);
        self.handle_events(0, handler);
        handler.handle_now(self.now);
        self.handle_events(1, handler);
        self.handle_events(2, handler);
        if !self.cut.is_empty() {
            self.release_cut(handler);
        }
        self.give_back();
        if std::mem::take(&mut self.mail) {
            self.take_mail(handler);
        }
        Ok(())
    }

    #[inline]
    fn submit(&mut self, action: Action) {
        match action {
            Action::Send { conn, buffer } => self.send(conn, buffer),
            Action::Connect { conn, backend, address } => self.connect(conn, backend, address),
            Action::Resolve { backend } => self.handle.resolve(backend),
            Action::PauseRead(id) => {
                if let Some(conn) = self.conns.find(id) {
                    conn.paused = true;
                    conn.disarm(&mut self.ring);
                }
            }
            Action::ResumeRead(id) => {
                if let Some(conn) = self.conns.find(id) {
                    conn.paused = false;
                    conn.arm(&mut self.ring);
                }
            }
            Action::ShutdownWrite(id) => self.shutdown_write(id),
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
        Calls { polls: std::mem::take(&mut self.ring.calls), ..Calls::default() }
    }
}

impl Drop for UringIo {
    /// What was submitted still goes out; then everything is cancelled. The kernel may write to buffers and
    /// read from sends until their operations have come back.
    fn drop(&mut self) {
        self.ring.end(|_| {});
        if self.ring.in_flight == 0 {
            // SAFETY: nothing is in flight, so that the kernel has no use for them, and neither has this
            // value.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        } else {
            std::mem::forget(std::mem::replace(&mut self.conns, Conns::new()));
        }
    }
}
