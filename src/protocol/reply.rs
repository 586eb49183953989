//! Frames of what a backend answers: where a reply ends, and whether it can be the answer to what was asked.
//! Every function looks at the start of `input` and says [`Frame::Broken`] when the bytes cannot be such an
//! answer: then nothing on that link can be trusted any more.

use super::base64;
use super::binary::{HEADER_BYTES, RESPONSE_MAGIC};
use super::number::digits;
pub use super::plain_reply::value_hit;
use super::plain_reply::{plain_line, plain_meta, plain_value};
use super::scan;
use super::text::Keys;

/// A frame at the start of the input, or why there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `VALUE` or `VA` with its data and CR LF.
    Value {
        /// Bytes of the line, its end included.
        line: usize,
        /// Bytes of the frame.
        total: usize,
        /// A `VALUE` line bears a CAS token.
        with_cas: bool,
    },
    /// `END`.
    End {
        /// Bytes of the frame.
        total: usize,
    },
    /// Any other single line; for get an error.
    Line {
        /// Bytes of the line, its end included.
        total: usize,
    },
    /// Not whole yet.
    Partial {
        /// Bytes that must be there before looking again makes sense.
        total: usize,
    },
    /// This is no such answer.
    Broken,
}

/// Bounds on what a backend may answer.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLimits {
    /// Longest line, bytes.
    pub line_max: usize,
    /// Largest value, bytes.
    pub value_max: usize,
}

/// A single line: what answers everything but reads.
#[inline]
pub fn line(input: &[u8], limits: ReplyLimits) -> Frame {
    if let Some(total) = plain_line(input) {
        return Frame::Line { total };
    }
    match line_end(input, limits) {
        Ok(total) => Frame::Line { total },
        Err(frame) => frame,
    }
}

/// The next part of the answer to a get or gat: a value, the end, or an error line in place of them.
#[inline]
pub fn values(input: &[u8], limits: ReplyLimits) -> Frame {
    match plain_value(input, limits) {
        Some(frame) => frame,
        None => any_values(input, limits),
    }
}

/// As [`values`], whatever the answer looks like.
#[inline(never)]
pub(super) fn any_values(input: &[u8], limits: ReplyLimits) -> Frame {
    let end = match line_end(input, limits) {
        Ok(end) => end,
        Err(frame) => return frame,
    };
    let text = &input[..end - 2];
    if let Some(rest) = text.strip_prefix(b"VALUE ") {
        let mut fields = rest.split(|&byte| byte == b' ');
        let (_key, _flags) = (fields.next(), fields.next());
        return match (fields.next().and_then(decimal), fields.next(), fields.next()) {
            (Some(length), cas, None) if cas.is_none_or(are_digits) => {
                value_frame(input, end, length, cas.is_some(), limits)
            }
            _ => Frame::Broken,
        };
    }
    if text == b"END" {
        return Frame::End { total: end };
    }
    if is_error(text) { Frame::Line { total: end } } else { Frame::Broken }
}

/// The key of a `VALUE` line.
#[inline]
pub fn value_key(frame: &[u8]) -> &[u8] {
    let rest = &frame[6..];
    &rest[..scan::space(rest)]
}

/// The answer to a meta command. `raw_key` is the decoded key if it has spaces or control bytes in it, else
/// empty: memcached gives a key back as it was first stored, and a line end in there does not end the line.
#[inline]
pub fn meta(input: &[u8], raw_key: &[u8], limits: ReplyLimits) -> Frame {
    if raw_key.is_empty()
        && let Some(frame) = plain_meta(input, limits)
    {
        return frame;
    }
    any_meta(input, raw_key, limits)
}

