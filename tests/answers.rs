//! Every line of the table of memcached's answers, through the proxy.
//!
//! `tests/data/memcached-1.6.18-answers.jsonl` holds what one fresh memcached 1.6.18 answers to good and bad
//! requests, sent in that order, each on a connection of its own, and what became of the connection. The
//! first test holds the table against memcached itself; the others hold the proxy against the table.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use support::binary::{Frame, hide_tokens};
use support::client::Client;
use support::process::{Server, named_backends};
use support::relay::{Relay, one_byte_altered, two_replies_swapped};
use support::report::{escape, grouped, same, say};

const TABLE: &str = include_str!("data/memcached-1.6.18-answers.jsonl");

/// Lines that the proxy may answer otherwise, each with the reason. They are sent all the same.
const ABOUT_THE_SERVER_ITSELF: &[(&str, &str)] = &[];

/// How long a connection is watched where the table says that nothing comes any more.
const SILENCE: Duration = Duration::from_millis(100);

/// One line of the table.
struct Line {
    name: String,
    send: Vec<u8>,
    reply: Vec<u8>,
    then: Then,
}

/// What became of the connection.
enum Then {
    /// A probe was answered as on a fresh connection.
    InStep,
    /// It ended. The table tells a close from a reset; which of them a client sees depends on how many of
    /// its bytes the kernel still held unread, which is not the same for a proxy. Either is taken.
    Ended,
    /// A probe got this, and maybe the end.
    Got { answer: Vec<u8>, ended: bool },
}

#[test]
fn memcached_gives_the_answers_of_the_table() {
    let memcached = Server::memcached();
    let count = run_table(memcached.address, &[]).unwrap_or_else(|report| panic!("{report}"));
    say(&format!("answers: {} lines as memcached answers them itself", grouped(count)));
}

#[test]
fn the_proxy_gives_the_answers_of_the_table_with_one_backend() {
    through_the_proxy(1);
}

#[test]
fn the_proxy_gives_the_answers_of_the_table_with_three_backends() {
    through_the_proxy(3);
}

#[test]
fn the_exceptions_name_lines_of_the_table() {
    let lines = table();
    for (name, reason) in ABOUT_THE_SERVER_ITSELF {
        assert!(lines.iter().any(|line| line.name == *name), "no line {name:?} in the table");
        assert!(!reason.is_empty(), "{name:?} needs a reason");
    }
}

#[test]
fn canary_an_altered_byte_is_found() {
    let memcached = Server::memcached();
    let relay = Relay::start(memcached.address, one_byte_altered(40));
    let report = run_table(relay.address, &[]).expect_err("the altered byte was not found");
    assert!(report.starts_with("1 of "), "one altered byte spoils one line:\n{report}");
}

#[test]
fn canary_swapped_replies_are_found() {
    let memcached = Server::memcached();
    let relay = Relay::start(memcached.address, two_replies_swapped(b"VERSION"));
    run_table(relay.address, &[]).expect_err("the swapped replies were not found");
}

fn through_the_proxy(backends: usize) {
    let servers: Vec<Server> = (0..backends).map(|_| Server::memcached()).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let proxy = Server::mcproxy(&named_backends(&addresses), &["--threads", "1"]);
    proxy.learn_version();
    let count = run_table(proxy.address, ABOUT_THE_SERVER_ITSELF).unwrap_or_else(|report| panic!("{report}"));
    let excused = ABOUT_THE_SERVER_ITSELF.len();
    say(&format!(
        "answers: {} lines through mcproxy, backends: {backends}, excused: {excused}",
        grouped(count)
    ));
}

/// Sends every line of the table to `address`; the number of lines, or a report of all that differ.
fn run_table(address: SocketAddr, excused: &[(&str, &str)]) -> Result<usize, String> {
    let lines = table();
    let mut reports = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Err(problem) = run_line(address, line) else { continue };
        if excused.iter().any(|(name, _)| *name == line.name) {
            continue;
        }
        let number = index + 1;
        reports.push(format!("line {number} ({}): sent {}\n{problem}", line.name, escape(&line.send)));
    }
    match reports.as_slice() {
        [] => Ok(lines.len()),
        _ => Err(format!("{} of {} lines differ\n{}", reports.len(), lines.len(), reports.join("\n\n"))),
    }
}

