//! Everything at once, for as long as one likes: clients that behave and clients that do not, memcacheds that
//! freeze, flap, die and come back, and a look at what it costs. In the end nothing may be left over.
//!
//! `make soak MINUTES=30` goes on for longer than the few seconds of every test run, and optimised;
//! `MCPROXY_TEST_SEED=7` chooses what is done and when.

mod support;

#[path = "chaos/account.rs"]
mod account;
#[path = "soak/book.rs"]
mod book;
#[path = "chaos/counters.rs"]
mod counters;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "faults/holdings.rs"]
mod holdings;
#[path = "server/rig.rs"]
mod rig;
#[path = "soak/rogues.rs"]
mod rogues;
#[path = "soak/values.rs"]
mod values;
#[path = "soak/verdict.rs"]
mod verdict;
#[path = "soak/visitor.rs"]
mod visitor;
#[path = "soak/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use account::Account;
use book::Book;
use counters::{CountingClient, Held};
use faults::{Pace, Servers};
use holdings::Holdings;
use rig::{Proxy, Talk, stat, stats, until_settled};
use rogues::{Doing, Rogue};
use support::flag::{RaisedAtLast, is_up, raise};
use support::inbox::PATIENCE;
use support::process::Server;
use support::relay::{Relay, two_replies_swapped};
use support::report::{grouped, repeatable, say};
use support::tally::Tally;
use verdict::Verdict;
use visitor::{Ownership, Sum, Visitor};

const SECONDS: u64 = 8;
const SEED: u64 = 0x50a4;

/// Between two lines that say how it goes.
const LINES_APART: Duration = Duration::from_secs(10);

/// From so many resident bytes on it says what goes on when they become more.
const PEAK_SAID: usize = 192 << 20;

const COUNTING: usize = 6;
const VISITORS: usize = 6;
const ROGUES: usize = 2;

/// Of each visitor, before anything is measured.
const WARM_UP: usize = 100;

/// What goes on in front of three memcacheds.
struct Soak {
    test: &'static str,
    /// Of the proxy, beside its defaults.
    flags: &'static [&'static str],
    ownership: Ownership,
    pace: Pace,
}

/// What is the same in both: two workers. The rig has times of its own, so the defaults must be said.
const DEFAULTS: [&str; 6] = ["--threads", "2", "--timeout", "1s", "--connect-timeout", "500ms"];

#[test]
fn with_default_flags() {
    run(&Soak {
        test: "with_default_flags",
        flags: &DEFAULTS,
        ownership: Ownership::Fixed,
        // Three failures of a second each before a server is down.
        pace: Pace {
            row: 8,
            short: (20, 900),
            long: (1200, 5000),
            well: (50, 1500),
            dead: (1, 4000),
            alive: (100, 5000),
        },
    });
}

/// Times are shorter, so that servers go and come back more often, and so that the end can be waited for: one
/// that flaps stays out for as long as the fence stands.
#[test]
fn with_auto_eject() {
    run(&Soak {
        test: "with_auto_eject",
        flags: &[
            "--auto-eject",
            "--threads",
            "2",
            "--timeout",
            "300ms",
            "--connect-timeout",
            "500ms",
            "--failure-limit",
            "2",
            "--retry-interval",
            "50ms",
            "--cas-fence",
            "5s",
        ],
        ownership: Ownership::Moves,
        pace: Pace {
            row: 8,
            short: (20, 280),
            long: (600, 3000),
            well: (50, 800),
            dead: (1, 1500),
            alive: (100, 3000),
        },
    });
}

/// Two replies of one connection change places: somebody who visits must say so.
#[test]
fn canary_swapped_replies_are_found() {
    let server = Server::memcached();
    for number in 0..2 {
        let relay = Relay::start(server.address, two_replies_swapped(b"END"));
        let book = Book::new(2);
        let mut visitor = Visitor::new(relay.address, number, (&book, Ownership::Fixed), SEED);
        let problem = (0..1000).find_map(|_| visitor.visit().err()).expect("replies were swapped");
        assert!(problem.starts_with(&format!("visitor {number}, in ")), "{problem}");
    }
}

fn run(soak: &Soak) {
    repeatable(("soak", soak.test), (SEED, SECONDS), |seed, duration| soak.run(seed, duration));
}

