//! What is overdue. Deadlines are looked at only when the earliest of them may have passed.

use crate::io::ConnId;
use crate::time::Time;

use super::Proxy;
use super::backend::Why;
use super::link::{LinkState, Target};

impl Proxy {
    /// Carries out everything that is due now, and finds the next deadline.
    pub(super) fn expire(&mut self) {
        self.wake = Time::NEVER;
        let links: Vec<(u32, u32)> = self.links.ids().collect();
        for (index, generation) in links {
            self.expire_link(ConnId::link(index, generation));
        }
        for backend in 0..self.backends.len() {
            if let Some(at) = self.probe(backend) {
                self.wake_at(at);
            }
        }
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
            LinkState::Connecting if now >= link.attempt_deadline => {
                self.connect_failed(conn, Why::ConnectTimedOut);
            }
            LinkState::Standing if link.marks > 0 && now >= link.heard.max(link.marked) + timeout => {
                self.retire_link(conn);
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
            let Some(pending) = link.pipeline.get_mut(marks) else { return };
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
            let before: usize =
                link.pipeline.iter().take(marks).map(|pending| pending.key_bytes as usize).sum();
            let key = link.keys.peek(before, expired.key_bytes as usize);
            self.counters.timeouts += u64::from(expired.target != Target::Greeting);
            if silent {
                self.count_failure(backend, Why::TimedOut);
            }
            self.fail(backend, expired.target, expired.expect, &key, Why::TimedOut);
        }
    }

    /// Requests whose time has passed before they could be written are taken back.
    fn expire_unwritten(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(link) = self.link(conn) else { return };
        let mut first = link.first_unwritten();
        if link.pipeline.get(first).is_some_and(|pending| pending.target == Target::Greeting) {
            first += 1;
        }
        let count = link.pipeline.iter().skip(first).take_while(|pending| pending.deadline <= now).count();
        if count == 0 || link.state == LinkState::Closed {
            return;
        }
        let start = link.pipeline[first].start;
        let end = link.pipeline.get(first + count).map_or(link.queued, |pending| pending.start);
        link.outbox.cut((start - link.handed) as usize, (end - start) as usize);
        link.queued -= end - start;
        let skip: usize = link.pipeline.iter().take(first).map(|pending| pending.key_bytes as usize).sum();
        let backend = link.backend;
        let mut expired = Vec::with_capacity(count);
        for pending in link.pipeline.drain(first..first + count) {
            let key = link.keys.take(skip, pending.key_bytes as usize);
            expired.push((pending, key));
        }
        for pending in link.pipeline.iter_mut().skip(first) {
            pending.start -= end - start;
        }
        for (pending, key) in expired {
            self.counters.timeouts += 1;
            self.fail(backend, pending.target, pending.expect, &key, Why::TimedOut);
        }
    }

    fn next_deadline(&mut self, conn: ConnId) -> Option<Time> {
        let timeout = self.settings.timeout;
        let link = self.link(conn)?;
        if matches!(link.state, LinkState::Retired | LinkState::Closed) {
            return None;
        }
        let waiting = link.pipeline.iter().skip(link.marks).take(2).map(|pending| pending.deadline);
        let unwritten = link.pipeline.get(link.first_unwritten()).map(|pending| pending.deadline);
        let retire = (link.marks > 0).then(|| link.heard.max(link.marked) + timeout);
        let attempt = link.is_opening().then_some(link.attempt_deadline);
        waiting.chain(unwritten).chain(retire).chain(attempt).min().filter(|&at| at != Time::NEVER)
    }
}
