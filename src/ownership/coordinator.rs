//! The control plane's mind: hears from all workers how backends do, and decides for all of them which
//! are down, which are ejected, and when one may return. As the workers' core it touches no thread and no
//! clock.
//!
//! ```text
//!        --failure-limit failures in a row              (--auto-eject, and not the last one)
//!   up ------------------------------------> down ------------------------------> away
//!   ^  ^                                      |  a probe every --retry-interval,    |
//!   |  +------------ probe answered ----------+  backing off to 5 s                 |
//!   +--- probe answered, no write to it under way, what it has missed forgotten ----+
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::CAS_FENCES_MAX;
use crate::placement::Placement;
use crate::proxy::settings::{Rejoin, Settings};
use crate::time::Time;

use super::Ownership;
use super::change::{Change, Health, Kind, Notice, Order, Outcome, Written};
use super::fence::{Fence, Over};
use super::identity::Identity;

/// The longest that a down backend waits for its next probe.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The worker that probes and cleans.
const PROBER: usize = 0;

/// What the control plane knows.
#[derive(Debug)]
pub struct Coordinator {
    settings: Arc<Settings>,
    now: Time,
    ownership: Ownership,
    /// Fences so far.
    fences: u64,
    backends: Vec<Backend>,
    /// The change that is being made: one at a time.
    current: Option<Current>,
    /// Backends that were found to be another process, to be dealt with in turn.
    restarted: VecDeque<(usize, Option<Identity>)>,
    orders: VecDeque<(usize, Order)>,
    /// The state of a small generator of jitter, seeded from outside.
    jitter: u64,
    make_table: MakeTable,
}

/// Makes the table without those backends that are away, of the one with all of them.
pub type MakeTable = fn(&Placement, &[bool]) -> Arc<Placement>;

#[derive(Debug, Default)]
struct Backend {
    /// Since the last reply.
    failures: u32,
    last_failure: Option<Time>,
    /// While it is down.
    probe: Option<Probe>,
    /// Who was there last, once somebody was met.
    identity: Option<Option<Identity>>,
    /// A link was lost or a connect refused since: one that does not say who it is may be another.
    lost: bool,
    away: Option<Away>,
    /// When it was ejected, lately.
    ejected: Vec<Time>,
    /// When it was flushed last.
    flushed: Option<Time>,
}

/// When and how often a down backend is tried.
#[derive(Clone, Copy, Debug)]
struct Probe {
    at: Time,
    interval: Duration,
}

/// An ejected backend.
#[derive(Debug)]
struct Away {
    /// It does not return before.
    until: Time,
    /// It has answered a probe since it was ejected.
    answered: bool,
    /// By worker: writes may still be under way to it.
    unsettled: Vec<bool>,
}

#[derive(Debug)]
struct Current {
    change: Arc<Change>,
    identity: Option<Identity>,
    /// By worker: it has not confirmed.
    waiting: Vec<bool>,
    written: Written,
    cleaning: bool,
    /// A return that takes longer is given up for now.
    deadline: Time,
}

impl Coordinator {
    /// All backends serve. `seed` feeds the jitter of probes.
    pub fn new(settings: Arc<Settings>, seed: u64) -> Self {
        Self::with_tables(settings, seed, |home, away| Arc::new(home.without(away)))
    }

    /// As [`Self::new`], with tables by `make_table`: somebody who runs many of these may have made them
    /// before.
    pub fn with_tables(settings: Arc<Settings>, seed: u64, make_table: MakeTable) -> Self {
        let count = settings.backends.len();
        Coordinator {
            now: Time::default(),
            ownership: Ownership::new(settings.placement.clone(), count),
            fences: 0,
            backends: (0..count).map(|_| Backend::default()).collect(),
            current: None,
            restarted: VecDeque::new(),
            orders: VecDeque::new(),
            jitter: seed | 1,
            make_table,
            settings,
        }
    }

    /// A worker has something to say.
    pub fn handle_notice(&mut self, now: Time, worker: usize, notice: Notice) {
        self.now = now;
        match notice {
            Notice::Failed { backend, why } => self.failed(backend, why),
            Notice::Lost { backend } => self.backends[backend].lost = true,
            Notice::Heard { backend } => self.heard(backend),
            Notice::Met { backend, identity } => self.met(backend, identity),
            Notice::Probed { backend, answered } => self.probed(backend, answered),
            Notice::Settled { backend } => {
                if let Some(away) = &mut self.backends[backend].away {
                    away.unsettled[worker] = false;
                }
            }
            Notice::Confirmed { number, unsettled, written } => {
                self.confirmed(worker, number, unsettled, written);
            }
            Notice::Cleaned { number, outcome } => self.cleaned(number, &outcome),
        }
        self.begin_next();
    }

