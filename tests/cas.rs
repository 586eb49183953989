//! Many clients count up the same few counters by compare-and-swap, and afterwards every update must be
//! accounted for: each value of a counter was stored by exactly one client, and the backends carried out
//! exactly as many compare-and-swaps as the clients were answered. Nothing lost, nothing doubled.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::counting::{Connection, PROTOCOLS, Protocol, Swapped};
use support::inbox::PATIENCE;
use support::process::{Server, named_backends};
use support::random::Random;
use support::relay::Relay;
use support::report::{grouped, say};

const CLIENTS: usize = 8;
const KEYS: [&str; 4] = ["counter:0", "counter:1", "counter:2", "counter:3"];
const SEED: u64 = 0xca5;

/// How long the clients count. They go on until each has stored something, however slow the machine is.
const DURATION: Duration = Duration::from_secs(3);

#[test]
fn text_updates_are_neither_lost_nor_doubled() {
    through_the_proxy("text", |_| Protocol::Text);
}

#[test]
fn binary_updates_are_neither_lost_nor_doubled() {
    through_the_proxy("binary", |_| Protocol::Binary);
}

#[test]
fn meta_updates_are_neither_lost_nor_doubled() {
    through_the_proxy("meta", |_| Protocol::Meta);
}

/// Text and meta share a link to a backend and binary has its own: their updates meet only there.
#[test]
fn updates_by_all_three_protocols_are_neither_lost_nor_doubled() {
    through_the_proxy("mixed", |client| PROTOCOLS[client % PROTOCOLS.len()]);
}

#[test]
fn canary_a_doubled_update_is_found() {
    for protocol in PROTOCOLS {
        let server = Server::memcached();
        create_counters(server.address);
        let tally = count(server.address, Duration::ZERO, &|_| protocol);
        tally.check(&read_counters(server.address)).expect("nothing was doubled yet");
        // An update that is applied once more, as by a proxy that sends it again.
        let mut again = Connection::open(server.address);
        let (value, token) = read(protocol, &mut again, "counter:2");
        assert!(swap(protocol, &mut again, "counter:2", value + 1, token));
        let error = tally.check(&read_counters(server.address)).expect_err("an update was doubled");
        assert!(error.contains("counter:2"), "{error}");
    }
}

#[test]
fn canary_a_lost_update_is_found() {
    let server = Server::memcached();
    create_counters(server.address);
    // The slower of two clients is told that its update was stored when it was not.
    let lie = |answer: &mut Vec<u8>| {
        if answer == b"EXISTS\r\n" {
            *answer = b"STORED\r\n".to_vec();
        }
    };
    let relay = Relay::start(server.address, Box::new(lie));
    let mut tally = Tally { stored: Default::default(), conflicts: 0 };
    let mut clients = [Connection::open(relay.address), Connection::open(relay.address)];
    let seen = clients.each_mut().map(|client| read(Protocol::Text, client, KEYS[0]));
    for (client, (value, token)) in clients.iter_mut().zip(seen) {
        assert!(swap(Protocol::Text, client, KEYS[0], value + 1, token));
        tally.stored[0].push(value + 1);
    }
    let error = tally.check(&read_counters(server.address)).expect_err("an update was lost");
    assert!(error.contains("stored by 2 clients"), "{error}");
}

#[test]
fn canary_a_compare_and_swap_sent_twice_is_found() {
    for protocol in PROTOCOLS {
        let servers = [Server::memcached()];
        create_counters(servers[0].address);
        let tally = count(servers[0].address, Duration::ZERO, &|_| protocol);
        tally.check_backends(&servers).expect("each was sent once");
        // The second of two equal sends finds the token used up: the value stays right, only the count tells.
        let mut again = Connection::open(servers[0].address);
        assert!(!swap(protocol, &mut again, KEYS[0], 9, u64::MAX));
        let error = tally.check_backends(&servers).expect_err("one was sent twice");
        assert!(error.contains("cas_badval"), "{error}");
    }
}

/// Counts through mcproxy with two workers in front of three memcacheds, and checks every account.
fn through_the_proxy(name: &str, protocol: impl Fn(usize) -> Protocol + Sync) {
    let backends = [Server::memcached(), Server::memcached(), Server::memcached()];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let proxy = Server::mcproxy(&named_backends(&addresses), &["--threads", "2"]);
    create_counters(proxy.address);
    let tally = count(proxy.address, DURATION, &protocol);
    let accounts = tally
        .check(&read_counters(proxy.address))
        .and_then(|()| tally.check_backends(&backends))
        .and_then(|()| one_owner_each(&backends));
    if let Err(error) = accounts {
        panic!("{name}: {error}\nrepeat: cargo test --test cas {name} (seed {SEED:#x})");
    }
    say(&format!(
        "cas, {name}: {CLIENTS} clients, {} counters: {} stored, {} conflicts, the sum of the counters is {}",
        KEYS.len(),
        grouped(tally.stored_count()),
        grouped(tally.conflicts),
        grouped(tally.stored_count()),
    ));
}

/// What the clients were told.
struct Tally {
    /// Per counter, each value that a client was told it had stored.
    stored: [Vec<u64>; KEYS.len()],
    /// How often a client was told that somebody else had been faster.
    conflicts: usize,
}

