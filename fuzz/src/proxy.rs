//! The whole proxy between hostile clients and hostile backends.
//!
//! An input is a list of instructions: who sends which bytes, in which pieces they come, which link breaks and
//! which backend lies. Backends that do not lie answer each request with a function of it (`answers`), so that
//! each client's bytes have one right answer (`expected`): every request gets its own, in order, or its
//! connection closes for a reason. In the end everybody has what is due, and nothing is left over.
//!
//! The bench on which the core runs is that of `tests/proxy_core`.

mod answers;
mod expected;
#[allow(dead_code)]
#[path = "../../tests/proxy_core/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mcproxy::io::{ConnId, Failure};
use mcproxy::limits::LINE_PATIENCE;
use mcproxy::protocol::naive::{self, Outcome};
use mcproxy::protocol::text::ParserLimits;
use mcproxy::proxy::message::Message;
use mcproxy::proxy::settings::Settings;

use super::tape::Tape;
use expected::{Trouble, Verdict};
use rig::{Rig, settings, show};

/// What backends take, which is more than what the proxy lets through.
const BACKEND_LIMITS: ParserLimits = ParserLimits { value_max: 1 << 20, get_line_max: 32 << 20 };

/// Most clients at a time.
const CLIENTS_MAX: usize = 4;

/// Waits of 20 milliseconds in which everybody must get what is due.
const PATIENCE: usize = 1000;

/// `input` is the number of the settings, and instructions.
pub fn check(input: &[u8]) {
    counters(input);
}

/// As [`check`]; gives what the worker has counted.
pub fn counters(input: &[u8]) -> BTreeMap<&'static str, u64> {
    let mut tape = Tape(input);
    let mut run = Run::new(variant(tape.byte()));
    while tape.has_more() {
        run.instruction(&mut tape);
    }
    run.calm_down();
    run.end()
}

/// Of the counters that the whole corpus must move, those that `sums` says never moved.
pub fn unmoved(sums: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    rig::unmoved(sums, &["refused_requests", "get_misses", "cmd_meta"])
}

/// The bounds are small, so that they are met; in every second pair so small that requests fail of them.
fn variant(number: u8) -> (Arc<Settings>, bool) {
    static VARIANTS: OnceLock<[Arc<Settings>; 8]> = OnceLock::new();
    let variants = VARIANTS.get_or_init(|| {
        std::array::from_fn(|number| {
            settings(|settings| {
                settings.join_gets = number % 2 == 0;
                let limits = &mut settings.limits;
                let tight = number >= 4;
                limits.value_max = 300;
                limits.get_line_max = 600;
                limits.client_requests_max = if number & 2 == 0 { 4 } else { 12 };
                limits.client_unread_max = 1500;
                limits.link_requests_max = if tight { 6 } else { 1000 };
                limits.link_bytes_max = if tight { 600 } else { 1 << 20 };
                limits.held_answer_max = if number & 2 == 0 { 300 } else { 1 << 16 };
                limits.window_keys_max = 3;
                limits.moved_min = 64;
                limits.retired_links_max = 2;
            })
        })
    });
    (variants[usize::from(number % 8)].clone(), number % 8 >= 4)
}

struct Run {
    rig: Rig,
    users: Vec<User>,
    /// The other sides of links, and whose they are.
    sides: BTreeMap<u64, (usize, Side)>,
    trouble: Trouble,
    limits: ParserLimits,
    /// What is done in this tick is not settled yet.
    open_tick: bool,
}

/// A client.
struct User {
    conn: ConnId,
    /// Bytes that are still on their way.
    outgoing: Vec<u8>,
    /// Bytes that have come to the proxy.
    sent: Vec<u8>,
    heard: Vec<u8>,
    /// It has said that it sends no more.
    ended: bool,
}

/// A backend's side of a link.
#[derive(Default)]
struct Side {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Bytes of the last answer.
    last: usize,
}

