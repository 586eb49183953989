//! Bytes of a reply that has not come whole.

use std::io::{self, Read};

/// Bytes that one read may take.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Received and not yet taken. It has no buffer until it is first used.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Something is in it.
    #[inline]
    pub(crate) fn has_bytes(&self) -> bool {
        self.start < self.end
    }

    /// What is in it.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops the first `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Puts in what was read elsewhere; nothing is in it yet. `frame` is the most bytes that must be
    /// together.
    pub(crate) fn put(&mut self, bytes: &[u8], frame: usize) {
        self.make_room(frame.max(bytes.len()));
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// One read; gives the bytes read and how many could have been.
    pub(crate) fn read_from(&mut self, socket: &mut impl Read, frame: usize) -> io::Result<(usize, usize)> {
        self.make_room(frame);
        let space = &mut self.bytes[self.end..];
        let room = space.len();
        let count = socket.read(space)?;
        self.end += count;
        Ok((count, room))
    }

    /// Room for a read, and for a frame in one piece.
    fn make_room(&mut self, frame: usize) {
        if self.bytes.len() < frame + READ_BYTES {
            self.bytes.resize(frame + READ_BYTES, 0);
        }
        // Less than a frame is in it, so behind its start there is room for more than a read once it is
        // moved.
        if self.bytes.len() - self.end < READ_BYTES && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order_through_moves() {
        let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        let (mut source, mut inbox, mut taken) = (&sent[..], Inbox::default(), Vec::new());
        let mut round = 0;
        while !source.is_empty() || inbox.has_bytes() {
            inbox.read_from(&mut source, 1000).expect("a slice");
            // What is left is less than a frame, as after parsing.
            let keep = if source.is_empty() { 0 } else { round % 1000 };
            let take = inbox.bytes().len() - keep.min(inbox.bytes().len());
            taken.extend_from_slice(&inbox.bytes()[..take]);
            inbox.take(take);
            round += 1;
        }
        assert_eq!(taken, sent);
    }
}
