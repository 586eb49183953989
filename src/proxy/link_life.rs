//! How links come and go. What was never written may go out on a fresh link; what may have reached the
//! backend is never sent again.

use std::collections::VecDeque;

use crate::buffer::Outbox;
use crate::io::{Action, ConnId, Failure};
use crate::protocol::binary::{Request, opcode};
use crate::protocol::compose;
use crate::time::Time;

use super::Proxy;
use super::backend::Why;
use super::link::{Expect, KeyRing, Link, LinkProtocol, LinkState, Pending, Target};

impl Proxy {
    /// The link to a backend for `protocol`; opened if there is none.
    ///
    /// # Errors
    /// The backend is down.
    #[inline]
    pub(super) fn link_for(&mut self, backend: usize, protocol: LinkProtocol) -> Result<ConnId, Why> {
        let state = &mut self.backends[backend];
        if state.down.is_some() {
            return Err(Why::Down);
        }
        match *state.link(protocol) {
            Some(conn) => Ok(conn),
            None => Ok(self.open_link(backend, protocol)),
        }
    }

    /// Opens a link; it begins with a question for the backend's version.
    pub(super) fn open_link(&mut self, backend: usize, protocol: LinkProtocol) -> ConnId {
        let mut link = Link::new(backend, protocol, self.now);
        link.connect_deadline = self.now + self.settings.connect_timeout;
        self.greet(&mut link);
        let (index, generation) = self.links.insert(link);
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
        let now = self.now;
        let greeting_deadline = now + self.settings.timeout;
        let Some(link) = self.link(conn) else { return };
        if link.state != LinkState::Connecting {
            return;
        }
        link.state = LinkState::Standing;
        link.heard = now;
        // What waited for the connect keeps its deadline, and deadlines in a pipeline do not go down.
        let next = link.pipeline.get(1).map_or(Time::NEVER, |pending| pending.deadline);
        let greeting_deadline = greeting_deadline.min(next);
        if let Some(first) = link.pipeline.front_mut()
            && first.target == Target::Greeting
        {
            first.deadline = greeting_deadline;
        }
        self.wake_at(greeting_deadline);
        self.touch_link(conn);
    }

