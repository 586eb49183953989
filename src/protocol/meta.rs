//! Requests of the meta protocol (memcached's doc/protocol.txt, "Meta Commands"). Its lines arrive on the
//! same connections as classic text; [`super::text::parse`] calls in here.

use super::commands::{self, Line};
use super::text::{Keys, Refusal, Request, Step};
use super::{answers, base64, number};
use crate::limits::{BACKEND_LINE_MAX, KEY_MAX};

/// The meta commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVerb {
    /// `mg`
    Get,
    /// `ms`
    Set,
    /// `md`
    Delete,
    /// `ma`
    Arithmetic,
    /// `me`
    Debug,
    /// `mn`: no key, no flags.
    Noop,
}

/// A meta command whose flags were checked as far as its framing depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which of them.
    pub verb: MetaVerb,
    /// As written on the line: base64 if `base64`. 1 to 250 bytes; empty for `mn`.
    pub key: &'a [u8],
    /// The part of the line after the key (and after the length, for `ms`): flags, separated by spaces. The
    /// words of an `me` that memcached does not look at are left out.
    pub flags: &'a [u8],
    /// The value of `ms`, without its CR LF.
    pub value: &'a [u8],
    /// Flag `b`: the key is placed by what it decodes to.
    pub base64: bool,
    /// Flag `q`: the expected answer is not wanted.
    pub quiet: bool,
    /// Flag `c`: the answer carries the item's CAS token.
    pub returns_cas: bool,
    /// Flag `C`: to be applied only if the item's CAS token is the one given.
    pub compares_cas: bool,
    /// Flags that make `mg` change the item (`N`, `T`, `R`, `E`, ...).
    pub modifies: bool,
    /// Flags `O` and `k`: the answer bears the opaque, and the key.
    pub echoes: bool,
    /// The request stands as we would write it, its `q` apart: see [`super::compose::meta`].
    pub canonical: bool,
}

impl Meta<'_> {
    /// The bytes that decide where the key lives: the key, or what it decodes to. `scratch` lends the room.
    pub fn placement_key<'s>(&'s self, scratch: &'s mut [u8; 256]) -> &'s [u8] {
        // A base64 key was checked when the line was read.
        if self.base64 { base64::decode(self.key, scratch).unwrap_or_default() } else { self.key }
    }
}

