//! What is always true of a worker between two turns of its loop, and what is true when nothing is left to
//! do. The simulator asks after every turn; nobody asks on the way of a request.

use crate::buffer::Recycle;
use crate::io::ConnId;
use crate::limits::LINE_MAX;
use crate::ownership::Ownership;
use crate::ownership::change::Change;

use super::Proxy;
use super::client::Client;
use super::link::{Expect, Link, LinkState, Target};

/// Bytes that an engine hands over in a tick for one client, at most, in the simulator.
const RECEIVED_MAX: usize = 64 << 10;

impl Proxy {
    /// Every bound is kept and every state machine is whole.
    ///
    /// # Errors
    /// What is not so.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (index, generation) in self.clients.ids() {
            if let Some(client) = self.clients.get(index as usize, generation) {
                self.check_client(client).map_err(|what| format!("client {index}.{generation}: {what}"))?;
            }
        }
        for (index, generation) in self.links.ids() {
            if let Some(link) = self.links.get(index as usize, generation) {
                self.check_link(link).map_err(|what| format!("link {index}.{generation}: {what}"))?;
            }
        }
        for (number, backend) in self.backends.iter().enumerate() {
            let retired = backend.retired.len();
            // Of two protocols, both may have stood when there was room for one.
            let most = self.settings.limits.retired_links_max + usize::from(self.settings.auto_eject);
            expect(retired <= most, || format!("backend {number} has {retired} retired links"))?;
            for conn in [backend.text, backend.binary].into_iter().flatten() {
                let link = self.links.get(conn.index(), conn.generation());
                let fits = link.is_some_and(|link| {
                    link.backend == number && !matches!(link.state, LinkState::Retired | LinkState::Closed)
                });
                expect(fits, || format!("backend {number} has {conn:?} for a link, {link:?}"))?;
            }
        }
        self.check_charges()
    }

    /// What is charged is what is held.
    fn check_charges(&self) -> Result<(), String> {
        let mut charged = 0;
        for (index, generation) in self.clients.ids() {
            let Some(client) = self.clients.get(index as usize, generation) else { continue };
            let (holds, pays) = (client.bytes(), client.charged);
            charged += pays;
            expect(holds == pays, || {
                format!("client {index}.{generation} holds {holds} and is charged {pays}: {client:?}")
            })?;
        }
        for (index, generation) in self.links.ids() {
            let Some(link) = self.links.get(index as usize, generation) else { continue };
            let (holds, pays) = (link.bytes(), link.charged);
            charged += pays;
            expect(holds == pays, || {
                format!("link {index}.{generation} holds {holds} and is charged {pays}: {link:?}")
            })?;
        }
        for (index, generation) in self.fanouts.ids() {
            let Some(Some(read)) = self.fanouts.get(index as usize, generation) else { continue };
            let (holds, pays) = (read.bytes(), read.charged);
            charged += pays;
            expect(holds == pays, || {
                format!("read {index}.{generation} holds {holds} and is charged {pays}")
            })?;
        }
        let held = self.memory.held();
        expect(charged == held, || format!("{charged} bytes are charged, and {held} are taken to be held"))
    }

    /// Bytes that this worker has of the process's budget.
    pub fn borrowed(&self) -> usize {
        self.memory.borrowed()
    }

    /// Whom this worker takes to own a key; nobody while that is about to change.
    pub fn owner_of(&self, key: &[u8]) -> Option<usize> {
        let moves = self.moving.as_ref().is_some_and(|moving| moving.moves(key, &self.placement));
        (!moves).then(|| self.placement.owner(key))
    }

    /// What this worker goes by, and the change of it that it makes.
    pub fn ownership(&self) -> (&Ownership, Option<&Change>) {
        (&self.ownership, self.moving.as_ref().map(|moving| &*moving.change))
    }

    /// Clients whose next request waits for a change of owners.
    pub fn held_clients(&self) -> usize {
        self.held.len()
    }

    /// Nobody is there and nobody waits: nothing is kept for anybody.
    ///
    /// # Errors
    /// What is left over.
    pub fn check_idle(&self) -> Result<(), String> {
        let left = [
            ("clients", self.clients.len()),
            ("multi-key reads", self.fanouts.len()),
            ("broadcasts", self.broadcasts.len()),
            ("questions", self.questions.len()),
            ("stalled clients", self.stalled.len()),
            ("parked reads", self.parked.len()),
        ];
        for (what, many) in left {
            expect(many == 0, || format!("{many} {what} are left over"))?;
        }
        for (index, generation) in self.links.ids() {
            let Some(link) = self.links.get(index as usize, generation) else { continue };
            let requests = link.queue.pipeline.len();
            expect(requests == 0, || format!("{requests} requests are left over on link {index}: {link:?}"))?;
        }
        Ok(())
    }

    fn check_client(&self, client: &Client) -> Result<(), String> {
        let limits = &self.settings.limits;
        let (slots, most) = (client.slots.len(), limits.client_requests_max);
        expect(slots <= most || client.gone, || format!("{slots} requests, and {most} are allowed"))?;
        let held = client.outbox.len() + client.sending;
        expect(client.owed >= held || client.closed, || {
            format!("{held} bytes are held, {} owed", client.owed)
        })?;
        let waits = client.stalled || client.ending || client.unread.is_empty() || !client.paused;
        // What had been received when reading was paused may come on top.
        let frame = limits.get_line_max.max(LINE_MAX) + limits.value_max;
        let unread = client.unread.len();
        expect(unread <= frame + RECEIVED_MAX, || format!("{unread} bytes are kept unparsed"))?;
        expect(waits, || "is not read from and nothing holds it up".to_string())
    }

    fn check_link(&self, link: &Link) -> Result<(), String> {
        let limits = &self.settings.limits;
        let queue = &link.queue;
        let requests = queue.pipeline.len();
        expect(requests <= limits.link_requests_max, || format!("{requests} requests"))?;
        expect(link.staged == 0, || format!("{} stages outlive their tick", link.staged))?;
        if link.state == LinkState::Closed {
            return Ok(());
        }
        let (handed, queued, outbox) = (link.handed, queue.queued, queue.outbox.len() as u64);
        expect(link.state == LinkState::Retired || handed + outbox == queued, || {
            format!("{handed} bytes were handed over, {outbox} wait, {queued} were queued")
        })?;
        let in_order = queue.pipeline.iter().zip(queue.pipeline.iter().skip(1));
        for (first, second) in in_order {
            expect(first.start < second.start, || format!("{first:?} is not before {second:?}"))?;
            expect(first.deadline <= second.deadline, || format!("{first:?} has more time than {second:?}"))?;
        }
        let marks = queue.pipeline.iter().take_while(|pending| pending.target == Target::Mark).count();
        let all_marks = queue.pipeline.iter().filter(|pending| pending.target == Target::Mark).count();
        expect(all_marks == marks, || "a mark stands behind who still waits".to_string())?;
        let joined = queue.pipeline.iter().filter(|pending| pending.expect == Expect::Joined).count();
        expect(joined == queue.joined.len(), || format!("{joined} of {} joined gets", queue.joined.len()))?;
        for pending in &queue.pipeline {
            self.check_target(pending.target)?;
        }
        Ok(())
    }

    /// Who waits is there, or gone for good; a slot that has been answered waits for nothing.
    fn check_target(&self, target: Target) -> Result<(), String> {
        let Target::Slot(conn, slot) = target else { return Ok(()) };
        let client = self.clients.get(ConnId::index(conn), conn.generation());
        let waits = client.is_none_or(|client| client.closed || client.cut || client.slots.awaits(slot));
        expect(waits, || format!("slot {slot} of {conn:?} has been answered and still waits"))
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
