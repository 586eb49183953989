//! Requests of the classic text protocol, as memcached 1.6.18 reads them (its proto_text.c): tokens are
//! separated by spaces only, a line ends at LF with an optional CR before it, and at the first NUL.

use super::answers;
use super::commands::{self, Line};
use super::meta::{Meta, MetaVerb};
pub use super::plain::{PlainGet, plain_get, plain_store};
use super::plain::{StoreLine, whole_value};
pub use super::plain_meta::plain_meta;
use super::plain_meta::{MetaLine, plain_noop};
use super::scan::{self, LineEnd};
use crate::limits::{LINE_MAX, LINE_PATIENCE};

/// What stands at the start of a client's unread bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole request, and the bytes it had.
    Request(Request<'a>, usize),
    /// A whole line (or more) that is answered here, and goes to no backend.
    Refused(Refusal<'a>),
    /// Not whole yet: keep the bytes and call again with more.
    Partial(Partial),
}

/// How much of an unfinished request is known, so that more bytes are not read from its start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// The first `scanned` bytes hold no line end; give this back to [`parse`].
    Line {
        /// Bytes looked at so far.
        scanned: usize,
    },
    /// The line is whole and the value is not: call again when there are `total` bytes.
    Value {
        /// Bytes of the whole frame: line, value and CR LF.
        total: usize,
    },
}

/// A request that we answer ourselves, in memcached's words.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The answer, line end included; empty where memcached says nothing (noreply, or it closes).
    pub answer: &'static [u8],
    /// Bytes of the input to drop now.
    pub consumed: usize,
    /// Bytes to drop after these, as they arrive: the value and its CR LF. The answer is due when they have.
    pub swallow: u64,
    /// The key whose item memcached removes because its new value could not be taken.
    pub unlink: Option<&'a [u8]>,
    /// `unlink` is written in base64 (from an `ms` with `b`).
    pub unlink_base64: bool,
    /// The connection ends here, as memcached's does.
    pub close: bool,
}

/// A request that somebody else must answer. Numbers are those that memcached would have read.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get` or `gets` of one key of 1 to 250 bytes.
    Get {
        /// `gets`: with CAS token.
        with_cas: bool,
        /// The key.
        key: &'a [u8],
    },
    /// `get` or `gets` of two or more keys; their lengths are not checked yet.
    GetMany {
        /// `gets`: with CAS tokens.
        with_cas: bool,
        /// The keys.
        keys: Keys<'a>,
    },
    /// `gat` or `gats` of any number of keys, none included; their lengths are not checked yet.
    Gat {
        /// `gats`: with CAS tokens.
        with_cas: bool,
        /// Seconds, as sent.
        exptime: i32,
        /// The keys.
        keys: Keys<'a>,
    },
    /// A storage command with its value; the value's CR LF was there.
    Store(Store<'a>),
    /// `incr` and `decr`.
    Arithmetic {
        /// `decr`.
        decrement: bool,
        /// The key.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// The client wants no answer.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// The key.
        key: &'a [u8],
        /// Seconds, as sent.
        exptime: i32,
        /// The client wants no answer.
        noreply: bool,
    },
    /// `delete`.
    Delete {
        /// The key.
        key: &'a [u8],
        /// The client wants no answer.
        noreply: bool,
    },
    /// `flush_all`.
    FlushAll {
        /// Seconds, as sent; `None` where the line has none.
        delay: Option<i32>,
        /// The client wants no answer.
        noreply: bool,
    },
    /// `verbosity` with a number.
    Verbosity {
        /// The client wants no answer.
        noreply: bool,
    },
    /// `version`.
    Version,
    /// `stats`, with the rest of its line (no spaces at its ends).
    Stats {
        /// What it asks for; empty for the general counters.
        arguments: &'a [u8],
    },
    /// A command about one server's inside (`slabs`, `lru_crawler`, `watch`, ...) that a proxy cannot give.
    Administrative {
        /// Its verb.
        verb: &'a [u8],
    },
    /// `quit`.
    Quit,
    /// `mg`, `ms`, `md`, `ma`, `me`, `mn`.
    Meta(Meta<'a>),
}

impl Request<'_> {
    /// It changes nothing: without somebody who wants the answer it need not be carried out.
    pub fn only_reads(&self) -> bool {
        match self {
            Request::Get { .. } | Request::GetMany { .. } => true,
            Request::Meta(meta) => meta.verb == MetaVerb::Get && !meta.modifies,
            _ => false,
        }
    }
}

/// The storage commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// `set`
    Set,
    /// `add`
    Add,
    /// `replace`
    Replace,
    /// `append`
    Append,
    /// `prepend`
    Prepend,
    /// `cas`
    Cas,
}

/// A storage command.
#[derive(Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// Which of them.
    pub verb: StoreVerb,
    /// 1 to 250 bytes.
    pub key: &'a [u8],
    /// As memcached keeps them: the number sent, modulo 2^32.
    pub flags: u32,
    /// Seconds, as sent.
    pub exptime: i32,
    /// The token of a `cas`; zero for the others.
    pub cas: u64,
    /// The value without its CR LF.
    pub value: &'a [u8],
    /// The client wants no answer.
    pub noreply: bool,
    /// The request stands as we would write it, its `noreply` apart: see [`super::compose::store`].
    pub canonical: bool,
}

/// The keys of a line: what stands between runs of spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

impl<'a> Keys<'a> {
    /// The tokens of `rest`, a line's part without its line end.
    pub fn new(rest: &'a [u8]) -> Self {
        Keys { rest }
    }

