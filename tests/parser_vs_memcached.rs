//! The parsers against a real memcached 1.6.18: what we refuse it refuses in the same words, swallowing the
//! same bytes; what we take for one request it answers once.
//!
//! Each test starts a memcached of its own on a loopback port; where there is none to start, it fails.

use mcproxy::protocol::meta::MetaVerb;
use mcproxy::protocol::naive::Outcome;
use mcproxy::protocol::text::{ParserLimits, Request, Step};
use mcproxy::protocol::{base64, binary, compose, number, text};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

#[allow(dead_code)]
#[path = "../src/protocol/generate.rs"]
mod generate;
use generate::{Random, Scope};

mod support;
use support::process::Server;

const LIMITS: ParserLimits = ParserLimits { value_max: 1 << 20, get_line_max: 32 << 20 };

/// A wait that only ends a hang: no test depends on how long anything takes.
const HANG: Duration = Duration::from_secs(60);

/// Streams that need more padding than this to become whole are not sent.
const PADDING_MAX: u64 = 3 << 20;

struct Memcached {
    server: Server,
}

impl Memcached {
    fn start() -> Memcached {
        let memcached = Memcached { server: Server::memcached() };
        let version = memcached.ask(b"version\r\n");
        assert_eq!(version, b"VERSION 1.6.18\r\n", "these tests know the words of 1.6.18");
        memcached
    }

    /// Sends `bytes` and their end on a new connection and reads to the end: memcached answers what it has
    /// read before it sees that there is no more.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.server.address).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        socket.set_write_timeout(Some(HANG)).unwrap();
        // It may close before it has read everything; what it said by then can still be read.
        let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
        let mut reply = Vec::new();
        let mut buffer = [0; 16384];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return reply,
                Ok(count) => reply.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return reply,
                Err(error) => {
                    let (sent, got) = (bytes.escape_ascii(), reply.escape_ascii());
                    panic!("{error} after \"{got}\", sent \"{sent}\"")
                }
            }
        }
    }
}

/// One of the two protocols, as these tests need it.
#[derive(Clone, Copy)]
struct Protocol {
    parse: fn(&[u8]) -> Outcome,
    /// A request whose answer shows that what came before it was not waited for.
    fence: &'static [u8],
    /// What a step makes memcached say.
    expect: fn(&Outcome) -> Expected,
    /// Bytes of the request that ends a connection, at the start of these.
    closing_bytes: fn(&[u8]) -> usize,
}

/// What must stand in memcached's reply.
#[derive(Clone, Debug)]
enum Expected {
    Exactly(Vec<u8>),
    /// One line, or a `VA` with its value.
    Line,
    LineOrNothing,
    /// What a get answers.
    Values,
    /// A binary response to this opcode and opaque.
    Frame(u8, [u8; 4]),
    FrameOrNothing(u8, [u8; 4]),
}

const TEXT: Protocol = Protocol {
    parse: |input| text::parse(input, 0, &LIMITS).into(),
    fence: b"mg ~fence~ k Ofence\r\n",
    expect: expect_of_text,
    closing_bytes: |input| input.iter().position(|&byte| byte == b'\n').unwrap() + 1,
};

const BINARY: Protocol = Protocol {
    parse: |input| binary::parse(input, LIMITS.value_max).into(),
    fence: b"\x80\x0a\0\0\0\0\0\0\0\0\0\0fnce\0\0\0\0\0\0\0\0",
    expect: expect_of_binary,
    closing_bytes: |input| {
        input.len().min(24 + usize::from(input[4]) + usize::from(u16::from_be_bytes([input[2], input[3]])))
    },
};

fn expect_of_text(step: &Outcome) -> Expected {
    let Outcome::Request(request, _) = step else { return expect_of_refusal(step) };
    let part = |at: usize| request.parts[at] == b"true";
    match request.name.as_str() {
        "get" | "get many" | "gat" => Expected::Values,
        "quit" => Expected::Exactly(Vec::new()),
        "meta Noop" => Expected::Exactly(b"MN\r\n".to_vec()),
        name if name.starts_with("meta") && part(4) => Expected::LineOrNothing,
        name if name.starts_with("meta") || name == "version" => Expected::Line,
        _ if request.parts.last().unwrap() == b"true" => Expected::Exactly(Vec::new()),
        _ => Expected::Line,
    }
}

