//! Three memcacheds: s0 is stopped and goes on, s1 is killed and restarted, and s2 is left alone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::counters::Held;
use super::rig::{Frozen, Talk};
use super::support::process::{Server, named_backends};
use super::support::random::Random;

/// Of what a memcached forgets when it is restarted, the most that is handed out again before it is used.
const TOKENS_MAX: u64 = 200_000;

/// The counters that it owns, by number.
const OF_S1: [usize; 2] = [1, 4];

/// Large enough that nothing is evicted.
const MEMORY: [&str; 2] = ["-m", "512"];

/// How long things last, at least and at most, milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// How often s0 is stopped in a row, at most.
    pub(crate) row: usize,
    /// It is stopped, mostly.
    pub(crate) short: (usize, usize),
    /// It is stopped, one time in five.
    pub(crate) long: (usize, usize),
    /// It goes on between two rows.
    pub(crate) well: (usize, usize),
    /// s1 is dead, unless it is restarted at once.
    pub(crate) dead: (usize, usize),
    /// It lives.
    pub(crate) alive: (usize, usize),
}

pub(crate) struct Servers {
    pub(crate) addresses: [SocketAddr; 3],
    pub(crate) stopped: Stopped,
    pub(crate) killed: Killed,
    _left_alone: Server,
}

/// s0.
pub(crate) struct Stopped {
    server: Server,
    /// How often it was.
    pub(crate) times: usize,
}

/// s1.
pub(crate) struct Killed {
    address: SocketAddr,
    process: Option<Server>,
    /// How often it was.
    pub(crate) times: usize,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let servers = [(); 3].map(|()| Server::memcached_with(&MEMORY));
        let addresses = servers.each_ref().map(|server| server.address);
        let [stopped, killed, left_alone] = servers;
        Servers {
            addresses,
            stopped: Stopped { server: stopped, times: 0 },
            killed: Killed { address: addresses[1], process: Some(killed), times: 0 },
            _left_alone: left_alone,
        }
    }

    /// Does harm, at times that follow from the seed, until there is peace; then everything runs again.
    pub(crate) fn harm_until(
        &mut self,
        peace: impl Fn() -> bool + Sync,
        seed: u64,
        pace: &Pace,
        keys: &[String],
        tokens: (&AtomicU64, &Held),
    ) {
        let Servers { stopped, killed, .. } = self;
        let [mut first, mut second] = [1, 2].map(|number: u64| Random::new(seed ^ number));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !peace() {
                    stopped.harm(&mut first, pace, &peace);
                }
            });
            scope.spawn(|| {
                while !peace() {
                    killed.harm(&mut second, pace, &peace, keys, tokens);
                }
            });
        });
    }

    /// For `--backends`.
    pub(crate) fn list(&self) -> String {
        named_backends(&self.addresses)
    }
}

impl Stopped {
    /// Mostly for less time than it takes to be down, and at times several times in a row.
    fn harm(&mut self, random: &mut Random, pace: &Pace, peace: &impl Fn() -> bool) {
        for _ in 0..random.between(1, pace.row) {
            if peace() {
                return;
            }
            let frozen = Frozen::freeze(self.server.id());
            let long = random.percent(20);
            pause(random, if long { pace.long } else { pace.short }, peace);
            frozen.thaw();
            self.times += 1;
            pause(random, (1, 60), peace);
        }
        pause(random, pace.well, peace);
    }
}

impl Killed {
    /// It comes back at once or after a while; with a counter whose token is the very one that some client
    /// has read from a process before, and is about to swap by.
    fn harm(
        &mut self,
        random: &mut Random,
        pace: &Pace,
        peace: &impl Fn() -> bool,
        keys: &[String],
        (epochs, held): (&AtomicU64, &Held),
    ) {
        self.process = None;
        if random.percent(30) {
            pause(random, pace.dead, peace);
        }
        self.process = Some(Server::memcached_at(self.address, &MEMORY));
        self.times += 1;
        if let Some((key, token)) = held.latest_of(&OF_S1).filter(|&(_, token)| token < TOKENS_MAX) {
            let mut direct = Talk::tcp(self.address);
            wind_up(&mut direct, token);
            let value = format!("{}.0", epochs.fetch_add(1, Ordering::Relaxed));
            // A client that asks meanwhile may be first.
            direct.send(format!("add {} 0 0 {}\r\n{value}\r\nmn\r\n", keys[key], value.len()));
            direct.until(b"MN\r\n");
        }
        pause(random, pace.alive, peace);
    }
}

/// Makes a fresh memcached's next token this one, unless somebody has taken some already.
fn wind_up(direct: &mut Talk, token: u64) {
    let sets = "set winding 0 0 1 noreply\r\nx\r\n".repeat(token.saturating_sub(1) as usize);
    direct.send(sets + "mn\r\n");
    direct.until(b"MN\r\n");
}

/// For so many milliseconds, or until there is peace.
fn pause(random: &mut Random, (least, most): (usize, usize), peace: &impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_millis(random.between(least, most) as u64);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || peace() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}
