//! Clients: how they ask, read, and end.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

use super::answers::{Answer, Heard, hear, whole_values};
use super::history::{History, Key, Read, WriteId, WriteKind};
use super::judge::{Rules, Seen, judge};
use super::network::{Event, Mail, Network, Peer};
use super::requests::{Ask, Composer, Op, Speech};
use super::trace::show;

/// Requests whose answer is always the same, by that answer.
const LINES: [&[u8]; 3] = [b"MN\r\n", b"OK\r\n", b"ERROR\r\n"];

/// What a client gets that was sending when memory was short.
const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";

/// How a client takes its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Prompt,
    /// One byte, and then a while nothing.
    Dripping(Duration),
    /// Not at all until the faults stop.
    Never,
}

/// How it ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Stays,
    /// It is gone, its requests in flight.
    Vanishes,
    /// It sends no more, and reads on.
    HalfCloses,
    /// It says so.
    Quits,
}

/// What a client is like.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) speech: Speech,
    pub(super) depth: usize,
    pub(super) think: Duration,
    /// Bytes at once, and then a while nothing.
    pub(super) drip: Option<(usize, Duration)>,
    pub(super) reading: Reading,
    pub(super) ending: Ending,
    /// It does nothing but count, by reading and comparing.
    pub(super) counter: bool,
    /// Requests that it makes in all.
    pub(super) budget: usize,
    /// Requests after which it ends, and comes again.
    pub(super) stay: usize,
    pub(super) worker: usize,
}

/// What a client is sent to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Set,
    Get,
}

/// What all clients of a run share.
#[derive(Clone, Debug)]
pub(super) struct Menu {
    pub(super) values: Vec<Key>,
    pub(super) numbers: Vec<Key>,
    pub(super) counters: Vec<Key>,
    pub(super) padding: usize,
    pub(super) too_large: usize,
    /// A read may ask for so many keys.
    pub(super) keys: usize,
    pub(super) flushes: bool,
    /// No answer to one key takes longer, to those who read at once.
    pub(super) patience: Duration,
}

/// A client.
pub(super) struct Client {
    number: usize,
    pub(super) habits: Habits,
    pub(super) conn: Option<usize>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    pub(super) asked: VecDeque<Op>,
    seen: Seen,
    next_opaque: u32,
    since_connect: usize,
    /// It will send no more on this connection.
    ending: bool,
    fin_sent: bool,
    /// What the counter has read and not yet written over.
    last_read: Option<(Key, Read)>,
    /// Faults have stopped: it asks for nothing new and finishes.
    pub(super) finishing: bool,
    next_write_at: Time,
    next_read_at: Time,
    next_ask_at: Time,
    /// Keys that it sets, or reads, one after the other, whatever else it does not do any more.
    pub(super) errands: VecDeque<(Key, Errand)>,
    /// Quiet text writes, and how many answers were awaited when they were asked: when these have come, they
    /// have been applied, unless something is wrong with somebody.
    unheard: VecDeque<(usize, WriteId)>,
    /// Answers that have come on this connection.
    heard: usize,
    /// It has ceased to understand what it hears, and ends.
    lied_to: bool,
    last_answer: Option<Answer>,
}

impl Client {
    pub(super) fn new(number: usize, habits: Habits) -> Self {
        Client {
            number,
            habits,
            conn: None,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            asked: VecDeque::new(),
            seen: Seen::new(),
            next_opaque: 0,
            since_connect: 0,
            ending: false,
            fin_sent: false,
            last_read: None,
            finishing: false,
            next_write_at: Time::default(),
            next_read_at: Time::default(),
            next_ask_at: Time::default(),
            errands: VecDeque::new(),
            unheard: VecDeque::new(),
            heard: 0,
            lied_to: false,
            last_answer: None,
        }
    }

    /// It has nothing to say and waits for nothing.
    pub(super) fn is_content(&self) -> bool {
        self.conn.is_none()
            || (self.asked.is_empty() && self.outgoing.is_empty() && self.errands.is_empty() && !self.ending)
    }

    /// What it waits for, for people.
    pub(super) fn waits_for(&self) -> String {
        format!(
            "client {} at {:?} waits for {} answers, first {:?}; {} bytes unsent, {} unread, ending {}",
            self.number,
            self.conn,
            self.asked.len(),
            self.asked.front(),
            self.outgoing.len(),
            self.incoming.len(),
            self.ending
        )
    }

