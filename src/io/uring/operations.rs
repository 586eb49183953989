//! The operations that are submitted, and how their completions are told apart.
#![allow(unsafe_code)] // Vectored sends name their slices by pointer; who owns them is said at each.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};

use super::buffers::GROUP;
use crate::buffer::Outbox;
use crate::io::ConnId;
use crate::io::socket::Socket;

/// Slices in one vectored send.
pub(super) const SLICES: usize = 64;

/// What an operation is, in the highest bits of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The multishot receive of a connection.
    Receive = 1,
    /// A send that waits for room.
    Send = 2,
    /// The wait for a connect's end.
    Connect = 3,
    /// A send that does not wait; its number is its place among those of the tick.
    SendNow = 4,
    /// Something is cancelled.
    Cancel = 5,
    /// Another thread wakes this one.
    Mail = 6,
    /// A multishot accept; its number is the listener's.
    Accept = 7,
    /// The other side has ended or broken the connection.
    Hangup = 8,
}

const KIND_SHIFT: u32 = 60;
const LINK: u64 = 1 << 59;
const INDEX_SHIFT: u32 = 32;
const INDEX_BITS: u64 = (1 << 27) - 1;

/// The number of an operation on a connection.
#[inline]
pub(super) fn number(kind: Kind, id: ConnId) -> u64 {
    debug_assert!(id.index() as u64 <= INDEX_BITS, "so many connections are not allowed");
    let link = if id.is_link() { LINK } else { 0 };
    (kind as u64) << KIND_SHIFT | link | (id.index() as u64) << INDEX_SHIFT | u64::from(id.generation())
}

/// The number of an operation that is not a connection's.
#[inline]
pub(super) fn plain_number(kind: Kind, place: usize) -> u64 {
    (kind as u64) << KIND_SHIFT | place as u64
}

/// What a number was made of.
#[inline]
pub(super) fn kind(number: u64) -> Kind {
    match number >> KIND_SHIFT {
        1 => Kind::Receive,
        2 => Kind::Send,
        3 => Kind::Connect,
        4 => Kind::SendNow,
        6 => Kind::Mail,
        7 => Kind::Accept,
        8 => Kind::Hangup,
        _ => Kind::Cancel,
    }
}

/// An operation of this kind stays in the kernel, and is counted until its last completion.
pub(super) fn is_counted(number: u64) -> bool {
    !matches!(kind(number), Kind::SendNow | Kind::Cancel)
}

/// The place in a number that is not a connection's.
#[inline]
pub(super) fn place(number: u64) -> usize {
    (number & ((1 << KIND_SHIFT) - 1)) as usize
}

/// The connection in a number.
#[inline]
pub(super) fn conn(number: u64) -> ConnId {
    let (index, generation) = (((number >> INDEX_SHIFT) & INDEX_BITS) as u32, number as u32);
    if number & LINK == 0 { ConnId::client(index, generation) } else { ConnId::link(index, generation) }
}

fn fd(of: impl AsFd) -> Fd {
    Fd(of.as_fd().as_raw_fd())
}

/// Receives whatever comes, into buffers of the ring, until it is cancelled or fails.
#[inline]
pub(super) fn receive(socket: &Socket, id: ConnId) -> Entry {
    opcode::RecvMulti::new(fd(socket), GROUP).build().user_data(number(Kind::Receive, id))
}

/// Waits until the socket can be written to.
pub(super) fn writable(socket: &Socket, id: ConnId) -> Entry {
    opcode::PollAdd::new(fd(socket), libc::POLLOUT as u32).build().user_data(number(Kind::Connect, id))
}

/// Waits for the other side's end, whatever there is to be received before it.
pub(super) fn hangup(socket: &Socket, id: ConnId) -> Entry {
    opcode::PollAdd::new(fd(socket), libc::POLLRDHUP as u32).build().user_data(number(Kind::Hangup, id))
}

/// Tells each time that this can be read.
pub(super) fn readable(of: impl AsFd, number: u64) -> Entry {
    opcode::PollAdd::new(fd(of), libc::POLLIN as u32).multi(true).build().user_data(number)
}

/// Accepts whoever comes.
pub(super) fn accept(listener: impl AsFd, place: usize) -> Entry {
    opcode::AcceptMulti::new(fd(listener))
        .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
        .build()
        .user_data(plain_number(Kind::Accept, place))
}

/// Ends an operation early. Nothing is told of it but the operation's own end.
pub(super) fn cancel(number: u64) -> Entry {
    opcode::AsyncCancel::new(number)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(plain_number(Kind::Cancel, 0))
}

/// Ends everything early.
pub(super) fn cancel_any() -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::any())
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(plain_number(Kind::Cancel, 0))
}

/// How a send behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It is over when the kernel has taken the entry, and tells of itself only if it fell short.
    Silent,
    /// It is over when the kernel has taken the entry, and tells of itself.
    Now,
    /// It waits until there is room for some bytes, and tells how many.
    Waiting,
}

impl Manner {
    fn flags(self) -> i32 {
        match self {
            // The kernel counts what is not sent whole as failed, and neither waits nor hands it to a thread.
            Manner::Silent | Manner::Now => libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT,
            Manner::Waiting => libc::MSG_NOSIGNAL,
        }
    }

    fn finish(self, entry: Entry, number: u64) -> Entry {
        let entry = entry.user_data(number);
        if self == Manner::Silent { entry.flags(squeue::Flags::SKIP_SUCCESS) } else { entry }
    }
}

/// The slices of a vectored send, where the kernel finds them.
pub(super) struct Slices {
    header: libc::msghdr,
    list: [libc::iovec; SLICES],
}

// SAFETY: its pointers are to itself, and to bytes of an outbox that goes with it wherever it goes.
unsafe impl Send for Slices {}

impl Slices {
    pub(super) fn new() -> Box<Self> {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: all of it are numbers and pointers, for which zeroes are valid.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Slices { header, list: [none; SLICES] })
    }

    /// Names what `buffer` holds from `from` on. Gives how many bytes.
    fn fill(&mut self, buffer: &Outbox, from: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = buffer.slices(from, &mut slices);
        for (place, slice) in self.list.iter_mut().zip(&slices[..filled]) {
            *place = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
        }
        self.header.msg_iov = self.list.as_mut_ptr();
        self.header.msg_iovlen = filled as _;
        slices[..filled].iter().map(|slice| slice.len()).sum()
    }
}

/// Most bytes of one send: what its result can count.
const SEND_MAX: usize = 1 << 30;

/// Sends what `buffer` holds from `from` on, or the beginning of it. Gives how many bytes are asked for. Both
/// `buffer`'s bytes and `slices`, which are used if there is more than one piece, have to stay until it is
/// over.
#[inline]
pub(super) fn send(
    socket: &Socket,
    buffer: &Outbox,
    from: usize,
    slices: &mut Option<Box<Slices>>,
    manner: Manner,
    number: u64,
) -> (Entry, usize) {
    let (entry, asked) = match buffer.single(from) {
        Some(bytes) => {
            let bytes = &bytes[..bytes.len().min(SEND_MAX)];
            let send = opcode::Send::new(fd(socket), bytes.as_ptr(), bytes.len() as u32);
            (send.flags(manner.flags()).build(), bytes.len())
        }
        None => {
            let slices = slices.get_or_insert_with(Slices::new);
            let asked = slices.fill(buffer, from);
            let send = opcode::SendMsg::new(fd(socket), &raw const slices.header);
            (send.flags(manner.flags() as u32).build(), asked)
        }
    };
    (manner.finish(entry, number), asked)
}
