//! One client: what it has sent that is not whole yet, and what it is still owed.
//!
//! ```text
//!            first byte                  quit, EOF, bad bytes, drain
//!  Unknown ------------> Text | Binary -------------------------------> ending
//!                          |    ^                                          |
//!            too much owed v    | drained                 last slot filled and written
//!                         stalled                                          v
//!                                                                       closed
//! ```

use bytes::Bytes;

use crate::buffer::Outbox;
use crate::io::{Action, ConnId};
use crate::limits::{GROWTH_BYTES, Limits};
use crate::protocol::binary::{self, REQUEST_MAGIC};
use crate::protocol::text::{self, Partial, Step};
use crate::time::Time;

use super::Proxy;
use super::replies::{Answer, First, Slots};
use super::unread::{LONG_LINE, Unread};

/// The protocol a client speaks, told by its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// It has sent nothing.
    #[default]
    Unknown,
    /// Classic text and meta.
    Text,
    /// Binary.
    Binary,
}

/// A client's state.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) protocol: Protocol,
    pub(super) unread: Unread,
    pub(super) progress: Progress,
    /// Bytes of a refused value still to be dropped, and what to answer then.
    pub(super) swallow: Option<Box<Swallow>>,
    pub(super) slots: Slots,
    pub(super) outbox: Outbox,
    /// Bytes handed to the driver and not given back.
    pub(super) sending: usize,
    /// Bytes of answers that it has not taken: in the outbox, with the driver, or awaiting their turn.
    pub(super) owed: usize,
    /// What it is charged for of the process's memory, bytes, and what its multi-key reads hold.
    pub(super) charged: usize,
    pub(super) reading: usize,
    /// Bytes of an answer to it: large ones count at once, small ones little by little.
    pub(super) answer_bytes: usize,
    /// When it last sent or took something.
    pub(super) moved: Time,
    /// When the first bytes of what it has not sent whole came.
    pub(super) began: Time,
    /// The tick in which requests were last read from it.
    pub(super) last_run: u32,
    pub(super) dirty: bool,
    /// Its requests wait until it has taken some of what it is owed.
    pub(super) stalled: bool,
    /// The slot of its multi-key read of which windows are still to be asked for: what it asks next must not
    /// overtake them.
    pub(super) windowed: Option<u32>,
    /// Its next request waits for a change of owners.
    pub(super) held: bool,
    /// The driver was asked not to read.
    pub(super) paused: bool,
    /// It sends no more, which is seen to when it is not stalled any more.
    pub(super) eof: bool,
    /// It is gone, and what it had sent is carried out without regard to what it is owed.
    pub(super) gone: bool,
    /// Its answer could not be finished: it is closed when what is in the outbox is written.
    pub(super) cut: bool,
    /// No more requests are taken; it is closed when everything owed is written.
    pub(super) ending: bool,
    /// The driver was asked to close it.
    pub(super) closed: bool,
}

/// How far the first frame of a client's unread bytes is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes known to hold no line end.
    pub(super) scanned: usize,
    /// Bytes that must be there before parsing again makes sense.
    pub(super) needed: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { scanned: 0, needed: 1 }
    }
}

impl From<Partial> for Progress {
    fn from(partial: Partial) -> Self {
        match partial {
            Partial::Line { scanned } => Progress { scanned, needed: scanned + 1 },
            Partial::Value { total } => Progress { scanned: 0, needed: total },
        }
    }
}

/// A refused value on its way in.
#[derive(Debug)]
pub(super) struct Swallow {
    /// Bytes still to be dropped.
    pub(super) left: u64,
    /// What is due when they have been.
    pub(super) then: Refused,
}

/// What is due for a refused request.
#[derive(Debug)]
pub(super) struct Refused {
    /// The answer, ready to be sent.
    pub(super) answer: Vec<u8>,
    /// The key whose item must go first.
    pub(super) unlink: Option<Unlink>,
    /// The connection ends with it.
    pub(super) close: bool,
}

/// A key whose item memcached removes because its new value could not be taken.
#[derive(Debug)]
pub(super) struct Unlink {
    /// As written.
    pub(super) key: Box<[u8]>,
    /// It is written in base64.
    pub(super) base64: bool,
}

impl Client {
    /// Its next bytes are not simply its next request.
    #[inline]
    fn is_held_up(&self) -> bool {
        self.ending || self.windowed.is_some() || self.swallow.is_some() || self.gone
    }

