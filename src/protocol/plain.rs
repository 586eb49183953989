//! The requests that most of the traffic is made of, read in one pass and without a search for the line's
//! end. They are taken only if they stand exactly as we would write them ([`super::compose`]): one space
//! between words, numbers in range without sign or leading zero, CR LF. A backend can be sent such bytes as
//! they are. Whatever is written otherwise is left to [`super::text::parse`], which says the same of these.

use std::hint::cold_path;

use super::text::{Store, StoreVerb};
use super::{number, scan};
use crate::limits::KEY_MAX;

/// `get` or `gets` of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainGet<'a> {
    /// `gets`: with CAS token.
    pub with_cas: bool,
    /// 1 to 250 bytes.
    pub key: &'a [u8],
    /// Bytes of the line, its end included.
    pub total: usize,
}

/// A `get` or `gets` of one key. `None` where a closer look is needed.
#[inline]
pub fn plain_get(input: &[u8], get_line_max: usize) -> Option<PlainGet<'_>> {
    let (verb, rest) = input.split_first_chunk()?;
    let (with_cas, rest) = match u32::from_le_bytes(*verb) {
        GET => (false, rest),
        GETS => (true, rest.strip_prefix(b" ")?),
        _ => return None,
    };
    // Most keys end within 32 bytes; a line end behind one of them is sure to be there then.
    if let Some((start, _)) = rest.split_first_chunk::<33>()
        && let Some(length) = scan::short_word_end(start.first_chunk()?)
    {
        let end = [*start.get(length)?, *start.get(length + 1)?];
        let total = input.len() - rest.len() + length + b"\r\n".len();
        usual_if(end == *b"\r\n")?;
        usual_if(length > 0)?;
        usual_if(total <= get_line_max)?;
        return Some(PlainGet { with_cas, key: &start[..length], total });
    }
    let (key, end) = first_key(rest)?;
    let total = input.len() - behind_line_end(end)?.len();
    usual_if(total <= get_line_max)?;
    Some(PlainGet { with_cas, key, total })
}

/// A storage command with its value, and the bytes it had. `None` where a closer look is needed, and where
/// its value is not whole.
#[inline]
pub fn plain_store(input: &[u8], value_max: usize) -> Option<(Store<'_>, usize)> {
    let line = StoreLine::read(input, value_max)?;
    whole_value(input, line.behind, line.length).map(|(value, total)| (line.store(value), total))
}

/// A key of 1 to 250 bytes at the start of `text`, and what follows it.
#[inline(always)]
pub(super) fn first_key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = scan::key_end(text);
    usual_if((1..=KEY_MAX).contains(&length))?;
    usual(text.split_at_checked(length))
}

/// The value at the start of `behind`, which is the end of `input`, and the bytes of the frame that it ends.
#[inline]
pub(super) fn whole_value<'a>(input: &[u8], behind: &'a [u8], length: usize) -> Option<(&'a [u8], usize)> {
    let (value, end) = usual(behind.split_at_checked(length))?;
    let behind = behind_line_end(end)?;
    Some((value, input.len() - behind.len()))
}

/// The line of a plain storage command.
pub(super) struct StoreLine<'a> {
    verb: StoreVerb,
    key: &'a [u8],
    flags: u32,
    exptime: i32,
    cas: u64,
    noreply: bool,
    /// Bytes of the value, at most what is allowed.
    pub(super) length: usize,
    /// The input from the line's end on.
    pub(super) behind: &'a [u8],
}