impl Run {
    fn new((settings, tight): (Arc<Settings>, bool)) -> Run {
        let limits =
            ParserLimits { value_max: settings.limits.value_max, get_line_max: settings.limits.get_line_max };
        let mut rig = Rig::cold(settings, 0);
        rig.holding = true;
        // With one half of the settings the backends' first words are fuzzed too.
        rig.greeting = !tight;
        rig.settle();
        let trouble = Trouble { failing: [tight; 3], ..Trouble::default() };
        Run { rig, users: Vec::new(), sides: BTreeMap::new(), trouble, limits, open_tick: false }
    }

    fn instruction(&mut self, tape: &mut Tape<'_>) {
        match tape.byte() % 16 {
            0 if self.users.len() < CLIENTS_MAX => self.new_user(),
            0..=3 => self.request(tape),
            4 => self.raw(tape),
            5 | 6 => self.bring_requests(tape),
            7 | 8 => self.serve(tape),
            9 | 10 => self.bring_answers(tape),
            11 => self.write(tape),
            12 => self.connect(tape),
            13 => self.spoil_link(tape),
            14 => self.leave(tape),
            _ => self.pass_time(tape),
        }
        self.look();
    }

    fn new_user(&mut self) {
        let conn = self.rig.client();
        let (outgoing, sent, heard) = Default::default();
        self.users.push(User { conn, outgoing, sent, heard, ended: false });
    }

    /// One of the clients.
    fn user(&mut self, tape: &mut Tape<'_>) -> &mut User {
        if self.users.is_empty() {
            self.new_user();
        }
        let place = tape.index(self.users.len());
        &mut self.users[place]
    }

    /// One of the links that stand and are not given up.
    fn link(&mut self, tape: &mut Tape<'_>) -> Option<ConnId> {
        let standing = |end: &rig::End| end.to.is_some() && end.connected && !end.closed;
        let links: Vec<u64> = self.rig.ends.iter().filter(|row| standing(row.1)).map(|row| *row.0).collect();
        let place = tape.byte();
        (!links.is_empty()).then(|| ConnId::from_bits(links[usize::from(place) % links.len()]))
    }

    /// Any bytes of a client.
    fn raw(&mut self, tape: &mut Tape<'_>) {
        self.user(tape).say(tape.string());
    }

    /// A good request.
    fn request(&mut self, tape: &mut Tape<'_>) {
        let user = self.user(tape);
        let (opening, number, key) = (tape.byte(), tape.byte(), format!("key{}", tape.byte() % 10));
        let first = user.sent.first().or(user.outgoing.first());
        let is_binary = first.map_or(opening % 2 == 1, |&first| first == 0x80);
        user.say(&if is_binary { packet(number, &key) } else { line(number, &key).into_bytes() });
    }

    /// A client's bytes come to the proxy, as many as the tape says; all for zero.
    fn bring_requests(&mut self, tape: &mut Tape<'_>) {
        let user = self.user(tape);
        let conn = user.conn;
        let count = some(tape.byte(), user.outgoing.len());
        if !user.ended && count > 0 {
            let bytes: Vec<u8> = user.outgoing.drain(..count).collect();
            user.sent.extend_from_slice(&bytes);
            self.rig.hand(conn, &bytes);
            self.open_tick = true;
        }
    }

    /// A backend carries out some of a link's requests.
    fn serve(&mut self, tape: &mut Tape<'_>) {
        let Some(conn) = self.link(tape) else { return };
        if let Some((_, side)) = self.sides.get_mut(&conn.to_bits()) {
            for _ in 0..=tape.byte() % 8 {
                side.work();
            }
        }
    }

    fn bring_answers(&mut self, tape: &mut Tape<'_>) {
        if let Some(conn) = self.link(tape) {
            let count = tape.byte();
            self.bring(conn, count);
        }
    }

    fn bring(&mut self, conn: ConnId, count: u8) {
        let Some((_, side)) = self.sides.get_mut(&conn.to_bits()) else { return };
        let count = some(count, side.outbox.len());
        if count > 0 && self.rig.is_open(conn) {
            let bytes: Vec<u8> = side.outbox.drain(..count).collect();
            self.rig.hand(conn, &bytes);
            self.open_tick = true;
        }
    }

