//! Binary requests: the parser against its slow twin, and what is sent for them against an embedded backend.

use mcproxy::protocol::binary;
use mcproxy::protocol::naive::{self, Outcome, Refusal, sent, stream};

use super::tape::Tape;
use super::{canary, embedded};

/// Largest value, bytes.
pub(crate) const VALUE_MAX: usize = 1000;

/// `input` is what a client sends, if its first byte is even; else a list of requests whose lengths are mostly
/// right.
pub fn check(input: &[u8]) {
    let mut tape = Tape(input);
    if tape.byte().is_multiple_of(2) {
        return check_stream(tape.rest());
    }
    let mut stream = Vec::new();
    while tape.has_more() {
        request(&mut tape, &mut stream);
    }
    check_stream(&stream);
}

fn check_stream(input: &[u8]) {
    let fast = |input: &[u8]| binary::parse(input, VALUE_MAX).into();
    let (steps, expected) = (stream::steps(input, &fast), stream::steps(input, &oracle));
    assert_eq!(steps, expected, "the parser and its oracle differ");
    let mut rest = input;
    for step in &steps {
        if let Some((request, total)) = binary::plain(rest, VALUE_MAX) {
            let plain = binary::Step::Request(request, total).into();
            assert_eq!(oracle(rest), plain, "a plain request is another one for the oracle");
        }
        match sent::binary(rest, VALUE_MAX, 0x7461_6721) {
            Ok(Some(sent)) => embedded::check_binary(&sent),
            Ok(None) => {}
            Err(fault) => panic!("{fault}"),
        }
        let used = usize::try_from(stream::bytes_of(step)).unwrap_or(usize::MAX);
        rest = &rest[used.min(rest.len())..];
    }
}

/// Opcode, lengths of key, extras and value, and how far the body's length is off; then opaque, CAS and body.
fn request(tape: &mut Tape<'_>, stream: &mut Vec<u8>) {
    let opcode = tape.byte();
    let (key, extras, value, form) = (tape.byte(), tape.byte() % 32, tape.byte(), tape.byte());
    let body = usize::from(key) + usize::from(extras) + usize::from(value);
    let off = if form < 16 { usize::from(form) } else { 8 };
    stream.extend([0x80, opcode, 0, key, extras, 0, 0, 0]);
    stream.extend(((body + off).saturating_sub(8) as u32).to_be_bytes());
    stream.extend([0, 0, 0, form]);
    stream.extend(u64::from(form >> 6).to_be_bytes());
    let text = tape.bytes(body);
    stream.extend_from_slice(text);
    stream.resize(stream.len() + body - text.len(), b'x');
}

fn oracle(input: &[u8]) -> Outcome {
    match naive::parse_binary(input, VALUE_MAX) {
        Outcome::Refused(refusal) if canary() && refusal.swallow > 0 => {
            Outcome::Refused(Refusal { swallow: refusal.swallow - 1, ..refusal })
        }
        outcome => outcome,
    }
}
