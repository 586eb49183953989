//! The frames of replies, by looking for the line's end and taking its words apart.

use super::super::reply::{Frame, Header, ReplyLimits};

/// As [`super::super::reply::line`].
pub fn line(input: &[u8], limits: ReplyLimits) -> Frame {
    line_from(input, 0, limits).map_or_else(|frame| frame, |total| Frame::Line { total })
}

/// As [`super::super::reply::values`].
pub fn values(input: &[u8], limits: ReplyLimits) -> Frame {
    let end = match line_from(input, 0, limits) {
        Ok(end) => end,
        Err(frame) => return frame,
    };
    let text = &input[..end - 2];
    let words: Vec<&[u8]> = text.split(|&byte| byte == b' ').collect();
    let error = [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"].iter().any(|start| text.starts_with(start));
    match words[..] {
        [b"VALUE", _key, _flags, length] => value(input, end, length, false, limits),
        [b"VALUE", _key, _flags, length, cas] if digits(cas) => value(input, end, length, true, limits),
        [b"END"] => Frame::End { total: end },
        _ if error => Frame::Line { total: end },
        _ => Frame::Broken,
    }
}

/// As [`super::super::reply::meta`].
pub fn meta(input: &[u8], raw_key: &[u8], limits: ReplyLimits) -> Frame {
    let end = match line_from(input, raw_key_end(input, raw_key), limits) {
        Ok(end) => end,
        Err(frame) => return frame,
    };
    let words: Vec<&[u8]> = input[..end - 2].split(|&byte| byte == b' ').collect();
    match words[..] {
        [b"VA", length, ..] => value(input, end, length, false, limits),
        [b"VA"] => Frame::Broken,
        _ => Frame::Line { total: end },
    }
}

/// As [`super::super::reply::binary`].
///
/// # Errors
/// [`Frame::Partial`] or [`Frame::Broken`].
pub fn binary(input: &[u8], limits: ReplyLimits) -> Result<Header, Frame> {
    if input.is_empty() || (input[0] == 0x81 && input.len() < 24) {
        return Err(Frame::Partial { total: 24 });
    }
    if input[0] != 0x81 {
        return Err(Frame::Broken);
    }
    let number = |from: usize, to: usize| input[from..to].iter().fold(0, |sum, &byte| sum << 8 | byte as u64);
    let header = Header {
        opcode: input[1],
        key: number(2, 4) as usize,
        extras: number(4, 5) as usize,
        status: number(6, 8) as u16,
        body: number(8, 12) as usize,
        opaque: number(12, 16) as u32,
    };
    if header.key + header.extras > header.body || header.body > limits.value_max + 1024 {
        return Err(Frame::Broken);
    }
    let total = 24 + header.body;
    if total > input.len() { Err(Frame::Partial { total }) } else { Ok(header) }
}

/// The end of the line whose LF is looked for from `from` on, or what to say instead.
fn line_from(input: &[u8], from: usize, limits: ReplyLimits) -> Result<usize, Frame> {
    if from > input.len() {
        return Err(Frame::Partial { total: from + 2 });
    }
    let text: Vec<u8> = input[from..].iter().copied().take(limits.line_max).collect();
    match text.iter().position(|&byte| byte == b'\n') {
        Some(lf) if text[..lf].ends_with(b"\r") => Ok(from + lf + 1),
        Some(_) => Err(Frame::Broken),
        None if text.len() == limits.line_max => Err(Frame::Broken),
        None => Err(Frame::Partial { total: input.len() + 1 }),
    }
}

/// Where a raw key ends that stands, or may come to stand, in the echo of a meta reply; zero if none does.
fn raw_key_end(input: &[u8], raw_key: &[u8]) -> usize {
    let before_lf = input.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let start = if input.starts_with(b"ME ") {
        3
    } else {
        match before_lf.windows(2).position(|pair| pair == b" k") {
            Some(at) => at + 2,
            None => return 0,
        }
    };
    let echoed = &input[start..];
    let both = echoed.len().min(raw_key.len());
    if raw_key.is_empty() || echoed[..both] != raw_key[..both] { 0 } else { start + raw_key.len() }
}

/// A value of `length` bytes behind a line of `line` bytes.
fn value(input: &[u8], line: usize, length: &[u8], with_cas: bool, limits: ReplyLimits) -> Frame {
    let digits = (1..=20).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(length).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    let Some(length) = number.filter(|&length: &usize| length <= limits.value_max) else {
        return Frame::Broken;
    };
    let total = line + length + 2;
    match input.get(line + length..total) {
        None => Frame::Partial { total },
        Some(b"\r\n") => Frame::Value { line, total, with_cas },
        Some(_) => Frame::Broken,
    }
}

/// It is a number, however large.
fn digits(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_digit)
}
