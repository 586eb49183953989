//! Answers to the classic text commands, in memcached 1.6.18's bytes.

use super::meta;
use super::stats;
use super::store::{Clock, Deleted, Delta, Item, Mode, NoRoom, Outcome, Put, Store};
use crate::limits::KEY_MAX;
use crate::protocol::answers;
use crate::protocol::number::Decimal;
use crate::protocol::text::{self as txt, Keys, Request, StoreVerb};

const STORED: &[u8] = b"STORED\r\n";
const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
const EXISTS: &[u8] = b"EXISTS\r\n";
const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
const DELETED: &[u8] = b"DELETED\r\n";
const TOUCHED: &[u8] = b"TOUCHED\r\n";
const OK: &[u8] = b"OK\r\n";
const END: &[u8] = b"END\r\n";
const NO_MEMORY_TO_STORE: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";
const NO_MEMORY: &[u8] = b"SERVER_ERROR out of memory\r\n";
pub(super) const NON_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
const NOT_HERE: &[u8] = b"SERVER_ERROR an embedded backend has no such command\r\n";

/// What is left to do after a request.
#[derive(Debug)]
pub(super) enum After {
    /// Nothing.
    Done,
    /// The client wants the connection closed.
    Quit,
    /// The answer is not whole.
    Rest(RestOfGet),
}

/// Carries out `request` and appends its answer to `out`, which is full at `full` bytes.
#[inline]
pub(super) fn answer(
    request: Request,
    store: &mut Store,
    clock: Clock,
    out: &mut Vec<u8>,
    full: usize,
) -> After {
    match request {
        Request::Get { with_cas, key } => {
            if let Some(item) = store.get(key, clock) {
                value(key, item, with_cas, out);
            }
            out.extend_from_slice(END);
        }
        Request::GetMany { with_cas, keys } => {
            return get_many(GetKind { with_cas, exptime: None }, keys, store, clock, out, full);
        }
        Request::Gat { with_cas, exptime, keys } => {
            return get_many(GetKind { with_cas, exptime: Some(exptime) }, keys, store, clock, out, full);
        }
        Request::Meta(request) => meta::answer(&request, store, clock, out),
        Request::Store(request) => {
            let answer = put(&request, store, clock);
            say(request.noreply, answer, out);
        }
        Request::Delete { key, noreply } => {
            let answer = match store.delete(key, None, clock) {
                Deleted::Done => DELETED,
                _ => NOT_FOUND,
            };
            say(noreply, answer, out);
        }
        Request::Arithmetic { decrement, key, delta, noreply } => {
            let answer = store.arithmetic(key, decrement, delta, 0, clock);
            if !noreply {
                new_number(answer, out);
            }
        }
        Request::Touch { key, exptime, noreply } => {
            let there = store.touch(key, exptime.into(), clock);
            say(noreply, if there { TOUCHED } else { NOT_FOUND }, out);
        }
        Request::FlushAll { delay, noreply } => {
            store.flush_all(delay.unwrap_or(0).into(), clock);
            say(noreply, OK, out);
        }
        Request::Verbosity { noreply } => say(noreply, OK, out),
        Request::Version => {
            out.extend_from_slice(b"VERSION ");
            out.extend_from_slice(stats::VERSION);
            out.extend_from_slice(b"\r\n");
        }
        Request::Stats { arguments } => about(arguments, store, clock, out),
        Request::Administrative { .. } => out.extend_from_slice(NOT_HERE),
        Request::Quit => return After::Quit,
    }
    After::Done
}

/// A get of many keys, of which the first ones are answered.
#[derive(Debug)]
pub(super) struct RestOfGet {
    kind: GetKind,
    /// The keys that are left, each with a space behind it, from `start` on.
    keys: Vec<u8>,
    start: usize,
}

/// Which get it is.
#[derive(Clone, Copy, Debug)]
struct GetKind {
    with_cas: bool,
    /// For `gat` and `gats`.
    exptime: Option<i32>,
}

impl RestOfGet {
    /// Answers more keys. Whether it was all.
    pub(super) fn go_on(&mut self, store: &mut Store, clock: Clock, out: &mut Vec<u8>, full: usize) -> bool {
        for key in Keys::new(&self.keys[self.start..]) {
            if out.len() >= full {
                return false;
            }
            get_one(self.kind, key, store, clock, out);
            self.start += key.len() + 1;
        }
        out.extend_from_slice(END);
        true
    }
}