    /// What is left, without the spaces at its ends.
    pub(super) fn trimmed(&self) -> &'a [u8] {
        let start = self.rest.iter().position(|&byte| byte != b' ').unwrap_or(self.rest.len());
        let end = self.rest.iter().rposition(|&byte| byte != b' ').map_or(start, |last| last + 1);
        &self.rest[start..end]
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        while let [b' ', after @ ..] = rest {
            rest = after;
        }
        let (word, rest) = rest.split_at(scan::space(rest));
        self.rest = rest;
        if word.is_empty() { None } else { Some(word) }
    }
}

/// What the parser must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ParserLimits {
    /// Largest value, bytes; a larger one is refused as memcached refuses it.
    pub value_max: usize,
    /// Longest line of a get or gets, bytes.
    pub get_line_max: usize,
}

/// Reads one request from the start of `input`, a client's bytes that no request has been read from yet.
/// `scanned` is zero, or what the last [`Partial::Line`] for the same bytes said.
#[inline]
pub fn parse<'a>(input: &'a [u8], scanned: usize, limits: &ParserLimits) -> Step<'a> {
    if scanned == 0
        && let Some(PlainGet { with_cas, key, total }) = plain_get(input, limits.get_line_max)
    {
        return Step::Request(Request::Get { with_cas, key }, total);
    }
    if scanned == 0 { first_look(input, limits) } else { line(input, scanned, limits) }
}

/// A plain request, or what of it has come. `None` where a closer look is needed.
#[inline]
fn plain<'a>(input: &'a [u8], limits: &ParserLimits) -> Option<Step<'a>> {
    if let [b'm', ..] = input {
        let Some(line) = MetaLine::read(input, limits.value_max) else {
            return plain_noop(input).map(|(meta, total)| Step::Request(Request::Meta(meta), total));
        };
        let Some(length) = line.length else {
            return Some(Step::Request(Request::Meta(line.meta(b"")), input.len() - line.behind.len()));
        };
        return match whole_value(input, line.behind, length) {
            Some((value, total)) => Some(Step::Request(Request::Meta(line.meta(value)), total)),
            None => unfinished_value(input, line.behind, length),
        };
    }
    let line = StoreLine::read(input, limits.value_max)?;
    match whole_value(input, line.behind, line.length) {
        Some((value, total)) => Some(Step::Request(Request::Store(line.store(value)), total)),
        None => unfinished_value(input, line.behind, line.length),
    }
}

/// The rest of `input` from `behind` on may be the start of a value. `None` if it is whole: its end is wrong.
fn unfinished_value<'a>(input: &'a [u8], behind: &[u8], length: usize) -> Option<Step<'a>> {
    let total = input.len() - behind.len() + length + b"\r\n".len();
    (input.len() < total).then_some(Step::Partial(Partial::Value { total }))
}

/// Any request that begins here. Not part of its callers, so that the short way of a get stays short.
#[inline(never)]
fn first_look<'a>(input: &'a [u8], limits: &ParserLimits) -> Step<'a> {
    match plain(input, limits) {
        Some(step) => step,
        None => line(input, 0, limits),
    }
}

/// Any line. It calls little where the line's end has not come, for its bytes may come one by one.
#[inline(never)]
fn line<'a>(input: &'a [u8], scanned: usize, limits: &ParserLimits) -> Step<'a> {
    match scan::line_end(input, scanned) {
        Some(end) => whole_line(input, end, scanned, limits),
        None => unfinished(input, limits),
    }
}

/// A line whose LF is there: bounds, what of it counts, and then its command.
#[inline(never)]
fn whole_line<'a>(input: &'a [u8], end: LineEnd, scanned: usize, limits: &ParserLimits) -> Step<'a> {
    let bytes = end.lf + 1;
    if bytes > LINE_MAX && !begins_with_get(input) {
        return give_up(input, b"");
    }
    if bytes > limits.get_line_max && begins_with_get(input) {
        return give_up(input, answers::LINE_TOO_LONG);
    }
    let mut text = &input[..end.lf];
    if let [_, .., b'\r'] = text {
        text = &text[..text.len() - 1];
    }
    // The scan began at `scanned`, so a NUL before it is not known of.
    if end.nul || scanned > 0 {
        let nul = text.iter().position(|&byte| byte == 0);
        text = &text[..nul.unwrap_or(text.len())];
    }
    commands::parse(Line { input, bytes, words: Keys::new(text), value_max: limits.value_max })
}

/// No LF yet. memcached's patience ends after 2048 bytes, but for a get.
fn unfinished<'a>(input: &'a [u8], limits: &ParserLimits) -> Step<'a> {
    if input.len() <= LINE_PATIENCE.min(limits.get_line_max) {
        return Step::Partial(Partial::Line { scanned: input.len() });
    }
    impatient(input, limits)
}

/// The same for more bytes than memcached waits with.
#[inline(never)]
fn impatient<'a>(input: &'a [u8], limits: &ParserLimits) -> Step<'a> {
    match begins_with_get(input) {
        true if input.len() > limits.get_line_max => give_up(input, answers::LINE_TOO_LONG),
        false if input.len() > LINE_PATIENCE => give_up(input, b""),
        _ => Step::Partial(Partial::Line { scanned: input.len() }),
    }
}

/// What memcached looks at before it waits longer for a line's end.
fn begins_with_get(input: &[u8]) -> bool {
    const SPACES_MAX: usize = 100;
    let spaces = input.iter().take(SPACES_MAX + 1).take_while(|&&byte| byte == b' ').count();
    let text = &input[spaces..];
    spaces <= SPACES_MAX && (text.starts_with(b"get ") || text.starts_with(b"gets "))
}

fn give_up<'a>(input: &'a [u8], answer: &'static [u8]) -> Step<'a> {
    Step::Refused(Refusal { answer, consumed: input.len(), close: true, ..Refusal::default() })
}
