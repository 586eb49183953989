//! The same seeded streams to a real memcached and to the proxy, with one and with three real memcacheds
//! behind it: all bytes that come back, and what becomes of the connection, must be the same. CAS tokens are
//! normalised only where three backends count for themselves, times of access and expiry always.
//!
//! `MCPROXY_TEST_SEED=7` plays the round of that seed alone; `MCPROXY_TEST_ROUNDS=100` plays more rounds than
//! the few that every test run plays.

mod support;

#[path = "differential/binary.rs"]
mod binary;
#[path = "differential/keys.rs"]
mod keys;
#[path = "differential/meta.rs"]
mod meta;
#[path = "differential/normal.rs"]
mod normal;
#[path = "differential/player.rs"]
mod player;
#[path = "differential/stream.rs"]
mod stream;
#[path = "differential/text.rs"]
mod text;

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use keys::Keys;
use player::{Cuts, Subject, Transcript, play};
use stream::{Ending, Segment, Stream};
use support::binary::Frame;
use support::client::Client;
use support::process::{Server, named_backends};
use support::random::Random;
use support::relay::{Relay, one_byte_altered, two_replies_swapped};
use support::report::{escape, grouped, number_from_environment, repeat_command, say, seed_from_environment};
use text::Permits;

/// Streams of a round that are sent whole and cut at random places.
const LONG_STREAMS: usize = 24;

/// Streams of a round that are cut at every byte in turn.
const SHORT_STREAMS: usize = 2;

/// Rounds of each test; `MCPROXY_TEST_ROUNDS` overrides it.
const ROUNDS: u64 = 4;

/// Rounds in which a canary must be found. Where the harm hits the mark at a segment's end, that is a long wait.
const CANARIES: usize = 2;

/// Memory for every memcached, so that none of them evicts what another keeps.
const MEMORY: &[&str] = &["-m", "256"];

/// Everything that clients of one server at a time may do.
const ALONE: Permits = Permits { others: true, large: true };

/// Fresh servers, equal in all that a client sees.
struct Servers {
    reference: Server,
    _backends: Vec<Server>,
    subjects: Vec<(&'static str, SocketAddr, bool)>,
    _proxies: Vec<Server>,
}

impl Servers {
    /// A memcached, and the proxy before one memcached and before three.
    fn with_proxies(threads: &str) -> Self {
        let backends: Vec<Server> = (0..4).map(|_| Server::memcached_with(MEMORY)).collect();
        let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
        let arguments = ["--threads", threads, "--timeout", "30s"];
        let one = Server::mcproxy(&named_backends(&addresses[..1]), &arguments);
        let three = Server::mcproxy(&named_backends(&addresses[1..]), &arguments);
        one.learn_version();
        three.learn_version();
        let subjects = vec![
            ("mcproxy before one memcached", one.address, false),
            ("mcproxy before three memcacheds", three.address, true),
        ];
        let reference = Server::memcached_with(MEMORY);
        Servers { reference, _backends: backends, subjects, _proxies: vec![one, three] }
    }

    /// Two memcacheds: nothing may differ.
    fn without_proxies() -> Self {
        let twin = Server::memcached_with(MEMORY);
        let subjects = vec![("another memcached", twin.address, false)];
        let reference = Server::memcached_with(MEMORY);
        Servers { reference, _backends: vec![twin], subjects, _proxies: Vec::new() }
    }

    fn reference(&self, hide_tokens: bool) -> Subject<'static> {
        Subject { name: "memcached", address: self.reference.address, hide_tokens }
    }

    fn subjects(&self) -> impl Iterator<Item = Subject<'static>> {
        self.subjects.iter().map(|&(name, address, hide_tokens)| Subject { name, address, hide_tokens })
    }
}

/// What was compared.
#[derive(Default)]
struct Tally {
    streams: usize,
    requests: usize,
    bytes: usize,
}

impl Tally {
    fn add(&mut self, stream: &Stream, reference: &Transcript) {
        self.streams += 1;
        self.requests += stream.requests();
        self.bytes += reference.replies().iter().map(Vec::len).sum::<usize>();
    }

