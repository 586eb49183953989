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
//! earlier one, nor store on top of it. One thing is excused, and counted: who holds a token of the earlier item
//! stores by it if the later item was handed out to somebody with the same one. No fence can tell the two apart.

use std::collections::{BTreeMap, HashMap, HashSet};

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
    returned: Vec<Returned>,
    /// By token, the epochs of the items that it was handed out with.
    handed_out: HashMap<u64, HashSet<u64>>,
    /// Tokens and epochs by which something was stored, or may have been.
    stored_by: HashSet<(u64, u64)>,
    /// What it is in the end.
    last: Option<(u64, u64)>,
}

/// An epoch that was seen again.
struct Returned {
    value: String,
    epoch: u64,
    /// Those that its client had seen.
    seen: Vec<u64>,
}

/// One item's life: by count, the tokens by which it was stored, and how often that is not known.
#[derive(Default)]
struct Epoch {
    stored: BTreeMap<u64, Vec<u64>>,
    unknown: BTreeMap<u64, usize>,
    highest_seen: u64,
}

impl Account {
    /// Nothing has happened to these counters.
    pub(crate) fn new(keys: &[String]) -> Self {
        let counter = |name: &String| Counter { name: name.clone(), ..Counter::default() };
        Account { counters: keys.iter().map(counter).collect(), conflicts: 0, refused: Tally::default() }
    }

    /// A client has read this, with this token. Gives the epoch, and the count that it is to store.
    pub(crate) fn has_seen(&mut self, key: usize, value: &str, token: u64) -> (u64, u64) {
        let (epoch, count) = parse(value);
        let counter = &mut self.counters[key];
        counter.handed_out.entry(token).or_default().insert(epoch);
        match counter.seen.iter().position(|&seen| seen == epoch) {
            None => counter.seen.push(epoch),
            Some(at) if at + 1 == counter.seen.len() => {}
            Some(_) => {
                let seen = counter.seen.clone();
                counter.returned.push(Returned { value: value.to_owned(), epoch, seen });
            }
        }
        let lived = counter.epochs.entry(epoch).or_default();
        lived.highest_seen = lived.highest_seen.max(count);
        (epoch, count + 1)
    }

    /// What became of storing that by the token; `None`: an error.
    pub(crate) fn swapped(
        &mut self,
        key: usize,
        (epoch, count): (u64, u64),
        token: u64,
        outcome: Option<Swapped>,
    ) {
        let counter = &mut self.counters[key];
        if matches!(outcome, None | Some(Swapped::Stored)) {
            counter.stored_by.insert((token, epoch));
        }
        let lived = counter.epochs.entry(epoch).or_default();
        match outcome {
            Some(Swapped::Stored) => lived.stored.entry(count).or_default().push(token),
            None => *lived.unknown.entry(count).or_default() += 1,
            Some(Swapped::Exists | Swapped::Gone) => self.conflicts += 1,
        }
    }

