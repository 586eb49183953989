//! Requests to bytes, and bytes of replies checked, in each of memcached's protocols.
//!
//! A reply is looked at where it was read. It must be, to the byte, one that memcached gives to what was
//! asked: the right form, the right key, a value that belongs to that key, in the order asked. The only
//! freedom is which write a value is of, whether a key is there, and the number of a CAS token.

use std::sync::Arc;

use crate::arguments::{Plan, Protocol};
use crate::items::Items;
use crate::requests::{Asked, Op, key_of_multiget};
use crate::tally::Tally;

mod binary;
mod meta;
#[cfg(test)]
mod tests;
mod text;

/// Longest line of an error that is waited for, bytes.
const ERROR_LINE_MAX: usize = 2048;

/// Bytes of a reply around a value, at most: verb, key, numbers, line ends.
const FRAME_MAX: usize = 512;

/// What stands at the start of the unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not whole yet.
    More,
    /// A part of the reply of so many bytes; the rest follows.
    Part(usize),
    /// The end of the reply, of so many bytes.
    Done(usize),
}

/// One protocol, and what the run asks in it.
pub(crate) struct Wire {
    items: Arc<Items>,
    form: Form,
    /// Keys of a multiget.
    multiget: u64,
    /// Keys that each of them is drawn from; what is left over at the end is never asked for.
    width: u64,
    tolerate_errors: bool,
}

enum Form {
    Text(text::Form),
    Meta(meta::Form),
    Binary,
}

/// How far the reply to one request has been read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Keys whose values came or can't come any more.
    pub(crate) key: u64,
    /// An error stood in the reply.
    failed: bool,
}

impl Wire {
    /// What a plan asks.
    pub(crate) fn new(plan: &Plan, items: Arc<Items>) -> Self {
        let form = match plan.protocol {
            Protocol::Text => Form::Text(text::Form::new(items.value_bytes(), plan.gets)),
            Protocol::Meta => Form::Meta(meta::Form::new(items.value_bytes())),
            Protocol::Binary => Form::Binary,
        };
        let (multiget, width) = (plan.multiget, plan.keys / plan.multiget);
        Wire { items, form, multiget, width, tolerate_errors: plan.tolerate_errors }
    }

