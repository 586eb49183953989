//! The dry run: a worker's core with its clients and three embedded backends, in memory, and a record of
//! every call. It keeps the promises of the engine's contract in the order in which the mio engine does.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mcproxy::buffer::Outbox;
use mcproxy::embedded::session::{Session, Then};
use mcproxy::embedded::store::{Clock, Store};
use mcproxy::io::{Action, ConnId, Handler};
use mcproxy::ownership::Coordinator;
use mcproxy::ownership::change::Order;
use mcproxy::proxy::Proxy;
use mcproxy::proxy::message::Message;
use mcproxy::proxy::settings::Settings;
use mcproxy::time::Time;

use super::load::{Batch, Load};
use super::random::Random;
use super::request;

/// Backends of every run.
const BACKENDS: usize = 3;

/// Seed of every worker, and of every load.
pub(crate) const SEED: u64 = 1;

/// From one tick to the next.
const TICK: Duration = Duration::from_micros(100);

/// Most bytes that the engine hands over at once, as the mio engine does.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Ticks without an answer after which a run is taken to hang.
const PATIENCE: usize = 100;

/// The embedded backends' time stands still.
pub(crate) const CLOCK: Clock = Clock(1_700_000_000);

/// Bytes that a backend may hold; all items fit.
pub(crate) const STORE_BYTES: usize = 1 << 30;

/// One call into the core. Bytes are a range of the recording's.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Accepted,
    Connected(ConnId),
    Received(ConnId, usize, usize),
    Ordered(Order),
    /// The send in flight comes back, all of it written.
    Sent(ConnId),
    /// The engine asks whether it may wait.
    Asked,
    Now(Time),
    /// The end of a tick: the time, then all actions.
    Turn(Time),
}

/// What the engine does in a run.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) settings: Arc<Settings>,
    /// From the start of the worker until its buffers have found their sizes.
    pub(crate) warm_up: Vec<Step>,
    /// What is measured.
    pub(crate) steps: Vec<Step>,
    pub(crate) bytes: Vec<u8>,
    /// Bytes that the core sends in all of it.
    pub(crate) sent_bytes: u64,
    pub(crate) clients: usize,
    pub(crate) links: usize,
}

impl Recording {
    /// Records a run of `load`: first some operations to warm up, then `operations` to be measured. A worker is
    /// warm when it has seen twice the load, so that none of its buffers has to grow for a little more.
    ///
    /// # Panics
    /// If an answer is not what it must be.
    pub(crate) fn new(load: &Load, warm_up: usize, operations: usize) -> Self {
        let mut recorder = Recorder::new(load);
        recorder.play(&load.doubled(), warm_up);
        recorder.play(load, warm_up);
        let warm_up = std::mem::take(&mut recorder.steps);
        recorder.play(load, operations);
        Recording {
            settings: settings(),
            warm_up,
            steps: recorder.steps,
            bytes: recorder.bytes,
            sent_bytes: recorder.sent_bytes,
            clients: recorder.clients.len(),
            links: recorder.links.len(),
        }
    }
}

/// One worker before three backends, with the bounds of the program. Made once: its table is large.
pub(crate) fn settings() -> Arc<Settings> {
    static SETTINGS: OnceLock<Arc<Settings>> = OnceLock::new();
    let names: Vec<String> = (0..BACKENDS).map(|index| format!("10.0.0.{index}:11211")).collect();
    let connect_timeout = Duration::from_secs(1);
    let make =
        || Arc::new(Settings { max_conns: 100_000, connect_timeout, ..super::settings::in_front_of(&names) });
    SETTINGS.get_or_init(make).clone()
}

struct Recorder {
    coordinator: Coordinator,
    proxy: Proxy,
    /// To be told in the next tick.
    orders: Vec<Order>,
    now: Time,
    ticks: usize,
    steps: Vec<Step>,
    bytes: Vec<u8>,
    sent_bytes: u64,
    random: Random,
    stores: Vec<Store>,
    clients: Vec<ClientEnd>,
    links: Vec<LinkEnd>,
    /// To be told in the next tick.
    sent: Vec<(ConnId, Outbox)>,
    connected: Vec<ConnId>,
}

