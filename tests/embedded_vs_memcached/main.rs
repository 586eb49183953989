//! Embedded backends against a real memcached 1.6.18: the same requests over real sockets must bring the same
//! bytes, tokens included, and the same end of the connection.
//!
//! `MCPROXY_SEED=n cargo test --test embedded_vs_memcached` repeats one seed.

mod answers;
mod client;
mod memcached;
mod normal;
mod requests;
mod rng;
mod scripts;

use client::{Client, Exchange};
use mcproxy::embedded::EmbeddedBackend;
use memcached::Memcached;
use requests::{Generator, Protocol, Request};
use rng::Rng;
use std::net::SocketAddr;

/// Seeds of an ordinary run.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=6;

/// Batches of requests per seed.
const BATCHES: usize = 250;

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
    let memcached = Memcached::start(&[]);
    let embedded = EmbeddedBackend::start("scripts").expect("an embedded backend starts");
    let mut theirs = Side::new(memcached.address);
    let mut ours = Side::new(embedded.address);
    for (name, lines) in scripts::LINES {
        for line in *lines {
            let request = [Request { bytes: line.as_bytes().to_vec(), closes: false }];
            let expected = theirs.exchange(Protocol::Text, &request, 0);
            let got = ours.exchange(Protocol::Text, &request, 0);
            let [expected, got] = [&expected, &got].map(|exchanges| {
                String::from_utf8(normal::form(Protocol::Text, &exchanges[0].reply)).expect("text")
            });
            assert_eq!(expected, got, "{name}: {line:?}; left is memcached");
        }
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
    let memcached = Memcached::start(&[]);
    let embedded = EmbeddedBackend::start("embedded").expect("an embedded backend starts");
    let mut theirs = Side::new(memcached.address);
    let mut ours = Side::new(embedded.address);
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