fn get_many(
    kind: GetKind,
    mut keys: Keys,
    store: &mut Store,
    clock: Clock,
    out: &mut Vec<u8>,
    full: usize,
) -> After {
    let start = out.len();
    while let Some(key) = keys.next() {
        if key.len() > KEY_MAX {
            return bad_key(start, out);
        }
        get_one(kind, key, store, clock, out);
        if out.len() < full {
            continue;
        }
        // What was written so far can only be taken back now. The keys up to the bad one are read all the
        // same.
        if keys.into_iter().any(|key| key.len() > KEY_MAX) {
            for key in keys.take_while(|key| key.len() <= KEY_MAX) {
                find(kind, key, store, clock);
            }
            return bad_key(start, out);
        }
        let mut rest = Vec::new();
        for key in keys {
            rest.extend_from_slice(key);
            rest.push(b' ');
        }
        return After::Rest(RestOfGet { kind, keys: rest, start: 0 });
    }
    out.extend_from_slice(END);
    After::Done
}

/// One key that is too long spoils the whole answer.
fn bad_key(start: usize, out: &mut Vec<u8>) -> After {
    out.truncate(start);
    out.extend_from_slice(answers::BAD_FORMAT);
    After::Done
}

fn get_one(kind: GetKind, key: &[u8], store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    if let Some(item) = find(kind, key, store, clock) {
        value(key, item, kind.with_cas, out);
    }
}

fn find<'s>(kind: GetKind, key: &[u8], store: &'s mut Store, clock: Clock) -> Option<&'s Item> {
    match kind.exptime {
        None => store.get(key, clock),
        Some(exptime) => store.get_and_touch(key, exptime.into(), clock),
    }
}

#[inline]
fn value(key: &[u8], item: &Item, with_cas: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    number(item.flags.into(), out);
    number(item.value.len() as u64, out);
    if with_cas {
        number(item.cas, out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&item.value);
    out.extend_from_slice(b"\r\n");
}

/// A space and a number.
fn number(number: u64, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(Decimal::new(number).as_bytes());
}

fn say(noreply: bool, answer: &[u8], out: &mut Vec<u8>) {
    if !noreply {
        out.extend_from_slice(answer);
    }
}

fn put(request: &txt::Store, store: &mut Store, clock: Clock) -> &'static [u8] {
    let put = Put {
        mode: mode(request.verb),
        key: request.key,
        value: request.value,
        flags: request.flags,
        exptime: request.exptime.into(),
        cas: request.cas,
        base64: false,
        stale: false,
    };
    match store.put(&put, clock) {
        Ok(Outcome::Stored(_)) => STORED,
        Ok(Outcome::NotStored) => NOT_STORED,
        Ok(Outcome::Exists) => EXISTS,
        Ok(Outcome::NotFound) => NOT_FOUND,
        Err(why) => {
            if put.mode == Mode::Set {
                store.unlink(put.key, clock);
            }
            no_room(why)
        }
    }
}

/// memcached's words for a value that there is no room for.
pub(super) fn no_room(why: NoRoom) -> &'static [u8] {
    match why {
        NoRoom::TooLarge => answers::TOO_LARGE,
        NoRoom::OutOfMemory => NO_MEMORY_TO_STORE,
    }
}

fn mode(verb: StoreVerb) -> Mode {
    match verb {
        StoreVerb::Set => Mode::Set,
        StoreVerb::Add => Mode::Add,
        StoreVerb::Replace => Mode::Replace,
        StoreVerb::Append => Mode::Append,
        StoreVerb::Prepend => Mode::Prepend,
        StoreVerb::Cas => Mode::Cas,
    }
}

fn new_number(answer: Delta, out: &mut Vec<u8>) {
    match answer {
        Delta::Done { value, .. } => {
            out.extend_from_slice(Decimal::new(value).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Delta::NotFound => out.extend_from_slice(NOT_FOUND),
        Delta::NonNumeric => out.extend_from_slice(NON_NUMERIC),
        Delta::OutOfMemory => out.extend_from_slice(NO_MEMORY),
        // Without a token nothing can be compared.
        Delta::Exists => out.extend_from_slice(EXISTS),
    }
}

fn about(arguments: &[u8], store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    match arguments.split(|&byte| byte == b' ').next().unwrap_or_default() {
        b"" => {
            for (name, value) in stats::general(store, clock) {
                out.extend_from_slice(format!("STAT {name} {value}\r\n").as_bytes());
            }
            out.extend_from_slice(END);
        }
        b"reset" => {
            store.counters = Default::default();
            out.extend_from_slice(b"RESET\r\n");
        }
        b"items" | b"slabs" | b"sizes" | b"settings" | b"conns" => out.extend_from_slice(END),
        _ => out.extend_from_slice(answers::ERROR),
    }
}
