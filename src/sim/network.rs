//! Connections: two flows of bytes each, that take their time, stall and break. What a socket holds and what
//! is on its way are bounded by a window, as the kernel's buffers are.
//!
//! The near end of each connection is a worker's; see `io.rs`. The far end is a client's or a backend's; what
//! it can do stands here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::buffer::Outbox;
use crate::io::{ConnId, Failure};
use crate::ownership::change::Notice;
use crate::proxy::message::Message;
use crate::time::Time;

use super::random::Random;
use super::schedule::Schedule;
use super::tally::Tally;
use super::trace::{Trace, show};
use super::weather::Weather;

/// What happens at some time.
#[derive(Debug)]
pub(super) enum Event {
    /// A worker's engine has something to tell, or its deadline has come.
    Tick(usize),
    /// Bytes, or the end of them, reach the near end of a connection.
    ArriveNear(usize),
    /// The same at the far end.
    ArriveFar(usize),
    /// The near end's send can go on.
    Writable(usize),
    /// A connect has come to its end.
    ConnectDone(usize, Result<(), Failure>),
    /// The engine lets go of a closed connection.
    LetGo(usize),
    /// The control plane is told something by a worker.
    Notice(usize, Box<Notice>),
    /// Something is due in the control plane.
    Decide,
    /// A worker gets mail.
    Mail(usize, Mail),
    /// The far end of a connection does what it does.
    Far(usize),
    /// A client comes, or goes on.
    Client(usize),
    /// One of the planned faults.
    Fault(usize),
    /// The next part of the run begins.
    Phase,
}

/// What other threads send to a worker.
#[derive(Debug)]
pub(super) enum Mail {
    Client(usize),
    Resolved(usize, usize),
    Message(Box<Message>),
}

/// Who is at the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client(usize),
    Backend(usize),
}

/// Everything between the workers and those outside.
pub(super) struct Network {
    pub(super) schedule: Schedule<Event>,
    pub(super) random: Random,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
    pub(super) weather: Weather,
    pub(super) conns: Vec<Conn>,
    pub(super) desks: Vec<Desk>,
    pub(super) doors: Vec<Door>,
    /// The workers have been told to end: connections may be closed.
    pub(super) draining: bool,
    /// The first broken promise.
    pub(super) violation: Option<String>,
}

/// What a worker's engine holds.
#[derive(Default)]
pub(super) struct Desk {
    /// By the identity that the core knows.
    pub(super) ids: BTreeMap<u64, usize>,
    /// What became of submitted actions.
    pub(super) completions: Vec<Completion>,
    /// Connections to be looked at.
    pub(super) ready: BTreeSet<usize>,
    pub(super) mail: VecDeque<Mail>,
    /// When it is woken next.
    pub(super) wake: Option<Time>,
    /// Messages for nobody: answers to the simulator's own questions.
    pub(super) told: Vec<Message>,
    /// Bytes that went through: from clients, to clients, from backends, to backends.
    pub(super) bytes: [u64; 4],
    /// When the last order of the control plane, and the last notice to it, come to their ends.
    pub(super) last_order: Time,
    pub(super) last_notice: Time,
    /// Links that it was told to connect, clients that it was given.
    pub(super) links: u64,
    pub(super) clients: u64,
    /// Clients that were closed for no reason of their own.
    pub(super) evicted: u64,
}

pub(super) enum Completion {
    Sent(ConnId, Outbox, usize),
    Failed(ConnId, Failure),
    Closed(ConnId),
}

/// How a backend's connects end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) state: DoorState,
    /// Of the addresses of its name, the one where it is.
    pub(super) address: usize,
    pub(super) addresses: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoorState {
    Open,
    Refusing,
    BlackHole,
}

/// One connection.
pub(super) struct Conn {
    pub(super) peer: Peer,
    pub(super) worker: usize,
    pub(super) opened: Time,
    pub(super) near: Near,
    pub(super) to_proxy: Flow,
    pub(super) from_proxy: Flow,
    /// The far end has let go of it.
    pub(super) far_closed: bool,
    /// The far end has been told that it is broken.
    pub(super) far_broken: bool,
    /// When the far end is woken next.
    far_wake: Option<Time>,
}

/// The worker's end.
#[derive(Default)]
pub(super) struct Near {
    pub(super) id: Option<ConnId>,
    pub(super) connected: bool,
    pub(super) connect_result: Option<Result<(), Failure>>,
    pub(super) paused: bool,
    /// Bytes that had been received when reading was paused and still come.
    pub(super) grace: usize,
    pub(super) sending: Option<(Outbox, usize)>,
    pub(super) writable: bool,
    pub(super) shut: bool,
    pub(super) broken: Option<Failure>,
    pub(super) eof_told: bool,
    pub(super) failure_told: bool,
    pub(super) closed: bool,
}

