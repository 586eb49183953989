//! Slots: the places of answers in their client's order.
//!
//! A slot is reserved when its request is read, and stands for exactly one answer, which may be silence. What
//! is answered out of turn waits in its slot; the ready prefix moves to the client's outbox.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::{Outbox, Spare};

use super::fanout::FanoutId;

/// An answer for one slot: `head`, `rest` and `moved` in this order. All empty is silence.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer<'a> {
    /// Copied.
    pub(super) head: &'a [u8],
    /// Copied.
    pub(super) rest: &'a [u8],
    /// Moved.
    pub(super) moved: Option<Bytes>,
}

impl<'a> Answer<'a> {
    /// No answer is wanted.
    pub(super) const SILENCE: Answer<'static> = Answer { head: &[], rest: &[], moved: None };

    /// An answer of these bytes.
    pub(super) fn copied(head: &'a [u8]) -> Self {
        Answer { head, rest: &[], moved: None }
    }

    /// Puts it at the end of an outbox.
    #[inline]
    pub(super) fn append_to(self, outbox: &mut Outbox, spare: &mut Spare) {
        if !self.head.is_empty() || !self.rest.is_empty() {
            let tail = outbox.tail(spare);
            tail.extend_from_slice(self.head);
            tail.extend_from_slice(self.rest);
        }
        if let Some(moved) = self.moved {
            outbox.push(moved);
        }
    }

    fn len(&self) -> usize {
        self.head.len() + self.rest.len() + self.moved.as_ref().map_or(0, Bytes::len)
    }
}

/// The slots of one client, in order. Holds no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Slots {
    ring: VecDeque<Slot>,
    /// The number of the first slot in the ring; numbers wrap round.
    first: u32,
    held_bytes: usize,
}

#[derive(Debug)]
enum Slot {
    Waiting,
    Ready(Box<Outbox>),
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

/// Capacity above which an empty ring gives its memory back, in slots.
const RING_KEPT: usize = 8;

impl Slots {
    /// Reserves the next place; gives its number.
    #[inline]
    pub(super) fn reserve(&mut self) -> u32 {
        let number = self.first.wrapping_add(self.ring.len() as u32);
        self.ring.push_back(Slot::Waiting);
        number
    }

    /// Requests that await their answers or whose answers await their turn.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Bytes of answers that await their turn.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The place is the next one to be answered.
    #[inline]
    pub(super) fn is_first(&self, number: u32) -> bool {
        self.first == number
    }

    /// Answers a place. In turn: it and the ready ones behind it move to `outbox`. Out of turn: it is kept.
    #[inline]
    pub(super) fn fill(&mut self, number: u32, answer: Answer<'_>, outbox: &mut Outbox, spare: &mut Spare) {
        if self.is_first(number) {
            answer.append_to(outbox, spare);
            self.pop();
            self.move_ready(outbox, spare);
        } else {
            self.keep(number, answer, spare);
        }
    }

    /// The place is answered piece by piece from now on.
    pub(super) fn stream(&mut self, number: u32, fanout: FanoutId) {
        let index = number.wrapping_sub(self.first) as usize;
        debug_assert!(matches!(self.ring[index], Slot::Waiting));
        self.ring[index] = Slot::Streaming(fanout);
    }

    /// Reads that are answered piece by piece.
    pub(super) fn streams(&self) -> Vec<FanoutId> {
        let stream = |slot: &Slot| match slot {
            Slot::Streaming(fanout) => Some(*fanout),
            _ => None,
        };
        self.ring.iter().filter_map(stream).collect()
    }

    /// What the first place holds.
    pub(super) fn first(&self) -> First {
        match self.ring.front() {
            None => First::None,
            Some(Slot::Streaming(fanout)) => First::Streaming(*fanout),
            Some(_) => First::Waiting,
        }
    }

    fn pop(&mut self) {
        debug_assert!(!self.ring.is_empty());
        self.ring.pop_front();
        self.first = self.first.wrapping_add(1);
        if self.ring.is_empty() && self.ring.capacity() > RING_KEPT {
            self.ring = VecDeque::new();
        }
    }

    #[inline]
    fn move_ready(&mut self, outbox: &mut Outbox, spare: &mut Spare) {
        while let Some(Slot::Ready(answer)) = self.ring.front_mut() {
            self.held_bytes -= answer.len();
            outbox.append(std::mem::take(&mut **answer), spare);
            self.pop();
        }
    }

    fn keep(&mut self, number: u32, answer: Answer<'_>, spare: &mut Spare) {
        let index = number.wrapping_sub(self.first) as usize;
        debug_assert!(matches!(self.ring[index], Slot::Waiting), "slot {number} is answered twice");
        self.held_bytes += answer.len();
        let mut kept = Box::<Outbox>::default();
        answer.append_to(&mut kept, spare);
        self.ring[index] = Slot::Ready(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut spare = Spare::new(8, 4096);
        let (mut slots, mut outbox) = (Slots::default(), Outbox::default());
        slots.first = u32::MAX - 1;
        let numbers: Vec<u32> = (0..4).map(|_| slots.reserve()).collect();
        slots.fill(numbers[2], Answer::copied(b"third "), &mut outbox, &mut spare);
        slots.fill(numbers[1], Answer::SILENCE, &mut outbox, &mut spare);
        assert!(outbox.is_empty());
        assert_eq!(slots.held_bytes(), 6);
        slots.fill(numbers[0], Answer::copied(b"first "), &mut outbox, &mut spare);
        assert_eq!(outbox.single(0), Some(&b"first third "[..]));
        assert_eq!((slots.len(), slots.held_bytes()), (1, 0));
        let moved = Some(Bytes::from_static(b"rth"));
        slots.fill(numbers[3], Answer { head: b"fo", rest: b"u", moved }, &mut outbox, &mut spare);
        assert_eq!((slots.len(), outbox.len()), (0, 18));
        assert_eq!(slots.first(), First::None);
    }
}