/// As [`meta`], whatever the answer looks like.
#[inline(never)]
pub(super) fn any_meta(input: &[u8], raw_key: &[u8], limits: ReplyLimits) -> Frame {
    let end =
        if raw_key.is_empty() { line_end(input, limits) } else { line_end_behind(input, raw_key, limits) };
    let end = match end {
        Ok(end) => end,
        Err(frame) => return frame,
    };
    let text = &input[..end - 2];
    if let Some(rest) = text.strip_prefix(b"VA ") {
        let length = rest.split(|&byte| byte == b' ').next().unwrap_or(rest);
        return match decimal(length) {
            Some(length) => value_frame(input, end, length, false, limits),
            None => Frame::Broken,
        };
    }
    if text == b"VA" { Frame::Broken } else { Frame::Line { total: end } }
}

/// The opaque and the key that the answer to a meta command bears are those of its request. `line` is the
/// answer's line without its end; `echo` what [`super::compose::meta_echo`] makes of the request; `raw_key`
/// as for [`meta`]. What is missing in the answer is not missed: older versions leave it out of some.
#[inline]
pub fn bears_only(line: &[u8], echo: &[u8], raw_key: &[u8]) -> bool {
    // Usually they come last, and nothing before them looks like one: one comparison instead of words and
    // what each of them is.
    match line.strip_suffix(echo) {
        Some([_, _, front @ ..]) if !front.iter().any(|byte| matches!(byte, b'O' | b'k')) => true,
        _ => words_bear_only(line, echo, raw_key),
    }
}

/// As [`bears_only`], word by word.
#[inline(never)]
fn words_bear_only(line: &[u8], echo: &[u8], raw_key: &[u8]) -> bool {
    let mut words = MetaWords { rest: &line[2..], raw_key };
    words.all(|word| !matches!(word, [b'O' | b'k', ..]) || is_asked_for(word, echo))
}

/// The CAS token that the answer to a meta command bears, if it does. `line` and `raw_key` as for
/// [`bears_only`].
pub fn meta_token(line: &[u8], raw_key: &[u8]) -> Option<u64> {
    let mut words = MetaWords { rest: line.get(2..)?, raw_key };
    words.find_map(|word| digits(word.strip_prefix(b"c")?))
}

/// The words of an answer's line. A key that is given back as it is, spaces and all, is one.
struct MetaWords<'a> {
    rest: &'a [u8],
    raw_key: &'a [u8],
}

impl<'a> Iterator for MetaWords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.strip_prefix(b" ")?;
        let raw = text.strip_prefix(b"k").and_then(|key| key.strip_prefix(self.raw_key));
        let end = match raw {
            Some([] | [b' ', ..]) if !self.raw_key.is_empty() => 1 + self.raw_key.len(),
            _ => scan::space(text),
        };
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

/// The word stands in `echo`, or is another way to write the key there: memcached gives a key back as it was
/// first stored, which may have been in base64 or not.
fn is_asked_for(word: &[u8], echo: &[u8]) -> bool {
    let is_base64 = Keys::new(echo).any(|flag| flag == b"b");
    Keys::new(echo).any(|asked| match (asked, word) {
        _ if asked == word => true,
        ([b'k', asked @ ..], [b'k', key @ ..]) => {
            let (mut asked_room, mut key_room) = ([0; 256], [0; 256]);
            let asked_raw = base64::decode(asked, &mut asked_room).filter(|_| is_base64).unwrap_or(asked);
            asked_raw == key || base64::decode(key, &mut key_room) == Some(asked_raw)
        }
        _ => false,
    })
}

/// The line is one of memcached's three kinds of error.
#[inline]
pub fn is_error(line: &[u8]) -> bool {
    line.starts_with(b"ERROR") || line.starts_with(b"CLIENT_ERROR") || line.starts_with(b"SERVER_ERROR")
}

/// A binary reply's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the request it answers.
    pub opcode: u8,
    /// Bytes of the key.
    pub key: usize,
    /// Bytes of the extras.
    pub extras: usize,
    /// Zero for success.
    pub status: u16,
    /// Bytes of extras, key and value.
    pub body: usize,
    /// Of the request it answers.
    pub opaque: u32,
}

