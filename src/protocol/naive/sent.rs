//! What a backend would be sent for a request, composed in every way there is and read again.

use super::super::meta::MetaVerb;
use super::super::text::{ParserLimits, Request, Step, Store};
use super::super::{binary, compose};
use super::{Outcome, parse_binary, parse_text};
use crate::limits::{BACKEND_LINE_MAX, KEY_MAX};

/// What a backend would be sent for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// They are the client's own.
    pub copied: bool,
}

/// What is sent for a text or meta request, the first of `input`, that a parser has read as `step`. `None`
/// for refusals and for requests that are never sent as they are: those without a key or with one too long,
/// and reads of many keys in lines longer than a backend takes.
///
/// # Errors
/// What is wrong, with the bytes: two ways of composing it differ, or what is sent is not the request that
/// the oracle reads from `input`.
pub fn text(input: &[u8], step: &Step<'_>, limits: &ParserLimits) -> Result<Option<Sent>, String> {
    let Step::Request(request, total) = step else { return Ok(None) };
    let frame = &input[..*total];
    let ways = match request {
        Request::Store(store) => ways_of_store(store, frame),
        Request::Meta(meta) if meta.verb != MetaVerb::Noop => {
            let value = if meta.verb == MetaVerb::Set { [meta.value, b"\r\n"].concat() } else { Vec::new() };
            Ways {
                quick: written(|out| compose::meta(out, meta, frame)),
                in_parts: [written(|out| compose::meta_head(out, meta, frame)), value.clone()].concat(),
                slow: [written(|out| compose::meta_line(out, meta)), value].concat(),
                copied: meta.canonical && !meta.quiet,
            }
        }
        other => match line(other) {
            Some(line) => Ways { quick: line.clone(), in_parts: line.clone(), slow: line, copied: false },
            None => return Ok(None),
        },
    };
    let Ways { quick, in_parts, slow, copied } = ways;
    let fault = if quick != slow || in_parts != slow {
        "composed in two ways"
    } else if copied && quick != frame {
        "not the client's bytes"
    } else if audible(parse_text(input, limits)) != audible(parse_text(&quick, limits)) {
        "another request"
    } else {
        return Ok(Some(Sent { bytes: quick, copied }));
    };
    let [bytes, quick, slow] = [input, &quick[..], &slow[..]].map(|bytes| bytes.escape_ascii().to_string());
    Err(format!("{fault}\n  bytes: \"{bytes}\"\n  quick: \"{quick}\"\n  slow:  \"{slow}\""))
}

/// What is sent, under the opaque `tag`, for a binary request, the first of `input`. `None` for what is not
/// one.
///
/// # Errors
/// As [`text`].
pub fn binary(input: &[u8], value_max: usize, tag: u32) -> Result<Option<Vec<u8>>, String> {
    let binary::Step::Request(request, total) = binary::parse(input, value_max) else { return Ok(None) };
    let opcode = binary::answering(request.opcode).0;
    let quick = written(|out| compose::binary(out, &request, &input[..total], opcode, tag));
    let head = written(|out| compose::binary_head(out, &request, opcode, tag));
    let slow = [&head, request.value].concat();
    let again = match (parse_binary(input, value_max), parse_binary(&quick, value_max)) {
        (Outcome::Request(mut read, _), Outcome::Request(again, bytes)) => {
            read.parts[0] = vec![opcode];
            read.parts[1] = tag.to_be_bytes().to_vec();
            read == again && bytes == quick.len()
        }
        _ => false,
    };
    if again && quick == slow {
        return Ok(Some(quick));
    }
    let [bytes, quick, slow] = [input, &quick[..], &slow[..]].map(|bytes| bytes.escape_ascii().to_string());
    Err(format!("not composed well\n  bytes: \"{bytes}\"\n  quick: \"{quick}\"\n  slow:  \"{slow}\""))
}

/// The ways to compose a request.
struct Ways {
    quick: Vec<u8>,
    /// The same with line and value by themselves.
    in_parts: Vec<u8>,
    /// Written anew from what was read.
    slow: Vec<u8>,
    /// It is to be what the client sent.
    copied: bool,
}

fn ways_of_store(store: &Store<'_>, frame: &[u8]) -> Ways {
    let value = [store.value, b"\r\n"].concat();
    Ways {
        quick: written(|out| compose::store(out, store, frame)),
        in_parts: [written(|out| compose::store_head(out, store, frame)), value.clone()].concat(),
        slow: [written(|out| compose::store_line(out, store)), value].concat(),
        copied: store.canonical && !store.noreply,
    }
}

/// Requests of one line, which are composed in one way.
fn line(request: &Request<'_>) -> Option<Vec<u8>> {
    let line = match request {
        Request::Get { with_cas, key } => written(|out| compose::get(out, *with_cas, key)),
        Request::Gat { with_cas, exptime, keys } => written(|out| {
            compose::gat_head(out, *with_cas, *exptime);
            keys.for_each(|key| out.extend_from_slice(&[b" ", key].concat()));
            out.extend_from_slice(b"\r\n");
        }),
        Request::Arithmetic { decrement, key, delta, .. } => {
            written(|out| compose::arithmetic(out, *decrement, key, *delta))
        }
        Request::Touch { key, exptime, .. } => written(|out| compose::touch(out, key, *exptime)),
        Request::Delete { key, .. } => written(|out| compose::delete(out, key)),
        Request::FlushAll { delay, .. } => written(|out| compose::flush_all(out, *delay)),
        _ => return None,
    };
    let refused = matches!(request, Request::Gat { keys, .. }
        if keys.count() == 0 || keys.clone().any(|key| key.len() > KEY_MAX));
    (!refused && line.len() <= BACKEND_LINE_MAX).then_some(line)
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A request as it would be if its client had not asked for silence.
fn audible(outcome: Outcome) -> Option<super::Request> {
    let Outcome::Request(mut request, _) = outcome else { return None };
    let quiet = match request.name.as_str() {
        "get" | "gat" => return Some(request),
        name if name.starts_with("meta") => {
            let (fixed, flags) = request.parts.split_at(8);
            let heard = flags.iter().filter(|flag| flag[0] != b'q').cloned();
            request.parts = fixed.iter().cloned().chain(heard).collect();
            4
        }
        _ => request.parts.len() - 1,
    };
    request.parts[quiet] = b"false".to_vec();
    Some(request)
}
