//! Changes of owners: what the control plane orders, and what the workers make of it. No worker serves a key
//! by a new table while another one serves it by an old one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ownership::Ownership;
use crate::ownership::change::{Change, Health, Kind, Order};
use crate::proxy::Proxy;
use crate::proxy::message::Message;
use crate::time::Time;

use super::history::History;
use super::network::{Event, Mail, Network};
use super::world::World;

/// What is known of the changes so far.
pub(super) struct Council {
    /// By worker: the number of its table, that of the change that it makes, and how many clients wait.
    seen: Vec<(u64, Option<u64>, usize)>,
    /// The newest table that any worker goes by.
    adopted: u64,
    /// When each table was decided.
    decided: BTreeMap<u64, Time>,
    /// The change that was ordered last: what it is about, and its number.
    last: Option<(Kind, usize, u64)>,
    /// The return for which a backend is flushed.
    flushing: Option<u64>,
    /// By backend.
    down: Vec<bool>,
}

impl Council {
    pub(super) fn new(workers: usize, backends: usize) -> Self {
        Council {
            seen: vec![(0, None, 0); workers],
            adopted: 0,
            decided: BTreeMap::new(),
            last: None,
            flushing: None,
            down: vec![false; backends],
        }
    }

    /// The control plane has decided something.
    fn hear(&mut self, order: &Order, network: &mut Network, history: &mut History) {
        match order {
            Order::Health { backend, health } => self.down[*backend] = *health == Health::Down,
            Order::Prepare(change) => self.hear_prepare(change, network),
            Order::Clean { number, written } => {
                self.settle(history);
                self.flushing = self.flushing.or(written.more.then_some(*number));
            }
            Order::Commit(ownership) => {
                self.decided.insert(ownership.number, network.now());
                if let Some((Kind::Return, backend, number)) = self.last
                    && number == ownership.number
                {
                    self.down[backend] = false;
                    self.settle(history);
                }
            }
            Order::Cancel { number } => {
                self.flushing.take_if(|flushing| flushing == number);
                network.tally.count("outcome: change cancelled");
            }
            Order::Probe { .. } | Order::Vouched { .. } => {}
        }
    }

    fn hear_prepare(&mut self, change: &Change, network: &mut Network) {
        self.last = Some((change.kind, change.backend, change.next.number));
        let away = &change.next.away;
        let serves = |backend: usize| !away[backend] && !self.down[backend];
        if change.kind == Kind::Eject && !(0..away.len()).any(serves) {
            network.violate(format!("backend {} is ejected, and nobody else serves", change.backend));
        }
    }

    /// The backend that returns has ended all that it was sent before.
    fn settle(&self, history: &mut History) {
        if let Some((_, backend, _)) = self.last {
            history.owners.settle(backend);
        }
    }

    /// A worker has had its turn.
    fn watch(&mut self, number: usize, proxies: &[&Proxy], network: &mut Network, history: &mut History) {
        let proxy = proxies[number];
        let (ownership, change) = proxy.ownership();
        let state = (ownership.number, change.map(|change| change.next.number), proxy.held_clients());
        let before = std::mem::replace(&mut self.seen[number], state);
        network.tally.add("outcome: waited for a change", state.2.saturating_sub(before.2) as u64);
        if (before.0, before.1) == (state.0, state.1) {
            return;
        }
        network.note(&[66], || format!("worker {number} goes by table {}, makes {:?}", state.0, state.1));
        if let Some(change) = change.filter(|change| change.kind == Kind::Eject && before.1 != state.1) {
            history.owners.give_up(change.backend, number, network.now());
        }
        if ownership.number > self.adopted {
            self.adopted = ownership.number;
            self.adopt(ownership, network, history);
        }
        for name in &history.names {
            let mut owners: Vec<usize> = proxies.iter().filter_map(|proxy| proxy.owner_of(name)).collect();
            owners.sort_unstable();
            owners.dedup();
            if owners.len() > 1 {
                let name = name.escape_ascii();
                network.violate(format!("for one worker or another, {owners:?} own {name}"));
            }
        }
    }

    /// A worker is the first to go by a table.
    fn adopt(&mut self, table: &Ownership, network: &mut Network, history: &mut History) {
        let decided = self.decided.get(&self.adopted).copied().unwrap_or_default();
        history.owners.changes += 1;
        for key in 0..history.names.len() {
            let owner = table.present.owner(&history.names[key]);
            if let Err(what) = history.move_key(key, owner, decided) {
                network.violate(what);
            }
        }
        if self.flushing.take_if(|flushing| *flushing <= self.adopted).is_some() {
            history.leave_over();
        }
    }
}

impl World {
    /// The control plane's turn: its orders reach the workers at different times, but each in their order.
    pub(super) fn decide(&mut self) {
        let now = self.network.now();
        self.coordinator.handle_timeout(now);
        while let Some((worker, order)) = self.coordinator.poll_order() {
            self.network.note(&[64, worker as u64], || format!("worker {worker} is told {order:?}"));
            if worker == 0 {
                self.council.hear(&order, &mut self.network, &mut self.history);
            }
            let mut delay = self.network.weather.delay(&mut self.network.random, &mut self.network.tally);
            if self.network.random.once_in(self.network.weather.late_order) {
                self.network.tally.count("fault: late order");
                delay = Duration::from_micros(self.network.random.between(1_000, 400_000));
            }
            let at = self.network.desks[worker].last_order.max(now + delay);
            self.network.desks[worker].last_order = at;
            let message = Mail::Message(Box::new(Message::Order(order)));
            self.network.schedule.at(at, Event::Mail(worker, message));
        }
        if let Some(at) = self.coordinator.poll_timeout() {
            let at = at.max(now + Duration::from_micros(1));
            self.network.schedule.at(at, Event::Decide);
        }
    }

    /// What a worker's turn has changed about who owns what.
    pub(super) fn watch_owners(&mut self, number: usize) {
        if !self.plan.settings.auto_eject {
            return;
        }
        let proxies: Vec<&Proxy> = self.workers.iter().map(|worker| &worker.proxy).collect();
        self.council.watch(number, &proxies, &mut self.network, &mut self.history);
    }
}
