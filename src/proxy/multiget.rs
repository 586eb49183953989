//! The course of a multi-key read: window by window, until its answer is whole or its client has it.

use bytes::Bytes;

use crate::buffer::Recycle;
use crate::io::ConnId;
use crate::limits::{BACKEND_LINE_MAX, KEY_MAX};
use crate::protocol::text::Keys;
use crate::time::Time;

use super::Proxy;
use super::backend::{Why, error_text};
use super::fanout::{Fanout, FanoutId, Read};
use super::joined::{Asker, JoinedGet};
use super::replies::{Answer, First};

const BAD_KEY: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
const TOO_MANY_KEYS: &[u8] = b"CLIENT_ERROR too many keys\r\n";

impl Proxy {
    /// Begins a read of any number of keys.
    pub(super) fn read_many(&mut self, conn: ConnId, read: Read, keys: Keys<'_>) {
        let slot = self.reserve_slot(conn);
        let mut fanout = self.room.fanouts.take();
        fanout.begin(conn, slot, read, self.due);
        fanout.placed = self.placed;
        for key in keys {
            if key.len() > KEY_MAX || fanout.len() == self.settings.limits.keys_max {
                fanout.refusal = Some(if key.len() > KEY_MAX { BAD_KEY } else { TOO_MANY_KEYS });
                break;
            }
            if read.writes() {
                self.note_write(key);
            }
            fanout.push(key, self.place(key));
        }
        // memcached touches the keys before a bad one; what it reads before one is lost.
        let refusal = fanout.refusal.filter(|_| !(read.writes() && fanout.len() > 0));
        let keys = fanout.len() as u64;
        if refusal.is_some() || keys == 0 {
            self.counters.refused_requests += u64::from(refusal.is_some());
            self.room.fanouts.give(fanout);
            return self.answer(conn, slot, Answer::copied(refusal.unwrap_or(b"END\r\n")));
        }
        self.counters.cmd_get += keys;
        if read.writes() {
            self.counters.cmd_touch += keys;
        }
        let (index, generation) = self.fanouts.insert(Some(fanout));
        self.ask_windows(FanoutId(index, generation));
    }

    /// A key of a read is there.
    #[inline]
    pub(super) fn part_hit(&mut self, id: FanoutId, key: u32, frame: &[u8]) {
        self.part_answered(id, |fanout| fanout.take_value(key as usize, frame));
    }

    /// As [`Self::part_hit`], without copying it.
    #[cold]
    #[inline(never)]
    pub(super) fn part_moved(&mut self, id: FanoutId, key: u32, frame: Bytes) {
        self.part_answered(id, |fanout| fanout.take_moved(key as usize, frame));
    }

    /// A key of a read is not there.
    pub(super) fn part_missed(&mut self, id: FanoutId, key: u32) {
        self.part_answered(id, |fanout| fanout.take_miss(key as usize));
    }

    /// A key of a read got an error line.
    pub(super) fn part_refused(&mut self, id: FanoutId, key: u32, line: &[u8]) {
        self.part_answered(id, |fanout| fanout.take_failure(key as usize, || line.to_vec()));
    }

    /// A key of a read got no answer.
    pub(super) fn part_failed(&mut self, id: FanoutId, key: u32, why: Why) {
        let Some(mut fanout) = self.take_fanout(id) else { return };
        self.fail_key(&mut fanout, key as usize, why);
        self.put_fanout(id, fanout);
        self.part_answered(id, |_| {});
    }

    /// Fails the reads whose answers are due. Those of one window are failed by their links; the later
    /// windows of others have requests of their own, with later deadlines.
    pub(super) fn expire_reads(&mut self) {
        let mut ids = std::mem::take(&mut self.ids);
        ids.extend(self.fanouts.ids());
        for (index, generation) in ids.drain(..) {
            let Some(Some(fanout)) = self.fanouts.get(index as usize, generation) else { continue };
            let deadline = self.deadline_of(fanout);
            if self.now >= deadline {
                self.expire_read(FanoutId(index, generation));
            } else {
                self.wake_at(deadline);
            }
        }
        self.ids = ids;
    }

