//! Answers to the meta commands, in memcached 1.6.18's bytes: flags in the order of the request, then what
//! the item's state adds (`Z`, `X`, `W`).

use super::base64::encode;
use super::store::{Clock, Deleted, Delta, Mode, Outcome, Put, Store, item_bytes};
use super::table::Place;
use super::text::{NON_NUMERIC, no_room};
use crate::protocol::answers;
use crate::protocol::base64;
use crate::protocol::meta::{Meta, MetaVerb};
use crate::protocol::number::{self, Decimal};
use crate::protocol::text::Keys;

/// Longest opaque with its letter, bytes.
const OPAQUE_MAX: usize = 32;

const BAD_ARITHMETIC_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ma M token\r\n";
const NO_MEMORY: &[u8] = b"SERVER_ERROR out of memory\r\n";

/// Carries out `request` and appends its answer to `out`.
pub(super) fn answer(request: &Meta, store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    let start = out.len();
    let done = match request.verb {
        MetaVerb::Get => get(request, store, clock, out),
        MetaVerb::Set => set(request, store, clock, out),
        MetaVerb::Delete => delete(request, store, clock, out),
        MetaVerb::Arithmetic => arithmetic(request, store, clock, out),
        MetaVerb::Debug => debug(request, store, clock, out),
        MetaVerb::Noop => {
            out.extend_from_slice(b"MN\r\n");
            Ok(Said::Plainly)
        }
    };
    match done {
        Ok(Said::Expectedly) if request.quiet => out.truncate(start),
        Ok(_) => {}
        Err(answer) => {
            out.truncate(start);
            out.extend_from_slice(answer);
        }
    }
}

/// Whether an answer is the one that flag `q` keeps back.
enum Said {
    Expectedly,
    Plainly,
}

/// What is done, or the line that takes the place of the answer.
type Done = Result<Said, &'static [u8]>;

/// What the flags of a line ask for. The parser has checked their form.
#[derive(Default)]
struct Flags {
    exptime: Option<i64>,
    vivify: Option<i64>,
    recache: i64,
    client_flags: u32,
    cas: Option<u64>,
    mode: u8,
    initial: u64,
    delta: Option<u64>,
    value: bool,
    no_update: bool,
    stale: bool,
    /// memcached holds the item's lock, and marks the item as read only after it has answered.
    locks: bool,
}

impl Flags {
    /// `None` where there is one that 1.6.18 does not know: the parser lets pass those of later versions.
    fn read(flags: &[u8]) -> Option<Flags> {
        let mut read = Flags::default();
        for flag in Keys::new(flags) {
            let (letter, text) = (flag[0], &flag[1..]);
            let seconds = || number::low_i32(text).map(i64::from);
            read.locks |= matches!(letter, b'N' | b'T' | b'R' | b'l' | b'h');
            match letter {
                b'N' => read.vivify = seconds(),
                b'T' => read.exptime = seconds(),
                b'R' => read.recache = seconds().unwrap_or(0),
                b'F' => read.client_flags = number::low_u32(text).unwrap_or(0),
                b'C' => read.cas = number::u64(text),
                b'J' => read.initial = number::u64(text).unwrap_or(0),
                b'D' => read.delta = number::u64(text),
                b'M' => read.mode = text.first().copied().unwrap_or(0),
                b'v' => read.value = true,
                b'u' => read.no_update = true,
                b'I' => read.stale = true,
                b'b' | b'c' | b'f' | b'h' | b'k' | b'l' | b'q' | b's' | b't' | b'L' | b'O' | b'P' => {}
                _ => return None,
            }
        }
        Some(read)
    }
}

/// The key that items are found by: decoded, if it came in base64.
struct Key<'a> {
    bytes: &'a [u8],
    base64: bool,
}

impl<'a> Key<'a> {
    fn read(request: &Meta<'a>, room: &'a mut [u8; 256]) -> Result<Key<'a>, &'static [u8]> {
        let bytes = match request.base64 {
            false => request.key,
            true => base64::decode(request.key, room).ok_or(answers::BAD_BASE64)?,
        };
        Ok(Key { bytes, base64: request.base64 })
    }

