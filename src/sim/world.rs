//! A run: workers, backends and clients in one world, from its first event to its last check.
//!
//! ```text
//!  Faults --> Calm --> Probe --> Leave --> Drain --> over
//!     |     everybody   every    nobody    workers
//!     |     finishes   backend   is left   stop
//!     |                answers
//!     +-----------------------------------> (a drain in the middle of the faults)
//! ```

use std::time::Duration;

use crate::io::Handler;
use crate::ownership::Coordinator;
use crate::proxy::Proxy;
use crate::proxy::message::Message;
use crate::proxy::settings::ReadErrors;
use crate::time::Time;
use crate::worker;

use super::clients::{Client, Ending, Errand, Habits, Reading};
use super::council::Council;
use super::history::{History, WriteKind};
use super::io::SimIo;
use super::judge::Rules;
use super::memcached::Server;
use super::network::{Completion, Event, Mail, Network, Peer};
use super::plan::{Fault, Plan, Profile};
use super::random::Random;
use super::requests::Speech;
use super::tally::Tally;
use super::trace::{Trace, Tracing};
use super::weather::Weather;

/// From the end of the faults until everybody has finished and every backend is used again. A down backend is
/// tried every 5 s at least, and has a second to answer; then come the requests that waited.
const CALM: Duration = Duration::from_secs(10);

/// How long a step of the end may take.
const STEP: Duration = Duration::from_secs(3);

/// Turns of a worker without any time passing, after which it spins.
const TURNS_MAX: u32 = 2_000;

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    /// How often each fault and outcome happened.
    pub tally: Tally,
    /// The first broken promise.
    pub violation: Option<String>,
    /// The last lines of the trace, if it was kept.
    pub trace: Vec<String>,
    /// Virtual time that passed.
    pub time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Faults,
    Calm,
    Probe,
    Leave,
    Drain,
    Over,
}

pub(super) struct Worker {
    pub(super) proxy: Proxy,
    stopped: bool,
    /// Turns at the present time.
    turns: u32,
    last_turn: Time,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) network: Network,
    pub(super) history: History,
    rules: Rules,
    pub(super) workers: Vec<Worker>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    pub(super) coordinator: Coordinator,
    pub(super) council: Council,
    phase: Phase,
    /// Accepts wait until then.
    accepts_from: Time,
}

impl World {
    pub(super) fn new(seed: u64, tracing: Tracing) -> World {
        let mut random = Random::new(seed);
        let plan = Plan::draw(seed, &mut random);
        let settings = &plan.settings;
        let mut history = History::new(plan.names.clone(), settings);
        // Numbers of writes begin at 1: adding nothing tells nothing.
        history.begin_write(0, WriteKind::Set, Vec::new());
        let rules = Rules {
            misses: settings.read_errors != ReadErrors::Error,
            misses_with_tokens: settings.read_errors == ReadErrors::MissAll,
            calm: plan.profile == Profile::Calm,
            evicts: settings.memory.usable() < 64 << 20,
            ejects: settings.auto_eject,
            backends: settings.backends.iter().map(|backend| backend.name.clone()).collect(),
        };
        let mut servers: Vec<Server> = (0..settings.backends.len()).map(Server::new).collect();
        for (server, lies) in servers.iter_mut().zip(&plan.lies) {
            (server.lies, server.late, server.late_max) = (*lies, plan.late, plan.late_max);
        }
        let worker = |number: usize| Worker {
            proxy: Proxy::new(settings.clone(), number),
            stopped: false,
            turns: 0,
            last_turn: Time::default(),
        };
        let clients = plan.habits.iter().cloned().enumerate();
        World {
            network: Network::new(
                random,
                Trace::new(tracing),
                plan.weather.clone(),
                settings.workers,
                plan.doors.clone(),
            ),
            workers: (0..settings.workers).map(worker).collect(),
            clients: clients.map(|(number, habits)| Client::new(number, habits)).collect(),
            coordinator: Coordinator::with_tables(settings.clone(), seed, super::plan::table),
            council: Council::new(settings.workers, settings.backends.len()),
            history,
            rules,
            servers,
            phase: Phase::Faults,
            accepts_from: Time::default(),
            plan,
        }
    }

