//! The binary protocol.

use super::{Outcome, Refusal, decimal, request};

/// Reads one binary request, as `protocol::binary::parse` does.
pub fn parse(input: &[u8], value_max: usize) -> Outcome {
    if input.len() < 24 {
        return Outcome::Total(24);
    }
    let number =
        |from: usize, to: usize| input[from..to].iter().fold(0u64, |sum, &byte| sum * 256 + byte as u64);
    let opcode = input[1];
    let (key_bytes, extras_bytes, body) = (number(2, 4), number(4, 5), number(8, 12));
    let answer = |status: u8, message: &str| {
        [&[opcode][..], &input[12..16], &[0, status], message.as_bytes()].concat()
    };
    let give_up = |answer: Vec<u8>| {
        Outcome::Refused(Refusal { answer, consumed: input.len(), close: true, ..Refusal::default() })
    };
    if input[0] != 0x80 {
        return give_up(Vec::new());
    }
    let head = (24 + extras_bytes + key_bytes) as usize;
    if input.len() < head || head > 16384 {
        // The read buffer has 16384 bytes; when it is full, the next byte ends the connection.
        return if input.len() > 16384 { give_up(Vec::new()) } else { Outcome::Total(head.min(16385)) };
    }
    if key_bytes + extras_bytes > body {
        return give_up(answer(0x81, "Unknown command"));
    }
    let key = &input[head - key_bytes as usize..head];
    let extras = &input[24..24 + extras_bytes as usize];
    let rest = body - key_bytes - extras_bytes;
    let swallow = |bytes: u64| {
        let bytes = if bytes > i32::MAX as u64 { 0 } else { bytes };
        let answer = answer(0x81, "Unknown command");
        Outcome::Refused(Refusal { answer, consumed: head, swallow: bytes, ..Refusal::default() })
    };
    let (good, kind) = kind_of(opcode, key_bytes, extras_bytes, body);
    if key_bytes > 250 || !good {
        return give_up(answer(0x04, "Invalid arguments"));
    }
    let whole = |value: &[u8]| {
        request(
            "binary",
            &[&[opcode], &input[12..16], &decimal(number(16, 24)), extras, key, value],
            head + value.len(),
        )
    };
    match kind {
        Kind::Swallow(bytes) => swallow(bytes),
        Kind::Head => whole(b""),
        Kind::Value if rest > value_max as u64 || rest > i32::MAX as u64 => Outcome::Refused(Refusal {
            answer: answer(0x03, "Too large."),
            consumed: head,
            swallow: if rest > i32::MAX as u64 && ![0x0e, 0x0f, 0x19, 0x1a].contains(&opcode) {
                0
            } else {
                rest
            },
            unlink: [0x01, 0x11].contains(&opcode).then(|| (key.to_vec(), false)),
            close: false,
        }),
        Kind::Value if input.len() < head + rest as usize => Outcome::Total(head + rest as usize),
        Kind::Value => whole(&input[head..head + rest as usize]),
    }
}

/// What follows header, extras and key.
enum Kind {
    Head,
    Value,
    Swallow(u64),
}

/// dispatch_bin_command: whether the lengths are right for the opcode, and what it is.
fn kind_of(opcode: u8, key_bytes: u64, extras_bytes: u64, body: u64) -> (bool, Kind) {
    let (keyed, bare) = (key_bytes > 0, key_bytes == 0);
    let rest = body - key_bytes - extras_bytes;
    match opcode {
        // Get, GetQ, GetK, GetKQ, Delete, DeleteQ
        0x00 | 0x09 | 0x0c | 0x0d | 0x04 | 0x14 => (keyed && extras_bytes == 0 && rest == 0, Kind::Head),
        // Set, Add, Replace and their quiet forms
        0x01..=0x03 | 0x11..=0x13 => (keyed && extras_bytes == 8, Kind::Value),
        // Increment, Decrement
        0x05 | 0x06 | 0x15 | 0x16 => (keyed && extras_bytes == 20 && rest == 0, Kind::Head),
        // Append, Prepend
        0x0e | 0x0f | 0x19 | 0x1a => (keyed && extras_bytes == 0, Kind::Value),
        // Quit, QuitQ, Noop, Version
        0x07 | 0x17 | 0x0a | 0x0b => (body == 0, Kind::Head),
        // Flush
        0x08 | 0x18 => (bare && rest == 0 && [0, 4].contains(&extras_bytes), Kind::Head),
        // Stat
        0x10 => (extras_bytes == 0, Kind::Head),
        // Touch, GAT, GATQ, GATK, GATKQ
        0x1c | 0x1d | 0x1e | 0x23 | 0x24 => (keyed && extras_bytes == 4, Kind::Head),
        // SASL list, auth, step
        0x20 => (body == 0, Kind::Swallow(0)),
        0x21 | 0x22 => (keyed && extras_bytes == 0, Kind::Swallow(body - key_bytes)),
        _ => (true, Kind::Swallow(body)),
    }
}