fn expect_of_binary(step: &Outcome) -> Expected {
    let Outcome::Request(request, _) = step else { return expect_of_refusal(step) };
    let opcode = request.parts[0][0];
    let opaque = *request.parts[1].first_chunk().unwrap();
    match binary::answering(opcode) {
        (binary::opcode::QUIT, true) => Expected::Exactly(Vec::new()),
        (_, false) => Expected::Frame(opcode, opaque),
        (_, true) => Expected::FrameOrNothing(opcode, opaque),
    }
}

fn expect_of_refusal(step: &Outcome) -> Expected {
    let Outcome::Refused(refusal) = step else { panic!("{step:?} is not whole") };
    let answer = &refusal.answer;
    if answer.ends_with(b"\r\n") || answer.is_empty() {
        return Expected::Exactly(answer.clone());
    }
    // A binary one: opcode, opaque, status and message.
    let message = &answer[7..];
    let length = (message.len() as u32).to_be_bytes();
    let frame = [&[0x81, answer[0], 0, 0, 0, 0], &answer[5..7], &length, &answer[1..5], &[0; 8], message];
    Expected::Exactly(frame.concat())
}

/// Makes `stream` whole, puts a fence behind it, and says what memcached must answer to it in which order,
/// and whether it must close. `None`: it would take too much padding, or ends so that no fence can be seen.
fn prepare(mut stream: Vec<u8>, protocol: Protocol) -> Option<(Vec<u8>, Vec<Expected>, bool)> {
    let mut expected = Vec::new();
    let mut at = 0;
    let mut fenced = false;
    loop {
        if at == stream.len() {
            stream.extend(protocol.fence);
            fenced = true;
        }
        let step = (protocol.parse)(&stream[at..]);
        match &step {
            Outcome::Request(request, bytes) => {
                expected.push((protocol.expect)(&step));
                let quits = request.name == "quit"
                    || matches!(request.parts[..], [ref opcode, ..]
                    if request.name == "binary" && matches!(opcode[..], [0x07 | 0x17]));
                at += bytes;
                if quits {
                    stream.truncate(at);
                    return Some((stream, expected, true));
                }
                if fenced && at == stream.len() {
                    return Some((stream, expected, false));
                }
            }
            Outcome::Refused(refusal) => {
                expected.push((protocol.expect)(&step));
                if refusal.close {
                    // Nothing unread, so that the close is no reset, which would destroy what was answered.
                    stream.truncate(at + (protocol.closing_bytes)(&stream[at..]));
                    return Some((stream, expected, true));
                }
                let end = (at + refusal.consumed) as u64 + refusal.swallow;
                if end > stream.len() as u64 + PADDING_MAX || (fenced && end >= stream.len() as u64) {
                    return None;
                }
                at = end as usize;
                stream.resize(stream.len().max(at), b'p');
            }
            Outcome::Line(_) if !fenced => stream.extend(b"\r\n"),
            Outcome::Total(total) if !fenced && at + total <= stream.len() + PADDING_MAX as usize => {
                stream.resize((at + total).saturating_sub(2).max(stream.len()), b'p');
                stream.resize(stream.len().max(at + total - 1), b'\r');
                stream.resize(stream.len().max(at + total), b'\n');
            }
            Outcome::Line(_) | Outcome::Total(_) => return None,
        }
    }
}

