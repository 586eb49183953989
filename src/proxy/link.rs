//! One link: a socket to a backend, its outbox, and the FIFO of what awaits a reply.
//!
//! Requests are numbered by the byte they start at, so that what was never written can be told from what may
//! have reached the backend. Those of the present tick may still stand in stages, where gets are joined.
//!
//! ```text
//!  Resolving -> Connecting -> Greeting -> Met -> Standing -> Retired -> gone
//!      |            |            |         |        |           (its end, or too many of them)
//!      +------------+------------+---------+--------+-> gone (lost, or out of step)
//! ```
//! A link begins with the question who is there ([`super::greeting`]). What is queued before it stands goes
//! out when the control plane vouches for that.

use std::collections::VecDeque;

use crate::buffer::{Outbox, Spare};
use crate::io::ConnId;
use crate::limits::{JOINED_KEYS_MAX, Limits};
use crate::ownership::identity::Identity;
use crate::protocol::meta::MetaVerb;
use crate::protocol::text::StoreVerb;
use crate::stats::Counters;
use crate::time::Time;

use super::fanout::Read;
use super::joined::{Asker, JoinedGet};
use super::room::Room;

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
    /// It was asked who is there.
    Greeting,
    /// That is known, and nobody has vouched for it yet.
    Met,
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
    pub(super) queue: Queue,
    /// What stands behind the queue in this tick. Those from `staged` on are empty, and kept for their room.
    pub(super) stages: Vec<Stage>,
    pub(super) staged: usize,
    /// Requests in these stages, and their bytes.
    pub(super) staged_requests: usize,
    pub(super) staged_bytes: usize,
    /// Stages from the first on that have no room for another key of a get, and of a gets.
    full: [usize; 2],
    /// Keys that the next joined get may hold, by the size of the values that came.
    pub(super) joined_keys_max: usize,
    /// Bytes of a value, on average.
    pub(super) value_bytes: usize,
    /// What it is charged for of the process's memory, bytes.
    pub(super) charged: usize,
    /// Bytes handed to the driver and not given back.
    pub(super) sending: usize,
    pub(super) dirty: bool,
    /// Bytes ever handed to the driver, less those it gave back unwritten.
    pub(super) handed: u64,
    /// How many at the pipeline's head only wait for a reply that will be thrown away.
    pub(super) marks: usize,
    /// When the first of these became one.
    pub(super) marked: Time,
    /// Bytes of an unfinished reply.
    pub(super) unread: Vec<u8>,
    pub(super) needed: usize,
    /// When bytes last came, or the pipeline last began to wait.
    pub(super) heard: Time,
    /// The opaque of the next binary request.
    pub(super) next_opaque: u32,
    /// The process at its other end, where that says who it is.
    pub(super) identity: Option<Identity>,
    /// The driver has the greeting.
    pub(super) greeting_in_flight: bool,
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
            queue: Queue::default(),
            stages: Vec::new(),
            staged: 0,
            staged_requests: 0,
            staged_bytes: 0,
            full: [0; 2],
            joined_keys_max: JOINED_KEYS_MAX,
            value_bytes: 0,
            charged: 0,
            sending: 0,
            dirty: false,
            handed: 0,
            marks: 0,
            marked: now,
            unread: Vec::new(),
            needed: 1,
            heard: now,
            next_opaque: 0,
            identity: None,
            greeting_in_flight: false,
        }
    }

    /// It takes no requests yet.
    pub(super) fn is_opening(&self) -> bool {
        use LinkState::{Connecting, Greeting, Met, Resolving};
        matches!(self.state, Resolving | Connecting | Greeting | Met)
    }

    /// Requests stand on it, or will.
    pub(super) fn is_in_use(&self) -> bool {
        self.state == LinkState::Standing || self.is_opening()
    }

    /// Requests may be written now: nothing overdue is owed on it.
    pub(super) fn may_write(&self) -> bool {
        self.state == LinkState::Standing
            && self.marks == 0
            && self.sending == 0
            && !self.queue.outbox.is_empty()
    }

    /// The first of the pipeline's entries of which no byte was handed to the driver.
    pub(super) fn first_unwritten(&self) -> usize {
        self.queue.pipeline.partition_point(|pending| pending.start < self.handed)
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.unread.capacity() + self.queue.outbox.len() + self.staged_bytes + self.sending
    }

    /// Another request may be queued; when memory is short, only if little waits.
    #[inline]
    pub(super) fn has_room(&self, limits: &Limits, short: bool) -> bool {
        if short && self.queue.outbox.len() + self.sending > SHORT_BYTES_MAX {
            return false;
        }
        self.queue.pipeline.len() + self.staged_requests < limits.link_requests_max
            && self.queue.outbox.len() + self.staged_bytes < limits.link_bytes_max
    }

    /// A request more is on its way.
    #[inline]
    pub(super) fn count_request(&mut self, conn: ConnId, now: Time, dirty: &mut Vec<ConnId>) {
        if self.queue.pipeline.len() + self.staged_requests == 1 {
            self.heard = now;
        }
        self.touch(conn, dirty);
    }

    /// It is looked at when this tick ends: it is put on that list.
    #[inline]
    pub(super) fn touch(&mut self, conn: ConnId, dirty: &mut Vec<ConnId>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push(conn);
        }
    }

    /// Puts everything that is staged into the queue. `deadline` is that of all requests of this tick.
    pub(super) fn commit(&mut self, deadline: Time, spare: &mut Spare, counters: &mut Counters) {
        for stage in &mut self.stages[..self.staged] {
            if let Some(joined) = stage.joined.take() {
                counters.joined_gets += if joined.askers() > 1 { u64::from(joined.askers()) } else { 0 };
                self.queue.push_joined(joined, deadline, spare, counters);
            }
            // Deadlines in a pipeline do not go down.
            self.queue.append(&mut stage.after, deadline, spare);
        }
        (self.staged, self.full) = (0, [0; 2]);
        (self.staged_requests, self.staged_bytes) = (0, 0);
        self.stages.truncate(STAGES_KEPT);
    }

    /// The stage whose gets a get of `key` may join, `earliest` or later; the next new one if there is none.
    #[inline]
    pub(super) fn stage_for(&mut self, earliest: usize, read: Read, key: &[u8], hash: u32) -> usize {
        if earliest == 0
            && let Some(joined) = self.stages.first().and_then(|stage| stage.joined.as_ref())
            && joined.read == read
            && joined.len() < self.joined_keys_max
        {
            return 0;
        }
        self.stage_behind(earliest, read, key, hash)
    }

    /// As [`Self::stage_for`], where the first stage is not the one.
    #[inline(never)]
    fn stage_behind(&mut self, earliest: usize, read: Read, key: &[u8], hash: u32) -> usize {
        let full = &mut self.full[usize::from(read.with_cas())];
        let first = earliest.max(full.saturating_sub(FULL_LOOKED_AT));
        let mut number = first;
        while number < self.staged {
            let joined = self.stages[number].joined.as_ref().expect("a stage in use has one");
            let is_full = joined.read != read || joined.len() >= self.joined_keys_max;
            if !is_full || (joined.read == read && joined.asks_for(key, hash)) {
                return number;
            }
            if number == *full {
                *full += 1;
            }
            number += 1;
            if number == first + STAGES_LOOKED_AT {
                number = number.max(self.staged.saturating_sub(FULL_LOOKED_AT));
            }
        }
        self.staged
    }

    /// Begins a new stage, with gets of this kind.
    pub(super) fn open_stage(&mut self, read: Read, room: &mut Room) {
        let mut joined = room.joined.take();
        joined.begin(read);
        if self.stages.len() == self.staged {
            self.stages.push(Stage::default());
        }
        self.stages[self.staged].joined = Some(joined);
        self.staged += 1;
        self.staged_requests += 1;
    }

    /// Adds a key for `asker` to the gets of a stage. True if nobody has asked for it there before.
    #[inline]
    pub(super) fn ask(&mut self, stage: usize, key: &[u8], hash: u32, asker: Asker) -> bool {
        let joined = self.stages[stage].joined.as_mut().expect("a stage in use has one");
        let is_new = joined.ask(key, hash, asker);
        self.staged_bytes += if is_new { 1 + key.len() } else { 0 };
        is_new
    }

    /// A joined get has been answered, with values of so many bytes on average: the next ones hold more keys
    /// or fewer. A large value counts at once, small ones little by little.
    #[inline]
    pub(super) fn note_value_bytes(&mut self, bytes: usize, bytes_max: usize) {
        let before = self.value_bytes;
        self.value_bytes = if bytes >= before { bytes } else { before - (before - bytes).div_ceil(8) };
        if self.value_bytes != before {
            self.joined_keys_max = (bytes_max / self.value_bytes.max(1)).clamp(1, JOINED_KEYS_MAX);
        }
    }
}

