//! Text and meta requests: the parser against its slow twin, and what is sent for them against an embedded
//! backend.

use mcproxy::protocol::naive::{self, Outcome, sent, stream};
use mcproxy::protocol::text::{self, ParserLimits, PlainGet, Request, Step};

use super::{canary, embedded};

/// Small enough to be exceeded by inputs that a fuzzer likes.
pub(crate) const LIMITS: ParserLimits = ParserLimits { value_max: 1000, get_line_max: 3000 };

/// `input` is what a client sends.
pub fn check(input: &[u8]) {
    let fast = |input: &[u8]| text::parse(input, 0, &LIMITS).into();
    let (steps, expected) = (stream::steps(input, &fast), stream::steps(input, &oracle));
    assert_eq!(steps, expected, "the parser and its oracle differ");
    let mut rest = input;
    for step in &steps {
        check_plain(rest);
        check_sent(rest);
        let used = usize::try_from(stream::bytes_of(step)).unwrap_or(usize::MAX);
        rest = &rest[used.min(rest.len())..];
    }
}

/// The ways around the parser say what it says, where they say something.
fn check_plain(input: &[u8]) {
    let get = text::plain_get(input, LIMITS.get_line_max)
        .map(|PlainGet { with_cas, key, total }| Step::Request(Request::Get { with_cas, key }, total));
    let store = text::plain_store(input, LIMITS.value_max)
        .map(|(store, total)| Step::Request(Request::Store(store), total));
    let meta = text::plain_meta(input, LIMITS.value_max)
        .map(|(meta, total)| Step::Request(Request::Meta(meta), total));
    for plain in [get, store, meta].into_iter().flatten() {
        assert_eq!(Outcome::from(plain), oracle(input), "a plain request is another one for the oracle");
    }
}

/// What a backend is sent is the request of the client, and one request.
fn check_sent(input: &[u8]) {
    let step = text::parse(input, 0, &LIMITS);
    match sent::text(input, &step, &LIMITS) {
        Ok(Some(sent)) => embedded::check_text(&sent.bytes),
        Ok(None) => {}
        Err(fault) => panic!("{fault}"),
    }
}

fn oracle(input: &[u8]) -> Outcome {
    match naive::parse_text(input, &LIMITS) {
        Outcome::Request(mut request, bytes)
            if canary() && matches!(&request.name[..], "touch" | "meta Set") =>
        {
            request.parts[1].push(b'0');
            Outcome::Request(request, bytes)
        }
        outcome => outcome,
    }
}
