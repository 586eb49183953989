//! Requests to backends, written anew from what was parsed: one space, no NUL, no surplus token, no
//! `noreply`, no quiet flag. Each function appends one request to `out`.

use super::binary::{HEADER_BYTES, REQUEST_MAGIC, Request};
use super::meta::{Meta, MetaVerb};
use super::number::Decimal;
use super::scan;
use super::text::{Keys, Store, StoreVerb};

/// The verb of a get with or without CAS tokens, and the space behind it.
#[inline]
pub fn get_verb(with_cas: bool) -> &'static [u8] {
    if with_cas { b"gets " } else { b"get " }
}

/// `get` or `gets` of one key.
#[inline]
pub fn get(out: &mut Vec<u8>, with_cas: bool, key: &[u8]) {
    out.reserve(key.len() + 7);
    out.extend_from_slice(get_verb(with_cas));
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
}

/// The start of a `gat` or `gats`, up to where its keys follow, each with a space before it.
pub fn gat_head(out: &mut Vec<u8>, with_cas: bool, exptime: i32) {
    out.extend_from_slice(if with_cas { b"gats " } else { b"gat " });
    out.extend_from_slice(Decimal::signed(exptime).as_bytes());
}

/// A storage command with its value. `frame` is what it was read from: a canonical one is copied.
#[inline]
pub fn store(out: &mut Vec<u8>, store: &Store<'_>, frame: &[u8]) {
    if store.canonical && !store.noreply {
        return out.extend_from_slice(frame);
    }
    store_in_parts(out, store, frame);
}

#[inline(never)]
fn store_in_parts(out: &mut Vec<u8>, store: &Store<'_>, frame: &[u8]) {
    store_head(out, store, frame);
    out.extend_from_slice(store.value);
    out.extend_from_slice(b"\r\n");
}

/// The line of a storage command; its value and CR LF follow. `frame` is what it was read from: the line of a
/// canonical one is copied.
#[inline]
pub fn store_head(out: &mut Vec<u8>, store: &Store<'_>, frame: &[u8]) {
    if !store.canonical {
        return store_line(out, store);
    }
    let end = if store.noreply { " noreply\r\n".len() } else { "\r\n".len() };
    out.extend_from_slice(&frame[..frame.len() - store.value.len() - "\r\n".len() - end]);
    out.extend_from_slice(b"\r\n");
}

