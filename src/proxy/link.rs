//! One link: a socket to a backend, its outbox, and the FIFO of what awaits a reply.
//!
//! ```text
//!  Resolving -> Connecting -> Standing -> Retired -> gone
//!      |            |            |           (its end, or too many of them)
//!      +------------+------------+-> gone (lost, or out of step)
//! ```
//! A link begins with a question for the backend's version. What was queued before it stands goes out behind
//! that. Requests are numbered by the byte they start at, so that what was never written can be told from
//! what may have reached the backend.

use std::collections::VecDeque;

use crate::buffer::Outbox;
use crate::io::ConnId;
use crate::protocol::meta::MetaVerb;
use crate::protocol::text::StoreVerb;
use crate::time::Time;

use super::fanout::FanoutId;

/// The protocol of a link; memcached decides by the first byte and stays with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkProtocol {
    /// Classic text and meta.
    Text,
    /// Binary.
    Binary,
}

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// Its backend's name is being looked up.
    Resolving,
    /// The connect is under way.
    Connecting,
    /// Requests can be written.
    Standing,
    /// Our sending side is shut down; what still comes is thrown away.
    Retired,
    /// The driver was asked to close it.
    Closed,
}

/// A link's state.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) backend: usize,
    pub(super) protocol: LinkProtocol,
    pub(super) state: LinkState,
    /// Which of the backend's addresses is tried.
    pub(super) address: usize,
    /// When the present connect attempt, and the whole of them, must have ended.
    pub(super) attempt_deadline: Time,
    pub(super) connect_deadline: Time,
    pub(super) outbox: Outbox,
    /// Bytes handed to the driver and not given back.
    pub(super) sending: usize,
    pub(super) dirty: bool,
    /// Bytes ever put into the outbox.
    pub(super) queued: u64,
    /// Bytes ever handed to the driver, less those it gave back unwritten.
    pub(super) handed: u64,
    pub(super) pipeline: VecDeque<Pending>,
    /// How many at the pipeline's head only wait for a reply that will be thrown away.
    pub(super) marks: usize,
    /// When the first of these became one.
    pub(super) marked: Time,
    pub(super) keys: KeyRing,
    /// Bytes of an unfinished reply.
    pub(super) unread: Vec<u8>,
    pub(super) needed: usize,
    /// When bytes last came, or the pipeline last began to wait.
    pub(super) heard: Time,
    /// The opaque of the next binary request.
    pub(super) next_opaque: u32,
    /// The backend has answered the question for its version.
    pub(super) greeted: bool,
}

impl Link {
    /// A link that has yet to be connected.
    pub(super) fn new(backend: usize, protocol: LinkProtocol, now: Time) -> Self {
        Link {
            backend,
            protocol,
            state: LinkState::Resolving,
            address: 0,
            attempt_deadline: Time::NEVER,
            connect_deadline: Time::NEVER,
            outbox: Outbox::default(),
            sending: 0,
            dirty: false,
            queued: 0,
            handed: 0,
            pipeline: VecDeque::new(),
            marks: 0,
            marked: now,
            keys: KeyRing::default(),
            unread: Vec::new(),
            needed: 1,
            heard: now,
            next_opaque: 0,
            greeted: false,
        }
    }

    /// Its connect is not done.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, LinkState::Resolving | LinkState::Connecting)
    }

    /// Requests may be written now: nothing overdue is owed on it.
    pub(super) fn may_write(&self) -> bool {
        self.state == LinkState::Standing && self.marks == 0 && self.sending == 0 && !self.outbox.is_empty()
    }

    /// The first of the pipeline's entries of which no byte was handed to the driver.
    pub(super) fn first_unwritten(&self) -> usize {
        self.pipeline.partition_point(|pending| pending.start < self.handed)
    }
}

/// A request on its way, or awaiting its reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) target: Target,
    pub(super) expect: Expect,
    pub(super) deadline: Time,
    /// The link's byte it starts at.
    pub(super) start: u64,
    /// Bytes that it has in the link's key ring.
    pub(super) key_bytes: u32,
}