/// Bytes in one direction.
#[derive(Default)]
pub(super) struct Flow {
    in_flight: VecDeque<(Time, Vec<u8>)>,
    in_flight_bytes: usize,
    pub(super) arrived: Vec<u8>,
    fin: Option<Time>,
    pub(super) fin_arrived: bool,
    last: Time,
}

impl Flow {
    fn held(&self) -> usize {
        self.in_flight_bytes + self.arrived.len()
    }

    /// All that was ever sent has been read, and no more comes.
    pub(super) fn is_over(&self) -> bool {
        self.fin_arrived && self.arrived.is_empty()
    }

    fn push(&mut self, at: Time, bytes: Vec<u8>) {
        self.in_flight_bytes += bytes.len();
        self.last = at;
        self.in_flight.push_back((at, bytes));
    }

    fn arrive(&mut self, now: Time) {
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(at, _)| *at <= now) {
            self.in_flight_bytes -= bytes.len();
            self.arrived.extend_from_slice(&bytes);
        }
        self.fin_arrived |= self.fin.is_some_and(|at| at <= now);
    }

    /// What is on its way is lost, but for the first `keep` bytes; then comes the end.
    fn cut(&mut self, keep: usize) {
        let mut left = keep;
        for (_, bytes) in &mut self.in_flight {
            bytes.truncate(left);
            left -= bytes.len();
        }
        self.in_flight_bytes = self.in_flight.iter().map(|(_, bytes)| bytes.len()).sum();
    }

    /// Takes at most `most` of the bytes that have arrived.
    pub(super) fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.arrived.len());
        self.arrived.drain(..count).collect()
    }
}

