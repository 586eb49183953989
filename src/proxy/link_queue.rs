//! Putting requests on links: composed into the link's outbox, and entered into its pipeline. Gets are joined
//! on the way.

use bytes::Bytes;

use crate::io::{Action, ConnId};
use crate::placement::Place;

use super::Proxy;
use super::backend::Why;
use super::client::Client;
use super::fanout::Read;
use super::joined::{Asker, JoinedGet};
use super::link::{Expect, LinkProtocol, Pending, Target};

/// What follows what was composed of a request.
pub(super) enum Value {
    /// Nothing.
    None,
    /// A value to be moved.
    Moved(Bytes),
    /// A value to be moved, and CR LF.
    Line(Bytes),
}

impl Proxy {
    /// Queues a request for a backend; answers it with the error if that is not possible. `compose` writes
    /// its line or head, given the opaque to use on a binary link; `key` goes into the key ring.
    #[inline]
    pub(super) fn queue_or_fail(
        &mut self,
        backend: usize,
        protocol: LinkProtocol,
        target: Target,
        expect: Expect,
        key: &[u8],
        compose: impl FnOnce(&mut Vec<u8>, u32) -> Value,
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
    pub(super) fn queue(
        &mut self,
        backend: usize,
        protocol: LinkProtocol,
        target: Target,
        expect: Expect,
        key: &[u8],
        compose: impl FnOnce(&mut Vec<u8>, u32) -> Value,
    ) -> Result<(), Why> {
        let place = self.find_place(backend, protocol)?;
        self.queue_at(place, backend, target, expect, key, compose)
    }

    /// As [`Self::queue`], at a place that was found.
    #[inline]
    fn queue_at(
        &mut self,
        (conn, earlier): (ConnId, Earlier),
        backend: usize,
        target: Target,
        expect: Expect,
        key: &[u8],
        compose: impl FnOnce(&mut Vec<u8>, u32) -> Value,
    ) -> Result<(), Why> {
        let deadline = self.due;
        let link = self.links.get_mut(conn.index(), conn.generation()).expect("a backend's link is there");
        if !link.has_room(&self.settings.limits, self.memory.is_short()) {
            return Err(Why::Overloaded);
        }
        let tag = link.next_opaque;
        link.next_opaque = tag.wrapping_add(1);
        let stage = earlier.others.min(link.staged as u32);
        let queue = match stage {
            0 => &mut link.queue,
            _ => &mut link.stages[stage as usize - 1].after,
        };
        let spare = &mut self.room.spare;
        let before = queue.outbox.len();
        let tail = queue.outbox.tail(spare);
        match compose(tail, tag) {
            Value::None => {}
            Value::Moved(value) => queue.outbox.push(value, spare),
            Value::Line(value) => {
                queue.outbox.push(value, spare);
                queue.outbox.tail(spare).extend_from_slice(b"\r\n");
            }
        }
        queue.keys.push(key);
        let pending = Pending {
            target,
            expect: expect.tagged(tag),
            deadline,
            start: queue.queued,
            key_bytes: key.len() as u32,
        };
        queue.pipeline.push_back(pending);
        let bytes = queue.outbox.len() - before;
        queue.queued += bytes as u64;
        if stage > 0 {
            link.staged_requests += 1;
            link.staged_bytes += bytes;
        }
        link.count_request(conn, self.now, &mut self.dirty_links);
        self.note_position(backend, Earlier { gets: stage, others: stage });
        self.count_request(backend);
        Ok(())
    }

    /// Queues a request of our own for a backend that takes no others.
    ///
    /// # Errors
    /// Too much waits for it.
    pub(super) fn queue_own(
        &mut self,
        conn: ConnId,
        backend: usize,
        target: Target,
        expect: Expect,
        compose: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Why> {
        let place = (conn, Earlier::default());
        self.queue_at(place, backend, target, expect, &[], |out, _| {
            compose(out);
            Value::None
        })
    }

    /// Asks a backend for one key of a get or gets, together with those that others ask for in this tick.
    ///
    /// # Errors
    /// The backend is down, or too much waits for it.
    #[inline(always)]
    pub(super) fn ask(&mut self, place: Place, with_cas: bool, key: &[u8], asker: Asker) -> Result<(), Why> {
        let (conn, earlier) = self.find_place(place.server, LinkProtocol::Text)?;
        let link = self.links.get_mut(conn.index(), conn.generation()).expect("a backend's link is there");
        let read = Read::Get { with_cas };
        let stage = link.stage_for(earlier.gets as usize, read, key, place.hash);
        if stage == link.staged {
            if !link.has_room(&self.settings.limits, self.memory.is_short()) {
                return Err(Why::Overloaded);
            }
            link.open_stage(read, &mut self.room);
            link.ask(stage, key, place.hash, asker);
            link.count_request(conn, self.now, &mut self.dirty_links);
            self.count_request(place.server);
        } else if !link.ask(stage, key, place.hash, asker) {
            self.counters.shared_keys += 1;
        }
        self.note_position(place.server, Earlier { gets: stage as u32, others: stage as u32 + 1 });
        Ok(())
    }

    /// Queues a multi-key read that no other get may join.
    ///
    /// # Errors
    /// The backend is down, or too much waits for it: with the read itself.
    pub(super) fn queue_joined(
        &mut self,
        backend: usize,
        joined: Box<JoinedGet>,
    ) -> Result<(), (Box<JoinedGet>, Why)> {
        let (conn, earlier) = match self.find_place(backend, LinkProtocol::Text) {
            Ok(found) => found,
            Err(why) => return Err((joined, why)),
        };
        let deadline = self.due;
        let link = self.links.get_mut(conn.index(), conn.generation()).expect("a backend's link is there");
        if !link.has_room(&self.settings.limits, self.memory.is_short()) {
            return Err((joined, Why::Overloaded));
        }
        let stage = earlier.others.min(link.staged as u32);
        let queue = match stage {
            0 => &mut link.queue,
            _ => &mut link.stages[stage as usize - 1].after,
        };
        let bytes = joined.line().len() + 2;
        queue.push_joined(joined, deadline, &mut self.room.spare, &mut self.counters);
        if stage > 0 {
            link.staged_requests += 1;
            link.staged_bytes += bytes;
        }
        link.count_request(conn, self.now, &mut self.dirty_links);
        self.note_position(backend, Earlier { gets: stage, others: stage });
        self.count_request(backend);
        Ok(())
    }

    /// Requests of `client` are read from now on.
    pub(super) fn begin_run(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) else { return };
        self.run.begin(conn, client, self.tick);
    }

    /// The link to a backend for `protocol`, opened if there is none, and what stands there already of the
    /// client whose requests are being read.
    #[inline]
    fn find_place(&mut self, backend: usize, protocol: LinkProtocol) -> Result<(ConnId, Earlier), Why> {
        let state = &self.backends[backend];
        let position = &state.position;
        let earlier = if position.run == self.run.number {
            position.earlier
        } else if self.run.again {
            // Others have been here since: that it asked for something in this tick is all that is known.
            Earlier { gets: u32::MAX, others: u32::MAX }
        } else {
            Earlier::default()
        };
        Ok((self.link_for(backend, protocol)?, earlier))
    }

    #[inline]
    fn note_position(&mut self, backend: usize, earlier: Earlier) {
        self.backends[backend].position = Position { run: self.run.number, earlier };
    }

    /// A request more is on its way to a backend.
    #[inline]
    fn count_request(&mut self, backend: usize) {
        self.backends[backend].requests += 1;
        self.counters.backend_requests += 1;
        self.wake_at(self.due);
    }

    /// One write for each link that has something to send.
    pub(super) fn flush_links(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty_links);
        for conn in dirty.drain(..) {
            let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { continue };
            link.dirty = false;
            if link.staged > 0 {
                link.commit(self.due, &mut self.room.spare, &mut self.counters);
            }
            if link.may_write() {
                let buffer = std::mem::take(&mut link.queue.outbox);
                link.sending = buffer.len();
                link.handed += buffer.len() as u64;
                self.counters.backend_writes += 1;
                self.actions.push_back(Action::Send { conn, buffer });
            }
            self.memory.charge(link.bytes(), &mut link.charged);
        }
        dirty.append(&mut self.dirty_links);
        self.dirty_links = dirty;
        self.tick = self.tick.wrapping_add(1);
    }

