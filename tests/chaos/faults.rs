//! Three memcacheds: s0 is stopped and goes on, s1 is killed and restarted, and s2 is left alone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::rig::{Frozen, Latecomer, Talk};
use super::support::process::{Server, named_backends};
use super::support::random::Random;
use super::{Held, direct};

/// Of what a memcached forgets when it is restarted, the most that is handed out again before it is used.
const TOKENS_MAX: u64 = 200_000;

/// The counters that it owns, by number.
const OF_S1: [usize; 2] = [1, 4];

pub(crate) struct Servers {
    addresses: [SocketAddr; 3],
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
    first: Option<Server>,
    again: Option<Latecomer>,
    /// How often it was.
    pub(crate) times: usize,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let servers = [(); 3].map(|()| Server::memcached());
        let addresses = servers.each_ref().map(|server| server.address);
        let [stopped, killed, left_alone] = servers;
        Servers {
            addresses,
            stopped: Stopped { server: stopped, times: 0 },
            killed: Killed { address: addresses[1], first: Some(killed), again: None, times: 0 },
            _left_alone: left_alone,
        }
    }

    /// For `--backends`.
    pub(crate) fn list(&self) -> String {
        named_backends(&self.addresses)
    }
}

impl Stopped {
    /// Mostly for less time than it takes to be down, and at times several times in a row.
    pub(crate) fn harm(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 3) {
            let frozen = Frozen::freeze(self.server.id());
            let long = random.percent(20);
            pause(random, if long { 600 } else { 20 }, if long { 1100 } else { 280 });
            frozen.thaw();
            self.times += 1;
            pause(random, 1, 60);
        }
        pause(random, 50, 500);
    }
}

impl Killed {
    /// It comes back at once or after a while; with a counter whose token is the very one that some client
    /// has read from a process before, and is about to swap by.
    pub(crate) fn harm(&mut self, random: &mut Random, keys: &[String], epochs: &AtomicU64, held: &Held) {
        (self.first, self.again) = (None, None);
        if random.percent(30) {
            pause(random, 1, 500);
        }
        self.again = Some(Latecomer::start(self.address));
        self.times += 1;
        if let Some((key, token)) = held.latest_of(&OF_S1).filter(|&(_, token)| token < TOKENS_MAX) {
            let mut direct = direct(self.address);
            wind_up(&mut direct, token);
            let value = format!("{}.0", epochs.fetch_add(1, Ordering::Relaxed));
            // A client that asks meanwhile may be first.
            direct.send(format!("add {} 0 0 {}\r\n{value}\r\nmn\r\n", keys[key], value.len()));
            direct.until(b"MN\r\n");
        }
        pause(random, 50, 700);
    }
}

/// Makes a fresh memcached's next token this one, unless somebody has taken some already.
fn wind_up(direct: &mut Talk, token: u64) {
    let sets = "set winding 0 0 1 noreply\r\nx\r\n".repeat(token.saturating_sub(1) as usize);
    direct.send(sets + "mn\r\n");
    direct.until(b"MN\r\n");
}

fn pause(random: &mut Random, least: usize, most: usize) {
    thread::sleep(Duration::from_millis(random.between(least, most) as u64));
}
