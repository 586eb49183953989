//! Requests of the meta protocol (memcached's doc/protocol.txt, "Meta Commands"). Its lines arrive on the
//! same connections as classic text; [`super::text::parse`] calls in here.

use super::answers;
use super::commands::Line;
use super::text::{Request, Step};

/// The meta commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVerb {
    /// `mg`
    Get,
    /// `ms`
    Set,
    /// `md`
    Delete,
    /// `ma`
    Arithmetic,
    /// `me`
    Debug,
    /// `mn`: no key, no flags.
    Noop,
}

/// A meta command whose flags were checked as far as its framing depends on them.
#[derive(Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which of them.
    pub verb: MetaVerb,
    /// As written on the line: base64 if `base64`. 1 to 250 bytes; empty for `mn`.
    pub key: &'a [u8],
    /// The part of the line after the key (and after the length, for `ms`): flags, separated by spaces.
    pub flags: &'a [u8],
    /// The value of `ms`, without its CR LF.
    pub value: &'a [u8],
    /// Flag `b`: the key is placed by what it decodes to.
    pub base64: bool,
    /// Flag `q`: the expected answer is not wanted.
    pub quiet: bool,
    /// Flag `c`: the answer carries the item's CAS token.
    pub returns_cas: bool,
    /// Flag `C`: to be applied only if the item's CAS token is the one given.
    pub compares_cas: bool,
    /// Flags that make `mg` change the item (`N`, `T`, `R`, `E`, ...).
    pub modifies: bool,
}

impl Meta<'_> {
    /// The bytes that decide where the key lives: the key, or what it decodes to. `scratch` lends the room.
    pub fn placement_key<'s>(&'s self, scratch: &'s mut [u8; 256]) -> &'s [u8] {
        let _ = scratch;
        self.key
    }
}

/// Reads the meta command `m` + `letter` of `line`.
pub(super) fn parse(line: Line<'_>, letter: u8) -> Step<'_> {
    match letter {
        b'n' => line.request(Request::Meta(Meta {
            verb: MetaVerb::Noop,
            key: b"",
            flags: b"",
            value: b"",
            base64: false,
            quiet: false,
            returns_cas: false,
            compares_cas: false,
            modifies: false,
        })),
        _ => line.refuse(answers::ERROR),
    }
}
