//! What is overdue. Deadlines are looked at only when the earliest of them may have passed.

use crate::io::ConnId;
use crate::time::Time;

use super::Proxy;
use super::backend::Why;
use super::link::{Expect, LinkState, Target};

impl Proxy {
    /// Carries out everything that is due now, and finds the next deadline.
    pub(super) fn expire(&mut self) {
        self.wake = Time::NEVER;
        let mut ids = std::mem::take(&mut self.ids);
        ids.extend(self.links.ids());
        for (index, generation) in ids.drain(..) {
            self.expire_link(ConnId::link(index, generation));
        }
        self.ids = ids;
        self.expire_moving();
        self.expire_reads();
        self.expire_questions();
        self.expire_drain();
    }

    fn expire_link(&mut self, conn: ConnId) {
        let now = self.now;
        self.expire_written(conn);
        self.expire_unwritten(conn);
        let timeout = self.settings.timeout;
        let Some(link) = self.link(conn) else { return };
        match link.state {
            LinkState::Resolving if now >= link.attempt_deadline => {
                self.lose_link(conn, Why::ConnectTimedOut)
            }
            LinkState::Greeting if now >= link.attempt_deadline => self.lose_link(conn, Why::TimedOut),
            LinkState::Connecting if now >= link.attempt_deadline => {
                self.connect_failed(conn, Why::ConnectTimedOut);
            }
            LinkState::Standing if link.marks > 0 && now >= link.heard.max(link.marked) + timeout => {
                self.retire_link(conn, Why::TimedOut);
            }
            _ => {}
        }
        if let Some(at) = self.next_deadline(conn) {
            self.wake_at(at);
        }
    }

    /// Requests that were written and not answered in time: their clients get the error, and a mark stays in
    /// the pipeline for the reply that may still come.
    fn expire_written(&mut self, conn: ConnId) {
        let (now, timeout) = (self.now, self.settings.timeout);
        loop {
            let Some(link) = self.link(conn) else { return };
            let (marks, handed) = (link.marks, link.handed);
            let Some(pending) = link.queue.pipeline.get_mut(marks) else { return };
            if pending.start >= handed || pending.deadline > now || link.state != LinkState::Standing {
                return;
            }
            let expired = *pending;
            pending.target = Target::Mark;
            link.marks += 1;
            if marks == 0 {
                link.marked = now;
            }
            let (backend, silent) = (link.backend, now >= link.heard + timeout);
            let key = link.queue.keys.peek(link.queue.key_bytes_before(marks), expired.key_bytes as usize);
            if silent {
                self.count_failure(backend, Why::TimedOut);
            }
            if expired.expect == Expect::Joined {
                self.fail_joined_at(conn, marks);
            } else {
                self.fail(backend, expired.target, expired.expect, &key, Why::TimedOut);
            }
        }
    }

    /// Those who asked for keys of the joined get at this place of the pipeline get the error. It stays, so
    /// that its reply is known when it comes.
    fn fail_joined_at(&mut self, conn: ConnId, index: usize) {
        let Some(link) = self.link(conn) else { return };
        let (backend, place) = (link.backend, link.queue.joined_before(index));
        let Some(mut joined) = link.queue.joined.remove(place) else { return };
        self.fail_joined(backend, &joined, Why::TimedOut);
        joined.abandon();
        if let Some(link) = self.link(conn) {
            link.queue.joined.insert(place, joined);
        }
    }

    /// Requests whose time has passed before they could be written are taken back.
    fn expire_unwritten(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(link) = self.link(conn) else { return };
        let first = link.first_unwritten();
        let entries = link.queue.pipeline.iter().skip(first);
        let count = entries.take_while(|pending| pending.deadline <= now).count();
        if count == 0 || link.state == LinkState::Closed {
            return;
        }
        let (backend, handed) = (link.backend, link.handed);
        let taken = link.queue.cut(first, count, handed);
        self.charge_link(conn);
        for (pending, key, joined) in taken {
            match joined {
                Some(joined) => {
                    self.fail_joined(backend, &joined, Why::TimedOut);
                    self.room.joined.give(joined);
                }
                None => self.fail(backend, pending.target, pending.expect, &key, Why::TimedOut),
            }
        }
    }

    fn next_deadline(&mut self, conn: ConnId) -> Option<Time> {
        let timeout = self.settings.timeout;
        let link = self.link(conn)?;
        if matches!(link.state, LinkState::Retired | LinkState::Closed) {
            return None;
        }
        let waiting = link.queue.pipeline.iter().skip(link.marks).take(2).map(|pending| pending.deadline);
        let unwritten = link.queue.pipeline.get(link.first_unwritten()).map(|pending| pending.deadline);
        let retire = (link.marks > 0).then(|| link.heard.max(link.marked) + timeout);
        let attempt = link.is_opening().then_some(link.attempt_deadline);
        waiting.chain(unwritten).chain(retire).chain(attempt).min().filter(|&at| at != Time::NEVER)
    }
}
