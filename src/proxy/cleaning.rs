//! A returning backend is made to forget what it has missed, before it serves: the keys that others have
//! written in its place, or everything if those are too many. The first worker does it for all.

use crate::io::ConnId;
use crate::ownership::change::{Health, Notice, Outcome, Written};
use crate::protocol::compose;

use super::Proxy;
use super::link::{Expect, LineVerb, LinkProtocol, LinkState, Target};
use super::link_queue::Value;

/// What is being forgotten.
#[derive(Debug)]
pub(super) struct Cleaning {
    /// Of the change.
    number: u64,
    /// On what, and whose.
    conn: ConnId,
    backend: usize,
    /// Answers to come.
    waiting: usize,
    /// Keys whose turn comes then.
    rest: Vec<Box<[u8]>>,
    /// One that stood in could not be made to forget.
    unforgotten: bool,
}

/// Keys that are asked to be forgotten at once, and bytes of them, or a little more: a link takes as many
/// even when memory is short.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 16 << 10;

impl Proxy {
    /// Begins it.
    pub(super) fn clean(&mut self, number: u64, written: &Written) {
        let Some(moving) = self.moving.as_ref().filter(|moving| moving.change.next.number == number) else {
            return;
        };
        let backend = moving.change.backend;
        let conn = self.backends[backend].text.filter(|&conn| self.stands(conn));
        let Some(conn) = conn else {
            let outcome = Outcome::Failed("no link to it stands".to_string());
            return self.notify(Notice::Cleaned { number, outcome });
        };
        let rest = written.keys.clone();
        self.cleaning = Some(Cleaning { number, conn, backend, waiting: 0, rest, unforgotten: false });
        if written.more {
            debug_assert!(written.keys.is_empty());
            self.counters.rejoin_flushes += 1;
            let expect = Expect::Line { verb: LineVerb::FlushAll, quiet: false };
            return self.clean_one(conn, backend, expect, |out| compose::flush_all(out, None));
        }
        self.forget_more();
    }

    fn stands(&mut self, conn: ConnId) -> bool {
        self.link(conn).is_some_and(|link| link.state == LinkState::Standing)
    }

    /// The next keys.
    fn forget_more(&mut self) {
        let limits = &self.settings.limits;
        let (most, bytes_max) =
            (BATCH.min(limits.link_requests_max), BATCH_BYTES.min(limits.link_bytes_max / 2));
        let Some(cleaning) = &mut self.cleaning else { return };
        let (conn, backend) = (cleaning.conn, cleaning.backend);
        let (mut keys, mut bytes) = (Vec::new(), 0);
        while keys.len() < most
            && bytes <= bytes_max
            && let Some(key) = cleaning.rest.pop()
        {
            bytes += b"delete \r\n".len() + key.len();
            keys.push(key);
        }
        if !self.stands(conn) {
            return self.finish_cleaning(Outcome::Failed("connection lost".to_string()));
        }
        for key in keys {
            self.counters.rejoin_deletes += 1;
            self.forget(&key, conn, backend);
        }
    }

    /// A key is forgotten by the backend that returns, and by the one that owned it meanwhile, if that does
    /// not keep it: should that own it again, what it has will be old.
    fn forget(&mut self, key: &[u8], conn: ConnId, backend: usize) {
        let expect = Expect::Line { verb: LineVerb::Delete, quiet: false };
        self.clean_one(conn, backend, expect, |out| compose::delete(out, key));
        if !self.moving.as_ref().is_some_and(|moving| moving.moves(key, &self.placement)) {
            return;
        }
        let meanwhile = self.placement.owner(key);
        let Some(cleaning) = &mut self.cleaning else { return };
        cleaning.waiting += 1;
        let target = Target::Forgetting(cleaning.number as u32);
        self.queue_or_fail(meanwhile, LinkProtocol::Text, target, expect, &[], |out, _| {
            compose::delete(out, key);
            Value::None
        });
    }

    fn clean_one(
        &mut self,
        conn: ConnId,
        backend: usize,
        expect: Expect,
        compose: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(cleaning) = &mut self.cleaning else { return };
        cleaning.waiting += 1;
        let target = self.cleaning_target();
        if let Err(why) = self.queue_own(conn, backend, target, expect, compose) {
            self.finish_cleaning(Outcome::Failed(why.words().to_string()));
        }
    }

    /// What is answered after it was given up is known by its number.
    fn cleaning_target(&self) -> Target {
        Target::Cleaning(self.cleaning.as_ref().map_or(0, |cleaning| cleaning.number as u32))
    }

    fn is_cleaning(&self, number: u32) -> bool {
        self.cleaning.as_ref().is_some_and(|cleaning| cleaning.number as u32 == number)
    }

    /// Something is forgotten, or the answer says that it is not.
    pub(super) fn cleaned_one(&mut self, number: u32, line: &[u8]) {
        if !self.is_cleaning(number) {
            return;
        }
        if !matches!(line, b"OK\r\n" | b"DELETED\r\n" | b"NOT_FOUND\r\n") {
            let words = line.trim_ascii_end().escape_ascii().to_string();
            return self.finish_cleaning(Outcome::Refused(words));
        }
        self.one_less();
    }

    /// The one that owned a key meanwhile has forgotten it.
    pub(super) fn forgotten(&mut self, number: u32) {
        if self.is_cleaning(number) {
            self.one_less();
        }
    }

    /// It has not answered: that is tried again; but if it is down, the one that returns is wanted the more.
    pub(super) fn not_forgotten(&mut self, number: u32, backend: usize, words: &str) {
        if !self.is_cleaning(number) {
            return;
        }
        if self.backends[backend].health == Health::Down {
            self.counters.rejoin_unforgotten += 1;
            if let Some(cleaning) = &mut self.cleaning {
                cleaning.unforgotten = true;
            }
            self.one_less();
        } else {
            self.finish_cleaning(Outcome::Failed(words.to_string()));
        }
    }

    fn one_less(&mut self) {
        let Some(cleaning) = &mut self.cleaning else { return };
        cleaning.waiting -= 1;
        if cleaning.waiting > 0 {
            return;
        }
        if cleaning.rest.is_empty() {
            let unforgotten = cleaning.unforgotten;
            self.finish_cleaning(Outcome::Done(unforgotten));
        } else {
            self.forget_more();
        }
    }

    /// A backend has not answered.
    pub(super) fn cleaning_failed(&mut self, number: u32, words: &str) {
        if self.is_cleaning(number) {
            self.finish_cleaning(Outcome::Failed(words.to_string()));
        }
    }

    fn finish_cleaning(&mut self, outcome: Outcome) {
        if let Some(cleaning) = self.cleaning.take() {
            self.notify(Notice::Cleaned { number: cleaning.number, outcome });
        }
    }
}
