//! The way to a clean end: no new requests, answers to those that are here, then no connections.

use std::time::Duration;

use crate::io::{Action, ConnId};

use super::Proxy;

impl Proxy {
    /// Takes no more requests; stops when all clients have what they are owed, or after `timeout`.
    pub(super) fn drain(&mut self, timeout: Duration) {
        let deadline = self.now + timeout;
        self.draining = Some(deadline);
        self.wake_at(deadline);
        for conn in self.client_ids() {
            self.end_client(conn);
        }
    }

    /// All that was to be finished before the end is finished, and nobody has been told.
    pub(super) fn is_drained(&self) -> bool {
        self.draining.is_some() && !self.stopped && self.clients.len() == 0
    }

    pub(super) fn check_drained(&mut self) {
        if self.is_drained() {
            self.stopped = true;
            self.actions.push_back(Action::Stop);
        }
    }

    pub(super) fn expire_drain(&mut self) {
        let Some(deadline) = self.draining else { return };
        if self.now < deadline {
            return self.wake_at(deadline);
        }
        for conn in self.client_ids() {
            self.close_client(conn);
        }
    }

    fn client_ids(&self) -> Vec<ConnId> {
        self.clients.ids().map(|(index, generation)| ConnId::client(index, generation)).collect()
    }
}
