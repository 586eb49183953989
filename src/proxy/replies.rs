//! Slots: the places of answers in their client's order.
//!
//! A slot is reserved when its request is read, and stands for exactly one answer, which may be silence. What
//! is answered in turn goes straight to the client's outbox. What is answered out of turn is kept until it is
//! its turn; the ready prefix moves to the outbox.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::{Outbox, Recycle, Spare};

use super::fanout::FanoutId;
use super::room::Room;

/// An answer for one slot: its parts in this order. All empty is silence.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer<'a> {
    /// Copied.
    pub(super) head: &'a [u8],
    /// Copied.
    pub(super) rest: &'a [u8],
    /// Moved.
    pub(super) moved: Option<Bytes>,
    /// Copied.
    pub(super) end: &'a [u8],
}

impl<'a> Answer<'a> {
    /// No answer is wanted.
    pub(super) const SILENCE: Answer<'static> = Answer { head: &[], rest: &[], moved: None, end: &[] };

    /// An answer of these bytes.
    #[inline]
    pub(super) fn copied(head: &'a [u8]) -> Self {
        Answer { head, ..Answer::SILENCE }
    }

    /// Puts it at the end of an outbox.
    #[inline]
    pub(super) fn append_to(self, outbox: &mut Outbox, spare: &mut Spare) {
        let tail = outbox.tail(spare);
        tail.extend_from_slice(self.head);
        tail.extend_from_slice(self.rest);
        if let Some(moved) = self.moved {
            outbox.push(moved, spare);
        }
        outbox.tail(spare).extend_from_slice(self.end);
    }

    /// Copies all of it but what is to be moved.
    #[inline]
    pub(super) fn copy_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.head);
        bytes.extend_from_slice(self.rest);
        bytes.extend_from_slice(self.end);
    }
}

/// The slots of one client, in order. Holds no memory unless answers have come out of turn.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The number of the first slot; numbers wrap round.
    first: u32,
    count: u32,
    early: Option<Box<Early>>,
}

/// What became of a client's slots out of turn.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The slots from the first on, as far as one of them is not [`Slot::Waiting`].
    ring: VecDeque<Slot>,
    /// How many of these are not [`Slot::Waiting`].
    kept: usize,
    /// Copied answers, in the order in which they came.
    bytes: Vec<u8>,
    /// Bytes of these that have gone to the outbox.
    dead: usize,
    /// Room to move them to.
    other: Vec<u8>,
}

/// What became of one slot.
#[derive(Debug)]
enum Slot {
    Waiting,
    /// Its answer stands in [`Early::bytes`].
    Copied {
        start: u32,
        length: u32,
    },
    /// Its answer is large.
    Moved(Outbox),
    /// Answered piece by piece while the client reads.
    Streaming(FanoutId),
}

/// What a client's first slot holds, when it is not an answer that can go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// There is no slot.
    None,
    /// Its answer has not come.
    Waiting,
    /// Its answer is fetched as the client reads it.
    Streaming(FanoutId),
}

/// Bytes of answers that have gone above which the others are moved down.
const DEAD_MAX: usize = 16 << 10;

impl Slots {
    /// Reserves the next place; gives its number.
    #[inline]
    pub(super) fn reserve(&mut self) -> u32 {
        let number = self.first.wrapping_add(self.count);
        self.count += 1;
        number
    }

    /// Requests that were answered, as far as that can be counted.
    #[inline]
    pub(super) fn answered(&self) -> u32 {
        self.first
    }

    /// Requests that await their answers or whose answers await their turn.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Answers a place with what `write` appends. In turn: it and the ready ones behind it move to `outbox`.
    /// Out of turn: it is kept. Gives the answer's bytes.
    #[inline]
    pub(super) fn fill_with(
        &mut self,
        number: u32,
        outbox: &mut Outbox,
        room: &mut Room,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        if self.first != number {
            return self.keep(number, room, write);
        }
        let tail = outbox.tail(&mut room.spare);
        let start = tail.len();
        write(tail);
        let length = tail.len() - start;
        self.pop();
        if self.early.is_some() {
            self.move_ready(outbox, room);
        }
        length
    }

