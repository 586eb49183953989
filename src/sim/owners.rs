//! Who owned which key when: as the workers have taken it over, not as anybody has decided it.

use crate::time::Time;

use super::history::Key;

/// The owners of all keys, and what the backends' ejections mean for their links.
pub(super) struct Owners {
    homes: Vec<usize>,
    /// By key, oldest first; there is always one.
    terms: Vec<Vec<Term>>,
    stays: Vec<Stay>,
    /// Changes so far.
    pub(super) changes: u64,
}

/// A backend owns a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    /// The first worker goes by it.
    pub(super) since: Time,
    /// It was decided: the fence stands from then on.
    pub(super) decided: Time,
    pub(super) owner: usize,
}

/// What was written to a backend before its last ejection.
#[derive(Clone, Debug, Default)]
struct Stay {
    /// By worker: when it gave up the links that it had.
    given_up: Vec<Time>,
    /// Nothing of that may be applied any more.
    settled: bool,
}

impl Owners {
    /// Everybody owns what is his.
    pub(super) fn new(homes: Vec<usize>, backends: usize, workers: usize) -> Self {
        let term = |&owner: &usize| vec![Term { since: Time::default(), decided: Time::default(), owner }];
        let stay = Stay { given_up: vec![Time::default(); workers], settled: false };
        Owners { terms: homes.iter().map(term).collect(), homes, stays: vec![stay; backends], changes: 0 }
    }

    /// The owner when nobody is ejected.
    pub(super) fn home(&self, key: Key) -> usize {
        self.homes[key]
    }

    /// The present owner, and since when.
    pub(super) fn term(&self, key: Key) -> Term {
        *self.terms[key].last().expect("there is always one")
    }

    /// The last term of a backend that owns the key, or has owned it.
    pub(super) fn last_term(&self, key: Key, backend: usize) -> Term {
        let terms = &self.terms[key];
        *terms.iter().rfind(|term| term.owner == backend).unwrap_or(&terms[0])
    }

    /// Those who have owned the key at `time` or later.
    pub(super) fn since(&self, key: Key, time: Time) -> Vec<usize> {
        let terms = &self.terms[key];
        let first = terms.iter().rposition(|term| term.since <= time).unwrap_or(0);
        let mut owners: Vec<usize> = terms[first..].iter().map(|term| term.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// A key has another owner from `now` on. Gives the one before, if it is another.
    pub(super) fn give(&mut self, key: Key, owner: usize, now: Time, decided: Time) -> Option<usize> {
        let before = self.term(key).owner;
        if before == owner {
            return None;
        }
        self.terms[key].push(Term { since: now, decided, owner });
        Some(before)
    }

    /// A worker has given up its links to a backend that is to be ejected.
    pub(super) fn give_up(&mut self, backend: usize, worker: usize, now: Time) {
        self.stays[backend].given_up[worker] = now;
        self.stays[backend].settled = false;
    }

    /// What a backend has missed is made up for, or is about to be.
    pub(super) fn settle(&mut self, backend: usize) {
        self.stays[backend].settled = true;
    }

    /// A link of this age must not bring anything any more.
    pub(super) fn is_over(&self, backend: usize, worker: usize, opened: Time) -> bool {
        let stay = &self.stays[backend];
        stay.settled && opened < stay.given_up[worker]
    }
}
