//! Embedded backends against a real memcached 1.6.18: the same requests over real sockets must bring the same
//! bytes, tokens included, and the same end of the connection.
//!
//! `MCPROXY_SEED=n cargo test --test embedded_vs_memcached` repeats one seed.

mod answers;
mod client;
mod normal;
mod requests;
mod rng;
mod scripts;
#[path = "../support/mod.rs"]
mod support;

use client::{Client, Exchange};
use mcproxy::embedded::EmbeddedBackend;
use requests::{Generator, Protocol, Request};
use rng::Rng;
use std::net::SocketAddr;
use support::process::Server;

/// Seeds of an ordinary run.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=6;

/// Batches of requests per seed.
const BATCHES: usize = 250;

/// No threads that work in the background: a maintainer holds items that were read for a while, and a decr then
/// stores a shorter number without filling it up.
const ONE_THREAD: [&str; 2] = ["-o", "no_lru_maintainer,no_lru_crawler"];

/// Most requests of a batch.
const BATCH_MAX: usize = 8;

fn seeds() -> Vec<u64> {
    match std::env::var("MCPROXY_SEED") {
        Ok(seed) => vec![seed.parse().expect("MCPROXY_SEED is a number")],
        Err(_) => SEEDS.collect(),
    }
}

#[test]
fn text_and_meta() {
    for seed in seeds() {
        compare(seed, &[Protocol::Text, Protocol::Meta]).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn binary() {
    for seed in seeds() {
        compare(seed, &[Protocol::Binary]).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn all_protocols_on_the_same_items() {
    let all = [Protocol::Text, Protocol::Meta, Protocol::Binary];
    for seed in seeds() {
        compare(seed, &all).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn scripts_of_lines() {
    let mut pair = Pair::start();
    for (name, lines) in scripts::LINES {
        for line in *lines {
            pair.check(name, line.as_bytes());
        }
    }
}

/// Where a value is too large depends on its key and flags; what it was to replace then goes or stays.
#[test]
fn values_about_as_large_as_can_be() {
    let mut pair = Pair::start();
    for verb in ["set", "add", "replace", "append", "ms", "ms-append"] {
        for (length, flags) in
            [(1_048_515, 0), (1_048_516, 0), (1_048_517, 0), (1_048_512, 1), (1_048_513, 1)]
        {
            let line = match verb {
                "ms" => format!("ms k {length} F{flags} c\r\n"),
                "ms-append" => format!("ms k {length} F{flags} MA\r\n"),
                _ => format!("{verb} k {flags} 0 {length}\r\n"),
            };
            let name = line.trim_end().to_owned();
            let value = vec![b'x'; length];
            pair.check(&name, b"set k 0 0 1\r\n1\r\n");
            pair.check(&name, &[line.as_bytes(), &value, b"\r\n"].concat());
            pair.check(&name, b"mg k s f c\r\n");
        }
    }
}

/// A fresh memcached and a fresh embedded backend.
struct Pair {
    theirs: Side,
    ours: Side,
    _servers: (Server, EmbeddedBackend),
}

impl Pair {
    fn start() -> Pair {
        let memcached = Server::memcached_with(&ONE_THREAD);
        let embedded = EmbeddedBackend::start("pair").expect("an embedded backend starts");
        let (theirs, ours) = (Side::new(memcached.address), Side::new(embedded.address));
        Pair { theirs, ours, _servers: (memcached, embedded) }
    }

    /// Sends a line to both, and fails if they do not say the same.
    fn check(&mut self, name: &str, request: &[u8]) {
        let request = [Request { bytes: request.to_vec(), closes: false }];
        let expected = self.theirs.exchange(Protocol::Text, &request, 0);
        let got = self.ours.exchange(Protocol::Text, &request, 0);
        let [expected, got] = [&expected, &got].map(|exchanges| {
            String::from_utf8(normal::form(Protocol::Text, &exchanges[0].reply)).expect("text")
        });
        assert_eq!(expected, got, "{name}: {}; left is memcached", shown(&request[0].bytes));
    }
}

/// The comparison must be able to fail: one byte of one late reply is changed.
#[test]
fn a_corrupted_reply_is_caught() {
    let difference = compare_with(1, &[Protocol::Text], |batch, exchange: &mut Exchange| {
        if let (true, Some(byte)) = (batch == 40, exchange.reply.first_mut()) {
            *byte ^= 1;
        }
    });
    let difference = difference.expect_err("a changed byte goes unnoticed");
    assert!(difference.contains("batch 40"), "{difference}");
}

/// And a reply that is missing.
#[test]
fn a_lost_reply_is_caught() {
    let difference = compare_with(1, &[Protocol::Binary], |batch, exchange: &mut Exchange| {
        if batch == 40 {
            exchange.reply.clear();
        }
    });
    difference.expect_err("a lost reply goes unnoticed");
}

fn compare(seed: u64, protocols: &[Protocol]) -> Result<(), String> {
    compare_with(seed, protocols, |_, _| {})
}

/// Sends the same batches to a fresh memcached and a fresh embedded backend. `meddle` may change what the latter
/// said.
fn compare_with(
    seed: u64,
    protocols: &[Protocol],
    mut meddle: impl FnMut(usize, &mut Exchange),
) -> Result<(), String> {
    let Pair { mut theirs, mut ours, _servers } = Pair::start();
    let mut rng = Rng::new(seed);
    let mut generator = Generator::default();
    for batch in 0..BATCHES {
        let protocol = protocols[rng.below(protocols.len())];
        let requests = generator.batch(&mut rng, protocol, BATCH_MAX);
        let pieces = rng.next();
        let expected = theirs.exchange(protocol, &requests, pieces);
        let mut got = ours.exchange(protocol, &requests, pieces);
        for exchange in &mut got {
            meddle(batch, exchange);
        }
        for (index, request) in requests.iter().enumerate() {
            let (expected, got) = (&expected[index], &got[index]);
            generator.learn(protocol, &expected.reply);
            if normal::form(protocol, &expected.reply) != normal::form(protocol, &got.reply)
                || expected.closed != got.closed
            {
                return Err(difference(seed, batch, protocol, request, expected, got));
            }
        }
    }
    Ok(())
}

fn difference(
    seed: u64,
    batch: usize,
    protocol: Protocol,
    request: &Request,
    expected: &Exchange,
    got: &Exchange,
) -> String {
    let end = |exchange: &Exchange| if exchange.closed { "and closes" } else { "" };
    format!(
        "seed {seed}, batch {batch}, {protocol:?}\n  request   {}\n  memcached {} {}\n  embedded  {} {}\n\
         repeat: MCPROXY_SEED={seed} cargo test --test embedded_vs_memcached",
        shown(&request.bytes),
        shown(&expected.reply),
        end(expected),
        shown(&got.reply),
        end(got),
    )
}

/// All of a short text, and both ends of a long one: long ones repeat a letter.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= 4000 {
        return bytes.escape_ascii().to_string();
    }
    let (start, end) = (&bytes[..500], &bytes[bytes.len() - 100..]);
    format!("{} ({} bytes in all) {}", start.escape_ascii(), bytes.len(), end.escape_ascii())
}

/// One server with a connection for the line protocols and one for binary, each opened again when it was closed.
struct Side {
    address: SocketAddr,
    lines: Option<Client>,
    binary: Option<Client>,
}

impl Side {
    fn new(address: SocketAddr) -> Self {
        Side { address, lines: None, binary: None }
    }

    fn exchange(&mut self, protocol: Protocol, requests: &[Request], pieces: u64) -> Vec<Exchange> {
        let slot = match protocol {
            Protocol::Binary => &mut self.binary,
            _ => &mut self.lines,
        };
        let mut client = slot.take().unwrap_or_else(|| Client::connect(self.address));
        let exchanges = client.exchange(protocol, requests, &mut Rng::new(pieces));
        if !exchanges.iter().any(|exchange| exchange.closed) {
            *slot = Some(client);
        }
        exchanges
    }
}