/// The other side of a client's connection.
struct ClientEnd {
    conn: ConnId,
    batches: VecDeque<Batch>,
    /// What it has sent and is not answered yet.
    awaited: VecDeque<super::answer::Answer>,
    got: Vec<u8>,
}

/// The other side of a link.
struct LinkEnd {
    conn: ConnId,
    backend: usize,
    session: Session,
    /// Answers on their way: the tick in which they arrive, and their place in the recording.
    answers: VecDeque<(usize, usize, usize)>,
}

impl Recorder {
    /// A worker with its clients and links.
    fn new(load: &Load) -> Self {
        let settings = settings();
        let mut stores: Vec<Store> = (0..BACKENDS).map(|_| Store::new(STORE_BYTES, CLOCK)).collect();
        request::fill(CLOCK, |key| settings.placement.owner(key), &mut stores);
        let mut recorder = Recorder {
            coordinator: Coordinator::new(settings.clone(), SEED),
            proxy: Proxy::new(settings, 0),
            orders: Vec::new(),
            now: Time::default(),
            ticks: 0,
            steps: Vec::new(),
            bytes: Vec::new(),
            sent_bytes: 0,
            random: Random::new(SEED),
            stores,
            clients: Vec::new(),
            links: Vec::new(),
            sent: Vec::new(),
            connected: Vec::new(),
        };
        for index in 0..load.clients() {
            recorder.steps.push(Step::Accepted);
            let conn = recorder.proxy.handle_accepted();
            assert_eq!((conn.is_link(), conn.index()), (false, index));
            let client =
                ClientEnd { conn, batches: VecDeque::new(), awaited: VecDeque::new(), got: Vec::new() };
            recorder.clients.push(client);
        }
        recorder
    }