/// Bytes that `expected` takes from the start of `reply`; more than one possibility where it may be nothing.
fn lengths(reply: &[u8], expected: &Expected) -> Vec<usize> {
    let line = reply.iter().position(|&byte| byte == b'\n').map(|lf| lf + 1);
    let number_at = |word: usize, line: usize| -> Option<usize> {
        std::str::from_utf8(text::Keys::new(&reply[..line - 2]).nth(word)?).ok()?.parse().ok()
    };
    match expected {
        Expected::Exactly(bytes) => reply.starts_with(bytes).then_some(bytes.len()).into_iter().collect(),
        Expected::Line => line
            .map(|line| match number_at(1, line).filter(|_| reply.starts_with(b"VA ")) {
                Some(value) => line + value + 2,
                None => line,
            })
            .into_iter()
            .collect(),
        Expected::LineOrNothing => [vec![0], lengths(reply, &Expected::Line)].concat(),
        Expected::Values => {
            let Some(line) = line else { return Vec::new() };
            match number_at(3, line).filter(|_| reply.starts_with(b"VALUE ")) {
                Some(value) => {
                    let value = line + value + 2;
                    let rest = reply.get(value..).unwrap_or_default();
                    lengths(rest, expected).iter().map(|rest| value + rest).collect()
                }
                None => vec![line],
            }
        }
        Expected::Frame(opcode, opaque) => {
            let fits = reply.len() >= 24 && reply[..2] == [0x81, *opcode] && reply[12..16] == *opaque;
            let body = |reply: &[u8]| u32::from_be_bytes(*reply[8..].first_chunk().unwrap()) as usize;
            fits.then(|| 24 + body(reply)).into_iter().collect()
        }
        Expected::FrameOrNothing(opcode, opaque) => {
            [vec![0], lengths(reply, &Expected::Frame(*opcode, *opaque))].concat()
        }
    }
}

/// `reply` is all of `expected` in order and nothing else.
fn fits(reply: &[u8], expected: &[Expected]) -> bool {
    match expected {
        [] => reply.is_empty(),
        [first, rest @ ..] => lengths(reply, first)
            .into_iter()
            .any(|length| reply.get(length..).is_some_and(|reply| fits(reply, rest))),
    }
}

/// Asks memcached and tells what does not fit; `None` if all does. `Some(false)` inside: it was not asked.
fn judge(server: &Memcached, stream: Vec<u8>, protocol: Protocol) -> Result<bool, String> {
    let Some((stream, expected, closes)) = prepare(stream, protocol) else { return Ok(false) };
    let reply = server.ask(&stream);
    // Where memcached closes without a word it also drops the answers that it has not sent yet.
    let drops = closes && matches!(expected.last(), Some(Expected::Exactly(bytes)) if bytes.is_empty());
    let shortest = if drops { 0 } else { expected.len() };
    if (shortest..=expected.len()).any(|count| fits(&reply, &expected[..count])) {
        return Ok(true);
    }
    let (sent, reply) = (stream.escape_ascii(), reply.escape_ascii());
    Err(format!(
        "\n  bytes:     \"{sent}\"\n  memcached: \"{reply}\"\n  expected:  {expected:?}, closes {closes}"
    ))
}

/// Judges the streams of many seeds, and sees to it that nearly all were really asked.
fn judge_all(protocol: Protocol, seeds: std::ops::Range<u64>, stream: impl Fn(&mut Random) -> Vec<u8>) {
    let server = Memcached::start();
    let (count, mut asked) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        match judge(&server, stream(&mut Random::new(seed)), protocol) {
            Ok(was_asked) => asked += u64::from(was_asked),
            Err(difference) => {
                panic!("seed {seed}: {difference}\n  repeat: cargo test --test parser_vs_memcached")
            }
        }
    }
    assert!(asked * 20 > count * 19, "only {asked} of {count} streams were asked");
}

#[test]
fn meta_sets() {
    judge_all(TEXT, 0..6000, |random| generate::meta_request(random, "ms", Scope::Real));
}

#[test]
fn other_meta_commands() {
    judge_all(TEXT, 0..3000, |random| {
        let verb = random.pick(&["mg", "md", "ma", "me", "mn"]);
        generate::meta_request(random, verb, Scope::Real)
    });
}

