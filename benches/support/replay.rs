//! A recording played to a fresh core, which does the same as the recorded one: it knows nothing but what it
//! is told. The replay itself neither allocates nor searches.

use mcproxy::buffer::Outbox;
use mcproxy::io::{Action, ConnId, Handler};
use mcproxy::proxy::Proxy;
use mcproxy::proxy::message::Message;
use mcproxy::time::Time;

use super::counted::Counted;
use super::recording::{Recording, Step};

/// What an engine's loop calls: a worker's core, or something around it.
pub(crate) trait Core: Handler {
    /// Carries out what is due at `now`.
    fn handle_timeout(&mut self, now: Time);
    /// The next thing to be done.
    fn poll_action(&mut self) -> Option<Action>;
}

impl Core for Proxy {
    fn handle_timeout(&mut self, now: Time) {
        Proxy::handle_timeout(self, now);
    }

    fn poll_action(&mut self) -> Option<Action> {
        Proxy::poll_action(self)
    }
}

/// A core and the sends that are in flight.
pub(crate) struct Replay<C> {
    core: C,
    clients: Vec<Option<Outbox>>,
    links: Vec<Option<Outbox>>,
    sent_bytes: u64,
}

impl Replay<Proxy> {
    /// A core that has been through the recording's warm-up.
    pub(crate) fn warm(recording: &Recording) -> Self {
        let nothing = |count: usize| (0..count).map(|_| None).collect();
        let mut replay = Replay {
            core: Proxy::new(recording.settings.clone(), 0),
            clients: nothing(recording.clients),
            links: nothing(recording.links),
            sent_bytes: 0,
        };
        replay.play(recording, &recording.warm_up);
        replay
    }

    /// The same under observation.
    pub(crate) fn counted(self) -> Replay<Counted> {
        let Replay { core, clients, links, sent_bytes } = self;
        Replay { core: Counted(core), clients, links, sent_bytes }
    }
}

impl<C: Core> Replay<C> {
    /// What is to be measured. Can be done once.
    pub(crate) fn run(&mut self, recording: &Recording) {
        self.play(recording, &recording.steps);
    }

    /// The core has sent what the recorded one has sent.
    ///
    /// # Panics
    /// If it has not.
    pub(crate) fn check(&self, recording: &Recording) {
        assert_eq!(self.sent_bytes, recording.sent_bytes, "the replay is not the recording");
    }

    fn play(&mut self, recording: &Recording, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Ordered(ref order) => self.core.handle_message(Message::Order(order.clone())),
                Step::Accepted => {
                    self.core.handle_accepted();
                }
                Step::Connected(conn) => self.core.handle_connected(conn),
                Step::Received(conn, start, end) => {
                    self.core.handle_received(conn, &recording.bytes[start..end]);
                }
                Step::Sent(conn) => {
                    let buffer = self.in_flight(conn).take().expect("a send in flight");
                    let written = buffer.len();
                    self.core.handle_sent(conn, buffer, written);
                }
                Step::Asked => {
                    self.core.has_actions();
                }
                Step::Now(now) => self.core.handle_now(now),
                Step::Turn(now) => {
                    self.core.handle_timeout(now);
                    self.take_actions();
                }
            }
        }
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.core.poll_action() {
            if let Action::Send { conn, buffer } = action {
                self.sent_bytes += buffer.len() as u64;
                *self.in_flight(conn) = Some(buffer);
            }
        }
    }

    fn in_flight(&mut self, conn: ConnId) -> &mut Option<Outbox> {
        let ends = if conn.is_link() { &mut self.links } else { &mut self.clients };
        &mut ends[conn.index()]
    }
}