    /// A send gets on.
    fn write(&mut self, tape: &mut Tape<'_>) {
        let sending: Vec<u64> =
            self.rig.ends.iter().filter(|row| row.1.in_flight.is_some()).map(|row| *row.0).collect();
        if !sending.is_empty() {
            let conn = ConnId::from_bits(sending[tape.index(sending.len())]);
            let count = some(tape.byte(), usize::MAX / 2);
            self.rig.write_some(conn, count);
            self.open_tick = true;
        }
    }

    fn connecting(&self) -> Vec<(ConnId, usize)> {
        let ends = self.rig.ends.iter().filter(|row| !row.1.connected && !row.1.closed);
        ends.filter_map(|row| Some((ConnId::from_bits(*row.0), row.1.to?.0))).collect()
    }

    /// Connects come to their ends: all stand, or the first fails.
    fn connect(&mut self, tape: &mut Tape<'_>) {
        let how = tape.byte();
        for (conn, backend) in self.connecting() {
            if how % 4 == 1 {
                self.trouble.failing[backend] = true;
                let refused = how & 4 == 0;
                return self.rig.fail(conn, if refused { Failure::Refused } else { Failure::Unreachable });
            }
            if self.rig.is_open(conn) {
                self.rig.connect(conn);
            }
        }
    }

    /// A link breaks, or its backend lies from now on.
    fn spoil_link(&mut self, tape: &mut Tape<'_>) {
        let Some(conn) = self.link(tape) else { return };
        let (how, bytes) = (tape.byte(), tape.string());
        let Some((backend, side)) = self.sides.get_mut(&conn.to_bits()) else { return };
        self.trouble.failing[*backend] = true;
        match how % 12 {
            0 => return self.break_link(conn),
            1 => return self.rig.eof(conn),
            2 => {
                let from = side.outbox.len() - side.last.min(side.outbox.len());
                side.outbox.extend_from_within(from..);
            }
            3 => side.outbox.truncate(side.outbox.len().saturating_sub(1 + bytes.len())),
            4 => side.outbox.clear(),
            5 if !side.outbox.is_empty() => {
                let at = bytes.len() % side.outbox.len();
                side.outbox[at] ^= 1 << (how / 12 % 8);
            }
            6 => side.outbox.extend_from_slice(JUNK[bytes.len() % JUNK.len()]),
            // In place of the next answer, and in the way of it.
            7 => {
                let before = side.outbox.len();
                side.work();
                side.outbox.truncate(before);
                side.outbox.extend_from_slice(JUNK[bytes.len() % JUNK.len()]);
            }
            8 => {
                let before = side.outbox.len();
                side.work();
                side.outbox.truncate(before);
                side.outbox.extend_from_slice(bytes);
            }
            _ => side.outbox.extend_from_slice(bytes),
        }
        self.trouble.hostile[*backend] = true;
    }

    fn break_link(&mut self, conn: ConnId) {
        self.rig.break_down(conn, Failure::Reset);
        self.open_tick = true;
    }

    /// A client ends, or is gone.
    fn leave(&mut self, tape: &mut Tape<'_>) {
        let user = self.user(tape);
        let conn = user.conn;
        if tape.byte().is_multiple_of(2) {
            if !std::mem::replace(&mut user.ended, true) {
                self.rig.eof(conn);
            }
            return;
        }
        let place = self.users.iter().position(|user| user.conn == conn).expect("it is there");
        let mut user = self.users.swap_remove(place);
        self.rig.fail(conn, Failure::Reset);
        let bytes = self.rig.gone.iter().find(|gone| gone.0 == conn).map(|gone| gone.1.clone());
        user.heard.extend(bytes.unwrap_or_default());
        let verdict = self.judge(&user).0;
        assert_ne!(verdict, Verdict::Wrong, "{}", self.tell(&user));
    }

    /// A moment in which everything flows, or time in which nothing does.
    fn pass_time(&mut self, tape: &mut Tape<'_>) {
        match tape.byte() {
            0 => self.flow(),
            tenths => {
                self.trouble.failing = [true; 3];
                self.rig.advance(Duration::from_millis(u64::from(tenths) * 10));
            }
        }
    }

