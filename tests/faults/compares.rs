//! Every kind of request that compares a CAS token, and what memcached answers when the token is not the
//! present one.

use super::rig::Talk;
use super::support::base64::base64;
use super::support::binary::Frame;
use super::support::binary::opcode::{APPEND, DELETE, DELETEQ, INCREMENT, NOOP, PREPEND, REPLACE, SET, SETQ};
use super::support::process::Server;
use super::support::report::escape;

/// The value that they would store.
const CHANGED: &str = "99";

/// Compares with the words of a real memcached.
pub(crate) struct Compares {
    memcached: Server,
}

impl Compares {
    /// With a memcached of its own.
    pub(crate) fn new() -> Self {
        Compares { memcached: Server::memcached() }
    }

    /// Sends each of them to the proxy, from every one of `clients` in turn, with a token that must not be
    /// taken. Each must be answered as memcached answers a token that is not the present one, and change
    /// nothing.
    #[track_caller]
    pub(crate) fn are_refused(&self, proxy: &mut dyn FnMut() -> Talk, key: &str, token: u64) {
        let mut direct = Talk::tcp(self.memcached.address);
        direct.exchange(format!("set {key} 0 0 2\r\n10\r\n"), "STORED\r\n");
        for request in requests(key, token) {
            for _ in 0..2 {
                let expected = answer(&mut Talk::tcp(self.memcached.address), &request);
                let got = answer(&mut proxy(), &request);
                let [shown, expected_shown, got_shown] = [&request, &expected, &got].map(|it| escape(it));
                assert!(got == expected, "{shown} gets {got_shown}, memcached says {expected_shown}");
            }
        }
    }
}

/// The requests, each followed by one that is answered when it has been.
fn requests(key: &str, token: u64) -> Vec<Vec<u8>> {
    let base64 = base64(key.as_bytes());
    let size = CHANGED.len();
    let text = [
        format!("cas {key} 7 0 {size} {token}\r\n{CHANGED}\r\n"),
        format!("cas {key} 7 0 {size} {token} noreply\r\n{CHANGED}\r\n"),
        format!("ms {key} {size} C{token}\r\n{CHANGED}\r\n"),
        format!("ms {key} {size} C{token} q\r\n{CHANGED}\r\n"),
        format!("ms {key} {size} k O123 C{token} T0\r\n{CHANGED}\r\n"),
        format!("ms {base64} {size} b C{token} Oab k\r\n{CHANGED}\r\n"),
        format!("ms {key} {size} C{token} MR\r\n{CHANGED}\r\n"),
        format!("ms {key} {size} C{token} MA k\r\n{CHANGED}\r\n"),
        format!("md {key} C{token}\r\n"),
        format!("md {key} q C{token} k O1\r\n"),
        format!("md {base64} C{token} b k\r\n"),
        format!("ma {key} C{token}\r\n"),
        format!("ma {key} C{token} O7 k v\r\n"),
    ];
    let text = text.map(|request| [request.as_bytes(), b"mn\r\n"].concat());
    let frame = |opcode| Frame::request(opcode, 0x0a0b_0c0d).key(key.as_bytes()).cas(token);
    let store = |opcode| frame(opcode).extras(&[0; 8]).value(CHANGED.as_bytes());
    let joined = |opcode| frame(opcode).value(CHANGED.as_bytes());
    let increment = [&[0; 7][..], &[1], &[0; 8], &[0; 4]].concat();
    let binary = [
        store(SET),
        store(SETQ),
        store(REPLACE),
        joined(APPEND),
        joined(PREPEND),
        frame(DELETE),
        frame(DELETEQ),
        frame(INCREMENT).extras(&increment),
    ];
    let noop = Frame::request(NOOP, 1).bytes();
    text.into_iter().chain(binary.map(|frame| [frame.bytes(), noop.clone()].concat())).collect()
}

/// What comes up to the answer of the last request.
#[track_caller]
fn answer(client: &mut Talk, request: &[u8]) -> Vec<u8> {
    client.send(request);
    if request[0] != 0x80 {
        return client.until(b"MN\r\n");
    }
    let mut answers = Vec::new();
    loop {
        let frame = client.frame();
        answers.extend(frame.bytes());
        if frame.opcode == NOOP {
            return answers;
        }
    }
}

/// A token that is taken is seen.
#[test]
#[should_panic(expected = "memcached says")]
fn canary_a_token_that_is_taken_is_found() {
    let (compares, lax) = (Compares::new(), Server::memcached());
    let mut direct = Talk::tcp(lax.address);
    direct.exchange("set key 0 0 2\r\n10\r\n", "STORED\r\n");
    let (_, token) = super::fleet::gets(&mut direct, "key").expect("it was stored");
    // To the other memcached this token is not the present one.
    let mut other = Talk::tcp(compares.memcached.address);
    super::fleet::wind_up(&mut other, token + 10);
    compares.are_refused(&mut || Talk::tcp(lax.address), "key", token);
}