    /// An answer of so many bytes is its.
    #[inline]
    fn note_answer(&mut self, bytes: usize, now: Time) {
        if self.owed == 0 {
            // Who only waited for a backend did not stand still: there was nothing to take.
            self.moved = now;
        }
        self.owed += bytes;
        let before = self.answer_bytes;
        self.answer_bytes = if bytes >= before { bytes } else { before - (before - bytes).div_ceil(8) };
    }

    /// It waits for so many answers, or has so much to take, that it must not ask for more.
    #[inline]
    fn has_enough(&self, limits: &Limits) -> bool {
        let waiting = self.slots.len();
        let several = waiting > 3 || waiting >= limits.client_requests_max;
        self.owed > limits.client_unread_max || (several && waiting >= self.requests_max(limits))
    }

    /// So little that it may go on asking.
    fn has_little(&self, limits: &Limits) -> bool {
        let waiting = self.slots.len();
        self.owed <= limits.client_unread_max / 2 && waiting <= self.requests_max(limits) / 2
    }

    /// Requests that may await their answers: as many as are sure not to bring more than it may leave
    /// unread, as far as that can be known.
    fn requests_max(&self, limits: &Limits) -> usize {
        let answered = self.slots.answered() as usize;
        let fitting = (limits.client_unread_max / self.answer_bytes.max(1)).max(4);
        limits.client_requests_max.min(limits.client_requests_first + answered).min(fitting)
    }

    /// Bytes that it holds.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.unread.capacity() + self.owed
    }

    /// Everything that was asked has been answered and written.
    pub(super) fn is_settled(&self) -> bool {
        (self.slots.len() == 0 || self.cut) && self.outbox.is_empty() && self.sending == 0
    }
}

/// How parsing went on.
pub(super) enum Taken {
    /// A frame of so many bytes was dealt with.
    Frame(usize),
    /// No whole frame is there.
    Partial(Progress),
    /// The connection takes no more requests.
    Ended,
}

impl Proxy {
    pub(super) fn accept_client(&mut self) -> ConnId {
        // What others get says something about what it will get.
        let client = Client { moved: self.now, answer_bytes: self.value_bytes, ..Client::default() };
        let (index, generation) = self.clients.insert(Box::new(client));
        self.counters.curr_connections += 1;
        self.counters.total_connections += 1;
        let conn = ConnId::client(index, generation);
        if self.draining.is_some() {
            self.end_client(conn);
        }
        conn
    }

    pub(super) fn receive_from_client(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
        if client.ending {
            return;
        }
        self.counters.bytes_read += bytes.len() as u64;
        client.moved = self.now;
        if client.unread.is_empty() && !client.stalled {
            self.run.begin(conn, client, self.tick);
            self.take_frames(conn, bytes, None);
        } else {
            self.take_client_bytes(conn, bytes);
            self.charge_client(conn);
            // One tick may bring more than there is room for.
            self.settle_memory();
        }
    }

    /// The client sends no more: what it has asked for whole is still answered, then the connection ends.
    pub(super) fn end_client(&mut self, conn: ConnId) {
        let Some(client) = self.client(conn) else { return };
        if client.stalled {
            client.eof = true;
            return;
        }
        client.ending = true;
        client.unread = Unread::default();
        client.swallow = None;
        self.touch_client(conn);
    }

    /// The connection is broken: what it has asked for is carried out, the answers are dropped.
    pub(super) fn drop_client(&mut self, conn: ConnId) {
        let Some(client) = self.client(conn) else { return };
        if std::mem::take(&mut client.stalled) {
            client.gone = true;
            let unread = client.unread.take();
            self.take_client_bytes(conn, &unread);
        }
        self.close_client(conn);
    }

    /// Answers a slot of a client; if the client is gone, only the answer is dropped.
    pub(super) fn answer(&mut self, conn: ConnId, slot: u32, answer: Answer<'_>) {
        match answer.moved {
            None => self.answer_with(conn, slot, |bytes| answer.copy_to(bytes)),
            Some(_) => self.answer_moved(conn, slot, answer),
        }
    }

    #[inline(never)]
    pub(super) fn answer_moved(&mut self, conn: ConnId, slot: u32, answer: Answer<'_>) {
        let mut pieces = Outbox::default();
        answer.append_to(&mut pieces, &mut self.room.spare);
        self.answer_pieces(conn, slot, pieces);
    }

    /// As [`Self::answer`], of several pieces.
    pub(super) fn answer_pieces(&mut self, conn: ConnId, slot: u32, answer: Outbox) {
        let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
        if client.closed || client.cut {
            return;
        }
        let bytes = client.slots.fill_pieces(slot, answer, &mut client.outbox, &mut self.room);
        client.note_answer(bytes, self.now);
        if let First::Streaming(fanout) = client.slots.first() {
            self.parked.push(fanout);
        }
        self.touch_client(conn);
    }