    /// All of it.
    pub(super) fn run(mut self) -> Outcome {
        self.plan_ahead();
        while self.phase != Phase::Over && self.network.violation.is_none() {
            let Some(event) = self.network.schedule.next() else {
                self.network.violate("nothing happens any more".to_string());
                break;
            };
            self.happen(event);
        }
        self.count_outcomes();
        Outcome {
            hash: self.network.trace.hash(),
            trace: self.network.trace.last(),
            time: self.network.now().since(Time::default()),
            tally: self.network.tally,
            violation: self.network.violation,
        }
    }

    fn plan_ahead(&mut self) {
        let (profile, count) = (self.plan.profile, self.clients.len());
        let settings = &self.plan.settings;
        self.network.note(&[60], || format!("{profile:?}: {count} clients, {settings:?}"));
        for worker in 0..self.workers.len() {
            self.network.wake(worker, Time::default());
        }
        for client in 0..self.clients.len() {
            let at = Time(self.network.random.between(0, 500_000));
            self.network.schedule.at(at, Event::Client(client));
        }
        for (number, (at, _)) in self.plan.faults.iter().enumerate() {
            self.network.schedule.at(*at, Event::Fault(number));
        }
        self.network.schedule.at(self.plan.stop, Event::Phase);
    }

    fn happen(&mut self, event: Event) {
        self.history.now = self.network.now();
        match event {
            Event::Tick(worker) => self.turn(worker),
            Event::ArriveNear(conn) => self.network.arrive_near(conn),
            Event::ArriveFar(conn) => self.network.arrive_far(conn),
            Event::Writable(conn) => {
                self.network.conns[conn].near.writable = true;
                self.network.touch_near(conn);
            }
            Event::ConnectDone(conn, result) => {
                self.network.conns[conn].near.connect_result = Some(result);
                self.network.touch_near(conn);
            }
            Event::LetGo(conn) => self.let_go(conn),
            Event::Mail(worker, mail) => self.bring(worker, mail),
            Event::Far(conn) => self.far(conn),
            Event::Notice(worker, notice) => {
                self.network.note(&[63, worker as u64], || format!("worker {worker} says {notice:?}"));
                self.coordinator.handle_notice(self.network.now(), worker, *notice);
                self.decide();
            }
            Event::Decide => self.decide(),
            Event::Client(number) => {
                let World { clients, network, history, plan, rules, .. } = self;
                if clients[number].conn.is_none() {
                    clients[number].go_on(network, history, &plan.menu, rules);
                }
            }
            Event::Fault(number) => self.strike(self.plan.faults[number].1),
            Event::Phase => self.next_phase(),
        }
    }

    fn let_go(&mut self, conn: usize) {
        let worker = self.network.conns[conn].worker;
        if let Some(id) = self.network.conns[conn].near.id {
            self.network.desks[worker].completions.push(Completion::Closed(id));
            self.network.wake(worker, self.network.now());
        }
    }

    fn bring(&mut self, worker: usize, mail: Mail) {
        let now = self.network.now();
        if matches!(mail, Mail::Client(_)) && now < self.accepts_from {
            self.network.tally.count("fault: accept waits for a descriptor");
            return self.network.schedule.at(self.accepts_from, Event::Mail(worker, mail));
        }
        if let Mail::Client(conn) = mail
            && self.network.conns[conn].far_closed
        {
            // It has gone before anybody took notice.
            return;
        }
        if self.workers[worker].stopped {
            return;
        }
        self.network.desks[worker].mail.push_back(mail);
        self.network.wake(worker, now);
    }

    /// The far end of a connection goes on.
    fn far(&mut self, conn: usize) {
        if !self.network.far_is_awake(conn) {
            return;
        }
        let World { network, history, servers, clients, plan, rules, .. } = self;
        match network.conns[conn].peer {
            Peer::Backend(backend) => servers[backend].serve(conn, network, history),
            Peer::Client(client) if clients[client].conn == Some(conn) => {
                clients[client].go_on(network, history, &plan.menu, rules);
            }
            Peer::Client(_) => {}
        }
    }

