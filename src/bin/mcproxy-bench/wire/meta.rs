//! The meta protocol: `mg` with flags, key and value, and `ms` with the key. A multiget is a row of quiet
//! `mg` and an `mn`: keys that are not there have no answer.

use super::{Reading, Step, Wire, begins, expect};
use crate::requests::{Asked, Op};
use crate::tally::Tally;

/// The parts of lines that do not change.
pub(super) struct Form {
    /// Between the key and the value of a set.
    set_tail: Vec<u8>,
    /// Before the key of an answer with a value.
    value_head: Vec<u8>,
}

impl Form {
    pub(super) fn new(value_bytes: usize) -> Self {
        Form {
            set_tail: format!(" {value_bytes} k\r\n").into_bytes(),
            value_head: format!("VA {value_bytes} f0 k").into_bytes(),
        }
    }

    pub(super) fn put_set(&self, wire: &Wire, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ms ");
        out.extend_from_slice(wire.items.key(number));
        out.extend_from_slice(&self.set_tail);
    }

    pub(super) fn put_read(&self, wire: &Wire, asked: &Asked, out: &mut Vec<u8>) {
        let several = asked.op == Op::Multiget;
        for place in 0..wire.count(asked) {
            out.extend_from_slice(b"mg ");
            out.extend_from_slice(wire.items.key(wire.number(asked, place)));
            out.extend_from_slice(if several { b" f k v q\r\n" } else { b" f k v\r\n" });
        }
        if several {
            out.extend_from_slice(b"mn\r\n");
        }
    }

    /// The answer to an `mg`, or the next part of the answers to several.
    pub(super) fn read(
        &self,
        wire: &Wire,
        asked: &Asked,
        reading: &mut Reading,
        tally: &mut Tally,
        input: &[u8],
    ) -> Result<Step, &'static str> {
        let several = asked.op == Op::Multiget;
        if input.starts_with(b"VA ") {
            return self.value(wire, asked, reading, tally, input).map(|length| match length {
                Some(length) if several => Step::Part(length),
                Some(length) => Step::Done(length),
                None => Step::More,
            });
        }
        let end = if several { fence(input) } else { miss(wire, asked, input) };
        match end {
            Ok(Some(length)) => {
                wire.ended(asked, reading, tally);
                return Ok(Step::Done(length));
            }
            Ok(None) => return Ok(Step::More),
            Err(()) if begins(input, b"VA ") => return Ok(Step::More),
            Err(()) => {}
        }
        let Some(length) = wire.error_line(input)? else { return Ok(Step::More) };
        reading.failed = true;
        // Each of several has an error of its own; the end comes all the same.
        Ok(if several { Step::Part(length) } else { Step::Done(length) })
    }

    fn value(
        &self,
        wire: &Wire,
        asked: &Asked,
        reading: &mut Reading,
        tally: &mut Tally,
        input: &[u8],
    ) -> Result<Option<usize>, &'static str> {
        let mut rest = input;
        if !expect(&mut rest, &self.value_head)
            .map_err(|()| "a value line with another length or other flags")?
        {
            return Ok(None);
        }
        let Some((key, behind)) = rest.split_at_checked(wire.items.key_bytes()) else { return Ok(None) };
        let (place, number) = wire.place_of(asked, key, reading.key)?;
        rest = behind;
        if !expect(&mut rest, b"\r\n").map_err(|()| "a value line with more than was asked for")? {
            return Ok(None);
        }
        let bytes = wire.items.value_bytes();
        if rest.len() < bytes + 2 {
            return Ok(None);
        }
        if !wire.items.is_value(number, &rest[..bytes]) {
            return Err("a value that does not belong to its key");
        }
        if &rest[bytes..bytes + 2] != b"\r\n" {
            return Err("no line end behind the value");
        }
        Wire::came(reading, tally, place);
        Ok(Some(input.len() - rest.len() + bytes + 2))
    }
}

/// The answer to `mn`: its length, or `None` if it may still come.
fn fence(input: &[u8]) -> Result<Option<usize>, ()> {
    const FENCE: &[u8] = b"MN\r\n";
    Ok(expect(&mut &*input, FENCE)?.then_some(FENCE.len()))
}

/// What says that a key is not there: its length, or `None` if it may still come. memcached 1.6.18 gives the
/// key back.
fn miss(wire: &Wire, asked: &Asked, input: &[u8]) -> Result<Option<usize>, ()> {
    let mut rest = input;
    if !expect(&mut rest, b"EN")? || rest.is_empty() {
        return Ok(None);
    }
    if rest[0] == b' ' && !(expect(&mut rest, b" k")? && expect(&mut rest, wire.items.key(asked.subject))?) {
        return Ok(None);
    }
    Ok(expect(&mut rest, b"\r\n")?.then_some(input.len() - rest.len()))
}

/// The answer to an `ms`.
pub(super) fn stored(
    wire: &Wire,
    number: u64,
    reading: &mut Reading,
    input: &[u8],
) -> Result<Step, &'static str> {
    let mut rest = input;
    for part in [b"HD k", wire.items.key(number), b"\r\n"] {
        match expect(&mut rest, part) {
            Ok(true) => {}
            Ok(false) => return Ok(Step::More),
            Err(()) if input.starts_with(b"HD") => return Err("the answer to a set of another key"),
            Err(()) => {
                let Some(length) = wire.error_line(input)? else { return Ok(Step::More) };
                reading.failed = true;
                return Ok(Step::Done(length));
            }
        }
    }
    Ok(Step::Done(input.len() - rest.len()))
}
