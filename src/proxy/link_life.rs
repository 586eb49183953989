//! How links come and go. What was never written may go out on a fresh link; what may have reached the
//! backend is never sent again.

use crate::buffer::Outbox;
use crate::io::{Action, ConnId, Failure};
use crate::ownership::change::{Health, Kind, Notice};
use crate::time::Time;

use super::Proxy;
use super::backend::Why;
use super::joined::JoinedGet;
use super::link::{Expect, Link, LinkProtocol, LinkState, Pending, Queue, Target};

/// Room that a link's outbox keeps between writes, bytes: more than a client's, and one for each link.
const LINK_ROOM_KEPT: usize = 128 << 10;

impl Proxy {
    /// The link to a backend for `protocol`; opened if there is none.
    ///
    /// # Errors
    /// The backend is down.
    #[inline]
    pub(super) fn link_for(&mut self, backend: usize, protocol: LinkProtocol) -> Result<ConnId, Why> {
        let state = &mut self.backends[backend];
        if state.health == Health::Down {
            return Err(Why::Down);
        }
        match *state.link(protocol) {
            Some(conn) => Ok(conn),
            None => self.open_another_link(backend, protocol),
        }
    }

    #[cold]
    fn open_another_link(&mut self, backend: usize, protocol: LinkProtocol) -> Result<ConnId, Why> {
        if self.has_given_up_enough(backend) {
            self.count_failure(backend, Why::TimedOut);
            return Err(Why::Down);
        }
        Ok(self.open_link(backend, protocol))
    }

    /// One more link to give up, and it would have to be closed: then nobody could know when nothing is under
    /// way to the backend any more.
    fn has_given_up_enough(&self, backend: usize) -> bool {
        let retired = self.backends[backend].retired.len();
        self.settings.auto_eject && retired >= self.settings.limits.retired_links_max
    }

    /// Opens a link; it begins with the question who is there.
    #[cold]
    pub(super) fn open_link(&mut self, backend: usize, protocol: LinkProtocol) -> ConnId {
        let mut link = Link::new(backend, protocol, self.now);
        link.connect_deadline = self.now + self.settings.connect_timeout;
        let (index, generation) = self.links.insert(Box::new(link));
        let conn = ConnId::link(index, generation);
        *self.backends[backend].link(protocol) = Some(conn);
        if self.settings.backends[backend].by_name {
            self.set_attempt_deadline(conn, 1);
            self.actions.push_back(Action::Resolve { backend });
        } else {
            self.backends[backend].addresses = 1;
            self.connect_link(conn, 0);
        }
        conn
    }

    /// A backend's name has been looked up: its links go on.
    pub(super) fn backend_resolved(&mut self, backend: usize, addresses: usize) {
        self.backends[backend].addresses = addresses;
        for conn in [self.backends[backend].text, self.backends[backend].binary].into_iter().flatten() {
            if self.link(conn).is_some_and(|link| link.state == LinkState::Resolving) {
                if addresses == 0 {
                    self.lose_link(conn, Why::Unresolved);
                } else {
                    self.connect_link(conn, 0);
                }
            }
        }
    }

    pub(super) fn link_connected(&mut self, conn: ConnId) {
        if self.link(conn).is_some_and(|link| link.state == LinkState::Connecting) {
            self.greet(conn);
        }
    }

    /// The engine says that a link is broken, or that its connect has failed.
    pub(super) fn link_failed(&mut self, conn: ConnId, failure: Failure) {
        let Some(link) = self.link(conn) else { return };
        match link.state {
            LinkState::Connecting | LinkState::Resolving => {
                let why = if failure == Failure::Refused { Why::Refused } else { Why::Unreachable };
                self.connect_failed(conn, why);
            }
            LinkState::Greeting | LinkState::Met | LinkState::Standing => self.lose_link(conn, Why::Lost),
            LinkState::Retired => self.end_retired(conn),
            LinkState::Closed => {}
        }
    }