    /// One turn of a worker's loop, as production has it.
    fn turn(&mut self, number: usize) {
        let now = self.network.now();
        if self.network.desks[number].wake.take_if(|wake| *wake == now).is_none() {
            return;
        }
        let worker = &mut self.workers[number];
        if worker.stopped {
            return;
        }
        worker.turns = if worker.last_turn == now { worker.turns + 1 } else { 0 };
        worker.last_turn = now;
        if worker.turns > TURNS_MAX {
            return self.network.violate(format!("worker {number} spins"));
        }
        let mut io = SimIo { network: &mut self.network, worker: number };
        match worker::step(&mut worker.proxy, &mut io) {
            Ok(goes_on) => worker.stopped = !goes_on,
            Err(error) => self.network.violate(format!("worker {number}: {error}")),
        }
        if let Err(what) = worker.proxy.check_invariants() {
            self.network.violate(format!("worker {number}: {what}"));
        }
        self.watch_owners(number);
        self.watch_memory();
        let desk = &self.network.desks[number];
        if !desk.completions.is_empty() || self.workers[number].proxy.has_actions() {
            self.network.wake(number, now);
        } else if !desk.ready.is_empty() || !desk.mail.is_empty() {
            // What the turn had no time for.
            let late = self.network.weather.tick_delay(&mut self.network.random);
            self.network.wake(number, now + late);
        } else if let Some(timeout) = self.workers[number].proxy.poll_timeout() {
            self.network.wake(number, now + timeout);
        }
    }

    /// What the workers have borrowed is what the budget has lent, and not more than there is.
    fn watch_memory(&mut self) {
        let budget = &self.plan.settings.memory;
        let borrowed: usize = self.workers.iter().map(|worker| worker.proxy.borrowed()).sum();
        let (taken, limit) = (budget.taken(), budget.usable());
        if borrowed != taken || taken > limit {
            let what = format!("workers have borrowed {borrowed} bytes, {taken} of {limit} are lent");
            self.network.violate(what);
        }
    }

    /// A fault happens.
    fn strike(&mut self, fault: Fault) {
        self.network.note(&[61], || format!("{fault:?}"));
        let World { network, history, servers, .. } = self;
        match fault {
            Fault::Freeze(backend) => servers[backend].freeze(true, network),
            Fault::Thaw(backend) => servers[backend].freeze(false, network),
            Fault::Die(backend, silently) => {
                network.tally.count(if silently { "fault: silent death" } else { "fault: death" });
                servers[backend].die(silently, network, history);
            }
            Fault::Start(backend) => servers[backend].start(network, history),
            Fault::Door(backend, state) if servers[backend].alive => network.doors[backend].state = state,
            Fault::Door(..) => {}
            Fault::BreakLink(backend) => {
                self.break_one("fault: link broken", |peer| peer == Peer::Backend(backend));
            }
            Fault::BreakClient => {
                self.break_one("fault: client broken", |peer| matches!(peer, Peer::Client(_)));
            }
            Fault::HoldAccepts(time) => self.accepts_from = network.now() + time,
            Fault::Drain(time) => {
                network.tally.count("fault: drain");
                self.drain(time);
            }
        }
    }

    fn break_one(&mut self, what: &'static str, wanted: impl Fn(Peer) -> bool) {
        let standing = self.network.standing(wanted);
        if !standing.is_empty() {
            let conn = self.network.random.pick(&standing);
            self.network.tally.count(what);
            self.network.reset(conn);
        }
    }

    fn drain(&mut self, time: Duration) {
        self.network.draining = true;
        for worker in 0..self.workers.len() {
            let message = Mail::Message(Box::new(Message::Drain(time)));
            self.network.schedule.after(Duration::from_micros(10), Event::Mail(worker, message));
        }
    }

    fn next_phase(&mut self) {
        let (next, time) = match self.phase {
            Phase::Faults => (self.calm_down(), CALM + self.plan.away_max()),
            Phase::Calm => (self.begin_probe(), STEP),
            Phase::Probe => (self.end_probe(), STEP),
            Phase::Leave => (self.check_left(), STEP),
            Phase::Drain | Phase::Over => (self.check_stopped(), STEP),
        };
        self.network.note(&[62], || format!("{next:?}"));
        self.phase = next;
        self.network.schedule.after(time, Event::Phase);
    }

