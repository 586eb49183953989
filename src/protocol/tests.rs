//! The parsers against their oracle, against themselves with the bytes in pieces, and against what memcached
//! 1.6.18 answered.

use super::generate::{self, Random, Scope};
use super::naive::stream::{ScanningParser, bytes_of, steps, steps_in_pieces};
use super::naive::{self, Outcome};
use super::text::{ParserLimits, Partial};
use super::{binary, compose, text};

mod canonical;

const LIMITS: ParserLimits = ParserLimits { value_max: 1000, get_line_max: 3000 };

/// A parser as these tests see it.
type Parser<'p> = &'p dyn Fn(&[u8]) -> Outcome;

fn parse_text(input: &[u8]) -> Outcome {
    text::parse(input, 0, &LIMITS).into()
}

fn parse_binary(input: &[u8]) -> Outcome {
    binary::parse(input, LIMITS.value_max).into()
}

/// Both parsers on the same stream: the first step in which they differ, told so that it can be repeated.
fn difference(stream: &[u8], seed: u64, fast: Parser, oracle: Parser) -> Option<String> {
    let (fast, oracle) = (steps(stream, fast), steps(stream, oracle));
    if fast == oracle {
        return None;
    }
    let at = (0..).find(|&at| fast.get(at) != oracle.get(at)).unwrap();
    Some(format!(
        "step {at} of the stream of seed {seed}\n  bytes:  \"{}\"\n  parser: {:?}\n  oracle: {:?}\n\
         repeat: cargo test --lib protocol::tests",
        stream.escape_ascii(),
        fast.get(at),
        oracle.get(at)
    ))
}

/// The stream of a seed: whole requests one after the other, some of them mutated, some noise.
fn stream(seed: u64, binary: bool, scope: Scope) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut stream = Vec::new();
    for _ in 0..1 + random.below(4) {
        let mut request = match (random.once_in(12), binary) {
            (true, _) => generate::noise(&mut random),
            (_, true) => generate::binary_request(&mut random, scope),
            (_, false) => generate::request(&mut random, scope),
        };
        if random.once_in(4) {
            generate::mutate(&mut random, &mut request);
        }
        stream.extend(request);
    }
    stream
}

#[test]
fn text_parser_agrees_with_its_oracle() {
    for seed in 0..30_000 {
        let stream = stream(seed, false, Scope::All);
        let oracle = |input: &[u8]| naive::parse_text(input, &LIMITS);
        assert_eq!(difference(&stream, seed, &parse_text, &oracle), None);
    }
}

#[test]
fn binary_parser_agrees_with_its_oracle() {
    for seed in 0..30_000 {
        let stream = stream(seed, true, Scope::All);
        let oracle = |input: &[u8]| naive::parse_binary(input, LIMITS.value_max);
        assert_eq!(difference(&stream, seed, &parse_binary, &oracle), None);
    }
}

/// What [`text::plain_get`] takes is what the oracle takes, and a backend would be sent the same bytes.
#[test]
fn plain_gets_are_gets() {
    let mut taken = 0;
    for seed in 0..60_000 {
        let mut random = Random::new(seed);
        let mut input = generate::plain_get(&mut random);
        if random.once_in(2) {
            generate::mutate(&mut random, &mut input);
        }
        let Some(text::PlainGet { with_cas, key, total }) = text::plain_get(&input, LIMITS.get_line_max)
        else {
            continue;
        };
        taken += 1;
        let shown = format!("seed {seed}: {}", input.escape_ascii());
        let step = text::Step::Request(text::Request::Get { with_cas, key }, total);
        assert_eq!(naive::parse_text(&input, &LIMITS), step.into(), "{shown}");
        let mut composed = Vec::new();
        compose::get(&mut composed, with_cas, key);
        assert_eq!(composed, input[..total], "{shown}");
    }
    assert!(taken > 30_000, "only {taken} were plain");
}