impl Soak {
    fn run(&self, seed: u64, duration: Duration) {
        let mut servers = Servers::start();
        let proxy = Proxy::start(&servers.list(), self.flags);
        let start = warm_up(&proxy, &servers, self.ownership, seed);
        let told = self.live(&proxy, &mut servers, seed, duration);
        let verdict = settled(&proxy, &servers, start, told.visitors.stale.clone());
        told.report(self.test, &servers);
        report(self.test, &verdict);
        let problems = verdict.problems();
        assert!(problems.is_empty(), "{}: {problems:#?}", self.test);
    }

    /// Clients come, and faults; the faults stop; everybody finishes and leaves.
    fn live(&self, proxy: &Proxy, servers: &mut Servers, seed: u64, duration: Duration) -> Told {
        let keys = counters::keys();
        let (epochs, held, book) = (AtomicU64::new(1), Held::default(), Book::new(VISITORS));
        let doing = Doing::default();
        let (peace, end) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut told =
            Told { account: Account::new(&keys), visitors: Sum::default(), rogues: Tally::default() };
        thread::scope(|scope| {
            let _whoever_fails = (RaisedAtLast(&peace), RaisedAtLast(&end));
            let address = proxy.address();
            let counting: Vec<_> = (0..COUNTING)
                .map(|number| CountingClient::new(address, number, &keys, (&epochs, &held), seed))
                .map(|client| scope.spawn(|| counts(client, &peace, &end)))
                .collect();
            let visitors: Vec<_> = (0..VISITORS)
                .map(|number| Visitor::new(address, number, (&book, self.ownership), seed))
                .map(|visitor| scope.spawn(|| visits(visitor, &peace, &end)))
                .collect();
            let rogues: Vec<_> = (0..ROGUES)
                .map(|number| Rogue::new(address, number, (&doing, &peace), seed))
                .map(|rogue| scope.spawn(|| misbehaves(rogue, &peace, &end)))
                .collect();
            scope.spawn(|| watches(self.test, proxy, duration, &peace, &doing));
            servers.harm_until(|| is_up(&peace), seed, &self.pace, &keys, (&epochs, &held));
            rogues.into_iter().for_each(|rogue| told.rogues.add(joined(rogue)));
            until_settled(proxy, 3);
            raise(&end);
            counting.into_iter().for_each(|client| told.account.add(joined(client)));
            visitors.into_iter().for_each(|visitor| told.visitors.add(joined(visitor)));
        });
        let moves = self.ownership == Ownership::Moves;
        if let Err(problem) = counters::check(proxy, &keys, &mut told.account, moves) {
            panic!("{problem}");
        }
        told
    }
}

/// A thread that fails must be seen at once, and end all others.
struct UnlessItFails<'a>(&'a AtomicBool, &'a AtomicBool);

impl Drop for UnlessItFails<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            raise(self.0);
            raise(self.1);
        }
    }
}

fn counts(mut client: CountingClient<'_>, peace: &AtomicBool, end: &AtomicBool) -> Account {
    let _guard = UnlessItFails(peace, end);
    while !is_up(end) {
        client.count();
    }
    client.finish();
    client.account
}

fn visits(mut visitor: Visitor<'_>, peace: &AtomicBool, end: &AtomicBool) -> Sum {
    let _guard = UnlessItFails(peace, end);
    while !is_up(end) {
        visitor.visit().unwrap_or_else(|problem| panic!("{problem}"));
    }
    visitor.finish().unwrap_or_else(|problem| panic!("{problem}"));
    visitor.told
}

