//! Reading answers as a client does, byte by byte by memcached's documents and on purpose not with the
//! proxy's own parsers.

use crate::protocol::binary::{opcode, status};

use super::history::{History, Key};
use super::requests::{Ask, Form, Op, base64_of};

/// What an answer says, whatever the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Values that were there: the place of the key in the request, the value, the token if it came.
    Values(Vec<(usize, Vec<u8>, Option<u64>)>),
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Number(u64),
    Fine,
    /// Nothing was said, and the next answer has come.
    Silence,
    /// The proxy says that a backend did not answer.
    Failed(String),
    /// The backend has no memory.
    NoMemory,
    TooLarge,
    /// The value is no number.
    NoNumber,
    NotAllowed,
    Stats(Vec<(String, String)>),
}

/// What stands at the start of what a client has received.
pub(super) enum Heard {
    Partial,
    Whole(usize, Answer),
    Wrong(String),
}

/// Reads the answer to `op`.
pub(super) fn hear(op: &Op, bytes: &[u8], history: &History) -> Heard {
    let heard = match op.form {
        Form::Binary { opcode, opaque } => hear_binary(op, opcode, opaque, bytes, history),
        Form::Meta { opaque } => hear_meta(op, opaque, bytes, history),
        Form::Text => hear_text(op, bytes, history),
    };
    heard.unwrap_or(Heard::Partial)
}

/// Whole values of a multi-key read at the start of `bytes`, and their length: what a cut answer leaves.
pub(super) fn whole_values(op: &Op, bytes: &[u8], history: &History) -> Option<usize> {
    let Ask::Read { keys, with_cas, .. } = &op.ask else { return None };
    let mut at = 0;
    let mut next = 0;
    while let Ok(Some((value, total))) = text_value(keys, next, *with_cas, &bytes[at..], history) {
        next = value.0 + 1;
        at += total;
    }
    Some(at)
}

/// The line at the start, without its end, and its length with it.
fn line(bytes: &[u8]) -> Option<(&str, usize)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).unwrap_or("no text");
    Some((line.strip_suffix('\r').unwrap_or("a line without CR"), end + 1))
}

type Value = (usize, Vec<u8>, Option<u64>);

/// The value at the start, if there is one: a line that is none gives `Ok(None)`, bytes that are missing too.
fn text_value(
    keys: &[Key],
    from: usize,
    with_cas: bool,
    bytes: &[u8],
    history: &History,
) -> Result<Option<(Value, usize)>, String> {
    let Some((head, start)) = line(bytes) else { return Ok(None) };
    let Some(words) = head.strip_prefix("VALUE ") else { return Ok(None) };
    let words: Vec<&str> = words.split(' ').collect();
    let wrong = || format!("no value that was asked for: {head}");
    if words.len() != if with_cas { 4 } else { 3 } {
        return Err(wrong());
    }
    let place = (from..keys.len()).find(|&place| history.names[keys[place]] == words[0].as_bytes());
    let place = place.ok_or_else(wrong)?;
    let length: usize = words[2].parse().map_err(|_| wrong())?;
    let cas = match words.get(3) {
        Some(digits) => Some(digits.parse().map_err(|_| wrong())?),
        None => None,
    };
    let Some(value) = bytes.get(start..start + length + 2) else { return Ok(None) };
    if !value.ends_with(b"\r\n") {
        return Err(format!("a value without its end: {head}"));
    }
    Ok(Some(((place, value[..length].to_vec(), cas), start + length + 2)))
}

