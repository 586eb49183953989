//! What clients were told, and what must follow from it.
//!
//! A counter's value is `epoch.count`. Whoever finds no item adds one with an epoch that nobody has used, and
//! a count of 0; every swap keeps the epoch and raises the count by one. So within an epoch
//!
//! * each count is stored by one client, never by two: otherwise an update was lost, or applied twice;
//! * no count is left out below the highest one: it was stored by somebody who was told so, or by somebody
//!   who was told of an error;
//! * the last item holds at least as many updates as were acknowledged, and at most as many more as are
//!   unknown.
//!
//! An epoch ends with its item: when the process that held it was killed, or when its server returned and was
//! made to forget. It never begins again: a client that has seen a later one of a counter must never see an
//! earlier one, nor store on top of it.

use std::collections::{BTreeMap, HashMap};

use super::support::counting::Swapped;
use super::support::report::grouped;
use super::support::tally::Tally;

/// Of one client, or of all.
pub(crate) struct Account {
    counters: Vec<Counter>,
    pub(crate) conflicts: usize,
    /// Errors in place of answers, of whatever was asked.
    pub(crate) refused: Tally,
}

/// One counter.
#[derive(Default)]
struct Counter {
    name: String,
    epochs: HashMap<u64, Epoch>,
    /// As one client has seen them.
    seen: Vec<u64>,
    problems: Vec<String>,
    /// What it is in the end.
    last: Option<(u64, u64)>,
}

/// One item's life: by count, how often it was stored, and how often that is not known.
#[derive(Default)]
struct Epoch {
    stored: BTreeMap<u64, usize>,
    unknown: BTreeMap<u64, usize>,
    highest_seen: u64,
}

impl Account {
    /// Nothing has happened to these counters.
    pub(crate) fn new(keys: &[String]) -> Self {
        let counter = |name: &String| Counter { name: name.clone(), ..Counter::default() };
        Account { counters: keys.iter().map(counter).collect(), conflicts: 0, refused: Tally::default() }
    }

    /// A client has read this. Gives the epoch, and the count that it is to store.
    pub(crate) fn has_seen(&mut self, key: usize, value: &str) -> (u64, u64) {
        let (epoch, count) = parse(value);
        let counter = &mut self.counters[key];
        match counter.seen.iter().position(|&seen| seen == epoch) {
            None => counter.seen.push(epoch),
            Some(at) if at + 1 == counter.seen.len() => {}
            Some(_) => {
                let problem = format!("{value} was seen after epochs {:?}", counter.seen);
                counter.problems.push(problem);
            }
        }
        let lived = counter.epochs.entry(epoch).or_default();
        lived.highest_seen = lived.highest_seen.max(count);
        (epoch, count + 1)
    }

    /// What became of that; `None`: an error.
    pub(crate) fn swapped(&mut self, key: usize, epoch: u64, count: u64, outcome: Option<Swapped>) {
        let lived = self.counters[key].epochs.entry(epoch).or_default();
        match outcome {
            Some(Swapped::Stored) => *lived.stored.entry(count).or_default() += 1,
            None => *lived.unknown.entry(count).or_default() += 1,
            Some(Swapped::Exists | Swapped::Gone) => self.conflicts += 1,
        }
    }

    /// Another client's.
    pub(crate) fn add(&mut self, other: Account) {
        self.conflicts += other.conflicts;
        self.refused.add(other.refused);
        for (mine, other) in self.counters.iter_mut().zip(other.counters) {
            mine.problems.extend(other.problems);
            for (epoch, lived) in other.epochs {
                let sum = mine.epochs.entry(epoch).or_default();
                sum.highest_seen = sum.highest_seen.max(lived.highest_seen);
                lived
                    .stored
                    .into_iter()
                    .for_each(|(count, times)| *sum.stored.entry(count).or_default() += times);
                lived
                    .unknown
                    .into_iter()
                    .for_each(|(count, times)| *sum.unknown.entry(count).or_default() += times);
            }
        }
    }

    /// What a counter is in the end.
    pub(crate) fn is_at_last(&mut self, key: usize, value: &str) {
        self.counters[key].last = Some(parse(value));
    }

    /// Updates that were acknowledged.
    pub(crate) fn stored(&self) -> usize {
        self.epochs().flat_map(|epoch| epoch.stored.values()).sum()
    }

    /// Updates of which nobody knows.
    pub(crate) fn unknown(&self) -> usize {
        self.epochs().flat_map(|epoch| epoch.unknown.values()).sum()
    }

    /// Items that the counters have been.
    pub(crate) fn items(&self) -> usize {
        self.epochs().count()
    }

    /// How many of each.
    pub(crate) fn summary(&self) -> String {
        let [stored, unknown, conflicts] = [self.stored(), self.unknown(), self.conflicts].map(grouped);
        format!("{stored} stored, {unknown} unknown, {conflicts} conflicts")
    }

