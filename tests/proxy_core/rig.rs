//! A worker's core on a bench: what the engine would do is done by hand, and what no engine would stand is
//! refused.
//!
//! A call of a test is one tick, or more if the core has more to do: events go in, then the time, then all
//! actions come out and are carried out; what becomes of them is told in the next tick. Connects succeed, sends
//! are written whole and greetings are answered at once, unless a test wants it otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use mcproxy::buffer::Outbox;
use mcproxy::io::{Action, ConnId, Failure, Handler};
use mcproxy::limits::Limits;
use mcproxy::memory::Budget;
use mcproxy::ownership::Coordinator;
use mcproxy::ownership::change::{Notice, Order};
use mcproxy::ownership::fence::Tokens;
use mcproxy::placement::{Placement, Server};
use mcproxy::proxy::Proxy;
use mcproxy::proxy::message::Message;
use mcproxy::proxy::settings::{BackendSettings, Process, ReadErrors, Rejoin, Settings};
use mcproxy::time::Time;

/// The backends of every test, by their names.
pub(super) const NAMES: [&str; 3] = ["a:11211", "b:11211", "c:11211"];

/// What a backend says it runs.
pub(super) const VERSION: &str = "1.6.18";

/// Counters that hostile clients and backends move, whoever plays them.
const HOSTILE: [&str; 11] = [
    "joined_gets",
    "shared_keys",
    "timeouts",
    "late_replies",
    "desyncs",
    "retired_links",
    "requeued",
    "paused_reads",
    "backend_errors",
    "backend_errors_unheard",
    "get_hits",
];

/// Ticks in a row after which the core is taken to spin.
const TICKS_MAX: usize = 100_000;

/// Three backends at addresses, one worker, memcached's bounds; then as `change` wants it.
pub(super) fn settings(change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    let servers = NAMES.map(|name| Server::named(name.to_string(), 1));
    let mut settings = Settings {
        backends: NAMES.map(|name| BackendSettings { name: name.to_string(), by_name: false }).into(),
        placement: Arc::new(Placement::rendezvous(&servers)),
        workers: 1,
        max_conns: 100,
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_millis(500),
        failure_limit: 3,
        retry_interval: Duration::from_secs(1),
        auto_eject: false,
        rejoin: Rejoin::Flush,
        cas_fence: Duration::from_secs(600),
        tokens: Arc::new(Tokens::new(1 << 10)),
        memory: Arc::new(Budget::new(1 << 30)),
        read_errors: ReadErrors::Error,
        join_gets: false,
        flush_all_enabled: true,
        // Tests bring many requests at once, for there is no other way to fill something.
        limits: Limits { client_requests_first: 4096, ..Limits::default() },
        process: Process { id: 7, started: 1_700_000_000, io: "none" },
    };
    change(&mut settings);
    Arc::new(settings)
}

/// One end of a connection: the other side of it is the test.
#[derive(Default)]
pub(super) struct End {
    /// A link's backend and which of its addresses.
    pub(super) to: Option<(usize, usize)>,
    /// Bytes written and not taken by the test.
    pub(super) bytes: Vec<u8>,
    /// A send that is not done, and how much of it is written.
    pub(super) in_flight: Option<(Outbox, usize)>,
    /// Sends stay in flight until the test says how they end.
    pub(super) held: bool,
    pub(super) connected: bool,
    pub(super) greeted: bool,
    pub(super) paused: bool,
    /// The core has shut its sending side down.
    pub(super) shut: bool,
    /// The core has given it up.
    pub(super) closed: bool,
    failed: bool,
    order: usize,
}

/// What is to be told in the next tick.
enum Due {
    Sent(ConnId, Outbox, usize),
    Connected(ConnId),
    Received(ConnId, Vec<u8>),
    Closed(ConnId),
    Ordered(Order),
}

