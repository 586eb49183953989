//! A worker's logic: a sans-I/O state machine. Bytes, events and the time go in by `handle_*`; actions and
//! the next deadline come out by `poll_*`. It never touches a socket, a clock, a thread or a random source.
//!
//! ```text
//!  client bytes -> client.rs -> text_requests.rs -> placement -> link_queue.rs: outbox + Pending
//!                  (parse,      binary_requests.rs               (one write per link and tick)
//!                   slots)      multiget.rs                             |
//!                      ^                                                v
//!  client outbox <- replies.rs <- receive.rs: head of the pipeline <- link bytes
//!  (one write per client and tick)
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `client.rs`, `unread.rs` | a client's state, what becomes of its bytes |
//! | `text_requests.rs`, `binary_requests.rs` | what each request becomes |
//! | `replies.rs` | slots: answers in the order of requests |
//! | `room.rs` | memory that is used again |
//! | `joined.rs` | gets of several clients in one request |
//! | `fanout.rs`, `multiget.rs` | multi-key reads: their state, their course |
//! | `broadcast.rs` | flush_all |
//! | `own_answers.rs` | version and stats, answered here |
//! | `backend.rs`, `health.rs` | a backend's health and the words for what went wrong |
//! | `link.rs`, `link_queue.rs`, `link_life.rs` | a link: its state, its queue, its life |
//! | `receive.rs` | replies of a link to their slots |
//! | `greeting.rs` | who is at the other end of a link |
//! | `moving.rs`, `cleaning.rs`, `fencing.rs` | a change of owners, and the tokens from before it |
//! | `shortage.rs` | who gives way when memory is short |
//! | `deadlines.rs` | what is overdue |
//! | `drain.rs` | the way to a clean end |
//! | `invariants.rs` | what is always true, for the simulator |

mod backend;
mod binary_requests;
mod broadcast;
mod cleaning;
mod client;
mod deadlines;
mod drain;
mod fanout;
mod fencing;
mod greeting;
mod health;
mod invariants;
mod joined;
mod link;
mod link_life;
mod link_queue;
pub mod message;
mod moving;
mod multiget;
mod own_answers;
mod receive;
mod replies;
mod room;
pub mod settings;
mod shortage;
mod table;
mod text_requests;
mod unread;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Outbox;
use crate::io::{Action, Calls, ConnId, Failure, Handler};
use crate::memory::Share;
use crate::ownership::Ownership;
use crate::ownership::change::Notice;
use crate::placement::{Place, Placement};
use crate::protocol::reply::ReplyLimits;
use crate::protocol::text::ParserLimits;
use crate::stats::Counters;
use crate::time::Time;

use backend::Backend;
use broadcast::Broadcast;
use cleaning::Cleaning;
use client::Client;
use fanout::{Fanout, FanoutId};
use joined::JoinedGet;
use link::Link;
use link_queue::Run;
use message::Message;
use moving::{Moving, WrittenKeys};
use own_answers::StatsQuestion;
use room::Room;
use settings::Settings;
use table::Table;

