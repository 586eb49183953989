//! What a worker knows of a backend: its links, what the control plane thinks of it, and the words for what
//! went wrong.

use std::sync::Arc;

use crate::io::ConnId;
use crate::ownership::change::Health;
use crate::ownership::identity::Identity;
use crate::time::Time;

use super::link::LinkProtocol;
use super::link_queue::Position;

/// A backend as one worker sees it.
#[derive(Debug, Default)]
pub(super) struct Backend {
    pub(super) text: Option<ConnId>,
    pub(super) binary: Option<ConnId>,
    /// Who queued a request on the link for text last, and where that stands.
    pub(super) position: Position,
    /// Links whose sending side is shut down, oldest first.
    pub(super) retired: Vec<ConnId>,
    /// Addresses that its name had when it was last looked up.
    pub(super) addresses: usize,
    pub(super) health: Health,
    /// When the control plane was told of a failure last.
    pub(super) last_failure: Option<Time>,
    /// The process behind it, once the control plane vouches for one. One that does not say who it is is
    /// `None` in the inner.
    pub(super) identity: Option<Option<Identity>>,
    /// The link by which it is found out whether it answers.
    pub(super) probing: Option<ConnId>,
    /// What it said it runs.
    pub(super) version: Option<Arc<[u8]>>,
    pub(super) requests: u64,
    pub(super) errors: u64,
}

impl Backend {
    /// The link in use for a protocol.
    #[inline]
    pub(super) fn link(&mut self, protocol: LinkProtocol) -> &mut Option<ConnId> {
        match protocol {
            LinkProtocol::Text => &mut self.text,
            LinkProtocol::Binary => &mut self.binary,
        }
    }
}

/// Why a backend did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Not within --timeout.
    TimedOut,
    /// Not connected within --connect-timeout.
    ConnectTimedOut,
    /// Nobody listens there.
    Refused,
    /// There is no way there.
    Unreachable,
    /// Its name has no address.
    Unresolved,
    /// The link ended with the request in flight.
    Lost,
    /// It has failed too often and is not asked.
    Down,
    /// Too much waits for it already.
    Overloaded,
    /// It sent what cannot be the answer.
    OutOfStep,
}

impl Why {
    /// The words behind `SERVER_ERROR backend NAME `.
    pub(super) fn words(self) -> &'static str {
        match self {
            Why::TimedOut => "timed out",
            Why::ConnectTimedOut => "connect timed out",
            Why::Refused => "connection refused",
            Why::Unreachable => "is unreachable",
            Why::Unresolved => "name does not resolve",
            Why::Lost => "connection lost",
            Why::Down => "is down",
            Why::Overloaded => "has too many requests waiting",
            Why::OutOfStep => "answered out of step",
        }
    }
}

/// The error of a request whose backend did not answer: its words without a line end.
pub(super) fn error_text(name: &str, why: Why) -> String {
    format!("SERVER_ERROR backend {name} {}", why.words())
}

/// The lower of two versions, number by number; one that is not numbers is the lower.
pub(super) fn lower_version<'a>(a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    if version_numbers(b) < version_numbers(a) { b } else { a }
}

/// The numbers of a version such as `1.6.18`, for comparing.
pub(super) fn version_numbers(version: &[u8]) -> Vec<u64> {
    version
        .split(|&byte| byte == b'.')
        .map_while(|part| {
            let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&part[..digits.min(18)]).ok()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(lower_version(b"1.6.9", b"1.6.18"), b"1.6.9");
        assert_eq!(lower_version(b"1.6.18", b"1.6.9"), b"1.6.9");
        assert_eq!(lower_version(b"1.6.18-beta", b"1.10"), b"1.6.18-beta");
        assert_eq!(lower_version(b"1.6", b"what"), b"what");
    }
}
