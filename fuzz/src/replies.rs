//! Replies of backends: their frames by the quick functions and by the slow ones.

use mcproxy::protocol::naive;
use mcproxy::protocol::reply::{self, Frame, ReplyLimits};

use super::canary;
use super::tape::Tape;

/// `input` is a kind of reply, bounds, a key, and what a backend sends.
pub fn check(input: &[u8]) {
    let mut tape = Tape(input);
    let kind = Kind::of(tape.byte());
    let limits = limits(&mut tape);
    let key = tape.string();
    let mut rest = tape.rest();
    while !rest.is_empty() {
        let (fast, slow) = (kind.fast(rest, key, limits), kind.slow(rest, key, limits));
        assert_eq!(
            fast,
            slow,
            "{kind:?} {limits:?}, key \"{}\", at \"{}\"",
            key.escape_ascii(),
            rest.escape_ascii()
        );
        check_hit(rest, key, limits);
        let Some(total) = total_of(fast) else {
            let sensible = !matches!(fast, Frame::Partial { total } if total <= rest.len());
            return assert!(sensible, "{fast:?} of {} bytes", rest.len());
        };
        rest = &rest[total..];
    }
}

/// Bounds that small inputs reach, and roomy ones.
pub(crate) fn limits(tape: &mut Tape<'_>) -> ReplyLimits {
    let byte = usize::from(tape.byte());
    let (line_max, value_max) = if byte % 2 == 0 { (16 << 10, 1 << 20) } else { (8 + byte / 2, byte) };
    ReplyLimits { line_max, value_max }
}

/// Bytes of a whole frame.
pub(crate) fn total_of(frame: Frame) -> Option<usize> {
    match frame {
        Frame::Value { total, .. } | Frame::End { total } | Frame::Line { total } => Some(total),
        Frame::Partial { .. } | Frame::Broken => None,
    }
}

/// What a link expects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Line,
    Values,
    Meta,
    /// Its header has been compared; its frame is told as a line.
    Binary,
}

impl Kind {
    pub(crate) fn of(byte: u8) -> Kind {
        [Kind::Line, Kind::Values, Kind::Meta, Kind::Binary][usize::from(byte % 4)]
    }

    pub(crate) fn fast(self, input: &[u8], key: &[u8], limits: ReplyLimits) -> Frame {
        match self {
            Kind::Line => reply::line(input, limits),
            Kind::Values => reply::values(input, limits),
            Kind::Meta => reply::meta(input, raw(key), limits),
            Kind::Binary => match reply::binary(input, limits) {
                Ok(header) => {
                    assert_eq!(Ok(header), naive::reply::binary(input, limits));
                    Frame::Line { total: 24 + header.body }
                }
                Err(frame) => frame,
            },
        }
    }

    fn slow(self, input: &[u8], key: &[u8], limits: ReplyLimits) -> Frame {
        match self {
            Kind::Line => naive::reply::line(input, limits),
            Kind::Values => match naive::reply::values(input, limits) {
                Frame::End { .. } if canary() => Frame::Broken,
                frame => frame,
            },
            Kind::Meta => naive::reply::meta(input, raw(key), limits),
            Kind::Binary => match naive::reply::binary(input, limits) {
                Ok(header) => Frame::Line { total: 24 + header.body },
                Err(frame) => frame,
            },
        }
    }
}

/// The key, if it is one whose echo may have a line end in it.
fn raw(key: &[u8]) -> &[u8] {
    if key.contains(&b'\n') { key } else { b"" }
}

/// Where a value is taken for the expected one, it is a value of that key.
fn check_hit(input: &[u8], key: &[u8], limits: ReplyLimits) {
    for with_cas in [false, true] {
        let Some(found) = reply::value_hit(input, key, with_cas) else { continue };
        let roomy = ReplyLimits { line_max: usize::MAX / 2, value_max: usize::MAX / 4 };
        match naive::reply::values(input, roomy) {
            Frame::Value { total, with_cas: cas, .. } if !key.contains(&b' ') => {
                assert_eq!((total, cas), (found, with_cas), "{limits:?}");
                assert_eq!(reply::value_key(input), key);
            }
            // A key with a space in it is never asked for.
            _ => {
                assert!(key.is_empty() || key.contains(&b' ') || key.contains(&b'\n'), "{found} is no value")
            }
        }
    }
}
