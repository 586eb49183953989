//! The same bytes, whole and in pieces, give the same frames: of requests, of replies, and what an embedded
//! backend answers.

use mcproxy::embedded::session::{Session, Then};
use mcproxy::embedded::store::{Clock, Store};
use mcproxy::limits::LINE_PATIENCE;
use mcproxy::protocol::naive::{Outcome, stream};
use mcproxy::protocol::reply::{Frame, ReplyLimits};
use mcproxy::protocol::{binary, text};

use super::canary;
use super::replies::{self, Kind};
use super::tape::Tape;
use super::text::LIMITS;

/// `input` is what kind of bytes they are, the sizes of the pieces, and the bytes.
pub fn check(input: &[u8]) {
    let mut tape = Tape(input);
    let kind = tape.byte();
    match kind % 4 {
        0 => check_steps(&mut tape, &|input, scanned| text::parse(input, forgotten(scanned), &LIMITS).into()),
        1 => check_steps(&mut tape, &|input, _| binary::parse(input, LIMITS.value_max).into()),
        2 => check_replies(&mut tape, Kind::of(kind / 4)),
        _ => check_session(&mut tape),
    }
}

/// A parser that is told of fewer bytes than were looked at asks for them again: for ever, in a connection
/// that has promised to bring one more.
fn forgotten(scanned: usize) -> usize {
    if canary() && scanned > 0 { scanned + 1 } else { scanned }
}

/// Sizes of pieces, and the bytes in such pieces. A line may not be so long that the patience for its end is
/// over in one way of splitting it only.
fn pieces<'a>(tape: &mut Tape<'a>) -> (&'a [u8], Vec<&'a [u8]>) {
    let sizes = tape.string();
    let bytes = tape.rest();
    let bytes = &bytes[..bytes.len().min(LINE_PATIENCE)];
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for &size in sizes {
        let (piece, behind) = rest.split_at(usize::from(size).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    (bytes, pieces)
}

fn check_steps(tape: &mut Tape<'_>, parse: stream::ScanningParser<'_>) {
    let (bytes, pieces) = pieces(tape);
    let whole: Vec<Outcome> = stream::steps_in_pieces(std::iter::once(bytes), parse);
    assert_eq!(stream::steps_in_pieces(pieces.into_iter(), parse), whole, "in pieces");
    assert_eq!(stream::steps_in_pieces(bytes.chunks(1), parse), whole, "byte by byte");
}

fn check_replies(tape: &mut Tape<'_>, kind: Kind) {
    let limits = replies::limits(tape);
    let key = tape.string();
    let (bytes, pieces) = pieces(tape);
    let whole = frames(std::iter::once(bytes), kind, key, limits);
    let in_pieces = frames(pieces.into_iter(), kind, key, limits);
    let by_bytes = frames(bytes.chunks(1), kind, key, limits);
    if matches!(kind, Kind::Meta) && key.contains(&b'\n') {
        // What may be the echo of a raw key is waited for, and where it is not the reply was none.
        assert!(whole.starts_with(&in_pieces), "{whole:?} in pieces {in_pieces:?}");
        assert!(whole.starts_with(&by_bytes), "{whole:?} byte by byte {by_bytes:?}");
        return;
    }
    assert_eq!(in_pieces, whole, "{kind:?} in pieces");
    assert_eq!(by_bytes, whole, "{kind:?} byte by byte");
}

/// What a link does whose bytes come in pieces; the last frame may be a broken one.
fn frames<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    kind: Kind,
    key: &[u8],
    limits: ReplyLimits,
) -> Vec<Frame> {
    let (mut frames, mut kept, mut needed) = (Vec::new(), Vec::<u8>::new(), 1);
    for piece in pieces {
        kept.extend_from_slice(piece);
        while kept.len() >= needed {
            let frame = kind.fast(&kept, key, limits);
            match (frame, replies::total_of(frame)) {
                (_, Some(total)) => {
                    kept.drain(..total);
                    frames.push(frame);
                    needed = 1;
                }
                (Frame::Partial { total }, _) => {
                    assert!(total > kept.len(), "{total} bytes are there");
                    needed = total;
                }
                _ => {
                    frames.push(frame);
                    return frames;
                }
            }
        }
    }
    frames
}

fn check_session(tape: &mut Tape<'_>) {
    let (bytes, pieces) = pieces(tape);
    let whole = answers(std::iter::once(bytes));
    assert_eq!(answers(pieces.into_iter()), whole, "in pieces");
    assert_eq!(answers(bytes.chunks(1)), whole, "byte by byte");
}

/// What an embedded backend says.
fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let clock = Clock(1_700_000_000);
    let (mut session, mut store) = (Session::new(), Store::new(1 << 20, clock));
    let mut out = Vec::new();
    for piece in pieces {
        if session.receive(piece, &mut store, clock, &mut out) == Then::Close {
            break;
        }
    }
    out
}