/// A core with its clock and its connections.
pub(super) struct Rig {
    pub(super) proxy: Proxy,
    /// The control plane, that hears what the worker notices as soon as it does. Other workers are silent.
    pub(super) coordinator: Coordinator,
    worker: usize,
    /// By backend: the process number that it gives.
    pub(super) pids: [u64; 3],
    pub(super) settings: Arc<Settings>,
    pub(super) now: Time,
    pub(super) ends: BTreeMap<u64, End>,
    /// Messages for other workers.
    pub(super) told: Vec<(usize, Message)>,
    /// Backends whose names are to be looked up.
    pub(super) resolves: Vec<usize>,
    /// All connects: link, backend, address.
    pub(super) connects: Vec<(ConnId, usize, usize)>,
    /// Connects succeed at once.
    pub(super) connecting: bool,
    /// Greetings are answered at once, and are not shown to the test.
    pub(super) greeting: bool,
    pub(super) stopped: bool,
    /// Sends to new connections stay in flight.
    pub(super) holding: bool,
    /// Connections that the core has given up, and what was written to them and not taken by the test.
    pub(super) gone: Vec<(ConnId, Vec<u8>)>,
    /// Sends without a byte: allowed, and worth nothing.
    pub(super) empty_sends: usize,
    due: VecDeque<Due>,
    log: Vec<String>,
    keys: [Vec<String>; 3],
}

impl Rig {
    /// Worker 0 under these settings, its greetings done.
    pub(super) fn with(settings: Arc<Settings>) -> Self {
        let mut rig = Rig::cold(settings, 0);
        rig.connecting = true;
        rig.greeting = true;
        rig.settle();
        rig
    }

    /// The usual worker.
    pub(super) fn new() -> Self {
        Rig::with(settings(|_| {}))
    }

    /// A worker before its first tick, whose links wait for the test.
    pub(super) fn cold(settings: Arc<Settings>, worker: usize) -> Self {
        Rig {
            proxy: Proxy::new(settings.clone(), worker),
            coordinator: Coordinator::new(settings.clone(), 1),
            worker,
            pids: [1; 3],
            settings,
            now: Time::default(),
            ends: BTreeMap::new(),
            told: Vec::new(),
            resolves: Vec::new(),
            connects: Vec::new(),
            connecting: false,
            greeting: false,
            stopped: false,
            holding: false,
            gone: Vec::new(),
            empty_sends: 0,
            due: VecDeque::new(),
            log: Vec::new(),
            keys: Default::default(),
        }
    }

    /// The `number`th key that backend `backend` owns.
    pub(super) fn key(&mut self, backend: usize, number: usize) -> String {
        let mut next = self.keys.iter().map(Vec::len).sum::<usize>();
        while self.keys[backend].len() <= number {
            let key = format!("key{next}");
            self.keys[self.settings.placement.owner(key.as_bytes())].push(key);
            next += 1;
        }
        self.keys[backend][number].clone()
    }

    /// A client comes.
    pub(super) fn client(&mut self) -> ConnId {
        self.proxy.handle_now(self.now);
        let conn = self.proxy.handle_accepted();
        assert!(!conn.is_link() && !self.ends.contains_key(&conn.to_bits()), "{conn:?} is in use");
        self.note(format!("{conn:?} comes"));
        let order = self.log.len();
        let end = End { connected: true, held: self.holding, order, ..End::default() };
        self.ends.insert(conn.to_bits(), end);
        self.settle();
        conn
    }

    /// Bytes come from the other side.
    pub(super) fn receive(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) {
        self.hand(conn, bytes.as_ref());
        self.settle();
    }

    /// Bytes come from the other side, and the tick goes on.
    pub(super) fn hand(&mut self, conn: ConnId, bytes: &[u8]) {
        self.note(format!("{conn:?} -> {}", show(bytes)));
        self.proxy.handle_now(self.now);
        self.proxy.handle_received(conn, bytes);
    }

    /// The other side sends no more.
    pub(super) fn eof(&mut self, conn: ConnId) {
        self.note(format!("{conn:?} EOF"));
        self.proxy.handle_now(self.now);
        self.proxy.handle_eof(conn);
        self.settle();
    }

    /// The connection breaks, or its connect fails. A send in flight comes back first.
    pub(super) fn fail(&mut self, conn: ConnId, failure: Failure) {
        self.break_down(conn, failure);
        self.settle();
    }

    /// As [`Self::fail`], and the tick goes on.
    pub(super) fn break_down(&mut self, conn: ConnId, failure: Failure) {
        self.note(format!("{conn:?} fails: {failure:?}"));
        self.proxy.handle_now(self.now);
        if let Some((buffer, written)) = self.end(conn).in_flight.take() {
            self.proxy.handle_sent(conn, buffer, written);
        }
        self.end(conn).failed = true;
        self.proxy.handle_failed(conn, failure);
    }

    /// A connect succeeds.
    pub(super) fn connect(&mut self, conn: ConnId) {
        self.due.push_back(Due::Connected(conn));
        self.settle();
    }

