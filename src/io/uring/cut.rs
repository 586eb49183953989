//! First parts of bursts: after 32 buffers of one connection the kernel lets the others have their turn, and
//! goes on in the next tick. What was sent at once is to be seen at once, so such a part waits here for the
//! rest.

use crate::io::ConnId;

/// What was received and is not handed on yet.
#[derive(Default)]
pub(super) struct CutBursts {
    parts: Vec<Part>,
}

struct Part {
    id: ConnId,
    bytes: Vec<u8>,
    tick: u32,
}

impl CutBursts {
    /// Nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes the part of this connection.
    pub(super) fn take(&mut self, id: ConnId) -> Option<Vec<u8>> {
        let place = self.parts.iter().position(|part| part.id == id)?;
        Some(self.parts.swap_remove(place).bytes)
    }

    /// Keeps what was received of a connection in `tick`. Nothing of it may be here.
    pub(super) fn keep(&mut self, id: ConnId, bytes: &[u8], tick: u32) {
        debug_assert!(self.parts.iter().all(|part| part.id != id), "a burst has one first part");
        self.parts.push(Part { id, bytes: bytes.to_vec(), tick });
    }

    /// Gives `each` what was received before `tick`, and of which nothing more has come.
    pub(super) fn release(&mut self, tick: u32, mut each: impl FnMut(ConnId, &[u8])) {
        self.parts.retain(|part| {
            if part.tick != tick {
                each(part.id, &part.bytes);
            }
            part.tick == tick
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_waits_for_one_tick() {
        let (one, other) = (ConnId::client(1, 0), ConnId::link(1, 0));
        let mut cut = CutBursts::default();
        cut.keep(one, b"first", 7);
        cut.keep(other, b"second", 8);
        let mut told = Vec::new();
        cut.release(8, |id, bytes| told.push((id, bytes.to_vec())));
        assert_eq!(told, [(one, b"first".to_vec())]);
        assert_eq!((cut.take(one), cut.take(other)), (None, Some(b"second".to_vec())));
        assert!(cut.is_empty());
    }
}