    /// It goes on: reads, asks, writes, ends.
    pub(super) fn go_on(&mut self, network: &mut Network, history: &mut History, menu: &Menu, rules: &Rules) {
        let Some(conn) = self.conn else { return self.come(network) };
        self.listen(conn, network, history, menu, rules);
        if self.conn.is_none() || network.violation.is_some() {
            return;
        }
        self.ask_more(network, history, menu);
        self.run_errand(network, history, menu);
        self.write(conn, network);
        self.see_to_the_end(conn, network);
        if self.conn.is_some() {
            self.sleep(conn, network);
        }
    }

    /// It goes on by itself when a pause is over: whatever wakes it before, it may have to be woken again.
    fn sleep(&self, conn: usize, network: &mut Network) {
        let now = network.now();
        let unread = !network.conns[conn].from_proxy.arrived.is_empty();
        let dripping = matches!(self.habits.reading, Reading::Dripping(_)) && !self.finishing;
        let pauses = [
            (self.next_ask_at, !self.finishing && !self.ending && self.habits.budget > 0),
            (self.next_write_at, !self.outgoing.is_empty()),
            (self.next_read_at, unread && dripping),
        ];
        for (at, wanted) in pauses {
            if wanted && at > now {
                network.wake_far(conn, at.since(now));
            }
        }
    }

    fn come(&mut self, network: &mut Network) {
        if self.habits.budget == 0 || self.finishing {
            return;
        }
        let conn = network.connection(Peer::Client(self.number), self.habits.worker);
        network.tally.count("clients");
        self.conn = Some(conn);
        self.since_connect = 0;
        (self.ending, self.fin_sent) = (false, false);
        self.outgoing.clear();
        self.incoming.clear();
        self.seen.clear();
        self.last_read = None;
        self.lied_to = false;
        self.unheard.clear();
        self.heard = 0;
        let delay = network.weather.delay(&mut network.random, &mut network.tally);
        network.schedule.after(delay, Event::Mail(self.habits.worker, Mail::Client(conn)));
        network.wake_far(conn, Duration::from_micros(1));
    }

    /// Opens a connection now, whatever its budget.
    pub(super) fn come_now(&mut self, network: &mut Network) {
        self.habits.budget = self.habits.budget.max(1);
        self.finishing = false;
        self.come(network);
    }

    /// Sets or reads the next key that it was told to.
    fn run_errand(&mut self, network: &mut Network, history: &mut History, menu: &Menu) {
        if !self.asked.is_empty() {
            return;
        }
        let ask = match self.errands.pop_front() {
            None => return,
            Some((key, Errand::Set)) => self.composer(network, history, menu).write(key, WriteKind::Set),
            Some((key, Errand::Get)) => Ask::Read { keys: vec![key], with_cas: false, touch: false },
        };
        self.ask(ask, false, None, network, history, menu);
    }

    /// It goes, without a word or in peace.
    pub(super) fn leave(&mut self, network: &mut Network, vanish: bool) {
        let Some(conn) = self.conn else { return };
        if vanish {
            network.tally.count("fault: client vanished");
            network.reset(conn);
            network.conns[conn].far_closed = true;
            self.forget(network);
        } else {
            self.ending = true;
            network.wake_far(conn, Duration::ZERO);
        }
    }

    /// The connection is no more.
    fn forget(&mut self, network: &mut Network) {
        self.conn = None;
        self.asked.clear();
        self.outgoing.clear();
        if !self.finishing && self.habits.budget > 0 {
            let delay = network.random.between(100, 200_000);
            network.schedule.after(Duration::from_micros(delay), Event::Client(self.number));
        }
    }

    fn listen(
        &mut self,
        conn: usize,
        network: &mut Network,
        history: &mut History,
        menu: &Menu,
        rules: &Rules,
    ) {
        let there = network.conns[conn].from_proxy.arrived.len();
        let reading = if self.finishing { Reading::Prompt } else { self.habits.reading };
        let now = network.now();
        let most = match reading {
            Reading::Prompt => there,
            Reading::Never => 0,
            Reading::Dripping(_) if now < self.next_read_at => 0,
            Reading::Dripping(pause) => {
                self.next_read_at = now + pause;
                there.min(1)
            }
        };
        let bytes = network.far_read(conn, most);
        if !bytes.is_empty() {
            let number = self.number;
            network.trace.note(now, &[50, conn as u64], &bytes, || {
                format!("#{conn} client {number} hears {}", show(&bytes))
            });
            if !self.lied_to {
                self.incoming.extend_from_slice(&bytes);
                self.understand(network, history, menu, rules);
            }
        }
        let state = &network.conns[conn];
        if network.violation.is_none() && (state.from_proxy.is_over() || state.far_broken) && there == most {
            self.ended(conn, network, history, rules);
        }
    }