    /// The link is looked at when this tick ends.
    #[inline]
    pub(super) fn touch_link(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
        link.touch(conn, &mut self.dirty_links);
    }
}

/// No client has this identity.
const NOBODY: ConnId = ConnId::client(u32::MAX >> 1, u32::MAX);

/// Whose requests are being read.
#[derive(Debug)]
pub(super) struct Run {
    /// Each has its own.
    number: u64,
    client: ConnId,
    tick: u32,
    /// It is not the client's first in this tick.
    again: bool,
}

/// Where the requests of the run that was there last stand, on a backend's link for text.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    run: u64,
    earlier: Earlier,
}

/// The first places behind a client's earlier requests of this tick.
#[derive(Clone, Copy, Debug, Default)]
struct Earlier {
    /// For a get: the number of a stage.
    gets: u32,
    /// For another request: zero for the queue, else the number of a stage plus one.
    others: u32,
}

impl Run {
    /// Nobody's.
    pub(super) const NONE: Run = Run { number: 1, client: NOBODY, tick: 0, again: false };

    /// Requests of `client` are read from now on.
    #[inline]
    pub(super) fn begin(&mut self, conn: ConnId, client: &mut Client, tick: u32) {
        if self.client == conn && self.tick == tick {
            return;
        }
        let again = std::mem::replace(&mut client.last_run, tick) == tick;
        *self = Run { number: self.number + 1, client: conn, tick, again };
    }
}

impl Expect {
    /// With the opaque that the reply must bear.
    fn tagged(self, new: u32) -> Self {
        match self {
            Expect::Binary { opcode, opaque, compares, .. } => {
                Expect::Binary { opcode, opaque, compares, tag: new }
            }
            Expect::BinaryUnlinked { opcode, opaque, .. } => {
                Expect::BinaryUnlinked { opcode, opaque, tag: new }
            }
            other => other,
        }
    }
}