    fn say(&self, what: &str) {
        let (streams, requests) = (grouped(self.streams), grouped(self.requests));
        say(&format!(
            "differential: {what}: {streams} streams, {requests} requests, {} bytes of replies",
            grouped(self.bytes)
        ));
    }
}

#[test]
fn two_memcacheds_answer_alike() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let report = play_round(&Servers::without_proxies, seed, &mut tally);
        settle(report, "two_memcacheds_answer_alike", seed);
    }
    tally.say("two memcacheds");
}

#[test]
fn the_proxy_answers_as_memcached() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let report = play_round(&|| Servers::with_proxies("1"), seed, &mut tally);
        settle(report, "the_proxy_answers_as_memcached", seed);
    }
    tally.say("1 and 3 backends");
}

#[test]
fn clients_at_the_same_time_get_what_is_theirs() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let start = || Servers::with_proxies("2");
        let report = play_at_once(&start(), seed, &mut tally).map_err(|mismatch| explain(&start, &mismatch));
        settle(report, "clients_at_the_same_time_get_what_is_theirs", seed);
    }
    tally.say("8 clients at once, 1 and 3 backends");
}

/// memcached gives a key that a binary client stored back to `mg` with `b` and `k`, and to `me`, as it is: line
/// ends in it make one reply look like several. Nobody else may see any of them.
#[test]
fn line_ends_in_a_key_are_no_answers_for_others() {
    let memcached = Server::memcached();
    let proxy = Server::mcproxy(&named_backends(&[memcached.address]), &["--threads", "1"]);
    let key = b"a\r\nVALUE victim 0 4\r\nevil\r\nEND\r\n";
    let encoded = String::from_utf8(keys::encode(key)).expect("base64 is ASCII");
    let attacker = Client::connect(proxy.address);
    let set = Frame::request(0x01, 1).extras(&[0; 8]).key(key).value(b"x");
    attacker.send(&[set.bytes(), Frame::request(0x07, 2).bytes()].concat());
    attacker.inbox.take_to_end().expect("the key is stored");
    for question in [format!("mg {encoded} b k\r\n"), format!("me {encoded} b\r\n")] {
        let victim = Client::connect(proxy.address);
        let attacker = Client::connect(proxy.address);
        for turn in 0..50 {
            attacker.send(question.as_bytes());
            victim.send(b"get victim\r\n");
            let outcome = victim.expect(b"END\r\n");
            assert!(outcome.is_ok(), "turn {turn}, {question:?}: {outcome:?}");
        }
    }
}

#[test]
fn canary_an_altered_byte_is_found() {
    for seed in seeds().take(CANARIES) {
        harmful_relay_is_found(seed, one_byte_altered(25), "altered byte");
    }
}

#[test]
fn canary_swapped_replies_are_found() {
    for seed in seeds().take(CANARIES) {
        harmful_relay_is_found(seed, two_replies_swapped(b"EN Omark"), "swapped replies");
    }
}

fn harmful_relay_is_found(seed: u64, harm: support::relay::Harm, what: &str) {
    let mut servers = Servers::without_proxies();
    let relay = Relay::start(servers.subjects[0].1, harm);
    servers.subjects[0].1 = relay.address;
    let outcome = long_streams(&servers, seed, &mut Tally::default(), &mut Vec::new());
    assert!(outcome.is_err(), "seed {seed}: {what} went by unseen");
}

fn seeds() -> RangeInclusive<u64> {
    match seed_from_environment() {
        Some(seed) => seed..=seed,
        None => 1..=number_from_environment("MCPROXY_TEST_ROUNDS").unwrap_or(ROUNDS),
    }
}

fn settle(report: Result<(), String>, test: &str, seed: u64) {
    if let Err(report) = report {
        let repeat = repeat_command("differential", test, seed);
        panic!("seed {seed}: {report}\nrepeat with: {repeat}");
    }
}

/// Streams that were played until replies differed, the last of them the one in which they did.
struct Mismatch {
    played: Vec<Stream>,
    report: String,
}