    /// Collects what was written on both sides, and sees who was closed.
    fn look(&mut self) {
        if std::mem::take(&mut self.open_tick) {
            self.rig.settle();
        }
        let ends: Vec<(u64, Option<usize>)> =
            self.rig.ends.iter().map(|(&bits, end)| (bits, end.to.map(|to| to.0))).collect();
        for (bits, backend) in ends {
            let bytes = self.rig.got_bytes(ConnId::from_bits(bits));
            if let Some(backend) = backend {
                let side = &mut self.sides.entry(bits).or_insert_with(|| (backend, Side::default())).1;
                side.inbox.extend(bytes);
            } else if let Some(user) = self.users.iter_mut().find(|user| user.conn.to_bits() == bits) {
                user.heard.extend(bytes);
            }
        }
        for (conn, bytes) in std::mem::take(&mut self.rig.gone) {
            self.sides.remove(&conn.to_bits());
            if let Some(place) = self.users.iter().position(|user| user.conn == conn) {
                let mut user = self.users.swap_remove(place);
                user.heard.extend(bytes);
                self.check_closed(&user);
            }
        }
        self.check_bounds();
    }

    /// The proxy has closed a client's connection: all is answered and the client has asked for it, or the
    /// rest of a long answer cannot come any more.
    fn check_closed(&self, user: &User) {
        let (verdict, closes) = self.judge(user);
        let is_right = match verdict {
            Verdict::Complete => closes || user.ended,
            Verdict::Cut => self.trouble.failing.contains(&true),
            Verdict::SoFar | Verdict::Wrong => false,
        };
        assert!(is_right, "closed for no reason, {verdict:?}: {}", self.tell(user));
    }

    fn check_bounds(&mut self) {
        let limits = self.rig.settings.limits.clone();
        for backend in 0..3 {
            let links = self.rig.links(backend);
            assert!(links.len() <= 2, "one link for each protocol: {links:?}");
            let of_backend = |end: &&rig::End| end.to.is_some_and(|to| to.0 == backend);
            let retired =
                self.rig.ends.values().filter(of_backend).filter(|end| end.shut && !end.closed).count();
            assert!(retired <= limits.retired_links_max, "{retired} retired links to backend {backend}");
        }
        for (_, side) in self.sides.values() {
            // A fence and a greeting come on top.
            let most = 2 * limits.link_requests_max + 1;
            assert!(most > 100 || side.requests() <= most, "{} requests wait on a link", side.requests());
        }
    }

    /// What the client has been told, held against what it must be; and whether its connection ends then.
    fn judge(&self, user: &User) -> (Verdict, bool) {
        let (expected, closes) = expected::expected(&user.sent, &self.limits, &self.rig.settings.placement);
        (expected::judge(&expected, &user.heard, &self.trouble), closes)
    }

    fn tell(&self, user: &User) -> String {
        let (expected, _) = expected::expected(&user.sent, &self.limits, &self.rig.settings.placement);
        let User { conn, sent, heard, ended, .. } = user;
        let (sent, heard, trouble) = (show(sent), show(heard), self.trouble);
        format!("{conn:?} sent {sent}\nheard {heard}\nended {ended}, {trouble:?}\nmust hear {expected:#?}")
    }

    /// Everything that is on its way arrives, backends answer, and links that wait for their end get it.
    fn flow(&mut self) {
        for place in 0..self.users.len() {
            let user = &mut self.users[place];
            let (conn, bytes) = (user.conn, std::mem::take(&mut user.outgoing));
            if !user.ended && !bytes.is_empty() {
                user.sent.extend_from_slice(&bytes);
                self.rig.hand(conn, &bytes);
                self.open_tick = true;
            }
        }
        self.look();
        for (conn, _) in self.connecting() {
            self.rig.connect(conn);
        }
        self.look();
        let ends: Vec<u64> = self.rig.ends.keys().copied().collect();
        for conn in ends.iter().map(|&bits| ConnId::from_bits(bits)) {
            let end = self.rig.ends.get(&conn.to_bits());
            if end.is_some_and(|end| end.in_flight.is_some()) {
                self.rig.write_some(conn, usize::MAX / 2);
                self.open_tick = true;
            }
        }
        self.look();
        for conn in ends.into_iter().map(ConnId::from_bits) {
            let Some((_, side)) = self.sides.get_mut(&conn.to_bits()) else { continue };
            while side.work() {}
            let is_shut = self.rig.ends.get(&conn.to_bits()).is_some_and(|end| end.shut && !end.closed);
            self.bring(conn, 0);
            if is_shut {
                self.look();
                if self.rig.is_open(conn) {
                    self.rig.eof(conn);
                }
            }
        }
        self.look();
    }

