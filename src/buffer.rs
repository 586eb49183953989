//! Buffers that are given and returned: what waits to be written to one socket, and the spare room that
//! such things are made of.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes queued for one socket, in order. Small frames are copied together; large ones are moved in. One
/// pointer wide, so that it is cheap to hand over, and without memory of its own while it is empty.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: Option<Box<Pieces>>,
}

/// What an outbox holds.
#[derive(Debug, Default)]
pub struct Pieces {
    /// What comes first. Empty unless something large was moved in.
    sealed: VecDeque<Bytes>,
    sealed_bytes: usize,
    /// What comes last, still growing.
    tail: Vec<u8>,
}

/// Spare room for outboxes.
pub type Spare = Pool<Pieces>;

impl Outbox {
    /// Bytes queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.pieces.as_ref().map_or(0, |pieces| pieces.sealed_bytes + pieces.tail.len())
    }

    /// Nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The growing end, to write small frames to. Takes room from `spare` if it has none.
    #[inline]
    pub fn tail(&mut self, spare: &mut Spare) -> &mut Vec<u8> {
        &mut self.pieces.get_or_insert_with(|| spare.take()).tail
    }

    /// Queues a large frame without copying it.
    pub fn push(&mut self, bytes: Bytes, spare: &mut Spare) {
        if bytes.is_empty() {
            return;
        }
        let pieces = self.pieces.get_or_insert_with(|| spare.take());
        pieces.seal();
        pieces.sealed_bytes += bytes.len();
        pieces.sealed.push_back(bytes);
    }

    /// Queues everything of `other` behind what is here.
    pub fn append(&mut self, other: Outbox, spare: &mut Spare) {
        let Some(mut pieces) = other.pieces else { return };
        if self.is_empty() {
            let empty = std::mem::replace(self, Outbox { pieces: Some(pieces) });
            return empty.recycle(spare);
        }
        while let Some(bytes) = pieces.sealed.pop_front() {
            self.push(bytes, spare);
        }
        self.tail(spare).extend_from_slice(&pieces.tail);
        spare.give(pieces);
    }

    /// Drops the first `count` bytes.
    pub fn drop_front(&mut self, mut count: usize) {
        let Some(pieces) = &mut self.pieces else { return };
        while let Some(first) = pieces.sealed.front_mut() {
            let here = count.min(first.len());
            first.advance(here);
            pieces.sealed_bytes -= here;
            count -= here;
            if !first.is_empty() {
                return;
            }
            pieces.sealed.pop_front();
        }
        pieces.tail.drain(..count.min(pieces.tail.len()));
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
        if let Some(pieces) = &mut self.pieces
            && !head.is_empty()
        {
            pieces.sealed_bytes += head.len();
            pieces.sealed.push_front(Bytes::from(head));
        }
    }

    /// The queued bytes from `skip` on as slices for one vectored write, at most as many as `slices` holds;
    /// gives how many it filled.
    pub fn slices<'a>(&'a self, mut skip: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(pieces) = &self.pieces else { return 0 };
        let mut filled = 0;
        for piece in pieces.sealed.iter().map(|bytes| &bytes[..]).chain([&pieces.tail[..]]) {
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
    #[inline]
    pub fn single(&self, skip: usize) -> Option<&[u8]> {
        match &self.pieces {
            None => Some(&[]),
            Some(pieces) if pieces.sealed.is_empty() => Some(&pieces.tail[skip..]),
            Some(_) => None,
        }
    }

    /// Takes the room of `used`, whose bytes are not wanted any more, if it has none itself and that is at
    /// most `bytes_max` bytes; else that goes to `spare`.
    pub fn reuse(&mut self, used: Outbox, bytes_max: usize, spare: &mut Spare) {
        match used.pieces {
            Some(mut pieces) if self.pieces.is_none() && pieces.bytes() <= bytes_max => {
                pieces.clear();
                self.pieces = Some(pieces);
            }
            pieces => Outbox { pieces }.recycle(spare),
        }
    }

    /// Empties it and gives its room back.
    #[inline]
    pub fn recycle(self, spare: &mut Spare) {
        if let Some(pieces) = self.pieces {
            spare.give(pieces);
        }
    }
}

impl Pieces {
    /// What was growing is followed by something else.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed_bytes += self.tail.len();
            self.sealed.push_back(Bytes::from(std::mem::take(&mut self.tail)));
        }
    }
}

impl Recycle for Pieces {
    fn fresh() -> Self {
        // A few dozen small answers.
        Pieces { tail: Vec::with_capacity(1024), ..Pieces::default() }
    }

    #[inline]
    fn clear(&mut self) {
        if !self.sealed.is_empty() {
            self.sealed.clear();
        }
        self.sealed_bytes = 0;
        self.tail.clear();
    }

    #[inline]
    fn bytes(&self) -> usize {
        // One whose bytes were all moved out still is a little something.
        self.tail.capacity() + size_of::<Self>()
    }
}

/// Something that is used again, with the memory that it has.
pub trait Recycle {
    /// A new one, with the room that it will want.
    fn fresh() -> Self;
    /// Empties it; keeps its room.
    fn clear(&mut self);
    /// Bytes that it keeps from others while it waits to be used again.
    fn bytes(&self) -> usize;
}

/// Things of which a pool can keep track without memory of its own being moved.
const KEPT: usize = 256;

/// What is not in use, kept to save allocations. Bounded in bytes.
pub struct Pool<T> {
    kept: Vec<Box<T>>,
    /// Bytes of what is kept, and most of them.
    bytes: usize,
    bytes_max: usize,
    /// Something larger than this is not kept.
    each_max: usize,
}