    /// Another client's.
    pub(crate) fn add(&mut self, other: Account) {
        self.conflicts += other.conflicts;
        self.refused.add(other.refused);
        for (mine, other) in self.counters.iter_mut().zip(other.counters) {
            mine.returned.extend(other.returned);
            mine.stored_by.extend(other.stored_by);
            for (token, epochs) in other.handed_out {
                mine.handed_out.entry(token).or_default().extend(epochs);
            }
            for (epoch, lived) in other.epochs {
                let sum = mine.epochs.entry(epoch).or_default();
                sum.highest_seen = sum.highest_seen.max(lived.highest_seen);
                lived
                    .stored
                    .into_iter()
                    .for_each(|(count, tokens)| sum.stored.entry(count).or_default().extend(tokens));
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
        self.epochs().flat_map(|epoch| epoch.stored.values()).map(Vec::len).sum()
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
        let returned: usize = self.counters.iter().map(|counter| counter.returned.len()).sum();
        format!("{stored} stored, {unknown} unknown, {conflicts} conflicts, {returned} epochs seen again")
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
        if let Some(Returned { value, seen, .. }) = self.returned.iter().find(|one| !self.is_excused(one)) {
            return Err(format!("{value} was seen after epochs {seen:?}"));
        }
        if is_lasting && self.epochs.len() > 1 {
            return Err(format!("it has been {} items", self.epochs.len()));
        }
        for (number, epoch) in &self.epochs {
            let last = self.last.filter(|(last, _)| last == number).map(|(_, count)| count);
            let is_equal = |token: &u64| self.handed_out[token].len() > 1;
            epoch.check(last, is_equal).map_err(|problem| format!("epoch {number}: {problem}"))?;
        }
        Ok(())
    }

    /// It was stored by a token that was handed out with a later epoch, too.
    fn is_excused(&self, Returned { epoch, seen, .. }: &Returned) -> bool {
        let later = seen.iter().skip_while(|&one| one != epoch).skip(1);
        let tokens: Vec<u64> =
            self.stored_by.iter().filter(|(_, stored)| stored == epoch).map(|&(token, _)| token).collect();
        later.into_iter().any(|later| tokens.iter().any(|token| self.handed_out[token].contains(later)))
    }
}

impl Epoch {
    /// `last` is the count in the end, if the item is still there; `is_equal` says of a token that it was handed
    /// out with another epoch, too. Who has stored by such a one has given the epoch another life.
    fn check(&self, last: Option<u64>, is_equal: impl Fn(&u64) -> bool) -> Result<(), String> {
        let mut lives = 1;
        for (count, tokens) in &self.stored {
            let equal = tokens.iter().filter(|token| is_equal(token)).count();
            if tokens.len() > lives + equal {
                return Err(format!("{count} was stored by {} clients, by tokens {tokens:?}", tokens.len()));
            }
            lives = lives.max(tokens.len());
        }
        let highest = self.stored.keys().last().copied().unwrap_or(0).max(self.highest_seen);
        let highest = highest.max(last.unwrap_or(0));
        for count in 1..=highest {
            if !self.stored.contains_key(&count) && !self.unknown.contains_key(&count) {
                return Err(format!("{count} of {highest} was stored by nobody"));
            }
        }
        let Some(last) = last.filter(|_| lives == 1) else { return Ok(()) };
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

/// What a client has read, with which token, and what became of storing one more.
type Steps<'a> = &'a [(&'a str, u64, Option<Swapped>)];

/// One counter that some clients have counted.
fn accounted(clients: &[Steps<'_>], last: &str) -> Result<(), String> {
    let keys = ["counter".to_owned()];
    let mut sum = Account::new(&keys);
    for steps in clients {
        let mut account = Account::new(&keys);
        for (value, token, outcome) in *steps {
            let next = account.has_seen(0, value, *token);
            account.swapped(0, next, *token, *outcome);
        }
        sum.add(account);
    }
    sum.is_at_last(0, last);
    sum.check(&[])
}

#[test]
fn canary_lost_doubled_and_returned_updates_are_found() {
    let (stored, exists, unknown) = (Some(Swapped::Stored), Some(Swapped::Exists), None);
    let good: &[(&str, _, _)] =
        &[("1.0", 1, stored), ("1.1", 2, unknown), ("1.1", 3, exists), ("1.2", 4, stored)];
    assert_eq!(accounted(&[good, &[("1.3", 5, stored)]], "1.4"), Ok(()));
    // The item has gone; what was counted before does not matter any more.
    assert_eq!(accounted(&[good, &[("2.0", 6, stored)]], "2.1"), Ok(()));
    // A token that both items were handed out with.
    let holder: Steps<'_> = &[("1.0", 7, stored)];
    assert_eq!(
        accounted(&[holder, &[("1.1", 1, exists), ("2.0", 7, exists), ("1.1", 8, stored)]], "1.2"),
        Ok(())
    );
    let equal: &[Steps<'_>] = &[holder, &[("2.0", 7, exists)], &[("1.0", 7, stored), ("1.1", 8, stored)]];
    assert_eq!(accounted(equal, "1.2"), Ok(()));
    // An unknown update that was not applied.
    assert_eq!(accounted(&[&[("1.0", 7, stored), ("1.1", 8, unknown)]], "1.1"), Ok(()));
    let another: Steps<'_> = &[("1.1", 1, exists), ("2.0", 6, exists), ("1.1", 8, stored)];
    let bad: [(&[Steps<'_>], &str, &str); 7] = [
        (&[holder, another], "1.2", "after epochs"),
        (&[&[("1.0", 9, stored)], &[("1.0", 10, stored)]], "1.1", "stored by 2 clients"),
        (&[&[("1.0", 11, stored), ("1.2", 12, stored)]], "1.3", "stored by nobody"),
        (&[&[("1.0", 13, stored), ("1.1", 14, stored)]], "1.1", "it ends at 1"),
        (&[&[("1.0", 15, stored), ("1.1", 16, exists)]], "1.2", "stored by nobody"),
        (&[&[("1.0", 17, stored), ("2.0", 18, stored), ("1.1", 19, stored)]], "1.2", "after epochs"),
        (&[&[("1.0", 20, stored)], &[("1.1", 21, unknown), ("1.1", 22, unknown)]], "1.3", "stored by nobody"),
    ];
    for (clients, last, words) in bad {
        let problem = accounted(clients, last).expect_err(words);
        assert!(problem.contains(words), "{problem:?} without {words:?}");
    }
}
