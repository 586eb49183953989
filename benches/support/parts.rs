//! The parts of the path of a request, each by itself: loops over many requests or replies that lie one
//! behind the other, as they do in a read of a pipelined connection.

use std::hint::black_box;

use mcproxy::embedded::session::Session;
use mcproxy::embedded::store::Store;
use mcproxy::limits::Limits;
use mcproxy::placement::{HashedPart, Label, Method, Placement, Server};
use mcproxy::protocol::binary;
use mcproxy::protocol::reply::{self, Frame, ReplyLimits};
use mcproxy::protocol::text::{self, ParserLimits, Partial, Request, Step};

use super::random::Random;
use super::recording::{CLOCK, SEED, STORE_BYTES};
use super::request::{self, KEY_BYTES, Kind};

/// `operations` of one kind: as a client sends them, and what is found in them.
pub(crate) struct Stream {
    pub(crate) requests: Vec<u8>,
    pub(crate) replies: Vec<u8>,
    /// The keys of requests with one key, one behind the other.
    pub(crate) keys: Vec<u8>,
}

/// Requests.
pub(crate) fn requests(kind: Kind, operations: usize) -> Stream {
    let (mut random, mut requests, mut keys) = (Random::new(SEED), Vec::new(), Vec::new());
    for _ in 0..operations / kind.operations() {
        let start = requests.len();
        kind.write(&mut random, &mut requests);
        keys.extend_from_slice(key(&requests[start..]));
    }
    Stream { requests, replies: Vec::new(), keys }
}

/// Requests and what memcached answers to them.
pub(crate) fn replies(kind: Kind, operations: usize) -> Stream {
    let mut stream = requests(kind, operations);
    let mut store = Store::new(STORE_BYTES, CLOCK);
    request::fill(CLOCK, |_| 0, std::slice::from_mut(&mut store));
    let mut session = Session::new();
    // Small pieces, so that no answer is too large for one turn of the session.
    for piece in stream.requests.chunks(1000) {
        session.receive(piece, &mut store, CLOCK, &mut stream.replies);
    }
    stream
}

/// The first key of a request.
fn key(request: &[u8]) -> &[u8] {
    let start = match request {
        [0x80, _, _, _, extras, ..] => binary::HEADER_BYTES + usize::from(*extras),
        _ => request.iter().position(|&byte| byte == b' ').expect("a key") + 1,
    };
    &request[start..start + KEY_BYTES]
}

/// Before three backends.
pub(crate) fn placement() -> Placement {
    Placement::rendezvous(&three())
}

/// The placement of this name before three backends.
pub(crate) fn placement_called(name: &str) -> Placement {
    let method = Method::parse(name).expect("a placement");
    Placement::new(method, HashedPart::default(), &three()).expect("servers for every placement")
}

fn three() -> [Server; 3] {
    ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|host| Server {
        name: format!("{host}:11211"),
        weight: 1,
        label: Label::Tcp { host: host.to_string(), port: 11211 },
    })
}

/// The placements of other programs, twemproxy's key hashes over one of its tables.
pub(crate) fn foreign_placements() -> impl Iterator<Item = String> {
    let names = Method::all().into_iter().map(|method| method.to_string());
    let again = |name: &String| name.starts_with("twemproxy-modula:") && name != "twemproxy-modula:fnv1a_64";
    names.filter(move |name| name != "rendezvous" && !again(name))
}

/// Parses text and meta requests as the core does: in the short ways first. Gives how many there were; of gets
/// of many keys, the keys.
pub(crate) fn parse_text(input: &[u8]) -> usize {
    let limits = parser_limits();
    let (mut at, mut count) = (0, 0);
    while at < input.len() {
        if let Some(bytes) = parse_plain(&input[at..], &limits) {
            at += bytes;
            count += 1;
            continue;
        }
        let Step::Request(request, bytes) = text::parse(&input[at..], 0, &limits) else { break };
        match request {
            Request::GetMany { keys, .. } => count += look_at(keys) - 1,
            ref other => {
                black_box(other);
            }
        }
        at += bytes;
        count += 1;
    }
    count
}