    /// As [`Self::answer`], with what `write` appends.
    #[inline]
    pub(super) fn answer_with(&mut self, conn: ConnId, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
        if client.closed || client.cut {
            return;
        }
        let bytes = client.slots.fill_with(slot, &mut client.outbox, &mut self.room, write);
        client.note_answer(bytes, self.now);
        if let First::Streaming(fanout) = client.slots.first() {
            self.parked.push(fanout);
        }
        if !client.dirty {
            client.dirty = true;
            self.dirty_clients.push(conn);
        }
    }

    /// Reserves the next slot of a client that is there.
    pub(super) fn reserve_slot(&mut self, conn: ConnId) -> u32 {
        self.client(conn).expect("the client whose request this is").slots.reserve()
    }

    /// Reserves a slot and answers it at once.
    pub(super) fn answer_now(&mut self, conn: ConnId, answer: &[u8]) {
        let slot = self.reserve_slot(conn);
        self.answer(conn, slot, Answer::copied(answer));
    }

    /// Answers a refused request, once its value has been dropped.
    pub(super) fn refuse(&mut self, conn: ConnId, swallow: u64, then: Refused) {
        self.counters.refused_requests += 1;
        if swallow == 0 {
            self.answer_refused(conn, then);
        } else if let Some(client) = self.client(conn) {
            client.swallow = Some(Box::new(Swallow { left: swallow, then }));
        }
    }

    pub(super) fn sent_to_client(&mut self, conn: ConnId, buffer: Outbox, written: usize) {
        self.counters.bytes_written += written as u64;
        buffer.recycle(&mut self.room.spare);
        let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
        client.owed -= std::mem::take(&mut client.sending);
        client.moved = self.now;
        self.memory.charge(client.bytes(), &mut client.charged);
        let streaming = client.slots.first();
        if client.stalled || client.ending || !client.outbox.is_empty() {
            self.touch_client(conn);
        }
        if let First::Streaming(fanout) = streaming {
            self.parked.push(fanout);
        }
    }

    /// A client takes its answers, though slowly: it does not stand still.
    #[cold]
    pub(super) fn client_takes(&mut self, conn: ConnId) {
        let now = self.now;
        if let Some(client) = self.client(conn) {
            client.moved = now;
        }
    }

    pub(super) fn forget_client(&mut self, conn: ConnId) {
        if let Some(mut client) = self.clients.remove(conn.index(), conn.generation()) {
            self.counters.curr_connections -= 1;
            self.memory.charge(0, &mut client.charged);
            client.outbox.recycle(&mut self.room.spare);
        }
    }

    /// The client is looked at when this tick ends.
    pub(super) fn touch_client(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
        if !client.dirty {
            client.dirty = true;
            self.dirty_clients.push(conn);
        }
    }

    /// Clients that had too much outstanding go on, if they have not any more.
    pub(super) fn resume_stalled(&mut self) {
        while let Some(conn) = self.stalled.pop() {
            let Some(client) = self.client(conn) else { continue };
            if client.closed || !client.stalled {
                continue;
            }
            client.stalled = false;
            let unread = client.unread.take();
            self.take_client_bytes(conn, &unread);
            let Some(client) = self.client(conn) else { continue };
            if client.stalled {
                continue;
            }
            let eof = client.eof;
            if std::mem::take(&mut client.paused) {
                self.actions.push_back(Action::ResumeRead(conn));
            }
            if eof {
                self.end_client(conn);
            }
            self.touch_client(conn);
        }
    }

    /// The clients that have been touched are looked at from now on, one after the other.
    pub(super) fn begin_flush_of_clients(&mut self) {
        debug_assert!(self.flushed == self.flushing.len(), "the flush before has come to its end");
        self.flushing.clear();
        std::mem::swap(&mut self.flushing, &mut self.dirty_clients);
        self.flushed = 0;
    }

    /// One write for a client that has an answer; closes one that is owed nothing more.
    #[inline]
    pub(super) fn flush_client(&mut self, conn: ConnId) -> Option<Action> {
        let client = self.clients.get_mut(conn.index(), conn.generation())?;
        client.dirty = false;
        if client.closed {
            return None;
        }
        self.memory.charge(client.bytes(), &mut client.charged);
        let mut send = None;
        if client.sending == 0 && !client.outbox.is_empty() {
            let buffer = std::mem::take(&mut client.outbox);
            client.sending = buffer.len();
            send = Some(Action::Send { conn, buffer });
        }
        let limits = &self.settings.limits;
        if client.stalled && !client.held && client.windowed.is_none() && client.has_little(limits) {
            self.stalled.push(conn);
        } else if client.ending && !client.stalled && client.is_settled() {
            self.close_client(conn);
        }
        send
    }

