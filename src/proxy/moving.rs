//! How a worker takes over a change of owners ([`crate::ownership::change`]). Between the first step and the
//! third, requests for the keys that move wait with their clients, and nothing for them is in flight.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::io::ConnId;
use crate::limits::WRITTEN_BYTES_MAX;
use crate::ownership::Ownership;
use crate::ownership::change::{Change, Health, Kind, Notice, Order, Written};
use crate::placement::{Place, Placement};
use crate::protocol::binary;
use crate::protocol::text::{self, Request};
use crate::time::Time;

use super::Proxy;
use super::backend::Why;
use super::client::Protocol;
use super::link::LinkState;

/// A change between its first step and its third.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) change: Arc<Change>,
    /// Requests that have waited until then are answered with an error.
    pub(super) deadline: Time,
    confirmed: bool,
    /// Links that bear requests from before the change, and where those end.
    barriers: Vec<(ConnId, u64)>,
}

impl Moving {
    /// The key has another owner after the change.
    pub(super) fn moves(&self, key: &[u8], present: &Placement) -> bool {
        self.change.kind != Kind::Restart && present.owner(key) != self.change.next.present.owner(key)
    }

    /// Where a key lies; one that moves with the backend that it leaves or goes to, which is down.
    #[cold]
    pub(super) fn place(&self, key: &[u8], present: &Placement) -> Place {
        let place = present.place(key);
        if self.moves(key, present) { Place { server: self.change.backend, ..place } } else { place }
    }
}

/// Keys of ejected backends that were written since.
#[derive(Debug, Default)]
pub(super) struct WrittenKeys {
    keys: BTreeSet<Box<[u8]>>,
    bytes: usize,
    more: bool,
}

impl WrittenKeys {
    fn add(&mut self, key: &[u8], keys_max: usize) {
        // A key that stands on no line of text cannot be deleted by one.
        let fits = self.keys.len() < keys_max && self.bytes < WRITTEN_BYTES_MAX;
        if self.more || !fits || key.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
            self.keys = BTreeSet::new();
            self.more = true;
        } else if !self.keys.contains(key) {
            self.bytes += key.len();
            self.keys.insert(key.into());
        }
    }
}

impl Proxy {
    /// The control plane has decided something.
    pub(super) fn take_order(&mut self, order: Order) {
        match order {
            Order::Health { backend, health } => self.take_health(backend, health),
            Order::Probe { backend } => self.probe(backend),
            Order::Vouched { backend, identity } => self.take_vouched(backend, identity),
            Order::Prepare(change) => self.prepare(change),
            Order::Clean { number, written } => self.clean(number, &written),
            Order::Commit(ownership) => self.commit_ownership(&ownership),
            Order::Cancel { number } => {
                if self.moving.take_if(|moving| moving.change.next.number == number).is_some() {
                    self.placed += 1;
                    self.release_held();
                }
            }
        }
    }

    /// A key is to be written.
    #[inline]
    pub(super) fn note_write(&mut self, key: &[u8]) {
        if self.away {
            self.note_write_elsewhere(key);
        }
    }

    #[cold]
    fn note_write_elsewhere(&mut self, key: &[u8]) {
        if self.ownership.away[self.ownership.home.owner(key)] {
            self.written.add(key, self.settings.limits.written_keys_max);
        }
    }

    /// All keys are to be written.
    pub(super) fn note_write_to_all(&mut self) {
        self.written.more |= self.away;
    }

    /// Step one.
    fn prepare(&mut self, change: Arc<Change>) {
        let (backend, kind) = (change.backend, change.kind);
        let deadline = self.due;
        let moving = Moving { change, deadline, confirmed: false, barriers: Vec::new() };
        self.moving = Some(Box::new(moving));
        self.placed += 1;
        self.wake_at(deadline);
        match kind {
            Kind::Eject => self.give_up_links(backend),
            Kind::Restart => self.drop_links(backend),
            Kind::Return => self.set_barriers(),
        }
        self.check_confirmed();
    }

    /// An ejected backend's links: what is in flight is failed, and what may still be applied is kept track
    /// of.
    fn give_up_links(&mut self, backend: usize) {
        for conn in [self.backends[backend].text, self.backends[backend].binary].into_iter().flatten() {
            match self.link(conn).map(|link| link.state) {
                // What may have been applied must not look like what was never sent.
                Some(LinkState::Standing) => self.retire_link(conn, Why::Lost),
                Some(_) => self.lose_link(conn, Why::Down),
                None => {}
            }
        }
    }

    /// A restarted backend's links: those that have reached the earlier process, or nobody knows whom.
    fn drop_links(&mut self, backend: usize) {
        for conn in [self.backends[backend].text, self.backends[backend].binary].into_iter().flatten() {
            if self.link(conn).is_some_and(|link| link.state == LinkState::Standing) {
                self.lose_link(conn, Why::Lost);
            }
        }
    }