/// The bytes of a request in its plain form. What a caller needs of it is its key and a few marks, and how many
/// bytes it has; the rest of a Store or a Meta need not be put together.
#[inline]
fn parse_plain(input: &[u8], limits: &ParserLimits) -> Option<usize> {
    if let Some(get) = text::plain_get(input, limits.get_line_max) {
        black_box((get.key, get.with_cas));
        return Some(get.total);
    }
    if input[0] == b'm' {
        let (meta, bytes) = text::plain_meta(input, limits.value_max)?;
        black_box((meta.verb, meta.key, meta.value.len(), meta.base64, meta.quiet, meta.canonical));
        return Some(bytes);
    }
    let (store, bytes) = text::plain_store(input, limits.value_max)?;
    black_box((store.verb, store.key, store.value.len(), store.noreply, store.canonical));
    Some(bytes)
}

/// The same when the bytes come one by one.
pub(crate) fn parse_text_bytewise(input: &[u8]) -> usize {
    let limits = parser_limits();
    let (mut start, mut scanned, mut count) = (0, 0, 0);
    for end in 1..=input.len() {
        match text::parse(&input[start..end], scanned, &limits) {
            Step::Request(Request::GetMany { keys, .. }, _) => {
                count += look_at(keys);
                (start, scanned) = (end, 0);
            }
            Step::Request(ref request, _) => {
                black_box(request);
                count += 1;
                (start, scanned) = (end, 0);
            }
            Step::Partial(Partial::Line { scanned: now }) => scanned = now,
            _ => break,
        }
    }
    count
}

/// Parses binary requests in their short way. Gives how many there were.
pub(crate) fn parse_binary(input: &[u8]) -> usize {
    let value_max = Limits::default().value_max;
    let (mut rest, mut count) = (input, 0);
    while let Some((request, bytes)) = binary::plain(rest, value_max) {
        black_box((request.opcode, request.opaque, request.key));
        rest = &rest[bytes..];
        count += 1;
    }
    count
}

/// Frames the answers to gets that were hits. Gives how many there were.
pub(crate) fn frame_hits(input: &[u8], keys: &[u8]) -> usize {
    const END: &[u8] = b"END\r\n";
    let (mut at, mut count) = (0, 0);
    for key in keys.chunks_exact(KEY_BYTES) {
        let Some(bytes) = reply::value_hit(&input[at..], key, false) else { break };
        if !input[at + bytes..].starts_with(END) {
            break;
        }
        at += bytes + END.len();
        count += 1;
    }
    count
}

/// Frames values of multi-key gets, and their ends. Gives how many values there were.
pub(crate) fn frame_values(input: &[u8]) -> usize {
    let limits = reply_limits();
    let (mut at, mut count) = (0, 0);
    while at < input.len() {
        match reply::values(&input[at..], limits) {
            Frame::Value { total, .. } => {
                black_box(reply::value_key(&input[at..at + total]));
                at += total;
                count += 1;
            }
            Frame::End { total } => at += total,
            _ => break,
        }
    }
    count
}

/// Frames answers that are one line. Gives how many there were.
pub(crate) fn frame_lines(input: &[u8]) -> usize {
    let limits = reply_limits();
    let (mut at, mut count) = (0, 0);
    while let Frame::Line { total } = reply::line(&input[at..], limits) {
        at += total;
        count += 1;
    }
    count
}

/// Frames answers to meta commands. Gives how many there were.
pub(crate) fn frame_meta(input: &[u8]) -> usize {
    let limits = reply_limits();
    let (mut at, mut count) = (0, 0);
    while let Frame::Value { total, .. } | Frame::Line { total } = reply::meta(&input[at..], b"", limits) {
        at += total;
        count += 1;
    }
    count
}

/// Frames binary answers. Gives how many there were.
pub(crate) fn frame_binary(input: &[u8]) -> usize {
    let limits = reply_limits();
    let (mut at, mut count) = (0, 0);
    while let Ok(header) = reply::binary(&input[at..], limits) {
        at += binary::HEADER_BYTES + black_box(header).body;
        count += 1;
    }
    count
}

/// Finds the owners of keys. Gives how many keys there were.
pub(crate) fn place(placement: &Placement, keys: &[u8]) -> usize {
    look_at(keys.chunks_exact(KEY_BYTES).map(|key| placement.owner(key)))
}

/// Makes all of `items`, and gives how many there were.
fn look_at(items: impl Iterator) -> usize {
    items.fold(0, |count, item| {
        black_box(item);
        count + 1
    })
}

fn parser_limits() -> ParserLimits {
    let limits = Limits::default();
    ParserLimits { value_max: limits.value_max, get_line_max: limits.get_line_max }
}

fn reply_limits() -> ReplyLimits {
    let limits = Limits::default();
    ReplyLimits { line_max: limits.reply_line_max, value_max: limits.reply_value_max }
}