    /// The backend sends no more.
    pub(super) fn link_ended(&mut self, conn: ConnId) {
        self.link_failed(conn, Failure::Reset);
    }

    /// A connect attempt has come to nothing: the next address is tried, if there is one and time for it.
    pub(super) fn connect_failed(&mut self, conn: ConnId, why: Why) {
        let now = self.now;
        let Some(link) = self.link(conn) else { return };
        let (backend, protocol, address, deadline) =
            (link.backend, link.protocol, link.address, link.connect_deadline);
        if address + 1 >= self.backends[backend].addresses || now >= deadline {
            return self.lose_link(conn, why);
        }
        let rest = self.take_unwritten(conn);
        self.shut_link(conn);
        let mut next = Link::new(backend, protocol, now);
        next.connect_deadline = deadline;
        let (index, generation) = self.links.insert(Box::new(next));
        let next = ConnId::link(index, generation);
        *self.backends[backend].link(protocol) = Some(next);
        if self.backends[backend].probing == Some(conn) {
            self.backends[backend].probing = Some(next);
        }
        self.adopt(next, rest);
        self.connect_link(next, address + 1);
    }

    pub(super) fn sent_to_link(&mut self, conn: ConnId, mut buffer: Outbox, written: usize) {
        self.counters.backend_bytes_written += written as u64;
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else {
            return buffer.recycle(&mut self.room.spare);
        };
        let unwritten = buffer.len() - written;
        link.sending = 0;
        self.memory.charge(link.bytes(), &mut link.charged);
        if std::mem::take(&mut link.greeting_in_flight) {
            buffer.recycle(&mut self.room.spare);
            return self.touch_link(conn);
        }
        if unwritten > 0 && link.state == LinkState::Standing {
            // The link has failed, which will be told next. What was not written goes back to where it was.
            link.handed -= unwritten as u64;
            buffer.drop_front(written);
            let behind = std::mem::replace(&mut link.queue.outbox, buffer);
            link.queue.outbox.append(behind, &mut self.room.spare);
            return self.charge_link(conn);
        }
        link.queue.outbox.reuse(buffer, LINK_ROOM_KEPT, &mut self.room.spare);
        if !link.queue.outbox.is_empty() {
            self.touch_link(conn);
        }
    }

    /// A link has come to its end, or cannot be trusted any more. What may have reached the backend is
    /// answered with an error; what was never written goes out on a fresh link, unless this one never stood.
    pub(super) fn lose_link(&mut self, conn: ConnId, why: Why) {
        let Some(link) = self.link(conn) else { return };
        let (backend, protocol, was_opening) = (link.backend, link.protocol, link.is_opening());
        let written = link.first_unwritten();
        let mut lost = take_first(&mut link.queue, written, why);
        let rest = self.take_unwritten(conn);
        self.shut_link(conn);
        *self.backends[backend].link(protocol) = None;
        self.note_lost(backend, conn);
        if was_opening || !lost.is_empty() {
            self.count_failure(backend, why);
        }
        lost.extend(self.requeue(backend, protocol, rest, was_opening.then_some(why)));
        self.fail_all(backend, lost);
    }

    /// A link is gone: that may be the answer to a probe, and the process behind it may be gone too.
    fn note_lost(&mut self, backend: usize, conn: ConnId) {
        let state = &mut self.backends[backend];
        let is_nameless = state.identity == Some(None);
        if state.probing.take_if(|probing| *probing == conn).is_some() {
            self.notify(Notice::Probed { backend, answered: false });
        }
        if is_nameless {
            self.notify(Notice::Lost { backend });
        }
    }