    /// What is in flight now is awaited.
    fn set_barriers(&mut self) {
        let mut barriers = Vec::new();
        let due = self.due;
        for backend in 0..self.backends.len() {
            for conn in [self.backends[backend].text, self.backends[backend].binary].into_iter().flatten() {
                let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { continue };
                link.commit(due, &mut self.room.spare, &mut self.counters);
                if !link.queue.pipeline.is_empty() {
                    barriers.push((conn, link.queue.queued));
                }
            }
        }
        if let Some(moving) = &mut self.moving {
            moving.barriers = barriers;
        }
    }

    /// Step two, when nothing of what moves is in flight any more.
    pub(super) fn check_confirmed(&mut self) {
        let Some(mut moving) = self.moving.take_if(|moving| !moving.confirmed) else { return };
        moving.barriers.retain(|&(conn, end)| self.is_before(conn, end));
        moving.confirmed = moving.barriers.is_empty();
        if moving.confirmed {
            let (backend, number) = (moving.change.backend, moving.change.next.number);
            let unsettled = self.backends[backend].retired.len();
            let written = match moving.change.kind {
                Kind::Return => self.written(),
                Kind::Eject | Kind::Restart => Written::default(),
            };
            self.notify(Notice::Confirmed { number, unsettled, written });
        }
        self.moving = Some(moving);
    }

    /// A link bears requests from before this byte that somebody awaits.
    fn is_before(&self, conn: ConnId, end: u64) -> bool {
        let Some(link) = self.links.get(conn.index(), conn.generation()) else { return false };
        link.is_in_use() && link.queue.pipeline.get(link.marks).is_some_and(|pending| pending.start < end)
    }

    /// Whatever was written of any ejected backend's keys: one that returns may have stood in for another
    /// before it was ejected itself, and has of those too what is old.
    fn written(&self) -> Written {
        Written { keys: self.written.keys.iter().cloned().collect(), more: self.written.more }
    }

    /// Step three.
    fn commit_ownership(&mut self, next: &Arc<Ownership>) {
        let change = self.moving.take_if(|moving| moving.change.next.number == next.number);
        for (backend, away) in next.away.iter().enumerate() {
            if !away && self.ownership.away[backend] {
                self.take_health(backend, Health::Up);
            }
        }
        self.ownership = next.clone();
        self.placement = next.present.clone();
        self.placed += 1;
        self.fenced = !next.fences.is_empty();
        self.away = next.is_away();
        // One that is still away may have stood in for those that are not any more.
        if !self.away && !next.unforgotten {
            self.written = WrittenKeys::default();
        }
        if let Some(moving) = change {
            self.count_change(moving.change.kind);
            if moving.change.kind == Kind::Restart {
                self.refuse_compares(moving.change.backend);
            }
        }
        self.release_held();
    }

    /// One worker counts for all.
    fn count_change(&mut self, kind: Kind) {
        if self.worker == 0 {
            self.counters.cas_fences += 1;
            match kind {
                Kind::Eject => self.counters.ejections += 1,
                Kind::Return => self.counters.returns += 1,
                Kind::Restart => self.counters.backend_restarts += 1,
            }
        }
    }

    /// The next request of a client waits until the change is made.
    #[cold]
    pub(super) fn must_wait(&self, protocol: Protocol, input: &[u8], scanned: usize) -> bool {
        let Some(moving) = &self.moving else { return false };
        if self.now >= moving.deadline || moving.change.kind == Kind::Restart {
            return false;
        }
        let moves = |key: &[u8]| moving.moves(key, &self.placement);
        match protocol {
            Protocol::Binary => match binary::parse(input, self.settings.limits.value_max) {
                binary::Step::Request(request, _) => request.key.is_empty() || moves(request.key),
                _ => false,
            },
            _ => match text::parse(input, scanned, &self.parser_limits) {
                text::Step::Request(request, _) => names_one(request, moves),
                _ => false,
            },
        }
    }

    /// A change takes longer than its requests have time.
    pub(super) fn expire_moving(&mut self) {
        let Some(moving) = &self.moving else { return };
        if self.now < moving.deadline {
            return self.wake_at(moving.deadline);
        }
        self.release_held();
    }

    /// Clients whose requests waited go on.
    fn release_held(&mut self) {
        for conn in std::mem::take(&mut self.held) {
            if let Some(client) = self.client(conn) {
                client.held = false;
            }
            self.touch_client(conn);
        }
    }
}

/// One of the keys of a request is so; one for all keys is.
fn names_one(request: Request<'_>, is: impl Fn(&[u8]) -> bool) -> bool {
    match request {
        Request::Get { key, .. }
        | Request::Arithmetic { key, .. }
        | Request::Touch { key, .. }
        | Request::Delete { key, .. } => is(key),
        Request::GetMany { keys, .. } | Request::Gat { keys, .. } => keys.into_iter().any(is),
        Request::Store(store) => is(store.key),
        Request::Meta(meta) => !meta.key.is_empty() && is(meta.placement_key(&mut [0; 256])),
        Request::FlushAll { .. } => true,
        _ => false,
    }
}
