//! The room that the kernel receives into: one small ring of buffers for all connections of a worker.
//!
//! A buffer belongs to the kernel from when it is given until a completion names it, and to us from then
//! until it is given again. Where the kernel fills buffers bit by bit (Linux 6.12), it keeps one until it
//! says that it is done with it; of what it has filled we own the part that completions name, and it writes
//! only behind that.
#![allow(unsafe_code)] // The kernel writes into these buffers; who owns which part when is said above.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};
use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// The group of the ring's buffers; there is no other.
pub(super) const GROUP: u16 = 0;

/// The kernel fills a buffer bit by bit (IOU_PBUF_RING_INC of its header).
const INCREMENTAL: u16 = 2;

/// Bytes that are handed on in one piece, if the kernel has brought them one after the other: what was sent
/// at once is seen at once, however small the buffers are. The core closes a client whose line comes in
/// pieces, as memcached does, which reads 16 KiB at a time.
const JOINED_MAX: usize = 64 << 10;

/// Bytes of which the rest is waited for, if the kernel says that there is one: what memcached reads at a
/// time.
const CUT_MAX: usize = 16 << 10;

/// The buffers of a worker.
pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    count: u16,
    size: usize,
    incremental: bool,
    /// How much of each the kernel has filled.
    filled: Vec<u32>,
    /// What the kernel is done with, and is not given again yet.
    done: Vec<u16>,
    /// The ring's end, as it counts.
    tail: u16,
}

// SAFETY: both pointers are to memory that belongs to this value alone, whichever thread has it.
unsafe impl Send for Buffers {}

/// A part of a buffer that a completion names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    from: u32,
    length: u32,
}

impl Buffers {
    /// A ring of `count` buffers, a power of two, of `size` bytes each.
    pub(super) fn new(count: u16, size: usize, incremental: bool) -> Self {
        let mut buffers = Buffers {
            ring: allocate(ring_layout(count)).cast(),
            data: allocate(data_layout(count, size)),
            count,
            size,
            incremental,
            filled: vec![0; usize::from(count)],
            done: Vec::with_capacity(usize::from(count)),
            tail: 0,
        };
        buffers.done.extend(0..count);
        buffers.give_back();
        buffers
    }

    /// Makes them known to a ring, which must have ended, or have been closed with no receive in flight,
    /// before they are dropped.
    ///
    /// # Errors
    /// What io_uring_register(2) says.
    pub(super) fn register(&mut self, uring: &IoUring) -> io::Result<()> {
        let flags = if self.incremental { INCREMENTAL } else { 0 };
        let address = self.ring.as_ptr() as u64;
        // SAFETY: the memory is of the size and at the place that is asked for, and stays until this value is
        // dropped; the engine drops it only when no receive is in flight, and leaks it otherwise.
        let registered =
            unsafe { uring.submitter().register_buf_ring_with_flags(address, self.count, GROUP, flags) };
        match registered {
            // Before Linux 6.12 a buffer is filled once.
            Err(error) if self.incremental && error.kind() == io::ErrorKind::InvalidInput => {
                self.incremental = false;
                self.register(uring)
            }
            other => other,
        }
    }

    /// Takes what a completion has brought: so many bytes.
    #[inline]
    pub(super) fn take(&mut self, flags: u32, length: i32) -> Piece {
        let Some(buffer) = cqueue::buffer_select(flags) else { return Piece::default() };
        let filled = &mut self.filled[usize::from(buffer)];
        let length = u32::try_from(length).unwrap_or(0);
        let from = u32::from(buffer) * self.size as u32 + *filled;
        debug_assert!((*filled + length) as usize <= self.size, "the kernel knows how long a buffer is");
        *filled += length;
        if !(self.incremental && cqueue::buffer_more(flags)) {
            self.done.push(buffer);
        }
        Piece { from, length }
    }

