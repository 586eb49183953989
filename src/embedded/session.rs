//! One connection to an embedded backend: bytes of requests in, bytes of answers out. No socket, no clock.
//!
//! ```text
//!            first byte is 0x80
//!   Unknown ------------------> Binary   frames by their header
//!      | any other
//!      +----------------------> Text     frames by their line, and by the length on it
//!
//!   In both:  reading -> swallowing (a refused value still to come) -> reading
//!   In Text:  reading -> answering a get whose answer is larger than one turn -> reading
//! ```

use super::binary;
use super::store::{Clock, Store};
use super::text::{self, After, RestOfGet};
use crate::protocol::base64;
use crate::protocol::binary::{self as bin, REQUEST_MAGIC};
use crate::protocol::text::{self as txt, ParserLimits, Partial};

/// Bytes of answers after which a session stops and lets them be written first.
pub const TURN_BYTES: usize = 256 << 10;

/// Bytes of input that an idle session keeps room for.
const KEPT_ROOM: usize = 16 << 10;

/// memcached's default largest item, and what one client may make us hold as a line of keys.
const LIMITS: ParserLimits = ParserLimits { value_max: 1 << 20, get_line_max: 32 << 20 };

/// What the owner of the connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Gives more bytes when they come.
    Open,
    /// Writes the answers, then calls [`Session::receive`] again, with no bytes, before it reads more.
    Full,
    /// Writes the answers and closes.
    Close,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Session {
    protocol: Protocol,
    /// Bytes received that no request was read from yet.
    unread: Vec<u8>,
    /// Bytes of `unread` that the next look needs.
    wanted: usize,
    /// Bytes of `unread` known to hold no line end.
    scanned: usize,
    /// Bytes to throw away, and the answer that is due afterwards.
    swallow: u64,
    due: Vec<u8>,
    /// A get that is not answered whole yet.
    rest: Option<RestOfGet>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    Unknown,
    Text,
    Binary,
}

/// What one look at the unread bytes came to.
enum Look {
    /// That many bytes are done with; look again.
    Used(usize),
    /// The rest is not whole.
    Wait,
    /// The connection ends.
    Close,
}

impl Session {
    /// A connection that nothing was received on.
    pub fn new() -> Self {
        Session::default()
    }

    /// Takes `bytes`, carries out the requests that are whole, and appends their answers to `out`.
    pub fn receive(&mut self, bytes: &[u8], store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Then {
        if self.unread.is_empty() {
            let (used, then) = self.work(bytes, store, clock, out);
            self.unread.extend_from_slice(&bytes[used..]);
            return then;
        }
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let (used, then) = self.work(&unread, store, clock, out);
        unread.drain(..used);
        if unread.is_empty() && unread.capacity() > KEPT_ROOM {
            unread = Vec::new();
        }
        self.unread = unread;
        then
    }

    /// Goes through `input` until it ends, is not whole, or a turn's answers are full.
    fn work(&mut self, input: &[u8], store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> (usize, Then) {
        let full = out.len() + TURN_BYTES;
        let mut used = 0;
        loop {
            if let Some(rest) = &mut self.rest {
                if !rest.go_on(store, clock, out, full) {
                    return (used, Then::Full);
                }
                self.rest = None;
            }
            let input = &input[used..];
            if input.is_empty() || input.len() < self.wanted {
                return (used, Then::Open);
            }
            if out.len() >= full {
                return (used, Then::Full);
            }
            let look = match self.swallow {
                0 => self.look(input, store, clock, out, full),
                _ => self.swallow(input, out),
            };
            match look {
                Look::Used(bytes) => {
                    (self.wanted, self.scanned) = (0, 0);
                    used += bytes;
                }
                Look::Wait => return (used, Then::Open),
                Look::Close => return (used + input.len(), Then::Close),
            }
        }
    }

    fn swallow(&mut self, input: &[u8], out: &mut Vec<u8>) -> Look {
        let bytes = self.swallow.min(input.len() as u64);
        self.swallow -= bytes;
        if self.swallow == 0 {
            out.append(&mut self.due);
        }
        Look::Used(bytes as usize)
    }

    #[inline]
    fn look(
        &mut self,
        input: &[u8],
        store: &mut Store,
        clock: Clock,
        out: &mut Vec<u8>,
        full: usize,
    ) -> Look {
        if self.protocol == Protocol::Unknown {
            self.protocol = if input[0] == REQUEST_MAGIC { Protocol::Binary } else { Protocol::Text };
        }
        match self.protocol {
            Protocol::Binary => self.look_binary(input, store, clock, out),
            _ => self.look_text(input, store, clock, out, full),
        }
    }

    fn look_text(
        &mut self,
        input: &[u8],
        store: &mut Store,
        clock: Clock,
        out: &mut Vec<u8>,
        full: usize,
    ) -> Look {
        match txt::parse(input, self.scanned, &LIMITS) {
            txt::Step::Request(request, bytes) => match text::answer(request, store, clock, out, full) {
                After::Done => Look::Used(bytes),
                After::Quit => Look::Close,
                After::Rest(rest) => {
                    self.rest = Some(rest);
                    Look::Used(bytes)
                }
            },
            txt::Step::Refused(refusal) => {
                if let Some(key) = refusal.unlink {
                    let mut room = [0; 256];
                    let key = if refusal.unlink_base64 { base64::decode(key, &mut room) } else { Some(key) };
                    store.unlink(key.unwrap_or_default(), clock);
                }
                self.refused(refusal.answer, refusal.consumed, refusal.swallow, refusal.close, out)
            }
            txt::Step::Partial(Partial::Line { scanned }) => {
                self.scanned = scanned;
                self.wanted = scanned + 1;
                Look::Wait
            }
            txt::Step::Partial(Partial::Value { total }) => {
                self.wanted = total;
                Look::Wait
            }
        }
    }

    fn look_binary(&mut self, input: &[u8], store: &mut Store, clock: Clock, out: &mut Vec<u8>) -> Look {
        match bin::parse(input, LIMITS.value_max) {
            bin::Step::Request(request, bytes) => match binary::answer(&request, store, clock, out) {
                After::Quit => Look::Close,
                _ => Look::Used(bytes),
            },
            bin::Step::Refused(refusal) => {
                if let Some(key) = refusal.unlink {
                    store.unlink(key, clock);
                }
                let mut answer = Vec::new();
                if let Some((status, message)) = refusal.answer {
                    binary::error(refusal.opcode, refusal.opaque, status, message, &mut answer);
                }
                self.refused(&answer, refusal.consumed, refusal.swallow, refusal.close, out)
            }
            bin::Step::Partial { total } => {
                self.wanted = total;
                Look::Wait
            }
        }
    }

    fn refused(
        &mut self,
        answer: &[u8],
        consumed: usize,
        swallow: u64,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Look {
        if swallow > 0 {
            self.swallow = swallow;
            self.due = answer.to_vec();
        } else {
            out.extend_from_slice(answer);
        }
        if close { Look::Close } else { Look::Used(consumed) }
    }
}

#[cfg(test)]
mod tests;
