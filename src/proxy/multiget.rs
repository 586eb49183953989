//! The course of a multi-key read: window by window, until its answer is whole or its client has it.

use bytes::Bytes;

use crate::io::ConnId;
use crate::limits::{BACKEND_LINE_MAX, KEY_MAX};
use crate::protocol::text::Keys;
use crate::time::Time;

use super::Proxy;
use super::backend::{Why, error_text};
use super::fanout::{Failed, Fanout, FanoutId, Read};
use super::link::{Expect, LinkProtocol, Target};
use super::link_queue::Value;
use super::replies::{Answer, First};

const BAD_KEY: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
const TOO_MANY_KEYS: &[u8] = b"CLIENT_ERROR too many keys\r\n";

impl Proxy {
    /// Begins a read of any number of keys.
    pub(super) fn read_many(&mut self, conn: ConnId, read: Read, keys: Keys<'_>) {
        let slot = self.reserve_slot(conn);
        let mut fanout = Box::new(Fanout::new(conn, slot, read, self.now + self.settings.timeout));
        for key in keys {
            if key.len() > KEY_MAX || fanout.len() == self.settings.limits.keys_max {
                fanout.refusal = Some(if key.len() > KEY_MAX { BAD_KEY } else { TOO_MANY_KEYS });
                break;
            }
            fanout.push(key, self.settings.placement.owner(key));
        }
        // memcached touches the keys before a bad one; what it reads before one is lost.
        if let Some(refusal) = fanout.refusal
            && !(read.writes() && fanout.len() > 0)
        {
            self.counters.refused_requests += 1;
            return self.answer(conn, slot, Answer::copied(refusal));
        }
        if fanout.len() == 0 {
            return self.answer(conn, slot, Answer::copied(b"END\r\n"));
        }
        self.counters.cmd_get += fanout.len() as u64;
        if read.writes() {
            self.counters.cmd_touch += fanout.len() as u64;
        }
        let (index, generation) = self.fanouts.insert(Some(fanout));
        self.ask_windows(FanoutId(index, generation));
    }

    /// A part's request has been answered in full.
    pub(super) fn finish_part(&mut self, id: FanoutId, part: u16) {
        self.end_part_request(id, part, None);
    }

    /// A part's request has got no answer.
    pub(super) fn fail_part(&mut self, id: FanoutId, part: u16, failed: Failed) {
        self.end_part_request(id, part, Some(failed));
    }

    /// Fails the reads whose answers are due. Those of one window are failed by their links; the later
    /// windows of others have requests of their own, with later deadlines.
    pub(super) fn expire_reads(&mut self) {
        let ids: Vec<(u32, u32)> = self.fanouts.ids().collect();
        for (index, generation) in ids {
            let Some(Some(fanout)) = self.fanouts.get(index as usize, generation) else { continue };
            let deadline = self.deadline_of(fanout);
            if self.now >= deadline {
                self.expire_read(FanoutId(index, generation));
            } else {
                self.wake_at(deadline);
            }
        }
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
        for part in fanout.parts.iter_mut().filter(|part| part.requests > 0) {
            part.fail(Failed::Backend(Why::TimedOut));
        }
        self.counters.timeouts += 1;
        match self.window_failure(&fanout) {
            Some(failure) => {
                self.counters.backend_errors += 1;
                self.answer(fanout.client, fanout.slot, Answer::copied(&failure));
            }
            None => {
                fanout.merge(false);
                self.answer_whole(&mut fanout);
            }
        }
        self.put_or_end(id, fanout, |_| false);
    }

    /// Goes on with streamed answers whose turn it is and whose clients can take more.
    pub(super) fn resume_parked(&mut self) {
        while let Some(id) = self.parked.pop() {
            self.stream(id);
        }
    }

