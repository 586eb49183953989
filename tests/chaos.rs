//! Counters driven by compare-and-swap while one memcached is stopped and goes on, again and again, and
//! another is killed and restarted: every acknowledged update is accounted for. Those who count are clients of
//! our own in all protocols, gomemcache and pymemcache, all on the same counters.
//!
//! `MCPROXY_TEST_SECONDS=600` goes on for longer than the few seconds of every test run;
//! `MCPROXY_TEST_SEED=7` chooses the faults' times.

mod support;

#[path = "chaos/account.rs"]
mod account;
#[path = "chaos/counters.rs"]
mod counters;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "chaos/libraries.rs"]
mod libraries;
#[path = "server/rig.rs"]
mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use account::Account;
use counters::{CountingClient, Held};
use faults::{Pace, Servers};
use libraries::Library;
use rig::{Proxy, eventually, stat, stats, until_settled};
use support::flag::{RaisedAtLast, is_up, raise};
use support::process::Server;
use support::programs::{go, python};
use support::relay::Relay;
use support::report::{grouped, repeatable, say};

const CLIENTS: usize = 6;

const SECONDS: u64 = 6;
const SEED: u64 = 0xc4a05;

/// A freeze may be longer or shorter than this.
const TIMEOUT: &str = "300ms";

/// Far longer than any client here holds a token, and short enough to wait for: one that flaps stays out for
/// so long at most.
const CAS_FENCE: &str = "5s";

/// Of the faults.
const PACE: Pace =
    Pace { row: 3, short: (20, 280), long: (600, 1100), well: (50, 500), dead: (1, 500), alive: (50, 700) };

#[test]
fn every_update_is_accounted_for() {
    torture("every_update_is_accounted_for", &[]);
}

#[test]
fn every_update_is_accounted_for_with_auto_eject() {
    torture("every_update_is_accounted_for_with_auto_eject", &["--auto-eject"]);
}

fn torture(test: &str, further: &[&str]) {
    repeatable(("chaos", test), (SEED, SECONDS), |seed, duration| go_on(test, further, seed, duration));
}

fn go_on(test: &str, further: &[&str], seed: u64, duration: Duration) {
    let mut servers = Servers::start();
    let flags = [
        &["--threads", "2", "--timeout", TIMEOUT, "--failure-limit", "2", "--retry-interval", "50ms"][..],
        &["--cas-fence", CAS_FENCE],
        further,
    ];
    // Built before there is anything to wait for.
    let programs = [("gomemcache", go("gocounters")), ("pymemcache", python("pymemcache_counters.py"))];
    let proxy = Proxy::start(&servers.list(), &flags.concat());
    let keys = counters::keys();
    let (stop, epochs, held) = (AtomicBool::new(false), AtomicU64::new(1), Held::default());
    let mut account = Account::new(&keys);
    thread::scope(|scope| {
        let _stop_at_last = RaisedAtLast(&stop);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut client = CountingClient::new(proxy.address(), number, &keys, (&epochs, &held), seed);
                let stop = &stop;
                scope.spawn(move || {
                    while !is_up(stop) {
                        client.count();
                    }
                    client.finish();
                    client.account
                })
            })
            .collect();
        let libraries: Vec<Library<'_>> = programs
            .iter()
            .map(|(name, program)| Library::start(scope, (name, program), proxy.address(), &keys, &held))
            .collect();
        let started = Instant::now();
        let peace = || {
            let failed = clients.iter().any(|client| client.is_finished());
            started.elapsed() >= duration || failed || libraries.iter().any(Library::is_over)
        };
        servers.harm_until(peace, seed, &PACE, &keys, (&epochs, &held));
        // Faults stop: everything recovers while the clients go on, and then everybody must finish.
        until_settled(&proxy, 3);
        raise(&stop);
        for client in clients {
            account.add(client.join().expect("a client failed, see above"));
        }
        for library in libraries {
            let name = library.name;
            let told = library.finish();
            say(&format!("chaos, {test}: {name}: {}", told.summary()));
            account.add(told);
        }
    });
    if let Err(problem) = counters::check(&proxy, &keys, &mut account, !further.is_empty()) {
        panic!("{problem}");
    }
    report(test, &account, &servers, &stats(&mut proxy.client()));
}

fn report(
    test: &str,
    account: &Account,
    servers: &Servers,
    lines: &std::collections::HashMap<String, String>,
) {
    let of = |name: &str| stat(lines, name);
    say(&format!(
        "chaos, {test}: {}, {} items; {} freezes, {} restarts; {} fences, {} cas refused by them, {} ejections, \
         {} returns",
        account.summary(),
        grouped(account.items()),
        servers.stopped.times,
        servers.killed.times,
        of("cas_fences"),
        of("cas_fenced"),
        of("ejections"),
        of("returns"),
    ));
}

/// A library that is told that a lost compare-and-swap was won: its account must not be right.
#[test]
fn canary_an_update_that_a_library_has_lost_is_found() {
    let (server, keys, held) = (Server::memcached(), [String::from("counter")], Held::default());
    for program in [go("gocounters"), python("pymemcache_counters.py")] {
        let lied = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&lied);
        let lie = move |answer: &mut Vec<u8>| {
            if answer == b"EXISTS\r\n" {
                *answer = b"STORED\r\n".to_vec();
                raise(&lied);
            }
        };
        let relay = Relay::start(server.address, Box::new(lie));
        let account = thread::scope(|scope| {
            let library = Library::start(scope, ("the library", &program), relay.address, &keys, &held);
            eventually("an update is lost", || is_up(&seen).then_some(()));
            library.finish()
        });
        let problem = account.check(&[]).expect_err("an update was lost");
        assert!(problem.contains("stored by"), "{problem}");
    }
}
