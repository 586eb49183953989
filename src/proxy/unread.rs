//! What a client has sent and what is no whole request yet.

/// A line that has so many bytes is gathered in pieces of as many. One buffer that doubles copies all that it
/// holds into memory that the kernel has to clear first: where sixty clients sent lines without end, all grew
/// at the same time, and the slowest answer to somebody else took 474 ms.
pub(super) const LONG_LINE: usize = 256 << 10;

/// Bytes received and not parsed: an unfinished frame, or what waits while the client is stalled.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    /// What follows them, of a long line.
    pieces: Option<Box<Pieces>>,
}

/// Each but the last is full.
#[derive(Debug, Default)]
struct Pieces {
    list: Vec<Vec<u8>>,
    len: usize,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.pieces.as_ref().map_or(0, |pieces| pieces.len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of memory.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.pieces.as_ref().map_or(0, |pieces| pieces.list.len() * LONG_LINE)
    }

    /// The first of them, which are all but for a long line.
    pub(super) fn front(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer they are in, unless they are a long line's.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.pieces.is_none(), "the end of a long line is elsewhere");
        &mut self.bytes
    }

    /// They are the beginning of a long line: what follows is gathered in pieces.
    #[cold]
    pub(super) fn begin_long_line(&mut self) {
        self.pieces = Some(Box::default());
    }

    /// Whether they are gathered in pieces.
    pub(super) fn is_long_line(&self) -> bool {
        self.pieces.is_some()
    }

    /// Adds to a long line.
    pub(super) fn extend_long_line(&mut self, mut more: &[u8]) {
        let Some(pieces) = &mut self.pieces else { return self.bytes.extend_from_slice(more) };
        pieces.len += more.len();
        while !more.is_empty() {
            if pieces.list.last().is_none_or(|piece| piece.len() == LONG_LINE) {
                pieces.list.push(Vec::with_capacity(LONG_LINE));
            }
            let Some(piece) = pieces.list.last_mut() else { return };
            let (now, later) = more.split_at((LONG_LINE - piece.len()).min(more.len()));
            piece.extend_from_slice(now);
            more = later;
        }
    }

    /// All of them in one buffer; none are left.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        if let Some(pieces) = self.pieces.take() {
            bytes.reserve_exact(pieces.len);
            // Each is freed before the next is copied.
            for piece in pieces.list {
                bytes.extend_from_slice(&piece);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As one buffer would do it, whatever the sizes of what comes.
    #[test]
    fn a_long_line_is_the_same_in_pieces() {
        for step in [1_000, LONG_LINE - 1, LONG_LINE, LONG_LINE + 1, 3 * LONG_LINE] {
            let sent: Vec<u8> = (0..5 * LONG_LINE + 17).map(|at| (at % 251) as u8).collect();
            let mut unread = Unread::default();
            for part in sent.chunks(step) {
                unread.extend_long_line(part);
                if unread.len() >= LONG_LINE && !unread.is_long_line() {
                    unread.begin_long_line();
                }
            }
            assert!(unread.is_long_line() && unread.front().len() < step + LONG_LINE, "step {step}");
            assert!(unread.capacity() < 2 * sent.len() + step, "step {step}: {}", unread.capacity());
            assert_eq!(unread.len(), sent.len(), "step {step}");
            assert!(unread.take() == sent, "step {step}");
            assert_eq!((unread.len(), unread.capacity(), unread.is_long_line()), (0, 0, false));
        }
    }
}