    fn end_part_request(&mut self, id: FanoutId, part: u16, failed: Option<Failed>) {
        let Some(Some(fanout)) = self.fanouts.get_mut(id.0 as usize, id.1) else { return };
        let part = &mut fanout.parts[usize::from(part)];
        if let Some(failed) = failed {
            part.fail(failed);
        }
        part.requests -= 1;
        if part.requests == 0 {
            fanout.waiting -= 1;
            if fanout.waiting == 0 && self.finish_window(id) {
                self.ask_windows(id);
            }
        }
    }

    /// Asks for the next window; and for the ones after it as long as nothing has to be waited for.
    fn ask_windows(&mut self, id: FanoutId) {
        loop {
            let Some(mut fanout) = self.take_fanout(id) else { return };
            fanout.next_window(self.settings.limits.window_keys_max, self.settings.limits.held_answer_max);
            let deadline = self.deadline_of(&fanout);
            if self.now >= deadline {
                fanout.parts.iter_mut().for_each(|part| part.fail(Failed::Backend(Why::TimedOut)));
                self.put_fanout(id, fanout);
                return self.expire_read(id);
            }
            self.wake_at(deadline);
            for part in 0..fanout.parts.len() {
                self.ask_part(id, &mut fanout, part);
            }
            let waiting = fanout.waiting > 0;
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

    /// Asks a part's backend: in one line for get; in lines short enough for memcached for gat.
    fn ask_part(&mut self, id: FanoutId, fanout: &mut Fanout, part: usize) {
        let (backend, read) = (usize::from(fanout.parts[part].backend), fanout.read);
        let keys: Vec<usize> = fanout.part_keys(part).map(<[u8]>::len).collect();
        let mut from = 0;
        while from < keys.len() {
            let to = if read.writes() { line_end(&keys, from) } else { keys.len() };
            let target = Target::Part(id, part as u16);
            let asked = self.queue(backend, LinkProtocol::Text, target, Expect::Values, &[], |out, _| {
                read.head(out);
                for key in fanout.part_keys(part).skip(from).take(to - from) {
                    out.push(b' ');
                    out.extend_from_slice(key);
                }
                out.extend_from_slice(b"\r\n");
                Value::None
            });
            match asked {
                Ok(()) => fanout.parts[part].requests += 1,
                Err(why) => {
                    self.backends[backend].errors += 1;
                    fanout.parts[part].fail(Failed::Backend(why));
                    break;
                }
            }
            from = to;
        }
        if fanout.parts[part].requests == 0 {
            fanout.waiting -= 1;
        }
    }

    /// All parts of a window are there, or have failed. True if the next is to be asked for at once.
    fn finish_window(&mut self, id: FanoutId) -> bool {
        let Some(mut fanout) = self.take_fanout(id) else { return false };
        let (hits, keys) = fanout.hits_and_keys();
        self.counters.get_hits += hits;
        self.counters.get_misses += keys.saturating_sub(hits);
        let failure = self.window_failure(&fanout);
        fanout.merge(failure.is_some() && fanout.streaming);
        let gone = self.client(fanout.client).is_none_or(|client| client.closed || client.cut);
        if gone {
            // Nobody reads the answer, but what a gat touches was asked for.
            fanout.held.clear();
            return self.put_or_end(id, fanout, |fanout| fanout.read.writes() && !fanout.is_last_window());
        }
        if fanout.refusal.is_some() {
            // The refusal takes the place of all values, so there is nothing to stream.
            fanout.held.clear();
        }
        if !fanout.streaming {
            if let Some(failure) = failure {
                self.counters.backend_errors += 1;
                self.answer(fanout.client, fanout.slot, Answer::copied(&failure));
                return self.put_or_end(id, fanout, |_| false);
            }
            if fanout.is_last_window() {
                self.answer_whole(&mut fanout);
                return self.put_or_end(id, fanout, |_| false);
            }
            if fanout.held.len() <= self.settings.limits.held_answer_max {
                return self.put_or_end(id, fanout, |_| true);
            }
            fanout.streaming = true;
            let slot = fanout.slot;
            let client = self.client(fanout.client).expect("it is there");
            client.slots.stream(slot, id);
        } else if failure.is_some() {
            self.counters.backend_errors += 1;
            fanout.broken = true;
        }
        fanout.parked = true;
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
            client.outbox.push(Bytes::from(std::mem::take(&mut fanout.held)));
        }
        // What waits in later slots can't go out before this does, so it does not count here.
        let has_room = client.outbox.len() + client.sending < room;
        if fanout.broken {
            client.cut = true;
            client.ending = true;
            client.stalled = false;
            self.fanouts.remove(id.0 as usize, id.1);
        } else if fanout.is_last_window() {
            self.fanouts.remove(id.0 as usize, id.1);
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
        fanout.held.clear();
        if !std::mem::take(&mut fanout.parked) {
            self.put_fanout(id, fanout);
        } else if fanout.read.writes() && !fanout.is_last_window() {
            self.put_fanout(id, fanout);
            self.ask_windows(id);
        } else {
            self.fanouts.remove(id.0 as usize, id.1);
        }
    }

    /// The whole answer is there.
    fn answer_whole(&mut self, fanout: &mut Fanout) {
        if let Some(refusal) = fanout.refusal {
            self.counters.refused_requests += 1;
            return self.answer(fanout.client, fanout.slot, Answer::copied(refusal));
        }
        let held = std::mem::take(&mut fanout.held);
        if held.len() >= self.settings.limits.moved_min {
            let mut held = held;
            held.extend_from_slice(b"END\r\n");
            let moved = Some(Bytes::from(held));
            self.answer(fanout.client, fanout.slot, Answer { head: &[], rest: &[], moved });
        } else {
            self.answer(fanout.client, fanout.slot, Answer { head: &held, rest: b"END\r\n", moved: None });
        }
    }

    /// The error line that takes the place of the answer, if a part has failed and may not look like misses.
    fn window_failure(&mut self, fanout: &Fanout) -> Option<Vec<u8>> {
        let as_miss = self.reads_as_miss(fanout.read.with_cas());
        for part in &fanout.parts {
            match &part.failed {
                None => {}
                Some(Failed::Backend(_)) if as_miss => self.counters.backend_errors_as_misses += 1,
                Some(Failed::Backend(why)) => {
                    let name = &self.settings.backends[usize::from(part.backend)].name;
                    return Some([error_text(name, *why).as_bytes(), b"\r\n"].concat());
                }
                Some(Failed::Line(line)) => return Some(line.to_vec()),
            }
        }
        None
    }

    /// Puts the read back and says true, or ends it and says false.
    fn put_or_end(
        &mut self,
        id: FanoutId,
        fanout: Box<Fanout>,
        goes_on: impl FnOnce(&Fanout) -> bool,
    ) -> bool {
        if goes_on(&fanout) {
            self.put_fanout(id, fanout);
            true
        } else {
            self.hold_up(&fanout, false);
            self.fanouts.remove(id.0 as usize, id.1);
            false
        }
    }

    fn take_fanout(&mut self, id: FanoutId) -> Option<Box<Fanout>> {
        self.fanouts.get_mut(id.0 as usize, id.1)?.take()
    }

    fn put_fanout(&mut self, id: FanoutId, fanout: Box<Fanout>) {
        if let Some(place) = self.fanouts.get_mut(id.0 as usize, id.1) {
            *place = Some(fanout);
        }
    }
}

/// Room that a line's verb, expiry and end take at most, bytes.
const LINE_OVERHEAD: usize = 32;

/// The first of the keys from `from` on that does not fit in a line with those before it.
fn line_end(lengths: &[usize], from: usize) -> usize {
    let mut length = LINE_OVERHEAD;
    let fits = lengths[from..].iter().take_while(|&&key| {
        length += key + 1;
        length <= BACKEND_LINE_MAX
    });
    from + fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gats_are_split_below_the_line_bound() {
        let lengths = [250; 20];
        assert_eq!(line_end(&lengths, 0), 8, "8 keys of 251 bytes and 32 are 2040");
        assert_eq!(line_end(&lengths, 16), 20);
        assert_eq!(line_end(&[250], 0), 1);
    }
}