impl<'a> StoreLine<'a> {
    /// Reads the line at the start of `input`. A part of its callers: what it finds is not put together.
    #[inline(always)]
    pub(super) fn read(input: &'a [u8], value_max: usize) -> Option<StoreLine<'a>> {
        let (start, rest) = input.split_first_chunk()?;
        let (verb, rest) = match u32::from_le_bytes(*start) {
            SET => (StoreVerb::Set, rest),
            _ => other_verb(*start, rest)?,
        };
        let (key, rest) = first_key(rest)?;
        let (flags, rest) = number::<{ u32::MAX as u64 }>(rest)?;
        let (exptime, rest) = number::<{ i32::MAX as u64 }>(rest)?;
        let (length, rest) = number::<{ i32::MAX as u64 - 2 }>(rest)?;
        let (cas, rest) = if verb == StoreVerb::Cas { number::<{ u64::MAX }>(rest)? } else { (0, rest) };
        let (noreply, behind) = match behind_line_end(rest) {
            Some(behind) => (false, behind),
            None => (true, rest.strip_prefix(b" noreply\r\n")?),
        };
        let (flags, exptime, length) = (flags as u32, exptime as i32, length as usize);
        usual_if(length <= value_max)?;
        Some(StoreLine { verb, key, flags, exptime, cas, noreply, length, behind })
    }

    /// The command, with its value.
    #[inline]
    pub(super) fn store(&self, value: &'a [u8]) -> Store<'a> {
        let StoreLine { verb, key, flags, exptime, cas, noreply, .. } = *self;
        Store { verb, key, flags, exptime, cas, value, noreply, canonical: true }
    }
}

const GET: u32 = u32::from_le_bytes(*b"get ");
const GETS: u32 = u32::from_le_bytes(*b"gets");
const SET: u32 = u32::from_le_bytes(*b"set ");

/// The storage commands but `set`: the first four bytes, and what follows the space.
#[inline]
fn other_verb(start: [u8; 4], rest: &[u8]) -> Option<(StoreVerb, &[u8])> {
    match &start {
        b"add " => Some((StoreVerb::Add, rest)),
        b"cas " => Some((StoreVerb::Cas, rest)),
        b"repl" => Some((StoreVerb::Replace, rest.strip_prefix(b"ace ")?)),
        b"appe" => Some((StoreVerb::Append, rest.strip_prefix(b"nd ")?)),
        b"prep" => Some((StoreVerb::Prepend, rest.strip_prefix(b"end ")?)),
        _ => None,
    }
}

/// A space and a number of at most `MAX` in the only way to write it, and what follows. What ends the number
/// is the caller's to judge.
#[inline]
pub(super) fn number<const MAX: u64>(text: &[u8]) -> Option<(u64, &[u8])> {
    const { assert!(MAX > 999, "three digits are not compared with it") }
    let [space, digits @ ..] = usual(text.first_chunk::<5>())?;
    usual_if(*space == b' ')?;
    if digits[0] == b'0' {
        // A digit behind it is found by the caller, who expects a separator.
        return Some((0, &text[2..]));
    }
    match number::up_to_three(*digits) {
        Some((number, length)) => Some((u64::from(number), &text[1 + length..])),
        None => long_number(&text[1..], MAX),
    }
}

/// Four digits and more, or none.
#[inline(never)]
fn long_number(text: &[u8], max: u64) -> Option<(u64, &[u8])> {
    match text.first_chunk().and_then(|text| number::up_to_seven(*text)) {
        Some((number, length)) if u64::from(number) <= max => Some((u64::from(number), &text[length..])),
        Some(_) => None,
        None => longest_number(text, max),
    }
}

/// Eight digits and more, or none; and numbers near the end of the input.
#[cold]
#[inline(never)]
fn longest_number(text: &[u8], max: u64) -> Option<(u64, &[u8])> {
    let (digits, rest) = text.split_at(number::leading_digits(text));
    let number = number::digits(digits)?;
    (number <= max).then_some((number, rest))
}

/// What follows the CR LF at the start of `text`.
#[inline(always)]
pub(super) fn behind_line_end(text: &[u8]) -> Option<&[u8]> {
    let (start, behind) = usual(text.split_first_chunk::<2>())?;
    usual_if(start == b"\r\n")?;
    Some(behind)
}

/// Says that `None` is rare: else the compiler works out several conditions before it jumps once.
#[inline(always)]
pub(super) fn usual<T>(found: Option<T>) -> Option<T> {
    if found.is_none() {
        cold_path();
    }
    found
}

/// The same for a condition.
#[inline(always)]
pub(super) fn usual_if(holds: bool) -> Option<()> {
    usual(holds.then_some(()))
}
