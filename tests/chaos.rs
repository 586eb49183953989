//! Counters driven by compare-and-swap while one memcached is stopped and goes on, again and again, and
//! another is killed and restarted: every acknowledged update is accounted for.
//!
//! `MCPROXY_TEST_SECONDS=600` goes on for longer than the few seconds of every test run;
//! `MCPROXY_TEST_SEED=7` chooses the faults' times.

mod support;

#[path = "chaos/account.rs"]
mod account;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "server/rig.rs"]
mod rig;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use account::Account;
use faults::Servers;
use rig::{Proxy, Talk, eventually, key_of, stat, stats};
use support::counting::{Connection, PROTOCOLS, Protocol, Swapped};
use support::random::Random;
use support::report::{grouped, number_from_environment, repeat_command, say, seed_from_environment};

/// Clients, each of which reads on one connection and swaps on another, as gomemcache does with its pool.
const CLIENTS: usize = 6;

const SECONDS_VARIABLE: &str = "MCPROXY_TEST_SECONDS";
const SECONDS: u64 = 6;
const SEED: u64 = 0xc4a05;

/// A freeze may be longer or shorter than this.
const TIMEOUT: &str = "300ms";

/// Far longer than any client here holds a token, and short enough to wait for: one that flaps stays out for
/// so long at most.
const CAS_FENCE: &str = "5s";

#[test]
fn every_update_is_accounted_for() {
    torture("every_update_is_accounted_for", &[]);
}

#[test]
fn every_update_is_accounted_for_with_auto_eject() {
    torture("every_update_is_accounted_for_with_auto_eject", &["--auto-eject"]);
}

fn torture(test: &str, further: &[&str]) {
    let seed = seed_from_environment().unwrap_or(SEED);
    let duration = Duration::from_secs(number_from_environment(SECONDS_VARIABLE).unwrap_or(SECONDS));
    let mut servers = Servers::start();
    let flags = [
        &["--threads", "2", "--timeout", TIMEOUT, "--failure-limit", "2", "--retry-interval", "50ms"][..],
        &["--cas-fence", CAS_FENCE],
        further,
    ];
    let proxy = Proxy::start(&servers.list(), &flags.concat());
    // Two for each server: s0 is stopped at times, s1 is killed, and s2 is left alone.
    let keys: Vec<String> =
        (0..6).map(|number| key_of(number % 3, 3, &format!("counter{number}:"))).collect();
    let (stop, epochs, held) = (AtomicBool::new(false), AtomicU64::new(1), Held::default());
    let mut account = Account::new(&keys);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut client = Client::new(proxy.address(), number, &keys, (&epochs, &held), seed);
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        client.count();
                    }
                    client.finish();
                    client.account
                })
            })
            .collect();
        let started = Instant::now();
        let peace = || started.elapsed() >= duration || clients.iter().any(|client| client.is_finished());
        let Servers { stopped, killed, .. } = &mut servers;
        let [mut first, mut second] = [1, 2].map(|number: u64| Random::new(seed ^ number));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !peace() {
                    stopped.harm(&mut first);
                }
            });
            scope.spawn(|| {
                while !peace() {
                    killed.harm(&mut second, &keys, &epochs, &held);
                }
            });
        });
        // Faults stop: everything recovers while the clients go on, and then everybody must finish.
        until_settled(&proxy);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            account.add(client.join().expect("a client failed, see above"));
        }
    });
    let mut reader = Connection::open(proxy.address());
    for (key, name) in keys.iter().enumerate() {
        let (value, _) =
            Protocol::Text.read(&mut reader, name).expect("all is well").expect("it was counted");
        account.is_at_last(key, &value);
    }
    // Without ejection, the counters of a server that was not restarted are the same items all the time.
    let lasting: Vec<usize> = (0..6).filter(|key| further.is_empty() && key % 3 != 1).collect();
    if let Err(problem) = account.check(&lasting) {
        panic!("{problem}\n{}\nrepeat: {}", proxy.stderr(), repeat_command("chaos", test, seed));
    }
    report(test, &account, &servers, &stats(&mut proxy.client()));
}