impl Tally {
    fn stored_count(&self) -> usize {
        self.stored.iter().map(Vec::len).sum()
    }

    /// Counters start at 0 and go up by 1, so a counter that stands at n was given each value from 1 to n,
    /// by one client each.
    fn check(&self, counters: &[u64; KEYS.len()]) -> Result<(), String> {
        for ((key, stored), &counter) in KEYS.iter().zip(&self.stored).zip(counters) {
            let mut times = vec![0u32; counter as usize + 1];
            for &value in stored {
                let seen = times.get_mut(value as usize);
                *seen.ok_or(format!("{key} stands at {counter}, and {value} was stored"))? += 1;
            }
            if let Some(value) = (1..times.len()).find(|&value| times[value] != 1) {
                let clients = times[value];
                return Err(format!(
                    "{key} stands at {counter}, and {value} was stored by {clients} clients"
                ));
            }
        }
        let sum: u64 = counters.iter().sum();
        if sum != self.stored_count() as u64 {
            return Err(format!("the counters add up to {sum}, with {} updates stored", self.stored_count()));
        }
        Ok(())
    }

    /// memcached counts compare-and-swaps by their end; each was sent to one server, once.
    fn check_backends(&self, backends: &[Server]) -> Result<(), String> {
        let told = [("cas_hits", self.stored_count()), ("cas_badval", self.conflicts), ("cas_misses", 0)];
        for (name, told) in told {
            let counted: u64 =
                backends.iter().map(|backend| Connection::open(backend.address).stat(name)).sum();
            if counted != told as u64 {
                return Err(format!("the backends counted {counted} {name}, the clients were told {told}"));
            }
        }
        Ok(())
    }
}

/// Lets all clients count at once for at least `duration`, each over a connection of its own.
fn count(address: SocketAddr, duration: Duration, protocol: &(impl Fn(usize) -> Protocol + Sync)) -> Tally {
    let (idle, stop) = (AtomicU64::new(CLIENTS as u64), AtomicBool::new(false));
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let counting = |client| count_alone(address, client, protocol(client), &idle, &stop);
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || counting(client))).collect();
        let started = Instant::now();
        let waiting =
            || idle.load(Ordering::Relaxed) > 0 && !clients.iter().any(|client| client.is_finished());
        while started.elapsed() < duration || (waiting() && started.elapsed() < PATIENCE) {
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("a client failed, see above")).collect()
    });
    assert_eq!(idle.into_inner(), 0, "some client stored nothing in {PATIENCE:?}");
    let mut sum = Tally { stored: Default::default(), conflicts: 0 };
    for tally in tallies {
        sum.conflicts += tally.conflicts;
        for (all, one) in sum.stored.iter_mut().zip(tally.stored) {
            all.extend(one);
        }
    }
    sum
}

/// One client. It takes itself off `idle` when it has stored something.
fn count_alone(
    address: SocketAddr,
    client: usize,
    protocol: Protocol,
    idle: &AtomicU64,
    stop: &AtomicBool,
) -> Tally {
    let mut random = Random::new(SEED + client as u64);
    let mut connection = Connection::open(address);
    let mut tally = Tally { stored: Default::default(), conflicts: 0 };
    while !stop.load(Ordering::Relaxed) {
        let counter = random.below(KEYS.len());
        let (value, token) = read(protocol, &mut connection, KEYS[counter]);
        if swap(protocol, &mut connection, KEYS[counter], value + 1, token) {
            if tally.stored_count() == 0 {
                idle.fetch_sub(1, Ordering::Relaxed);
            }
            tally.stored[counter].push(value + 1);
        } else {
            tally.conflicts += 1;
        }
    }
    tally
}

/// The value of a counter and its token.
fn read(protocol: Protocol, connection: &mut Connection, key: &str) -> (u64, u64) {
    let (value, token) = protocol.read(connection, key).expect("no error").expect("it is there");
    (value.parse().unwrap_or_else(|_| panic!("{key}: {value:?} is no number")), token)
}

/// Stores a value if the token still holds; says whether it was stored.
fn swap(protocol: Protocol, connection: &mut Connection, key: &str, value: u64, token: u64) -> bool {
    match protocol.swap(connection, key, &value.to_string(), token).expect("no error") {
        Swapped::Gone => panic!("{key} is gone"),
        swapped => swapped == Swapped::Stored,
    }
}

fn create_counters(address: SocketAddr) {
    let mut connection = Connection::open(address);
    for key in KEYS {
        connection.send(format!("set {key} 0 0 1\r\n0\r\n").as_bytes());
        assert_eq!(connection.line(), "STORED");
    }
}

fn read_counters(address: SocketAddr) -> [u64; KEYS.len()] {
    let mut connection = Connection::open(address);
    KEYS.map(|key| read(Protocol::Text, &mut connection, key).0)
}

/// Each counter lives on one backend, and on no other.
fn one_owner_each(backends: &[Server]) -> Result<(), String> {
    for key in KEYS {
        let holds = |backend: &&Server| {
            let mut connection = Connection::open(backend.address);
            connection.send(format!("mg {key}\r\n").as_bytes());
            connection.line() == "HD"
        };
        let owners = backends.iter().filter(holds).count();
        if owners != 1 {
            return Err(format!("{key} lives on {owners} backends"));
        }
    }
    Ok(())
}
