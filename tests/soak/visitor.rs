//! Somebody who behaves: reads everybody's keys, writes its own, and knows at once what cannot be.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::book::{Book, Known};
use super::rig::eventually;
use super::support::counting::{PROTOCOLS, Protocol};
use super::support::random::Random;
use super::support::tally::Tally;
use super::values::{self, Key};
use super::wire::{Ask, Told, Trouble, Wire};

/// Keys in a multi-key get, at most.
const KEYS_AT_ONCE: usize = 40;

/// Requests in a pipeline, at most.
const PIPELINED: usize = 24;

/// In place of an answer.
const ENDED: &str = "the connection was closed";

/// The server that is never harmed.
const SPARED: usize = 2;

/// Which rules hold where it visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// A key is its server's for ever: what the spared one has is never lost.
    Fixed,
    /// Keys go to other servers and back, and are forgotten on the way.
    Moves,
}

/// One of them.
pub(crate) struct Visitor<'a> {
    address: SocketAddr,
    protocol: Protocol,
    wire: Option<Wire>,
    number: usize,
    book: &'a Book,
    ownership: Ownership,
    random: Random,
    own: Vec<Known>,
    /// The version that came last.
    last_read: Option<u64>,
    pub(crate) told: Sum,
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) requests: usize,
    pub(crate) values: usize,
    pub(crate) bytes: usize,
    pub(crate) errors: Tally,
    /// Reads that were older than a write of the same client that was acknowledged, where keys move.
    pub(crate) stale: Vec<String>,
}

impl Sum {
    /// Another's, too.
    pub(crate) fn add(&mut self, other: Sum) {
        self.requests += other.requests;
        self.values += other.values;
        self.bytes += other.bytes;
        self.errors.add(other.errors);
        self.stale.extend(other.stale);
    }
}

impl<'a> Visitor<'a> {
    /// The protocol follows from the number.
    pub(crate) fn new(
        address: SocketAddr,
        number: usize,
        (book, ownership): (&'a Book, Ownership),
        seed: u64,
    ) -> Self {
        Visitor {
            address,
            protocol: PROTOCOLS[number % PROTOCOLS.len()],
            wire: None,
            number,
            book,
            ownership,
            random: Random::new(seed ^ (number as u64 + 1) << 40),
            own: (0..book.keys()).map(|_| Known::default()).collect(),
            last_read: None,
            told: Sum::default(),
        }
    }

    /// Asks for some things, whatever becomes of it. Fails on what cannot be.
    pub(crate) fn visit(&mut self) -> Result<(), String> {
        let asks = self.draw();
        let before = self.told.errors.total();
        self.ask(&asks)?;
        // Errors come faster than answers.
        if self.told.errors.total() > before {
            thread::sleep(Duration::from_millis(self.random.between(1, 10) as u64));
        }
        Ok(())
    }

    /// Now that there is nothing in the way for long, each key once more; then each must be what it was made.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        let before = self.told.errors.total();
        for number in 0..self.book.keys() {
            let key = (self.number, number);
            let set = |visitor: &mut Self| Ask::Set(key, visitor.book.issue(key), visitor.size());
            self.until_answered(set)?;
        }
        for number in 0..self.book.keys() {
            let key = (self.number, number);
            self.last_read = None;
            self.until_answered(|_| Ask::Get(vec![key], false))?;
            // After an error an older write may still come, and where keys move they may be forgotten.
            if self.told.errors.total() == before && self.ownership == Ownership::Fixed {
                let checked = self.own[number].check_last(self.last_read);
                checked.map_err(|problem| format!("{}: {problem}", self.describe(key)))?;
            }
        }
        Ok(())
    }

    /// Asks until there is an answer and no error.
    fn until_answered(&mut self, ask: impl Fn(&mut Self) -> Ask) -> Result<(), String> {
        eventually("everybody finishes", || {
            let before = self.told.errors.total();
            let ask = ask(self);
            match self.ask(&[ask]) {
                Ok(()) if self.told.errors.total() > before => None,
                outcome => Some(outcome),
            }
        })
    }

    fn draw(&mut self) -> Vec<Ask> {
        let count = if self.random.percent(20) { self.random.between(2, PIPELINED) } else { 1 };
        (0..count).map(|_| self.draw_one()).collect()
    }