    /// Makes `next`, which was taken last, the end of `piece`, if it lies behind it. Buffers are used in
    /// turns, so it does for what was received in one go; what goes on in the first buffer is copied behind
    /// the last.
    #[inline]
    pub(super) fn join(&mut self, piece: &mut Piece, next: Piece) -> bool {
        let (end, length) = (piece.from + piece.length, piece.length + next.length);
        if next.length == 0 || length as usize > JOINED_MAX {
            return false;
        }
        let all = u32::from(self.count) * self.size as u32;
        if end != next.from {
            if end < all || end - all != next.from {
                return false;
            }
            // SAFETY: both lie within the memory of this value: the piece behind it ends at most `JOINED_MAX`
            // bytes after the buffers, which is allocated and never the kernel's; the other was named by a
            // completion and is not given back. They do not overlap, for one lies behind all buffers.
            unsafe {
                let data = self.data.as_ptr();
                data.add(end as usize)
                    .copy_from_nonoverlapping(data.add(next.from as usize), next.length as usize);
            }
        }
        piece.length = length;
        true
    }

    /// The kernel has stopped amid what is there to be received, and goes on in the next tick: every 32
    /// buffers of a connection it lets others have their turn. Not so if enough has come to be looked at.
    #[inline]
    pub(super) fn is_cut(&self, flags: u32, piece: Piece) -> bool {
        cqueue::sock_nonempty(flags) && cqueue::more(flags) && (piece.length as usize) < CUT_MAX
    }

    /// So many bytes have come in this tick that what came with them is dealt with first: one who sends much
    /// does not hold up the others.
    #[inline]
    pub(super) fn have_brought_enough(&self) -> bool {
        self.done.len() > 16
    }

    /// The bytes of a piece that was taken since buffers were given back.
    #[inline]
    pub(super) fn bytes(&self, piece: Piece) -> &[u8] {
        let (from, length) = (piece.from as usize, piece.length as usize);
        debug_assert!(from + length <= usize::from(self.count) * self.size + JOINED_MAX);
        // SAFETY: it lies within the memory of this value. A completion has named it, so the kernel has
        // written it and writes it no more before the buffer is given back, for which this value must be
        // borrowed mutably; it was zeroed once, so that it is initialised in any case.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(from), length) }
    }

    /// Gives the kernel what it is done with. All pieces that were taken are seen.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let mask = self.count - 1;
        for &buffer in &self.done {
            self.filled[usize::from(buffer)] = 0;
            // SAFETY: the place lies within the ring, and the buffer within the data. The kernel reads a
            // place only before the tail, which is moved behind it below.
            unsafe {
                let entry = self.ring.as_ptr().add(usize::from(self.tail & mask));
                let data = self.data.as_ptr().add(usize::from(buffer) * self.size);
                (*entry).set_addr(data as u64);
                (*entry).set_len(self.size as u32);
                (*entry).set_bid(buffer);
            }
            self.tail = self.tail.wrapping_add(1);
        }
        self.done.clear();
        // SAFETY: the tail lies in the ring's first entry, where the kernel reads it; it is aligned for its
        // type, and from here on nobody but this line writes it (the setters above leave it alone).
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The system gets the memory back, until the kernel fills it again. All pieces that were taken are seen.
    pub(super) fn release(&mut self) {
        let bytes = data_layout(self.count, self.size).size();
        // SAFETY: the memory is this value's, whole pages of it, and from here on it reads as zeroes: no
        // piece of it will be looked at before the kernel has written it again, which it does by address, in
        // calls of this thread alone.
        let released = unsafe { madvise(self.data.as_ptr().cast(), bytes, Advice::LinuxDontNeed) };
        debug_assert!(released.is_ok(), "{released:?}");
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: both were allocated so, once, by `new`; whoever has registered them has ended all receives.
        unsafe {
            dealloc(self.ring.as_ptr().cast(), ring_layout(self.count));
            dealloc(self.data.as_ptr(), data_layout(self.count, self.size));
        }
    }
}

/// At the border of a page, as the kernel asks.
fn ring_layout(count: u16) -> Layout {
    let bytes = usize::from(count) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes, page_size()).expect("a few pages")
}

/// Whole pages, since [`Buffers::release`] gives back whole ones.
fn data_layout(count: u16, size: usize) -> Layout {
    let bytes = usize::from(count) * size + JOINED_MAX;
    Layout::from_size_align(bytes, page_size()).expect("some MiB at most").pad_to_align()
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0, "a ring has buffers");
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
