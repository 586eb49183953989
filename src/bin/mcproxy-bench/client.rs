//! One connection: what was sent and waits for its answer, what is still to be written, what was read in
//! part.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use crate::inbox::{Inbox, READ_BYTES};
use crate::requests::{Asked, Op, Source};
use crate::tally::Tally;
use crate::target::Socket;
use crate::trouble::{Trouble, WrongReply};
use crate::wire::{Reading, Step, Wire};

/// What the clients of a lane share.
pub(crate) struct Shared {
    pub(crate) wire: Wire,
    pub(crate) source: Source,
    pub(crate) tally: Tally,
    /// Where reads go as long as replies come whole: one place, which stays in the processor's cache.
    pub(crate) scratch: Box<[u8]>,
    /// The start of the run.
    pub(crate) epoch: Instant,
    /// Nanoseconds since the epoch, as of the last look at the clock.
    pub(crate) now: u64,
    /// Requests in flight, over the lane's clients.
    pub(crate) in_flight: usize,
    /// Of the last write composed.
    pub(crate) version: u64,
}

/// One connection.
pub(crate) struct Client {
    /// Over all lanes.
    number: u32,
    socket: Socket,
    in_flight: VecDeque<Asked>,
    /// In the reply to the first of those in flight.
    reading: Reading,
    inbox: Inbox,
    /// Composed and not written.
    unsent: Vec<u8>,
    opaque: u32,
}

impl Shared {
    /// Looks at the clock.
    #[inline]
    pub(crate) fn look(&mut self) -> u64 {
        self.now = self.epoch.elapsed().as_nanos() as u64;
        self.now
    }
}

impl Client {
    pub(crate) fn new(number: u32, socket: Socket) -> Self {
        Client {
            number,
            socket,
            in_flight: VecDeque::new(),
            reading: Reading::default(),
            inbox: Inbox::default(),
            unsent: Vec::new(),
            opaque: 0,
        }
    }

    /// Requests that wait for their answers.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The one that waits longest.
    pub(crate) fn oldest(&self) -> Option<&Asked> {
        self.in_flight.front()
    }

    /// Composes the next operation, whose latency counts from `at`. True if nothing waited to be written
    /// before.
    #[inline]
    pub(crate) fn ask(&mut self, shared: &mut Shared, at: u64) -> bool {
        let (op, subject) = shared.source.next();
        let asked = Asked { at, subject, opaque: self.opaque, op };
        self.opaque = self.opaque.wrapping_add(shared.wire.opaques(op));
        shared.version += u64::from(op == Op::Set);
        let was_empty = self.unsent.is_empty();
        shared.wire.put(&asked, self.number, shared.version, &mut self.unsent);
        self.in_flight.push_back(asked);
        shared.in_flight += 1;
        was_empty
    }

    /// Writes what was composed, in one call; what the kernel does not take waits.
    #[inline]
    pub(crate) fn flush(&mut self, shared: &mut Shared) -> Result<(), Trouble> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match self.socket.write(&self.unsent) {
            Ok(count) => {
                shared.tally.sent += count as u64;
                if count == self.unsent.len() {
                    self.unsent.clear();
                } else {
                    self.unsent.drain(..count);
                    return self.flush(shared);
                }
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Reads what is there and checks it; gives the number of operations answered. Unless `to_the_end`, a
    /// read that leaves room ends it: the socket is empty, and what comes later is an event of its own.
    pub(crate) fn receive(&mut self, shared: &mut Shared, to_the_end: bool) -> Result<usize, Trouble> {
        let before = self.in_flight.len();
        loop {
            let read = if self.inbox.has_bytes() || shared.wire.is_large() {
                self.inbox.read_from(&mut self.socket, shared.wire.frame_max())
            } else {
                self.socket.read(&mut shared.scratch).map(|count| (count, READ_BYTES))
            };
            let (count, room) = match read {
                Ok((0, _)) => return Err(self.closed()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.lost(error)),
            };
            shared.look();
            shared.tally.received += count as u64;
            self.check(shared, count)?;
            if count < room && !to_the_end {
                break;
            }
        }
        Ok(before - self.in_flight.len())
    }

    /// Checks what the last read brought: `count` bytes, into the inbox if it has any, else into the scratch
    /// buffer.
    fn check(&mut self, shared: &mut Shared, count: usize) -> Result<(), Trouble> {
        if self.inbox.has_bytes() {
            let inbox = std::mem::take(&mut self.inbox);
            let taken = self.replies(shared, inbox.bytes());
            self.inbox = inbox;
            self.inbox.take(taken?);
            return Ok(());
        }
        let scratch = std::mem::take(&mut shared.scratch);
        let taken = self.replies(shared, &scratch[..count]);
        if let Ok(taken) = taken
            && taken < count
        {
            self.inbox.put(&scratch[taken..count], shared.wire.frame_max());
        }
        shared.scratch = scratch;
        taken.map(drop)
    }

    /// Takes whole replies from the start of `input`; gives the bytes they had.
    fn replies(&mut self, shared: &mut Shared, input: &[u8]) -> Result<usize, Trouble> {
        let mut taken = 0;
        while taken < input.len() {
            let Some(asked) = self.in_flight.front() else {
                return Err(self.wrong(shared, "bytes that nothing asked for", &input[taken..]));
            };
            let step = shared.wire.take(asked, &mut self.reading, &mut shared.tally, &input[taken..]);
            match step {
                Ok(Step::More) => break,
                Ok(Step::Part(length)) => taken += length,
                Ok(Step::Done(length)) => {
                    taken += length;
                    shared.tally.answered(asked.op, shared.now.saturating_sub(asked.at));
                    shared.in_flight -= 1;
                    self.in_flight.pop_front();
                }
                Err(what) => return Err(self.wrong(shared, what, &input[taken..])),
            }
        }
        Ok(taken)
    }

    #[cold]
    fn wrong(&self, shared: &Shared, what: &'static str, bytes: &[u8]) -> Trouble {
        let request = self.in_flight.front().map(|asked| shared.wire.shown(asked)).unwrap_or_default();
        let (client, key, bytes) = (self.number, self.reading.key, bytes.to_vec());
        Trouble::WrongReply(Box::new(WrongReply { client, what, request, key, bytes }))
    }

    #[cold]
    fn closed(&self) -> Trouble {
        Trouble::Closed { client: self.number, in_flight: self.in_flight.len() }
    }

    #[cold]
    fn lost(&self, error: std::io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.closed(),
            _ => Trouble::System { what: format!("connection {}", self.number), error },
        }
    }
}
