//! One thread: an event loop and its share of the clients.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::arguments::Plan;
use crate::client::{Client, Shared};
use crate::inbox::READ_BYTES;
use crate::items::Items;
use crate::pace::Pace;
use crate::requests::Source;
use crate::tally::Tally;
use crate::target::Socket;
use crate::timer::Timer;
use crate::trouble::{Trouble, shown};
use crate::wire::Wire;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// The timer's; no client has it.
const TIMER: Token = Token(usize::MAX);

/// Between two looks at whether anything still comes.
const TICK: Duration = Duration::from_millis(100);

/// A part of a run: what is asked, when, and how much at once.
pub(crate) struct Phase {
    pub(crate) source: Source,
    pub(crate) pace: Pace,
    /// Requests in flight per client.
    pub(crate) depth: usize,
}

/// Operations answered so far, for the progress line. Alone on its cache line: it is written once a turn.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Done(AtomicU64);

/// One thread's share.
pub(crate) struct Lane {
    poll: Poll,
    timer: Timer,
    clients: Vec<Client>,
    shared: Shared,
    /// Open loop: a client stands here once for each request that it may still send.
    room: VecDeque<u32>,
    /// Clients with something to write.
    dirty: Vec<u32>,
    /// After which a target that answers nothing has failed, nanoseconds.
    patience: u64,
    done: Arc<Done>,
}

impl Lane {
    /// Connects its clients, whose numbers over all lanes are `numbers`.
    pub(crate) fn connect(
        plan: &Plan,
        items: Arc<Items>,
        numbers: std::ops::Range<u32>,
        epoch: Instant,
        done: Arc<Done>,
    ) -> Result<Self, Trouble> {
        let system = |what: &str| Trouble::system(what.to_string());
        let poll = Poll::new().map_err(system("event loop"))?;
        let timer = Timer::new(poll.registry(), TIMER).map_err(system("timer"))?;
        let mut clients = Vec::new();
        for number in numbers {
            let socket = connect(plan, &poll, clients.len())
                .map_err(Trouble::system(format!("--target {}: connection {number}", plan.target)))?;
            clients.push(Client::new(number, socket));
        }
        let shared = Shared {
            wire: Wire::new(plan, items),
            source: Source::Fill { next: 0, end: 0 },
            tally: Tally::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            epoch,
            now: 0,
            in_flight: 0,
            version: 0,
        };
        let patience = u64::try_from(plan.timeout.as_nanos()).unwrap_or(u64::MAX);
        Ok(Lane { poll, timer, clients, shared, room: VecDeque::new(), dirty: Vec::new(), patience, done })
    }

    /// Runs a phase until all that it sent is answered.
    pub(crate) fn run(&mut self, phase: Phase) -> Result<Tally, Trouble> {
        let Phase { source, mut pace, depth } = phase;
        self.shared.source = source;
        self.shared.look();
        self.room.clear();
        match pace {
            Pace::Closed { .. } => {
                for index in 0..self.clients.len() {
                    self.shared.look();
                    self.fill(index, &mut pace, depth)?;
                }
            }
            Pace::Open(_) => {
                let all = 0..self.clients.len() as u32;
                self.room.extend((0..depth).flat_map(|_| all.clone()));
            }
        }
        let mut events = Events::with_capacity(EVENTS);
        let mut heard = self.shared.now;
        while self.shared.in_flight > 0 || !pace.is_over(self.shared.now) {
            let answered = self.turn(&mut events, &mut pace, depth)?;
            if answered > 0 || self.shared.in_flight == 0 {
                heard = self.shared.now;
                let operations = self.shared.tally.operations();
                self.done.0.store(operations, Ordering::Relaxed);
            } else if self.shared.now.saturating_sub(heard) > self.patience {
                return Err(self.silence());
            }
        }
        self.shared.tally.ended = self.shared.look();
        self.shared.tally.unsent = pace.unsent();
        Ok(std::mem::replace(&mut self.shared.tally, Tally::new()))
    }

    /// Waits for events and deals with them; gives the number of operations answered.
    fn turn(&mut self, events: &mut Events, pace: &mut Pace, depth: usize) -> Result<usize, Trouble> {
        self.send_due(pace)?;
        self.wait(events, pace).map_err(Trouble::system("waiting for events"))?;
        self.shared.look();
        let mut answered = 0;
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let index = event.token().0;
            if event.is_writable() {
                self.clients[index].flush(&mut self.shared)?;
            }
            let ended = event.is_read_closed() || event.is_error();
            if !event.is_readable() && !ended {
                continue;
            }
            let count = self.clients[index].receive(&mut self.shared, ended)?;
            answered += count;
            match pace {
                Pace::Closed { .. } => self.fill(index, pace, depth)?,
                Pace::Open(_) => {
                    self.room.extend(std::iter::repeat_n(index as u32, count));
                    self.send_due(pace)?;
                }
            }
        }
        Ok(answered)
    }

    /// Closed loop: lets a client send what it may, in one write.
    fn fill(&mut self, index: usize, pace: &mut Pace, depth: usize) -> Result<(), Trouble> {
        let client = &mut self.clients[index];
        while client.in_flight() < depth
            && let Some(at) = pace.next(self.shared.now)
        {
            client.ask(&mut self.shared, at);
        }
        client.flush(&mut self.shared)
    }

    /// Open loop: sends what is due, as far as there is room, in one write per client.
    fn send_due(&mut self, pace: &mut Pace) -> Result<(), Trouble> {
        while let Some(&index) = self.room.front()
            && let Some(due) = pace.next(self.shared.now)
        {
            self.room.pop_front();
            self.shared.tally.sent_late(self.shared.now - due);
            if self.clients[index as usize].ask(&mut self.shared, due) {
                self.dirty.push(index);
            }
        }
        for index in self.dirty.drain(..) {
            self.clients[index as usize].flush(&mut self.shared)?;
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, pace: &Pace) -> io::Result<()> {
        let mut timeout = TICK;
        if !self.room.is_empty()
            && let Some(due) = pace.due(self.shared.now)
        {
            let wait = Duration::from_nanos(due.saturating_sub(self.shared.look()));
            timeout = if wait.is_zero() { Duration::ZERO } else { self.timer.wake_in(wait, TICK)? };
        }
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    #[cold]
    fn silence(&self) -> Trouble {
        let oldest = self.clients.iter().filter_map(Client::oldest).min_by_key(|asked| asked.at);
        Trouble::Silence {
            seconds: self.patience as f64 / 1e9,
            in_flight: self.shared.in_flight,
            oldest: oldest.map(|asked| shown(&self.shared.wire.shown(asked))).unwrap_or_default(),
        }
    }
}

impl Done {
    /// Operations answered.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn connect(plan: &Plan, poll: &Poll, index: usize) -> io::Result<Socket> {
    let socket = Socket::connect(&plan.target)?;
    socket.set_nonblocking()?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), interest)?;
    Ok(socket)
}
