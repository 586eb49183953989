//! How often each fault and each outcome happened, over one run or many: a fault that is never drawn tests
//! nothing.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts one more.
    pub(super) fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts so many more.
    pub(super) fn add(&mut self, name: &'static str, many: u64) {
        *self.counts.entry(name).or_default() += many;
    }

    /// How often it happened.
    pub fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds what happened in another run.
    pub fn merge(&mut self, other: &Tally) {
        for (name, many) in &other.counts {
            self.add(name, *many);
        }
    }

    /// All of them, by name.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, many)| (*name, *many))
    }
}