#[test]
fn text_requests() {
    judge_all(TEXT, 0..6000, |random| {
        (0..3).flat_map(|_| generate::text_request(random, Scope::Real)).collect()
    });
}

/// One request each: memcached drops the answers not sent yet of earlier ones when a get has too long a key.
#[test]
fn gets_of_long_keys() {
    judge_all(TEXT, 0..300, |random| {
        let mut line = random.pick(&["get", "gets", "bget", "gat 0", "gats 0"]).to_string();
        for _ in 0..1 + random.below(4) {
            line += &format!(" {}", "k".repeat(if random.once_in(3) { 249 + random.below(4) } else { 3 }));
        }
        format!("{line}\r\n").into_bytes()
    });
}

#[test]
fn mutated_requests() {
    judge_all(TEXT, 0..4000, |random| {
        let mut stream: Vec<u8> = (0..2).flat_map(|_| generate::request(random, Scope::Real)).collect();
        generate::mutate(random, &mut stream);
        // The first byte decides the protocol.
        stream.splice(..0, *b" ");
        stream
    });
}

/// Requests that are read the short way, and what lies next to them.
#[test]
fn plain_requests() {
    judge_all(TEXT, 0..4000, |random| {
        let mut stream = b"version\r\n".to_vec();
        for _ in 0..3 {
            let mut request = generate::plain_request(random);
            if random.once_in(3) {
                generate::mutate(random, &mut request);
            }
            stream.extend(request);
        }
        stream
    });
}

/// What a backend would be sent for the requests of `stream`: copied or composed, and never silent.
fn sent(stream: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), stream);
    loop {
        let before = out.len();
        let bytes = match text::parse(rest, 0, &LIMITS) {
            Step::Request(Request::Store(store), bytes) => {
                compose::store(&mut out, &store, &rest[..bytes]);
                bytes
            }
            Step::Request(Request::Meta(meta), bytes) if meta.verb != MetaVerb::Noop => {
                compose::meta(&mut out, &meta, &rest[..bytes]);
                bytes
            }
            Step::Request(_, bytes) => bytes,
            Step::Refused(refusal) => {
                (refusal.consumed as u64 + refusal.swallow).min(rest.len() as u64) as usize
            }
            Step::Partial(_) => return out,
        };
        let silent = match text::parse(&out[before..], 0, &LIMITS) {
            Step::Request(Request::Store(store), _) => store.noreply,
            Step::Request(Request::Meta(meta), _) => meta.quiet,
            _ => out.len() > before,
        };
        assert!(!silent, "\"{}\" for \"{}\"", out[before..].escape_ascii(), rest.escape_ascii());
        rest = &rest[bytes..];
    }
}

/// memcached answers each of them once, whether it was copied or composed.
#[test]
fn what_is_sent_is_answered_once() {
    judge_all(TEXT, 0..4000, |random| {
        let mut stream = Vec::new();
        for _ in 0..3 {
            let mut request = generate::plain_request(random);
            if random.once_in(3) {
                generate::mutate(random, &mut request);
            }
            stream.extend(request);
        }
        sent(&stream)
    });
}

#[test]
fn binary_requests() {
    judge_all(BINARY, 0..6000, |random| {
        let mut stream = BINARY.fence.to_vec();
        stream.extend((0..3).flat_map(|_| generate::binary_request(random, Scope::Real)));
        stream
    });
}

/// Values of a mebibyte and more: memcached swallows them, and so do we.
#[test]
fn values_too_large() {
    judge_all(TEXT, 0..60, |random| {
        let verb = random.pick(&["set k 0 0 ", "add k 0 0 ", "append k 0 0 ", "cas k 0 0 ", "ms k "]);
        let length = (1 << 20) + 1 + random.below(100_000);
        let rest = random.pick(&["", " noreply", " 5", " q", " M7", " v v"]);
        format!("{verb}{length}{rest}\r\nmn\r\nversion\r\n").into_bytes()
    });
}