impl<T: Recycle> Pool<T> {
    /// Keeps at most `bytes_max` bytes, in things of at most `each_max` bytes.
    pub fn new(bytes_max: usize, each_max: usize) -> Self {
        Pool { kept: Vec::with_capacity(KEPT), bytes: 0, bytes_max, each_max }
    }

    /// An empty one.
    #[inline]
    pub fn take(&mut self) -> Box<T> {
        match self.kept.pop() {
            Some(kept) => {
                self.bytes -= kept.bytes();
                kept
            }
            None => Box::new(T::fresh()),
        }
    }

    /// Takes one back; frees it if it is too large to keep or enough is kept.
    #[inline]
    pub fn give(&mut self, mut used: Box<T>) {
        let bytes = used.bytes();
        if bytes <= self.each_max && self.bytes + bytes <= self.bytes_max {
            used.clear();
            self.bytes += bytes;
            self.kept.push(used);
        }
    }
}

impl<T> std::fmt::Debug for Pool<T> {
    /// Without what is kept: nobody uses it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("kept", &self.kept.len()).field("bytes", &self.bytes).finish()
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
        outbox.push(Bytes::from_static(b"DEFG"), spare);
        outbox.tail(spare).extend_from_slice(b"hi");
        outbox
    }

    #[test]
    fn keeps_the_order_of_small_and_large() {
        let mut spare = Spare::new(4 * 4096, 4096);
        let outbox = mixed(&mut spare);
        assert_eq!(outbox.len(), 9);
        for skip in 0..=9 {
            assert_eq!(contents(&outbox, skip), b"abcDEFGhi"[skip..], "skip {skip}");
        }
    }

    #[test]
    fn nothing_moved_in_is_nothing() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::new(), &mut Spare::new(4096, 4096));
        assert!(outbox.is_empty());
    }

    #[test]
    fn drops_from_the_front_across_pieces() {
        for count in 0..=9 {
            let mut spare = Spare::new(4 * 4096, 4096);
            let mut outbox = mixed(&mut spare);
            outbox.drop_front(count);
            assert_eq!(outbox.len(), 9 - count);
            assert_eq!(contents(&outbox, 0), b"abcDEFGhi"[count..], "count {count}");
        }
    }

    #[test]
    fn cuts_from_the_middle() {
        for (skip, count) in [(0, 3), (2, 3), (1, 8), (3, 0), (9, 0)] {
            let mut spare = Spare::new(4 * 4096, 4096);
            let mut outbox = mixed(&mut spare);
            outbox.cut(skip, count);
            let expected = [&b"abcDEFGhi"[..skip], &b"abcDEFGhi"[skip + count..]].concat();
            assert_eq!((contents(&outbox, 0), outbox.len()), (expected, 9 - count), "{skip} {count}");
        }
    }

    #[test]
    fn appends_another_outbox() {
        let mut spare = Spare::new(4 * 4096, 4096);
        let mut first = mixed(&mut spare);
        let second = mixed(&mut spare);
        first.append(second, &mut spare);
        assert_eq!(contents(&first, 0), b"abcDEFGhiabcDEFGhi");
    }

    #[test]
    fn takes_the_room_of_another_if_it_has_none() {
        let mut spare = Spare::new(1 << 16, 4096);
        let mut outbox = Outbox::default();
        outbox.reuse(mixed(&mut spare), 4096, &mut spare);
        assert_eq!((outbox.len(), spare.kept.len(), outbox.pieces.is_some()), (0, 0, true));
        outbox.reuse(mixed(&mut spare), 4096, &mut spare);
        assert_eq!((outbox.len(), spare.kept.len()), (0, 1));
        let mut other = Outbox::default();
        other.reuse(mixed(&mut spare), 10, &mut spare);
        assert_eq!((other.pieces.is_none(), spare.kept.len()), (true, 1));
    }

    #[test]
    fn what_is_used_again_is_empty() {
        let mut spare = Spare::new(1 << 16, 4096);
        let (mut first, second) = (mixed(&mut spare), mixed(&mut spare));
        first.append(second, &mut spare);
        first.recycle(&mut spare);
        for _ in 0..3 {
            let mut outbox = Outbox::default();
            outbox.tail(&mut spare).push(b'x');
            assert_eq!((outbox.len(), contents(&outbox, 0)), (1, b"x".to_vec()));
            outbox.push(Bytes::from_static(b"y"), &mut spare);
        }
    }

    #[test]
    fn appends_to_an_empty_outbox_without_copying() {
        let mut spare = Spare::new(4 * 4096, 4096);
        let (mut first, mut second) = (Outbox::default(), Outbox::default());
        second.tail(&mut spare).extend_from_slice(b"abc");
        let place = second.single(0).map(<[u8]>::as_ptr);
        first.append(second, &mut spare);
        assert_eq!((first.single(0), first.single(0).map(<[u8]>::as_ptr)), (Some(&b"abc"[..]), place));
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_may() {
        let mut spare = Spare::new(5000, 4096);
        let with_room = |room| Box::new(Pieces { tail: Vec::with_capacity(room), ..Pieces::default() });
        for room in [2000, 2000, 2000, 4097] {
            spare.give(with_room(room));
        }
        let each = 2000 + size_of::<Pieces>();
        assert_eq!((spare.kept.len(), spare.bytes), (2, 2 * each));
        assert_eq!(spare.take().bytes(), each);
        assert_eq!((spare.kept.len(), spare.bytes), (1, each));
    }
}
