//! Three memcacheds: s0 is stopped and goes on, s1 is killed and restarted, and s2 is left alone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::direct;
use super::rig::{Frozen, Latecomer, Talk};
use super::support::process::{Server, named_backends};
use super::support::random::Random;

/// Of what a memcached forgets when it is restarted, the most that is handed out again before it is used.
const TOKENS_MAX: u64 = 200_000;

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
    /// It comes back at once or after a while; and at times with a counter whose token is the very one that clients
    /// have just read from the process before.
    pub(crate) fn harm(&mut self, random: &mut Random, keys: &[String], epochs: &AtomicU64) {
        let key = *random.pick(&[&keys[1], &keys[4]]);
        let token = token_of(&mut direct(self.address), key);
        (self.first, self.again) = (None, None);
        if random.percent(50) {
            pause(random, 1, 500);
        }
        self.again = Some(Latecomer::start(self.address));
        self.times += 1;
        let mut direct = direct(self.address);
        if let Some(token) = token.filter(|&token| token < TOKENS_MAX) {
            wind_up(&mut direct, token);
            let epoch = epochs.fetch_add(1, Ordering::Relaxed);
            // A client that asks meanwhile may be first.
            let value = format!("{epoch}.0");
            direct.send(format!("add {key} 0 0 {}\r\n{value}\r\nmn\r\n", value.len()));
            direct.until(b"MN\r\n");
        }
        pause(random, 50, 700);
    }
}

/// The token that clients may have read.
fn token_of(direct: &mut Talk, key: &str) -> Option<u64> {
    direct.send(format!("mg {key} c\r\nmn\r\n"));
    let answer = direct.until(b"MN\r\n");
    let line = String::from_utf8(answer).expect("ASCII");
    line.strip_prefix("HD c")?.split("\r\n").next()?.parse().ok()
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