/// A parser that is wrong in its words, in what it swallows, or in what it takes for a request, is seen.
#[test]
fn canary_wrong_parsers_are_seen() {
    let server = Memcached::start();
    let other_words = |input: &[u8]| match (TEXT.parse)(input) {
        Outcome::Refused(mut refusal) if refusal.answer.starts_with(b"CLIENT_ERROR invalid flag") => {
            refusal.answer = b"CLIENT_ERROR duplicate flag\r\n".to_vec();
            Outcome::Refused(refusal)
        }
        step => step,
    };
    let no_swallow = |input: &[u8]| match (TEXT.parse)(input) {
        Outcome::Refused(mut refusal) => {
            refusal.swallow = 0;
            Outcome::Refused(refusal)
        }
        step => step,
    };
    let all_good = |input: &[u8]| match (TEXT.parse)(input) {
        Outcome::Refused(refusal) if refusal.swallow == 0 && !refusal.answer.is_empty() => {
            let Outcome::Request(touch, _) = (TEXT.parse)(b"touch k 1 noreply\r\n") else { unreachable!() };
            Outcome::Request(touch, refusal.consumed)
        }
        step => step,
    };
    for parse in [other_words as fn(&[u8]) -> Outcome, no_swallow] {
        let protocol = Protocol { parse, ..TEXT };
        let stream = |seed| generate::meta_request(&mut Random::new(seed), "ms", Scope::Real);
        let seen = (0..1000).filter(|&seed| judge(&server, stream(seed), protocol).is_err()).count();
        assert!(seen > 0, "a wrong parser was not seen");
    }
    let lie = Protocol { parse: all_good, ..TEXT };
    assert!(judge(&server, b"touch k\r\n".to_vec(), lie).is_err());
}

/// Flags that 1.6.18 does not know and newer versions do go on with a value that all versions take as data.
#[test]
fn newer_flags_get_one_reply() {
    let server = Memcached::start();
    for line in ["ms k 2 E5", "ms k 2 E5 c k T30", "mg k E7 N30 v", "md k E9 q", "md k x I", "ma k E3 N0"] {
        let value = if line.starts_with("ms") { "mn\r\n" } else { "" };
        let stream = format!("{line}\r\n{value}").into_bytes();
        assert!(matches!((TEXT.parse)(&stream), Outcome::Request(..)), "{line}");
        assert_eq!(judge(&server, stream, TEXT), Ok(true), "{line}");
    }
}

/// Lines without a key or a command, separated by bars: commands about the server, HTTP, next to nothing.
const LINES: &str = "\
refresh_certs | extstore | extstore foo | extstore item_size 1 | extstore item_size 1 noreply |\
extstore noreply | misbehave | debugtime p | verbosity | verbosity 0 | verbosity 0 2 |\
verbosity 0 2 3 | verbosity noreply | verbosity a | verbosity a noreply | lru | lru foo |\
lru noreply | lru tune | lru tune 1 2 3 4 noreply | lru mode | lru mode segmented |\
lru mode segmented noreply | lru temp_ttl 5 | lru temp_ttl | slabs | slabs noreply | slabs foo |\
slabs automove | slabs automove 1 | slabs automove 1 noreply | slabs automove x noreply |\
slabs automove noreply | slabs reassign 1 2 | slabs reassign 1 2 3 | slabs reassign 1 noreply |\
lru_crawler | lru_crawler foo | lru_crawler foo bar | lru_crawler foo bar baz | lru_crawler crawl 1 |\
lru_crawler metadump | lru_crawler mgdump hash | lru_crawler tocrawl x | lru_crawler tocrawl 5 6 |\
lru_crawler sleep 0 | lru_crawler enable | lru_crawler disable | watch foo | watch noreply |\
cache_memlimit | cache_memlimit x | cache_memlimit 64 | cache_memlimit 64 noreply |\
cache_memlimit 64 noreply 2 | cache_memlimit noreply | shutdown | shutdown x y z | flush_all |\
flush_all 0 | flush_all 0 0 | flush_all 0 0 0 | flush_all noreply | flush_all 0 noreply |\
flush_all x noreply | flush_all noreply noreply | flush_all noreply 0 | flush_all -1 | version |\
version x y | quit | quit x | G / HTTP/1.1 | g / HTTP/1.1 | gg / HTTP/1.1 | POST / HTTP/1.1 |\
ms / HTTP/1.1 | mx / HTTP/1.1 | mxx / HTTP/1.1 | HTTP/1.1 | HTTP/1.1 x | sx / HTTP/1.1 |\
zz a b c d e f g h i j k l m n o p q r s t u v HTTP/ |\
zz a b c d e f g h i j k l m n o p q r s t u HTTP/ v | mn x y z | m | x";