    fn epochs(&self) -> impl Iterator<Item = &Epoch> {
        self.counters.iter().flat_map(|counter| counter.epochs.values())
    }

    /// Fails if an update was lost or doubled. The counters named by `lasting` must have been one item all
    /// the time.
    pub(crate) fn check(&self, lasting: &[usize]) -> Result<(), String> {
        for (key, counter) in self.counters.iter().enumerate() {
            counter
                .check(lasting.contains(&key))
                .map_err(|problem| format!("{}: {problem}", counter.name))?;
        }
        Ok(())
    }
}

impl Counter {
    fn check(&self, is_lasting: bool) -> Result<(), String> {
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        if is_lasting && self.epochs.len() > 1 {
            return Err(format!("it has been {} items", self.epochs.len()));
        }
        for (number, epoch) in &self.epochs {
            let last = self.last.filter(|(last, _)| last == number).map(|(_, count)| count);
            epoch.check(last).map_err(|problem| format!("epoch {number}: {problem}"))?;
        }
        Ok(())
    }
}

impl Epoch {
    /// `last` is the count in the end, if the item is still there.
    fn check(&self, last: Option<u64>) -> Result<(), String> {
        if let Some((count, times)) = self.stored.iter().find(|&(_, &times)| times > 1) {
            return Err(format!("{count} was stored by {times} clients"));
        }
        let highest = self.stored.keys().last().copied().unwrap_or(0).max(self.highest_seen);
        let highest = highest.max(last.unwrap_or(0));
        for count in 1..=highest {
            if !self.stored.contains_key(&count) && !self.unknown.contains_key(&count) {
                return Err(format!("{count} of {highest} was stored by nobody"));
            }
        }
        let Some(last) = last else { return Ok(()) };
        let stored = self.stored.len() as u64;
        let unknown = self.unknown.values().sum::<usize>() as u64;
        if last < highest || last < stored || last > stored + unknown {
            return Err(format!(
                "it ends at {last}, with {stored} updates acknowledged, {unknown} unknown and {highest} seen"
            ));
        }
        Ok(())
    }
}

fn parse(value: &str) -> (u64, u64) {
    let parts =
        value.split_once('.').and_then(|(epoch, count)| Some((epoch.parse().ok()?, count.parse().ok()?)));
    parts.unwrap_or_else(|| panic!("{value:?} is no counter"))
}

/// What a client has read, and what became of storing one more.
type Steps<'a> = &'a [(&'a str, Option<Swapped>)];

/// One counter that some clients have counted.
fn accounted(clients: &[Steps<'_>], last: &str) -> Result<(), String> {
    let keys = ["counter".to_owned()];
    let mut sum = Account::new(&keys);
    for steps in clients {
        let mut account = Account::new(&keys);
        for (value, outcome) in *steps {
            let (epoch, next) = account.has_seen(0, value);
            account.swapped(0, epoch, next, *outcome);
        }
        sum.add(account);
    }
    sum.is_at_last(0, last);
    sum.check(&[])
}

#[test]
fn canary_lost_doubled_and_returned_updates_are_found() {
    let (stored, exists, unknown) = (Some(Swapped::Stored), Some(Swapped::Exists), None);
    let good: &[(&str, _)] = &[("1.0", stored), ("1.1", unknown), ("1.1", exists), ("1.2", stored)];
    assert_eq!(accounted(&[good, &[("1.3", stored)]], "1.4"), Ok(()));
    // The item has gone; what was counted before does not matter any more.
    assert_eq!(accounted(&[good, &[("2.0", stored)]], "2.1"), Ok(()));
    // An unknown update that was not applied.
    assert_eq!(accounted(&[&[("1.0", stored), ("1.1", unknown)]], "1.1"), Ok(()));
    let bad: [(&[Steps<'_>], &str, &str); 6] = [
        (&[&[("1.0", stored)], &[("1.0", stored)]], "1.1", "stored by 2 clients"),
        (&[&[("1.0", stored), ("1.2", stored)]], "1.3", "stored by nobody"),
        (&[&[("1.0", stored), ("1.1", stored)]], "1.1", "it ends at 1"),
        (&[&[("1.0", stored), ("1.1", exists)]], "1.2", "stored by nobody"),
        (&[&[("1.0", stored), ("2.0", stored), ("1.1", stored)]], "1.2", "after epochs"),
        (&[&[("1.0", stored)], &[("1.1", unknown), ("1.1", unknown)]], "1.3", "stored by nobody"),
    ];
    for (clients, last, words) in bad {
        let problem = accounted(clients, last).expect_err(words);
        assert!(problem.contains(words), "{problem:?} without {words:?}");
    }
}
