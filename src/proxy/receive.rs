//! Replies of a link: framed by what the head of its pipeline expects, checked, and given to their slots.
//! Whatever cannot be the answer means that the link is out of step; nothing more is believed of it.

use bytes::Bytes;

use crate::io::ConnId;
use crate::protocol::binary::{self, HEADER_BYTES, opcode, status};
use crate::protocol::meta::MetaVerb;
use crate::protocol::number::digits;
use crate::protocol::reply::{self, Frame, Header};
use crate::protocol::text::StoreVerb;

use super::Proxy;
use super::backend::Why;
use super::binary_requests::{is_silenced, response};
use super::joined::{Asker, Askers, JoinedGet};
use super::link::{Expect, LineVerb, LinkState, Pending, Target};
use super::replies::Answer;
use super::text_requests::TOO_LARGE;

/// What was found at the start of a link's bytes.
enum Reply {
    /// The head's whole answer, so many bytes. It has been popped.
    Whole(usize),
    /// A part of it; the head stays.
    Part(usize),
    /// So many bytes must be there before looking again.
    Partial(usize),
    /// No answer to what was asked.
    Broken,
}

/// What ends the answer to a get.
const END: &[u8] = b"END\r\n";

impl Proxy {
    pub(super) fn receive_from_link(&mut self, conn: ConnId, bytes: &[u8]) {
        let now = self.now;
        self.counters.backend_bytes_read += bytes.len() as u64;
        let Some(link) = self.link(conn) else { return };
        link.heard = now;
        match link.state {
            LinkState::Standing => self.take_link_bytes(conn, bytes),
            LinkState::Greeting => self.take_greeting(conn, bytes),
            // It has answered what it was asked, and nothing else was.
            LinkState::Met => self.out_of_step(conn, bytes),
            _ => {}
        }
    }

    /// Whole replies are dealt with in place; only an unfinished one is kept, and gathered up to its end.
    fn take_link_bytes(&mut self, conn: ConnId, mut bytes: &[u8]) {
        loop {
            let Some(link) = self.link(conn) else { return };
            if link.unread.is_empty() {
                break;
            }
            let lacking = link.needed.saturating_sub(link.unread.len());
            // One byte lacking means that the end is not known: then all is looked at.
            let take = if lacking > 1 { lacking.min(bytes.len()) } else { bytes.len() };
            link.unread.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if link.unread.len() < link.needed {
                return self.charge_link(conn);
            }
            let unread = std::mem::take(&mut link.unread);
            if unread.len() >= self.settings.limits.moved_min {
                let backing = Bytes::from(unread);
                self.take_replies(conn, &backing, Some(&backing));
            } else {
                self.take_replies(conn, &unread, None);
            }
            if bytes.is_empty() {
                return;
            }
        }
        self.take_replies(conn, bytes, None);
    }

    fn take_replies(&mut self, conn: ConnId, input: &[u8], backing: Option<&Bytes>) {
        let mut at = 0;
        while at < input.len() {
            let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
            if link.state != LinkState::Standing {
                return;
            }
            let asked = link.queue.pipeline.front().copied().filter(|pending| pending.start < link.handed);
            let Some(pending) = asked else { return self.out_of_step(conn, &input[at..]) };
            match self.take_reply(conn, pending, &input[at..], backing) {
                Reply::Whole(length) | Reply::Part(length) => at += length,
                Reply::Partial(needed) => {
                    let Some(link) = self.link(conn) else { return };
                    let rest = &input[at..];
                    link.unread.reserve_exact(needed.min(rest.len() * 2 + (64 << 10)).max(rest.len()));
                    link.unread.extend_from_slice(rest);
                    link.needed = needed;
                    return self.charge_link(conn);
                }
                Reply::Broken => return self.out_of_step(conn, &input[at..]),
            }
        }
    }

    #[inline]
    fn take_reply(&mut self, conn: ConnId, pending: Pending, input: &[u8], backing: Option<&Bytes>) -> Reply {
        match pending.expect {
            Expect::Joined => self.take_joined(conn, pending, input, backing),
            Expect::Line { verb, quiet } => match reply::line(input, self.reply_limits) {
                Frame::Line { total } => self.take_line(conn, pending, verb, quiet, &input[..total]),
                other => unfinished(other),
            },
            Expect::Meta { verb, quiet, raw_key, .. } => {
                self.take_meta(conn, pending, (verb, quiet), usize::from(raw_key), input, backing)
            }
            Expect::Fenced { verb, raw_key, .. } => {
                self.take_fenced(conn, pending, verb, usize::from(raw_key), input)
            }
            Expect::Unlinked { quiet } => match reply::line(input, self.reply_limits) {
                Frame::Line { total } => self.take_unlinked(conn, pending, quiet, &input[..total]),
                other => unfinished(other),
            },
            _ => self.take_binary_reply(conn, pending, input, backing),
        }
    }

