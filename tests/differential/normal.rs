//! What two servers may differ in by nature: CAS tokens, where several backends count for themselves, and
//! what tells the time. Everything else is left as it is.

use crate::stream::{Segment, Stream, Tokens};
use crate::support::binary::{frames, hide_tokens};

/// Reads `replies` to a segment of `stream`, notes the tokens in them, and gives them without what may differ.
pub(crate) fn normalise(
    stream: &Stream,
    replies: &[u8],
    segment: &Segment,
    hide: bool,
    tokens: &mut Tokens,
) -> Vec<u8> {
    match stream.binary {
        true => binary_replies(replies, segment, hide, tokens),
        false => text_replies(replies, &stream.keys_with_line_ends, hide, tokens),
    }
}

fn binary_replies(replies: &[u8], segment: &Segment, hide: bool, tokens: &mut Tokens) -> Vec<u8> {
    for frame in frames(replies).0.iter().filter(|frame| frame.cas != 0) {
        let asked = segment.iter().filter_map(|request| request.about.as_ref());
        for (_, key) in asked.filter(|(opaque, _)| *opaque == frame.opaque) {
            tokens.insert(key.clone(), frame.cas);
        }
    }
    if hide { hide_tokens(replies) } else { replies.to_vec() }
}

fn text_replies(replies: &[u8], odd_keys: &[Vec<u8>], hide: bool, tokens: &mut Tokens) -> Vec<u8> {
    let mut normal = Vec::with_capacity(replies.len());
    let mut rest = replies;
    while let Some(end) = line_end(rest, odd_keys) {
        let (line, behind) = rest.split_at(end + 1);
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let words: Vec<&[u8]> = text.split(|&byte| byte == b' ').collect();
        let value = match words[0] {
            b"VALUE" => classic_value(&words, line, hide, tokens, &mut normal),
            b"VA" | b"HD" | b"EN" | b"NF" | b"NS" | b"EX" => meta_line(&words, hide, tokens, &mut normal),
            b"ME" => debug_line(&words, hide, &mut normal),
            _ => {
                normal.extend_from_slice(line);
                0
            }
        };
        let (value, next) = behind.split_at(value.min(behind.len()));
        normal.extend_from_slice(value);
        rest = next;
    }
    normal.extend_from_slice(rest);
    normal
}

/// Where the first line ends. One that names a key with line ends in it ends behind the key.
fn line_end(rest: &[u8], odd_keys: &[Vec<u8>]) -> Option<usize> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    for key in odd_keys {
        let named = [&b" k"[..], b"ME "].into_iter().find_map(|before| {
            let needle = [before, key].concat();
            rest.windows(needle.len())
                .take(end)
                .position(|window| window == needle)
                .map(|at| at + needle.len())
        });
        if let Some(behind) = named {
            return rest[behind..].iter().position(|&byte| byte == b'\n').map(|at| behind + at);
        }
    }
    Some(end)
}

/// `VALUE key flags length [token]`; gives the bytes of the value and its line end.
fn classic_value(
    words: &[&[u8]],
    line: &[u8],
    hide: bool,
    tokens: &mut Tokens,
    normal: &mut Vec<u8>,
) -> usize {
    let length = words.get(3).and_then(|word| number(word)).map_or(0, |length| length as usize + 2);
    match words.get(4).and_then(|word| number(word)) {
        Some(token) => {
            tokens.insert(words[1].to_vec(), token);
            normal.extend_from_slice(&words[..4].join(&b' '));
            let shown = if hide { "#".to_owned() } else { token.to_string() };
            normal.extend_from_slice(format!(" {shown}\r\n").as_bytes());
        }
        None => normal.extend_from_slice(line),
    }
    length
}

/// A meta reply; gives the bytes of the value and its line end.
fn meta_line(words: &[&[u8]], hide: bool, tokens: &mut Tokens, normal: &mut Vec<u8>) -> usize {
    let has_value = words[0] == b"VA";
    let length = match has_value {
        true => words.get(1).and_then(|word| number(word)).map_or(0, |length| length as usize + 2),
        false => 0,
    };
    let flags = &words[1 + usize::from(has_value)..];
    let key = flags.iter().find_map(|flag| flag.strip_prefix(b"k"));
    let token = flags.iter().find_map(|flag| flag.strip_prefix(b"c").and_then(number));
    if let (Some(key), Some(token)) = (key, token) {
        tokens.insert(key.to_vec(), token);
    }
    normal.extend_from_slice(&words[..words.len() - flags.len()].join(&b' '));
    for flag in flags {
        let telling_time = matches!(flag.first(), Some(b't' | b'l'));
        let hidden = telling_time || (hide && flag.first() == Some(&b'c'));
        normal.push(b' ');
        match flag.split_first() {
            Some((letter, digits)) if hidden && number(digits).is_some() => normal.extend([*letter, b'#']),
            _ => normal.extend_from_slice(flag),
        }
    }
    normal.extend_from_slice(b"\r\n");
    length
}

/// `ME key name=value ...`
fn debug_line(words: &[&[u8]], hide: bool, normal: &mut Vec<u8>) -> usize {
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            normal.push(b' ');
        }
        let hidden: &[&[u8]] = if hide { &[b"la=", b"exp=", b"cas="] } else { &[b"la=", b"exp="] };
        // What is expired and still there has seconds below zero.
        let digits =
            |name: &[u8]| word.strip_prefix(name).map(|number| number.strip_prefix(b"-").unwrap_or(number));
        let name = hidden.iter().find(|name| digits(name).and_then(number).is_some());
        match name {
            Some(name) => normal.extend_from_slice(&[*name, b"#"].concat()),
            None => normal.extend_from_slice(word),
        }
    }
    normal.extend_from_slice(b"\r\n");
    0
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}