    pub(super) fn close_client(&mut self, conn: ConnId) {
        let Some(client) = self.client(conn) else { return };
        if !std::mem::replace(&mut client.closed, true) {
            client.ending = true;
            client.unread = Unread::default();
            client.owed = client.sending;
            let outbox = std::mem::take(&mut client.outbox);
            let streams = client.slots.drop_all();
            outbox.recycle(&mut self.room.spare);
            self.parked.extend(streams);
            self.actions.push_back(Action::Close(conn));
            self.charge_client(conn);
        }
    }

    /// Parses what has come. Whole frames are dealt with in place; only an unfinished one is kept.
    fn take_client_bytes(&mut self, conn: ConnId, mut bytes: &[u8]) {
        self.begin_run(conn);
        loop {
            let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
            if client.stalled {
                client.unread.buffer().extend_from_slice(bytes);
                return;
            }
            if client.unread.is_empty() {
                break;
            }
            if client.unread.is_long_line() {
                return self.take_long_line(conn, bytes);
            }
            // Where a value ends is known, and what lies behind it need not be copied with it; of a line it
            // is not.
            let unread = client.unread.buffer();
            let lacking = client.progress.needed.saturating_sub(unread.len());
            let ends = client.progress.scanned == 0 && lacking > 1;
            let (gathered, rest) = bytes.split_at(if ends { lacking.min(bytes.len()) } else { bytes.len() });
            grow(unread, gathered.len(), client.progress);
            unread.extend_from_slice(gathered);
            bytes = rest;
            if unread.len() < client.progress.needed {
                return;
            }
            // A line without its end stays where it is: it may be long, and come in many pieces.
            if client.protocol == Protocol::Text
                && let Step::Partial(partial) =
                    text::parse(unread, client.progress.scanned, &self.parser_limits)
            {
                client.progress = partial.into();
                if client.progress.scanned >= LONG_LINE {
                    client.unread.begin_long_line();
                }
                return;
            }
            let unread = client.unread.take();
            self.take_gathered(conn, unread);
            if bytes.is_empty() {
                return;
            }
        }
        self.take_frames(conn, bytes, None);
    }

    /// A get's line that has become long goes on: nothing has to be looked at but for its end.
    fn take_long_line(&mut self, conn: ConnId, bytes: &[u8]) {
        let line_max = self.settings.limits.get_line_max;
        let Some(client) = self.client(conn) else { return };
        client.unread.extend_long_line(bytes);
        if bytes.contains(&b'\n') || client.unread.len() > line_max {
            let unread = client.unread.take();
            self.take_gathered(conn, unread);
        }
    }

    fn take_gathered(&mut self, conn: ConnId, unread: Vec<u8>) {
        if unread.len() >= self.settings.limits.moved_min {
            let backing = Bytes::from(unread);
            self.take_frames(conn, &backing, Some(&backing));
        } else {
            self.take_frames(conn, &unread, None);
        }
    }

