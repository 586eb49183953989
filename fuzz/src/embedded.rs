//! The embedded backend as a judge: what is sent to it must be one request with one answer.

use mcproxy::embedded::session::{Session, Then};
use mcproxy::embedded::store::{Clock, Store};
use mcproxy::protocol::naive::{self, Outcome};
use mcproxy::protocol::reply::{Frame, ReplyLimits};
use mcproxy::protocol::text::ParserLimits;

const LIMITS: ParserLimits = ParserLimits { value_max: 1 << 20, get_line_max: 32 << 20 };

/// Roomy: what an embedded backend says is not hostile.
const REPLIES: ReplyLimits = ReplyLimits { line_max: 16 << 10, value_max: 1 << 20 };

/// Asks for `request` three times: of an empty store, and then with something there.
pub(crate) fn check_text(request: &[u8]) {
    let Outcome::Request(read, _) = naive::parse_text(request, &LIMITS) else {
        panic!("not a request: \"{}\"", request.escape_ascii());
    };
    let mut set = b"ms ".to_vec();
    let key: &[u8] = if read.name == "gat" { &read.parts[2] } else { read.parts.last().unwrap() };
    let key = if read.name == "gat" || read.name == "get" { key } else { &read.parts[0] };
    set.extend_from_slice(key);
    set.extend_from_slice(if read.name.starts_with("meta") && read.parts[3] == b"true" {
        b" 1 b"
    } else {
        b" 1"
    });
    set.extend_from_slice(b"\r\n5\r\n");
    let requests = if read.name == "flush_all" { [request; 3] } else { [request, &set, request] };
    let answers = answers(&requests, b"mn\r\n");
    for (request, answer) in requests.iter().zip(split(&answers, b"MN\r\n", |rest| text_answer(&read, rest)))
    {
        assert!(answer > 0, "no answer to \"{}\"", request.escape_ascii());
    }
}

/// The same for a binary request.
pub(crate) fn check_binary(request: &[u8]) {
    let fence = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0fnce\0\0\0\0\0\0\0\0";
    if matches!(request[1], 0x07 | 0x10) {
        // Quit and Stat are never sent.
        return;
    }
    let answers = answers(&[request; 2], fence);
    let fence_answer = b"\x81\x0a\0\0\0\0\0\0\0\0\0\0fnce\0\0\0\0\0\0\0\0";
    let binary_answer = |rest: &[u8]| match naive::reply::binary(rest, REPLIES) {
        Ok(header) if header.opcode == request[1] => 24 + header.body,
        other => panic!("{other:?} answers \"{}\"", request.escape_ascii()),
    };
    split(&answers, fence_answer, binary_answer);
}

/// What a fresh backend says to each of `requests` with `fence` behind it.
fn answers(requests: &[&[u8]], fence: &[u8]) -> Vec<u8> {
    let clock = Clock(1_700_000_000);
    let (mut session, mut store) = (Session::new(), Store::new(4 << 20, clock));
    let mut out = Vec::new();
    for request in requests {
        let stream = [request, fence].concat();
        let then = session.receive(&stream, &mut store, clock, &mut out);
        assert_eq!(then, Then::Open, "after \"{}\"", stream.escape_ascii());
    }
    out
}

/// The bytes of each answer: behind each stands the fence, and behind the last nothing.
fn split(answers: &[u8], fence: &[u8], answer: impl Fn(&[u8]) -> usize) -> Vec<usize> {
    let mut bytes = Vec::new();
    let mut rest = answers;
    while !rest.is_empty() {
        let one = answer(rest);
        let behind = rest.get(one..).unwrap_or_default();
        assert!(behind.starts_with(fence), "not one answer: \"{}\"", answers.escape_ascii());
        rest = &behind[fence.len()..];
        bytes.push(one);
    }
    bytes
}

/// Bytes of the answer at the start of `rest`; that of the preparing `ms` is a line too.
fn text_answer(request: &naive::Request, rest: &[u8]) -> usize {
    if request.name.starts_with("meta") {
        return match naive::reply::meta(rest, &request.parts[2], REPLIES) {
            Frame::Value { total, .. } | Frame::Line { total } => total,
            other => panic!("{other:?} in \"{}\"", rest.escape_ascii()),
        };
    }
    let mut at = 0;
    while let Frame::Value { total, .. } = naive::reply::values(&rest[at..], REPLIES) {
        at += total;
    }
    match naive::reply::line(&rest[at..], REPLIES) {
        Frame::Line { total } => at + total,
        other => panic!("{other:?} in \"{}\"", rest.escape_ascii()),
    }
}
