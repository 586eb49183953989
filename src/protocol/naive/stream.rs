//! What a connection makes of a parser's steps, from bytes that come whole or in pieces.

use super::Outcome;

/// All steps of a connection, as far as the bytes go.
pub fn steps(stream: &[u8], parse: &dyn Fn(&[u8]) -> Outcome) -> Vec<Outcome> {
    let mut steps = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let step = parse(rest);
        let ends = match &step {
            Outcome::Refused(refusal) => refusal.close,
            Outcome::Request(..) => false,
            Outcome::Line(_) | Outcome::Total(_) => true,
        };
        let dropped = if ends { u64::MAX } else { bytes_of(&step) };
        rest = &rest[usize::try_from(dropped).map_or(rest.len(), |dropped| dropped.min(rest.len()))..];
        steps.push(step);
    }
    steps
}

/// The bytes that a step takes from the stream, now and later.
pub fn bytes_of(step: &Outcome) -> u64 {
    match step {
        Outcome::Request(_, bytes) => *bytes as u64,
        Outcome::Refused(refusal) => refusal.consumed as u64 + refusal.swallow,
        Outcome::Line(_) | Outcome::Total(_) => 0,
    }
}

/// A parser that may be told how many bytes the last [`Outcome::Line`] has looked at.
pub type ScanningParser<'p> = &'p dyn Fn(&[u8], usize) -> Outcome;

/// What a connection does whose bytes come in pieces: it keeps what is not whole, and `scanned` with it. The
/// last step told is what it waits for. A closing step takes whatever had come by then, so that is not told.
pub fn steps_in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, parse: ScanningParser) -> Vec<Outcome> {
    let (mut steps, mut kept, mut scanned, mut swallow) = (Vec::new(), Vec::new(), 0, 0u64);
    let mut waits = None;
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let dropped = swallow.min(kept.len() as u64);
            kept.drain(..dropped as usize);
            swallow -= dropped;
            waits = None;
            if kept.is_empty() {
                break;
            }
            let mut step = parse(&kept, scanned);
            scanned = 0;
            match &mut step {
                Outcome::Request(_, bytes) => drop(kept.drain(..*bytes)),
                Outcome::Refused(refusal) if refusal.close => {
                    refusal.consumed = 0;
                    steps.push(step);
                    return steps;
                }
                Outcome::Refused(refusal) => {
                    kept.drain(..refusal.consumed);
                    swallow = refusal.swallow;
                }
                Outcome::Line(so_far) => scanned = *so_far,
                Outcome::Total(total) => assert!(*total > kept.len(), "a frame that is there is not partial"),
            }
            if matches!(step, Outcome::Line(_) | Outcome::Total(_)) {
                waits = Some(step);
                break;
            }
            steps.push(step);
        }
    }
    steps.extend(waits);
    steps
}