/// Requests in the order in which they leave: their bytes, and what awaits their replies.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) outbox: Outbox,
    /// Bytes ever put into the outbox.
    pub(super) queued: u64,
    pub(super) pipeline: VecDeque<Pending>,
    pub(super) keys: KeyRing,
    /// Those of the pipeline's entries with [`Expect::Joined`], in their order.
    pub(super) joined: VecDeque<Box<JoinedGet>>,
}

impl Queue {
    /// Puts a joined get at the end.
    pub(super) fn push_joined(
        &mut self,
        joined: Box<JoinedGet>,
        deadline: Time,
        spare: &mut Spare,
        counters: &mut Counters,
    ) {
        if let Read::Get { .. } = joined.read {
            counters.backend_gets += 1;
            counters.backend_get_keys += joined.len() as u64;
        }
        let tail = self.outbox.tail(spare);
        tail.reserve(joined.line().len() + 2);
        tail.extend_from_slice(joined.line());
        tail.extend_from_slice(b"\r\n");
        let (target, expect) = (Target::Joined, Expect::Joined);
        self.pipeline.push_back(Pending { target, expect, deadline, start: self.queued, key_bytes: 0 });
        self.queued += joined.line().len() as u64 + 2;
        self.joined.push_back(joined);
    }

    /// Puts everything of `other` at the end, due at `earliest` or later. Its entries start at the bytes of
    /// its outbox.
    pub(super) fn append(&mut self, other: &mut Queue, earliest: Time, spare: &mut Spare) {
        if other.pipeline.is_empty() {
            return;
        }
        let offset = self.queued;
        self.pipeline.extend(other.pipeline.drain(..).map(|pending| Pending {
            start: pending.start + offset,
            deadline: pending.deadline.max(earliest),
            ..pending
        }));
        self.queued += other.queued;
        self.outbox.append(std::mem::take(&mut other.outbox), spare);
        self.keys.append(&mut other.keys);
        self.joined.append(&mut other.joined);
        other.queued = 0;
    }

