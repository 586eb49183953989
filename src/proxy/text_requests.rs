//! What each request of a text client becomes: a request to the owner of its key, a multi-key read, a
//! broadcast, or an answer given here.

use bytes::Bytes;

use crate::io::ConnId;
use crate::placement::Place;
use crate::protocol::compose;
use crate::protocol::meta::{Meta, MetaVerb};
use crate::protocol::text::{self, Keys, Request, Step, Store, StoreVerb};

use super::Proxy;
use super::client::{Protocol, Refused, Taken, Unlink};
use super::fanout::Read;
use super::fencing::meta_exists;
use super::joined::Asker;
use super::link::{Expect, LineVerb, LinkProtocol, Target};
use super::link_queue::Value;
use super::settings::ReadErrors;

impl Proxy {
    /// Deals with the first frame of a text client's bytes if it is a storage or a meta command in its plain
    /// form; gives its bytes.
    #[inline]
    pub(super) fn take_plain(
        &mut self,
        conn: ConnId,
        input: &[u8],
        backing: Option<&Bytes>,
    ) -> Option<usize> {
        let value_max = self.parser_limits.value_max;
        if input[0] == b'm' {
            let (meta, total) = text::plain_meta(input, value_max)?;
            self.meta(conn, &meta, &input[..total], backing);
            return Some(total);
        }
        let (store, total) = text::plain_store(input, value_max)?;
        self.store(conn, &store, &input[..total], backing);
        Some(total)
    }

    /// Deals with the first frame of a text client's bytes.
    pub(super) fn take_text(
        &mut self,
        conn: ConnId,
        input: &[u8],
        scanned: usize,
        backing: Option<&Bytes>,
    ) -> Taken {
        match text::parse(input, scanned, &self.parser_limits) {
            Step::Request(request, length) => {
                if self.take_text_request(conn, request, &input[..length], backing) {
                    Taken::Frame(length)
                } else {
                    Taken::Ended
                }
            }
            Step::Partial(partial) => Taken::Partial(partial.into()),
            Step::Refused(refusal) if refusal.close && refusal.answer.is_empty() => Taken::Ended,
            Step::Refused(refusal) => {
                let refused = Refused {
                    answer: refusal.answer.to_vec(),
                    unlink: refusal
                        .unlink
                        .map(|key| Unlink { key: key.into(), base64: refusal.unlink_base64 }),
                    close: refusal.close,
                };
                self.refuse(conn, refusal.swallow, refused);
                Taken::Frame(refusal.consumed)
            }
        }
    }

    /// False if the connection takes no more requests.
    fn take_text_request(
        &mut self,
        conn: ConnId,
        request: Request<'_>,
        frame: &[u8],
        backing: Option<&Bytes>,
    ) -> bool {
        match request {
            Request::Get { with_cas, key } => {
                let slot = self.reserve_slot(conn);
                self.get(conn, slot, with_cas, key);
            }
            Request::GetMany { with_cas, keys } => self.read_many(conn, Read::Get { with_cas }, keys),
            Request::Gat { with_cas, exptime, keys } => {
                self.read_many(conn, Read::Gat { with_cas, exptime }, keys)
            }
            Request::Store(store) => self.store(conn, &store, frame, backing),
            Request::Arithmetic { decrement, key, delta, noreply } => {
                let verb = if decrement { LineVerb::Decrement } else { LineVerb::Increment };
                self.line(conn, verb, key, noreply, |out| compose::arithmetic(out, decrement, key, delta));
            }
            Request::Touch { key, exptime, noreply } => {
                self.counters.cmd_touch += 1;
                self.line(conn, LineVerb::Touch, key, noreply, |out| compose::touch(out, key, exptime));
            }
            Request::Delete { key, noreply } => {
                self.line(conn, LineVerb::Delete, key, noreply, |out| compose::delete(out, key));
            }
            Request::FlushAll { delay, noreply } => self.flush_all(conn, delay, noreply),
            Request::Verbosity { noreply } => self.answer_now(conn, if noreply { b"" } else { b"OK\r\n" }),
            Request::Version => self.answer_version(conn),
            Request::Stats { arguments } => self.answer_stats(conn, arguments),
            Request::Administrative { verb } => self.refuse_administrative(conn, verb),
            Request::Quit => return false,
            Request::Meta(meta) => self.meta(conn, &meta, frame, backing),
        }
        true
    }