    /// A name was looked up.
    pub(super) fn resolve(&mut self, backend: usize, addresses: usize) {
        self.note(format!("backend {backend} has {addresses} addresses"));
        self.proxy.handle_now(self.now);
        self.proxy.handle_resolved(backend, addresses);
        self.settle();
    }

    /// Another thread has something to say.
    pub(super) fn tell(&mut self, message: Message) {
        self.note(format!("told {message:?}"));
        self.proxy.handle_now(self.now);
        self.proxy.handle_message(message);
        self.settle();
    }

    /// Sends to `conn` stay in flight from now on.
    pub(super) fn hold(&mut self, conn: ConnId) {
        self.end(conn).held = true;
    }

    /// Writes `count` more bytes of the send in flight; when that is all of it, the buffer goes back.
    pub(super) fn write(&mut self, conn: ConnId, count: usize) {
        if self.write_some(conn, count) {
            self.settle();
        }
    }

    /// As [`Self::write`], and the tick goes on. True if the send is done.
    pub(super) fn write_some(&mut self, conn: ConnId, count: usize) -> bool {
        let end = self.end(conn);
        let (buffer, written) = end.in_flight.take().expect("a send in flight");
        let now = (written + count).min(buffer.len());
        let bytes = contents(&buffer)[written..now].to_vec();
        end.bytes.extend_from_slice(&bytes);
        let done = now == buffer.len();
        if done {
            self.due.push_back(Due::Sent(conn, buffer, now));
        } else {
            end.in_flight = Some((buffer, now));
            self.proxy.handle_progress(conn);
        }
        done
    }

    /// All of the send in flight is written, and so are those after it.
    pub(super) fn release(&mut self, conn: ConnId) {
        self.end(conn).held = false;
        if self.end(conn).in_flight.is_some() {
            self.write(conn, usize::MAX / 2);
        }
    }

    /// What was written to `conn` since the last look.
    pub(super) fn got(&mut self, conn: ConnId) -> String {
        String::from_utf8(self.got_bytes(conn)).expect("text")
    }