/// Who gets the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A client's slot.
    Slot(ConnId, u32),
    /// A part of a multi-key read.
    Part(FanoutId, u16),
    /// Everybody's answer is awaited for one slot.
    Broadcast(u32, u32),
    /// We asked for ourselves.
    Greeting,
    /// Nobody any more: it is thrown away.
    Mark,
}

/// What the reply must look like, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The whole answer to a get of one key, which stands in the key ring.
    Get {
        /// It was a gets.
        with_cas: bool,
    },
    /// A part of a multi-key answer.
    Values,
    /// One line.
    Line {
        /// Of what.
        verb: LineVerb,
        /// Not wanted.
        quiet: bool,
    },
    /// The answer to a meta command.
    Meta {
        /// Of which.
        verb: MetaVerb,
        /// The expected answer is not wanted.
        quiet: bool,
        /// A miss may stand in for it; the key ring ends with what follows its `EN`.
        read: bool,
        /// Bytes of a key with a line end in it, that the key ring begins with: the answer may bear it as it
        /// is.
        raw_key: u8,
    },
    /// The answer to a quiet meta command, if it has any, and to the `mn` behind it.
    Fenced {
        /// Which.
        verb: MetaVerb,
    },
    /// The answer to a delete that we sent because a value was refused: then the refusal is answered.
    Unlinked {
        /// The answer is not wanted.
        quiet: bool,
    },
    /// A binary reply.
    Binary {
        /// As the client sent them.
        opcode: u8,
        /// As the client sent it.
        opaque: [u8; 4],
        /// What the reply must bear.
        tag: u32,
    },
    /// A binary reply to a delete that we sent because a value was refused.
    BinaryUnlinked {
        /// As the client sent them.
        opcode: u8,
        /// As the client sent it.
        opaque: [u8; 4],
        /// What the reply must bear.
        tag: u32,
    },
    /// The version, in text.
    Version,
    /// The version, in binary.
    BinaryVersion {
        /// What the reply must bear.
        tag: u32,
    },
}

/// Commands that are answered by one line, as far as counting needs to know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineVerb {
    /// A storage command.
    Store(StoreVerb),
    /// incr
    Increment,
    /// decr
    Decrement,
    /// touch
    Touch,
    /// delete
    Delete,
    /// flush_all
    FlushAll,
}

/// The keys of the reads in a pipeline, end to end.
#[derive(Debug, Default)]
pub(super) struct KeyRing {
    bytes: Vec<u8>,
    /// Where the first key in use starts.
    start: usize,
}

/// Unused bytes at the front above which the ring moves its keys down.
const KEY_RING_SLACK: usize = 16 << 10;

impl KeyRing {
    /// Puts a key at the end.
    #[inline]
    pub(super) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
    }

    /// The first `length` bytes in use.
    #[inline]
    pub(super) fn front(&self, length: usize) -> &[u8] {
        &self.bytes[self.start..self.start + length]
    }

    /// Lets go of the first `length` bytes in use.
    #[inline]
    pub(super) fn pop(&mut self, length: usize) {
        self.start += length;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > KEY_RING_SLACK && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// `length` bytes, `skip` bytes after the first in use.
    pub(super) fn peek(&self, skip: usize, length: usize) -> Vec<u8> {
        let from = self.start + skip;
        self.bytes[from..from + length].to_vec()
    }

    /// Takes `length` bytes out, `skip` bytes after the first in use.
    pub(super) fn take(&mut self, skip: usize, length: usize) -> Vec<u8> {
        let from = self.start + skip;
        self.bytes.drain(from..from + length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ring_is_first_in_first_out() {
        let mut ring = KeyRing::default();
        let key = |number: usize| format!("key number {number}").into_bytes();
        let mut next = 0;
        for number in 0..10_000 {
            ring.push(&key(number));
            if number % 3 != 0 {
                let expected = key(next);
                assert_eq!(ring.front(expected.len()), expected);
                ring.pop(expected.len());
                next += 1;
            }
        }
        assert!(ring.bytes.len() < 200_000);
    }

    #[test]
    fn key_ring_gives_up_its_middle() {
        let mut ring = KeyRing::default();
        ring.push(b"gone");
        ring.push(b"abcdef");
        ring.pop(4);
        assert_eq!(ring.take(1, 2), b"bc");
        assert_eq!(ring.front(4), b"adef");
    }
}