    fn draw_one(&mut self) -> Ask {
        let own = (self.number, self.random.below(self.book.keys()));
        let tokens = self.random.percent(30);
        match self.random.below(100) {
            0..45 => Ask::Get(vec![self.any_key()], tokens),
            45..55 => {
                let count = self.random.between(2, KEYS_AT_ONCE);
                Ask::Get((0..count).map(|_| self.any_key()).collect(), tokens)
            }
            55..95 => {
                let size = self.size();
                Ask::Set(own, self.book.issue(own), size)
            }
            _ => Ask::Delete(own, self.book.issue(own)),
        }
    }

    fn any_key(&mut self) -> Key {
        (self.random.below(self.book.writers()), self.random.below(self.book.keys()))
    }

    /// Mostly small: a magnitude, and something up to it.
    fn size(&mut self) -> usize {
        let most = match self.random.below(100) {
            0..60 => 200,
            60..85 => 4_000,
            85..95 => 40_000,
            95..99 => 200_000,
            _ => values::SIZE_MAX,
        };
        self.random.between(values::SIZE_MIN, most)
    }

    fn ask(&mut self, asks: &[Ask]) -> Result<(), String> {
        self.told.requests += asks.len();
        let mut wire = self.wire.take().unwrap_or_else(|| Wire::open(self.address, self.protocol));
        // Requests before this one have their answers.
        let mut answered = 0;
        let outcome = wire.ask(self.book, asks, |number, told| {
            if !matches!(asks[number], Ask::Get(..)) {
                answered = number + 1;
            }
            self.hear(&asks[number], told).map_err(Trouble::Wrong)
        });
        match outcome {
            Ok(()) => self.wire = Some(wire),
            // It had to give way, or a long answer broke off.
            Err(Trouble::Ended) => {
                self.told.errors.count(ENDED);
                asks[answered..].iter().for_each(|ask| self.is_unknown(ask));
            }
            Err(Trouble::Wrong(problem)) => {
                return Err(format!("visitor {}, in {:?}: {problem}", self.number, self.protocol));
            }
        }
        Ok(())
    }

    fn hear(&mut self, ask: &Ask, told: Told<'_>) -> Result<(), String> {
        match (ask, told) {
            (Ask::Set(key, version, _), Told::Done) => {
                self.own[key.1].is_acknowledged(*version, true);
                Ok(())
            }
            (Ask::Delete(key, version), Told::Done) => {
                self.own[key.1].is_acknowledged(*version, false);
                Ok(())
            }
            (_, Told::Refused(error)) => {
                self.told.errors.count(error);
                self.is_unknown(ask);
                Ok(())
            }
            (Ask::Get(..), Told::Value(key, value, flags)) => {
                self.told.values += 1;
                self.told.bytes += value.len();
                self.has_read(key, value, flags)
                    .map_err(|problem| format!("{}: {problem}", self.describe(key)))
            }
            (Ask::Get(..), Told::Missing(key)) => self.check(key, None),
            (ask, told) => Err(format!("{told:?} for {ask:?}")),
        }
    }

    fn has_read(&mut self, key: Key, value: &[u8], flags: u32) -> Result<(), String> {
        let version = values::version_of(key, value, flags)?;
        self.last_read = Some(version);
        self.book.was_issued(key, version)?;
        self.check(key, Some(version))
    }

    /// What it reads of its own keys is what it wrote last, or what nobody can know.
    fn check(&mut self, key: Key, read: Option<u64>) -> Result<(), String> {
        if key.0 != self.number {
            return Ok(());
        }
        let moves = self.ownership == Ownership::Moves;
        let checked = self.own[key.1].check(read, moves || self.book.owner(key) != SPARED);
        match checked.map_err(|problem| format!("{}: {problem}", self.describe(key))) {
            // Judged in the end: where a server could not be made to forget it is no mistake.
            Err(problem) if moves => {
                self.told.stale.push(problem);
                Ok(())
            }
            checked => checked,
        }
    }

    fn is_unknown(&mut self, ask: &Ask) {
        match ask {
            Ask::Get(..) => {}
            Ask::Set(key, version, _) => self.own[key.1].is_unknown(*version, true),
            Ask::Delete(key, version) => self.own[key.1].is_unknown(*version, false),
        }
    }

    fn describe(&self, key: Key) -> String {
        format!("key {key:?} of s{} ({}...)", self.book.owner(key), &self.book.name(key)[..8])
    }
}