    #[inline(always)]
    pub(super) fn get(&mut self, conn: ConnId, slot: u32, with_cas: bool, key: &[u8]) {
        self.counters.cmd_get += 1;
        let place = self.place(key);
        let asker = Asker::Slot(conn, slot);
        if !self.settings.join_gets {
            return self.get_alone(place, with_cas, key, asker);
        }
        if let Err(why) = self.ask(place, with_cas, key, asker) {
            self.fail_get(place.server, conn, slot, with_cas, why);
        }
    }

    /// A get in a request of its own.
    fn get_alone(&mut self, place: Place, with_cas: bool, key: &[u8], asker: Asker) {
        let mut request = self.room.joined.take();
        request.begin(Read::Get { with_cas });
        request.ask(key, place.hash, asker);
        if let Err((request, why)) = self.queue_joined(place.server, request) {
            self.fail_joined(place.server, &request, why);
            self.room.joined.give(request);
        }
    }

    fn store(&mut self, conn: ConnId, store: &Store<'_>, frame: &[u8], backing: Option<&Bytes>) {
        self.counters.cmd_set += 1;
        if store.verb == StoreVerb::Cas && !self.may_compare(store.key, store.cas) {
            return self.answer_now(conn, if store.noreply { b"" } else { b"EXISTS\r\n" });
        }
        let slot = self.reserve_slot(conn);
        self.note_write(store.key);
        let backend = self.place(store.key).server;
        let target = Target::Slot(conn, slot);
        let expect = Expect::Line { verb: LineVerb::Store(store.verb), quiet: store.noreply };
        let backing = backing.filter(|_| store.value.len() >= self.settings.limits.moved_min);
        if backing.is_some() {
            // What is stored will be read.
            self.value_bytes = self.value_bytes.max(store.value.len());
        }
        self.queue_or_fail(backend, LinkProtocol::Text, target, expect, &[], |out, _| {
            let Some(backing) = backing else {
                compose::store(out, store, frame);
                return Value::None;
            };
            compose::store_head(out, store, frame);
            Value::Line(backing.slice_ref(store.value))
        });
    }

    fn line(
        &mut self,
        conn: ConnId,
        verb: LineVerb,
        key: &[u8],
        quiet: bool,
        compose: impl FnOnce(&mut Vec<u8>),
    ) {
        let slot = self.reserve_slot(conn);
        self.note_write(key);
        let backend = self.place(key).server;
        let (target, expect) = (Target::Slot(conn, slot), Expect::Line { verb, quiet });
        self.queue_or_fail(backend, LinkProtocol::Text, target, expect, &[], |out, _| {
            compose(out);
            Value::None
        });
    }