/// One worker's logic.
#[derive(Debug)]
pub struct Proxy {
    settings: Arc<Settings>,
    worker: usize,
    parser_limits: ParserLimits,
    reply_limits: ReplyLimits,
    now: Time,
    /// The deadline of what is asked now.
    due: Time,
    clients: Table<Box<Client>>,
    links: Table<Box<Link>>,
    backends: Vec<Backend>,
    /// Who owns which key, as last decided, and what of it is looked at for each request.
    ownership: Arc<Ownership>,
    placement: Arc<Placement>,
    /// Some token is looked at; some backend is ejected.
    fenced: bool,
    away: bool,
    /// A change of it that is being made, and the clients whose next requests wait for that.
    moving: Option<Box<Moving>>,
    held: Vec<ConnId>,
    /// How often keys may have got other places.
    placed: u64,
    written: WrittenKeys,
    cleaning: Option<Cleaning>,
    fanouts: Table<Option<Box<Fanout>>>,
    broadcasts: Table<Broadcast>,
    questions: Table<StatsQuestion>,
    /// Connections with something to write.
    dirty_clients: Vec<ConnId>,
    dirty_links: Vec<ConnId>,
    /// The clients to be written to in this flush, and how many of them have been.
    flushing: Vec<ConnId>,
    flushed: usize,
    /// Clients that may be able to go on, and multi-key reads whose client can take more.
    stalled: Vec<ConnId>,
    parked: Vec<FanoutId>,
    actions: VecDeque<Action>,
    room: Room,
    /// Bytes of a value: large ones count at once, small ones little by little.
    value_bytes: usize,
    /// What is held of the process's budget; when others were last asked to make room, and the log told.
    memory: Share,
    called: Time,
    shortage_logged: Time,
    /// Room for a list of what is looked at for what is overdue. Empty in between.
    ids: Vec<(u32, u32)>,
    /// Room for what a request puts into a key ring. Empty in between.
    ring: Vec<u8>,
    /// The flushes so far: what was queued since the last one may still be joined.
    tick: u32,
    run: Run,
    /// By backend: the request of a multi-key read that is being composed. Empty in between.
    requests: Vec<Option<Box<JoinedGet>>>,
    /// No deadline is earlier than this.
    wake: Time,
    draining: Option<Time>,
    stopped: bool,
    counters: Counters,
}

impl Proxy {
    /// A worker with no connections. Worker 0 greets all backends at once, so that their versions are known;
    /// the others open links when they need them.
    pub fn new(settings: Arc<Settings>, worker: usize) -> Self {
        let limits = &settings.limits;
        let mut proxy = Proxy {
            parser_limits: ParserLimits { value_max: limits.value_max, get_line_max: limits.get_line_max },
            reply_limits: ReplyLimits { line_max: limits.reply_line_max, value_max: limits.reply_value_max },
            now: Time::default(),
            due: Time::default() + settings.timeout,
            clients: Table::default(),
            links: Table::default(),
            backends: settings.backends.iter().map(|_| Backend::default()).collect(),
            ownership: Arc::new(Ownership::new(settings.placement.clone(), settings.backends.len())),
            placement: settings.placement.clone(),
            fenced: false,
            away: false,
            moving: None,
            held: Vec::new(),
            placed: 0,
            written: WrittenKeys::default(),
            cleaning: None,
            fanouts: Table::default(),
            broadcasts: Table::default(),
            questions: Table::default(),
            dirty_clients: Vec::new(),
            dirty_links: Vec::new(),
            flushing: Vec::new(),
            flushed: 0,
            stalled: Vec::new(),
            parked: Vec::new(),
            actions: VecDeque::new(),
            room: Room::new(),
            value_bytes: 0,
            memory: Share::new(settings.memory.clone()),
            called: Time::default(),
            shortage_logged: Time::default(),
            ids: Vec::with_capacity(64),
            ring: Vec::new(),
            tick: 1,
            run: Run::NONE,
            requests: settings.backends.iter().map(|_| None).collect(),
            wake: Time::NEVER,
            draining: None,
            stopped: false,
            counters: Counters::default(),
            settings,
            worker,
        };
        if worker == 0 {
            proxy.greet_backends();
        }
        proxy
    }

    /// The next thing to be done. Ask again until there is none.
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action> {
        let mut flushed = false;
        while self.actions.is_empty() {
            // What a client is to be sent is not put in a queue before.
            if let Some(&conn) = self.flushing.get(self.flushed) {
                self.flushed += 1;
                if let Some(send) = self.flush_client(conn) {
                    return Some(send);
                }
            } else if flushed {
                return None;
            } else {
                self.flush();
                flushed = true;
            }
        }
        self.actions.pop_front()
    }

    /// How long the driver may wait for events; `None`: for ever.
    pub fn poll_timeout(&self) -> Option<Duration> {
        (self.wake != Time::NEVER).then(|| self.wake.since(self.now))
    }

