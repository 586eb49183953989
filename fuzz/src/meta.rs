//! Meta requests whose length and key are mostly right, so that their flags are looked at.

use super::tape::Tape;
use super::text;

const VERBS: [&str; 8] = ["mg", "ms", "md", "ma", "ms", "mg", "me", "mn"];

/// The last two are one byte too long, and the longest.
const KEYS: [&str; 6] = ["k", "key_of_some_31_bytes_and_no_spac", "YQ==", "Cg==", "CiBrIGsK", "="];

/// `input` is a list of requests: a verb, a key, what to do with the length, flags and value, each of the last
/// two with a byte that counts it.
pub fn check(input: &[u8]) {
    let mut tape = Tape(input);
    let mut stream = Vec::new();
    while tape.has_more() {
        request(&mut tape, &mut stream);
    }
    text::check(&stream);
}

fn request(tape: &mut Tape<'_>, stream: &mut Vec<u8>) {
    let (verb, form) = (tape.byte(), tape.byte());
    let (flags, name) = (tape.string(), VERBS[usize::from(verb % 8)]);
    let key = match form % 8 {
        6 => "k".repeat(250 + usize::from(verb >> 7)),
        7 => "QUFB".repeat(62 + usize::from(verb >> 7)),
        form => KEYS[usize::from(form)].to_string(),
    };
    stream.extend_from_slice(format!("{name} {key}").as_bytes());
    let value = if name == "ms" { tape.string() } else { b"" };
    if name == "ms" {
        // One in four is a little off.
        let off = if form >> 6 == 0 { usize::from(form >> 3) % 8 } else { 1 };
        stream.extend_from_slice(format!(" {}", (value.len() + off).saturating_sub(1)).as_bytes());
    }
    if !flags.is_empty() {
        stream.push(b' ');
        stream.extend_from_slice(flags);
    }
    stream.extend_from_slice(b"\r\n");
    if name == "ms" {
        stream.extend_from_slice(value);
        stream.extend_from_slice(b"\r\n");
    }
}