    /// Appends a request. A set's value is the `version`th of `client`.
    #[inline]
    pub(crate) fn put(&self, asked: &Asked, client: u32, version: u64, out: &mut Vec<u8>) {
        match (&self.form, asked.op) {
            (Form::Text(form), Op::Set) => form.put_set(self, asked.subject, out),
            (Form::Text(form), _) => form.put_read(self, asked, out),
            (Form::Meta(form), Op::Set) => form.put_set(self, asked.subject, out),
            (Form::Meta(form), _) => form.put_read(self, asked, out),
            (Form::Binary, Op::Set) => binary::put_set(self, asked, out),
            (Form::Binary, _) => binary::put_read(self, asked, out),
        }
        if asked.op == Op::Set {
            self.items.put_value(asked.subject, client, version, out);
            if !matches!(self.form, Form::Binary) {
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Looks at the start of `input`, in which the next bytes of the reply to `asked` are.
    ///
    /// # Errors
    /// What is wrong with them.
    #[inline]
    pub(crate) fn take(
        &self,
        asked: &Asked,
        reading: &mut Reading,
        tally: &mut Tally,
        input: &[u8],
    ) -> Result<Step, &'static str> {
        let step = match (&self.form, asked.op) {
            (Form::Text(_), Op::Set) => text::stored(self, reading, input),
            (Form::Text(form), _) => form.read(self, asked, reading, tally, input),
            (Form::Meta(_), Op::Set) => meta::stored(self, asked.subject, reading, input),
            (Form::Meta(form), _) => form.read(self, asked, reading, tally, input),
            (Form::Binary, Op::Set) => binary::stored(self, asked, reading, input),
            (Form::Binary, _) => binary::read(self, asked, reading, tally, input),
        }?;
        if let Step::Done(_) = step {
            tally.errors += u64::from(reading.failed);
            *reading = Reading::default();
        }
        Ok(step)
    }

    /// Opaques that a request uses up.
    pub(crate) fn opaques(&self, op: Op) -> u32 {
        if op == Op::Multiget { self.multiget as u32 + 1 } else { 1 }
    }

    /// The most bytes of a reply that must be there in one piece.
    pub(crate) fn frame_max(&self) -> usize {
        (FRAME_MAX + self.items.value_bytes()).max(ERROR_LINE_MAX)
    }

    /// Values are so large that one does not fit in a read.
    pub(crate) fn is_large(&self) -> bool {
        self.items.value_bytes() >= crate::inbox::READ_BYTES / 4
    }

    /// A request as it was sent, a set without its value.
    pub(crate) fn shown(&self, asked: &Asked) -> Vec<u8> {
        let mut request = Vec::new();
        self.put(asked, 0, 0, &mut request);
        if asked.op == Op::Set {
            let value = self.items.value_bytes() + if matches!(self.form, Form::Binary) { 0 } else { 2 };
            request.truncate(request.len() - value);
        }
        request
    }

    /// Keys that `asked` asks for.
    #[inline]
    fn count(&self, asked: &Asked) -> u64 {
        if asked.op == Op::Multiget { self.multiget } else { 1 }
    }

    /// The number of the `place`th key that `asked` asks for.
    #[inline]
    fn number(&self, asked: &Asked, place: u64) -> u64 {
        match asked.op {
            Op::Multiget => key_of_multiget(asked.subject, place, self.width),
            Op::Get | Op::Set => asked.subject,
        }
    }

    /// The first place from `start` on at which `key` was asked for, and its number.
    #[inline]
    fn place_of(&self, asked: &Asked, key: &[u8], start: u64) -> Result<(u64, u64), &'static str> {
        (start..self.count(asked))
            .map(|place| (place, self.number(asked, place)))
            .find(|&(_, number)| self.items.key(number) == key)
            .ok_or("a value of a key that was not asked for, or not in its turn")
    }

    /// A value has come for the key at `place`; those between it and the last one are not there.
    #[inline]
    fn came(reading: &mut Reading, tally: &mut Tally, place: u64) {
        tally.hits += 1;
        tally.misses += place - reading.key;
        reading.key = place + 1;
    }

    /// No more values come.
    #[inline]
    fn ended(&self, asked: &Asked, reading: &mut Reading, tally: &mut Tally) {
        if !reading.failed {
            tally.misses += self.count(asked) - reading.key;
        }
    }

    /// The length of the line of an error, if it is one that is only counted.
    fn error_line(&self, input: &[u8]) -> Result<Option<usize>, &'static str> {
        const ERROR: &[u8] = b"SERVER_ERROR ";
        const OTHER: &str = "not an answer to this request";
        if begins(input, ERROR) {
            return Ok(None);
        }
        if !input.starts_with(ERROR) {
            return Err(OTHER);
        }
        match input.iter().position(|&byte| byte == b'\n') {
            None if input.len() < ERROR_LINE_MAX => Ok(None),
            Some(end) if input[end - 1] == b'\r' => {
                if self.tolerate_errors {
                    Ok(Some(end + 1))
                } else {
                    Err("an error")
                }
            }
            _ => Err(OTHER),
        }
    }
}

/// `input` is a first part of `whole`, and not all of it.
#[inline]
fn begins(input: &[u8], whole: &[u8]) -> bool {
    input.len() < whole.len() && whole.starts_with(input)
}

/// Takes `expected` from the start of `rest`. `Ok(false)` if it may still come.
#[inline]
fn expect(rest: &mut &[u8], expected: &[u8]) -> Result<bool, ()> {
    match rest.split_at_checked(expected.len()) {
        Some((start, behind)) if start == expected => {
            *rest = behind;
            Ok(true)
        }
        Some(_) => Err(()),
        None if begins(rest, expected) => Ok(false),
        None => Err(()),
    }
}