    /// When a read is due that is not left to the deadlines of its requests: one held back over several
    /// windows, for somebody.
    fn deadline_of(&self, fanout: &Fanout) -> Time {
        let client = self.clients.get(fanout.client.index(), fanout.client.generation());
        let awaited = client.is_some_and(|client| !client.closed && !client.cut);
        if awaited && !fanout.streaming && fanout.window.start > 0 { fanout.deadline } else { Time::NEVER }
    }

    /// The read ends here. Its requests that are still to be answered find nobody then.
    fn expire_read(&mut self, id: FanoutId) {
        let Some(mut fanout) = self.take_fanout(id) else { return };
        self.counters.timeouts += 1;
        while let Some(key) = fanout.first_unanswered() {
            self.fail_key(&mut fanout, key, Why::TimedOut);
        }
        match fanout.failure.take() {
            Some(failure) => self.answer_failure(&fanout, &failure.line),
            None => self.answer_whole(&mut fanout),
        }
        self.put_or_end(id, fanout, |_| false);
    }

    /// Goes on with streamed answers whose turn it is and whose clients can take more.
    pub(super) fn resume_parked(&mut self) {
        while let Some(id) = self.parked.pop() {
            self.stream(id);
        }
    }

    /// Enters what has become of a key; goes on if it was the last one of its window.
    #[inline]
    fn part_answered(&mut self, id: FanoutId, enter: impl FnOnce(&mut Fanout)) {
        let Some(Some(fanout)) = self.fanouts.get_mut(id.0 as usize, id.1) else { return };
        enter(fanout);
        let (waiting, grown) = (fanout.waiting, fanout.bytes() != fanout.charged);
        if grown {
            self.charge_fanout(id);
        }
        if waiting == 0 && self.finish_window(id) {
            self.ask_windows(id);
        }
    }

    /// Asks for the next window; and for the ones after it as long as nothing has to be waited for.
    fn ask_windows(&mut self, id: FanoutId) {
        loop {
            let Some(mut fanout) = self.take_fanout(id) else { return };
            if fanout.placed != self.placed {
                // Owners have changed since.
                fanout.place_again(|key| self.place(key));
                fanout.placed = self.placed;
            }
            let limits = &self.settings.limits;
            // Nobody knows how large the values are; but large ones may be about.
            let fitting = (limits.held_answer_max / self.value_bytes.max(1)).max(1);
            fanout.next_window(limits.window_keys_max, fitting, limits.held_answer_max);
            let deadline = self.deadline_of(&fanout);
            if self.now >= deadline {
                self.put_fanout(id, fanout);
                return self.expire_read(id);
            }
            self.wake_at(deadline);
            self.begin_run(fanout.client);
            if self.settings.join_gets && !fanout.read.writes() {
                self.ask_window(id, &mut fanout);
            } else {
                self.ask_window_alone(id, &mut fanout);
            }
            let waiting = fanout.waiting > 0;
            self.charge_read(&mut fanout);
            self.hold_up(&fanout, !fanout.is_last_window());
            self.put_fanout(id, fanout);
            if waiting || !self.finish_window(id) {
                return;
            }
        }
    }

    /// The client's next requests wait while windows are still to be asked for, and go on when none is.
    fn hold_up(&mut self, fanout: &Fanout, windowed: bool) {
        let Some(client) = self.client(fanout.client) else { return };
        if windowed {
            client.windowed = Some(fanout.slot);
        } else if client.windowed == Some(fanout.slot) {
            client.windowed = None;
            self.touch_client(fanout.client);
        }
    }

    /// Asks for the keys of a window together with what others ask.
    fn ask_window(&mut self, id: FanoutId, fanout: &mut Fanout) {
        for key in fanout.window.clone() {
            let asker = Asker::Part(id, key as u32);
            if let Err(why) = self.ask(fanout.place(key), fanout.read.with_cas(), fanout.key(key), asker) {
                self.fail_key(fanout, key, why);
            }
        }
    }

    /// Asks for the keys of a window in requests of their own, short enough for memcached.
    fn ask_window_alone(&mut self, id: FanoutId, fanout: &mut Fanout) {
        let mut requests = std::mem::take(&mut self.requests);
        let line_max = if fanout.read.writes() { BACKEND_LINE_MAX } else { usize::MAX };
        for key in fanout.window.clone() {
            let place = fanout.place(key);
            let request = &mut requests[place.server];
            if let Some(full) = request.take_if(|request| !request.has_room(fanout.key(key), line_max)) {
                self.send_alone(fanout, place.server, full);
            }
            let request = request.get_or_insert_with(|| {
                let mut request = self.room.joined.take();
                request.begin(fanout.read);
                request
            });
            request.ask(fanout.key(key), place.hash, Asker::Part(id, key as u32));
        }
        for (backend, request) in requests.iter_mut().enumerate() {
            if let Some(request) = request.take() {
                self.send_alone(fanout, backend, request);
            }
        }
        self.requests = requests;
    }