    /// Nothing has been read from a link for too long, or it is not to be used any more: our sending side is
    /// shut down, what still comes is thrown away, and it is kept until the backend ends it.
    pub(super) fn retire_link(&mut self, conn: ConnId, why: Why) {
        self.counters.retired_links += 1;
        let Some(link) = self.link(conn) else { return };
        let (backend, protocol) = (link.backend, link.protocol);
        let written = link.first_unwritten();
        let mut lost = take_first(&mut link.queue, written, why);
        let rest = self.take_unwritten(conn);
        let Some(link) = self.link(conn) else { return };
        link.state = LinkState::Retired;
        link.marks = 0;
        link.unread = Vec::new();
        self.actions.push_back(Action::ShutdownWrite(conn));
        self.charge_link(conn);
        let state = &mut self.backends[backend];
        *state.link(protocol) = None;
        state.retired.push(conn);
        // With --auto-eject none is opened that would be one too many: see has_given_up_enough.
        if state.retired.len() > self.settings.limits.retired_links_max && !self.settings.auto_eject {
            let oldest = state.retired[0];
            self.end_retired(oldest);
        }
        if why == Why::TimedOut {
            self.count_failure(backend, why);
        }
        lost.extend(self.requeue(backend, protocol, rest, None));
        self.fail_all(backend, lost);
    }

    pub(super) fn end_retired(&mut self, conn: ConnId) {
        let Some(link) = self.link(conn) else { return };
        let backend = link.backend;
        let state = &mut self.backends[backend];
        state.retired.retain(|&retired| retired != conn);
        if state.retired.is_empty() && self.settings.auto_eject {
            self.notify(Notice::Settled { backend });
        }
        self.shut_link(conn);
    }

    /// Closes a link that owes nothing to anybody any more.
    pub(super) fn shut_link(&mut self, conn: ConnId) {
        let Some(link) = self.link(conn) else { return };
        let connected = link.state != LinkState::Resolving;
        if std::mem::replace(&mut link.state, LinkState::Closed) == LinkState::Closed {
            return;
        }
        let outbox = std::mem::take(&mut link.queue.outbox);
        link.unread = Vec::new();
        outbox.recycle(&mut self.room.spare);
        if connected {
            self.actions.push_back(Action::Close(conn));
            self.charge_link(conn);
        } else {
            self.remove_link(conn);
        }
    }

    /// The driver has let go of a link.
    pub(super) fn remove_link(&mut self, conn: ConnId) {
        if let Some(mut link) = self.links.remove(conn.index(), conn.generation()) {
            self.memory.charge(0, &mut link.charged);
        }
    }

    /// What was never written on a link goes out on a fresh one; or is given back as failed, with `why` or
    /// because the backend is down.
    fn requeue(
        &mut self,
        backend: usize,
        protocol: LinkProtocol,
        mut rest: Unwritten,
        why: Option<Why>,
    ) -> Vec<FailedRequest> {
        let mut failed = Vec::new();
        let is_down = self.backends[backend].health == Health::Down || self.has_given_up_enough(backend);
        // Between two owners nothing goes out again: it might reach the one that is not any more.
        let is_moving = self.moving.as_ref().is_some_and(|moving| moving.change.kind != Kind::Restart);
        if let Some(why) = why.or(is_down.then_some(Why::Down)).or(is_moving.then_some(Why::Lost)) {
            let count = rest.queue.pipeline.len();
            failed = take_first(&mut rest.queue, count, why);
        }
        if rest.queue.pipeline.is_empty() {
            rest.queue.outbox.recycle(&mut self.room.spare);
        } else {
            self.counters.requeued += rest.queue.pipeline.len() as u64;
            let conn = self.open_link(backend, protocol);
            self.adopt(conn, rest);
        }
        failed
    }

    /// Answers requests that have failed. That comes last: it makes clients go on, and what they ask next
    /// must find the backend's links in order.
    fn fail_all(&mut self, backend: usize, failed: Vec<FailedRequest>) {
        for FailedRequest { pending, key, joined, why } in failed {
            match joined {
                Some(joined) => {
                    self.fail_joined(backend, &joined, why);
                    self.room.joined.give(joined);
                }
                None => self.fail(backend, pending.target, pending.expect, &key, why),
            }
        }
    }