    /// Takes out `count` entries from `first` on, of which nothing was handed to the driver, their bytes,
    /// their keys and what was joined. `handed` is where the outbox begins.
    pub(super) fn cut(
        &mut self,
        first: usize,
        count: usize,
        handed: u64,
    ) -> Vec<(Pending, Vec<u8>, Option<Box<JoinedGet>>)> {
        let start = self.pipeline[first].start;
        let end = self.pipeline.get(first + count).map_or(self.queued, |pending| pending.start);
        let (skip, joined) = (self.key_bytes_before(first), self.joined_before(first));
        let mut taken = Vec::with_capacity(count);
        for pending in self.pipeline.drain(first..first + count) {
            let key = self.keys.take(skip, pending.key_bytes as usize);
            let is_joined = pending.expect == Expect::Joined;
            taken.push((pending, key, if is_joined { self.joined.remove(joined) } else { None }));
        }
        for pending in self.pipeline.iter_mut().skip(first) {
            pending.start -= end - start;
        }
        self.outbox.cut((start - handed) as usize, (end - start) as usize);
        self.queued -= end - start;
        taken
    }

    /// Bytes of keys of the pipeline's entries before `index`.
    pub(super) fn key_bytes_before(&self, index: usize) -> usize {
        self.pipeline.iter().take(index).map(|pending| pending.key_bytes as usize).sum()
    }

