//! Clients that count counters up by compare-and-swap, and keep account of what they are told.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::account::Account;
use super::rig::{Proxy, eventually, key_of};
use super::support::counting::{Connection, PROTOCOLS, Protocol, Swapped};
use super::support::random::Random;

/// A token that has been held for longer is not used: a slow machine must not hold one for as long as a fence
/// stands, which is at least twice that here.
const TOKEN_HELD_MAX: Duration = Duration::from_millis(2500);

/// One client, which reads on one connection and swaps on another, as gomemcache does with its pool.
pub(crate) struct CountingClient<'a> {
    protocol: Protocol,
    reading: Connection,
    swapping: Connection,
    keys: &'a [String],
    epochs: &'a AtomicU64,
    held: &'a Held,
    random: Random,
    pub(crate) account: Account,
}

/// Tokens that clients hold for a while, each with the number of its counter.
#[derive(Default)]
pub(crate) struct Held(Mutex<Vec<(usize, u64)>>);

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, u64)>> {
        self.0.lock().expect("no holder panicked")
    }

    /// A client begins to hold one.
    pub(crate) fn hold(&self, key: usize, token: u64) {
        self.lock().push((key, token));
    }

    /// It holds it no longer.
    pub(crate) fn let_go(&self, key: usize, token: u64) {
        let mut held = self.lock();
        if let Some(at) = held.iter().position(|&one| one == (key, token)) {
            held.remove(at);
        }
    }

    /// The one that was taken last of these counters.
    pub(crate) fn latest_of(&self, keys: &[usize]) -> Option<(usize, u64)> {
        self.lock().iter().rev().find(|(key, _)| keys.contains(key)).copied()
    }
}

/// Two for each of three servers: s0 is stopped at times, s1 is killed, and s2 is left alone.
pub(crate) fn keys() -> Vec<String> {
    (0..6).map(|number| key_of(number % 3, 3, &format!("counter{number}:"))).collect()
}

/// Fails unless what the counters are in the end is what everybody was told.
pub(crate) fn check(
    proxy: &Proxy,
    keys: &[String],
    account: &mut Account,
    owners_change: bool,
) -> Result<(), String> {
    let mut reader = Connection::open(proxy.address());
    for (key, name) in keys.iter().enumerate() {
        let last = Protocol::Text.read(&mut reader, name).expect("all is well").expect("it was counted");
        account.is_at_last(key, &last.0);
    }
    // Where owners do not change, the counters of a server that was not restarted are the same items all the
    // time.
    let lasting: Vec<usize> = (0..keys.len()).filter(|key| !owners_change && key % 3 != 1).collect();
    account.check(&lasting)
}

impl<'a> CountingClient<'a> {
    /// The protocol and the order of things follow from the number and the seed.
    pub(crate) fn new(
        address: SocketAddr,
        number: usize,
        keys: &'a [String],
        (epochs, held): (&'a AtomicU64, &'a Held),
        seed: u64,
    ) -> Self {
        let (reading, swapping) = (Connection::open(address), Connection::open(address));
        let random = Random::new(seed ^ (number as u64 + 1) << 32);
        let protocol = PROTOCOLS[number % PROTOCOLS.len()];
        CountingClient {
            protocol,
            reading,
            swapping,
            keys,
            epochs,
            held,
            random,
            account: Account::new(keys),
        }
    }

    /// Counts one of the counters up by one, if it can.
    pub(crate) fn count(&mut self) {
        let key = self.random.below(self.keys.len());
        self.try_to_count(key);
    }

    /// Each counter once more, now that there is nothing in the way for long.
    pub(crate) fn finish(&mut self) {
        for key in 0..self.keys.len() {
            eventually("everybody finishes", || self.try_to_count(key).then_some(()));
        }
    }

    fn try_to_count(&mut self, key: usize) -> bool {
        let name = &self.keys[key];
        let asked = Instant::now();
        match self.protocol.read(&mut self.reading, name) {
            Err(refused) => {
                self.account.refused.count(&refused.0);
                false
            }
            Ok(None) => {
                // The item is gone with its server's process, or was dropped: a new one, of which all that
                // is counted is counted anew.
                let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
                if let Err(refused) = self.protocol.add(&mut self.swapping, name, &format!("{epoch}.0")) {
                    self.account.refused.count(&refused.0);
                }
                false
            }
            Ok(Some((value, token))) => {
                let (epoch, next) = self.account.has_seen(key, &value, token);
                // Now and then long enough for a fault between reading and swapping.
                if self.random.percent(2) {
                    self.held.hold(key, token);
                    thread::sleep(Duration::from_millis(self.random.between(1, 700) as u64));
                    self.held.let_go(key, token);
                }
                if asked.elapsed() > TOKEN_HELD_MAX {
                    return false;
                }
                let changed = format!("{epoch}.{next}");
                let outcome = self.protocol.swap(&mut self.swapping, name, &changed, token);
                if let Err(refused) = &outcome {
                    self.account.refused.count(&refused.0);
                }
                self.account.swapped(key, (epoch, next), token, outcome.as_ref().ok().copied());
                matches!(outcome, Ok(Swapped::Stored))
            }
        }
    }
}