    /// Nobody does any harm any more: everybody gets what is due.
    fn calm_down(&mut self) {
        for _ in 0..PATIENCE {
            self.flow();
            if self.users.iter().all(|user| self.is_content(user)) {
                return;
            }
            self.rig.wait(20);
            self.look();
        }
        let waiting: Vec<String> = self.users.iter().map(|user| self.tell(user)).collect();
        panic!("still waiting: {}", waiting.join("\n"));
    }

    /// A client has what is due, and its connection does not have to end.
    fn is_content(&self, user: &User) -> bool {
        let (verdict, closes) = self.judge(user);
        assert_ne!(verdict, Verdict::Wrong, "{}", self.tell(user));
        verdict == Verdict::Complete && !closes && !user.ended
    }

    /// Nobody is there any more: nothing is kept, and a drain ends.
    fn end(&mut self) -> BTreeMap<&'static str, u64> {
        for user in std::mem::take(&mut self.users) {
            self.rig.fail(user.conn, Failure::Reset);
        }
        for _ in 0..10 {
            self.flow();
            self.rig.wait(200);
        }
        let counters = self.rig.counters();
        assert_eq!(counters["curr_connections"], 0);
        let memory = format!("{:?}", self.rig.proxy);
        for kept in ["Fanout {", "Broadcast {", "StatsQuestion {"] {
            assert!(!memory.contains(kept), "something is kept that nobody waits for: {kept}");
        }
        self.rig.tell(Message::Drain(Duration::from_secs(5)));
        self.rig.wait(5_000);
        assert!(self.rig.stopped, "a drain does not end");
        counters
    }
}

impl User {
    /// Says no more than what no bound on unfinished lines can make a difference for.
    fn say(&mut self, bytes: &[u8]) {
        if self.sent.len() + self.outgoing.len() + bytes.len() <= LINE_PATIENCE {
            self.outgoing.extend_from_slice(bytes);
        }
    }
}

impl Side {
    /// Answers the first request, if there is a whole one. What the proxy writes is requests and nothing else.
    fn work(&mut self) -> bool {
        let (answer, bytes) = match self.parse(&self.inbox) {
            Outcome::Request(request, bytes) if request.name == "binary" => {
                (answers::binary(&request), bytes)
            }
            Outcome::Request(request, bytes) => {
                let is_silent = request.name.starts_with("meta") && {
                    let answer = answers::text(&request);
                    answers::is_kept_back(&request, &answer)
                };
                (if is_silent { Vec::new() } else { answers::text(&request) }, bytes)
            }
            Outcome::Refused(refusal) => panic!("sent {}, which is {refusal:?}", show(&self.inbox)),
            Outcome::Line(_) | Outcome::Total(_) => return false,
        };
        self.inbox.drain(..bytes);
        self.last = answer.len();
        self.outbox.extend(answer);
        true
    }

    /// Whole requests that wait.
    fn requests(&self) -> usize {
        let (mut count, mut rest) = (0, &self.inbox[..]);
        while let Outcome::Request(_, bytes) = self.parse(rest) {
            (count, rest) = (count + 1, &rest[bytes..]);
        }
        count
    }

    fn parse(&self, bytes: &[u8]) -> Outcome {
        match bytes.first() {
            Some(0x80) => naive::parse_binary(bytes, BACKEND_LIMITS.value_max),
            Some(_) => naive::parse_text(bytes, &BACKEND_LIMITS),
            None => Outcome::Line(0),
        }
    }
}