/// The comparison sees an oracle that is wrong in one rare place.
#[test]
fn canary_a_wrong_oracle_is_seen() {
    let liar = |input: &[u8]| match naive::parse_text(input, &LIMITS) {
        Outcome::Request(mut request, bytes) if request.name == "touch" => {
            request.parts[1].push(b'0');
            Outcome::Request(request, bytes)
        }
        other => other,
    };
    let binary_liar = |input: &[u8]| match naive::parse_binary(input, LIMITS.value_max) {
        Outcome::Refused(refusal) if refusal.swallow > 0 => {
            Outcome::Refused(naive::Refusal { swallow: refusal.swallow - 1, ..refusal })
        }
        other => other,
    };
    let seen = |binary, oracle: Parser, fast: Parser| {
        (0..10_000)
            .filter_map(|seed| difference(&stream(seed, binary, Scope::All), seed, fast, oracle))
            .count()
    };
    assert!(seen(false, &liar, &parse_text) > 20);
    assert!(seen(true, &binary_liar, &parse_binary) > 20);
}

/// Feeds the stream of a seed whole, byte by byte, in pieces of one size, and (one seed in eight, for it
/// takes long) split in two at each byte. `Some` tells what made a difference.
fn difference_of_pieces(seed: u64, binary: bool, parse: ScanningParser) -> Option<String> {
    let stream = stream(seed, binary, Scope::Splittable);
    let whole = steps_in_pieces(std::iter::once(&stream[..]), parse);
    let size = 1 + Random::new(seed).below(40);
    let in_two = (1..stream.len()).filter(|_| seed.is_multiple_of(8)).map(|at| {
        let (one, two) = stream.split_at(at);
        (format!("split at {at}"), steps_in_pieces([one, two].into_iter(), parse))
    });
    let in_chunks =
        [1, size].map(|size| (format!("in pieces of {size}"), steps_in_pieces(stream.chunks(size), parse)));
    let (how, steps) = in_chunks.into_iter().chain(in_two).find(|(_, steps)| *steps != whole)?;
    Some(format!(
        "{how}: the stream of seed {seed}, binary {binary}\n  bytes: \"{}\"\n  whole:  {whole:?}\n  \
         pieces: {steps:?}\nrepeat: cargo test --lib protocol::tests",
        stream.escape_ascii()
    ))
}

#[test]
fn pieces_make_no_difference() {
    for seed in 0..6_000 {
        let text = |input: &[u8], scanned: usize| text::parse(input, scanned, &LIMITS).into();
        let binary = |input: &[u8], _: usize| parse_binary(input);
        assert_eq!(difference_of_pieces(seed, false, &text), None);
        assert_eq!(difference_of_pieces(seed, true, &binary), None);
    }
}

/// A parser that takes the bytes before `scanned` for free of NULs, and one that does not wait for a value.
#[test]
fn canary_pieces_that_make_a_difference_are_seen() {
    let forgets_nul = |input: &[u8], scanned: usize| {
        let without: Vec<u8> = input
            .iter()
            .enumerate()
            .map(|(at, &byte)| if at < scanned && byte == 0 { b'0' } else { byte })
            .collect();
        text::parse(&without, scanned, &LIMITS).into()
    };
    let impatient = |input: &[u8], _: usize| match parse_binary(input) {
        Outcome::Total(total) if total > 24 => {
            Outcome::Refused(naive::Refusal { consumed: 24, ..naive::Refusal::default() })
        }
        step => step,
    };
    assert!((0..6_000).any(|seed| difference_of_pieces(seed, false, &forgets_nul).is_some()));
    assert!((0..6_000).any(|seed| difference_of_pieces(seed, true, &impatient).is_some()));
}