/// Reads the meta command `m` + `letter` of `line`.
pub(super) fn parse(line: Line<'_>, letter: u8) -> Step<'_> {
    match letter {
        b'g' => without_value(line, MetaVerb::Get),
        b's' => set(line),
        b'd' => without_value(line, MetaVerb::Delete),
        b'a' => without_value(line, MetaVerb::Arithmetic),
        b'e' => debug(line),
        b'n' => line.request(Request::Meta(Flags::default().meta(MetaVerb::Noop, b"", b"", b""))),
        _ => line.refuse(answers::ERROR),
    }
}

/// Most words after the verb: memcached has the verb and an end mark in its limit of 20.
const WORDS_MAX: usize = 18;

/// Longest opaque flag in bytes, its letter included.
const OPAQUE_MAX: usize = 32;

/// `mg`, `md` and `ma`: one line each, so the backend may find the faults that matter neither to the key's
/// place nor to what newer versions allow.
fn without_value(mut line: Line<'_>, verb: MetaVerb) -> Step<'_> {
    let Some(key) = line.word() else { return line.refuse(answers::ERROR) };
    if key.len() > KEY_MAX {
        return line.refuse(answers::BAD_FORMAT);
    }
    if has_more_than(WORDS_MAX - 1, line.words) {
        let get = verb == MetaVerb::Get;
        return line.refuse(if get { answers::FLAGS_ARE_TOO_LONG } else { answers::FLAGS_TOO_LONG });
    }
    match Flags::read(verb, key, line.words) {
        Err(answer) if verb == MetaVerb::Get => line.refuse(answer),
        Err(_) => line.refuse(answers::INVALID_OR_DUPLICATE_FLAG),
        Ok(flags) if flags.line_bytes(key, None) > BACKEND_LINE_MAX => line.refuse(answers::LINE_TOO_LONG),
        Ok(flags) => line.request(Request::Meta(flags.meta(verb, key, line.words.trimmed(), b""))),
    }
}

/// `ms`. memcached swallows the value of a wrong one if it came to read the length; if not, it takes the
/// value for commands. A request goes on only if no memcached can do the latter.
fn set(mut line: Line<'_>) -> Step<'_> {
    let Some(key) = line.word() else { return line.refuse(answers::ERROR) };
    let Some(length) = line.word() else { return line.refuse(answers::BAD_FORMAT) };
    if key.len() > KEY_MAX {
        return line.refuse(answers::BAD_FORMAT);
    }
    if has_more_than(WORDS_MAX - 2, line.words) {
        return line.refuse(answers::FLAGS_TOO_LONG);
    }
    let Some(length) = commands::value_length(length) else { return line.refuse(answers::BAD_FORMAT) };
    let flags = Flags::read(MetaVerb::Set, key, line.words);
    let flags = match flags.and_then(|flags| flags.of_set(key, length)) {
        Ok(flags) => flags,
        Err(answer) => return Step::Refused(line.swallow(length, answer)),
    };
    if length > line.value_max {
        let refusal = line.swallow(length, answers::TOO_LARGE);
        return Step::Refused(Refusal { unlink: Some(key), unlink_base64: flags.base64, ..refusal });
    }
    match line.value(length, false) {
        Ok(value) => {
            let meta = flags.meta(MetaVerb::Set, key, line.words.trimmed(), value);
            Step::Request(Request::Meta(meta), line.bytes + length + 2)
        }
        Err(step) => step,
    }
}

/// `me key [b]`: memcached looks at no other word.
fn debug(mut line: Line<'_>) -> Step<'_> {
    let Some(key) = line.word() else { return line.refuse(answers::BAD_FORMAT) };
    let flag = line.word().filter(|&flag| flag == b"b");
    let base64 = flag.is_some();
    if key.len() > KEY_MAX || (base64 && base64::decode(key, &mut [0; 256]).is_none()) {
        return line.refuse(answers::BAD_FORMAT);
    }
    let flags = Flags { base64, ..Flags::default() };
    line.request(Request::Meta(flags.meta(MetaVerb::Debug, key, flag.unwrap_or_default(), b"")))
}

/// Each word has a space before it, so a short rest of a line need not be counted.
fn has_more_than(count: usize, mut words: Keys<'_>) -> bool {
    words.trimmed().len() > 2 * count && words.nth(count).is_some()
}

/// What the flags of a line say.
#[derive(Default)]
struct Flags {
    base64: bool,
    quiet: bool,
    returns_cas: bool,
    compares_cas: bool,
    modifies: bool,
    echoes: bool,
    /// Flags that 1.6.18 does not know and newer versions do.
    newer: bool,
    mode: Option<u8>,
    opaque_bytes: usize,
    /// Bytes of the flags and of one space before each.
    bytes: usize,
}

impl Flags {
    /// Reads flags as 1.6.18 does in _meta_flag_preparse: it stops at a flag that it does not know or that
    /// came before, and of the other faults the last one decides the answer. `key` is what `b` is about.
    fn read(verb: MetaVerb, key: &[u8], words: Keys<'_>) -> Result<Flags, &'static [u8]> {
        let mut flags = Flags::default();
        let mut seen = 0u128;
        let mut fault = None;
        for word in words {
            let (letter, token) = (word[0], &word[1..]);
            if letter >= 127 || seen >> letter & 1 == 1 {
                return Err(flags.fault(answers::DUPLICATE_FLAG));
            }
            seen |= 1 << letter;
            flags.note(verb, letter, word);
            match judge(verb, letter, token, key) {
                Token::Fine => {}
                Token::Unknown => return Err(answers::INVALID_FLAG),
                // A wrong F has no words of its own.
                Token::Wrong(answers::BAD_FORMAT) => fault = fault.or(Some(answers::BAD_FORMAT)),
                Token::Wrong(answer) => fault = Some(answer),
            }
        }
        match fault {
            Some(answer) => Err(flags.fault(answer)),
            None => Ok(flags),
        }
    }

    fn note(&mut self, verb: MetaVerb, letter: u8, word: &[u8]) {
        self.bytes += 1 + word.len();
        match letter {
            b'b' => self.base64 = true,
            b'q' => self.quiet = true,
            b'c' => self.returns_cas = true,
            b'C' => self.compares_cas = true,
            b'N' | b'T' | b'R' | b'E' => self.modifies |= verb == MetaVerb::Get,
            b'M' => self.mode = word.get(1).copied(),
            b'O' => (self.opaque_bytes, self.echoes) = (word.len(), true),
            b'k' => self.echoes = true,
            _ => {}
        }
        self.newer |= matches!(letter, b'E' | b'x');
    }

    /// The words for a line with a fault: 1.6.18 stops at a flag that it does not know.
    fn fault(&self, answer: &'static [u8]) -> &'static [u8] {
        if self.newer { answers::INVALID_FLAG } else { answer }
    }

    /// The faults that memcached finds in an `ms` once its flags are read.
    fn of_set(self, key: &[u8], length: usize) -> Result<Flags, &'static [u8]> {
        if !matches!(self.mode, None | Some(b'E' | b'A' | b'P' | b'R' | b'S')) {
            Err(self.fault(answers::BAD_MODE))
        } else if self.opaque_bytes > OPAQUE_MAX {
            Err(self.fault(answers::OPAQUE_TOO_LONG))
        } else if self.line_bytes(key, Some(length)) > BACKEND_LINE_MAX {
            Err(answers::LINE_TOO_LONG)
        } else {
            Ok(self)
        }
    }

    /// Bytes of the line that a backend would get.
    fn line_bytes(&self, key: &[u8], length: Option<usize>) -> usize {
        let length = length.map_or(0, |length| 1 + number::Decimal::new(length as u64).as_bytes().len());
        b"m? ".len() + key.len() + length + self.bytes + b"\r\n".len()
    }

    fn meta<'a>(&self, verb: MetaVerb, key: &'a [u8], flags: &'a [u8], value: &'a [u8]) -> Meta<'a> {
        let Flags { base64, quiet, returns_cas, compares_cas, modifies, echoes, .. } = *self;
        let canonical = false;
        Meta {
            verb,
            key,
            flags,
            value,
            base64,
            quiet,
            returns_cas,
            compares_cas,
            modifies,
            echoes,
            canonical,
        }
    }
}

/// What 1.6.18 says to one flag.
enum Token {
    Fine,
    Wrong(&'static [u8]),
    Unknown,
}

/// Judges the flag `letter` by the `token` behind its letter; `key` is what `b` is about. `E`, and `x` of an
/// `md`, are unknown to 1.6.18 and documented since: the backend judges them.
fn judge(verb: MetaVerb, letter: u8, token: &[u8], key: &[u8]) -> Token {
    let (valid, answer) = match letter {
        b'b' => (base64::decode(key, &mut [0; 256]).is_some(), answers::BAD_BASE64),
        b'N' | b'T' | b'R' => (number::low_i32(token).is_some(), answers::BAD_TOKEN),
        b'C' => (number::u64(token).is_some(), answers::BAD_TOKEN),
        b'F' => (number::low_u32(token).is_some(), answers::BAD_FORMAT),
        b'J' => (number::u64(token).is_some(), answers::BAD_INITIAL),
        b'D' => (number::u64(token).is_some(), answers::BAD_DELTA),
        b'M' => (token.len() == 1, answers::BAD_MODE_LENGTH),
        b'c' | b'f' | b'h' | b'k' | b'l' | b'q' | b's' | b't' | b'u' | b'v' => return Token::Fine,
        b'I' | b'L' | b'O' | b'P' => return Token::Fine,
        b'E' if number::u64(token).is_some() => return Token::Fine,
        b'x' if verb == MetaVerb::Delete => return Token::Fine,
        _ => return Token::Unknown,
    };
    if valid { Token::Fine } else { Token::Wrong(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::text::{self, ParserLimits};

    const LIMITS: ParserLimits = ParserLimits { value_max: 100, get_line_max: 3000 };

    fn meta(input: &str) -> Meta<'_> {
        match text::parse(input.as_bytes(), 0, &LIMITS) {
            Step::Request(Request::Meta(meta), bytes) if bytes == input.len() => meta,
            other => panic!("{input:?}: {other:?}"),
        }
    }

    #[test]
    fn flags_say_what_routing_and_cas_depend_on() {
        let plain = Flags::default().meta(MetaVerb::Get, b"k", b"", b"");
        assert_eq!(meta("mg k\r\n"), Meta { canonical: true, ..plain });
        assert_eq!(meta("mg  k  v  c \r\n"), Meta { flags: b"v  c", returns_cas: true, ..plain });
        let quiet = Meta { flags: b"q N30", quiet: true, modifies: true, ..plain };
        assert_eq!(meta("mg k q N30 \r\n"), quiet);
        assert_eq!(meta("mg k q N30\r\n"), Meta { canonical: true, ..quiet });
        let set = Flags::default().meta(MetaVerb::Set, b"YWJj", b"C7 b T30", b"xy");
        let set = Meta { compares_cas: true, base64: true, ..set };
        assert_eq!(meta("ms YWJj 2 C7 b T30\r\nxy\r\n"), set);
        assert_eq!(set.placement_key(&mut [0; 256]), b"abc");
        let echoing = Meta { flags: b"v k", echoes: true, canonical: true, ..plain };
        assert_eq!(meta("mg k v k\r\n"), echoing);
        assert_eq!(meta("mg k O7\r\n"), Meta { flags: b"O7", ..echoing });
        let debug = Flags::default().meta(MetaVerb::Debug, b"k", b"", b"");
        assert_eq!(meta("me k v junk\r\n"), debug);
        assert_eq!(meta("mn k v junk\r\n"), Flags::default().meta(MetaVerb::Noop, b"", b"", b""));
    }

    /// The line that a backend gets has at most 2048 bytes, CR LF included.
    #[test]
    fn a_line_too_long_for_a_backend_is_refused() {
        let refusal = |input: &str| match text::parse(input.as_bytes(), 0, &LIMITS) {
            Step::Refused(refusal) => Some((refusal.answer, refusal.swallow)),
            _ => None,
        };
        for (start, end, swallow) in [("mg k k", "\r\n", 0), ("ms k 2 k", "\r\nxy\r\n", 4)] {
            let longest = BACKEND_LINE_MAX - start.len() - 2;
            assert_eq!(refusal(&format!("{start}{}{end}", "z".repeat(longest))), None);
            let longer = refusal(&format!("{start}{}{end}", "z".repeat(longest + 1)));
            assert_eq!(longer, Some((answers::LINE_TOO_LONG, swallow)));
        }
    }
}