    /// Reads whole answers.
    fn understand(&mut self, network: &mut Network, history: &mut History, menu: &Menu, rules: &Rules) {
        while !self.incoming.is_empty() {
            // It may have been sending what wants no answer.
            if self.asked.is_empty() && rules.evicts && self.incoming.starts_with(OUT_OF_MEMORY) {
                self.incoming.drain(..OUT_OF_MEMORY.len());
                continue;
            }
            let Some(op) = self.asked.front() else {
                let what =
                    format!("client {} asked for nothing and got {}", self.number, show(&self.incoming));
                return network.violate(what);
            };
            let (total, answer) = match hear(op, &self.incoming, history) {
                Heard::Partial => return,
                Heard::Whole(total, answer) => (total, answer),
                Heard::Wrong(what) => {
                    let of_liar = op.ask.keys().iter().any(|&key| history.is_liars(key));
                    let unmarked = self.habits.speech == Speech::Meta && history.liars.contains(&true);
                    if of_liar || unmarked {
                        return self.put_up_with_lies();
                    }
                    return network.violate(format!("client {}: {what}", self.number));
                }
            };
            self.incoming.drain(..total);
            let Some(op) = self.asked.pop_front() else { return };
            self.heard += 1;
            self.check_unheard(network, history, rules);
            count(&op, &answer, network);
            self.check_patience(&op, network, menu);
            match judge(&op, &answer, history, &mut self.seen, rules) {
                Ok(read) => {
                    let read = read.zip(op.ask.keys().first().copied());
                    self.last_read = read.map(|(read, key)| (key, read)).or(self.last_read.take());
                }
                Err(what) => return network.violate(format!("client {}: {what}", self.number)),
            }
            self.last_answer = Some(answer);
        }
    }

    /// A liar's answer that has the right form and is not right: to another meta command, which the proxy
    /// cannot tell apart, or with nonsense in a place of which the proxy knows nothing. What else comes on
    /// this connection may be anything.
    fn put_up_with_lies(&mut self) {
        self.incoming.clear();
        self.asked.clear();
        self.outgoing.clear();
        self.lied_to = true;
        self.ending = true;
    }

    /// An answer has come: what was asked quietly before it has been carried out.
    fn check_unheard(&mut self, network: &mut Network, history: &History, rules: &Rules) {
        while let Some((_, id)) = self.unheard.pop_front_if(|(heard, _)| *heard < self.heard) {
            let write = &history.writes[id as usize];
            if rules.calm && write.kind == WriteKind::Set && write.applied.is_none() {
                network.violate(format!("client {}: the quiet write {id} is lost", self.number));
            }
        }
    }

    /// Those who ask for one thing at a time and read at once get their answer in time.
    fn check_patience(&self, op: &Op, network: &mut Network, menu: &Menu) {
        let prompt = self.habits.depth == 1
            && self.habits.drip.is_none()
            && self.habits.reading == Reading::Prompt
            && op.ask.keys().len() == 1;
        let took = network.now().since(op.asked);
        if prompt && took > menu.patience {
            network.violate(format!("client {} waited {took:?} for the answer to {op:?}", self.number));
        }
    }

    /// The connection has ended: because the network broke it, because the client wanted it, or because an
    /// answer that was under way could not be finished.
    fn ended(&mut self, conn: usize, network: &mut Network, history: &History, rules: &Rules) {
        let broken = network.conns[conn].far_broken;
        let all_answered = self.incoming.is_empty() && self.asked.iter().all(|op| op.quiet);
        let cut = self.asked.front().is_some_and(|op| {
            op.ask.keys().len() > 1 && whole_values(op, &self.incoming, history) == Some(self.incoming.len())
        });
        let wanted = self.ending && all_answered;
        let expected = broken || wanted || cut || network.draining;
        let evicted = !expected && rules.evicts;
        if evicted {
            self.note_evicted(network);
        }
        if !expected && !evicted {
            return network.violate(format!("closed for no reason: {}", self.waits_for()));
        }
        if cut && !evicted && !broken && !self.ending {
            network.tally.count("outcome: answer cut");
        }
        network.far_close(conn);
        self.forget(network);
    }