    fn send_alone(&mut self, fanout: &mut Fanout, backend: usize, request: Box<JoinedGet>) {
        let Err((request, why)) = self.queue_joined(backend, request) else { return };
        for number in 0..request.len() {
            let mut askers = request.askers_of(number);
            while let Some(asker) = askers.next(&request) {
                if let Asker::Part(_, key) = asker {
                    self.fail_key(fanout, key as usize, why);
                }
            }
        }
        self.room.joined.give(request);
    }

    /// A key's backend has not answered: that may look like a miss, or is an error in place of all values.
    fn fail_key(&mut self, fanout: &mut Fanout, key: usize, why: Why) {
        let backend = fanout.place(key).server;
        self.backends[backend].errors += 1;
        if self.reads_as_miss(fanout.read.with_cas()) {
            self.counters.backend_errors_as_misses += 1;
            fanout.take_miss(key);
        } else {
            let name = &self.settings.backends[backend].name;
            fanout.take_failure(key, || [error_text(name, why).as_bytes(), b"\r\n"].concat());
        }
    }

    /// All keys of a window have been answered. True if the next is to be asked for at once.
    fn finish_window(&mut self, id: FanoutId) -> bool {
        let Some(mut fanout) = self.take_fanout(id) else { return false };
        let (hits, keys) = fanout.hits_and_keys();
        self.counters.get_hits += hits;
        self.counters.get_misses += keys.saturating_sub(hits);
        let gone = self.client(fanout.client).is_none_or(|client| client.closed || client.cut);
        if gone {
            // Nobody reads the answer, but what a gat touches was asked for.
            return self.put_or_end(id, fanout, |fanout| fanout.read.writes() && !fanout.is_last_window());
        }
        if fanout.streaming {
            self.counters.backend_errors += u64::from(fanout.failure.is_some());
            fanout.hold(&mut self.room.spare);
            fanout.broken = fanout.failure.is_some();
        } else if let Some(failure) = fanout.failure.take() {
            self.answer_failure(&fanout, &failure.line);
            return self.put_or_end(id, fanout, |_| false);
        } else if fanout.is_last_window() {
            self.answer_whole(&mut fanout);
            return self.put_or_end(id, fanout, |_| false);
        } else {
            fanout.hold(&mut self.room.spare);
            if fanout.refusal.is_some() {
                // The refusal takes the place of all values, so there is nothing to stream.
                fanout.drop_held(&mut self.room.spare);
            }
            if fanout.held.len() <= self.settings.limits.held_answer_max {
                return self.put_or_end(id, fanout, |_| true);
            }
            fanout.streaming = true;
            let slot = fanout.slot;
            let client = self.clients.get_mut(fanout.client.index(), fanout.client.generation());
            client.expect("it is there").slots.stream(slot, id, &mut self.room);
        }
        fanout.parked = true;
        self.charge_read(&mut fanout);
        self.put_fanout(id, fanout);
        self.parked.push(id);
        false
    }

    /// Gives a streaming client what is held, if it is its turn; then goes on if it has room for more.
    fn stream(&mut self, id: FanoutId) {
        let Some(mut fanout) = self.take_fanout(id) else { return };
        let (conn, slot) = (fanout.client, fanout.slot);
        let room = self.settings.limits.client_unread_max;
        let there = self.clients.get_mut(conn.index(), conn.generation()).filter(|client| !client.closed);
        let Some(client) = there else { return self.stream_to_nobody(id, fanout) };
        if !fanout.parked || client.slots.first() != First::Streaming(id) {
            return self.put_fanout(id, fanout);
        }
        if !fanout.held.is_empty() {
            if client.owed == 0 {
                client.moved = self.now;
            }
            client.owed += fanout.held.len();
            client.outbox.append(std::mem::take(&mut fanout.held), &mut self.room.spare);
        }
        // What waits in later slots can't go out before this does, so it does not count here.
        let has_room = client.outbox.len() + client.sending < room;
        self.charge_read(&mut fanout);
        let client = self.clients.get_mut(conn.index(), conn.generation()).expect("it is there");
        if fanout.broken {
            client.cut = true;
            client.ending = true;
            client.stalled = false;
            self.end_fanout(id, fanout);
        } else if fanout.is_last_window() {
            self.end_fanout(id, fanout);
            self.answer(conn, slot, Answer::copied(b"END\r\n"));
        } else {
            fanout.parked = !has_room;
            self.put_fanout(id, fanout);
            if has_room {
                self.ask_windows(id);
            }
        }
        self.touch_client(conn);
    }

