//! Why a run ended before its time.

use std::fmt;
use std::io;

/// Bytes that are shown of each side.
const SHOWN: usize = 600;

/// What ends a run.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A reply that cannot be the answer to what was asked.
    WrongReply(Box<WrongReply>),
    /// The target ended a connection.
    Closed { client: u32, in_flight: usize },
    /// Requests wait, and nothing comes.
    Silence { seconds: f64, in_flight: usize, oldest: String },
    /// The system refused something.
    System { what: String, error: io::Error },
}

/// A reply and what it should have answered.
#[derive(Debug)]
pub(crate) struct WrongReply {
    /// The number of the connection.
    pub(crate) client: u32,
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// The request, without the value of a set; empty if nothing was asked.
    pub(crate) request: Vec<u8>,
    /// Where in the reply to it this is: earlier parts, such as values of other keys, were right.
    pub(crate) key: u64,
    /// What came, and what was received behind it.
    pub(crate) bytes: Vec<u8>,
}

impl Trouble {
    /// For `map_err` on what the system does.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Trouble::System { what: what.into(), error }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::WrongReply(wrong) => wrong.fmt(f),
            Trouble::Closed { client, in_flight } => {
                write!(f, "connection {client} was closed by the target with {in_flight} requests in flight")
            }
            Trouble::Silence { seconds, in_flight, oldest } => {
                write!(f, "no answer for {seconds} s, {in_flight} requests in flight, the oldest: {oldest}")
            }
            Trouble::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl fmt::Display for WrongReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wrong reply on connection {}: {}", self.client, self.what)?;
        writeln!(f, "  asked: {}", shown(&self.request))?;
        if self.key > 0 {
            writeln!(f, "  right up to key {} of these, then", self.key)?;
        }
        write!(f, "  got:   {}", shown(&self.bytes))
    }
}

/// As a byte string literal; of a long one the start and how much more there is.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match bytes.split_at_checked(SHOWN) {
        Some((start, rest)) if !rest.is_empty() => {
            format!("b\"{}\" and {} bytes more", start.escape_ascii(), rest.len())
        }
        _ => format!("b\"{}\"", bytes.escape_ascii()),
    }
}