    /// Deals with the whole frames of `input`, and keeps the rest. `backing` owns the same bytes, if anything
    /// does: then large values are moved out of it.
    fn take_frames(&mut self, conn: ConnId, input: &[u8], backing: Option<&Bytes>) {
        let mut at = 0;
        while at < input.len() {
            if self.moving.is_some() && self.hold_client(conn, &input[at..]) {
                return;
            }
            let Some(mut client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
            if client.is_held_up() {
                if client.ending {
                    return;
                }
                if client.windowed.is_some() && !client.gone {
                    return self.stall_client(conn, &input[at..]);
                }
                if client.swallow.is_some() {
                    at += self.swallow(conn, input.len() - at);
                    continue;
                }
                if let Some(length) = self.read_for_nobody(conn, &input[at..]) {
                    at += length;
                    continue;
                }
                let Some(again) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
                client = again;
            }
            let limits = &self.settings.limits;
            if client.has_enough(limits) && !client.gone {
                return self.stall_client(conn, &input[at..]);
            }
            if client.protocol == Protocol::Unknown {
                let binary = input[at] == REQUEST_MAGIC;
                client.protocol = if binary { Protocol::Binary } else { Protocol::Text };
            }
            let scanned = std::mem::take(&mut client.progress.scanned);
            if client.protocol == Protocol::Text
                && scanned == 0
                && let Some(get) = text::plain_get(&input[at..], limits.get_line_max)
            {
                let slot = client.slots.reserve();
                self.get(conn, slot, get.with_cas, get.key);
                at += get.total;
                continue;
            }
            let is_text = client.protocol == Protocol::Text;
            if is_text
                && scanned == 0
                && let Some(total) = self.take_plain(conn, &input[at..], backing)
            {
                at += total;
                continue;
            }
            let taken = match is_text {
                false => self.take_binary(conn, &input[at..], backing),
                true => self.take_text(conn, &input[at..], scanned, backing),
            };
            match taken {
                Taken::Frame(length) => at += length,
                Taken::Partial(progress) => return self.keep_unread(conn, &input[at..], progress),
                Taken::Ended => return self.end_client(conn),
            }
        }
    }

    fn keep_unread(&mut self, conn: ConnId, rest: &[u8], progress: Progress) {
        let Some(client) = self.client(conn) else { return };
        debug_assert!(client.unread.is_empty());
        client.progress = progress;
        client.began = client.moved;
        grow(client.unread.buffer(), rest.len(), progress);
        client.unread.buffer().extend_from_slice(rest);
        self.charge_client(conn);
    }

    #[cold]
    fn stall_client(&mut self, conn: ConnId, rest: &[u8]) {
        self.counters.paused_reads += 1;
        let Some(client) = self.client(conn) else { return };
        client.stalled = true;
        client.unread.buffer().extend_from_slice(rest);
        if !std::mem::replace(&mut client.paused, true) {
            self.actions.push_back(Action::PauseRead(conn));
        }
        self.charge_client(conn);
    }

    /// If the client's next request has to wait for a change of owners, it does from now on.
    #[cold]
    fn hold_client(&mut self, conn: ConnId, rest: &[u8]) -> bool {
        let Some(client) = self.client(conn) else { return false };
        let (binary, scanned) = (rest[0] == REQUEST_MAGIC, client.progress.scanned);
        let protocol = match client.protocol {
            Protocol::Unknown if binary => Protocol::Binary,
            Protocol::Unknown => Protocol::Text,
            known => known,
        };
        if client.is_held_up() || client.gone || !self.must_wait(protocol, rest, scanned) {
            return false;
        }
        self.stall_client(conn, rest);
        if let Some(client) = self.client(conn) {
            client.held = true;
            self.held.push(conn);
        }
        true
    }

    /// The bytes of the next request of a client that is gone, if it only reads: nobody wants the answer.
    #[cold]
    fn read_for_nobody(&mut self, conn: ConnId, input: &[u8]) -> Option<usize> {
        let client = self.clients.get_mut(conn.index(), conn.generation())?;
        let length = match client.protocol {
            _ if !client.gone => None,
            Protocol::Binary => match binary::parse(input, self.settings.limits.value_max) {
                binary::Step::Request(request, length) => request.only_reads().then_some(length),
                _ => None,
            },
            _ => match text::parse(input, client.progress.scanned, &self.parser_limits) {
                Step::Request(request, length) => request.only_reads().then_some(length),
                _ => None,
            },
        };
        if length.is_some() {
            client.progress = Progress::default();
        }
        length
    }

    /// Drops bytes of a refused value; gives how many.
    fn swallow(&mut self, conn: ConnId, available: usize) -> usize {
        let Some(client) = self.client(conn) else { return available };
        let Some(mut swallow) = client.swallow.take() else { return 0 };
        let dropped = swallow.left.min(available as u64);
        swallow.left -= dropped;
        if swallow.left > 0 {
            client.swallow = Some(swallow);
        } else {
            self.answer_refused(conn, swallow.then);
        }
        dropped as usize
    }

    fn answer_refused(&mut self, conn: ConnId, refused: Refused) {
        if let Some(unlink) = refused.unlink {
            self.unlink_then_answer(conn, &unlink, &refused.answer);
        } else {
            self.answer_now(conn, &refused.answer);
        }
        if refused.close {
            self.end_client(conn);
        }
    }
}

/// Makes room for `more` bytes of a frame: all that it will have if that is known and not much, so that
/// nothing has to be moved and nothing is left over.
fn grow(unread: &mut Vec<u8>, more: usize, progress: Progress) {
    let is_value = progress.scanned == 0 && progress.needed > 1;
    if is_value && unread.len() + more > unread.capacity() {
        let lacking = progress.needed.saturating_sub(unread.len());
        unread.reserve_exact(lacking.min(unread.len().max(GROWTH_BYTES)).max(more));
    }
}
