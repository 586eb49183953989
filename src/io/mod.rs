//! The contract between the core and the engine that moves its bytes.
//!
//! It is completion-shaped: the core submits [`Action`]s, the driver calls a [`Handler`] with what became of
//! them. Every driver keeps these promises, and one suite of tests holds them to it:
//!
//! 1. [`Action::Send`] gives the driver an owned buffer; [`Handler::handle_sent`] gives it back. Partial
//!    writes stay in the driver: fewer bytes written than there were means that the connection has failed, or
//!    that it or its sending side was closed, and nothing more will be written.
//! 2. One send in flight per connection. The driver goes on after a short write.
//! 3. [`Action::PauseRead`] is a wish: what had been received still arrives.
//! 4. Received bytes are lent for the call only.
//! 5. After [`Action::Close`] the core gets one last [`Handler::handle_closed`], when the driver owns nothing
//!    of the connection any more. Only then is its index used again.
//! 6. In one tick, events of links come before those of clients.
//! 7. [`Handler::handle_sent`] of a connection comes before its [`Handler::handle_failed`].
//! 8. [`Handler::handle_progress`] tells in each tick of the sends in flight that have gone on in it.
//! 9. What became of submitted actions is told first, then [`Handler::handle_now`], then the tick's events.

mod conns;
pub mod engine;
mod gathering;
pub mod mio;
pub mod socket;
mod told;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
pub mod uring;

use std::io;
use std::time::Duration;

use crate::buffer::Outbox;
use crate::ownership::change::Notice;
use crate::proxy::message::Message;
use crate::time::Time;

/// One connection of a worker, a client's or a link's. Index and generation, so that a late event for a
/// closed connection is recognised and dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

/// Marks the index of a link; those of clients have it clear.
const LINK: u32 = 1 << 31;

impl ConnId {
    /// A client's connection.
    pub const fn client(index: u32, generation: u32) -> Self {
        debug_assert!(index & LINK == 0);
        ConnId { index, generation }
    }

    /// A link's connection.
    pub fn link(index: u32, generation: u32) -> Self {
        debug_assert!(index & LINK == 0);
        ConnId { index: index | LINK, generation }
    }

    /// It is a link's.
    #[inline]
    pub fn is_link(self) -> bool {
        self.index & LINK != 0
    }

    /// Its place among the connections of its kind, from zero.
    #[inline]
    pub fn index(self) -> usize {
        (self.index & !LINK) as usize
    }

    /// Tells it from earlier and later connections at the same place.
    #[inline]
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// All of it in one number, for an engine's own tokens.
    pub fn to_bits(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// The inverse of [`Self::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        ConnId { index: (bits >> 32) as u32, generation: bits as u32 }
    }
}

impl std::fmt::Debug for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_link() { "link" } else { "client" };
        write!(f, "{kind} {}.{}", self.index(), self.generation)
    }
}

/// What the core wants done.
#[derive(Debug)]
pub enum Action {
    /// Connect to an address of a backend: [`Handler::handle_connected`] or [`Handler::handle_failed`]
    /// follows.
    Connect {
        /// The link.
        conn: ConnId,
        /// Which backend, by its place in the configuration.
        backend: usize,
        /// Which of its addresses.
        address: usize,
    },
    /// Look a backend's name up: [`Handler::handle_resolved`] follows.
    Resolve {
        /// Which backend, by its place in the configuration.
        backend: usize,
    },
    /// Write all of it.
    Send {
        /// Where.
        conn: ConnId,
        /// What.
        buffer: Outbox,
    },
    /// Read no more until [`Action::ResumeRead`].
    PauseRead(ConnId),
    /// Read again.
    ResumeRead(ConnId),
    /// Shut our sending side down; go on reading. A send in flight ends where it is.
    ShutdownWrite(ConnId),
    /// Give the connection up, at once.
    Close(ConnId),
    /// Tell another worker.
    Tell {
        /// Which.
        worker: usize,
        /// What. Boxed, for actions are moved a lot and messages are rare.
        message: Box<Message>,
    },
    /// Tell the control plane. Boxed as well.
    Notify(Box<Notice>),
    /// The worker has nothing left to do: end its loop.
    Stop,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// No way there: unreachable, no descriptor left, and the like.
    Unreachable,
    /// Reset by the other side, or broken in another way.
    Reset,
}

/// What the core is told. All calls come from one thread, from within [`Io::poll`].
pub trait Handler {
    /// The time of this tick.
    fn handle_now(&mut self, now: Time);
    /// A client has come; gives the identity that it has from now on.
    fn handle_accepted(&mut self) -> ConnId;
    /// Bytes have come.
    fn handle_received(&mut self, conn: ConnId, bytes: &[u8]);
    /// The other side sends no more.
    fn handle_eof(&mut self, conn: ConnId);
    /// Nothing can be sent or received any more; [`Action::Close`] is the answer to it.
    fn handle_failed(&mut self, conn: ConnId, failure: Failure);
    /// A buffer comes back, and the count of its bytes that were written: all of them unless the connection
    /// failed.
    fn handle_sent(&mut self, conn: ConnId, buffer: Outbox, written: usize);
    /// A send in flight has gone on, and is not done.
    fn handle_progress(&mut self, conn: ConnId);
    /// A link stands.
    fn handle_connected(&mut self, conn: ConnId);
    /// The driver has let go of a connection.
    fn handle_closed(&mut self, conn: ConnId);
    /// A backend's name has been looked up; it has so many addresses, none if it has no meaning.
    fn handle_resolved(&mut self, backend: usize, addresses: usize);
    /// Another thread has something to say.
    fn handle_message(&mut self, message: Message);
    /// There are actions to submit now, so waiting would be wrong.
    fn has_actions(&self) -> bool;
}

/// An engine: mio, io_uring, or a simulator.
pub trait Io {
    /// Waits for events, at most `timeout` (for ever if `None`), and hands them to `handler`.
    ///
    /// # Errors
    /// The engine itself has failed; a worker cannot go on.
    fn poll<H: Handler>(&mut self, timeout: Option<Duration>, handler: &mut H) -> io::Result<()>;

    /// Takes an action. What becomes of it is told by the next [`Self::poll`].
    fn submit(&mut self, action: Action);

    /// The time now.
    fn now(&self) -> Time;

    /// The system calls since this was asked last.
    fn take_calls(&mut self) -> Calls;
}

/// System calls of an engine for connections that stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Waits for events.
    pub polls: u64,
    /// Reads, of any kind.
    pub reads: u64,
    /// Writes, of any kind.
    pub writes: u64,
}
