//! Buffers that are given and returned: what waits to be written to one socket, and the spare room that
//! outboxes are made of.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes queued for one socket, in order. Small frames are copied together; large ones are moved in.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What comes first. Empty unless something large was moved in.
    sealed: VecDeque<Bytes>,
    /// What comes last, still growing.
    tail: Vec<u8>,
    sealed_bytes: usize,
}

impl Outbox {
    /// Bytes queued.
    pub fn len(&self) -> usize {
        self.sealed_bytes + self.tail.len()
    }

    /// Nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.sealed.is_empty()
    }

    /// The growing end, to write small frames to. Takes room from `spare` if it has none.
    #[inline]
    pub fn tail(&mut self, spare: &mut Spare) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = spare.take();
        }
        &mut self.tail
    }

    /// Queues a large frame without copying it.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.sealed_bytes += tail.len();
            self.sealed.push_back(Bytes::from(tail));
        }
        self.sealed_bytes += bytes.len();
        self.sealed.push_back(bytes);
    }

    /// Queues everything of `other` behind what is here.
    pub fn append(&mut self, mut other: Outbox, spare: &mut Spare) {
        while let Some(bytes) = other.sealed.pop_front() {
            self.push(bytes);
        }
        self.tail(spare).extend_from_slice(&other.tail);
        spare.give(other.tail);
    }

    /// Drops the first `count` bytes.
    pub fn drop_front(&mut self, mut count: usize) {
        while let Some(first) = self.sealed.front_mut() {
            let here = count.min(first.len());
            first.advance(here);
            self.sealed_bytes -= here;
            count -= here;
            if !first.is_empty() {
                return;
            }
            self.sealed.pop_front();
        }
        self.tail.drain(..count.min(self.tail.len()));
    }

    /// Cuts `count` bytes out, `skip` bytes from the front. Copies what it skips: for rare use and small
    /// skips.
    pub fn cut(&mut self, skip: usize, count: usize) {
        let mut head = Vec::with_capacity(skip);
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = self.slices(0, &mut slices);
        for slice in &slices[..filled] {
            head.extend_from_slice(&slice[..slice.len().min(skip - head.len())]);
        }
        self.drop_front(skip + count);
        if !head.is_empty() {
            self.sealed_bytes += head.len();
            self.sealed.push_front(Bytes::from(head));
        }
    }

    /// The queued bytes from `skip` on as slices for one vectored write, at most as many as `slices` holds;
    /// gives how many it filled.
    pub fn slices<'a>(&'a self, mut skip: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for piece in self.sealed.iter().map(|bytes| &bytes[..]).chain([&self.tail[..]]) {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            if filled == slices.len() {
                break;
            }
            slices[filled] = IoSlice::new(&piece[skip..]);
            filled += 1;
            skip = 0;
        }
        filled
    }

    /// The queued bytes from `skip` on, if they are in one piece: the usual case.
    pub fn single(&self, skip: usize) -> Option<&[u8]> {
        if self.sealed.is_empty() { Some(&self.tail[skip..]) } else { None }
    }

    /// Empties it and gives its room back.
    pub fn recycle(self, spare: &mut Spare) {
        spare.give(self.tail);
    }
}

/// Vectors that are not in use, kept to save allocations. Bounded in number and in size.
#[derive(Debug)]
pub struct Spare {
    vectors: Vec<Vec<u8>>,
    count_max: usize,
    capacity_max: usize,
}

/// Room that a fresh vector starts with, bytes: a few dozen small answers.
const FRESH_CAPACITY: usize = 1024;

impl Spare {
    /// Keeps at most `count_max` vectors of at most `capacity_max` bytes each.
    pub fn new(count_max: usize, capacity_max: usize) -> Self {
        Spare { vectors: Vec::new(), count_max, capacity_max }
    }

    /// An empty vector with room in it.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.vectors.pop().unwrap_or_else(|| Vec::with_capacity(FRESH_CAPACITY))
    }

    /// Takes a vector back; frees it if it is too large to keep or enough are kept.
    #[inline]
    pub fn give(&mut self, mut vector: Vec<u8>) {
        let capacity = vector.capacity();
        if capacity != 0 && capacity <= self.capacity_max && self.vectors.len() < self.count_max {
            vector.clear();
            self.vectors.push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(outbox: &Outbox, skip: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = outbox.slices(skip, &mut slices);
        slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    fn mixed(spare: &mut Spare) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.tail(spare).extend_from_slice(b"abc");
        outbox.push(Bytes::from_static(b"DEFG"));
        outbox.tail(spare).extend_from_slice(b"hi");
        outbox
    }

    #[test]
    fn keeps_the_order_of_small_and_large() {
        let mut spare = Spare::new(4, 4096);
        let outbox = mixed(&mut spare);
        assert_eq!(outbox.len(), 9);
        for skip in 0..=9 {
            assert_eq!(contents(&outbox, skip), b"abcDEFGhi"[skip..], "skip {skip}");
        }
    }

    #[test]
    fn nothing_moved_in_is_nothing() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::new());
        assert!(outbox.is_empty());
    }

    #[test]
    fn drops_from_the_front_across_pieces() {
        for count in 0..=9 {
            let mut spare = Spare::new(4, 4096);
            let mut outbox = mixed(&mut spare);
            outbox.drop_front(count);
            assert_eq!(outbox.len(), 9 - count);
            assert_eq!(contents(&outbox, 0), b"abcDEFGhi"[count..], "count {count}");
        }
    }

    #[test]
    fn cuts_from_the_middle() {
        for (skip, count) in [(0, 3), (2, 3), (1, 8), (3, 0), (9, 0)] {
            let mut spare = Spare::new(4, 4096);
            let mut outbox = mixed(&mut spare);
            outbox.cut(skip, count);
            let expected = [&b"abcDEFGhi"[..skip], &b"abcDEFGhi"[skip + count..]].concat();
            assert_eq!((contents(&outbox, 0), outbox.len()), (expected, 9 - count), "{skip} {count}");
        }
    }

    #[test]
    fn appends_another_outbox() {
        let mut spare = Spare::new(4, 4096);
        let mut first = mixed(&mut spare);
        let second = mixed(&mut spare);
        first.append(second, &mut spare);
        assert_eq!(contents(&first, 0), b"abcDEFGhiabcDEFGhi");
    }

    #[test]
    fn spare_keeps_no_more_than_it_may() {
        let mut spare = Spare::new(2, 4096);
        for _ in 0..3 {
            spare.give(Vec::with_capacity(100));
        }
        spare.give(Vec::with_capacity(5000));
        assert_eq!(spare.vectors.len(), 2);
    }
}