#[test]
fn commands_about_the_server() {
    let server = Memcached::start();
    for line in LINES.split('|').map(str::trim).chain(["flush_all \t", "", " ", "\r"]) {
        let differs = |error| panic!("{line}: {error}");
        assert!(judge(&server, format!("{line}\r\n").into_bytes(), TEXT).unwrap_or_else(differs), "{line}");
    }
}

/// Bodies of 2^31 bytes and more, which memcached counts in an int, and heads longer than its read buffer.
#[test]
fn binary_lengths_beyond_bounds() {
    let server = Memcached::start();
    let header = |opcode: u8, key: u16, extras: u8, body: u32| {
        let (key, body) = (key.to_be_bytes(), body.to_be_bytes());
        let mut header = vec![0x80, opcode, key[0], key[1], extras, 0, 0, 0];
        header.extend(body);
        header.resize(24 + usize::from(extras), 0);
        header
    };
    let mut asked = 0;
    for body in [0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0x8000_0009, 0x8000_000a, 0xffff_fff0, 0xffff_ffff] {
        for (opcode, extras) in
            [(0, 0), (1, 8), (0x11, 8), (2, 8), (0x50, 0), (0x21, 0), (0x1d, 4), (0x1b, 4)]
        {
            let stream = [&header(opcode, 1, extras, body)[..], b"a"].concat();
            let judged = judge(&server, stream, BINARY);
            asked +=
                usize::from(judged.unwrap_or_else(|error| panic!("opcode {opcode}, body {body}: {error}")));
        }
    }
    for key in [251u16, 16360, 16361, 65535] {
        let stream = [header(0, key, 0, u32::from(key)), vec![b'k'; usize::from(key)]].concat();
        asked +=
            usize::from(judge(&server, stream, BINARY).unwrap_or_else(|error| panic!("key {key}: {error}")));
    }
    assert!(asked > 30, "only {asked} streams were asked");
}

/// What a value too large does to the item that was there.
#[test]
fn unlinks_where_memcached_does() {
    let server = Memcached::start();
    let large = "x".repeat(1 << 20);
    let length = large.len() + 1;
    for (key, line) in [
        ("k", format!("set k 0 0 {length}")),
        ("k", format!("set k 0 0 {length} noreply")),
        ("k", format!("add k 0 0 {length}")),
        ("k", format!("replace k 0 0 {length}")),
        ("k", format!("append k 0 0 {length}")),
        ("k", format!("cas k 0 0 {length} 7")),
        ("k", format!("ms k {length}")),
        ("k", format!("ms k {length} ME q")),
        ("k", format!("ms k {length} v v")),
        ("abc", format!("ms YWJj {length} b")),
        ("YWJj", format!("ms YWJj {length} b")),
        ("YWJj", format!("ms YWJj {length}")),
    ] {
        let stream = format!("set {key} 0 0 1\r\n1\r\n{line}\r\n{large}y\r\nget {key}\r\n");
        let reply = server.ask(stream.as_bytes());
        let Outcome::Refused(refusal) = (TEXT.parse)(format!("{line}\r\n").as_bytes()) else {
            panic!("{line}")
        };
        let unlinked = refusal.unlink.map(|(unlinked, in_base64)| match in_base64 {
            true => base64::decode(&unlinked, &mut [0; 256]).unwrap().to_vec(),
            false => unlinked,
        });
        let kept = reply.ends_with(format!("VALUE {key} 0 1\r\n1\r\nEND\r\n").as_bytes());
        assert_eq!(unlinked.as_deref() == Some(key.as_bytes()), !kept, "{line}: {}", reply.escape_ascii());
    }
}