    /// The engine says that a link is broken, or that its connect has failed.
    pub(super) fn link_failed(&mut self, conn: ConnId, failure: Failure) {
        let Some(link) = self.link(conn) else { return };
        match link.state {
            LinkState::Connecting | LinkState::Resolving => {
                let why = if failure == Failure::Refused { Why::Refused } else { Why::Unreachable };
                self.connect_failed(conn, why);
            }
            LinkState::Standing => self.lose_link(conn, Why::Lost),
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
        let rest = take_unwritten(self.link(conn).expect("it was there"));
        self.shut_link(conn);
        let mut next = Link::new(backend, protocol, now);
        next.connect_deadline = deadline;
        self.greet(&mut next);
        let (index, generation) = self.links.insert(next);
        let next = ConnId::link(index, generation);
        *self.backends[backend].link(protocol) = Some(next);
        self.adopt(next, rest);
        self.connect_link(next, address + 1);
    }

    pub(super) fn sent_to_link(&mut self, conn: ConnId, mut buffer: Outbox, written: usize) {
        self.counters.backend_bytes_written += written as u64;
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else {
            return buffer.recycle(&mut self.spare);
        };
        let unwritten = buffer.len() - written;
        link.sending = 0;
        if unwritten > 0 && link.state == LinkState::Standing {
            // The link has failed, which will be told next. What was not written goes back to where it was.
            link.handed -= unwritten as u64;
            buffer.drop_front(written);
            let behind = std::mem::replace(&mut link.outbox, buffer);
            link.outbox.append(behind, &mut self.spare);
            return;
        }
        buffer.recycle(&mut self.spare);
        if !link.outbox.is_empty() {
            self.touch_link(conn);
        }
    }

    /// A link has come to its end, or cannot be trusted any more. What may have reached the backend is
    /// answered with an error; what was never written goes out on a fresh link, unless this one never stood.
    pub(super) fn lose_link(&mut self, conn: ConnId, why: Why) {
        let Some(link) = self.link(conn) else { return };
        let (backend, protocol, was_opening) = (link.backend, link.protocol, link.is_opening());
        let written = link.first_unwritten();
        let mut lost = take_written(link, written, why);
        let rest = take_unwritten(link);
        self.shut_link(conn);
        *self.backends[backend].link(protocol) = None;
        if was_opening || !lost.is_empty() {
            self.count_failure(backend, why);
        }
        lost.extend(self.requeue(backend, protocol, rest, was_opening.then_some(why)));
        self.fail_all(backend, lost);
    }

    /// Nothing has been read from a link for too long: our sending side is shut down, what still comes is
    /// thrown away, and it is kept until the backend ends it.
    pub(super) fn retire_link(&mut self, conn: ConnId) {
        self.counters.retired_links += 1;
        let Some(link) = self.link(conn) else { return };
        let (backend, protocol) = (link.backend, link.protocol);
        let written = link.first_unwritten();
        let mut lost = take_written(link, written, Why::TimedOut);
        let rest = take_unwritten(link);
        link.state = LinkState::Retired;
        link.marks = 0;
        link.unread = Vec::new();
        self.actions.push_back(Action::ShutdownWrite(conn));
        let state = &mut self.backends[backend];
        *state.link(protocol) = None;
        state.retired.push(conn);
        if state.retired.len() > self.settings.limits.retired_links_max {
            let oldest = state.retired[0];
            self.end_retired(oldest);
        }
        self.count_failure(backend, Why::TimedOut);
        lost.extend(self.requeue(backend, protocol, rest, None));
        self.fail_all(backend, lost);
    }

    pub(super) fn end_retired(&mut self, conn: ConnId) {
        let Some(link) = self.link(conn) else { return };
        let backend = link.backend;
        self.backends[backend].retired.retain(|&retired| retired != conn);
        self.shut_link(conn);
    }

    /// Closes a link that owes nothing to anybody any more.
    pub(super) fn shut_link(&mut self, conn: ConnId) {
        let Some(link) = self.link(conn) else { return };
        let connected = link.state != LinkState::Resolving;
        if std::mem::replace(&mut link.state, LinkState::Closed) == LinkState::Closed {
            return;
        }
        let outbox = std::mem::take(&mut link.outbox);
        link.unread = Vec::new();
        outbox.recycle(&mut self.spare);
        if connected {
            self.actions.push_back(Action::Close(conn));
        } else {
            self.links.remove(conn.index(), conn.generation());
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
        if let Some(why) = why.or(self.backends[backend].down.map(|_| Why::Down)) {
            while let Some(pending) = rest.pipeline.pop_front() {
                let key = rest.keys.front(pending.key_bytes as usize).to_vec();
                rest.keys.pop(key.len());
                failed.push((pending, key, why));
            }
        }
        if rest.pipeline.is_empty() {
            rest.outbox.recycle(&mut self.spare);
        } else {
            self.counters.requeued += rest.pipeline.len() as u64;
            let conn = self.open_link(backend, protocol);
            self.adopt(conn, rest);
        }
        failed
    }

    /// Answers requests that have failed. That comes last: it makes clients go on, and what they ask next
    /// must find the backend's links in order.
    fn fail_all(&mut self, backend: usize, failed: Vec<FailedRequest>) {
        for (pending, key, why) in failed {
            self.fail(backend, pending.target, pending.expect, &key, why);
        }
    }

    /// Puts what another link never wrote behind the greeting of a new one.
    fn adopt(&mut self, conn: ConnId, rest: Unwritten) {
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
        let offset = link.queued;
        let deadline = rest.pipeline.front().map_or(Time::NEVER, |pending| pending.deadline);
        link.queued += rest.outbox.len() as u64;
        link.pipeline.extend(
            rest.pipeline.into_iter().map(|pending| Pending { start: pending.start + offset, ..pending }),
        );
        link.keys = rest.keys;
        link.next_opaque = link.next_opaque.max(rest.next_opaque);
        link.outbox.append(rest.outbox, &mut self.spare);
        self.wake_at(deadline);
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

    /// Asks for the version, before any request.
    fn greet(&mut self, link: &mut Link) {
        let tail = link.outbox.tail(&mut self.spare);
        let expect = match link.protocol {
            LinkProtocol::Text => {
                tail.extend_from_slice(b"version\r\n");
                Expect::Version
            }
            LinkProtocol::Binary => {
                let version = Request {
                    opcode: opcode::VERSION,
                    opaque: [0; 4],
                    cas: 0,
                    extras: &[],
                    key: &[],
                    value: &[],
                };
                compose::binary_head(tail, &version, opcode::VERSION, link.next_opaque);
                link.next_opaque += 1;
                Expect::BinaryVersion { tag: link.next_opaque - 1 }
            }
        };
        let deadline = Time::NEVER;
        link.queued = link.outbox.len() as u64;
        link.pipeline.push_back(Pending {
            target: Target::Greeting,
            expect,
            deadline,
            start: 0,
            key_bytes: 0,
        });
    }
}

/// A request, its key, and why it has failed.
type FailedRequest = (Pending, Vec<u8>, Why);

/// Takes the first `count` entries out of a link's pipeline, with their keys.
fn take_written(link: &mut Link, count: usize, why: Why) -> Vec<FailedRequest> {
    let mut taken = Vec::with_capacity(count);
    for pending in link.pipeline.drain(..count) {
        let key = link.keys.front(pending.key_bytes as usize).to_vec();
        link.keys.pop(key.len());
        taken.push((pending, key, why));
    }
    taken
}

/// What a link has queued and never handed to the driver, its greeting left out. The pipeline's entries start
/// at the outbox's bytes.
struct Unwritten {
    outbox: Outbox,
    pipeline: VecDeque<Pending>,
    keys: KeyRing,
    next_opaque: u32,
}

/// Takes out of a link what was never written. What was written must have been taken out before.
fn take_unwritten(link: &mut Link) -> Unwritten {
    debug_assert_eq!(link.first_unwritten(), 0);
    let mut pipeline = std::mem::take(&mut link.pipeline);
    if pipeline.front().is_some_and(|pending| pending.target == Target::Greeting) {
        pipeline.pop_front();
    }
    let start = pipeline.front().map_or(link.queued, |pending| pending.start);
    let mut outbox = std::mem::take(&mut link.outbox);
    outbox.drop_front((start - link.handed) as usize);
    for pending in &mut pipeline {
        pending.start -= start;
    }
    Unwritten { outbox, pipeline, keys: std::mem::take(&mut link.keys), next_opaque: link.next_opaque }
}