    /// What was written to `conn` since the last look.
    pub(super) fn got_bytes(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.end(conn).bytes)
    }

    /// The driver has not been told to close it.
    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        self.ends.get(&conn.to_bits()).is_some_and(|end| !end.closed)
    }

    /// Links to a backend that are neither closed nor retired, in the order of their connects.
    pub(super) fn links(&self, backend: usize) -> Vec<ConnId> {
        let mut links: Vec<(usize, ConnId)> = self
            .ends
            .iter()
            .filter(|(_, end)| end.to.is_some_and(|to| to.0 == backend) && !end.closed && !end.shut)
            .map(|(&bits, end)| (end.order, ConnId::from_bits(bits)))
            .collect();
        links.sort_by_key(|link| link.0);
        links.into_iter().map(|link| link.1).collect()
    }

    /// The one link to a backend.
    pub(super) fn link(&self, backend: usize) -> ConnId {
        let links = self.links(backend);
        assert_eq!(links.len(), 1, "one link to backend {backend}: {links:?}");
        links[0]
    }

    /// What the one link to a backend has been written since the last look.
    pub(super) fn saw(&mut self, backend: usize) -> String {
        let link = self.link(backend);
        self.got(link)
    }

    /// The one link to a backend brings bytes.
    pub(super) fn answer(&mut self, backend: usize, bytes: impl AsRef<[u8]>) {
        self.receive(self.link(backend), bytes);
    }

    /// Time passes; everything due meanwhile is carried out when it is due, to the microsecond.
    pub(super) fn advance(&mut self, duration: Duration) {
        let target = self.now + duration;
        while let Some(timeout) = self.poll_timeout() {
            if self.now + timeout > target {
                break;
            }
            self.now = self.now + timeout;
            self.settle();
        }
        self.now = target;
        self.settle();
    }

    /// After which the worker or the control plane has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let control = self.coordinator.poll_timeout().map(|at| at.since(self.now));
        self.proxy.poll_timeout().into_iter().chain(control).min()
    }

    /// As [`Self::advance`], in milliseconds.
    pub(super) fn wait(&mut self, milliseconds: u64) {
        self.advance(Duration::from_millis(milliseconds));
    }

    /// Ends the tick, and goes on for as long as there is something to do now.
    pub(super) fn settle(&mut self) {
        for _ in 0..TICKS_MAX {
            self.proxy.handle_timeout(self.now);
            while let Some(action) = self.proxy.poll_action() {
                self.carry_out(action);
            }
            self.coordinator.handle_timeout(self.now);
            while let Some((worker, order)) = self.coordinator.poll_order() {
                // One worker alone may have any number.
                if worker == self.worker || self.settings.workers == 1 {
                    self.due.push_back(Due::Ordered(order));
                }
            }
            if self.due.is_empty() && !self.proxy.has_actions() {
                let spins = self.poll_timeout() == Some(Duration::ZERO);
                assert!(!spins, "the core wants to be called at once, and then does nothing");
                return;
            }
            self.proxy.handle_now(self.now);
            while let Some(due) = self.due.pop_front() {
                self.tell_due(due);
            }
        }
        panic!("the core always has something to do");
    }

    /// What the worker reports of itself, by the counters' names.
    pub(super) fn counters(&mut self) -> BTreeMap<&'static str, u64> {
        self.tell(Message::CountersWanted { worker: 9, ticket: 0 });
        let Some((9, Message::Counters { report, .. })) = self.told.pop() else { panic!("no report") };
        let mut counters = BTreeMap::new();
        report.counters.each(|name, value| assert!(counters.insert(name, value).is_none()));
        counters
    }

    /// A value of the counters, as `stats` shows it.
    pub(super) fn stat(&mut self, name: &str) -> String {
        let client = self.client();
        self.receive(client, "stats\r\n");
        let lines = self.got(client);
        let start = format!("STAT {name} ");
        let value = lines.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_string);
        self.eof(client);
        value.unwrap_or_else(|| panic!("no {name} in {lines}"))
    }

    pub(super) fn end(&mut self, conn: ConnId) -> &mut End {
        self.ends.get_mut(&conn.to_bits()).unwrap_or_else(|| panic!("{conn:?} is not there"))
    }

    pub(super) fn note(&mut self, line: String) {
        self.log.push(format!("{:>9} us  {line}", self.now.0));
    }

    fn tell_due(&mut self, due: Due) {
        match due {
            Due::Sent(conn, buffer, written) => self.proxy.handle_sent(conn, buffer, written),
            Due::Received(conn, bytes) => self.proxy.handle_received(conn, &bytes),
            Due::Connected(conn) => {
                if self.is_open(conn) {
                    self.note(format!("{conn:?} is connected"));
                    self.end(conn).connected = true;
                    self.proxy.handle_connected(conn);
                }
            }
            Due::Ordered(order) => {
                self.note(format!("ordered {order:?}"));
                self.proxy.handle_message(Message::Order(order));
            }
            Due::Closed(conn) => {
                if let Some(end) = self.ends.remove(&conn.to_bits()) {
                    self.gone.push((conn, end.bytes));
                }
                self.proxy.handle_closed(conn);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        self.note(match &action {
            Action::Send { conn, buffer } => format!("{conn:?} <- {}", show(&contents(buffer))),
            other => format!("{other:?}"),
        });
        match action {
            Action::Connect { conn, backend, address } => self.start_connect(conn, backend, address),
            Action::Resolve { backend } => self.resolves.push(backend),
            Action::Send { conn, buffer } => self.send(conn, buffer),
            Action::PauseRead(conn) => {
                let paused = std::mem::replace(&mut self.open_end(conn).paused, true);
                assert!(!paused, "{conn:?} is paused twice");
            }
            Action::ResumeRead(conn) => {
                let paused = std::mem::replace(&mut self.open_end(conn).paused, false);
                assert!(paused, "{conn:?} was not paused");
            }
            Action::ShutdownWrite(conn) => {
                let shut = std::mem::replace(&mut self.open_end(conn).shut, true);
                assert!(!shut, "{conn:?} is shut down twice");
                if let Some((buffer, written)) = self.end(conn).in_flight.take() {
                    self.due.push_back(Due::Sent(conn, buffer, written));
                }
            }
            Action::Close(conn) => {
                self.open_end(conn).closed = true;
                if let Some((buffer, written)) = self.end(conn).in_flight.take() {
                    self.due.push_back(Due::Sent(conn, buffer, written));
                }
                self.due.push_back(Due::Closed(conn));
            }
            Action::Tell { worker, message } => self.told.push((worker, *message)),
            Action::Notify(notice) => self.notice(*notice),
            Action::Stop => assert!(!std::mem::replace(&mut self.stopped, true), "stopped twice"),
        }
    }

    fn notice(&mut self, notice: Notice) {
        let worker = if self.settings.workers == 1 { 0 } else { self.worker };
        self.coordinator.handle_notice(self.now, worker, notice);
    }

    fn start_connect(&mut self, conn: ConnId, backend: usize, address: usize) {
        let order = self.log.len();
        let end = End { to: Some((backend, address)), held: self.holding, order, ..End::default() };
        let before = self.ends.insert(conn.to_bits(), end);
        assert!(conn.is_link() && before.is_none(), "{conn:?} is in use");
        self.connects.push((conn, backend, address));
        if self.connecting {
            self.due.push_back(Due::Connected(conn));
        }
    }

    fn send(&mut self, conn: ConnId, buffer: Outbox) {
        self.empty_sends += usize::from(buffer.is_empty());
        let (greeting, pids) = (self.greeting, self.pids);
        let end = self.open_end(conn);
        assert!(end.connected, "{conn:?} is written to before it stands");
        assert!(!end.shut, "{conn:?} is written to after its sending side was shut down");
        assert!(end.in_flight.is_none(), "{conn:?} has a send in flight already");
        let mut bytes = contents(&buffer);
        let backend = end.to.filter(|_| greeting && !end.greeted && !end.failed);
        let greeted = backend.and_then(|(backend, _)| take_greeting(&mut bytes, pids[backend]));
        if greeted.is_none() && (end.held || end.failed) {
            end.in_flight = Some((buffer, 0));
            return;
        }
        end.greeted |= greeted.is_some();
        end.bytes.extend_from_slice(&bytes);
        let written = buffer.len();
        self.due.push_back(Due::Sent(conn, buffer, written));
        if let Some(answer) = greeted {
            self.due.push_back(Due::Received(conn, answer));
        }
    }

    fn open_end(&mut self, conn: ConnId) -> &mut End {
        let end = self.end(conn);
        assert!(!end.closed, "{conn:?} was closed");
        end
    }
}

impl Drop for Rig {
    /// A test that failed shows everything that went in and out.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.log.len().saturating_sub(200);
            eprintln!("the last of {} events:\n{}", self.log.len(), self.log[from..].join("\n"));
        }
    }
}

