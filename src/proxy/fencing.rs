//! What a worker does while a CAS fence stands ([`crate::ownership::fence`]): it remembers the tokens that
//! owners hand out, and answers a `cas` with any other as if somebody else had been faster.

use crate::protocol::binary::status;
use crate::protocol::compose;
use crate::protocol::meta::Meta;
use crate::protocol::number;
use crate::protocol::reply;
use crate::protocol::text::Keys;

use super::Proxy;
use super::binary_requests::response;
use super::link::{Expect, Pending, Target};
use super::replies::Answer;

/// memcached's words for a key that has changed, in binary.
pub(super) const EXISTS: &[u8] = b"Data exists for key.";

impl Proxy {
    /// The owner of `key` may have handed out this token since it owns the key. False: it has not, or that
    /// was forgotten.
    #[inline]
    pub(super) fn may_compare(&mut self, key: &[u8], token: u64) -> bool {
        !self.fenced || self.was_handed_out(key, token)
    }

    /// As [`Self::may_compare`], for a meta command.
    #[cold]
    pub(super) fn may_compare_meta(&mut self, meta: &Meta<'_>, key: &[u8]) -> bool {
        // What is no number is refused by the owner.
        let token = meta.compares_cas.then(|| compared_token(meta)).flatten();
        token.is_none_or(|token| self.may_compare(key, token))
    }

    #[cold]
    fn was_handed_out(&mut self, key: &[u8], token: u64) -> bool {
        let Some(fence) = self.ownership.fence_over(key, self.now) else { return true };
        let known = self.settings.tokens.knows(key, token, fence);
        self.counters.cas_fenced += u64::from(!known);
        known
    }

    /// The owner of `key` hands this token out.
    #[cold]
    pub(super) fn note_token(&self, key: &[u8], token: u64) {
        if let Some(fence) = self.ownership.fence_over(key, self.now) {
            self.settings.tokens.remember(key, token, fence);
        }
    }

    /// As [`Self::note_token`], of the frame of a value.
    #[cold]
    pub(super) fn note_value_token(&self, key: &[u8], frame: &[u8]) {
        let line = frame.split(|&byte| byte == b'\r').next().unwrap_or(frame);
        if let Some(token) = line.rsplit(|&byte| byte == b' ').next().and_then(number::digits) {
            self.note_token(key, token);
        }
    }

    /// As [`Self::note_token`], of the line of the answer to a meta command, if it bears one.
    #[cold]
    pub(super) fn note_meta_token(&self, key: &[u8], line: &[u8], raw_key: &[u8]) {
        if let Some(token) = reply::meta_token(line, raw_key) {
            self.note_token(key, token);
        }
    }
}

impl Proxy {
    /// Answers a request that compares a token, and was not sent, as if somebody else had been faster. `key`
    /// is what it has in the key ring.
    pub(super) fn give_exists(&mut self, pending: &Pending, key: &[u8]) {
        let Target::Slot(conn, slot) = pending.target else { return };
        let answer = match pending.expect {
            Expect::Line { quiet: true, .. } => Vec::new(),
            Expect::Meta { .. } | Expect::Fenced { .. } => {
                [b"EX", pending.expect.echo(key), b"\r\n"].concat()
            }
            Expect::Binary { opcode, opaque, .. } => response(opcode, opaque, status::KEY_EXISTS, EXISTS),
            _ => b"EXISTS\r\n".to_vec(),
        };
        self.answer(conn, slot, Answer::copied(&answer));
    }
}

/// The token that a meta command compares with; `None` where it is no number: the owner says what is wrong.
fn compared_token(meta: &Meta<'_>) -> Option<u64> {
    let flag = Keys::new(meta.flags).find(|flag| flag[0] == b'C')?;
    number::u64(&flag[1..])
}

/// The answer to a meta command whose key has changed.
pub(super) fn meta_exists(meta: &Meta<'_>) -> Vec<u8> {
    let mut answer = b"EX".to_vec();
    compose::meta_echo(&mut answer, meta);
    answer.extend_from_slice(b"\r\n");
    answer
}