/// Waits until all backends serve and nothing is left that a woken server could still apply.
fn until_settled(proxy: &Proxy) {
    let mut observer = proxy.client();
    eventually("all backends are up", || {
        let lines = stats(&mut observer);
        let of = |server: usize, name: &str| lines[&format!("backend:s{server}:{name}")].clone();
        (0..3).all(|server| of(server, "state") == "up" && of(server, "retired_links") == "0").then_some(())
    });
}

fn report(
    test: &str,
    account: &Account,
    servers: &Servers,
    lines: &std::collections::HashMap<String, String>,
) {
    let of = |name: &str| stat(lines, name);
    say(&format!(
        "chaos, {test}: {} stored, {} unknown, {} conflicts, {} items; {} freezes, {} restarts; {} fences, {} cas \
         refused by them, {} ejections, {} returns",
        grouped(account.stored()),
        grouped(account.unknown()),
        grouped(account.conflicts),
        grouped(account.items()),
        servers.stopped.times,
        servers.killed.times,
        of("cas_fences"),
        of("cas_fenced"),
        of("ejections"),
        of("returns"),
    ));
}

/// One client.
struct Client<'a> {
    protocol: Protocol,
    reading: Connection,
    swapping: Connection,
    keys: &'a [String],
    epochs: &'a AtomicU64,
    held: &'a Held,
    random: Random,
    account: Account,
}

/// Tokens that clients hold for a while, each with the number of its counter.
#[derive(Default)]
struct Held(Mutex<Vec<(usize, u64)>>);

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, u64)>> {
        self.0.lock().expect("no holder panicked")
    }

    /// Holds one for as long as that.
    fn hold(&self, key: usize, token: u64, duration: Duration) {
        self.lock().push((key, token));
        thread::sleep(duration);
        self.lock().retain(|&held| held != (key, token));
    }

    /// The one that was taken last of these counters.
    fn latest_of(&self, keys: &[usize]) -> Option<(usize, u64)> {
        self.lock().iter().rev().find(|(key, _)| keys.contains(key)).copied()
    }
}

impl<'a> Client<'a> {
    fn new(
        address: SocketAddr,
        number: usize,
        keys: &'a [String],
        (epochs, held): (&'a AtomicU64, &'a Held),
        seed: u64,
    ) -> Self {
        let (reading, swapping) = (Connection::open(address), Connection::open(address));
        let random = Random::new(seed ^ (number as u64 + 1) << 32);
        let protocol = PROTOCOLS[number % PROTOCOLS.len()];
        Client { protocol, reading, swapping, keys, epochs, held, random, account: Account::new(keys) }
    }

    /// Counts one of the counters up by one, if it can.
    fn count(&mut self) {
        let key = self.random.below(self.keys.len());
        self.try_to_count(key);
    }

    /// Each counter once more, now that there is nothing in the way for long.
    fn finish(&mut self) {
        for key in 0..self.keys.len() {
            eventually("everybody finishes", || self.try_to_count(key).then_some(()));
        }
    }

    fn try_to_count(&mut self, key: usize) -> bool {
        let name = &self.keys[key];
        match self.protocol.read(&mut self.reading, name) {
            Err(_) => false,
            Ok(None) => {
                // The item is gone with its server's process, or was dropped: a new one, of which all that
                // is counted is counted anew.
                let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
                let _ = self.protocol.add(&mut self.swapping, name, &format!("{epoch}.0"));
                false
            }
            Ok(Some((value, token))) => {
                let (epoch, next) = self.account.has_seen(key, &value);
                // Now and then long enough for a fault between reading and swapping.
                if self.random.percent(2) {
                    let pause = Duration::from_millis(self.random.between(1, 700) as u64);
                    self.held.hold(key, token, pause);
                }
                let changed = format!("{epoch}.{next}");
                let outcome = self.protocol.swap(&mut self.swapping, name, &changed, token);
                self.account.swapped(key, epoch, next, outcome.as_ref().ok().copied());
                matches!(outcome, Ok(Swapped::Stored))
            }
        }
    }
}

/// For one direct look at a server.
fn direct(address: SocketAddr) -> Talk {
    Talk::tcp(address)
}