    /// The head has been answered: it leaves the pipeline.
    #[inline(always)]
    fn pop_head(&mut self, conn: ConnId, pending: &Pending) {
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
        link.queue.pipeline.pop_front();
        link.queue.keys.pop(pending.key_bytes as usize);
        let backend = link.backend;
        if pending.target == Target::Mark {
            link.marks -= 1;
            self.counters.late_replies += 1;
            if link.marks == 0 {
                self.touch_link(conn);
            }
        }
        self.backend_heard(backend);
    }

    /// Inlined, so that the usual answer, of one part, is copied as one.
    #[inline(always)]
    fn give(&mut self, pending: &Pending, answer: Answer<'_>) {
        match pending.target {
            Target::Slot(client, slot) if answer.moved.is_none() => {
                self.answer_with(client, slot, |bytes| answer.copy_to(bytes));
            }
            Target::Slot(client, slot) => self.answer_moved(client, slot, answer),
            Target::Cleaning(number) => self.cleaned_one(number, answer.head),
            Target::Forgetting(number) => self.forgotten(number),
            _ => {}
        }
    }

    /// Values in the order asked, each for those who ask for its key, until the end of them.
    fn take_joined(
        &mut self,
        conn: ConnId,
        pending: Pending,
        input: &[u8],
        backing: Option<&Bytes>,
    ) -> Reply {
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return Reply::Broken };
        let Some(mut joined) = link.queue.joined.pop_front() else { return Reply::Broken };
        let with_cas = joined.read.with_cas();
        let mut at = 0;
        let reply = loop {
            let rest = &input[at..];
            if let Some(total) = joined.next_key().and_then(|key| reply::value_hit(rest, key, with_cas)) {
                self.give_hit(&mut joined, &rest[..total], backing);
                at += total;
                continue;
            }
            let frame = if rest.starts_with(END) {
                Frame::End { total: END.len() }
            } else {
                reply::values(rest, self.reply_limits)
            };
            let total = match frame {
                Frame::Value { total, with_cas: cas, .. } => {
                    if cas != with_cas || !joined.pass_to(reply::value_key(rest)) {
                        break Reply::Broken;
                    }
                    self.give_hit(&mut joined, &rest[..total], backing);
                    at += total;
                    continue;
                }
                Frame::End { total } => {
                    self.give_misses(&joined);
                    total
                }
                Frame::Line { total } => {
                    self.give_error(&joined, &rest[..total]);
                    total
                }
                Frame::Partial { total } if at == 0 => break Reply::Partial(total),
                Frame::Partial { .. } => break Reply::Part(at),
                Frame::Broken => break Reply::Broken,
            };
            self.pop_head(conn, &pending);
            self.note_values(conn, &joined);
            self.room.joined.give(joined);
            return Reply::Whole(at + total);
        };
        if let Some(link) = self.link(conn) {
            link.queue.joined.push_front(joined);
        }
        reply
    }

    /// The next key is there.
    #[inline]
    fn give_hit(&mut self, joined: &mut JoinedGet, frame: &[u8], backing: Option<&Bytes>) {
        if self.fenced
            && joined.read.with_cas()
            && let Some(key) = joined.next_key()
        {
            self.note_value_token(key, frame);
        }
        let askers = joined.hit();
        joined.count_value(frame.len());
        if let Some(Asker::Slot(client, slot)) = askers.only()
            && backing.is_none()
        {
            self.counters.get_hits += 1;
            return self.answer_with(client, slot, |bytes| copy_value(frame, bytes));
        }
        if askers.are_several() && backing.is_none() && frame.len() >= self.settings.limits.moved_min {
            // A large value that goes to several is held once.
            let shared = Bytes::copy_from_slice(frame);
            return self.give_value(joined, askers, &shared, Some(&shared));
        }
        self.give_value(joined, askers, frame, backing);
    }

    /// Answers those who asked for a key with its value.
    #[inline(never)]
    fn give_value(&mut self, joined: &JoinedGet, mut askers: Askers, frame: &[u8], backing: Option<&Bytes>) {
        while let Some(asker) = askers.next(joined) {
            match asker {
                Asker::Slot(client, slot) => {
                    self.counters.get_hits += 1;
                    match backing {
                        None => self.answer_with(client, slot, |bytes| copy_value(frame, bytes)),
                        Some(_) => {
                            let value = whole(frame, backing, self.settings.limits.moved_min);
                            self.answer(client, slot, Answer { end: END, ..value });
                        }
                    }
                }
                Asker::Part(fanout, key) => match backing {
                    Some(backing) if frame.len() >= self.settings.limits.moved_min => {
                        self.part_moved(fanout, key, backing.slice_ref(frame));
                    }
                    _ => self.part_hit(fanout, key, frame),
                },
            }
        }
    }

    /// What has not come is not there.
    #[inline]
    fn give_misses(&mut self, joined: &JoinedGet) {
        let mut from = 0;
        while let Some(number) = joined.next_missing(from) {
            let mut askers = joined.askers_of(number);
            while let Some(asker) = askers.next(joined) {
                match asker {
                    Asker::Slot(client, slot) => {
                        self.counters.get_misses += 1;
                        self.answer_with(client, slot, |bytes| bytes.extend_from_slice(END));
                    }
                    Asker::Part(fanout, key) => self.part_missed(fanout, key),
                }
            }
            from = number + 1;
        }
    }

    /// An error stands in place of what has not come: everybody gets it as their own.
    fn give_error(&mut self, joined: &JoinedGet, line: &[u8]) {
        let mut from = 0;
        while let Some(number) = joined.next_missing(from) {
            let mut askers = joined.askers_of(number);
            while let Some(asker) = askers.next(joined) {
                match asker {
                    Asker::Slot(client, slot) => self.answer(client, slot, Answer::copied(line)),
                    Asker::Part(fanout, key) => self.part_refused(fanout, key, line),
                }
            }
            from = number + 1;
        }
    }

    fn note_values(&mut self, conn: ConnId, joined: &JoinedGet) {
        let bytes_max = self.settings.limits.joined_bytes_max;
        if let (Some(bytes), Some(link)) = (joined.value_bytes(), self.link(conn)) {
            link.note_value_bytes(bytes, bytes_max);
            let value_bytes = link.value_bytes;
            self.note_value_bytes(value_bytes);
        }
    }

    /// A backend's values have so many bytes.
    fn note_value_bytes(&mut self, bytes: usize) {
        let before = self.value_bytes;
        self.value_bytes = if bytes >= before { bytes } else { before - (before - bytes).div_ceil(8) };
    }

    fn take_line(
        &mut self,
        conn: ConnId,
        pending: Pending,
        verb: LineVerb,
        quiet: bool,
        line: &[u8],
    ) -> Reply {
        if !answers(verb, &line[..line.len() - 2]) {
            return Reply::Broken;
        }
        self.count_line(verb, line);
        self.pop_head(conn, &pending);
        if let Target::Broadcast(index, generation) = pending.target {
            let failure = (line != b"OK\r\n").then(|| self.words_of(conn, &line[..line.len() - 2]));
            self.broadcast_answered((index, generation), failure);
        } else {
            self.give(&pending, Answer::copied(if quiet { b"" } else { line }));
        }
        Reply::Whole(line.len())
    }

    fn count_line(&mut self, verb: LineVerb, line: &[u8]) {
        let counters = &mut self.counters;
        let counter = match (verb, line[0], line[1]) {
            (LineVerb::Store(StoreVerb::Cas), b'S', b'T') => &mut counters.cas_hits,
            (LineVerb::Store(StoreVerb::Cas), b'E', b'X') => &mut counters.cas_badval,
            (LineVerb::Store(StoreVerb::Cas), b'N', _) => &mut counters.cas_misses,
            (LineVerb::Increment, b'0'..=b'9', _) => &mut counters.incr_hits,
            (LineVerb::Increment, b'N', _) => &mut counters.incr_misses,
            (LineVerb::Decrement, b'0'..=b'9', _) => &mut counters.decr_hits,
            (LineVerb::Decrement, b'N', _) => &mut counters.decr_misses,
            (LineVerb::Touch, b'T', _) => &mut counters.touch_hits,
            (LineVerb::Touch, b'N', _) => &mut counters.touch_misses,
            (LineVerb::Delete, b'D', _) => &mut counters.delete_hits,
            (LineVerb::Delete, b'N', _) => &mut counters.delete_misses,
            _ => return,
        };
        *counter += 1;
    }

    fn take_meta(
        &mut self,
        conn: ConnId,
        pending: Pending,
        (verb, quiet): (MetaVerb, bool),
        raw_key: usize,
        input: &[u8],
        backing: Option<&Bytes>,
    ) -> Reply {
        let Some(link) = self.links.get(conn.index(), conn.generation()) else { return Reply::Broken };
        let ring = link.queue.keys.front(pending.key_bytes as usize);
        let raw_key = &ring[..raw_key];
        let (line, total) = match reply::meta(input, raw_key, self.reply_limits) {
            Frame::Value { line, total, .. } => (line, total),
            Frame::Line { total } => (total, total),
            other => return unfinished(other),
        };
        let code = [input[0], input[1]];
        let echo = pending.expect.echo(ring);
        if !answers_meta(verb, input) || !bears_only(&input[..line], echo, raw_key) {
            return Reply::Broken;
        }
        match (verb, &code) {
            (MetaVerb::Get, b"EN") => self.counters.get_misses += 1,
            (MetaVerb::Get, b"VA" | b"HD") => self.counters.get_hits += 1,
            _ => {}
        }
        if let Expect::Meta { token_key: length @ 1.., .. } = pending.expect {
            let key = &ring[ring.len() - usize::from(length)..];
            self.note_meta_token(key, &input[..line - 2], raw_key);
        }
        self.pop_head(conn, &pending);
        let answer = if quiet && is_nominal(verb, &code) {
            Answer::SILENCE
        } else {
            whole(&input[..total], backing, self.settings.limits.moved_min)
        };
        self.give(&pending, answer);
        Reply::Whole(total)
    }

    /// A quiet command's answer, if the backend has given one, and the fence behind it.
    #[inline(never)]
    fn take_fenced(
        &mut self,
        conn: ConnId,
        pending: Pending,
        verb: MetaVerb,
        raw_key: usize,
        input: &[u8],
    ) -> Reply {
        const FENCE: &[u8] = b"MN\r\n";
        let Some(link) = self.links.get(conn.index(), conn.generation()) else { return Reply::Broken };
        let ring = link.queue.keys.front(pending.key_bytes as usize);
        let (raw_key, echo) = (&ring[..raw_key], pending.expect.echo(ring));
        let fits = |line| answers_meta(verb, input) && bears_only(&input[..line], echo, raw_key);
        let answer = match reply::meta(input, raw_key, self.reply_limits) {
            Frame::Line { total } if input[..total] == *FENCE => 0,
            Frame::Value { line, total, .. } if fits(line) => total,
            Frame::Line { total } if fits(total) => total,
            Frame::Value { .. } | Frame::Line { .. } => return Reply::Broken,
            other => return unfinished(other),
        };
        let total = answer + FENCE.len();
        match input.get(answer..total) {
            Some(FENCE) => {}
            Some(_) => return Reply::Broken,
            None => return Reply::Partial(total),
        }
        self.pop_head(conn, &pending);
        self.give(&pending, Answer::copied(&input[..answer]));
        Reply::Whole(total)
    }

    /// What a backend said instead of OK, under its name.
    fn words_of(&mut self, conn: ConnId, words: &[u8]) -> Vec<u8> {
        let Some(link) = self.link(conn) else { return words.to_vec() };
        let backend = link.backend;
        let name = self.settings.backends[backend].name.as_bytes();
        [b"SERVER_ERROR backend ", name, b" answered ", words].concat()
    }

    /// The item under the key of a refused value is gone: now the refusal is answered.
    fn take_unlinked(&mut self, conn: ConnId, pending: Pending, quiet: bool, line: &[u8]) -> Reply {
        let answer = match line {
            // By delete, and by md of a base64 key.
            b"DELETED\r\n" | b"NOT_FOUND\r\n" | b"HD\r\n" | b"NF\r\n" => TOO_LARGE,
            error if reply::is_error(error) => error,
            _ => return Reply::Broken,
        };
        self.pop_head(conn, &pending);
        self.give(&pending, Answer::copied(if quiet { b"" } else { answer }));
        Reply::Whole(line.len())
    }

    fn take_binary_reply(
        &mut self,
        conn: ConnId,
        pending: Pending,
        input: &[u8],
        backing: Option<&Bytes>,
    ) -> Reply {
        let header = match reply::binary(input, self.reply_limits) {
            Ok(header) => header,
            Err(other) => return unfinished(other),
        };
        let total = HEADER_BYTES + header.body;
        let (expected, tag) = match pending.expect {
            Expect::Binary { opcode, tag, .. } => (binary::answering(opcode).0, tag),
            Expect::BinaryUnlinked { tag, .. } => (opcode::DELETE, tag),
            _ => return Reply::Broken,
        };
        if header.opcode != expected || header.opaque != tag {
            return Reply::Broken;
        }
        match pending.expect {
            Expect::BinaryUnlinked { opcode, opaque, .. } => {
                self.pop_head(conn, &pending);
                let answer = match header.status {
                    status::OK | status::KEY_NOT_FOUND => {
                        response(opcode, opaque, status::TOO_LARGE, b"Too large.")
                    }
                    other => response(opcode, opaque, other, &input[HEADER_BYTES..total]),
                };
                self.give(&pending, Answer::copied(&answer));
            }
            Expect::Binary { opcode, opaque, .. } => {
                if !self.bears_the_key(conn, &pending, &header, input) {
                    return Reply::Broken;
                }
                if self.fenced {
                    self.note_binary_token(conn, &pending, input);
                }
                self.count_binary(opcode, header.status);
                self.pop_head(conn, &pending);
                self.give_binary(conn, &pending, (opcode, opaque), header.status, &input[..total], backing);
            }
            _ => {}
        }
        Reply::Whole(total)
    }

    /// A reply that bears a key bears the one that was asked for.
    fn bears_the_key(&mut self, conn: ConnId, pending: &Pending, header: &Header, input: &[u8]) -> bool {
        let Some(link) = self.link(conn) else { return false };
        let start = HEADER_BYTES + header.extras;
        header.key == 0
            || input[start..start + header.key] == *link.queue.keys.front(pending.key_bytes as usize)
    }

    fn give_binary(
        &mut self,
        conn: ConnId,
        pending: &Pending,
        (opcode, opaque): (u8, [u8; 4]),
        status: u16,
        frame: &[u8],
        backing: Option<&Bytes>,
    ) {
        if let Target::Broadcast(index, generation) = pending.target {
            let failure = (status != status::OK).then(|| self.words_of(conn, &frame[HEADER_BYTES..]));
            return self.broadcast_answered((index, generation), failure);
        }
        if is_silenced(opcode, status) {
            return self.give(pending, Answer::SILENCE);
        }
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(&frame[..HEADER_BYTES]);
        head[1] = opcode;
        head[12..16].copy_from_slice(&opaque);
        let body = whole(&frame[HEADER_BYTES..], backing, self.settings.limits.moved_min);
        self.give(pending, Answer { head: &head, rest: body.head, ..body });
    }

    fn count_binary(&mut self, opcode: u8, status: u16) {
        let counters = &mut self.counters;
        let counter = match (binary::answering(opcode).0, status) {
            (opcode::GET | opcode::GETK | opcode::GAT | opcode::GATK, status::OK) => &mut counters.get_hits,
            (opcode::GET | opcode::GETK | opcode::GAT | opcode::GATK, status::KEY_NOT_FOUND) => {
                &mut counters.get_misses
            }
            (opcode::DELETE, status::OK) => &mut counters.delete_hits,
            (opcode::DELETE, status::KEY_NOT_FOUND) => &mut counters.delete_misses,
            (opcode::INCREMENT, status::OK) => &mut counters.incr_hits,
            (opcode::INCREMENT, status::KEY_NOT_FOUND) => &mut counters.incr_misses,
            (opcode::DECREMENT, status::OK) => &mut counters.decr_hits,
            (opcode::DECREMENT, status::KEY_NOT_FOUND) => &mut counters.decr_misses,
            (opcode::TOUCH, status::OK) => &mut counters.touch_hits,
            (opcode::TOUCH, status::KEY_NOT_FOUND) => &mut counters.touch_misses,
            _ => return,
        };
        *counter += 1;
    }

    /// As [`Self::note_token`], of a binary reply whose key is in the ring.
    #[cold]
    fn note_binary_token(&mut self, conn: ConnId, pending: &Pending, frame: &[u8]) {
        let token = frame[16..HEADER_BYTES].try_into().map_or(0, u64::from_be_bytes);
        let Some(link) = self.links.get(conn.index(), conn.generation()) else { return };
        let key = link.queue.keys.front(pending.key_bytes as usize);
        if token != 0 && !key.is_empty() {
            self.note_token(key, token);
        }
    }

    pub(super) fn out_of_step(&mut self, conn: ConnId, input: &[u8]) {
        let Some(link) = self.link(conn) else { return };
        let backend = link.backend;
        self.counters.desyncs += 1;
        let shown = input[..input.len().min(64)].escape_ascii().to_string();
        log::error!("backend {} answered out of step: \"{shown}\"", self.settings.backends[backend].name);
        self.lose_link(conn, Why::OutOfStep);
    }
}