/// Zero stands for all.
fn some(count: u8, most: usize) -> usize {
    if count == 0 { most } else { most.min(usize::from(count)) }
}

/// What backends that lie like to say.
const JUNK: [&[u8]; 14] = [
    b"END\r\n",
    b"\r\n",
    b"\n",
    b"STORED\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"VALUE key1 0 1\r\nx\r\nEND\r\n",
    b"VALUE key2 0 5 7\r\nENDED\r\n",
    b"VALUE key3 0 999999999\r\n",
    b"HD\r\n",
    b"VA 3\r\n",
    b"VA 2 kkey4\r\nhi\r\nEN\r\n",
    b"MN\r\n",
    b"\x81\x0c\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0",
    b"\x81\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\x02\0\0\0\0\0\0\0\0",
];

/// A good request as text.
fn line(number: u8, key: &str) -> String {
    match number % 24 {
        0 | 1 => format!("get {key}\r\n"),
        2 => format!("gets {key}\r\n"),
        3 => format!("get {key} key1 key2 key3 key4 key5 key6 key7 {key}\r\n"),
        4 => format!("gets key2 {key} key9 key3\r\n"),
        5 => format!("gat 7 {key} key4 key8 key3\r\n"),
        6 => format!("set {key} 0 0 5\r\nhello\r\n"),
        7 => format!("cas {key} 7 0 150 9\r\n{}\r\n", "v".repeat(150)),
        8 => format!("append {key} 0 0 2 noreply\r\nhi\r\n"),
        9 => format!("add {key} 0 0 301\r\n{}\r\n", "x".repeat(301)),
        10 => format!("set {key} 0 0 301\r\n{}\r\n", "x".repeat(301)),
        11 => format!("incr {key} 5\r\n"),
        12 => format!("touch {key} 10 noreply\r\n"),
        13 => format!("delete {key}\r\n"),
        14 => "flush_all\r\n".to_string(),
        15 => format!("mg {key} v k Oabc t\r\n"),
        16 => format!("mg {key} v k q\r\n"),
        17 => format!("ms {key} 4 T9 c q k\r\nmeta\r\n"),
        18 => format!("ma {key} N0 J1 q v\r\nma {key} q v\r\n"),
        19 => format!("ma {key} v k\r\n"),
        20 => "mg CiBrIGsKVkE= b k v Ox\r\nme CiBrIGsKVkE= b\r\nmg YQ== b k\r\n".to_string(),
        21 => "mn\r\nversion\r\nverbosity 1\r\nnonsense\r\n".to_string(),
        22 => format!("md {key} q I\r\nstats settings\r\n"),
        _ => format!("stats\r\nset {key} 0 0 bad\r\n"),
    }
}

/// A good request of the binary protocol.
fn packet(number: u8, key: &str) -> Vec<u8> {
    const CODES: [u8; 20] = [
        0x00, 0x0c, 0x0d, 0x09, 0x0d, 0x01, 0x11, 0x12, 0x04, 0x14, 0x05, 0x0e, 0x1c, 0x1d, 0x24, 0x0a, 0x08,
        0x18, 0x0b, 0x10,
    ];
    let code = CODES[usize::from(number) % CODES.len()];
    let (extras, value): (usize, &[u8]) = match code {
        0x01 | 0x11 | 0x12 => (8, if number & 0x80 == 0 { b"hello" } else { &[b'x'; 301] }),
        0x05 => (20, b""),
        0x0e => (0, b"more"),
        0x1c | 0x1d | 0x24 => (4, b""),
        _ => (0, b""),
    };
    let key = if matches!(code, 0x0a | 0x08 | 0x18 | 0x0b | 0x10) { "" } else { key };
    let body = extras + key.len() + value.len();
    let mut packet = vec![0x80, code, 0, key.len() as u8, extras as u8, 0, 0, 0];
    packet.extend((body as u32).to_be_bytes());
    packet.extend([number, code, 1, 2]);
    packet.resize(24 + extras, 0);
    packet.extend_from_slice(key.as_bytes());
    packet.extend_from_slice(value);
    packet
}
