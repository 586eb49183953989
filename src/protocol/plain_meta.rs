//! Meta commands in one pass, if they stand as we would write them: the meta half of [`super::plain`].

use std::hint::cold_path;

use super::meta::{Meta, MetaVerb};
use super::plain::{behind_line_end, first_key, number, usual, usual_if, whole_value};
use super::scan;
use crate::limits::BACKEND_LINE_MAX;

/// A meta command with its value, and the bytes it had. `None` where a closer look is needed, and where its
/// value is not whole.
#[inline]
pub fn plain_meta(input: &[u8], value_max: usize) -> Option<(Meta<'_>, usize)> {
    let Some(line) = MetaLine::read(input, value_max) else { return plain_noop(input) };
    match line.length {
        None => Some((line.meta(b""), input.len() - line.behind.len())),
        Some(length) => {
            whole_value(input, line.behind, length).map(|(value, total)| (line.meta(value), total))
        }
    }
}

/// `mn`, which ends a run of quiet commands.
pub(super) fn plain_noop(input: &[u8]) -> Option<(Meta<'_>, usize)> {
    const NOOP: &[u8] = b"mn\r\n";
    let meta = Meta {
        verb: MetaVerb::Noop,
        key: b"",
        flags: b"",
        value: b"",
        base64: false,
        quiet: false,
        returns_cas: false,
        compares_cas: false,
        modifies: false,
        echoes: false,
        canonical: false,
    };
    input.starts_with(NOOP).then_some((meta, NOOP.len()))
}

/// The line of a plain meta command.
pub(super) struct MetaLine<'a> {
    verb: MetaVerb,
    key: &'a [u8],
    flags: &'a [u8],
    unseen: u32,
    /// Bytes of the value of an `ms`, at most what is allowed.
    pub(super) length: Option<usize>,
    /// The input from the line's end on.
    pub(super) behind: &'a [u8],
}

