//! The meta commands.

use super::number::{safe_strtol, safe_strtoul, safe_strtoull};
use super::text::{BAD_FORMAT, KEY_MAX, Line, swallow, value};
use super::{Outcome, Request, decimal, refuse};

#[derive(Default)]
struct Flags {
    base64: bool,
    quiet: bool,
    returns_cas: bool,
    compares_cas: bool,
    modifies: bool,
    echoes: bool,
    newer: bool,
    mode: u8,
    opaque: usize,
}

fn meta_request(
    verb: &str,
    key: &[u8],
    value: &[u8],
    flags: &Flags,
    words: &[Vec<u8>],
    bytes: usize,
) -> Outcome {
    let place = if flags.base64 { decode(key).unwrap() } else { key.to_vec() };
    let mut parts = vec![key.to_vec(), value.to_vec(), place];
    let booleans =
        [flags.base64, flags.quiet, flags.returns_cas, flags.compares_cas, flags.modifies, flags.echoes];
    parts.extend(booleans.map(decimal));
    parts.extend_from_slice(words);
    Outcome::Request(Request { name: format!("meta {verb}"), parts }, bytes)
}

/// _meta_flag_preparse, with the flags that came after 1.6.18: a line with one of those and another fault
/// is one that 1.6.18 left at the flag it does not know.
fn preparse(verb: &str, key: &[u8], words: &[Vec<u8>]) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut seen = Vec::new();
    let mut error: Option<&str> = None;
    let mut has_error = false;
    let unknown = "CLIENT_ERROR invalid flag".to_string();
    for word in words {
        let letter = word[0];
        let token = &word[1..];
        if letter >= 127 || seen.contains(&letter) {
            return Err(if flags.newer { unknown } else { "CLIENT_ERROR duplicate flag".to_string() });
        }
        seen.push(letter);
        let mut check = |good: bool, answer: Option<&'static str>| {
            if !good {
                has_error = true;
                error = answer.or(error);
            }
        };
        let bad_token = Some("CLIENT_ERROR bad token in command line format");
        match letter as char {
            'b' => {
                check(decode(key).is_some(), Some("CLIENT_ERROR error decoding key"));
                flags.base64 = true;
            }
            'N' | 'T' | 'R' => {
                check(safe_strtol(token).is_some(), bad_token);
                flags.modifies |= verb == "mg";
            }
            'C' => {
                check(safe_strtoull(token).is_some(), bad_token);
                flags.compares_cas = true;
            }
            'F' => check(safe_strtoul(token).is_some(), None),
            'J' => check(safe_strtoull(token).is_some(), Some("CLIENT_ERROR invalid numeric initial value")),
            'D' => check(safe_strtoull(token).is_some(), Some("CLIENT_ERROR invalid numeric delta value")),
            'M' => {
                check(word.len() == 2, Some("CLIENT_ERROR incorrect length for M token"));
                flags.mode = *token.first().unwrap_or(&0);
            }
            'O' => {
                flags.opaque = word.len();
                flags.echoes = true;
            }
            'k' => flags.echoes = true,
            'q' => flags.quiet = true,
            'c' => flags.returns_cas = true,
            'I' | 'L' | 'P' | 'f' | 'h' | 'l' | 's' | 't' | 'u' | 'v' => {}
            'E' if safe_strtoull(token).is_some() => {
                flags.newer = true;
                flags.modifies |= verb == "mg";
            }
            'x' if verb == "md" => flags.newer = true,
            _ => return Err(unknown),
        }
    }
    if has_error {
        return Err(if flags.newer { unknown } else { error.unwrap_or(BAD_FORMAT).to_string() });
    }
    Ok(flags)
}

/// The line that would go to a backend is longer than memcached takes in pieces.
fn too_long(parts: &[Vec<u8>]) -> bool {
    let line = [b"m?".to_vec(), parts.join(&b' ')].join(&b' ');
    line.len() + 2 > 2048
}