/// Plays a round on fresh servers; a mismatch is looked at once more, request by request.
fn play_round(start: &dyn Fn() -> Servers, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let servers = start();
    let mut played = Vec::new();
    let outcome = long_streams(&servers, seed, tally, &mut played)
        .and_then(|()| short_streams(&servers, seed, tally, &mut played));
    drop(servers);
    outcome.map_err(|report| explain(start, &Mismatch { played, report }))
}

/// Plays the streams of a mismatch again on fresh servers, each request by itself, to name the first request
/// that goes wrong. What goes wrong only among others is looked for in the last stream, sent whole.
fn explain(start: &dyn Fn() -> Servers, mismatch: &Mismatch) -> String {
    let Some((last, before)) = mismatch.played.split_last() else { return mismatch.report.clone() };
    let single: Vec<Stream> = mismatch.played.iter().map(Stream::one_by_one).collect();
    let alone = first_difference(&start(), &single);
    let whole: Vec<Stream> = before.iter().map(Stream::one_by_one).chain([last.clone()]).collect();
    let together = first_difference(&start(), &whole);
    format!(
        "{}\n\nAll streams up to this one again, request by request: {}\n\n\
         The same, but the last stream in whole segments: {}",
        mismatch.report,
        alone.unwrap_or("no difference".to_owned()),
        together.unwrap_or("no difference".to_owned())
    )
}

fn first_difference(servers: &Servers, streams: &[Stream]) -> Option<String> {
    streams.iter().find_map(|stream| compare(servers, stream, Cuts::Whole, &mut Tally::default()).err())
}

fn long_streams(
    servers: &Servers,
    seed: u64,
    tally: &mut Tally,
    played: &mut Vec<Stream>,
) -> Result<(), String> {
    let mut random = Random::new(seed);
    let keys = Keys::new("");
    for number in 0..LONG_STREAMS {
        let stream = long_stream(&mut random, &keys, number % 3 == 2, ALONE);
        let cuts = match number % 2 {
            0 => Cuts::Whole,
            _ => Cuts::Random { seed: random.next(), count: random.between(1, 40) },
        };
        played.push(stream);
        compare(servers, &played[number], cuts, tally)
            .map_err(|report| format!("stream {number}, {cuts:?}: {report}"))?;
    }
    Ok(())
}

fn short_streams(
    servers: &Servers,
    seed: u64,
    tally: &mut Tally,
    played: &mut Vec<Stream>,
) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x5175_6965);
    let keys = Keys::new("");
    for number in 0..SHORT_STREAMS {
        let stream = short_stream(&mut random, &keys, number % 2 == 1);
        let length: usize =
            stream.segments.iter().flatten().map(|request| request.render(&Default::default()).len()).sum();
        for cuts in (1..length + 30).map(Cuts::At).chain([Cuts::EveryByte]) {
            played.push(stream.clone());
            compare(servers, &stream, cuts, tally)
                .map_err(|report| format!("short stream {number}, {cuts:?}: {report}"))?;
        }
    }
    Ok(())
}

fn long_stream(random: &mut Random, keys: &Keys, binary: bool, permits: Permits) -> Stream {
    let segments = random.between(2, 4);
    let mut stream = empty_stream(random, keys, binary);
    let mut opaque = 0;
    for _ in 0..segments {
        let mut segment = Segment::new();
        for _ in 0..random.between(3, 40) {
            opaque += 1;
            let request = next_request(random, keys, binary, permits, opaque);
            if !binary && text::may_lose_answers(&request) {
                stream.segments.push(std::mem::take(&mut segment));
            }
            segment.push(request);
        }
        stream.segments.push(segment);
    }
    stream.ending = if binary { binary::ending(random) } else { text::ending(random, keys) };
    stream
}

/// A few requests, all small, in one segment.
fn short_stream(random: &mut Random, keys: &Keys, binary: bool) -> Stream {
    const SMALL: usize = 60;
    let permits = Permits { large: false, ..ALONE };
    let mut stream = empty_stream(random, keys, binary);
    let mut segment = Vec::new();
    while segment.len() < 5 {
        let request = next_request(random, keys, binary, permits, segment.len() as u32);
        if request.render(&Default::default()).len() <= SMALL && !text::may_lose_answers(&request) {
            segment.push(request);
        }
    }
    stream.segments.push(segment);
    stream
}