    /// Carries out what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        for backend in 0..self.backends.len() {
            if let Some(probe) = &mut self.backends[backend].probe
                && now >= probe.at
            {
                // Should nothing be heard of it, the next one follows.
                probe.at = now + self.settings.connect_timeout + self.settings.timeout * 2;
                self.orders.push_back((PROBER, Order::Probe { backend }));
            }
        }
        if let Some(current) = &self.current
            && now >= current.deadline
            && current.change.kind == Kind::Return
        {
            self.cancel("it takes too long", self.settings.retry_interval);
        }
        self.end_fences();
        self.begin_next();
    }

    /// The next order and the worker it is for. Ask again until there is none.
    pub fn poll_order(&mut self) -> Option<(usize, Order)> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called; `None`: nothing is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let probes = self.backends.iter().filter_map(|backend| backend.probe.map(|probe| probe.at));
        let returns = self.backends.iter().filter_map(|backend| backend.away.as_ref());
        let returns = returns.map(|away| away.until).filter(|&until| until > self.now);
        let fences = self.ownership.fences.iter().map(|fence| fence.until);
        let fences = fences.filter(|_| self.current.is_none());
        let current = self.current.iter().map(|current| current.deadline).filter(|&at| at > self.now);
        probes.chain(returns).chain(fences).chain(current).min()
    }

    /// Who owns what, as last decided.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// A backend has failed: at most once in each --timeout. Enough of them in a row, and it is down.
    fn failed(&mut self, backend: usize, why: &'static str) {
        let (now, timeout, limit) = (self.now, self.settings.timeout, self.settings.failure_limit);
        let state = &mut self.backends[backend];
        if state.probe.is_some() || state.last_failure.is_some_and(|last| now < last + timeout) {
            return;
        }
        state.last_failure = Some(now);
        state.failures += 1;
        let failures = state.failures;
        if failures < limit {
            if failures == 1 {
                log::warn!("backend {}: {why}", self.name(backend));
            }
            return self.order_health(backend, Health::Suspect);
        }
        let count =
            if failures == 1 { "1 failure".to_string() } else { format!("{failures} failures in a row") };
        log::warn!("backend {} is down after {count}: {why}", self.name(backend));
        self.order_health(backend, Health::Down);
        self.schedule_probe(backend);
    }

    /// A suspected backend has answered.
    fn heard(&mut self, backend: usize) {
        let state = &mut self.backends[backend];
        if state.probe.is_none() && state.failures > 0 {
            (state.failures, state.last_failure) = (0, None);
            self.order_health(backend, Health::Up);
        }
    }

    /// A link has reached somebody.
    fn met(&mut self, backend: usize, identity: Option<Identity>) {
        let state = &mut self.backends[backend];
        let same = match state.identity {
            None => true,
            Some(known) => known == identity && (identity.is_some() || !state.lost),
        };
        // Nobody holds a token of one that serves no key, and its return raises a fence of its own.
        if same || state.away.is_some() {
            if let Some(away) = state.away.as_mut().filter(|_| !same && identity.is_some()) {
                // What was under way to the process before has ended with it.
                away.unsettled.fill(false);
            }
            (state.identity, state.lost) = (Some(identity), false);
            self.order_all(Order::Vouched { backend, identity });
        } else if !self.is_restarting(backend, identity) {
            self.restarted.push_back((backend, identity));
        }
    }

    fn is_restarting(&self, backend: usize, identity: Option<Identity>) -> bool {
        let current = self.current.iter().filter(|current| current.change.kind == Kind::Restart);
        let mut known = current.map(|current| (current.change.backend, current.identity));
        self.restarted.contains(&(backend, identity)) || known.any(|known| known == (backend, identity))
    }

    fn probed(&mut self, backend: usize, answered: bool) {
        let leaving = self
            .current
            .as_ref()
            .is_some_and(|current| current.change.backend == backend && current.change.kind == Kind::Eject);
        let state = &mut self.backends[backend];
        if state.probe.is_none() {
            return;
        }
        if leaving {
            return self.schedule_probe(backend);
        }
        match &mut state.away {
            Some(away) => {
                away.answered = answered;
                self.schedule_probe(backend);
            }
            None if answered => {
                (state.probe, state.failures, state.last_failure) = (None, 0, None);
                log::info!("backend {} is up again", self.name(backend));
                self.order_health(backend, Health::Up);
            }
            None => self.schedule_probe(backend),
        }
    }

    fn schedule_probe(&mut self, backend: usize) {
        let first = self.settings.retry_interval;
        let interval = match self.backends[backend].probe {
            None => first,
            Some(probe) => (probe.interval * 2).min(RETRY_INTERVAL_MAX.max(first)),
        };
        let at = self.now + interval - self.jittered(interval / 10);
        self.backends[backend].probe = Some(Probe { at, interval });
    }

    /// Begins the next change that is wanted, if none is being made.
    fn begin_next(&mut self) {
        if self.current.is_some() {
            return;
        }
        if let Some((backend, identity)) = self.restarted.pop_front() {
            return self.begin(backend, Kind::Restart, identity);
        }
        if let Some(backend) = (0..self.backends.len()).find(|&backend| self.is_to_go(backend)) {
            return self.begin(backend, Kind::Eject, None);
        }
        if let Some(backend) = (0..self.backends.len()).find(|&backend| self.may_return(backend)) {
            self.begin(backend, Kind::Return, None);
        }
    }

    /// It is down, and there are others.
    fn is_to_go(&self, backend: usize) -> bool {
        let state = &self.backends[backend];
        let others = self.backends.iter().filter(|other| other.probe.is_none() && other.away.is_none());
        self.settings.auto_eject && state.probe.is_some() && state.away.is_none() && others.count() > 0
    }

    /// It answers, its time is over, and no worker has anything under way to it.
    fn may_return(&self, backend: usize) -> bool {
        let away = self.backends[backend].away.as_ref();
        away.is_some_and(|away| away.answered && self.now >= away.until && !away.unsettled.contains(&true))
    }

    fn begin(&mut self, backend: usize, kind: Kind, identity: Option<Identity>) {
        let mut next = self.ownership.clone();
        (next.number, next.unforgotten) = (next.number + 1, false);
        let mut away = next.away.to_vec();
        match kind {
            Kind::Restart => {}
            Kind::Eject => away[backend] = true,
            Kind::Return => away[backend] = false,
        }
        let over = if kind == Kind::Restart {
            Over::Restarted { backend, present: next.present.clone() }
        } else {
            let home = &next.home;
            let to = if away.contains(&true) { (self.make_table)(home, &away) } else { home.clone() };
            let from = std::mem::replace(&mut next.present, to.clone());
            Over::Moved { from, to }
        };
        next.away = away.into();
        next.fences = self.with_fence(over);
        let change = Arc::new(Change { next, backend, kind });
        self.order_all(Order::Prepare(change.clone()));
        let waiting = vec![true; self.settings.workers];
        // What is in flight has --timeout, and what is cleaned has it once more.
        let deadline = self.now + self.settings.timeout * 3;
        self.current = Some(Current {
            change,
            identity,
            waiting,
            written: Written::default(),
            cleaning: false,
            deadline,
        });
    }

    /// The fences that stand, and this one.
    fn with_fence(&mut self, over: Over) -> Arc<[Fence]> {
        self.fences += 1;
        let until = self.now + self.settings.cas_fence;
        let mut fences: Vec<Fence> =
            self.ownership.fences.iter().filter(|fence| fence.until > self.now).cloned().collect();
        let over = if fences.len() < CAS_FENCES_MAX {
            over
        } else {
            fences.clear();
            Over::Everything
        };
        fences.push(Fence { number: self.fences, until, over });
        fences.into()
    }

    fn confirmed(&mut self, worker: usize, number: u64, unsettled: usize, written: Written) {
        let Some(current) = &mut self.current else { return };
        if current.change.next.number != number || current.cleaning {
            return;
        }
        let (backend, kind) = (current.change.backend, current.change.kind);
        current.waiting[worker] = false;
        current.written.add(written, self.settings.limits.written_keys_max);
        if kind == Kind::Eject {
            self.note_ejected(backend, worker, unsettled > 0);
        }
        let Some(current) = &self.current else { return };
        if !current.waiting.contains(&true) {
            if kind == Kind::Return { self.clean() } else { self.commit() }
        }
    }

    fn note_ejected(&mut self, backend: usize, worker: usize, unsettled: bool) {
        let (now, fence, first) = (self.now, self.settings.cas_fence, self.settings.retry_interval);
        let workers = self.settings.workers;
        let state = &mut self.backends[backend];
        if state.away.is_none() {
            // One that flaps stays out longer each time.
            state.ejected.retain(|&at| at + fence > now);
            let doubled = first.saturating_mul(1 << state.ejected.len().min(20));
            state.ejected.push(now);
            let until = now + doubled.min(fence.max(first));
            state.away = Some(Away { until, answered: false, unsettled: vec![false; workers] });
        }
        if let Some(away) = &mut state.away {
            away.unsettled[worker] = unsettled;
        }
    }

    /// All workers have confirmed a return: what the backend has missed must go.
    fn clean(&mut self) {
        let (now, fence, rejoin) = (self.now, self.settings.cas_fence, self.settings.rejoin);
        let Some(current) = &mut self.current else { return };
        if rejoin == Rejoin::AsIs || current.written.is_empty() {
            return self.commit();
        }
        let state = &mut self.backends[current.change.backend];
        if current.written.more {
            if let Some(flushed) = state.flushed.filter(|&flushed| now < flushed + fence) {
                let left = (flushed + fence).since(now);
                return self.cancel("it was flushed a short while ago and would have to be again", left);
            }
            state.flushed = Some(now);
        }
        current.cleaning = true;
        let (number, written) = (current.change.next.number, current.written.clone());
        self.orders.push_back((PROBER, Order::Clean { number, written }));
    }

    fn cleaned(&mut self, number: u64, outcome: &Outcome) {
        let is_this = |current: &&Current| current.cleaning && current.change.next.number == number;
        let Some(current) = self.current.as_ref().filter(is_this) else { return };
        let backend = current.change.backend;
        match outcome {
            Outcome::Done(unforgotten) => self.return_cleaned(*unforgotten),
            Outcome::Failed(words) => self.cancel(words, self.settings.retry_interval),
            Outcome::Refused(words) => {
                log::error!(
                    "backend {} stays out, for it cannot be made to forget what it has missed ({words}): \
                     restart it, or let it come back stale with --rejoin as-is",
                    self.name(backend)
                );
                self.cancel("it was not cleaned", self.settings.cas_fence);
            }
        }
    }

    /// A returning backend has forgotten what it has missed. One that stood in for it and is down has not:
    /// then that one leaves first, unless nobody else is there, and forgets when it returns itself.
    fn return_cleaned(&mut self, unforgotten: bool) {
        let is_down = |backend: &Backend| backend.probe.is_some() && backend.away.is_none();
        let last = self.backends.iter().all(|backend| backend.away.is_some() || is_down(backend));
        if unforgotten && !last {
            return self.cancel("one that stood in for it does not answer", self.settings.retry_interval);
        }
        if let Some(Current { change, .. }) = &mut self.current {
            Arc::make_mut(change).next.unforgotten = unforgotten;
        }
        self.commit();
    }

    /// Step three.
    fn commit(&mut self) {
        let Some(Current { change, identity, .. }) = self.current.take() else { return };
        let Change { next, backend, kind } = &*change;
        let mut next = next.clone();
        // The fence stands from now on.
        if let Some(fence) = Arc::make_mut(&mut next.fences).last_mut() {
            fence.until = self.now + self.settings.cas_fence;
        }
        self.ownership = next;
        self.order_all(Order::Commit(Arc::new(self.ownership.clone())));
        let name = self.name(*backend).to_string();
        let state = &mut self.backends[*backend];
        match kind {
            Kind::Eject => log::warn!("backend {name} is ejected: others own its keys until it returns"),
            Kind::Return => {
                (state.away, state.probe) = (None, None);
                (state.failures, state.last_failure) = (0, None);
                log::info!("backend {name} has its keys again");
            }
            Kind::Restart => {
                (state.identity, state.lost) = (Some(identity), false);
                log::warn!("backend {name} has restarted: its earlier CAS tokens are not taken any more");
                self.order_all(Order::Vouched { backend: *backend, identity });
            }
        }
    }

    /// A return comes to nothing, for now.
    fn cancel(&mut self, why: &str, pause: Duration) {
        let Some(current) = self.current.take() else { return };
        let (backend, number) = (current.change.backend, current.change.next.number);
        log::warn!("backend {} does not return yet: {why}", self.name(backend));
        // The number is not used again: a late confirmation is recognised.
        self.ownership.number = number;
        let now = self.now;
        if let Some(away) = &mut self.backends[backend].away {
            away.until = away.until.max(now + pause);
            away.answered = false;
        }
        self.order_all(Order::Cancel { number });
    }

    /// Fences whose time is over are taken down: looking at tokens costs something.
    fn end_fences(&mut self) {
        let now = self.now;
        if self.current.is_none() && self.ownership.fences.iter().any(|fence| fence.until <= now) {
            let standing = self.ownership.fences.iter().filter(|fence| fence.until > now);
            self.ownership.fences = standing.cloned().collect();
            self.ownership.number += 1;
            self.order_all(Order::Commit(Arc::new(self.ownership.clone())));
        }
    }

    fn order_health(&mut self, backend: usize, health: Health) {
        self.order_all(Order::Health { backend, health });
    }

    fn order_all(&mut self, order: Order) {
        for worker in 0..self.settings.workers {
            self.orders.push_back((worker, order.clone()));
        }
    }

    fn name(&self, backend: usize) -> &str {
        &self.settings.backends[backend].name
    }

    /// A duration between zero and `most`, so that many proxies do not try all at once.
    fn jittered(&mut self, most: Duration) -> Duration {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        most.mul_f64((self.jitter >> 11) as f64 / (1u64 << 53) as f64)
    }
}