    /// It was closed because memory was short: then it held some, by what it sent or by what it was owed.
    fn note_evicted(&self, network: &mut Network) {
        network.desks[self.habits.worker].evicted += 1;
        if self.asked.is_empty() && self.outgoing.is_empty() && self.last_answer != Some(Answer::NoMemory) {
            network.violate(format!("closed and held nothing: {}", self.waits_for()));
        }
    }

    fn ask_more(&mut self, network: &mut Network, history: &mut History, menu: &Menu) {
        let now = network.now();
        if self.ending || self.finishing || now < self.next_ask_at {
            return;
        }
        while self.asked.len() < self.habits.depth && self.habits.budget > 0 && self.outgoing.len() < 4096 {
            if self.since_connect >= self.habits.stay && self.habits.ending != Ending::Stays {
                break;
            }
            if self.habits.counter {
                self.count_on(network, history, menu);
            } else {
                self.ask_anything(network, history, menu);
            }
            self.habits.budget -= 1;
            self.since_connect += 1;
            if self.habits.think > Duration::ZERO && network.random.once_in(3) {
                self.next_ask_at = now + self.habits.think;
                break;
            }
        }
    }

    /// Reads, and then writes over what was read, with its token.
    fn count_on(&mut self, network: &mut Network, history: &mut History, menu: &Menu) {
        let key = menu.counters[self.number % menu.counters.len()];
        if let Some((key, read)) = self.last_read.take() {
            network.tally.count("cas");
            let ask = self.composer(network, history, menu).write(key, WriteKind::Cas);
            return self.ask(ask, false, Some(read), network, history, menu);
        }
        let missed = matches!(&self.last_answer, Some(Answer::Values(values)) if values.is_empty());
        if missed || self.last_answer == Some(Answer::NotFound) {
            self.last_answer = None;
            let ask = self.composer(network, history, menu).write(key, WriteKind::Add);
            return self.ask(ask, false, None, network, history, menu);
        }
        let ask = Ask::Read { keys: vec![key], with_cas: true, touch: false };
        self.ask(ask, false, None, network, history, menu);
    }

    fn ask_anything(&mut self, network: &mut Network, history: &mut History, menu: &Menu) {
        let random = &mut network.random;
        let key = random.pick(&menu.values);
        let quiet = random.once_in(8);
        let binary = self.habits.speech == Speech::Binary;
        let mut token = None;
        let ask = match random.below(24) {
            0..=5 => Ask::Read { keys: vec![key], with_cas: random.once_in(2), touch: random.once_in(6) },
            6..=8 if !binary => {
                let many = 2 + random.below(menu.keys);
                let keys = (0..many).map(|_| random.pick(&menu.values)).collect();
                Ask::Read { keys, with_cas: random.once_in(3), touch: random.once_in(5) }
            }
            6..=12 => self.composer(network, history, menu).write(key, WriteKind::Set),
            13 => {
                let kind = random.pick(&[WriteKind::Add, WriteKind::Replace]);
                self.composer(network, history, menu).write(key, kind)
            }
            14 => {
                let kind = random.pick(&[WriteKind::Append, WriteKind::Prepend]);
                self.composer(network, history, menu).write(key, kind)
            }
            15 | 16 => {
                let key = random.pick(&menu.numbers);
                let kind = match random.below(3) {
                    0 => WriteKind::Set,
                    _ if key.is_multiple_of(2) => WriteKind::Increment,
                    _ => WriteKind::Decrement,
                };
                self.composer(network, history, menu).write(key, kind)
            }
            17 => Ask::Delete(key),
            18 if self.habits.speech != Speech::Meta => Ask::Touch(key),
            19 if menu.flushes && random.once_in(6) => Ask::Flush,
            20 if random.once_in(3) => Ask::TooLarge(key),
            21 if random.once_in(4) => Ask::Stats,
            22 if !binary => Ask::Line(random.pick(&LINES)),
            _ => match self.last_read.take() {
                Some((key, read)) if history.names[key].starts_with(b"k") => {
                    token = Some(read);
                    self.composer(network, history, menu).write(key, WriteKind::Cas)
                }
                _ => Ask::Line(if binary { b"" } else { b"MN\r\n" }),
            },
        };
        let loud = matches!(ask, Ask::Line(_) | Ask::Stats | Ask::Touch(_) | Ask::TooLarge(_) | Ask::Flush);
        // Text reads have no quiet form; a meta one has, if it is for one key.
        let many = ask.keys().len() > 1;
        let read = matches!(ask, Ask::Read { .. });
        let has_quiet_form = !loud && !many && (!read || self.habits.speech != Speech::Text);
        let quiet = quiet && has_quiet_form;
        self.ask(ask, quiet, token, network, history, menu);
        if quiet && self.habits.speech != Speech::Text {
            let fence = Ask::Line(if binary { b"" } else { b"MN\r\n" });
            self.ask(fence, false, None, network, history, menu);
        }
    }