/// The answer to a get of one key.
#[inline]
fn copy_value(frame: &[u8], bytes: &mut Vec<u8>) {
    // Room is made once for both.
    bytes.reserve(frame.len() + END.len());
    bytes.extend_from_slice(frame);
    bytes.extend_from_slice(END);
}

/// The frame as an answer: moved if it is large and `backing` owns it.
#[inline]
fn whole<'a>(frame: &'a [u8], backing: Option<&Bytes>, moved_min: usize) -> Answer<'a> {
    match backing {
        Some(backing) if frame.len() >= moved_min => {
            Answer { moved: Some(backing.slice_ref(frame)), ..Answer::SILENCE }
        }
        _ => Answer::copied(frame),
    }
}

/// The line can be the answer to such a command.
fn answers(verb: LineVerb, line: &[u8]) -> bool {
    let fits = match verb {
        LineVerb::Store(StoreVerb::Cas) => {
            matches!(line, b"STORED" | b"EXISTS" | b"NOT_FOUND" | b"NOT_STORED")
        }
        LineVerb::Store(_) => matches!(line, b"STORED" | b"NOT_STORED"),
        LineVerb::Increment | LineVerb::Decrement => line == b"NOT_FOUND" || digits(line).is_some(),
        LineVerb::Touch => matches!(line, b"TOUCHED" | b"NOT_FOUND"),
        LineVerb::Delete => matches!(line, b"DELETED" | b"NOT_FOUND"),
        LineVerb::FlushAll => line == b"OK",
    };
    fits || reply::is_error(line)
}