impl<'a> MetaLine<'a> {
    /// Reads the line at the start of `input`. A part of its callers: what it finds is not put together.
    #[inline(always)]
    pub(super) fn read(input: &'a [u8], value_max: usize) -> Option<MetaLine<'a>> {
        let start = u32::from_le_bytes(*usual(input.first_chunk())?);
        let verb = if start << 8 == MG { MetaVerb::Get } else { other_verb(start)? };
        let rest = &input[3..];
        let (key, rest) = first_key(rest)?;
        if verb != MetaVerb::Set {
            return MetaLine::with_flags(verb, key, None, rest);
        }
        let (length, rest) = number::<{ i32::MAX as u64 - 2 }>(rest)?;
        usual_if(length <= value_max as u64)?;
        MetaLine::with_flags(verb, key, Some(length as usize), rest)
    }

    /// With the flags at the start of `text`.
    #[inline(always)]
    fn with_flags(verb: MetaVerb, key: &'a [u8], length: Option<usize>, text: &'a [u8]) -> Option<Self> {
        let (mut unseen, mut end) = lone_flags(text);
        let behind = match behind_line_end(end) {
            Some(behind) => behind,
            None => {
                (unseen, end) = other_flags(verb, text)?;
                behind_line_end(end)?
            }
        };
        let flags = &text[..text.len() - end.len()];
        // Few bytes are few flags and a short line.
        if flags.len() > FLAGS_MAX && !fits(unseen, key.len() + flags.len()) {
            cold_path();
            return None;
        }
        Some(MetaLine { verb, key, flags: flags.get(1..).unwrap_or_default(), unseen, length, behind })
    }

    /// The command, with its value.
    #[inline(always)]
    pub(super) fn meta(&self, value: &'a [u8]) -> Meta<'a> {
        let MetaLine { verb, key, flags, unseen, .. } = *self;
        Meta {
            verb,
            key,
            flags,
            value,
            base64: false,
            quiet: unseen & bit(b'q') == 0,
            returns_cas: unseen & bit(b'c') == 0,
            compares_cas: unseen & bit(b'C') == 0,
            modifies: verb == MetaVerb::Get && !unseen & (bit(b'N') | bit(b'T') | bit(b'R')) != 0,
            echoes: !unseen & (bit(b'O') | bit(b'k')) != 0,
            canonical: true,
        }
    }
}

const MG: u32 = u32::from_le_bytes(*b"\0mg ");

/// The commands but `mg`, by the four bytes that a line begins with.
#[inline]
fn other_verb(start: u32) -> Option<MetaVerb> {
    match (start << 8).to_le_bytes() {
        [_, b'm', b's', b' '] => Some(MetaVerb::Set),
        [_, b'm', b'd', b' '] => Some(MetaVerb::Delete),
        [_, b'm', b'a', b' '] => Some(MetaVerb::Arithmetic),
        _ => None,
    }
}

/// Most flags that this parser takes: memcached takes one more for `mg`.
const FLAGS_MAX: usize = 16;

/// Flags that may stand alone, or have a token that nobody looks at. Their bits are the lower 16.
const ALONE: &[u8; 14] = b"cfhklqstuvILOP";

/// Flags that must have a token: numbers, and a mode. Their bits are the upper 16.
const WITH_TOKEN: &[u8; 8] = b"NTRCFDJM";

/// The bit of each flag that this parser takes; zero for the others.
const BITS: [u32; 256] = {
    let mut bits = [0; 256];
    let mut at = 0;
    while at < ALONE.len() {
        bits[ALONE[at] as usize] = 1 << at;
        at += 1;
    }
    at = 0;
    while at < WITH_TOKEN.len() {
        bits[WITH_TOKEN[at] as usize] = 1 << (16 + at);
        at += 1;
    }
    bits
};

#[inline]
const fn bit(letter: u8) -> u32 {
    BITS[letter as usize]
}

/// Reads the flags at the start of `text`, each with a space before it, as long as they have no token: the
/// bits of those that are not among them, and what follows them.
#[inline(always)]
fn lone_flags(text: &[u8]) -> (u32, &[u8]) {
    let (mut unseen, mut rest) = (u32::MAX, text);
    while let [b' ', letter, behind @ ..] = rest {
        let flag = BITS[usize::from(*letter)];
        if (flag & unseen) as u16 == 0 {
            cold_path();
            break;
        }
        unseen ^= flag;
        rest = behind;
    }
    (unseen, rest)
}

/// The same of flags that may have tokens.
#[inline(never)]
fn other_flags(verb: MetaVerb, text: &[u8]) -> Option<(u32, &[u8])> {
    let (mut unseen, mut rest) = (u32::MAX, text);
    while let [b' ', letter, behind @ ..] = rest {
        let flag = BITS[usize::from(*letter)];
        if flag & unseen == 0 {
            return None;
        }
        unseen ^= flag;
        rest = match behind {
            [..=b' ', ..] if flag as u16 != 0 => behind,
            _ => behind_token(verb, *letter, behind)?,
        };
    }
    Some((unseen, rest))
}

/// A line with flags of so many bytes, the key's among them, is one that memcached takes.
#[cold]
#[inline(never)]
fn fits(unseen: u32, bytes: usize) -> bool {
    unseen.count_zeros() as usize <= FLAGS_MAX
        && "ms 2147483647\r\n".len() + " ".len() + bytes <= BACKEND_LINE_MAX
}

/// What follows the token at the start of `text` of the flag `letter`.
#[inline]
fn behind_token(verb: MetaVerb, letter: u8, text: &[u8]) -> Option<&[u8]> {
    if bit(letter) >= bit(b'N') && letter != b'M' {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // So few digits are a number of any kind.
        return (1..=18).contains(&digits).then(|| &text[digits..]);
    }
    let (token, rest) = text.split_at_checked(scan::word_end(text, 0))?;
    let valid = match letter {
        b'M' => token.len() == 1 && (verb != MetaVerb::Set || b"EAPRS".contains(&token[0])),
        b'O' => verb != MetaVerb::Set || token.len() < 32,
        _ => true,
    };
    valid.then_some(rest)
}
