//! The binary protocol (memcached's doc/protocol-binary.txt): Get and Set, each with an opaque of its own. A
//! multiget is a row of GetKQ and a Noop: keys that are not there have no answer.

use mcproxy::protocol::binary::{HEADER_BYTES, REQUEST_MAGIC, RESPONSE_MAGIC, opcode, status};

use super::{Reading, Step, Wire};
use crate::requests::{Asked, Op};
use crate::tally::Tally;

/// Flags and expiry of a set.
const SET_EXTRAS: usize = 8;

/// Flags of a value.
const VALUE_EXTRAS: usize = 4;

/// What memcached says of a key that is not there.
const NOT_FOUND: &[u8] = b"Not found";

/// A reply's header.
struct Header {
    opcode: u8,
    key: usize,
    extras: usize,
    status: u16,
    body: usize,
    opaque: u32,
    cas: u64,
}

pub(super) fn put_set(wire: &Wire, asked: &Asked, out: &mut Vec<u8>) {
    let body = SET_EXTRAS + wire.items.key_bytes() + wire.items.value_bytes();
    put_header(opcode::SET, wire.items.key_bytes(), SET_EXTRAS, body, asked.opaque, out);
    out.extend_from_slice(&[0; SET_EXTRAS]);
    out.extend_from_slice(wire.items.key(asked.subject));
}

pub(super) fn put_read(wire: &Wire, asked: &Asked, out: &mut Vec<u8>) {
    let several = asked.op == Op::Multiget;
    let count = wire.count(asked);
    let key_bytes = wire.items.key_bytes();
    for place in 0..count {
        let code = if several { opcode::GETKQ } else { opcode::GET };
        put_header(code, key_bytes, 0, key_bytes, asked.opaque.wrapping_add(place as u32), out);
        out.extend_from_slice(wire.items.key(wire.number(asked, place)));
    }
    if several {
        put_header(opcode::NOOP, 0, 0, 0, asked.opaque.wrapping_add(count as u32), out);
    }
}

/// The answer to a Get, or the next part of the answers to several.
pub(super) fn read(
    wire: &Wire,
    asked: &Asked,
    reading: &mut Reading,
    tally: &mut Tally,
    input: &[u8],
) -> Result<Step, &'static str> {
    let Some(header) = header(wire, input)? else { return Ok(Step::More) };
    let whole = HEADER_BYTES + header.body;
    let place = u64::from(header.opaque.wrapping_sub(asked.opaque));
    let several = asked.op == Op::Multiget;
    if several && place == wire.count(asked) {
        let empty = header.key + header.extras + header.body == 0;
        if header.opcode != opcode::NOOP || header.status != status::OK || !empty || header.cas != 0 {
            return Err("not the answer to the Noop that has this opaque");
        }
        wire.ended(asked, reading, tally);
        return Ok(Step::Done(whole));
    }
    if place < reading.key || place >= wire.count(asked) {
        return Err("the opaque of another request");
    }
    if header.opcode != if several { opcode::GETKQ } else { opcode::GET } {
        return Err("the answer to another command");
    }
    // Lengths are checked before the rest is waited for: a wrong one would be waited for in vain.
    let key = if several { wire.items.key(wire.number(asked, place)) } else { &[] };
    if header.status == status::OK {
        value_lengths(wire, key, &header)?;
    }
    if input.len() < whole {
        return Ok(Step::More);
    }
    match header.status {
        status::OK => {
            value(wire, wire.number(asked, place), key, &input[HEADER_BYTES..whole])?;
            Wire::came(reading, tally, place);
        }
        status::KEY_NOT_FOUND if !several => {
            if &input[HEADER_BYTES..whole] != NOT_FOUND {
                return Err("other words than memcached's for a key that is not there");
            }
            wire.ended(asked, reading, tally);
        }
        other => tolerate(wire, reading, other)?,
    }
    Ok(if several { Step::Part(whole) } else { Step::Done(whole) })
}

/// The answer to a Set.
pub(super) fn stored(
    wire: &Wire,
    asked: &Asked,
    reading: &mut Reading,
    input: &[u8],
) -> Result<Step, &'static str> {
    let Some(header) = header(wire, input)? else { return Ok(Step::More) };
    let whole = HEADER_BYTES + header.body;
    if header.opaque != asked.opaque {
        return Err("the opaque of another request");
    }
    if header.opcode != opcode::SET {
        return Err("the answer to another command");
    }
    if header.status == status::OK && (header.body > 0 || header.cas == 0) {
        return Err("a body, or no CAS token, in the answer to a Set");
    }
    if input.len() < whole {
        return Ok(Step::More);
    }
    if header.status != status::OK {
        tolerate(wire, reading, header.status)?;
    }
    Ok(Step::Done(whole))
}

fn put_header(opcode: u8, key: usize, extras: usize, body: usize, opaque: u32, out: &mut Vec<u8>) {
    let mut header = [0; HEADER_BYTES];
    header[0] = REQUEST_MAGIC;
    header[1] = opcode;
    header[2..4].copy_from_slice(&(key as u16).to_be_bytes());
    header[4] = extras as u8;
    header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
    header[12..16].copy_from_slice(&opaque.to_be_bytes());
    out.extend_from_slice(&header);
}

/// The header, once it is whole.
fn header(wire: &Wire, input: &[u8]) -> Result<Option<Header>, &'static str> {
    if input.first().is_some_and(|&magic| magic != RESPONSE_MAGIC) {
        return Err("not the start of a binary reply");
    }
    let Some(bytes) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let header = Header {
        opcode: bytes[1],
        key: usize::from(short(2)),
        extras: usize::from(bytes[4]),
        status: short(6),
        body: long(8) as usize,
        opaque: long(12),
        cas: u64::from(long(16)) << 32 | u64::from(long(20)),
    };
    if bytes[5] != 0
        || header.key + header.extras > header.body
        || header.body > wire.frame_max() - HEADER_BYTES
    {
        return Err("a header that makes no sense");
    }
    if header.status != status::OK && (header.key > 0 || header.extras > 0 || header.cas != 0) {
        return Err("the header of an error with more than words");
    }
    Ok(Some(header))
}

fn value_lengths(wire: &Wire, key: &[u8], header: &Header) -> Result<(), &'static str> {
    let fits = header.extras == VALUE_EXTRAS
        && header.key == key.len()
        && header.body == VALUE_EXTRAS + key.len() + wire.items.value_bytes()
        && header.cas != 0;
    if fits { Ok(()) } else { Err("a value with other lengths, or without a CAS token") }
}

/// Checks the body of a value whose lengths are right.
fn value(wire: &Wire, number: u64, key: &[u8], body: &[u8]) -> Result<(), &'static str> {
    let (extras, rest) = body.split_at(VALUE_EXTRAS);
    if extras != [0; VALUE_EXTRAS] {
        return Err("a value with other flags");
    }
    let Some(value) = rest.strip_prefix(key) else {
        return Err("a value of another key");
    };
    if wire.items.is_value(number, value) { Ok(()) } else { Err("a value that does not belong to its key") }
}

/// Statuses that a text client sees as SERVER_ERROR are only counted, if that is wanted.
fn tolerate(wire: &Wire, reading: &mut Reading, status: u16) -> Result<(), &'static str> {
    let of_server = (status::OUT_OF_MEMORY..=status::TEMPORARY_FAILURE).contains(&status);
    if !of_server {
        return Err("a status that cannot be");
    }
    if !wire.tolerate_errors {
        return Err("an error");
    }
    reading.failed = true;
    Ok(())
}