pub(super) fn meta_line(line: &Line<'_>, verb: &str) -> Outcome {
    let (key, words) = (&line.tokens[1], &line.tokens[2..]);
    if key.len() > KEY_MAX {
        return refuse(BAD_FORMAT, line.bytes);
    }
    if line.count() > 20 {
        let are = if verb == "mg" { "are " } else { "" };
        return refuse(&format!("CLIENT_ERROR options flags {are}too long"), line.bytes);
    }
    match preparse(verb, key, words) {
        Err(answer) if verb == "mg" => refuse(&answer, line.bytes),
        Err(_) => refuse("CLIENT_ERROR invalid or duplicate flag", line.bytes),
        Ok(_) if too_long(&line.tokens[1..]) => refuse("CLIENT_ERROR line too long", line.bytes),
        Ok(flags) => {
            let name = match verb {
                "mg" => "Get",
                "md" => "Delete",
                _ => "Arithmetic",
            };
            meta_request(name, key, b"", &flags, words, line.bytes)
        }
    }
}

pub(super) fn meta_set(line: &Line<'_>) -> Outcome {
    let key = &line.tokens[1];
    if key.len() > KEY_MAX || line.count() == 3 {
        return refuse(BAD_FORMAT, line.bytes);
    }
    if line.count() > 20 {
        return refuse("CLIENT_ERROR options flags too long", line.bytes);
    }
    let length = match safe_strtol(&line.tokens[2]) {
        Some(length) if (0..=i32::MAX - 2).contains(&length) => length as usize,
        _ => return refuse(BAD_FORMAT, line.bytes),
    };
    let words = &line.tokens[3..];
    let flags = match preparse("ms", key, words) {
        Err(answer) => return swallow(line, &answer, length, None),
        Ok(flags) => flags,
    };
    let fault = if ![0, b'E', b'A', b'P', b'R', b'S'].contains(&flags.mode) {
        Some("CLIENT_ERROR invalid mode for ms M token")
    } else if flags.opaque > 32 {
        Some("CLIENT_ERROR opaque token too long")
    } else {
        None
    };
    if let Some(answer) = fault {
        return swallow(line, if flags.newer { "CLIENT_ERROR invalid flag" } else { answer }, length, None);
    }
    let mut composed = vec![key.clone(), decimal(length)];
    composed.extend_from_slice(words);
    if too_long(&composed) {
        return swallow(line, "CLIENT_ERROR line too long", length, None);
    }
    if length > line.value_max {
        let unlink = Some((key.clone(), flags.base64));
        return swallow(line, "SERVER_ERROR object too large for cache", length, unlink);
    }
    match value(line, length, "CLIENT_ERROR bad data chunk") {
        Err(outcome) => outcome,
        Ok(value) => meta_request("Set", key, &value, &flags, words, line.bytes + length + 2),
    }
}

pub(super) fn meta_debug(line: &Line<'_>) -> Outcome {
    if line.count() < 3 || line.tokens[1].len() > KEY_MAX {
        return refuse(BAD_FORMAT, line.bytes);
    }
    let base64 = line.tokens.len() > 2 && line.tokens[2] == b"b";
    if base64 && decode(&line.tokens[1]).is_none() {
        return refuse(BAD_FORMAT, line.bytes);
    }
    let flags = Flags { base64, ..Flags::default() };
    let words = if base64 { vec![b"b".to_vec()] } else { Vec::new() };
    meta_request("Debug", &line.tokens[1], b"", &flags, &words, line.bytes)
}

/// memcached's base64_decode, by way of a string of bits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let symbols: Vec<char> = text
        .iter()
        .map(|&byte| byte as char)
        .filter(|&symbol| symbol == '=' || alphabet.contains(symbol))
        .collect();
    if symbols.is_empty() || !symbols.len().is_multiple_of(4) {
        return None;
    }
    let mut decoded = Vec::new();
    for four in symbols.chunks(4) {
        let bits: String =
            four.iter().map(|&symbol| format!("{:06b}", alphabet.find(symbol).unwrap_or(0))).collect();
        let padding = four.iter().filter(|&&symbol| symbol == '=').count();
        if padding > 2 {
            return None;
        }
        for index in 0..3 - padding {
            decoded.push(u8::from_str_radix(&bits[index * 8..index * 8 + 8], 2).unwrap());
        }
        if padding > 0 {
            break;
        }
    }
    Some(decoded)
}

pub(super) fn meta_noop(line: &Line<'_>) -> Outcome {
    meta_request("Noop", b"", b"", &Flags::default(), &[], line.bytes)
}
