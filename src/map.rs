//! `mcproxy map`: where keys lie, and which would move. It asks nobody.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use crate::limits::KEY_MAX;
use crate::placement::Placement;

/// What is to be printed.
#[derive(Debug)]
pub struct Map {
    /// How keys lie.
    pub side: Side,
    /// How they would lie: then the share that moves is printed.
    pub diff: Option<Side>,
    /// Of which keys.
    pub keys: Keys,
}

/// A placement and what its servers are called.
#[derive(Debug)]
pub struct Side {
    /// Key -> index.
    pub placement: Placement,
    /// Index -> the server as configured.
    pub owners: Vec<String>,
}

/// Keys, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Keys {
    /// These.
    Given(Vec<Vec<u8>>),
    /// The lines of standard input.
    Input,
    /// Made up.
    Sample,
}

/// Keys of a sample.
const SAMPLE: u64 = 100_000;

/// Prints a line for each key: the key, its server, why it is that; or, to compare, the share of keys that
/// moves and the shares that go from each server to each other.
///
/// # Errors
/// Of `output`, of standard input, and a line that is no key.
pub fn run(map: &Map, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    match &map.diff {
        None => each_key(&map.keys, input, |key| {
            let owner = &map.side.owners[map.side.placement.owner(key)];
            output.write_all(key)?;
            writeln!(output, "\t{owner}\t{}", map.side.placement.explain(key))
        }),
        Some(other) => {
            let mut moves = Moves::default();
            each_key(&map.keys, input, |key| {
                moves.count(map.side.owner(key), other.owner(key));
                Ok(())
            })?;
            moves.print(output)
        }
    }
}

impl Side {
    fn owner(&self, key: &[u8]) -> &str {
        &self.owners[self.placement.owner(key)]
    }
}

/// How many keys go from where to where.
#[derive(Default)]
struct Moves<'a> {
    keys: u64,
    moved: BTreeMap<(&'a str, &'a str), u64>,
}

impl<'a> Moves<'a> {
    fn count(&mut self, from: &'a str, to: &'a str) {
        self.keys += 1;
        if from != to {
            *self.moved.entry((from, to)).or_default() += 1;
        }
    }

    fn print(&self, output: &mut dyn Write) -> io::Result<()> {
        let share = |count: u64| 100.0 * count as f64 / self.keys.max(1) as f64;
        writeln!(output, "moves {:.1} % of keys", share(self.moved.values().sum()))?;
        let mut ways: Vec<_> = self.moved.iter().collect();
        ways.sort_by_key(|&(way, count)| (std::cmp::Reverse(*count), *way));
        for ((from, to), count) in ways {
            writeln!(output, "{from}\t{to}\t{:.1} %", share(*count))?;
        }
        Ok(())
    }
}

fn each_key(
    keys: &Keys,
    input: &mut dyn BufRead,
    mut then: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    match keys {
        Keys::Given(keys) => keys.iter().try_for_each(|key| then(checked(key)?)),
        // Digits of a sequence that looks random, as ids do.
        Keys::Sample => (0..SAMPLE).try_for_each(|number| {
            let id = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            then(format!("{:016x}", id ^ (id >> 29)).as_bytes())
        }),
        Keys::Input => each_line(input, |line| then(checked(line)?)),
    }
}

/// The lines of `input` without their ends, each at most a little longer than any key; empty ones are left
/// out.
///
/// # Errors
/// Of `input` and of `then`.
pub(crate) fn each_line(
    input: &mut dyn BufRead,
    mut then: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    const LINE_MAX: u64 = 4096;
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut *input, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() {
            then(text)?;
        }
    }
}

/// A key that the text protocol can carry.
pub(crate) fn checked(key: &[u8]) -> io::Result<&[u8]> {
    if (1..=KEY_MAX).contains(&key.len()) && key.iter().all(|&byte| byte > b' ') {
        return Ok(key);
    }
    let shown: String = String::from_utf8_lossy(&key[..key.len().min(KEY_MAX)]).escape_debug().collect();
    let what =
        format!("{shown:?} is no key: it has 1 to {KEY_MAX} bytes, without spaces and control characters");
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}