    /// A backend is another process now: what compares a token with it, and was never written, was read from
    /// the one before. It is answered as if somebody else had been faster.
    pub(super) fn refuse_compares(&mut self, backend: usize) {
        for conn in [self.backends[backend].text, self.backends[backend].binary].into_iter().flatten() {
            let due = self.due;
            let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { continue };
            link.commit(due, &mut self.room.spare, &mut self.counters);
            let mut index = link.first_unwritten();
            while let Some(link) = self.links.get_mut(conn.index(), conn.generation())
                && let Some(pending) = link.queue.pipeline.get(index)
            {
                if !pending.expect.compares() {
                    index += 1;
                    continue;
                }
                let handed = link.handed;
                for (pending, key, _) in link.queue.cut(index, 1, handed) {
                    self.counters.cas_fenced += 1;
                    self.give_exists(&pending, &key);
                }
            }
            self.charge_link(conn);
        }
    }

    /// Puts what another link never wrote on a new one.
    fn adopt(&mut self, conn: ConnId, mut rest: Unwritten) {
        let deadline = rest.queue.pipeline.front().map_or(Time::NEVER, |pending| pending.deadline);
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
        link.queue.append(&mut rest.queue, Time::default(), &mut self.room.spare);
        link.next_opaque = link.next_opaque.max(rest.next_opaque);
        self.charge_link(conn);
        self.wake_at(deadline);
    }

    /// Takes out of a link what was never written, but for what has been answered with an error. What was
    /// written must have been taken out before.
    fn take_unwritten(&mut self, conn: ConnId) -> Unwritten {
        let deadline = self.due;
        let link = self.links.get_mut(conn.index(), conn.generation()).expect("it was there");
        debug_assert_eq!(link.first_unwritten(), 0);
        link.commit(deadline, &mut self.room.spare, &mut self.counters);
        let mut queue = std::mem::take(&mut link.queue);
        let unwanted = |pending: &&Pending| pending.target == Target::Mark;
        let unwanted = queue.pipeline.iter().take_while(unwanted).count();
        take_first(&mut queue, unwanted, Why::Lost);
        let start = queue.pipeline.front().map_or(queue.queued, |pending| pending.start);
        queue.outbox.drop_front((start - link.handed) as usize);
        for pending in &mut queue.pipeline {
            pending.start -= start;
        }
        queue.queued -= start;
        Unwritten { queue, next_opaque: link.next_opaque }
    }

    fn connect_link(&mut self, conn: ConnId, address: usize) {
        let Some(link) = self.link(conn) else { return };
        let backend = link.backend;
        link.state = LinkState::Connecting;
        link.address = address;
        let left = self.backends[backend].addresses - address;
        self.set_attempt_deadline(conn, left.max(1) as u32);
        self.actions.push_back(Action::Connect { conn, backend, address });
    }

    /// An attempt may take its share of the time that is left.
    fn set_attempt_deadline(&mut self, conn: ConnId, attempts_left: u32) {
        let now = self.now;
        let Some(link) = self.link(conn) else { return };
        let deadline = now + link.connect_deadline.since(now) / attempts_left;
        link.attempt_deadline = deadline;
        self.wake_at(deadline);
    }
}

/// A request that has failed: its entry, its key, who asked if they were several, and why.
struct FailedRequest {
    pending: Pending,
    key: Vec<u8>,
    joined: Option<Box<JoinedGet>>,
    why: Why,
}

/// Takes the first `count` entries out of a pipeline, with what belongs to them.
fn take_first(queue: &mut Queue, count: usize, why: Why) -> Vec<FailedRequest> {
    let mut taken = Vec::with_capacity(count);
    for pending in queue.pipeline.drain(..count) {
        let key = queue.keys.front(pending.key_bytes as usize).to_vec();
        queue.keys.pop(key.len());
        let joined = if pending.expect == Expect::Joined { queue.joined.pop_front() } else { None };
        taken.push(FailedRequest { pending, key, joined, why });
    }
    taken
}

/// What a link has queued and never handed to the driver. The pipeline's entries start at the outbox's bytes.
struct Unwritten {
    queue: Queue,
    next_opaque: u32,
}