/// Bytes that a connection has parsed when `stream` has come byte by byte: those behind `scanned` at each
/// call. What stands before `scanned` is made unreadable first: had it been read, the step would not be the
/// right one.
fn bytes_looked_at(stream: &[u8]) -> usize {
    let (mut looked_at, mut scanned, mut needed) = (0, 0, 0);
    for come in 1..=stream.len() {
        if come < needed {
            continue;
        }
        let mut input = stream[..come].to_vec();
        let whole = input.ends_with(b"\n");
        if !whole {
            // The parser may look back at how a line begins, which it does not wait for longer than this.
            let start = if come > crate::limits::LINE_PATIENCE { 5 } else { 0 };
            input[start.min(scanned)..scanned].fill(b'\n');
        }
        looked_at += come - if whole { 0 } else { scanned };
        match text::parse(&input, scanned, &LIMITS) {
            text::Step::Partial(Partial::Line { scanned: so_far }) => scanned = so_far,
            text::Step::Partial(Partial::Value { total }) => (scanned, needed) = (0, total),
            step => {
                assert!(matches!(step, text::Step::Request(_, bytes) if bytes == stream.len()), "{step:?}");
                assert_eq!(come, stream.len(), "{}", stream.escape_ascii());
                return looked_at;
            }
        }
    }
    panic!("never whole: {}", stream.escape_ascii());
}

/// However its bytes come, each is looked at three times at most: when it has come, when its line is whole,
/// and when the value is.
#[test]
fn scanned_bytes_are_not_scanned_again() {
    let streams = [
        format!("set key 0 0 900\r\n{}\r\n", "v".repeat(900)),
        format!("set key  0 0 900\r\n{}\r\n", "\n".repeat(900)),
        format!("ms key 900 T0 c q\r\n{}\r\n", "v".repeat(900)),
        format!("mg key v O{} s\r\n", "o".repeat(1900)),
        format!("get{}\r\n", " key".repeat(700)),
        format!("gets {}\r\n", "k".repeat(250)),
        format!("gat 0{}\r\n", " key".repeat(400)),
    ];
    for stream in streams {
        let looked_at = bytes_looked_at(stream.as_bytes());
        assert!(looked_at <= 3 * stream.len(), "{looked_at} bytes for {}: {stream}", stream.len());
    }
    let step = text::parse(b"get a\r\nget b", 8, &LIMITS);
    assert_eq!(step, text::Step::Partial(Partial::Line { scanned: 12 }));
}

#[test]
fn text_bounds_are_exact() {
    let line = |start: &str, bytes: usize| {
        let mut line = start.as_bytes().to_vec();
        line.resize(bytes, b'x');
        line
    };
    let closes = |input: &[u8]| match parse_text(input) {
        Outcome::Refused(refusal) => refusal.close && refusal.answer.is_empty(),
        _ => false,
    };
    assert_eq!(parse_text(&line("", 2048)), Outcome::Line(2048));
    assert!(closes(&line("", 2049)));
    assert_eq!(parse_text(&line("gets ", 3000)), Outcome::Line(3000));
    assert!(!closes(&line(&" ".repeat(101), 2048)));
    assert!(closes(&line(&(" ".repeat(101) + "get "), 2049)));
    assert_eq!(parse_text(&line(&(" ".repeat(100) + "get "), 2049)), Outcome::Line(2049));
    assert!(!closes(&[line("", 16383), b"\n".to_vec()].concat()));
    assert!(closes(&[line("", 16384), b"\n".to_vec()].concat()));
    let too_long = |input: &[u8]| {
        matches!(parse_text(input), Outcome::Refused(refusal)
        if refusal.close && refusal.answer == b"CLIENT_ERROR line too long\r\n")
    };
    assert!(!too_long(&[line("get a ", 2999), b"\n".to_vec()].concat()));
    assert!(too_long(&[line("get a ", 3000), b"\n".to_vec()].concat()));
    assert!(too_long(&line("get a ", 3001)));
}

/// Of each line of the file: name, bytes sent, bytes answered, and what became of the connection.
fn recorded_answers() -> Vec<(String, Vec<u8>, Vec<u8>, String)> {
    let bytes = |runs: &serde_json::Value| -> Vec<u8> {
        let of_run = |run: &serde_json::Value| {
            let latin1: Vec<u8> = run[0].as_str().unwrap().chars().map(|letter| letter as u8).collect();
            latin1.repeat(run[1].as_u64().unwrap() as usize)
        };
        runs.as_array().unwrap().iter().flat_map(of_run).collect()
    };
    include_str!("../../tests/data/memcached-1.6.18-answers.jsonl")
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| row[field].as_str().unwrap().to_string();
            (text("name"), bytes(&row["send"]), bytes(&row["reply"]), text("then"))
        })
        .collect()
}