    /// The faults stop.
    fn calm_down(&mut self) -> Phase {
        let World { network, history, servers, clients, .. } = self;
        network.weather = Weather::good();
        for (backend, server) in servers.iter_mut().enumerate() {
            server.freeze(false, network);
            server.start(network, history);
            (server.late, server.lies) = (0, Default::default());
            network.doors[backend].state = super::network::DoorState::Open;
        }
        for client in clients {
            client.finishing = true;
            if let Some(conn) = client.conn {
                network.wake_far(conn, Duration::from_micros(100));
            }
        }
        if network.draining { Phase::Drain } else { Phase::Calm }
    }

    /// Everybody has finished; now every backend must answer every worker.
    fn begin_probe(&mut self) -> Phase {
        for client in &self.clients {
            if !client.is_content() {
                self.network.violate(format!("not finished: {}", client.waits_for()));
            }
        }
        let away = &self.coordinator.ownership().away;
        if away.contains(&true) {
            self.network.violate(format!("ejected long after the last fault: {away:?}"));
        }
        for worker in 0..self.workers.len() {
            let habits = Habits {
                speech: if worker % 2 == 0 { Speech::Text } else { Speech::Binary },
                depth: 1,
                think: Duration::ZERO,
                drip: None,
                reading: Reading::Prompt,
                ending: Ending::Stays,
                counter: false,
                budget: 1,
                stay: 1000,
                worker,
            };
            let mut probe = Client::new(self.clients.len(), habits);
            probe.come_now(&mut self.network);
            probe.finishing = true;
            let keys = 0..self.plan.names.len();
            probe.errands.extend(keys.flat_map(|key| [(key, Errand::Set), (key, Errand::Get)]));
            self.clients.push(probe);
        }
        // From now on nobody has an excuse.
        self.rules = Rules { calm: true, misses: false, misses_with_tokens: false, ..self.rules.clone() };
        Phase::Probe
    }

    /// They have; now everybody leaves.
    fn end_probe(&mut self) -> Phase {
        for client in &mut self.clients {
            if !client.is_content() {
                self.network.violate(format!("not answered: {}", client.waits_for()));
            }
            client.leave(&mut self.network, false);
        }
        Phase::Leave
    }

    /// Nobody is left; now the workers report, and end.
    fn check_left(&mut self) -> Phase {
        for number in 0..self.workers.len() {
            let gone = self.workers[number].proxy.check_idle();
            if let Err(what) = gone {
                self.network.violate(format!("worker {number}: {what}"));
            }
            let clients = self.network.standing(|peer| matches!(peer, Peer::Client(_)));
            if !clients.is_empty() {
                self.network.violate(format!("connections {clients:?} are still there"));
            }
            let wanted = Message::CountersWanted { worker: usize::MAX, ticket: 0 };
            self.network
                .schedule
                .after(Duration::from_micros(10), Event::Mail(number, Mail::Message(Box::new(wanted))));
        }
        self.drain(Duration::from_secs(1));
        Phase::Drain
    }

    fn check_stopped(&mut self) -> Phase {
        for number in 0..self.workers.len() {
            if !self.workers[number].stopped {
                self.network.violate(format!("worker {number} was told to end and has not"));
            }
            if let Err(what) = super::balance::check(&self.network.desks[number]) {
                self.network.violate(format!("worker {number}: {what}"));
            }
        }
        Phase::Over
    }

    fn count_outcomes(&mut self) {
        let tally = &mut self.network.tally;
        tally.count(self.plan.profile.name());
        let excused = self.history.excused;
        tally.add("outcome: cas with a token handed out again", excused.same_token_anew);
        tally.add("outcome: cas with a token that the new owner has handed out too", excused.same_token);
        tally.add("outcome: cas with a token held longer than the fence", excused.held_long);
        tally.add("outcome: an owner with what an earlier change left", excused.left_over);
        tally.add("outcome: an owner with what was written late", excused.late_write);
        for desk in &self.network.desks {
            super::balance::count(desk, tally);
        }
    }
}