/// Not only which numbers memcached takes, but what it reads.
#[test]
fn numbers_mean_what_memcached_reads() {
    let server = Memcached::start();
    let mut random = Random::new(7);
    for round in 0..2000 {
        let digits = (0..1 + random.below(21))
            .map(|_| random.pick(&["0", "1", "4", "9", "9", "2"]))
            .collect::<String>();
        let mut token =
            String::from(random.pick(&["", "", "+", "-", "\t", "\x0b-", "184467440737", "429496729"]));
        token.push_str(&digits);
        token.push_str(random.pick(&["", "", "", "\t", "\r9", "x"]));
        let stream =
            format!("set n 0 0 1\r\n0\r\nincr n {token}\r\nset k {token} 0 0\r\n\r\nget k\r\nmn\r\n");
        let reply = server.ask(stream.as_bytes());
        let sum = match number::u64(token.as_bytes()) {
            Some(number) => number.to_string(),
            None => "CLIENT_ERROR invalid numeric delta argument".to_string(),
        };
        let item = match number::low_u32(token.as_bytes()) {
            Some(flags) => format!("STORED\r\nVALUE k {flags} 0\r\n\r\nEND\r\n"),
            None => format!("CLIENT_ERROR bad command line format\r\nERROR\r\n{}", last_item(&reply)),
        };
        let expected = format!("STORED\r\n{sum}\r\n{item}MN\r\n");
        assert_eq!(String::from_utf8_lossy(&reply), expected, "round {round}, token {token:?}");
    }
}

/// The answer to the `get` of a round whose `set` was refused: what an earlier round left.
fn last_item(reply: &[u8]) -> String {
    let reply = String::from_utf8_lossy(reply).into_owned();
    let start = reply.find("VALUE ").or_else(|| reply.find("END")).unwrap_or(0);
    reply[start..].trim_end_matches("MN\r\n").to_string()
}

/// The key that a base64 key decodes to is the one that memcached stores.
#[test]
fn base64_keys_decode_to_what_memcached_stores() {
    let server = Memcached::start();
    let mut random = Random::new(3);
    const SYMBOLS: &[&str] = &["A", "B", "Q", "Y", "W", "z", "0", "9", "+", "/", "=", "*", "-", "\u{fc}"];
    let mut decoded = 0;
    for round in 0..3000 {
        let key: String = (0..1 + random.below(10)).map(|_| random.pick(SYMBOLS)).collect();
        let stream = format!("ms {key} 1 b\r\nx\r\nmg {key} b k\r\nmn\r\n");
        let reply = server.ask(stream.as_bytes());
        let mut scratch = [0; 256];
        let expected = match base64::decode(key.as_bytes(), &mut scratch) {
            Some(bytes) => {
                decoded += 1;
                format!("HD\r\nHD k{} b\r\nMN\r\n", encode(bytes))
            }
            None => "CLIENT_ERROR error decoding key\r\n".repeat(2) + "MN\r\n",
        };
        assert_eq!(String::from_utf8_lossy(&reply), expected, "round {round}, key {key:?}");
    }
    assert!(decoded > 300, "only {decoded} keys could be decoded");
}

fn encode(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of_three = |three: &[u8]| {
        let bits =
            three.iter().chain(&[0, 0]).take(3).fold(0usize, |bits, &byte| bits << 8 | usize::from(byte));
        let symbol = |at: usize| match at <= three.len() {
            true => alphabet[bits >> (18 - 6 * at) & 63] as char,
            false => '=',
        };
        (0..4).map(symbol).collect::<String>()
    };
    bytes.chunks(3).map(of_three).collect()
}