/// The bytes of an outbox.
pub(super) fn contents(outbox: &Outbox) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(outbox.len());
    loop {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = outbox.slices(bytes.len(), &mut slices);
        if filled == 0 {
            assert_eq!(bytes.len(), outbox.len(), "an outbox knows how long it is");
            return bytes;
        }
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
    }
}

/// Of the counters in [`HOSTILE`] and in `more`, those that `sums` says never moved.
pub(super) fn unmoved(sums: &BTreeMap<&'static str, u64>, more: &[&'static str]) -> Vec<&'static str> {
    let wanted = HOSTILE.iter().chain(more).copied();
    wanted.filter(|name| sums.get(name).is_none_or(|&sum| sum == 0)).collect()
}

/// Bytes for people, long ones cut short.
pub(super) fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    let rest = if cut.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{rest}", cut.escape_ascii())
}

/// Takes the greeting off the front of what a link was written; gives the answer to it.
pub(super) fn take_greeting(bytes: &mut Vec<u8>, pid: u64) -> Option<Vec<u8>> {
    if bytes.starts_with(b"stats\r\n") {
        bytes.drain(..b"stats\r\n".len());
        return Some(text_greeting(VERSION, pid).into_bytes());
    }
    let head: [u8; 24] = bytes.first_chunk().copied().filter(|head| head[..2] == [0x80, 0x10])?;
    bytes.drain(..head.len());
    let packet = |name: &str, value: &str| {
        let mut reply = head;
        reply[0] = 0x81;
        reply[3] = name.len() as u8;
        reply[11] = (name.len() + value.len()) as u8;
        [&reply[..], name.as_bytes(), value.as_bytes()].concat()
    };
    let stats = greeting(VERSION, pid);
    let packets = stats.iter().map(|(name, value)| packet(name, value)).chain([packet("", "")]);
    Some(packets.collect::<Vec<_>>().concat())
}

/// What a backend says of itself.
pub(super) fn greeting(version: &str, pid: u64) -> [(&'static str, String); 4] {
    let (uptime, time) = ("100".to_string(), "1100".to_string());
    [("pid", pid.to_string()), ("uptime", uptime), ("time", time), ("version", version.to_string())]
}

/// What a backend says of itself, in text.
pub(super) fn text_greeting(version: &str, pid: u64) -> String {
    let lines = greeting(version, pid).map(|(name, value)| format!("STAT {name} {value}\r\n"));
    format!("{}END\r\n", lines.concat())
}
