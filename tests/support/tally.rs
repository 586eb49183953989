//! How often each of some texts came.

use std::collections::BTreeMap;

use super::report::grouped;

/// Counts by text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<String, usize>);

impl Tally {
    /// It came once more.
    pub(crate) fn count(&mut self, text: &str) {
        match self.0.get_mut(text) {
            Some(times) => *times += 1,
            None => drop(self.0.insert(text.to_owned(), 1)),
        }
    }

    /// Another's, too.
    pub(crate) fn add(&mut self, other: Tally) {
        other.0.into_iter().for_each(|(text, times)| *self.0.entry(text).or_default() += times);
    }

    /// All of them.
    pub(crate) fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// A line for each, the most frequent first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_key(|&(text, &times)| (std::cmp::Reverse(times), text));
        sorted.into_iter().map(|(text, &times)| format!("{:>12}  {text}", grouped(times))).collect()
    }
}