    /// How many of the pipeline's entries before `index` are joined gets.
    pub(super) fn joined_before(&self, index: usize) -> usize {
        self.pipeline.iter().take(index).filter(|pending| pending.expect == Expect::Joined).count()
    }
}

/// Bytes that may wait for a link while memory is short.
const SHORT_BYTES_MAX: usize = 64 << 10;

/// Stages whose room is kept.
const STAGES_KEPT: usize = 64;

/// Full stages in which a key is looked for that may be asked for already.
const FULL_LOOKED_AT: usize = 4;

/// Stages in which room for a key is looked for, before the last few: a tick may bring thousands.
const STAGES_LOOKED_AT: usize = 16;

/// A part of what is queued in one tick: gets that still may be joined, and then other requests.
///
/// Requests of different clients may leave in any order, those of one client may not. So its requests take
/// the first place behind its earlier ones: a get joins the first stage that is not before them, another
/// request goes behind the gets of that stage. Clients that have asked for nothing else begin at the first
/// stage, or, with another request, in the queue itself.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) joined: Option<Box<JoinedGet>>,
    pub(super) after: Queue,
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
    /// Those who ask for the keys of a joined get.
    Joined,
    /// Everybody's answer is awaited for one slot.
    Broadcast(u32, u32),
    /// We asked for ourselves: a returning backend is to forget something.
    /// The number of the change.
    Cleaning(u32),
    /// We, as well: the one that stood in for it is. The number of the change.
    Forgetting(u32),
    /// Nobody any more: it is thrown away.
    Mark,
}

/// What the reply must look like, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Values, and the end of them. What was asked stands first in [`Queue::joined`].
    Joined,
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
        /// It compares a CAS token.
        compares: bool,
        /// Bytes of the key that the key ring ends with, if the answer's token is to be remembered.
        token_key: u8,
        /// Bytes of a key that is no word of a line, that the key ring begins with: the answer may bear it as
        /// it is.
        raw_key: u8,
    },
    /// The answer to a quiet meta command, if it has any, and to the `mn` behind it.
    Fenced {
        /// Which.
        verb: MetaVerb,
        /// It compares a CAS token.
        compares: bool,
        /// As of [`Expect::Meta`].
        raw_key: u8,
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
        /// It compares a CAS token.
        compares: bool,
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
}

impl Expect {
    /// What the answer to a meta command may bear of its request, of what that has in the key ring.
    #[inline]
    pub(super) fn echo(self, ring: &[u8]) -> &[u8] {
        match self {
            Expect::Meta { raw_key, token_key, .. } => {
                &ring[usize::from(raw_key)..ring.len() - usize::from(token_key)]
            }
            Expect::Fenced { raw_key, .. } => &ring[usize::from(raw_key)..],
            _ => ring,
        }
    }

    /// What was asked compares a CAS token.
    pub(super) fn compares(self) -> bool {
        match self {
            Expect::Line { verb, .. } => verb == LineVerb::Store(StoreVerb::Cas),
            Expect::Meta { compares, .. } | Expect::Fenced { compares, .. } => compares,
            Expect::Binary { compares, .. } => compares,
            _ => false,
        }
    }
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

    /// Puts all keys of `other` at the end.
    pub(super) fn append(&mut self, other: &mut KeyRing) {
        self.bytes.extend_from_slice(&other.bytes[other.start..]);
        other.bytes.clear();
        other.start = 0;
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