fn hear_text(op: &Op, bytes: &[u8], history: &History) -> Option<Heard> {
    if let Ask::Read { keys, with_cas, .. } = &op.ask {
        let (mut at, mut values) = (0, Vec::new());
        loop {
            let next = values.last().map_or(0, |value: &Value| value.0 + 1);
            match text_value(keys, next, *with_cas, &bytes[at..], history) {
                Ok(Some((value, total))) => {
                    values.push(value);
                    at += total;
                }
                Ok(None) => break,
                Err(what) => return Some(Heard::Wrong(what)),
            }
        }
        let (head, total) = line(&bytes[at..])?;
        if head == "END" {
            return Some(Heard::Whole(at + total, Answer::Values(values)));
        }
        if head.starts_with("VALUE ") {
            return None;
        }
        if at > 0 {
            return Some(Heard::Wrong(format!("{head} in the middle of an answer")));
        }
    }
    let (head, total) = line(bytes)?;
    if let Some(error) = error(head) {
        return Some(Heard::Whole(total, error));
    }
    let answer = match (&op.ask, head) {
        (Ask::Stats, _) => return hear_stats(bytes),
        (Ask::Line(expected), _) if bytes.starts_with(expected) => Answer::Fine,
        (Ask::Flush, "OK") => Answer::Fine,
        (Ask::Write { .. }, "STORED") => Answer::Stored,
        (Ask::Write { .. }, "NOT_STORED") => Answer::NotStored,
        (Ask::Write { .. }, "EXISTS") => Answer::Exists,
        (Ask::Write { .. } | Ask::Delete(_) | Ask::Touch(_), "NOT_FOUND") => Answer::NotFound,
        (Ask::Write { .. }, digits) if digits.parse::<u64>().is_ok() => Answer::Number(digits.parse().ok()?),
        (Ask::Delete(_), "DELETED") => Answer::Deleted,
        (Ask::Touch(_), "TOUCHED") => Answer::Touched,
        _ => return Some(Heard::Wrong(format!("{head} is no answer to {:?}", op.ask))),
    };
    Some(Heard::Whole(total, answer))
}

/// Error lines mean the same for all requests of text and meta.
fn error(line: &str) -> Option<Answer> {
    if let Some(why) = line.strip_prefix("SERVER_ERROR backend ") {
        return Some(Answer::Failed(why.to_string()));
    }
    match line {
        "SERVER_ERROR out of memory storing object" => Some(Answer::NoMemory),
        "SERVER_ERROR object too large for cache" => Some(Answer::TooLarge),
        "CLIENT_ERROR cannot increment or decrement non-numeric value" => Some(Answer::NoNumber),
        "CLIENT_ERROR flush_all not allowed" => Some(Answer::NotAllowed),
        _ => None,
    }
}

fn hear_stats(bytes: &[u8]) -> Option<Heard> {
    let (mut at, mut stats) = (0, Vec::new());
    loop {
        let (head, total) = line(&bytes[at..])?;
        at += total;
        if head == "END" {
            return Some(Heard::Whole(at, Answer::Stats(stats)));
        }
        let Some((name, value)) = head.strip_prefix("STAT ").and_then(|words| words.split_once(' ')) else {
            return Some(Heard::Wrong(format!("{head} is no counter")));
        };
        stats.push((name.to_string(), value.to_string()));
    }
}

fn hear_meta(op: &Op, opaque: u32, bytes: &[u8], history: &History) -> Option<Heard> {
    let (head, total) = line(bytes)?;
    if let Some(error) = error(head) {
        return Some(Heard::Whole(total, error));
    }
    let words: Vec<&str> = head.split(' ').collect();
    let wanted = format!("O{opaque}");
    if !words.contains(&&wanted[..]) {
        // What a quiet request's miss or success would have been.
        if op.quiet {
            return Some(Heard::Whole(0, Answer::Silence));
        }
        // A miss of mg bears no flags in memcached 1.6.18, but those of key and opaque.
        return Some(Heard::Wrong(format!("{head} does not bear {wanted} of {:?}", op.ask)));
    }
    let answer = match (&op.ask, words[0]) {
        (Ask::Read { keys, with_cas, .. }, "VA") => {
            // The item tells in which form it was stored, and its key is given back in that one.
            let name = String::from_utf8_lossy(&history.names[keys[0]]).into_owned();
            let forms = [format!("k{name}"), format!("k{}", base64_of(name.as_bytes()))];
            if !forms.iter().any(|form| words.contains(&&form[..])) {
                return Some(Heard::Wrong(format!("{head} is not of {name}")));
            }
            let cas = words.iter().find_map(|word| word.strip_prefix('c')?.parse().ok());
            if cas.is_some() != *with_cas {
                return Some(Heard::Wrong(format!("{head}: token asked for: {with_cas}")));
            }
            return meta_value(bytes, total, words[1], |value| Answer::Values(vec![(0, value, cas)]));
        }
        (Ask::Read { .. }, "EN") => Answer::Values(Vec::new()),
        (Ask::Write { .. }, "VA") => {
            return meta_value(bytes, total, words[1], |value| {
                let digits = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                digits.map_or(Answer::NoNumber, Answer::Number)
            });
        }
        (Ask::Write { .. }, "HD") => Answer::Stored,
        (Ask::Write { .. }, "NS") => Answer::NotStored,
        (Ask::Write { .. }, "EX") => Answer::Exists,
        (Ask::Write { .. } | Ask::Delete(_), "NF") => Answer::NotFound,
        (Ask::Delete(_), "HD") => Answer::Deleted,
        _ => return Some(Heard::Wrong(format!("{head} is no answer to {:?}", op.ask))),
    };
    Some(Heard::Whole(total, answer))
}