    fn meta(&mut self, conn: ConnId, meta: &Meta<'_>, frame: &[u8], backing: Option<&Bytes>) {
        if meta.verb == MetaVerb::Noop {
            return self.answer_now(conn, b"MN\r\n");
        }
        self.counters.cmd_meta += 1;
        match meta.verb {
            MetaVerb::Get => self.counters.cmd_get += 1,
            MetaVerb::Set => self.counters.cmd_set += 1,
            _ => {}
        }
        let mut room = [0; 256];
        let key = meta.placement_key(&mut room);
        if self.fenced && !self.may_compare_meta(meta, key) {
            return self.answer_now(conn, &meta_exists(meta));
        }
        let slot = self.reserve_slot(conn);
        if meta.verb != MetaVerb::Get || meta.modifies {
            self.note_write(key);
        }
        let backend = self.place(key).server;
        let mut ring = std::mem::take(&mut self.ring);
        let expect = self.expect_meta(meta, key, &mut ring);
        let fenced = matches!(expect, Expect::Fenced { .. });
        let moved_min = self.settings.limits.moved_min;
        let backing = backing.filter(|_| meta.verb == MetaVerb::Set && meta.value.len() >= moved_min);
        self.queue_or_fail(backend, LinkProtocol::Text, Target::Slot(conn, slot), expect, &ring, |out, _| {
            if fenced {
                compose::meta_fenced(out, meta);
                return Value::None;
            }
            let Some(backing) = backing else {
                compose::meta(out, meta, frame);
                return Value::None;
            };
            compose::meta_head(out, meta, frame);
            Value::Line(backing.slice_ref(meta.value))
        });
        ring.clear();
        self.ring = ring;
    }

    /// What the reply must look like; what is needed of the request then goes to the key ring.
    fn expect_meta(&self, meta: &Meta<'_>, key: &[u8], ring: &mut Vec<u8>) -> Expect {
        let (verb, quiet, compares) = (meta.verb, meta.quiet, meta.compares_cas);
        // memcached gives a key back as it was first stored, which may be raw: what stands in there ends no
        // line and no word.
        let raw = meta.base64 && key.iter().any(|byte| byte.is_ascii_control() || *byte == b' ');
        let raw_key = if raw { key } else { &[] };
        ring.extend_from_slice(raw_key);
        if meta.echoes {
            compose::meta_echo(ring, meta);
        }
        let raw_key = raw_key.len() as u8;
        if meta.quiet && is_told_by_backend(meta) {
            return Expect::Fenced { verb, compares, raw_key };
        }
        let read = verb == MetaVerb::Get
            && !meta.returns_cas
            && !compares
            && self.settings.read_errors != ReadErrors::Error;
        let token_key = if self.fenced && meta.returns_cas { key } else { &[] };
        ring.extend_from_slice(token_key);
        let token_key = token_key.len() as u8;
        Expect::Meta { verb, quiet, read, compares, token_key, raw_key }
    }

    /// A value was refused, and memcached would have removed what stood under its key: so its owner is told
    /// to, and the refusal is answered when it has.
    pub(super) fn unlink_then_answer(&mut self, conn: ConnId, unlink: &Unlink, answer: &[u8]) {
        if self.client(conn).is_some_and(|client| client.protocol == Protocol::Binary) {
            return self.unlink_then_answer_binary(conn, &unlink.key, answer);
        }
        let slot = self.reserve_slot(conn);
        let meta = Meta {
            verb: MetaVerb::Delete,
            key: &unlink.key,
            flags: b"b",
            value: &[],
            base64: unlink.base64,
            quiet: false,
            returns_cas: false,
            compares_cas: false,
            modifies: false,
            echoes: false,
            canonical: false,
        };
        let mut room = [0; 256];
        let key = meta.placement_key(&mut room);
        self.note_write(key);
        let backend = self.place(key).server;
        let (target, expect) = (Target::Slot(conn, slot), Expect::Unlinked { quiet: answer.is_empty() });
        self.queue_or_fail(backend, LinkProtocol::Text, target, expect, &[], |out, _| {
            if unlink.base64 {
                compose::meta_line(out, &meta)
            } else {
                compose::delete(out, &unlink.key)
            }
            Value::None
        });
    }
}

/// An `ma` that creates its item answers `HD` as one that finds it does, but only the latter is silenced by
/// `q`.
fn is_told_by_backend(meta: &Meta<'_>) -> bool {
    meta.verb == MetaVerb::Arithmetic && Keys::new(meta.flags).any(|flag| flag[0] == b'N')
}

/// The one text refusal that unlinks.
pub(super) const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
