//! The parsers once more, slow and obvious: the oracle of their tests and fuzz targets. Nothing of the
//! program calls it; it is public so that fuzz targets can.
//!
//! It follows memcached 1.6.18 function by function (a table of at most 24 tokens, a count, an end mark),
//! copies everything and shares no code with the parsers that it judges.

mod binary;
mod meta;
mod number;
pub mod reply;
pub mod scan;
pub mod sent;
pub mod stream;
mod text;

pub use self::binary::parse as parse_binary;
pub use self::text::parse as parse_text;

use super::binary as fast_binary;
use super::meta as fast_meta;
use super::text as fast_text;

/// What a parser says, with everything owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A request and the bytes it had.
    Request(Request, usize),
    /// A refusal.
    Refused(Refusal),
    /// No line end yet in that many bytes.
    Line(usize),
    /// To be continued when there are that many bytes.
    Total(usize),
}

/// A request: its name, and its parts as text. Two requests are the same if these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command, or what kind of command.
    pub name: String,
    /// Numbers in decimal, booleans as `true` and `false`.
    pub parts: Vec<Vec<u8>>,
}

/// A refusal of either protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Text: the answer. Binary: opcode, opaque, status and message, all in a row; empty for none.
    pub answer: Vec<u8>,
    /// Bytes to drop now.
    pub consumed: usize,
    /// Bytes to drop after these.
    pub swallow: u64,
    /// The key to remove, and whether it is in base64.
    pub unlink: Option<(Vec<u8>, bool)>,
    /// The end of the connection.
    pub close: bool,
}

fn request(name: &str, parts: &[&[u8]], bytes: usize) -> Outcome {
    Outcome::Request(
        Request { name: name.to_string(), parts: parts.iter().map(|part| part.to_vec()).collect() },
        bytes,
    )
}

fn refuse(answer: &str, consumed: usize) -> Outcome {
    let answer = if answer.is_empty() { Vec::new() } else { format!("{answer}\r\n").into_bytes() };
    Outcome::Refused(Refusal { answer, consumed, ..Refusal::default() })
}

fn close(answer: &str, consumed: usize) -> Outcome {
    let Outcome::Refused(refusal) = refuse(answer, consumed) else { unreachable!() };
    Outcome::Refused(Refusal { close: true, ..refusal })
}

fn decimal(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl From<fast_text::Step<'_>> for Outcome {
    fn from(step: fast_text::Step<'_>) -> Outcome {
        match step {
            fast_text::Step::Request(what, bytes) => of_text(what, bytes),
            fast_text::Step::Refused(refusal) => Outcome::Refused(Refusal {
                answer: refusal.answer.to_vec(),
                consumed: refusal.consumed,
                swallow: refusal.swallow,
                unlink: refusal.unlink.map(|key| (key.to_vec(), refusal.unlink_base64)),
                close: refusal.close,
            }),
            fast_text::Step::Partial(fast_text::Partial::Line { scanned }) => Outcome::Line(scanned),
            fast_text::Step::Partial(fast_text::Partial::Value { total }) => Outcome::Total(total),
        }
    }
}

fn of_text(what: fast_text::Request<'_>, bytes: usize) -> Outcome {
    use fast_text::Request::*;
    let noreply_of = |noreply: bool| decimal(noreply);
    match what {
        Get { with_cas, key } => request("get", &[&decimal(with_cas), key], bytes),
        GetMany { with_cas, keys } => {
            let with_cas = decimal(with_cas);
            request("get many", &[&[&with_cas[..]], &keys.collect::<Vec<_>>()[..]].concat(), bytes)
        }
        Gat { with_cas, exptime, keys } => {
            let (with_cas, exptime) = (decimal(with_cas), decimal(exptime));
            request("gat", &[&[&with_cas[..], &exptime], &keys.collect::<Vec<_>>()[..]].concat(), bytes)
        }
        Store(fast_text::Store { verb, key, flags, exptime, cas, value, noreply, canonical: _ }) => {
            let name = format!("{verb:?}").to_lowercase();
            let numbers = [decimal(flags), decimal(exptime), decimal(cas)];
            let parts = [key, &numbers[0], &numbers[1], &numbers[2], value, &noreply_of(noreply)];
            request(&name, &parts, bytes)
        }
        Arithmetic { decrement, key, delta, noreply } => {
            let name = if decrement { "decr" } else { "incr" };
            request(name, &[key, &decimal(delta), &noreply_of(noreply)], bytes)
        }
        Touch { key, exptime, noreply } => {
            request("touch", &[key, &decimal(exptime), &noreply_of(noreply)], bytes)
        }
        Delete { key, noreply } => request("delete", &[key, &noreply_of(noreply)], bytes),
        FlushAll { delay, noreply } => {
            let delay = delay.map_or(b"none".to_vec(), decimal);
            request("flush_all", &[&delay, &noreply_of(noreply)], bytes)
        }
        Verbosity { noreply } => request("verbosity", &[&noreply_of(noreply)], bytes),
        Version => request("version", &[], bytes),
        Stats { arguments } => request("stats", &[arguments], bytes),
        Administrative { verb } => request("administrative", &[verb], bytes),
        Quit => request("quit", &[], bytes),
        Meta(meta) => of_meta(&meta, bytes),
    }
}

fn of_meta(meta: &fast_meta::Meta<'_>, bytes: usize) -> Outcome {
    let mut scratch = [0; 256];
    let booleans = [meta.base64, meta.quiet, meta.returns_cas, meta.compares_cas, meta.modifies, meta.echoes]
        .map(decimal);
    let mut parts = vec![meta.key, meta.value, meta.placement_key(&mut scratch)];
    parts.extend(booleans.iter().map(Vec::as_slice));
    parts.extend(fast_text::Keys::new(meta.flags));
    request(&format!("meta {:?}", meta.verb), &parts, bytes)
}

impl From<fast_binary::Step<'_>> for Outcome {
    fn from(step: fast_binary::Step<'_>) -> Outcome {
        match step {
            fast_binary::Step::Request(
                fast_binary::Request { opcode, opaque, cas, extras, key, value },
                bytes,
            ) => request("binary", &[&[opcode], &opaque, &decimal(cas), extras, key, value], bytes),
            fast_binary::Step::Refused(refusal) => Outcome::Refused(Refusal {
                answer: refusal.answer.map_or(Vec::new(), |(status, message)| {
                    [&[refusal.opcode][..], &refusal.opaque, &status.to_be_bytes(), message].concat()
                }),
                consumed: refusal.consumed,
                swallow: refusal.swallow,
                unlink: refusal.unlink.map(|key| (key.to_vec(), false)),
                close: refusal.close,
            }),
            fast_binary::Step::Partial { total } => Outcome::Total(total),
        }
    }
}