/// The line can be the answer to such a command.
fn answers_meta(verb: MetaVerb, line: &[u8]) -> bool {
    let code = match line {
        [first, second, b' ' | b'\r', ..] => &[*first, *second],
        _ => return reply::is_error(line),
    };
    match verb {
        MetaVerb::Get => matches!(code, b"VA" | b"HD" | b"EN"),
        MetaVerb::Set => matches!(code, b"HD" | b"NS" | b"EX" | b"NF"),
        MetaVerb::Delete => matches!(code, b"HD" | b"NF" | b"EX"),
        MetaVerb::Arithmetic => matches!(code, b"HD" | b"VA" | b"NF" | b"NS" | b"EX"),
        MetaVerb::Debug => matches!(code, b"ME" | b"EN"),
        MetaVerb::Noop => false,
    }
}

/// The answer's line, its end included, bears no opaque and no key but those of its request. Where that has
/// asked for neither, looking costs 120 instructions, and there is nothing to compare.
#[inline]
fn bears_only(line: &[u8], echo: &[u8], raw_key: &[u8]) -> bool {
    // Behind anything but a code and a space there are no flags.
    echo.is_empty() || line[2] != b' ' || reply::bears_only(&line[..line.len() - 2], echo, raw_key)
}

/// What a quiet meta command does not want to hear (1.6.18's proto_text.c).
fn is_nominal(verb: MetaVerb, code: &[u8; 2]) -> bool {
    match verb {
        MetaVerb::Get => code == b"EN",
        MetaVerb::Set | MetaVerb::Delete => code == b"HD",
        MetaVerb::Arithmetic => code == b"HD" || code == b"VA",
        MetaVerb::Debug | MetaVerb::Noop => false,
    }
}

fn unfinished(frame: Frame) -> Reply {
    match frame {
        Frame::Partial { total } => Reply::Partial(total),
        _ => Reply::Broken,
    }
}