    /// As [`Self::fill_with`], for an answer of several pieces.
    pub(super) fn fill_pieces(
        &mut self,
        number: u32,
        answer: Outbox,
        outbox: &mut Outbox,
        room: &mut Room,
    ) -> usize {
        let length = answer.len();
        if self.first == number {
            outbox.append(answer, &mut room.spare);
            self.pop();
            self.move_ready(outbox, room);
        } else {
            *self.early_slot(number, room).0 = Slot::Moved(answer);
        }
        length
    }

    /// The place is answered piece by piece from now on.
    pub(super) fn stream(&mut self, number: u32, fanout: FanoutId, room: &mut Room) {
        *self.early_slot(number, room).0 = Slot::Streaming(fanout);
    }

    /// The place is reserved and has no answer.
    pub(super) fn awaits(&self, number: u32) -> bool {
        let index = number.wrapping_sub(self.first);
        let slot = self.early.as_ref().and_then(|early| early.ring.get(index as usize));
        index < self.count && slot.is_none_or(|slot| matches!(slot, Slot::Waiting))
    }

    /// Reads that are answered piece by piece.
    fn streams(&self) -> Vec<FanoutId> {
        let stream = |slot: &Slot| match slot {
            Slot::Streaming(fanout) => Some(*fanout),
            _ => None,
        };
        self.early.iter().flat_map(|early| &early.ring).filter_map(stream).collect()
    }

    /// Nobody awaits the answers any more. Gives the reads that were answered piece by piece.
    pub(super) fn drop_all(&mut self) -> Vec<FanoutId> {
        let streams = self.streams();
        self.early = None;
        streams
    }

    /// What the first place holds.
    #[inline]
    pub(super) fn first(&self) -> First {
        match &self.early {
            None if self.count == 0 => First::None,
            None => First::Waiting,
            Some(early) => match early.ring.front() {
                Some(Slot::Streaming(fanout)) => First::Streaming(*fanout),
                _ => First::Waiting,
            },
        }
    }

    #[inline]
    fn pop(&mut self) {
        debug_assert!(self.count > 0);
        self.first = self.first.wrapping_add(1);
        self.count -= 1;
    }

    /// The first place has been answered: it leaves the ring, and the ready ones behind it follow.
    fn move_ready(&mut self, outbox: &mut Outbox, room: &mut Room) {
        let Some(early) = &mut self.early else { return };
        if let Some(Slot::Streaming(_)) = early.ring.pop_front() {
            early.kept -= 1;
        }
        let mut moved = 0;
        while let Some(Slot::Copied { .. } | Slot::Moved(_)) = early.ring.front() {
            match early.ring.pop_front() {
                Some(Slot::Copied { start, length }) => {
                    let answer = &early.bytes[start as usize..][..length as usize];
                    outbox.tail(&mut room.spare).extend_from_slice(answer);
                    early.dead += length as usize;
                }
                Some(Slot::Moved(answer)) => outbox.append(answer, &mut room.spare),
                _ => {}
            }
            moved += 1;
        }
        early.kept -= moved;
        let done = early.kept == 0;
        self.first = self.first.wrapping_add(moved as u32);
        self.count -= moved as u32;
        if done && let Some(early) = self.early.take() {
            room.early.give(early);
        }
    }

    /// Moves the kept answers together if most of their bytes have gone.
    #[inline]
    fn compact(&mut self) {
        if let Some(early) = &mut self.early
            && early.dead > DEAD_MAX.max(early.bytes.len() / 2)
        {
            early.compact();
        }
    }

    /// Answers a place out of turn.
    #[inline(never)]
    fn keep(&mut self, number: u32, room: &mut Room, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let (slot, bytes) = self.early_slot(number, room);
        let start = bytes.len();
        write(bytes);
        let length = bytes.len() - start;
        *slot = Slot::Copied { start: start as u32, length: length as u32 };
        self.compact();
        length
    }