fn misbehaves(mut rogue: Rogue<'_>, peace: &AtomicBool, end: &AtomicBool) -> Tally {
    let _guard = UnlessItFails(peace, end);
    while !is_up(peace) {
        rogue.misbehave();
    }
    rogue.done
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Says now and then how it goes, until the time is over, and when there is more memory in use than ever.
fn watches(test: &str, proxy: &Proxy, duration: Duration, peace: &AtomicBool, doing: &Doing) {
    let _peace_at_last = RaisedAtLast(peace);
    let started = Instant::now();
    let (mut next, mut peak) = (LINES_APART, PEAK_SAID);
    while started.elapsed() < duration && !is_up(peace) {
        thread::sleep(Duration::from_millis(10));
        let now = holdings::peak_of(proxy);
        if now > peak {
            peak = now + (8 << 20);
            say(&format!("soak, {test}: {} resident; rogues: {}", mebibytes(now), doing.now()));
        }
        if started.elapsed() >= next {
            next += LINES_APART;
            let holds = Holdings::of(proxy);
            let lines = stats(&mut proxy.client());
            say(&format!(
                "soak, {test}: {} of {} s; {} resident, {} at most; {} descriptors, {} connections; {} keys got, \
                 {} stored, {} errors",
                started.elapsed().as_secs(),
                duration.as_secs(),
                mebibytes(holds.resident),
                mebibytes(now),
                holds.descriptors,
                stat(&lines, "curr_connections"),
                grouped(stat(&lines, "cmd_get") as usize),
                grouped(stat(&lines, "cmd_set") as usize),
                grouped(stat(&lines, "backend_errors") as usize),
            ));
        }
    }
}

/// Opens all links, has visitors come and go, and gives what the proxy holds with nobody there but one who asks.
fn warm_up(proxy: &Proxy, servers: &Servers, ownership: Ownership, seed: u64) -> Holdings {
    holdings::open_links(proxy, &servers.addresses);
    let book = Book::new(3);
    for number in 0..3 {
        let mut visitor = Visitor::new(proxy.address(), number, (&book, ownership), !seed);
        for _ in 0..WARM_UP {
            visitor.visit().unwrap_or_else(|problem| panic!("before any fault: {problem}"));
        }
    }
    // What these have written nobody else may find.
    proxy.client().exchange("flush_all\r\n", "OK\r\n");
    let mut observer = proxy.client();
    rig::eventually("the first have left", || {
        (stat(&stats(&mut observer), "curr_connections") == 1).then_some(Holdings::of(proxy))
    })
}

/// Waits until nothing is left over; gives what there is, which is wrong if it takes too long.
fn settled(proxy: &Proxy, servers: &Servers, start: Holdings, stale: Vec<String>) -> Verdict {
    let mut observer = proxy.client();
    let give_up = Instant::now() + PATIENCE;
    loop {
        let evictions = servers.addresses.iter().map(|&at| stat(&stats(&mut Talk::tcp(at)), "evictions"));
        let verdict = Verdict {
            start,
            end: Holdings::of(proxy),
            peak: holdings::peak_of(proxy),
            stats: stats(&mut observer),
            evictions: evictions.collect(),
            stale: stale.clone(),
        };
        if verdict.problems().is_empty() || Instant::now() > give_up {
            return verdict;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// What all were told.
struct Told {
    account: Account,
    visitors: Sum,
    rogues: Tally,
}

impl Told {
    fn report(&self, test: &str, servers: &Servers) {
        let (account, visitors) = (&self.account, &self.visitors);
        say(&format!(
            "soak, {test}: {} freezes, {} restarts",
            grouped(servers.stopped.times),
            grouped(servers.killed.times)
        ));
        say(&format!(
            "  counters: {}, {} items: all accounted for",
            account.summary(),
            grouped(account.items())
        ));
        say(&format!(
            "  visitors: {} requests; {} values of {} bytes, each its key's own",
            grouped(visitors.requests),
            grouped(visitors.values),
            grouped(visitors.bytes)
        ));
        let lists = [
            ("misbehaviour", &self.rogues),
            ("errors that those who count were told", &account.refused),
            ("errors that visitors were told", &visitors.errors),
        ];
        for (name, tally) in lists {
            say(&format!("  {name}: {}", grouped(tally.total())));
            tally.lines().iter().for_each(|line| say(line));
        }
    }
}

fn report(test: &str, verdict: &Verdict) {
    let Verdict { start, end, peak, stats, stale, .. } = verdict;
    say(&format!(
        "soak, {test}: resident {} at the start, {} at most, {} at the end; descriptors {} at the start, {} at \
         the end",
        mebibytes(start.resident),
        mebibytes(*peak),
        mebibytes(end.resident),
        start.descriptors,
        end.descriptors
    ));
    if !stale.is_empty() {
        let flushes = grouped(stat(stats, "rejoin_flushes") as usize);
        say(&format!(
            "  reads that were too old: {}; {flushes} returns with a flush; {}",
            grouped(stale.len()),
            stale[0]
        ));
    }
    say("  stats of the proxy that are not 0:");
    counters_of(stats).chunks(4).for_each(|some| say(&format!("    {}", some.join(", "))));
}

/// What the proxy has counted, by name.
fn counters_of(stats: &HashMap<String, String>) -> Vec<String> {
    let mut counters: Vec<String> = stats
        .iter()
        .filter(|(name, _)| !name.starts_with("worker:"))
        .filter_map(|(name, value)| Some((name, value.parse::<usize>().ok().filter(|&value| value > 0)?)))
        .map(|(name, value)| format!("{name} {}", grouped(value)))
        .collect();
    counters.sort();
    counters
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