/// The line of a storage command, written from what was read; its value and CR LF follow.
pub fn store_line(out: &mut Vec<u8>, store: &Store<'_>) {
    out.extend_from_slice(match store.verb {
        StoreVerb::Set => b"set ",
        StoreVerb::Add => b"add ",
        StoreVerb::Replace => b"replace ",
        StoreVerb::Append => b"append ",
        StoreVerb::Prepend => b"prepend ",
        StoreVerb::Cas => b"cas ",
    });
    out.extend_from_slice(store.key);
    out.push(b' ');
    out.extend_from_slice(Decimal::new(u64::from(store.flags)).as_bytes());
    out.push(b' ');
    out.extend_from_slice(Decimal::signed(store.exptime).as_bytes());
    out.push(b' ');
    out.extend_from_slice(Decimal::new(store.value.len() as u64).as_bytes());
    if store.verb == StoreVerb::Cas {
        out.push(b' ');
        out.extend_from_slice(Decimal::new(store.cas).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// `incr` or `decr`.
pub fn arithmetic(out: &mut Vec<u8>, decrement: bool, key: &[u8], delta: u64) {
    out.extend_from_slice(if decrement { b"decr " } else { b"incr " });
    out.extend_from_slice(key);
    out.push(b' ');
    out.extend_from_slice(Decimal::new(delta).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `touch`.
pub fn touch(out: &mut Vec<u8>, key: &[u8], exptime: i32) {
    out.extend_from_slice(b"touch ");
    out.extend_from_slice(key);
    out.push(b' ');
    out.extend_from_slice(Decimal::signed(exptime).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `delete`.
pub fn delete(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(b"delete ");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
}

/// `flush_all`.
pub fn flush_all(out: &mut Vec<u8>, delay: Option<i32>) {
    out.extend_from_slice(b"flush_all");
    if let Some(delay) = delay {
        out.push(b' ');
        out.extend_from_slice(Decimal::signed(delay).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// A meta command with its value and without its `q`. `frame` is what it was read from: a canonical one is
/// copied.
#[inline]
pub fn meta(out: &mut Vec<u8>, meta: &Meta<'_>, frame: &[u8]) {
    if meta.canonical && !meta.quiet {
        return out.extend_from_slice(frame);
    }
    meta_in_parts(out, meta, frame);
}

#[inline(never)]
fn meta_in_parts(out: &mut Vec<u8>, meta: &Meta<'_>, frame: &[u8]) {
    meta_head(out, meta, frame);
    if meta.verb == MetaVerb::Set {
        out.extend_from_slice(meta.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The line of a meta command without its `q`; the value of an `ms` and its CR LF follow. `frame` is what the
/// command was read from: the line of a canonical one is copied.
pub fn meta_head(out: &mut Vec<u8>, meta: &Meta<'_>, frame: &[u8]) {
    if !meta.canonical {
        return meta_line(out, meta);
    }
    let behind = if meta.verb == MetaVerb::Set { meta.value.len() + "\r\n".len() } else { 0 };
    let line = &frame[..frame.len() - behind];
    // One space stands before each flag of a canonical line.
    let flags = line.len() - "\r\n".len() - meta.flags.len();
    let quiet = match meta.flags {
        [b'q', ..] => Some(0),
        flags if meta.quiet => flags.windows(2).position(|pair| pair == b" q").map(|space| space + 1),
        _ => None,
    };
    let Some(start) = quiet else { return out.extend_from_slice(line) };
    let length = scan::space(&meta.flags[start..]);
    out.extend_from_slice(&line[..flags + start - 1]);
    out.extend_from_slice(&line[flags + start + length..]);
}

/// The line of a meta command; the value of an `ms` and its CR LF follow.
pub fn meta_line(out: &mut Vec<u8>, meta: &Meta<'_>) {
    meta_words(out, meta, false);
}

/// A quiet meta command as it is, and an `mn` behind it. For those whose answer does not tell whether the
/// client wants to hear it: the backend decides, and the fence says that it has.
pub fn meta_fenced(out: &mut Vec<u8>, meta: &Meta<'_>) {
    meta_words(out, meta, true);
    out.extend_from_slice(b"mn\r\n");
}

fn meta_words(out: &mut Vec<u8>, meta: &Meta<'_>, with_quiet: bool) {
    out.extend_from_slice(match meta.verb {
        MetaVerb::Get => b"mg ",
        MetaVerb::Set => b"ms ",
        MetaVerb::Delete => b"md ",
        MetaVerb::Arithmetic => b"ma ",
        MetaVerb::Debug => b"me ",
        MetaVerb::Noop => b"mn ",
    });
    out.extend_from_slice(meta.key);
    if meta.verb == MetaVerb::Set {
        out.push(b' ');
        out.extend_from_slice(Decimal::new(meta.value.len() as u64).as_bytes());
    }
    for flag in Keys::new(meta.flags) {
        if flag[0] != b'q' || with_quiet {
            out.push(b' ');
            out.extend_from_slice(flag);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What a quiet or failed `mg` gives back of its own line: ` k<key>`, ` b` and ` O<opaque>` in the order
/// asked.
pub fn meta_echo(out: &mut Vec<u8>, meta: &Meta<'_>) {
    for flag in Keys::new(meta.flags) {
        match flag[0] {
            b'O' => {
                out.push(b' ');
                out.extend_from_slice(flag);
            }
            b'k' => {
                out.extend_from_slice(b" k");
                out.extend_from_slice(meta.key);
                if meta.base64 {
                    out.extend_from_slice(b" b");
                }
            }
            _ => {}
        }
    }
}

/// A binary request with another opcode and opaque. `frame` is what it was read from: what stands behind its
/// header is copied.
#[inline]
pub fn binary(out: &mut Vec<u8>, request: &Request<'_>, frame: &[u8], opcode: u8, opaque: u32) {
    out.reserve(frame.len());
    out.extend_from_slice(&binary_header(request, opcode, opaque));
    out.extend_from_slice(&frame[HEADER_BYTES..]);
}

/// Header, extras and key of a binary request with another opcode and opaque; its value follows.
pub fn binary_head(out: &mut Vec<u8>, request: &Request<'_>, opcode: u8, opaque: u32) {
    out.reserve(HEADER_BYTES + request.extras.len() + request.key.len());
    out.extend_from_slice(&binary_header(request, opcode, opaque));
    out.extend_from_slice(request.extras);
    out.extend_from_slice(request.key);
}

#[inline]
fn binary_header(request: &Request<'_>, opcode: u8, opaque: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = REQUEST_MAGIC;
    header[1] = opcode;
    header[2..4].copy_from_slice(&(request.key.len() as u16).to_be_bytes());
    header[4] = request.extras.len() as u8;
    let body = request.extras.len() + request.key.len() + request.value.len();
    header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
    header[12..16].copy_from_slice(&opaque.to_be_bytes());
    header[16..24].copy_from_slice(&request.cas.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn classic_lines() {
        assert_eq!(composed(|out| get(out, false, b"k")), "get k\r\n");
        assert_eq!(composed(|out| get(out, true, b"k")), "gets k\r\n");
        assert_eq!(composed(|out| gat_head(out, true, -1)), "gats -1");
        assert_eq!(composed(|out| arithmetic(out, true, b"n", u64::MAX)), "decr n 18446744073709551615\r\n");
        assert_eq!(composed(|out| touch(out, b"k", i32::MIN)), "touch k -2147483648\r\n");
        assert_eq!(composed(|out| delete(out, b"k")), "delete k\r\n");
        assert_eq!(composed(|out| flush_all(out, None)), "flush_all\r\n");
        assert_eq!(composed(|out| flush_all(out, Some(5))), "flush_all 5\r\n");
        let store = Store {
            verb: StoreVerb::Cas,
            key: b"k",
            flags: 7,
            exptime: 0,
            cas: 42,
            value: b"xyz",
            noreply: true,
            canonical: false,
        };
        assert_eq!(composed(|out| store_line(out, &store)), "cas k 7 0 3 42\r\n");
    }

    #[test]
    fn meta_lines_lose_q_and_spaces() {
        let meta = Meta {
            verb: MetaVerb::Set,
            key: b"a2V5",
            flags: b"  b q   T30  Oq1 k ",
            value: b"xy",
            base64: true,
            quiet: true,
            returns_cas: false,
            compares_cas: false,
            modifies: false,
            echoes: true,
            canonical: false,
        };
        assert_eq!(composed(|out| meta_line(out, &meta)), "ms a2V5 2 b T30 Oq1 k\r\n");
        assert_eq!(composed(|out| meta_echo(out, &meta)), " Oq1 ka2V5 b");
        assert_eq!(composed(|out| meta_fenced(out, &meta)), "ms a2V5 2 b q T30 Oq1 k\r\nmn\r\n");
    }
}