    fn composer<'a>(
        &'a mut self,
        network: &'a mut Network,
        history: &'a mut History,
        menu: &Menu,
    ) -> Composer<'a> {
        Composer {
            history,
            now: network.schedule.now(),
            random: &mut network.random,
            speech: self.habits.speech,
            next_opaque: &mut self.next_opaque,
            too_large: menu.too_large,
            padding: menu.padding,
        }
    }

    fn ask(
        &mut self,
        ask: Ask,
        quiet: bool,
        token: Option<Read>,
        network: &mut Network,
        history: &mut History,
        menu: &Menu,
    ) {
        network.tally.count("requests");
        let write = if let Ask::Write { id, .. } = ask { Some(id) } else { None };
        let (bytes, op) = self.composer(network, history, menu).compose(ask, quiet, token);
        if let (None, Some(id)) = (&op, write) {
            self.unheard.push_back((self.heard + self.asked.len(), id));
        }
        self.outgoing.extend_from_slice(&bytes);
        self.asked.extend(op);
    }

    fn write(&mut self, conn: usize, network: &mut Network) {
        let now = network.now();
        if self.outgoing.is_empty() {
            return;
        }
        let mut most = self.outgoing.len();
        if let (Some((bytes, pause)), false) = (self.habits.drip, self.finishing) {
            if now < self.next_write_at {
                return;
            }
            most = most.min(bytes);
            self.next_write_at = now + pause;
        }
        let taken = network.far_write(conn, &self.outgoing[..most]);
        self.outgoing.drain(..taken);
        if !self.outgoing.is_empty() {
            network.wake_far(conn, Duration::from_micros(500));
        }
    }

    /// Ends when its time has come.
    fn see_to_the_end(&mut self, conn: usize, network: &mut Network) {
        let due = self.since_connect >= self.habits.stay && !self.finishing;
        if due && !self.ending && self.outgoing.is_empty() {
            match self.habits.ending {
                Ending::Stays => {}
                Ending::Vanishes => return self.leave(network, true),
                Ending::Quits => {
                    network.tally.count("client quit");
                    self.ending = true;
                    self.fin_sent = true;
                    match self.habits.speech {
                        Speech::Binary => self.outgoing.extend_from_slice(&quit()),
                        _ => self.outgoing.extend_from_slice(b"quit\r\n"),
                    }
                    self.write(conn, network);
                }
                Ending::HalfCloses => {
                    network.tally.count("client half-closed");
                    self.ending = true;
                }
            }
        }
        if self.ending && !self.fin_sent && self.outgoing.is_empty() {
            self.fin_sent = true;
            network.far_shutdown(conn);
        }
    }
}

/// The binary request to be closed without an answer.
fn quit() -> [u8; 24] {
    let mut quit = [0; 24];
    (quit[0], quit[1]) = (0x80, 0x17);
    quit
}

fn count(op: &Op, answer: &Answer, network: &mut Network) {
    let name = match (answer, &op.ask) {
        (Answer::Failed(words), _) => match words.rsplit(' ').next() {
            Some("down") => "error: down",
            Some("refused") => "error: refused",
            Some("lost") => "error: lost",
            Some("unreachable") => "error: unreachable",
            Some("waiting") => "error: overloaded",
            Some("step") => "error: out of step",
            Some("resolve") => "error: unresolved",
            Some("out") if words.ends_with("connect timed out") => "error: connect timed out",
            Some("out") => "error: timed out",
            _ => "error: several",
        },
        (Answer::Exists, Ask::Write { .. }) => "answer: EXISTS",
        (Answer::Stored, _) => "answer: STORED",
        (Answer::NotStored, _) => "answer: NOT_STORED",
        (Answer::Values(values), _) if values.is_empty() => "answer: miss",
        (Answer::Values(_), _) => "answer: hit",
        (Answer::Number(_), _) => "answer: number",
        (Answer::NoMemory, _) => "answer: no memory",
        (Answer::TooLarge, _) => "answer: too large",
        (Answer::Silence, _) => "answer: silence",
        _ => "answer: other",
    };
    network.tally.count(name);
}
