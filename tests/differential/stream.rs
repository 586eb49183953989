//! A client's stream: requests in segments, each of which is answered whole before the next is sent.

use std::collections::HashMap;

/// CAS tokens that a server has shown, by key (for meta with a base64 key: as written).
pub(crate) type Tokens = HashMap<Vec<u8>, u64>;

/// A token that no server gives: a comparison with it fails on every server alike.
pub(crate) const NO_TOKEN: u64 = 1 << 60;

/// A part of a request.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// The token last seen for this key, in decimal.
    Decimal(Vec<u8>),
    /// The token last seen for this key, as eight bytes.
    Eight(Vec<u8>),
}

/// One request, or a thing that only looks like one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Its parts in order.
    pub(crate) pieces: Vec<Piece>,
    /// Binary: the opaque and the key that an answer with that opaque is about.
    pub(crate) about: Option<(u32, Vec<u8>)>,
}

impl Request {
    /// A request that is the same for every server.
    pub(crate) fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Request { pieces: vec![Piece::Bytes(bytes.into())], about: None }
    }

    /// The bytes for a server that has shown these tokens.
    pub(crate) fn render(&self, tokens: &Tokens) -> Vec<u8> {
        let token = |key: &Vec<u8>| tokens.get(key).copied().unwrap_or(NO_TOKEN);
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(plain) => bytes.extend_from_slice(plain),
                Piece::Decimal(key) => bytes.extend_from_slice(token(key).to_string().as_bytes()),
                Piece::Eight(key) => bytes.extend_from_slice(&token(key).to_be_bytes()),
            }
        }
        bytes
    }
}

/// Requests of which all are answered before anything else is sent.
pub(crate) type Segment = Vec<Request>;

/// How a stream ends, when its last segment is answered. What memcached still had to answer when it gives a
/// client up can get lost, so these bytes go out alone.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// The client just leaves.
    Leave,
    /// The client sends this, and the server is to end the connection.
    Sent(Vec<u8>),
    /// The client sends this, says that it will send no more, and reads to the end.
    HalfClosed(Vec<u8>),
}

/// A client's stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Binary, or text and meta.
    pub(crate) binary: bool,
    /// The requests.
    pub(crate) segments: Vec<Segment>,
    /// What comes behind them.
    pub(crate) ending: Ending,
    /// Keys of its requests in which memcached may put a line end into a reply.
    pub(crate) keys_with_line_ends: Vec<Vec<u8>>,
    /// Makes the marks at the ends of its segments its own.
    pub(crate) mark: u64,
}

impl Stream {
    /// How many requests it has.
    pub(crate) fn requests(&self) -> usize {
        self.segments.iter().map(Vec::len).sum()
    }

    /// The same with each request a segment of its own.
    pub(crate) fn one_by_one(&self) -> Stream {
        let segments = self.segments.iter().flatten().map(|request| vec![request.clone()]).collect();
        Stream { segments, ..self.clone() }
    }
}