    fn say(&self, base64: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b" k");
        if base64 {
            encode(self.bytes, out);
            out.extend_from_slice(b" b");
        } else {
            out.extend_from_slice(self.bytes);
        }
    }
}

fn say_number(letter: u8, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b' ', letter]);
    out.extend_from_slice(Decimal::new(number).as_bytes());
}

fn say_opaque(flag: &[u8], out: &mut Vec<u8>) -> Result<(), &'static [u8]> {
    if flag.len() > OPAQUE_MAX {
        return Err(answers::OPAQUE_TOO_LONG);
    }
    out.push(b' ');
    out.extend_from_slice(flag);
    Ok(())
}

/// Seconds until `expires`, as memcached counts them: 32 bits, so that a time in the past comes out huge.
fn say_ttl(expires: u32, now: u32, out: &mut Vec<u8>) {
    match expires {
        0 => out.extend_from_slice(b" t-1"),
        _ => say_number(b't', expires.wrapping_sub(now).into(), out),
    }
}

/// What is said where no item is: the opaque and the key.
fn say_miss(status: &[u8], key: &Key, flags: &[u8], out: &mut Vec<u8>) -> Result<(), &'static [u8]> {
    out.extend_from_slice(status);
    for flag in Keys::new(flags) {
        match flag[0] {
            b'O' => say_opaque(flag, out)?,
            b'k' => key.say(key.base64, out),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn get(request: &Meta, store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Done {
    let mut room = [0; 256];
    let key = Key::read(request, &mut room)?;
    let flags = Flags::read(request.flags).ok_or(answers::INVALID_FLAG)?;
    let found = store.find(key.bytes, clock);
    let created = found.is_none() && flags.vivify.is_some();
    let place = match found {
        Some(place) => place,
        None if created => store.vivify(key.bytes, clock),
        None => {
            count_get(store, &flags, false);
            say_miss(b"EN", &key, request.flags, out)?;
            return Ok(Said::Expectedly);
        }
    };
    if !flags.locks && !flags.no_update {
        store.fetch(place, clock);
    }
    say_item(request, &key, &flags, (place, created), store, clock, out)?;
    if flags.locks && !flags.no_update {
        store.fetch(place, clock);
    }
    count_get(store, &flags, true);
    Ok(Said::Plainly)
}

/// Changes the item as the flags say, and answers with it.
fn say_item(
    request: &Meta,
    key: &Key,
    flags: &Flags,
    (place, created): (Place, bool),
    store: &mut Store,
    clock: Clock,
    out: &mut Vec<u8>,
) -> Result<(), &'static [u8]> {
    let now = store.seconds(clock);
    let expires = store.expiry(flags.exptime.unwrap_or(0), clock);
    let vivified = store.expiry(flags.vivify.unwrap_or(0), clock);
    let recache = store.expiry(flags.recache, clock);
    let item = store.item_mut(place);
    say_status(flags, item.value.len(), out);
    let mut won = false;
    for flag in Keys::new(request.flags) {
        match flag[0] {
            b'T' => item.expires = expires,
            b'N' if created => {
                item.expires = vivified;
                won = true;
            }
            b'R' => won |= !item.token_sent && !created && (1..recache).contains(&item.expires),
            b's' => say_number(b's', item.value.len() as u64, out),
            b't' => say_ttl(item.expires, now, out),
            b'c' => say_number(b'c', item.cas, out),
            b'f' => say_number(b'f', item.flags.into(), out),
            b'l' => say_number(b'l', now.wrapping_sub(item.used).into(), out),
            b'h' => say_number(b'h', item.fetched.into(), out),
            b'O' => say_opaque(flag, out)?,
            b'k' => key.say(item.base64, out),
            _ => {}
        }
    }
    if item.token_sent {
        out.extend_from_slice(b" Z");
    }
    if item.stale {
        out.extend_from_slice(b" X");
        won |= !item.token_sent;
    }
    if won {
        out.extend_from_slice(b" W");
        item.token_sent = true;
    }
    say_value(flags, &item.value, out);
    Ok(())
}

/// The answer's first word and, if it carries the value, its length.
fn say_status(flags: &Flags, value_len: usize, out: &mut Vec<u8>) {
    if flags.value {
        out.extend_from_slice(b"VA ");
        out.extend_from_slice(Decimal::new(value_len as u64).as_bytes());
    } else {
        out.extend_from_slice(b"HD");
    }
}

/// The end of the line and, if it is asked for, the value.
fn say_value(flags: &Flags, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
    if flags.value {
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

fn count_get(store: &mut Store, flags: &Flags, hit: bool) {
    let counters = &mut store.counters;
    let (all, part) = match (flags.exptime.is_some(), hit) {
        (true, true) => (&mut counters.cmd_touch, &mut counters.touch_hits),
        // memcached notices the new expiry time only where there is an item.
        (_, false) => (&mut counters.cmd_get, &mut counters.get_misses),
        (false, true) => (&mut counters.cmd_get, &mut counters.get_hits),
    };
    *all += 1;
    *part += 1;
}

fn set(request: &Meta, store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Done {
    let mut room = [0; 256];
    let key = Key::read(request, &mut room)?;
    let flags = Flags::read(request.flags).ok_or(answers::INVALID_FLAG)?;
    let mode = match (flags.mode, flags.cas) {
        (0 | b'S' | b'R', Some(_)) => Mode::Cas,
        (0 | b'S', None) => Mode::Set,
        (b'R', None) => Mode::Replace,
        (b'E', _) => Mode::Add,
        (b'A', _) => Mode::Append,
        (b'P', _) => Mode::Prepend,
        _ => return Err(answers::BAD_MODE),
    };
    let put = Put {
        mode,
        key: key.bytes,
        value: request.value,
        flags: flags.client_flags,
        exptime: flags.exptime.unwrap_or(0),
        cas: flags.cas.unwrap_or(0),
        base64: key.base64,
        stale: flags.stale,
    };
    let outcome = store.put(&put, clock).map_err(|why| {
        store.unlink(key.bytes, clock);
        no_room(why)
    })?;
    let (status, cas) = match outcome {
        Outcome::Stored(cas) => (b"HD", cas),
        Outcome::NotStored => (b"NS", 0),
        Outcome::Exists => (b"EX", 0),
        Outcome::NotFound => (b"NF", 0),
    };
    out.extend_from_slice(status);
    for flag in Keys::new(request.flags) {
        match flag[0] {
            b'O' => say_opaque(flag, out)?,
            b'k' => key.say(key.base64, out),
            b'c' => say_number(b'c', cas, out),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(if status == b"HD" { Said::Expectedly } else { Said::Plainly })
}

fn delete(request: &Meta, store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Done {
    let mut room = [0; 256];
    let key = Key::read(request, &mut room)?;
    let flags = Flags::read(request.flags).ok_or(answers::INVALID_OR_DUPLICATE_FLAG)?;
    let start = out.len();
    // The opaque is looked at before anything is deleted.
    say_miss(b"HD", &key, request.flags, out)?;
    let deleted = match flags.stale {
        true => store.mark_stale(key.bytes, flags.cas, flags.exptime, clock),
        false => store.delete(key.bytes, flags.cas, clock),
    };
    let status = match deleted {
        Deleted::Done => return Ok(Said::Expectedly),
        Deleted::NotFound => b"NF",
        Deleted::Exists => b"EX",
    };
    out[start..start + 2].copy_from_slice(status);
    Ok(Said::Plainly)
}

/// A number after it was changed, or created.
struct Number {
    value: Decimal,
    cas: u64,
    expires: u32,
    created: bool,
    /// The item that a new expiry time goes to; none where memcached gives it to the item that it has just
    /// replaced by one with more room.
    in_place: bool,
}

fn arithmetic(request: &Meta, store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Done {
    let mut room = [0; 256];
    let key = Key::read(request, &mut room)?;
    let flags = Flags::read(request.flags).ok_or(answers::INVALID_OR_DUPLICATE_FLAG)?;
    let decrement = match flags.mode {
        0 | b'I' | b'+' => false,
        b'D' | b'-' => true,
        _ => return Err(BAD_ARITHMETIC_MODE),
    };
    let delta = flags.delta.unwrap_or(1);
    let number = match store.arithmetic(key.bytes, decrement, delta, flags.cas.unwrap_or(0), clock) {
        Delta::Done { value, cas, expires, in_place } => {
            Number { value: Decimal::new(value), cas, expires, created: false, in_place }
        }
        Delta::NotFound if flags.vivify.is_some() => create_number(&key, flags.initial, store, clock)?,
        Delta::NotFound => {
            say_miss(b"NF", &key, request.flags, out)?;
            return Ok(Said::Plainly);
        }
        Delta::Exists => {
            say_miss(b"EX", &key, request.flags, out)?;
            return Ok(Said::Plainly);
        }
        Delta::NonNumeric => return Err(NON_NUMERIC),
        Delta::OutOfMemory => return Err(NO_MEMORY),
    };
    say_number_item(request, &key, &flags, &number, store, clock, out)?;
    Ok(if number.created { Said::Plainly } else { Said::Expectedly })
}

fn create_number(key: &Key, initial: u64, store: &mut Store, clock: Clock) -> Result<Number, &'static [u8]> {
    let value = Decimal::new(initial);
    let put = Put {
        mode: Mode::Add,
        key: key.bytes,
        value: value.as_bytes(),
        flags: 0,
        exptime: 0,
        cas: 0,
        base64: false,
        stale: false,
    };
    match store.put(&put, clock) {
        Ok(Outcome::Stored(cas)) => Ok(Number { value, cas, expires: 0, created: true, in_place: true }),
        _ => Err(b"SERVER_ERROR Out of memory allocating new item\r\n"),
    }
}

fn say_number_item(
    request: &Meta,
    key: &Key,
    flags: &Flags,
    number: &Number,
    store: &mut Store,
    clock: Clock,
    out: &mut Vec<u8>,
) -> Result<(), &'static [u8]> {
    let digits = number.value.as_bytes();
    say_status(flags, digits.len(), out);
    let mut expires = number.expires;
    // One after the other, so that an error in the middle leaves done what stood before it.
    for flag in Keys::new(request.flags) {
        let new_expiry = match flag[0] {
            b'T' => flags.exptime,
            b'N' if number.created => flags.vivify,
            _ => None,
        };
        if let Some(exptime) = new_expiry {
            expires = store.expiry(exptime, clock);
            if number.in_place {
                store.set_expiry(key.bytes, expires);
            }
        }
        match flag[0] {
            b'c' => say_number(b'c', number.cas, out),
            b't' => say_ttl(expires, store.seconds(clock), out),
            b'O' => say_opaque(flag, out)?,
            b'k' => key.say(key.base64, out),
            _ => {}
        }
    }
    say_value(flags, digits, out);
    Ok(())
}

/// `me`: an item's inside.
fn debug(request: &Meta, store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Done {
    let mut room = [0; 256];
    let key = Key::read(request, &mut room).map_err(|_| answers::BAD_FORMAT)?.bytes;
    store.counters.cmd_meta += 1;
    let Some(place) = store.find(key, clock) else {
        out.extend_from_slice(b"EN\r\n");
        return Ok(Said::Plainly);
    };
    let now = store.seconds(clock);
    let item = store.item(place);
    out.extend_from_slice(b"ME ");
    match item.base64 {
        true => encode(key, out),
        false => out.extend_from_slice(key),
    }
    let expires = if item.expires == 0 { -1 } else { now.wrapping_sub(item.expires) as i32 };
    let bytes = item_bytes(key, item.flags, item.value.len());
    let line = format!(
        " exp={expires} la={} cas={} fetch={} cls={} size={bytes}\r\n",
        now.wrapping_sub(item.used),
        item.cas,
        if item.fetched { "yes" } else { "no" },
        slab_class(bytes),
    );
    out.extend_from_slice(line.as_bytes());
    Ok(Said::Plainly)
}

/// The slab class that memcached would keep an item of this size in, with its default settings: chunks from
/// 96 bytes on, each a quarter larger than the one before, aligned to 8.
fn slab_class(bytes: usize) -> u32 {
    let largest = 512 << 10;
    let (mut class, mut chunk) = (1, 96);
    while bytes > chunk {
        class += 1;
        let next = chunk * 5 / 4;
        if next * 5 >= largest * 4 {
            // The next one would leave no room for another, so the largest takes its place.
            break;
        }
        chunk = next.next_multiple_of(8);
    }
    class
}