    /// Carries out what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.set_now(now);
        self.counters.ticks += 1;
        if now >= self.wake {
            self.expire();
        }
    }

    fn set_now(&mut self, now: Time) {
        if now != self.now {
            self.now = now;
            self.due = now + self.settings.timeout;
        }
    }

    /// The engine has made system calls.
    pub fn count_calls(&mut self, calls: Calls) {
        self.counters.driver_polls += calls.polls;
        self.counters.driver_reads += calls.reads;
        self.counters.driver_writes += calls.writes;
    }

    /// Handles all input of a tick first, then writes to each dirty connection once.
    fn flush(&mut self) {
        if self.moving.is_some() {
            self.check_confirmed();
        }
        self.resume_parked();
        self.resume_stalled();
        self.flush_links();
        self.settle_memory();
        self.begin_flush_of_clients();
        self.check_drained();
    }

    /// The other workers.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let this = self.worker;
        (0..self.settings.workers).filter(move |&worker| worker != this)
    }

    fn tell(&mut self, worker: usize, message: Message) {
        self.actions.push_back(Action::Tell { worker, message: Box::new(message) });
    }

    fn notify(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notify(Box::new(notice)));
    }

    /// Where a key lies now.
    #[inline]
    fn place(&self, key: &[u8]) -> Place {
        match &self.moving {
            None => self.placement.place(key),
            Some(moving) => moving.place(key, &self.placement),
        }
    }

    /// Something is due at `at`.
    #[inline]
    fn wake_at(&mut self, at: Time) {
        if at < self.wake {
            self.wake = at;
        }
    }

    fn client(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.clients.get_mut(conn.index(), conn.generation()).map(|client| &mut **client)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.links.get_mut(conn.index(), conn.generation()).map(|link| &mut **link)
    }
}

impl Handler for Proxy {
    fn handle_now(&mut self, now: Time) {
        self.set_now(now);
    }

    fn handle_accepted(&mut self) -> ConnId {
        self.accept_client()
    }

    fn handle_received(&mut self, conn: ConnId, bytes: &[u8]) {
        if conn.is_link() {
            self.receive_from_link(conn, bytes);
            // A part of a large reply is kept until the rest of it comes.
            self.charge_link(conn);
        } else {
            self.receive_from_client(conn, bytes);
        }
    }

    fn handle_eof(&mut self, conn: ConnId) {
        if conn.is_link() {
            self.link_ended(conn);
        } else {
            self.end_client(conn);
        }
    }

    fn handle_failed(&mut self, conn: ConnId, failure: Failure) {
        if conn.is_link() {
            self.link_failed(conn, failure);
        } else {
            self.drop_client(conn);
        }
    }

    fn handle_sent(&mut self, conn: ConnId, buffer: Outbox, written: usize) {
        if conn.is_link() {
            self.sent_to_link(conn, buffer, written);
        } else {
            self.sent_to_client(conn, buffer, written);
        }
    }

    fn handle_progress(&mut self, conn: ConnId) {
        if !conn.is_link() {
            self.client_takes(conn);
        }
    }

    fn handle_connected(&mut self, conn: ConnId) {
        self.link_connected(conn);
    }

    fn handle_closed(&mut self, conn: ConnId) {
        if conn.is_link() {
            self.remove_link(conn);
        } else {
            self.forget_client(conn);
        }
    }

    fn handle_resolved(&mut self, backend: usize, addresses: usize) {
        self.backend_resolved(backend, addresses);
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::CountersWanted { worker, ticket } => {
                let message =
                    Message::Counters { worker: self.worker, ticket, report: Box::new(self.report()) };
                self.tell(worker, message);
            }
            Message::Counters { worker, ticket, report } => self.take_report(worker, ticket, *report),
            Message::ResetCounters => self.reset_counters(),
            Message::Version { backend, version } => self.backends[backend].version = Some(version),
            Message::Order(order) => self.take_order(order),
            Message::MakeRoom => self.help_out(),
            Message::Drain(timeout) => self.drain(timeout),
        }
    }

    fn has_actions(&self) -> bool {
        !self.actions.is_empty()
            || !self.dirty_clients.is_empty()
            || !self.dirty_links.is_empty()
            || self.flushed < self.flushing.len()
            || !self.stalled.is_empty()
            || !self.parked.is_empty()
            || self.is_drained()
    }
}