fn run_line(address: SocketAddr, line: &Line) -> Result<(), String> {
    let client = Client::connect(address);
    client.send(&line.send);
    expect_answer(&client, &line.reply, "the reply")?;
    match &line.then {
        Then::Ended => client.expect_end().map(|_| ()),
        Then::InStep => {
            let (probe, answer) = probe(line);
            client.send(&probe);
            expect_answer(&client, &answer, "the answer to the probe after it")
        }
        Then::Got { answer, ended } => {
            client.send(&probe(line).0);
            expect_answer(&client, answer, "the answer to the probe after it")?;
            match ended {
                true => client.expect_end().map(|_| ()),
                false => client
                    .inbox
                    .stays_quiet(SILENCE)
                    .map_err(|more| format!("after the probe's answer nothing was to come: {more}")),
            }
        }
    }
}

/// Takes what `expected` has bytes and compares; CAS tokens of binary replies only by being there.
fn expect_answer(client: &Client, expected: &[u8], what: &str) -> Result<(), String> {
    let hidden = |bytes: &[u8]| if is_binary(bytes) { hide_tokens(bytes) } else { bytes.to_vec() };
    match client.inbox.take(expected.len()) {
        Ok(got) => same(what, &hidden(expected), &hidden(&got)),
        Err(shortfall) => Err(format!("{what}: waiting for {}: {shortfall}", escape(expected))),
    }
}

/// What tells whether the connection is in step: `version` for text; for binary a Noop, whose opcode 0x0a
/// also ends the line if memcached took the connection for a text one.
fn probe(line: &Line) -> (Vec<u8>, Vec<u8>) {
    if is_binary(&line.send) {
        const NOOP: u8 = 0x0a;
        (Frame::request(NOOP, 0x77).bytes(), Frame::reply(NOOP, 0, 0x77).bytes())
    } else {
        (b"version\r\n".to_vec(), b"VERSION 1.6.18\r\n".to_vec())
    }
}

fn is_binary(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x80 | 0x81))
}

fn table() -> Vec<Line> {
    TABLE.lines().map(read_line).collect()
}

fn read_line(text: &str) -> Line {
    let line: Value = serde_json::from_str(text).expect("a JSON object per line");
    Line {
        name: line["name"].as_str().expect("a name").to_owned(),
        send: read_pieces(&line["send"]),
        reply: read_pieces(&line["reply"]),
        then: read_then(line["then"].as_str().expect("then is text")),
    }
}

/// `[[text, times], ...]`, where each char is a byte (latin-1).
fn read_pieces(pieces: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces.as_array().expect("a list") {
        let text = latin1(piece[0].as_str().expect("text"));
        let times = piece[1].as_u64().expect("a number");
        bytes.extend(text.repeat(usize::try_from(times).expect("a small number")));
    }
    bytes
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(one).expect("a char of latin-1")).collect()
}

fn read_then(text: &str) -> Then {
    match text {
        "open" => Then::InStep,
        "closed" | "reset" => Then::Ended,
        other => {
            let got = other.strip_prefix("then: ").unwrap_or_else(|| panic!("unknown end {other:?}"));
            let (quoted, ended) = match got.strip_suffix(" CLOSED") {
                Some(quoted) => (quoted, true),
                None => (got, false),
            };
            Then::Got { answer: unquote(quoted), ended }
        }
    }
}

/// A string literal as Python prints it, to bytes.
fn unquote(quoted: &str) -> Vec<u8> {
    let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).expect("quotes");
    let mut bytes = Vec::new();
    let mut chars = inner.chars();
    while let Some(one) = chars.next() {
        if one != '\\' {
            bytes.extend(latin1(&one.to_string()));
            continue;
        }
        bytes.push(match chars.next().expect("something behind the backslash") {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).expect("two hex digits")
            }
            plain => u8::try_from(plain).expect("an ASCII char"),
        });
    }
    bytes
}