fn meta_value(
    bytes: &[u8],
    start: usize,
    length: &str,
    answer: impl FnOnce(Vec<u8>) -> Answer,
) -> Option<Heard> {
    let Ok(length) = length.parse::<usize>() else {
        return Some(Heard::Wrong(format!("{length} is no length")));
    };
    let value = bytes.get(start..start + length + 2)?;
    if !value.ends_with(b"\r\n") {
        return Some(Heard::Wrong("a value without its end".to_string()));
    }
    Some(Heard::Whole(start + length + 2, answer(value[..length].to_vec())))
}

fn hear_binary(op: &Op, code: u8, opaque: u32, bytes: &[u8], history: &History) -> Option<Heard> {
    let head = bytes.first_chunk::<24>()?;
    let total = 24 + u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let wrong = |what: &str| Some(Heard::Wrong(format!("{what}: {} to {:?}", head.escape_ascii(), op.ask)));
    if head[0] != 0x81 {
        return wrong("no reply");
    }
    if head[12..16] != opaque.to_be_bytes() {
        return if op.quiet { Some(Heard::Whole(0, Answer::Silence)) } else { wrong("another's reply") };
    }
    if head[1] != code {
        return wrong("another opcode");
    }
    let frame = bytes.get(..total)?;
    let (extras, key) = (usize::from(head[4]), usize::from(u16::from_be_bytes([head[2], head[3]])));
    let (Some(name), Some(value)) =
        (frame.get(24 + extras..24 + extras + key), frame.get(24 + extras + key..))
    else {
        return wrong("lengths");
    };
    let cas = u64::from_be_bytes(head[16..24].try_into().ok()?);
    if let (Ask::Stats, true) = (&op.ask, !name.is_empty()) {
        // The names and values come one by one; only the end of them counts.
        return Some(match hear_binary(op, code, opaque, &bytes[total..], history)? {
            Heard::Whole(rest, answer) => Heard::Whole(total + rest, answer),
            other => other,
        });
    }
    let answer = match (&op.ask, u16::from_be_bytes([head[6], head[7]])) {
        (_, status::TEMPORARY_FAILURE) => {
            let words = String::from_utf8_lossy(value).into_owned();
            Answer::Failed(words.strip_prefix("SERVER_ERROR backend ").unwrap_or(&words).to_string())
        }
        (_, status::OUT_OF_MEMORY) => Answer::NoMemory,
        (Ask::Read { keys, .. }, status::OK) => {
            let bears_key = matches!(code, opcode::GETK | opcode::GETKQ | opcode::GATK | opcode::GATKQ);
            if bears_key && name != history.names[keys[0]] {
                return wrong("another key");
            }
            Answer::Values(vec![(0, value.to_vec(), Some(cas))])
        }
        (Ask::Read { .. }, status::KEY_NOT_FOUND) => Answer::Values(Vec::new()),
        (Ask::Write { .. }, status::OK) if matches!(code, 0x05 | 0x06 | 0x15 | 0x16) => {
            Answer::Number(u64::from_be_bytes(value.try_into().ok()?))
        }
        (Ask::Write { .. }, status::OK) => Answer::Stored,
        (Ask::Write { .. }, status::NOT_STORED) => Answer::NotStored,
        (Ask::Write { .. }, status::KEY_EXISTS) => Answer::Exists,
        (Ask::Write { .. }, status::NON_NUMERIC) => Answer::NoNumber,
        (Ask::Write { .. } | Ask::Delete(_) | Ask::Touch(_), status::KEY_NOT_FOUND) => Answer::NotFound,
        (Ask::Delete(_), status::OK) => Answer::Deleted,
        (Ask::Touch(_), status::OK) => Answer::Touched,
        (Ask::TooLarge(_), status::TOO_LARGE) => Answer::TooLarge,
        (Ask::Flush, status::AUTH_ERROR) => Answer::NotAllowed,
        (Ask::Flush | Ask::Line(_) | Ask::Stats, status::OK) => Answer::Fine,
        _ => return wrong("no answer"),
    };
    Some(Heard::Whole(total, answer))
}
