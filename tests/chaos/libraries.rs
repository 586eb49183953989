//! Client libraries that count counters up by compare-and-swap, in programs of their own, which say what they
//! were told: `tests/clients/gocounters` says how.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::thread::{Scope, ScopedJoinHandle};

use super::account::Account;
use super::counters::Held;
use super::rig::eventually;
use super::support::counting::Swapped;
use super::support::programs::Program;

/// Goroutines or threads of each program.
const WORKERS: usize = 8;

/// What every error must begin with: a library that says anything else has lost its connection, or did not
/// understand.
const ERROR: &str = "SERVER_ERROR backend s";

/// One running program; killed when dropped.
pub(crate) struct Library<'scope> {
    pub(crate) name: &'static str,
    child: Child,
    /// Its end is the sign to finish.
    input: Option<ChildStdin>,
    reader: Option<ScopedJoinHandle<'scope, Result<Account, String>>>,
}

impl<'scope> Library<'scope> {
    /// Starts it; what it says is read by a thread of `scope`.
    pub(crate) fn start(
        scope: &'scope Scope<'scope, '_>,
        (name, program): (&'static str, &Program),
        server: SocketAddr,
        keys: &'scope [String],
        held: &'scope Held,
    ) -> Self {
        let mut command = program.command();
        command.args([server.to_string(), WORKERS.to_string()]).args(keys);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("piped")));
        let lines = output.lines().map(|line| line.unwrap_or_else(|error| format!("no line: {error}")));
        let reader = scope.spawn(move || Told::of(keys, held).hear(lines));
        Library { name, child, input, reader: Some(reader) }
    }

    /// It has come to its end, although nobody has asked for it.
    pub(crate) fn is_over(&self) -> bool {
        self.reader.as_ref().is_some_and(ScopedJoinHandle::is_finished)
    }

    /// Has it finish, and gives what it was told.
    pub(crate) fn finish(mut self) -> Account {
        drop(self.input.take());
        eventually(&format!("{} finishes", self.name), || self.is_over().then_some(()));
        let status = self.child.wait().expect("its status");
        let told = self.reader.take().expect("nobody else has joined it").join();
        let account = told.expect("its reader").unwrap_or_else(|problem| panic!("{}: {problem}", self.name));
        assert!(status.success(), "{}: {status}", self.name);
        assert!(account.stored() > 0, "{} has stored nothing", self.name);
        account
    }
}

impl Drop for Library<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program says.
struct Told<'a> {
    keys: &'a [String],
    held: &'a Held,
    /// Of each worker.
    accounts: Vec<Account>,
    is_done: bool,
}

impl<'a> Told<'a> {
    fn of(keys: &'a [String], held: &'a Held) -> Self {
        let accounts = (0..WORKERS).map(|_| Account::new(keys)).collect();
        Told { keys, held, accounts, is_done: false }
    }

    /// All that it says.
    fn hear(mut self, lines: impl Iterator<Item = String>) -> Result<Account, String> {
        for line in lines {
            self.take(&line).ok_or_else(|| format!("it says {line:?}"))?;
        }
        if !self.is_done {
            return Err("it has not come to its end".to_owned());
        }
        let mut sum = Account::new(self.keys);
        self.accounts.into_iter().for_each(|account| sum.add(account));
        Ok(sum)
    }

    /// `None` if it cannot be.
    fn take(&mut self, line: &str) -> Option<()> {
        if self.is_done {
            return None;
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "done" => self.is_done = true,
            "refused" => self.accounts[0].refused.count(error(rest)?),
            "hold" | "release" => {
                let (key, token) = rest.split_once(' ')?;
                let (key, token) = (self.key(key)?, token.parse().ok()?);
                if verb == "hold" { self.held.hold(key, token) } else { self.held.let_go(key, token) }
            }
            "swap" => {
                let mut words = rest.splitn(6, ' ');
                let (worker, key, token) = (words.next()?, words.next()?, words.next()?);
                let (value, outcome) = (words.next()?, words.next()?);
                let (key, token) = (self.key(key)?, token.parse().ok()?);
                let account = self.accounts.get_mut(worker.parse::<usize>().ok()?)?;
                let outcome = match outcome {
                    "stored" => Some(Swapped::Stored),
                    "exists" => Some(Swapped::Exists),
                    "gone" => Some(Swapped::Gone),
                    "unknown" => {
                        account.refused.count(error(words.next()?)?);
                        None
                    }
                    _ => return None,
                };
                let next = account.has_seen(key, value, token);
                account.swapped(key, next, token, outcome);
            }
            _ => return None,
        }
        Some(())
    }

    fn key(&self, number: &str) -> Option<usize> {
        number.parse().ok().filter(|&key| key < self.keys.len())
    }
}

fn error(text: &str) -> Option<&str> {
    text.starts_with(ERROR).then_some(text)
}

#[test]
fn canary_what_a_library_must_not_say_is_found() {
    let (keys, held) = (["counter".to_owned()], Held::default());
    let heard = |said: &str| Told::of(&keys, &held).hear(said.lines().map(str::to_owned));
    let good = "swap 0 0 6 1.0 stored\nhold 0 7\nswap 1 0 7 1.1 unknown SERVER_ERROR backend s0 timed out\nrefused \
                SERVER_ERROR backend s1 is down\nswap 1 0 7 1.1 exists\ndone";
    let account = heard(good).expect("all is well");
    assert_eq!((account.stored(), account.unknown(), account.conflicts), (1, 1, 1));
    assert_eq!(account.refused.total(), 2);
    assert_eq!(held.latest_of(&[0]), Some((0, 7)));
    let bad = [
        "swap 0 0 7 1.0 stored",
        "refused EOF\ndone",
        "swap 0 0 7 1.0 unknown EOF\ndone",
        "swap 0 1 7 1.0 stored\ndone",
        "swap 8 0 7 1.0 stored\ndone",
        "swap 0 0 seven 1.0 stored\ndone",
        "swap 0 0 7 1.0 perhaps\ndone",
        "done\ndone",
        "something else\ndone",
    ];
    for said in bad {
        assert!(heard(said).is_err(), "{said:?}");
    }
    // Two that have stored the same.
    let mut account = heard("swap 0 0 7 1.0 stored\nswap 1 0 7 1.0 stored\ndone").expect("said well");
    account.is_at_last(0, "1.1");
    assert!(account.check(&[]).is_err_and(|problem| problem.contains("stored by 2 clients")));
}