    /// Has clients send `operations` more in all, until nobody owes anything to anybody.
    fn play(&mut self, load: &Load, operations: usize) {
        for index in 0..self.clients.len() {
            self.clients[index].batches = load.batches(index, operations, &mut self.random).into();
        }
        let mut idle = 0;
        while !self.is_quiet() {
            let before = self.answers_due();
            self.tick(load);
            idle = if self.answers_due() == before { idle + 1 } else { 0 };
            if idle > PATIENCE {
                self.complain();
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let links = self.links.iter().all(|link| link.answers.is_empty());
        self.answers_due() == 0
            && links
            && self.sent.is_empty()
            && self.connected.is_empty()
            && self.orders.is_empty()
    }

    /// Answers that clients have yet to get, to what was sent and to what was not.
    fn answers_due(&self) -> usize {
        let due = |client: &ClientEnd| {
            client.awaited.len() + client.batches.iter().map(|batch| batch.answers.len()).sum::<usize>()
        };
        self.clients.iter().map(due).sum()
    }

    /// A client that waits has got something else than it must get, or nothing.
    fn complain(&self) -> ! {
        let client = self.clients.iter().find(|client| !client.awaited.is_empty());
        let client = client.expect("somebody waits");
        panic!(
            "{:?} waits for {:?} and has got \"{}\" (seed {SEED})",
            client.conn,
            client.awaited[0],
            client.got.escape_ascii()
        );
    }

    /// One turn of a worker's loop.
    fn tick(&mut self, load: &Load) {
        for (conn, buffer) in std::mem::take(&mut self.sent) {
            self.steps.push(Step::Sent(conn));
            let written = buffer.len();
            self.proxy.handle_sent(conn, buffer, written);
        }
        self.steps.push(Step::Asked);
        if !self.proxy.has_actions() {
            self.ticks += 1;
            self.now = self.now + TICK;
            self.steps.push(Step::Now(self.now));
            self.proxy.handle_now(self.now);
            self.hand_over_answers();
            self.hand_over_requests(load);
        }
        self.steps.push(Step::Turn(self.now));
        self.proxy.handle_timeout(self.now);
        while let Some(action) = self.proxy.poll_action() {
            self.carry_out(action, load);
        }
    }

    fn hand_over_answers(&mut self) {
        for order in std::mem::take(&mut self.orders) {
            self.steps.push(Step::Ordered(order.clone()));
            self.proxy.handle_message(Message::Order(order));
        }
        for conn in std::mem::take(&mut self.connected) {
            self.steps.push(Step::Connected(conn));
            self.proxy.handle_connected(conn);
        }
        for link in &mut self.links {
            while let Some(&(arrives, start, end)) = link.answers.front()
                && arrives <= self.ticks
            {
                link.answers.pop_front();
                self.steps.push(Step::Received(link.conn, start, end));
                self.proxy.handle_received(link.conn, &self.bytes[start..end]);
            }
        }
    }

    fn hand_over_requests(&mut self, load: &Load) {
        for client in &mut self.clients {
            if client.awaited.is_empty()
                && let Some(batch) = client.batches.pop_front()
            {
                client.awaited.extend(batch.answers);
                for piece in batch.bytes.chunks(load.piece) {
                    let start = self.bytes.len();
                    self.bytes.extend_from_slice(piece);
                    self.steps.push(Step::Received(client.conn, start, self.bytes.len()));
                    self.proxy.handle_received(client.conn, piece);
                }
            }
        }
    }

    fn carry_out(&mut self, action: Action, load: &Load) {
        match action {
            Action::Connect { conn, backend, .. } => {
                assert_eq!(conn.index(), self.links.len(), "links are never opened again here");
                let (session, answers) = (Session::new(), VecDeque::new());
                self.links.push(LinkEnd { conn, backend, session, answers });
                self.connected.push(conn);
            }
            Action::Send { conn, buffer } => {
                let bytes = contents(&buffer);
                self.sent_bytes += bytes.len() as u64;
                self.sent.push((conn, buffer));
                if conn.is_link() {
                    self.answer(conn, &bytes, load);
                } else {
                    self.clients[conn.index()].take(&bytes);
                }
            }
            Action::Notify(notice) => {
                self.coordinator.handle_notice(self.now, 0, *notice);
                self.orders.extend(std::iter::from_fn(|| self.coordinator.poll_order()).map(|order| order.1));
            }
            // Wishes, and what has been received still arrives: nobody sends more before it is answered.
            Action::PauseRead(_) | Action::ResumeRead(_) => {}
            other => panic!("{other:?}: nothing may go wrong here (seed {SEED})"),
        }
    }

    /// A backend reads requests. Its answers arrive in the next tick, or some ticks later.
    fn answer(&mut self, conn: ConnId, requests: &[u8], load: &Load) {
        let link = &mut self.links[conn.index()];
        let mut answers = Vec::new();
        let store = &mut self.stores[link.backend];
        let mut then = link.session.receive(requests, store, CLOCK, &mut answers);
        while then == Then::Full {
            then = link.session.receive(b"", store, CLOCK, &mut answers);
        }
        assert_eq!(then, Then::Open, "backend {} closes (seed {SEED})", link.backend);
        let delay = if load.out_of_turn { (self.ticks / 5 + link.backend) % BACKENDS } else { 0 };
        // Answers of one link cannot pass each other.
        let arrives = self.ticks + 1 + delay;
        let arrives = link.answers.back().map_or(arrives, |last| arrives.max(last.0));
        for piece in answers.chunks(READ_BYTES) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(piece);
            link.answers.push_back((arrives, start, self.bytes.len()));
        }
    }
}

impl ClientEnd {
    /// Answers come.
    fn take(&mut self, bytes: &[u8]) {
        self.got.extend_from_slice(bytes);
        while let Some(first) = self.awaited.front()
            && let Some(rest) = first.strip(&self.got)
        {
            self.got = rest.to_vec();
            self.awaited.pop_front();
        }
    }
}

/// All bytes of a send.
fn contents(buffer: &Outbox) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buffer.len());
    while bytes.len() < buffer.len() {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = buffer.slices(bytes.len(), &mut slices);
        assert!(filled > 0, "a buffer that has fewer bytes than it says");
        let here: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        bytes.extend(here);
    }
    bytes
}