    /// The client of a parked answer is gone: nothing of it is kept, but what a gat touches was asked for.
    fn stream_to_nobody(&mut self, id: FanoutId, mut fanout: Box<Fanout>) {
        fanout.drop_held(&mut self.room.spare);
        if !std::mem::take(&mut fanout.parked) {
            self.put_fanout(id, fanout);
        } else if fanout.read.writes() && !fanout.is_last_window() {
            self.put_fanout(id, fanout);
            self.ask_windows(id);
        } else {
            self.end_fanout(id, fanout);
        }
    }

    /// The whole answer is there.
    fn answer_whole(&mut self, fanout: &mut Fanout) {
        let (conn, slot) = (fanout.client, fanout.slot);
        if let Some(refusal) = fanout.refusal {
            self.counters.refused_requests += 1;
            return self.answer(conn, slot, Answer::copied(refusal));
        }
        if !fanout.held.is_empty() || fanout.value_bytes() >= self.settings.limits.moved_min {
            fanout.hold(&mut self.room.spare);
            let mut answer = std::mem::take(&mut fanout.held);
            answer.tail(&mut self.room.spare).extend_from_slice(b"END\r\n");
            return self.answer_pieces(conn, slot, answer);
        }
        self.answer_with(conn, slot, |bytes| {
            fanout.copy_values(bytes);
            bytes.extend_from_slice(b"END\r\n");
        });
    }

    /// An error line takes the place of the answer.
    fn answer_failure(&mut self, fanout: &Fanout, line: &[u8]) {
        self.counters.backend_errors += 1;
        self.answer(fanout.client, fanout.slot, Answer::copied(line));
    }

    /// Puts the read back and says true, or ends it and says false.
    fn put_or_end(
        &mut self,
        id: FanoutId,
        mut fanout: Box<Fanout>,
        goes_on: impl FnOnce(&Fanout) -> bool,
    ) -> bool {
        if goes_on(&fanout) {
            fanout.failure = None;
            self.put_fanout(id, fanout);
            true
        } else {
            self.hold_up(&fanout, false);
            self.end_fanout(id, fanout);
            false
        }
    }

    fn end_fanout(&mut self, id: FanoutId, fanout: Box<Fanout>) {
        self.fanouts.remove(id.0 as usize, id.1);
        let mut fanout = fanout;
        self.uncharge_read(&mut fanout);
        self.room.fanouts.give(fanout);
    }

    fn charge_fanout(&mut self, id: FanoutId) {
        let Some(mut fanout) = self.take_fanout(id) else { return };
        self.charge_read(&mut fanout);
        self.put_fanout(id, fanout);
    }

    /// What a read holds may have changed.
    fn charge_read(&mut self, fanout: &mut Fanout) {
        self.charge_read_for(fanout, fanout.bytes());
    }

    /// A read comes to its end.
    fn uncharge_read(&mut self, fanout: &mut Fanout) {
        self.charge_read_for(fanout, 0);
    }

    fn charge_read_for(&mut self, fanout: &mut Fanout, bytes: usize) {
        if let Some(client) = self.client(fanout.client) {
            client.reading = client.reading + bytes - fanout.charged;
        }
        self.memory.charge(bytes, &mut fanout.charged);
    }

    #[inline]
    fn take_fanout(&mut self, id: FanoutId) -> Option<Box<Fanout>> {
        self.fanouts.get_mut(id.0 as usize, id.1)?.take()
    }

    #[inline]
    fn put_fanout(&mut self, id: FanoutId, fanout: Box<Fanout>) {
        if let Some(place) = self.fanouts.get_mut(id.0 as usize, id.1) {
            *place = Some(fanout);
        }
    }
}