/// The header of a binary reply, once `input` has all of the reply.
///
/// # Errors
/// [`Frame::Partial`] or [`Frame::Broken`].
#[inline]
pub fn binary(input: &[u8], limits: ReplyLimits) -> Result<Header, Frame> {
    let Some(head) = input.first_chunk::<HEADER_BYTES>() else {
        return match input.first() {
            Some(&byte) if byte != RESPONSE_MAGIC => Err(Frame::Broken),
            _ => Err(Frame::Partial { total: HEADER_BYTES }),
        };
    };
    let header = Header {
        opcode: head[1],
        key: usize::from(u16::from_be_bytes([head[2], head[3]])),
        extras: usize::from(head[4]),
        status: u16::from_be_bytes([head[6], head[7]]),
        body: u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize,
        opaque: u32::from_be_bytes([head[12], head[13], head[14], head[15]]),
    };
    let fits = header.key + header.extras <= header.body && header.body <= limits.value_max + 1024;
    if head[0] != RESPONSE_MAGIC || !fits {
        return Err(Frame::Broken);
    }
    let total = HEADER_BYTES + header.body;
    if input.len() < total { Err(Frame::Partial { total }) } else { Ok(header) }
}

/// Where the first line ends, after its CR LF.
#[inline]
pub(super) fn line_end(input: &[u8], limits: ReplyLimits) -> Result<usize, Frame> {
    let window = &input[..input.len().min(limits.line_max)];
    match scan::line_end(window, 0).map(|end| end.lf) {
        Some(end) if end > 0 && input[end - 1] == b'\r' => Ok(end + 1),
        Some(_) => Err(Frame::Broken),
        None if input.len() >= limits.line_max => Err(Frame::Broken),
        None => Err(Frame::Partial { total: input.len() + 1 }),
    }
}

/// Where the first line ends, if it may bear `raw_key` after its first ` k`, or after `ME `.
fn line_end_behind(input: &[u8], raw_key: &[u8], limits: ReplyLimits) -> Result<usize, Frame> {
    let first_end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let echo = match input.strip_prefix(b"ME ") {
        Some(_) => Some(b"ME ".len()),
        None => input[..first_end].windows(2).position(|pair| pair == b" k").map(|at| at + 2),
    };
    let Some(start) = echo else { return line_end(input, limits) };
    let echoed = &input[start..];
    if let Some(behind) = echoed.strip_prefix(raw_key) {
        return match line_end(behind, limits) {
            Err(Frame::Partial { total }) => {
                Err(Frame::Partial { total: input.len() - behind.len() + total })
            }
            other => other.map(|end| input.len() - behind.len() + end),
        };
    }
    if raw_key.starts_with(echoed) {
        return Err(Frame::Partial { total: start + raw_key.len() + b"\r\n".len() });
    }
    line_end(input, limits)
}

#[inline]
pub(super) fn value_frame(
    input: &[u8],
    line: usize,
    length: usize,
    with_cas: bool,
    limits: ReplyLimits,
) -> Frame {
    if length > limits.value_max {
        return Frame::Broken;
    }
    let total = line + length + 2;
    if input.len() < total {
        return Frame::Partial { total };
    }
    if &input[total - 2..total] != b"\r\n" {
        return Frame::Broken;
    }
    Frame::Value { line, total, with_cas }
}

/// Digits and nothing else.
fn are_digits(token: &[u8]) -> bool {
    !token.is_empty() && token.iter().all(u8::is_ascii_digit)
}

