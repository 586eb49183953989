//! Counters driven by compare-and-swap while one memcached is stopped and goes on, again and again, and
//! another is killed and restarted: every acknowledged update is accounted for.
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
#[path = "server/rig.rs"]
mod rig;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use account::Account;
use counters::{CountingClient, Held};
use faults::{Pace, Servers};
use rig::{Proxy, key_of, stat, stats, until_settled};
use support::counting::{Connection, Protocol};
use support::flag::{RaisedAtLast, is_up, raise};
use support::report::{grouped, number_from_environment, repeat_command, say, seed_from_environment};

const CLIENTS: usize = 6;

const SECONDS_VARIABLE: &str = "MCPROXY_TEST_SECONDS";
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
        let started = Instant::now();
        let peace = || started.elapsed() >= duration || clients.iter().any(|client| client.is_finished());
        servers.harm_until(peace, seed, &PACE, &keys, (&epochs, &held));
        // Faults stop: everything recovers while the clients go on, and then everybody must finish.
        until_settled(&proxy, 3);
        raise(&stop);
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