/// Each refusal of ours stands in what memcached answered, in its place; between them stands what backends
/// would answer. Where memcached closed without having been asked to, so do we. Tells the refusals, and
/// whether the last of them closes.
fn judge_recorded(sent: &[u8], answered: &[u8], then: &str) -> Result<(usize, bool), String> {
    let limits = ParserLimits { value_max: 1 << 20, get_line_max: 32 << 20 };
    let binary = sent[0] == binary::REQUEST_MAGIC;
    let steps = steps(sent, &|input: &[u8]| match binary {
        true => binary::parse(input, limits.value_max).into(),
        false => text::parse(input, 0, &limits).into(),
    });
    let (mut rest, mut dropped, mut refusals) = (answered, 0, 0);
    for step in &steps {
        dropped += bytes_of(step);
        let Outcome::Refused(refusal) = step else { continue };
        refusals += 1;
        let answer = if binary { response(&refusal.answer) } else { refusal.answer.clone() };
        // It is due when all that it swallows was sent.
        if !answer.is_empty() && dropped <= sent.len() as u64 {
            let at = rest.windows(answer.len()).position(|window| window == answer);
            let at = at.ok_or_else(|| format!("{} is not its answer", answer.escape_ascii()))?;
            rest = &rest[at + answer.len()..];
        }
    }
    let closed = matches!(steps.last(), Some(Outcome::Refused(refusal)) if refusal.close);
    let quit = matches!(steps.last(), Some(Outcome::Request(request, _))
        if request.name == "quit" || (binary && matches!(request.parts[0][..], [0x07 | 0x17])));
    let waits = matches!(steps.last(), Some(Outcome::Total(_)));
    let ended = ["closed", "reset"].contains(&then) || then.ends_with("CLOSED");
    if closed == (ended && !quit && !waits) { Ok((refusals, closed)) } else { Err(then.to_string()) }
}

#[test]
fn refusals_are_what_memcached_answered() {
    let (mut refusals, mut closes) = (0, 0);
    for (name, sent, answered, then) in recorded_answers() {
        let (count, closed) =
            judge_recorded(&sent, &answered, &then).unwrap_or_else(|error| panic!("{name}: {error}"));
        refusals += count;
        closes += usize::from(closed);
    }
    assert!(refusals > 80 && closes > 12, "{refusals} refusals, {closes} of them closing");
}

/// With one letter of memcached's answers changed, or the connection's end, the lines with a refusal fail.
#[test]
fn canary_other_answers_are_seen() {
    let (mut words, mut ends) = (0, 0);
    for (_, sent, mut answered, then) in recorded_answers() {
        let other_end = if then == "open" { "closed" } else { "open" };
        ends += usize::from(judge_recorded(&sent, &answered, other_end).is_err());
        answered.iter_mut().filter(|byte| **byte == b'R').for_each(|byte| *byte = b'r');
        words += usize::from(judge_recorded(&sent, &answered, &then).is_err());
    }
    assert!(words > 50 && ends > 100, "{words} of the words, {ends} of the ends");
}

/// The frame of a binary refusal: opcode, opaque, status and message, as the oracle strings them together.
fn response(parts: &[u8]) -> Vec<u8> {
    let [opcode, opaque @ .., high, low] = parts.first_chunk::<7>().copied().unwrap_or_default();
    if parts.is_empty() {
        return Vec::new();
    }
    let message = &parts[7..];
    let length = (message.len() as u32).to_be_bytes();
    [&[0x81, opcode, 0, 0, 0, 0, high, low][..], &length, &opaque, &[0; 8], message].concat()
}