fn decimal(token: &[u8]) -> Option<usize> {
    digits(token).and_then(|number| usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReplyLimits = ReplyLimits { line_max: 64, value_max: 1000 };

    #[test]
    fn values_in_every_split() {
        let whole = b"VALUE k 0 3\r\nabc\r\nEND\r\n";
        assert_eq!(values(whole, LIMITS), Frame::Value { line: 13, total: 18, with_cas: false });
        assert_eq!(values(&whole[18..], LIMITS), Frame::End { total: 5 });
        for cut in 0..18 {
            assert!(
                matches!(values(&whole[..cut], LIMITS), Frame::Partial { total } if total > cut),
                "cut {cut}"
            );
        }
        assert_eq!(values(&whole[..15], LIMITS), Frame::Partial { total: 18 });
        assert_eq!(value_key(whole), b"k");
    }

    #[test]
    fn what_cannot_be_the_answer_to_a_get() {
        for wrong in [
            &b"STORED\r\n"[..],
            b"VALUE k 0 abc\r\n",
            b"VALUE k 0\r\n",
            b"VALUE k 0 1 2 3\r\nx\r\n",
            b"VALUE k 0 1 \x81\xff\r\nx\r\n",
            b"VALUE k 0 1 \r\nx\r\n",
            b"VALUE k 0 1001\r\n",
            b"VALUE k 0 1\r\nab\r\n",
            b"END\n",
            b"\n",
            &[b'x'; 64],
        ] {
            assert_eq!(values(wrong, LIMITS), Frame::Broken, "{}", wrong.escape_ascii());
        }
        assert_eq!(values(b"SERVER_ERROR out of memory\r\n", LIMITS), Frame::Line { total: 28 });
    }

    #[test]
    fn meta_values_and_lines() {
        assert_eq!(
            meta(b"VA 2 s2 t-1\r\nhi\r\n", &[], LIMITS),
            Frame::Value { line: 13, total: 17, with_cas: false }
        );
        assert_eq!(meta(b"VA 0\r\n\r\n", &[], LIMITS), Frame::Value { line: 6, total: 8, with_cas: false });
        assert_eq!(meta(b"HD f30\r\nEN\r\n", &[], LIMITS), Frame::Line { total: 8 });
        assert_eq!(meta(b"VA x\r\n", &[], LIMITS), Frame::Broken);
        assert_eq!(meta(b"VA\r\n", &[], LIMITS), Frame::Broken);
    }

    /// Whatever the answer, the short look says what the long one says.
    #[test]
    fn an_answer_bears_what_was_asked_however_it_is_looked_at() {
        let fronts = ["VA 5", "VA", "HD", "HD ", "EN", "VA 5 s5", "VA 5 kother", "VA 5 O1", "VA 5 ", "VA 5x"];
        let echoes = [" kkey O1", " O1 kkey", " kkey", " O1", " ka2V5 b O1", " kkey kkey"];
        let (mut same, mut other) = (0, 0);
        for (front, echo) in fronts.iter().flat_map(|front| echoes.map(|echo| (front, echo))) {
            for back in echoes.iter().copied().chain(["", " kkey O2", " kke O1", " s5 kkey", " kkey s5"]) {
                let line = format!("{front}{back}");
                let (line, echo) = (line.as_bytes(), echo.as_bytes());
                let expected = words_bear_only(line, echo, &[]);
                assert_eq!(bears_only(line, echo, &[]), expected, "{}", line.escape_ascii());
                *(if expected { &mut same } else { &mut other }) += 1;
            }
        }
        assert!(same > 100 && other > 100, "{same} and {other}");
    }

    #[test]
    fn a_line_end_in_a_key_ends_no_line() {
        let key = b"a\r\nVALUE b 0 1\r\nx\r\nEND\r\n";
        let line = [&b"VA 5 Oq k"[..], key, b" s5\r\n"].concat();
        let whole = [&line[..], b"value\r\n"].concat();
        assert_eq!(
            meta(&whole, key, LIMITS),
            Frame::Value { line: line.len(), total: whole.len(), with_cas: false }
        );
        for cut in 0..whole.len() {
            let frame = meta(&whole[..cut], key, LIMITS);
            assert!(
                matches!(frame, Frame::Partial { total } if total > cut && total <= whole.len()),
                "{cut}: {frame:?}"
            );
        }
        let debug = [&b"ME "[..], key, b" exp=-1\r\n"].concat();
        assert_eq!(meta(&debug, key, LIMITS), Frame::Line { total: debug.len() });
        let encoded = b"VA 2 kYQ== b\r\nhi\r\n";
        assert_eq!(meta(encoded, key, LIMITS), Frame::Value { line: 14, total: 18, with_cas: false });
        assert_eq!(meta(b"EN\r\n k", key, LIMITS), Frame::Line { total: 4 });
    }

    #[test]
    fn an_answer_bears_the_opaque_and_the_key_of_its_request() {
        let fits = |line: &str, echo: &str| bears_only(line.as_bytes(), echo.as_bytes(), b"");
        for line in ["HD", "EN", "VA 2", "HD f3 t-1", "HD O1", "VA 2 s2 kab O1", "HD kab c7", "ME x"] {
            assert!(fits(line, " kab O1"), "{line}");
        }
        for line in ["HD O2", "HD O", "VA 2 O11", "HD kac", "HD O1 kabc", "EN Oab", "HD f3 kO1"] {
            assert!(!fits(line, " kab O1"), "{line}");
        }
        assert!(fits("HD f1", "") && !fits("HD O1", "") && !fits("HD k1", ""));
        // A key that was sent in base64 is given back in any form of it, or as it was stored.
        for line in ["HD kYWJj b", "HD kabc", "HD k_YWJj b"] {
            assert!(fits(line, " kYWJj b"), "{line}");
        }
        assert!(!fits("HD kabd", " kYWJj b") && !fits("HD kYWJk b", " kYWJj b"));
        assert!(!fits("HD kabc", " kYWJj"), "it was not sent in base64");
        assert!(fits("HD kYWJj b", " kabc"), "it was stored in base64");
        // A byte below the space belongs to its word.
        assert!(fits("HD Oa\tb", " Oa\tb") && !fits("HD Oa\tc", " Oa\tb"));
    }

    #[test]
    fn a_key_with_spaces_is_one_word() {
        let (key, echo) = (b"a O1 c5\r\n", b" kYSBPMSBjNQ0K b O2");
        for line in [&b"HD ka O1 c5\r\n O2 c77"[..], b"HD O2 c77 ka O1 c5\r\n", b"HD kYSBPMSBjNQ0K b O2 c77"]
        {
            assert!(bears_only(line, echo, key), "{}", line.escape_ascii());
            assert_eq!(meta_token(line, key), Some(77), "{}", line.escape_ascii());
        }
        assert!(!bears_only(b"HD ka O1 c5\r\n O3", echo, key));
        assert!(!bears_only(b"HD ka O1 c5\r\n", b" O2", key), "the key was not asked for");
        assert_eq!(meta_token(b"HD ka O1 c5\r\n O2", key), None);
        assert_eq!(meta_token(b"VA 3 cx f1", b""), None);
    }

    #[test]
    fn binary_headers() {
        let mut reply = [0; 30];
        (reply[0], reply[1], reply[4], reply[11], reply[15]) = (0x81, 0x0c, 4, 6, 9);
        reply[3] = 1;
        let header = Header { opcode: 0x0c, key: 1, extras: 4, status: 0, body: 6, opaque: 9 };
        assert_eq!(binary(&reply, LIMITS), Ok(header));
        for cut in 0..30 {
            let total = if cut < 24 { 24 } else { 30 };
            assert_eq!(binary(&reply[..cut], LIMITS), Err(Frame::Partial { total }), "cut {cut}");
        }
        reply[3] = 3;
        assert_eq!(binary(&reply, LIMITS), Err(Frame::Broken), "key and extras longer than the body");
        assert_eq!(binary(b"x", LIMITS), Err(Frame::Broken));
    }
}
