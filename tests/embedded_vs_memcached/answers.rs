//! The table of what memcached 1.6.18 answered to 164 good and bad requests, in order, each on a connection of
//! its own, against an embedded backend and, to check the check, against memcached itself.

use super::ONE_THREAD;
use super::support::process::Server;
use mcproxy::embedded::EmbeddedBackend;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const TABLE: &str = include_str!("../data/memcached-1.6.18-answers.jsonl");

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(30);

/// Lines on which an embedded backend may differ, and why. There is none.
const MAY_DIFFER: [&str; 0] = [];

#[test]
fn an_embedded_backend_answers_as_the_table_says() {
    let embedded = EmbeddedBackend::start("answers").expect("an embedded backend starts");
    let differing = differing_lines(embedded.address);
    assert!(differing.is_empty(), "{} lines differ:\n{}", differing.len(), differing.join("\n"));
}

/// Without this one could think that the check asks for what no server does.
#[test]
fn memcached_answers_as_the_table_says() {
    let memcached = Server::memcached_with(&ONE_THREAD);
    let differing = differing_lines(memcached.address);
    assert!(differing.is_empty(), "{} lines differ:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn a_wrong_answer_is_caught() {
    let embedded = EmbeddedBackend::start("canary").expect("an embedded backend starts");
    let line = r#"{"name": "canary", "send": [["mn\r\n", 1]], "reply": [["MX\r\n", 1]], "then": "open"}"#;
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert!(check(embedded.address, &line).is_some());
}

fn differing_lines(address: SocketAddr) -> Vec<String> {
    let lines: Vec<Value> =
        TABLE.lines().map(|line| serde_json::from_str(line).expect("the table holds JSON")).collect();
    assert_eq!(lines.len(), 164);
    lines
        .iter()
        .filter(|line| !MAY_DIFFER.contains(&line["name"].as_str().expect("a name")))
        .filter_map(|line| check(address, line))
        .collect()
}

/// Sends one line's requests and a probe; what differs, if anything does.
fn check(address: SocketAddr, line: &Value) -> Option<String> {
    let (send, reply) = (bytes(&line["send"]), bytes(&line["reply"]));
    let then = line["then"].as_str().expect("what became of the connection");
    let ends = matches!(then, "closed" | "reset");
    let binary = send.first() == Some(&0x80);
    let probe: &[u8] = match binary {
        true => b"\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        false => b"version\r\n",
    };
    let after: Vec<u8> = match then {
        "closed" | "reset" => Vec::new(),
        "open" if binary => b"\x81\x0b\0\0\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x001.6.18".to_vec(),
        "open" => b"VERSION 1.6.18\r\n".to_vec(),
        other => python_bytes(other),
    };
    // After requests that end the connection the server must close by itself; else we do.
    let got = exchange(address, &send, if ends { None } else { Some(probe) });
    let expected = [reply, after].concat();
    // Whether the end is a reset depends on how much the server had read.
    let name = line["name"].as_str().expect("a name");
    (got != expected)
        .then(|| format!("{name}\n  expected {}\n  got      {}", expected.escape_ascii(), got.escape_ascii()))
}

/// All that the server says until it closes. With a `probe`, that is sent last, and the end of our side.
fn exchange(address: SocketAddr, send: &[u8], probe: Option<&[u8]>) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket.set_read_timeout(Some(HANG)).expect("a read timeout");
    socket.set_write_timeout(Some(HANG)).expect("a write timeout");
    let mut write = |bytes: &[u8]| match socket.write_all(bytes) {
        Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            panic!("{error}")
        }
        _ => {}
    };
    write(send);
    if let Some(probe) = probe {
        write(probe);
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut got = Vec::new();
    match socket.read_to_end(&mut got) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("{error} after {}", got.escape_ascii())
        }
        _ => got,
    }
}

/// Bytes as the table has them: pieces of Latin-1, each repeated.
fn bytes(pieces: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces.as_array().expect("a list of pieces") {
        let text = piece[0].as_str().expect("a text");
        let times = piece[1].as_u64().expect("a number of times");
        let piece: Vec<u8> =
            text.chars().map(|letter| u8::try_from(u32::from(letter)).expect("Latin-1")).collect();
        bytes.extend(piece.repeat(times as usize));
    }
    bytes
}

/// The bytes in `then: '...'`, as Python writes them.
fn python_bytes(then: &str) -> Vec<u8> {
    let text = then.strip_prefix("then: '").expect("the answer to a probe");
    let text = &text[..text.rfind('\'').expect("its end")];
    let mut bytes = Vec::new();
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        if letter != b'\\' {
            bytes.push(letter);
            continue;
        }
        match letters.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'x') => {
                let digits = [letters.next().expect("a digit"), letters.next().expect("a digit")];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            }
            other => panic!("unknown escape {other:?}"),
        }
    }
    bytes
}