fn next_request(
    random: &mut Random,
    keys: &Keys,
    binary: bool,
    permits: Permits,
    opaque: u32,
) -> stream::Request {
    match binary {
        true => binary::request(random, keys, permits, opaque),
        false => text::request(random, keys, permits),
    }
}

/// The first request makes sure that the connection is taken for what it is.
fn empty_stream(random: &mut Random, keys: &Keys, binary: bool) -> Stream {
    let mark = random.next();
    let segments = if binary { vec![] } else { vec![vec![stream::Request::plain("version\r\n")]] };
    let keys_with_line_ends = keys.binary.iter().filter(|key| key.contains(&b'\n')).cloned().collect();
    Stream { binary, segments, ending: Ending::Leave, keys_with_line_ends, mark }
}

fn compare(servers: &Servers, stream: &Stream, cuts: Cuts, tally: &mut Tally) -> Result<(), String> {
    let plain = play(servers.reference(false), stream, cuts);
    if let Some(trouble) = plain.trouble() {
        return Err(format!("memcached itself: {trouble}"));
    }
    for subject in servers.subjects() {
        let reference = if subject.hide_tokens { plain.with_tokens_hidden(stream) } else { plain.clone() };
        if let Some(report) = play(subject, stream, cuts).differs_from(&reference) {
            return Err(format!("{}: {report}", subject.name));
        }
    }
    tally.add(stream, &plain);
    Ok(())
}

/// Eight clients at once, each with keys of its own: what one does must not change what another sees. The
/// reference is played one client after the other.
fn play_at_once(servers: &Servers, seed: u64, tally: &mut Tally) -> Result<(), Mismatch> {
    const CLIENTS: usize = 8;
    const STREAMS: usize = 4;
    let permits = Permits { others: false, large: false };
    let streams: Vec<Vec<Stream>> = (0..CLIENTS)
        .map(|client| {
            let mut random = Random::new(seed << 8 | client as u64);
            let keys = Keys::new(&format!("client{client}-"));
            (0..STREAMS).map(|_| long_stream(&mut random, &keys, client % 3 == 2, permits)).collect()
        })
        .collect();
    let reference = Subject { name: "memcached", address: servers.reference.address, hide_tokens: true };
    let expected: Vec<Vec<Transcript>> = streams.iter().map(|list| play_all(reference, list)).collect();
    for subject in servers.subjects() {
        let subject = Subject { hide_tokens: true, ..subject };
        let got: Vec<Vec<Transcript>> = std::thread::scope(|scope| {
            let clients: Vec<_> =
                streams.iter().map(|list| scope.spawn(move || play_all(subject, list))).collect();
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
        });
        for (client, (expected, got)) in expected.iter().zip(&got).enumerate() {
            for (number, (expected, got)) in expected.iter().zip(got).enumerate() {
                let problem = match expected.trouble() {
                    Some(trouble) => Some(format!("memcached itself: {trouble}")),
                    None => got.differs_from(expected).map(|text| format!("{}: {text}", subject.name)),
                };
                if let Some(problem) = problem {
                    let report = format!("client {client}, stream {number}, {problem}");
                    return Err(Mismatch { played: streams[client][..=number].to_vec(), report });
                }
            }
        }
    }
    for (stream, expected) in streams.iter().flatten().zip(expected.iter().flatten()) {
        tally.add(stream, expected);
    }
    Ok(())
}

fn play_all(subject: Subject, streams: &[Stream]) -> Vec<Transcript> {
    streams.iter().map(|stream| play(subject, stream, Cuts::Whole)).collect()
}

#[test]
fn base64_is_as_in_the_rfc() {
    for (raw, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        let encoded = keys::encode(raw.as_bytes());
        assert_eq!(encoded, text.as_bytes(), "{raw} became {}", escape(&encoded));
    }
}
