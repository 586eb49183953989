//! Answers to binary requests, in memcached 1.6.18's bytes.

use super::stats;
use super::store::{Clock, Deleted, Delta, Item, Mode, NoRoom, Outcome, Put, Store};
use super::text::After;
use crate::protocol::binary::{HEADER_BYTES, RESPONSE_MAGIC, Request, answering, opcode, status};
use crate::protocol::number::Decimal;

/// The expiry of an increment that must not create an item.
const DO_NOT_CREATE: u32 = 0xffff_ffff;

/// Carries out `request` and appends its answer to `out`. An opcode that may keep silent keeps silent about
/// success, or, if it reads, about a miss.
pub(super) fn answer(request: &Request, store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> After {
    let (opcode, quiet) = answering(request.opcode);
    let reply = Reply { opcode: request.opcode, opaque: request.opaque, quiet };
    match opcode {
        opcode::GET | opcode::GETK | opcode::GAT | opcode::GATK | opcode::TOUCH => {
            read(&reply, opcode, request, store, clock, out);
        }
        opcode::SET | opcode::ADD | opcode::REPLACE | opcode::APPEND | opcode::PREPEND => {
            write(&reply, opcode, request, store, clock, out);
        }
        opcode::DELETE => delete(&reply, request, store, clock, out),
        opcode::INCREMENT | opcode::DECREMENT => arithmetic(&reply, opcode, request, store, clock, out),
        opcode::FLUSH => {
            store.flush_all(extra_u32(request.extras, 0).into(), clock);
            reply.success(0, b"", out);
        }
        opcode::NOOP => reply.success(0, b"", out),
        opcode::VERSION => reply.success(0, stats::VERSION, out),
        opcode::STAT => stat(&reply, request, store, clock, out),
        opcode::QUIT => {
            reply.success(0, b"", out);
            return After::Quit;
        }
        // The parser refuses all others.
        _ => reply.error(status::UNKNOWN_COMMAND, b"Unknown command", out),
    }
    After::Done
}

/// Appends an answer with a status and its words.
pub(super) fn error(opcode: u8, opaque: [u8; 4], status: u16, message: &[u8], out: &mut Vec<u8>) {
    Reply { opcode, opaque, quiet: false }.error(status, message, out);
}

/// What an answer takes from its request.
struct Reply {
    opcode: u8,
    opaque: [u8; 4],
    quiet: bool,
}

impl Reply {
    fn header(&self, status: u16, extras: usize, key: usize, body: usize, cas: u64, out: &mut Vec<u8>) {
        let mut header = [0; HEADER_BYTES];
        header[0] = RESPONSE_MAGIC;
        header[1] = self.opcode;
        header[2..4].copy_from_slice(&(key as u16).to_be_bytes());
        header[4] = extras as u8;
        header[6..8].copy_from_slice(&status.to_be_bytes());
        header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
        header[12..16].copy_from_slice(&self.opaque);
        header[16..].copy_from_slice(&cas.to_be_bytes());
        out.extend_from_slice(&header);
    }

    fn success(&self, cas: u64, body: &[u8], out: &mut Vec<u8>) {
        if !self.quiet {
            self.header(status::OK, 0, 0, body.len(), cas, out);
            out.extend_from_slice(body);
        }
    }

    fn error(&self, status: u16, message: &[u8], out: &mut Vec<u8>) {
        self.header(status, 0, 0, message.len(), 0, out);
        out.extend_from_slice(message);
    }

    fn failure(&self, status: u16, out: &mut Vec<u8>) {
        let message: &[u8] = match status {
            status::KEY_NOT_FOUND => b"Not found",
            status::KEY_EXISTS => b"Data exists for key.",
            status::TOO_LARGE => b"Too large.",
            status::NON_NUMERIC => b"Non-numeric server-side value for incr or decr",
            status::NOT_STORED => b"Not stored.",
            _ => b"Out of memory allocating item",
        };
        self.error(status, message, out);
    }
}

/// The extras' four bytes from `start` on, zero if they are not there.
fn extra_u32(extras: &[u8], start: usize) -> u32 {
    extras.get(start..start + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn extra_u64(extras: &[u8], start: usize) -> u64 {
    u64::from(extra_u32(extras, start)) << 32 | u64::from(extra_u32(extras, start + 4))
}

fn read(reply: &Reply, opcode: u8, request: &Request, store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    let with_key = matches!(opcode, opcode::GETK | opcode::GATK);
    let item = match opcode {
        opcode::GET | opcode::GETK => store.get(request.key, clock),
        _ => store.get_and_touch(request.key, extra_u32(request.extras, 0).into(), clock),
    };
    let key = if with_key { request.key } else { b"" };
    match item {
        Some(Item { value, flags, cas, .. }) => {
            let value: &[u8] = if opcode == opcode::TOUCH { b"" } else { value };
            reply.header(status::OK, 4, key.len(), 4 + key.len() + value.len(), *cas, out);
            out.extend_from_slice(&flags.to_be_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        None if reply.quiet => {}
        None if with_key => {
            reply.header(status::KEY_NOT_FOUND, 0, key.len(), key.len(), 0, out);
            out.extend_from_slice(key);
        }
        None => reply.failure(status::KEY_NOT_FOUND, out),
    }
}

fn write(reply: &Reply, opcode: u8, request: &Request, store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    let mode = match opcode {
        opcode::APPEND => Mode::Append,
        opcode::PREPEND => Mode::Prepend,
        _ if request.cas != 0 => Mode::Cas,
        opcode::ADD => Mode::Add,
        opcode::REPLACE => Mode::Replace,
        _ => Mode::Set,
    };
    let put = Put {
        mode,
        key: request.key,
        value: request.value,
        flags: extra_u32(request.extras, 0),
        exptime: extra_u32(request.extras, 4).into(),
        cas: request.cas,
        base64: false,
        stale: false,
    };
    match store.put(&put, clock) {
        Ok(Outcome::Stored(cas)) => reply.success(cas, b"", out),
        Ok(Outcome::Exists) => reply.failure(status::KEY_EXISTS, out),
        Ok(Outcome::NotFound) => reply.failure(status::KEY_NOT_FOUND, out),
        Ok(Outcome::NotStored) => {
            let status = match mode {
                Mode::Add => status::KEY_EXISTS,
                Mode::Replace => status::KEY_NOT_FOUND,
                _ => status::NOT_STORED,
            };
            reply.failure(status, out);
        }
        Err(why) => {
            if opcode == opcode::SET {
                store.unlink(request.key, clock);
            }
            let status = match why {
                NoRoom::TooLarge => status::TOO_LARGE,
                NoRoom::OutOfMemory => status::OUT_OF_MEMORY,
            };
            reply.failure(status, out);
        }
    }
}

fn delete(reply: &Reply, request: &Request, store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    let cas = (request.cas != 0).then_some(request.cas);
    match store.delete(request.key, cas, clock) {
        Deleted::Done => reply.success(0, b"", out),
        Deleted::NotFound => reply.failure(status::KEY_NOT_FOUND, out),
        Deleted::Exists => reply.failure(status::KEY_EXISTS, out),
    }
}

fn arithmetic(
    reply: &Reply,
    opcode: u8,
    request: &Request,
    store: &mut Store,
    clock: Clock,
    out: &mut Vec<u8>,
) {
    let (delta, initial) = (extra_u64(request.extras, 0), extra_u64(request.extras, 8));
    let exptime = extra_u32(request.extras, 16);
    match store.arithmetic(request.key, opcode == opcode::DECREMENT, delta, request.cas, clock) {
        Delta::Done { value, cas, .. } => reply.success(cas, &value.to_be_bytes(), out),
        Delta::NonNumeric => reply.failure(status::NON_NUMERIC, out),
        Delta::Exists => reply.failure(status::KEY_EXISTS, out),
        Delta::OutOfMemory => reply.error(status::OUT_OF_MEMORY, b"Out of memory incrementing value", out),
        Delta::NotFound if exptime == DO_NOT_CREATE => reply.failure(status::KEY_NOT_FOUND, out),
        Delta::NotFound => {
            let digits = Decimal::new(initial);
            let put = Put {
                mode: Mode::Add,
                key: request.key,
                value: digits.as_bytes(),
                flags: 0,
                exptime: exptime.into(),
                cas: 0,
                base64: false,
                stale: false,
            };
            match store.put(&put, clock) {
                Ok(Outcome::Stored(cas)) => reply.success(cas, &initial.to_be_bytes(), out),
                Ok(_) => reply.failure(status::NOT_STORED, out),
                Err(_) => reply.error(status::OUT_OF_MEMORY, b"Out of memory allocating new item", out),
            }
        }
    }
}

/// One answer per counter, and an empty one at the end.
fn stat(reply: &Reply, request: &Request, store: &mut Store, clock: Clock, out: &mut Vec<u8>) {
    match request.key {
        b"" => {
            for (name, value) in stats::general(store, clock) {
                reply.header(status::OK, 0, name.len(), name.len() + value.len(), 0, out);
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(value.as_bytes());
            }
        }
        b"reset" => store.counters = Default::default(),
        b"items" | b"slabs" | b"sizes" | b"settings" | b"conns" => {}
        _ => return reply.failure(status::KEY_NOT_FOUND, out),
    }
    reply.success(0, b"", out);
}