    /// A place that is answered out of turn, and where the bytes of such answers stand.
    fn early_slot(&mut self, number: u32, room: &mut Room) -> (&mut Slot, &mut Vec<u8>) {
        let early = self.early.get_or_insert_with(|| room.early.take());
        let index = number.wrapping_sub(self.first) as usize;
        debug_assert!(index < self.count as usize, "slot {number} was never reserved");
        while early.ring.len() <= index {
            early.ring.push_back(Slot::Waiting);
        }
        early.kept += 1;
        let slot = &mut early.ring[index];
        debug_assert!(matches!(slot, Slot::Waiting), "slot {number} is answered twice");
        (slot, &mut early.bytes)
    }
}

impl Early {
    /// Moves the answers that are still wanted together.
    fn compact(&mut self) {
        self.other.clear();
        for slot in &mut self.ring {
            if let Slot::Copied { start, length } = slot {
                let from = *start as usize;
                *start = self.other.len() as u32;
                self.other.extend_from_slice(&self.bytes[from..from + *length as usize]);
            }
        }
        std::mem::swap(&mut self.bytes, &mut self.other);
        self.dead = 0;
    }
}

impl Recycle for Early {
    fn fresh() -> Self {
        Early { ring: VecDeque::with_capacity(16), bytes: Vec::with_capacity(4096), ..Early::default() }
    }

    fn clear(&mut self) {
        self.ring.clear();
        self.bytes.clear();
        (self.kept, self.dead) = (0, 0);
    }

    fn bytes(&self) -> usize {
        self.bytes.capacity() + self.other.capacity() + self.ring.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(slots: &mut Slots, number: u32, answer: Answer<'_>, outbox: &mut Outbox, room: &mut Room) {
        match answer.moved {
            None => slots.fill_with(number, outbox, room, |bytes| answer.copy_to(bytes)),
            Some(_) => {
                let mut pieces = Outbox::default();
                answer.append_to(&mut pieces, &mut room.spare);
                slots.fill_pieces(number, pieces, outbox, room)
            }
        };
    }

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut room = Room::new();
        let (mut slots, mut outbox) = (Slots::default(), Outbox::default());
        slots.first = u32::MAX - 1;
        let numbers: Vec<u32> = (0..4).map(|_| slots.reserve()).collect();
        fill(&mut slots, numbers[2], Answer::copied(b"third "), &mut outbox, &mut room);
        fill(&mut slots, numbers[1], Answer::SILENCE, &mut outbox, &mut room);
        assert!(outbox.is_empty());
        fill(&mut slots, numbers[0], Answer::copied(b"first "), &mut outbox, &mut room);
        assert_eq!(outbox.single(0), Some(&b"first third "[..]));
        assert_eq!((slots.len(), slots.early.is_none()), (1, true));
        let moved = Some(Bytes::from_static(b"rth"));
        fill(
            &mut slots,
            numbers[3],
            Answer { head: b"fo", rest: b"u", moved, end: b"!" },
            &mut outbox,
            &mut room,
        );
        assert_eq!((slots.len(), outbox.len()), (0, 19));
        assert_eq!(slots.first(), First::None);
    }
    #[test]
    fn answers_out_of_turn_are_moved_down_when_most_have_gone() {
        let mut room = Room::new();
        let (mut slots, mut outbox, mut expected) = (Slots::default(), Outbox::default(), Vec::new());
        let answer = |number: u32| format!("{number:0200}").into_bytes();
        let numbers: Vec<u32> = (0..2000).map(|_| slots.reserve()).collect();
        let mut fill = |slots: &mut Slots, number| {
            super::tests::fill(slots, number, Answer::copied(&answer(number)), &mut outbox, &mut room);
            expected.extend(answer(expected.len() as u32 / 200));
            slots.early.as_ref().map_or(0, |early| early.bytes.len())
        };
        fill(&mut slots, 2);
        fill(&mut slots, 0);
        for pair in numbers[1..1997].chunks_exact(2) {
            // Each time an answer stays out of turn while those before it go.
            fill(&mut slots, pair[1] + 2);
            let held = fill(&mut slots, pair[0]);
            assert!(held <= 2 * DEAD_MAX + 1000, "{held} bytes are held");
        }
        assert_eq!(outbox.single(0), Some(&expected[..1997 * 200]));
    }
}
