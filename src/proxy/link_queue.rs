//! Putting requests on links: composed into the link's outbox, and entered into its pipeline.

use bytes::Bytes;

use crate::io::{Action, ConnId};

use super::Proxy;
use super::backend::Why;
use super::link::{Expect, LinkProtocol, Pending, Target};

/// What follows a request's line or head.
pub(super) enum Value<'a> {
    /// Nothing.
    None,
    /// To be copied; then CR LF if `line`.
    Copied {
        /// The value.
        value: &'a [u8],
        /// A text request's.
        line: bool,
    },
    /// To be moved; then CR LF if `line`.
    Moved {
        /// The value.
        value: Bytes,
        /// A text request's.
        line: bool,
    },
}

impl<'a> Value<'a> {
    /// The value of a text request. Moved out of `backing`, which owns its bytes, if it is large.
    pub(super) fn line(value: &'a [u8], backing: Option<&Bytes>, moved_min: usize) -> Self {
        Value::of(value, backing, moved_min, true)
    }

    /// The value of a binary request.
    pub(super) fn bare(value: &'a [u8], backing: Option<&Bytes>, moved_min: usize) -> Self {
        Value::of(value, backing, moved_min, false)
    }

    fn of(value: &'a [u8], backing: Option<&Bytes>, moved_min: usize, line: bool) -> Self {
        match backing {
            Some(backing) if value.len() >= moved_min => {
                Value::Moved { value: backing.slice_ref(value), line }
            }
            _ => Value::Copied { value, line },
        }
    }
}

impl Proxy {
    /// Queues a request for a backend; answers it with the error if that is not possible. `compose` writes
    /// its line or head, given the opaque to use on a binary link; `key` goes into the key ring.
    #[inline]
    pub(super) fn queue_or_fail<'v>(
        &mut self,
        backend: usize,
        protocol: LinkProtocol,
        target: Target,
        expect: Expect,
        key: &[u8],
        compose: impl FnOnce(&mut Vec<u8>, u32) -> Value<'v>,
    ) {
        if let Err(why) = self.queue(backend, protocol, target, expect, key, compose) {
            self.fail(backend, target, expect, key, why);
        }
    }

    /// Queues a request for a backend on its link for `protocol`, which is opened if there is none.
    ///
    /// # Errors
    /// The backend is down, or too much waits for it.
    #[inline]
    pub(super) fn queue<'v>(
        &mut self,
        backend: usize,
        protocol: LinkProtocol,
        target: Target,
        expect: Expect,
        key: &[u8],
        compose: impl FnOnce(&mut Vec<u8>, u32) -> Value<'v>,
    ) -> Result<(), Why> {
        let conn = self.link_for(backend, protocol)?;
        let limits = &self.settings.limits;
        let link = self.links.get_mut(conn.index(), conn.generation()).expect("a backend's link is there");
        if link.pipeline.len() >= limits.link_requests_max || link.outbox.len() >= limits.link_bytes_max {
            return Err(Why::Overloaded);
        }
        let tag = link.next_opaque;
        link.next_opaque = tag.wrapping_add(1);
        let before = link.outbox.len();
        let tail = link.outbox.tail(&mut self.spare);
        match compose(tail, tag) {
            Value::None => {}
            Value::Copied { value, line } => {
                tail.extend_from_slice(value);
                if line {
                    tail.extend_from_slice(b"\r\n");
                }
            }
            Value::Moved { value, line } => {
                link.outbox.push(value);
                if line {
                    link.outbox.tail(&mut self.spare).extend_from_slice(b"\r\n");
                }
            }
        }
        link.keys.push(key);
        let deadline = self.now + self.settings.timeout;
        if link.pipeline.is_empty() {
            link.heard = self.now;
        }
        let pending = Pending {
            target,
            expect: expect.tagged(tag),
            deadline,
            start: link.queued,
            key_bytes: key.len() as u32,
        };
        link.pipeline.push_back(pending);
        link.queued += (link.outbox.len() - before) as u64;
        if !link.dirty {
            link.dirty = true;
            self.dirty_links.push(conn);
        }
        self.backends[backend].requests += 1;
        self.counters.backend_requests += 1;
        self.wake_at(deadline);
        Ok(())
    }

    /// One write for each link that has something to send.
    pub(super) fn flush_links(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty_links);
        for conn in dirty.drain(..) {
            let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { continue };
            link.dirty = false;
            if link.may_write() {
                let buffer = std::mem::take(&mut link.outbox);
                link.sending = buffer.len();
                link.handed += buffer.len() as u64;
                self.counters.backend_writes += 1;
                self.actions.push_back(Action::Send { conn, buffer });
            }
        }
        dirty.append(&mut self.dirty_links);
        self.dirty_links = dirty;
    }

    /// The link is looked at when this tick ends.
    pub(super) fn touch_link(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
        if !link.dirty {
            link.dirty = true;
            self.dirty_links.push(conn);
        }
    }
}

impl Expect {
    /// With the opaque that the reply must bear.
    fn tagged(self, new: u32) -> Self {
        match self {
            Expect::Binary { opcode, opaque, .. } => Expect::Binary { opcode, opaque, tag: new },
            Expect::BinaryUnlinked { opcode, opaque, .. } => {
                Expect::BinaryUnlinked { opcode, opaque, tag: new }
            }
            Expect::BinaryVersion { .. } => Expect::BinaryVersion { tag: new },
            other => other,
        }
    }
}