impl Network {
    /// Nobody is connected.
    pub(super) fn new(
        random: Random,
        trace: Trace,
        weather: Weather,
        workers: usize,
        doors: Vec<Door>,
    ) -> Self {
        Network {
            schedule: Schedule::new(),
            random,
            trace,
            tally: Tally::default(),
            weather,
            conns: Vec::new(),
            desks: (0..workers).map(|_| Desk::default()).collect(),
            doors,
            draining: false,
            violation: None,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.schedule.now()
    }

    /// A promise is broken. The first one counts.
    pub(super) fn violate(&mut self, what: String) {
        let now = self.now();
        self.trace.note(now, &[99], &[], || format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    /// Something that is only worth a line.
    pub(super) fn note(&mut self, what: &[u64], line: impl FnOnce() -> String) {
        self.trace.note(self.schedule.now(), what, &[], line);
    }

    /// A connection between a worker and somebody else. Nothing stands yet.
    pub(super) fn connection(&mut self, peer: Peer, worker: usize) -> usize {
        self.conns.push(Conn {
            peer,
            worker,
            opened: self.schedule.now(),
            near: Near::default(),
            to_proxy: Flow::default(),
            from_proxy: Flow::default(),
            far_closed: false,
            far_broken: false,
            far_wake: None,
        });
        self.conns.len() - 1
    }

    /// The worker is woken at `at`, or earlier.
    pub(super) fn wake(&mut self, worker: usize, at: Time) {
        let at = at.max(self.now());
        let desk = &mut self.desks[worker];
        if desk.wake.is_none_or(|wake| at < wake) {
            desk.wake = Some(at);
            self.schedule.at(at, Event::Tick(worker));
        }
    }

    /// The far end is woken after `delay`, or earlier.
    pub(super) fn wake_far(&mut self, conn: usize, delay: Duration) {
        let at = self.now() + delay;
        let state = &mut self.conns[conn];
        if state.far_wake.is_none_or(|wake| at < wake) {
            state.far_wake = Some(at);
            self.schedule.at(at, Event::Far(conn));
        }
    }

    /// False if the far end was to be woken at another time.
    pub(super) fn far_is_awake(&mut self, conn: usize) -> bool {
        let now = self.now();
        self.conns[conn].far_wake.take_if(|wake| *wake == now).is_some()
    }

    /// The near end has something to be looked at.
    pub(super) fn touch_near(&mut self, conn: usize) {
        let worker = self.conns[conn].worker;
        self.desks[worker].ready.insert(conn);
        let late = self.weather.tick_delay(&mut self.random);
        self.wake(worker, self.now() + late);
    }

    pub(super) fn arrive_near(&mut self, conn: usize) {
        let now = self.now();
        self.conns[conn].to_proxy.arrive(now);
        if !self.conns[conn].near.closed {
            self.touch_near(conn);
        }
    }

    pub(super) fn arrive_far(&mut self, conn: usize) {
        let now = self.now();
        self.conns[conn].from_proxy.arrive(now);
        self.wake_far(conn, Duration::ZERO);
    }

    /// Puts bytes on their way in pieces. Gives how many the window took.
    pub(super) fn put(&mut self, conn: usize, bytes: &[u8], to_proxy: bool) -> usize {
        let window = self.weather.window;
        let held =
            if to_proxy { self.conns[conn].to_proxy.held() } else { self.conns[conn].from_proxy.held() };
        let taken = bytes.len().min(window.saturating_sub(held));
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let count = if self.random.once_in(self.weather.split) {
                1 + self.random.below(rest.len())
            } else {
                rest.len()
            };
            let delay = self.weather.delay(&mut self.random, &mut self.tally);
            let now = self.now();
            let flow = self.flow(conn, to_proxy);
            let at = flow.last.max(now + delay);
            flow.push(at, rest[..count].to_vec());
            let event = if to_proxy { Event::ArriveNear(conn) } else { Event::ArriveFar(conn) };
            self.schedule.at(at, event);
            rest = &rest[count..];
        }
        taken
    }

    /// No more bytes come in this direction.
    pub(super) fn finish(&mut self, conn: usize, to_proxy: bool) {
        let now = self.now();
        let delay = self.weather.delay(&mut self.random, &mut self.tally);
        let flow = self.flow(conn, to_proxy);
        if flow.fin.is_none() {
            let at = flow.last.max(now + delay);
            flow.fin = Some(at);
            let event = if to_proxy { Event::ArriveNear(conn) } else { Event::ArriveFar(conn) };
            self.schedule.at(at, event);
        }
    }

    fn flow(&mut self, conn: usize, to_proxy: bool) -> &mut Flow {
        let conn = &mut self.conns[conn];
        if to_proxy { &mut conn.to_proxy } else { &mut conn.from_proxy }
    }

    /// The far end reads.
    pub(super) fn far_read(&mut self, conn: usize, most: usize) -> Vec<u8> {
        let bytes = self.conns[conn].from_proxy.take(most);
        if !bytes.is_empty() && self.conns[conn].near.sending.is_some() {
            let delay = self.weather.delay(&mut self.random, &mut self.tally);
            self.schedule.after(delay, Event::Writable(conn));
        }
        bytes
    }

    /// The far end writes. Gives how many bytes were taken; a connection without a near end takes all.
    pub(super) fn far_write(&mut self, conn: usize, bytes: &[u8]) -> usize {
        let state = &self.conns[conn];
        if state.near.closed || state.near.broken.is_some() {
            return bytes.len();
        }
        let (now, peer) = (self.now(), state.peer);
        let taken = self.put(conn, bytes, true);
        if taken == 0 {
            return 0;
        }
        self.trace.note(now, &[1, conn as u64], &bytes[..taken], || {
            format!("#{conn} {peer:?} -> {}", show(&bytes[..taken]))
        });
        taken
    }

    /// The far end will write no more.
    pub(super) fn far_shutdown(&mut self, conn: usize) {
        self.note(&[2, conn as u64], || format!("#{conn} shut down by its far end"));
        self.finish(conn, true);
    }

    /// The far end closes for good, after what it has written.
    pub(super) fn far_close(&mut self, conn: usize) {
        if !std::mem::replace(&mut self.conns[conn].far_closed, true) {
            self.far_shutdown(conn);
        }
    }

    /// The connection breaks: both ends are told, and what is on its way is lost or not.
    pub(super) fn reset(&mut self, conn: usize) {
        self.note(&[3, conn as u64], || format!("#{conn} is reset"));
        let state = &self.conns[conn];
        let [keep, keep_far] =
            [&state.to_proxy, &state.from_proxy].map(|flow| match self.random.once_in(2) {
                true => usize::MAX,
                false => self.random.below(flow.in_flight_bytes + 1),
            });
        let now = self.now();
        let state = &mut self.conns[conn];
        state.to_proxy.cut(keep);
        state.to_proxy.arrive(Time::NEVER);
        state.from_proxy.cut(keep_far);
        state.from_proxy.arrive(Time::NEVER);
        (state.from_proxy.last, state.to_proxy.last) = (now, now);
        state.far_broken = true;
        if !state.near.closed {
            state.near.broken.get_or_insert(Failure::Reset);
            self.touch_near(conn);
        }
        self.wake_far(conn, Duration::ZERO);
    }

    /// Those connections that the worker has not given up.
    pub(super) fn standing(&self, wanted: impl Fn(Peer) -> bool) -> Vec<usize> {
        let stands = |conn: &Conn| {
            conn.near.connected && !conn.near.closed && conn.near.broken.is_none() && !conn.far_broken
        };
        let conns = self.conns.iter().enumerate();
        conns.filter(|(_, conn)| wanted(conn.peer) && stands(conn)).map(|(index, _)| index).collect()
    }
}
