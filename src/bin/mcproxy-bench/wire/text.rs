//! The text protocol: `get` or `gets`, and `set`.

use super::{Reading, Step, Wire, begins, expect};
use crate::requests::Asked;
use crate::tally::Tally;

/// The parts of lines that do not change.
pub(super) struct Form {
    /// `get` or `gets`.
    verb: &'static [u8],
    /// Between the key and the value of a set.
    set_tail: Vec<u8>,
    /// Behind the key of a `VALUE` line; with `gets` the token follows.
    value_tail: Vec<u8>,
    pub(super) gets: bool,
}

impl Form {
    pub(super) fn new(value_bytes: usize, gets: bool) -> Self {
        let end = if gets { " " } else { "\r\n" };
        Form {
            verb: if gets { b"gets" } else { b"get" },
            set_tail: format!(" 0 0 {value_bytes}\r\n").into_bytes(),
            value_tail: format!(" 0 {value_bytes}{end}").into_bytes(),
            gets,
        }
    }

    pub(super) fn put_set(&self, wire: &Wire, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(wire.items.key(number));
        out.extend_from_slice(&self.set_tail);
    }

    pub(super) fn put_read(&self, wire: &Wire, asked: &Asked, out: &mut Vec<u8>) {
        out.extend_from_slice(self.verb);
        for place in 0..wire.count(asked) {
            out.push(b' ');
            out.extend_from_slice(wire.items.key(wire.number(asked, place)));
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The next part of the answer to a get: a value or the end.
    pub(super) fn read(
        &self,
        wire: &Wire,
        asked: &Asked,
        reading: &mut Reading,
        tally: &mut Tally,
        input: &[u8],
    ) -> Result<Step, &'static str> {
        const VALUE: &[u8] = b"VALUE ";
        const END: &[u8] = b"END\r\n";
        if let Some(rest) = input.strip_prefix(VALUE) {
            return self.value(wire, asked, reading, tally, rest).map(|length| match length {
                Some(length) => Step::Part(VALUE.len() + length),
                None => Step::More,
            });
        }
        if input.starts_with(END) {
            wire.ended(asked, reading, tally);
            return Ok(Step::Done(END.len()));
        }
        if begins(input, VALUE) || begins(input, END) {
            return Ok(Step::More);
        }
        // An error takes the place of all that is still to come.
        error(wire, reading, input)
    }

    /// What stands behind `VALUE`: the bytes it has, or `None` if it is not whole.
    fn value(
        &self,
        wire: &Wire,
        asked: &Asked,
        reading: &mut Reading,
        tally: &mut Tally,
        input: &[u8],
    ) -> Result<Option<usize>, &'static str> {
        let Some((key, mut rest)) = input.split_at_checked(wire.items.key_bytes()) else { return Ok(None) };
        let (place, number) = wire.place_of(asked, key, reading.key)?;
        if !expect(&mut rest, &self.value_tail)
            .map_err(|()| "a value line with other flags or another length")?
        {
            return Ok(None);
        }
        if self.gets {
            let Some(token) = token_bytes(rest)? else { return Ok(None) };
            rest = &rest[token..];
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

/// The answer to a set.
pub(super) fn stored(wire: &Wire, reading: &mut Reading, input: &[u8]) -> Result<Step, &'static str> {
    const STORED: &[u8] = b"STORED\r\n";
    if input.starts_with(STORED) {
        return Ok(Step::Done(STORED.len()));
    }
    if begins(input, STORED) { Ok(Step::More) } else { error(wire, reading, input) }
}

fn error(wire: &Wire, reading: &mut Reading, input: &[u8]) -> Result<Step, &'static str> {
    Ok(match wire.error_line(input)? {
        None => Step::More,
        Some(length) => {
            reading.failed = true;
            Step::Done(length)
        }
    })
}

/// Bytes of a CAS token and its line end; `None` if they are not whole.
fn token_bytes(input: &[u8]) -> Result<Option<usize>, &'static str> {
    const WRONG: &str = "a value line without a CAS token";
    const DIGITS_MAX: usize = 20;
    let digits = input.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    match &input[digits..] {
        _ if digits > DIGITS_MAX => Err(WRONG),
        [] | [b'\r'] if digits == 0 && input.is_empty() || digits > 0 => Ok(None),
        [b'\r', b'\n', ..] if digits > 0 => Ok(Some(digits + 2)),
        _ => Err(WRONG),
    }
}
