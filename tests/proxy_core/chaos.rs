//! A little chaos: a thousand seeds of random requests, pieces, delays, timeouts, broken links, frozen
//! backends, and clients that come, go, or do not read. Whatever happens, every answer is to what was asked,
//! in order, with a value of the key; nothing is written twice; no client sees an older value under a key than
//! it has seen there or stored; and in the end nobody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcproxy::io::{ConnId, Failure, Handler};
use mcproxy::proxy::message::Message;
use mcproxy::proxy::settings::{ReadErrors, Settings};

use super::rig::{Rig, settings, unmoved};
use super::server::{Mood, Server, Side};
use super::user::{User, Writes};
use super::words::Dice;

/// Seeds of one run.
const SEEDS: u64 = 1000;

/// Random events of one seed, before everybody is well again.
const EVENTS: usize = 400;

struct Chaos {
    rig: Rig,
    dice: Dice,
    users: Vec<User>,
    servers: [Server; 3],
    sides: BTreeMap<u64, (usize, Side)>,
    writes: Writes,
    keys: Vec<String>,
    /// What is done in this tick is not settled yet.
    open_tick: bool,
    spoil: Spoil,
    /// Clients whose answer was cut.
    cuts: u64,
}

/// What a canary does to the run, to see that it is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Spoil {
    #[default]
    Nothing,
    /// A backend's answers bear values of other keys.
    WrongValues,
    /// A backend's answers bear values that were written over.
    StaleValues,
    /// A backend deletes nothing.
    NoDeletes,
    /// A client does not get the first bytes of an answer.
    LostBytes,
    /// A client gets an answer twice.
    DoubledAnswer,
    /// What a link was written comes twice.
    DoubledWrite,
    /// A client that asked for nothing bad is closed.
    Closed,
}

impl Chaos {
    fn new(settings: Arc<Settings>, seed: u64) -> Self {
        let mut rig = Rig::cold(settings, (seed % 2) as usize);
        rig.holding = true;
        let failures_are_misses = rig.settings.read_errors != ReadErrors::Error;
        let keys = (0..12).map(|number| rig.key(number % 3, number / 3)).collect();
        rig.settle();
        Chaos {
            rig,
            dice: Dice::new(seed),
            users: Vec::new(),
            servers: Default::default(),
            sides: BTreeMap::new(),
            writes: Writes::new(failures_are_misses),
            keys,
            open_tick: false,
            spoil: Spoil::Nothing,
            cuts: 0,
        }
    }

    /// All of a run: chaos, then calm, then nothing is left.
    fn run(&mut self) {
        for _ in 0..EVENTS {
            self.event();
        }
        self.calm_down();
        self.check_writes();
    }

    /// One random event. Links have their events before clients, as drivers promise.
    fn event(&mut self) {
        match self.dice.throw(30) {
            0..=3 => self.ask(),
            4..=8 => self.deliver_requests(),
            9..=11 => self.write_to_someone(),
            12..=16 => self.serve_someone(),
            17..=20 => self.deliver_answers(),
            21..=22 => self.finish_connects(),
            23 => self.break_a_link(),
            24 => self.end_a_user(),
            25 => self.change_a_mood(),
            26 if self.users.len() < 5 => self.new_user(),
            27 if self.dice.once_in(10) => self.desync(),
            _ => {
                let most = *self.dice.pick(&[1_000, 20_000, 300_000, 1_200_000]);
                self.rig.advance(Duration::from_micros(1 + self.dice.throw(most) as u64));
            }
        }
        self.look();
    }

    /// Collects what was written on both sides, and sees who was closed.
    fn look(&mut self) {
        if std::mem::take(&mut self.open_tick) {
            self.rig.settle();
        }
        for server in &mut self.servers {
            self.writes.note(server.changes.drain(..));
        }
        let ends: Vec<(u64, Option<usize>)> =
            self.rig.ends.iter().map(|(&bits, end)| (bits, end.to.map(|to| to.0))).collect();
        for (bits, backend) in ends {
            let mut bytes = self.rig.got_bytes(ConnId::from_bits(bits));
            self.spoil(&mut bytes, backend.is_some());
            if let Some(backend) = backend {
                let side = &mut self.sides.entry(bits).or_insert_with(|| (backend, Side::default())).1;
                side.inbox.extend(bytes);
            } else if let Some(user) = self.users.iter_mut().find(|user| user.conn.to_bits() == bits) {
                user.hear(&bytes, &mut self.writes);
            }
        }
        for (conn, bytes) in std::mem::take(&mut self.rig.gone) {
            if let Some((backend, mut side)) = self.sides.remove(&conn.to_bits()) {
                // What lay in a closed socket may still be carried out.
                side.inbox.extend(bytes);
                while self.dice.throw(4) > 0 && self.servers[backend].work(&mut side) {}
            } else if let Some(place) = self.users.iter().position(|user| user.conn == conn) {
                let mut user = self.users.swap_remove(place);
                user.hear(&bytes, &mut self.writes);
                self.cuts += u64::from(user.closed());
            }
        }
        for backend in 0..3 {
            let links = self.rig.links(backend);
            assert!(links.len() <= 2, "one link for each protocol: {links:?}");
        }
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>, of_link: bool) {
        if bytes.len() < 10 || self.spoil == Spoil::Nothing || !self.dice.once_in(3) {
            return;
        }
        match self.spoil {
            Spoil::LostBytes if !of_link => drop(bytes.drain(..1)),
            Spoil::DoubledAnswer if !of_link => bytes.extend_from_within(..),
            Spoil::DoubledWrite if of_link && bytes.starts_with(b"set ") => bytes.extend_from_within(..),
            _ => {}
        }
    }

    fn new_user(&mut self) {
        let conn = self.rig.client();
        let binary = self.dice.once_in(3);
        self.users.push(User::new(conn, binary));
    }

    fn ask(&mut self) {
        if self.users.is_empty() {
            return self.new_user();
        }
        let place = self.dice.throw(self.users.len());
        for _ in 0..1 + self.dice.throw(6) {
            let user = &mut self.users[place];
            if !user.ending {
                user.ask(&self.keys, &mut self.writes, &mut self.dice);
            }
        }
    }

    /// Some users' bytes arrive, perhaps several users' in one tick.
    fn deliver_requests(&mut self) {
        for place in 0..self.users.len() {
            let user = &mut self.users[place];
            let paused = self.rig.end(user.conn).paused;
            if user.outgoing.is_empty() || (paused && !self.dice.once_in(5)) || self.dice.once_in(3) {
                continue;
            }
            let most = if self.dice.once_in(3) { 10 } else { 1000 };
            let count = (1 + self.dice.throw(most)).min(user.outgoing.len());
            let bytes: Vec<u8> = user.outgoing.drain(..count).collect();
            let conn = user.conn;
            self.rig.hand(conn, &bytes);
            self.open_tick = true;
        }
    }

    /// Some of the sends in flight get on.
    fn write_to_someone(&mut self) {
        let sending: Vec<u64> =
            self.rig.ends.iter().filter(|(_, end)| end.in_flight.is_some()).map(|(&bits, _)| bits).collect();
        for bits in sending {
            if self.dice.once_in(3) {
                continue;
            }
            let most = if self.dice.once_in(2) { 20 } else { 5000 };
            let count = 1 + self.dice.throw(most);
            self.rig.write_some(ConnId::from_bits(bits), count);
            self.open_tick = true;
        }
    }

    /// Backends carry out some of what they have got.
    fn serve_someone(&mut self) {
        for (backend, side) in self.sides.values_mut() {
            let server = &mut self.servers[*backend];
            while server.mood == Mood::Well && self.dice.throw(8) > 0 && server.work(side) {}
        }
    }

    /// Some links bring bytes.
    fn deliver_answers(&mut self) {
        let links: Vec<u64> = self.sides.keys().copied().collect();
        for bits in links {
            let conn = ConnId::from_bits(bits);
            let side = &mut self.sides.get_mut(&bits).expect("it is there").1;
            // The greeting comes whole, so that most of the chaos is about requests.
            let greeting = side.outbox.starts_with(b"STAT ") || side.outbox.starts_with(&[0x81, 0x10]);
            if side.outbox.is_empty() || !self.rig.is_open(conn) || (!greeting && self.dice.once_in(3)) {
                continue;
            }
            let whole = greeting || !self.dice.once_in(3);
            let most = if whole { 2000 } else { 8 };
            let count = if greeting { most } else { 1 + self.dice.throw(most) }.min(side.outbox.len());
            let bytes: Vec<u8> = side.outbox.drain(..count).collect();
            self.rig.hand(conn, &bytes);
            self.open_tick = true;
        }
    }

    fn connecting(&self) -> Vec<(ConnId, usize)> {
        let ends = self.rig.ends.iter().filter(|(_, end)| !end.connected && !end.closed);
        ends.filter_map(|(&bits, end)| Some((ConnId::from_bits(bits), end.to?.0))).collect()
    }

    /// Connects and look-ups come to their ends.
    fn finish_connects(&mut self) {
        for backend in std::mem::take(&mut self.rig.resolves) {
            match self.dice.throw(8) {
                0 => {}
                1 => self.rig.resolve(backend, 0),
                many => self.rig.resolve(backend, 1 + many % 3),
            }
        }
        for (conn, backend) in self.connecting() {
            if !self.rig.is_open(conn) || self.dice.once_in(3) {
                continue;
            }
            match self.servers[backend].mood {
                Mood::Well | Mood::Frozen => self.rig.connect(conn),
                Mood::Refusing => self.rig.fail(conn, Failure::Refused),
                Mood::Unreachable => {}
            }
        }
    }

    fn some_link(&mut self) -> Option<ConnId> {
        let standing =
            self.rig.ends.iter().filter(|(_, end)| end.to.is_some() && end.connected && !end.closed);
        let links: Vec<u64> = standing.map(|(&bits, _)| bits).collect();
        if links.is_empty() { None } else { Some(ConnId::from_bits(*self.dice.pick(&links))) }
    }

    fn break_a_link(&mut self) {
        let Some(conn) = self.some_link() else { return };
        if self.dice.once_in(2) {
            self.rig.break_down(conn, Failure::Reset);
        } else {
            self.rig.eof(conn);
        }
        self.open_tick = true;
    }

    /// A backend says something that nobody asked for.
    fn desync(&mut self) {
        let Some(conn) = self.some_link() else { return };
        let junk: [&[u8]; 4] = [b"\n", b"\0", b"VALUE x 0 1\r\ny\r\nEND\r\n", b"\x81\xff"];
        let junk = *self.dice.pick(&junk);
        let side = self.sides.get_mut(&conn.to_bits());
        if side.is_some_and(|side| side.1.outbox.is_empty() && side.1.inbox.is_empty()) {
            self.rig.hand(conn, junk);
            self.open_tick = true;
        }
    }

    fn end_a_user(&mut self) {
        if self.users.is_empty() {
            return;
        }
        let place = self.dice.throw(self.users.len());
        match self.dice.throw(4) {
            0 => {
                let user = self.users.swap_remove(place);
                self.rig.fail(user.conn, Failure::Reset);
            }
            1 => {
                let user = &mut self.users[place];
                if user.outgoing.is_empty() && !user.ending {
                    user.ending = true;
                    self.rig.eof(user.conn);
                }
            }
            2 if !self.users[place].ending => self.users[place].quit(),
            _ if self.spoil == Spoil::Closed => self.rig.proxy.handle_eof(self.users[place].conn),
            _ => {}
        }
    }

    fn change_a_mood(&mut self) {
        let backend = self.dice.throw(3);
        let moods = [Mood::Well, Mood::Well, Mood::Well, Mood::Frozen, Mood::Refusing, Mood::Unreachable];
        self.servers[backend].mood = *self.dice.pick(&moods);
        if self.servers[backend].mood == Mood::Refusing {
            for conn in self.rig.links(backend) {
                self.rig.fail(conn, Failure::Reset);
                self.look();
            }
        }
    }

    /// Everybody is well: whatever is outstanding comes to an end.
    fn calm_down(&mut self) {
        self.servers.iter_mut().for_each(|server| server.mood = Mood::Well);
        self.users.iter_mut().for_each(User::fence);
        for _ in 0..2000 {
            for end in 0..self.users.len() {
                let user = &mut self.users[end];
                let bytes = std::mem::take(&mut user.outgoing);
                if !bytes.is_empty() {
                    let conn = user.conn;
                    self.rig.hand(conn, &bytes);
                    self.open_tick = true;
                }
            }
            self.write_to_someone();
            self.serve_someone();
            self.deliver_answers();
            self.look();
            self.finish_connects();
            self.look();
            if self.users.iter().all(User::is_content) {
                return;
            }
            self.rig.wait(20);
            self.look();
        }
        let waiting: Vec<String> = self.users.iter().map(User::waits_for).collect();
        panic!("still waiting: {waiting:#?}");
    }

    /// All writes came to their owner, and as often as their answers say.
    fn check_writes(&self) {
        let owner = |number: &u64| self.rig.settings.placement.owner(self.writes.keys[number].as_bytes());
        for (backend, server) in self.servers.iter().enumerate() {
            for number in &server.seen {
                assert_eq!(owner(number), backend, "write {number} went to another backend");
                assert!(!self.writes.never_sent.contains(number), "write {number} had never been sent");
            }
        }
        for number in &self.writes.stored {
            assert!(self.servers[owner(number)].seen.contains(number), "write {number} was not stored");
        }
    }

    /// Nobody is there any more: nothing is kept, and a drain ends at once or by its deadline.
    fn end(&mut self) {
        for user in std::mem::take(&mut self.users) {
            if self.dice.once_in(2) {
                self.rig.fail(user.conn, Failure::Reset);
            } else {
                self.rig.eof(user.conn);
            }
        }
        self.rig.wait(30_000);
        let memory = format!("{:?}", self.rig.proxy);
        for kept in ["Fanout {", "Broadcast {", "StatsQuestion {"] {
            assert!(!memory.contains(kept), "something is kept that nobody waits for: {kept}");
        }
        self.rig.tell(Message::Drain(Duration::from_secs(5)));
        self.rig.wait(5_000);
        assert!(self.rig.stopped);
    }
}

/// What is tried with every sixth seed.
fn variants() -> [Arc<Settings>; 6] {
    let errors = [ReadErrors::Error, ReadErrors::Miss, ReadErrors::MissAll];
    std::array::from_fn(|number| {
        settings(|settings| {
            settings.read_errors = errors[number % 3];
            settings.join_gets = number >= 3;
            settings.workers = 2;
            settings.backends[2].by_name = true;
            let limits = &mut settings.limits;
            limits.client_requests_max = 12;
            limits.client_unread_max = 1500;
            limits.link_requests_max = 40;
            limits.link_bytes_max = 4000;
            limits.held_answer_max = 300;
            limits.window_keys_max = 3;
            limits.moved_min = 64;
            limits.retired_links_max = 2;
        })
    })
}

/// Says on failure how to repeat it.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: SEED={} cargo test --test proxy_core chaos", self.0, self.0);
        }
    }
}

#[test]
fn chaos() {
    let variants = variants();
    let only: Option<u64> = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let (mut sums, mut cuts) = (BTreeMap::new(), 0);
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let _repeat = Repeat(seed);
        let mut chaos = Chaos::new(variants[(seed % 6) as usize].clone(), seed);
        chaos.run();
        for (name, count) in chaos.rig.counters() {
            *sums.entry(name).or_default() += count;
        }
        cuts += chaos.cuts;
        chaos.end();
    }
    let unmoved = unmoved(&sums, &["backend_errors_as_misses"]);
    assert!(only.is_some() || (unmoved.is_empty() && cuts > 0), "never counted: {unmoved:?}, {cuts} cuts");
}

/// Each of these must be found out by one of some seeds.
#[test]
fn canaries_are_found_out() {
    let variants = variants();
    let spoils = [
        Spoil::WrongValues,
        Spoil::StaleValues,
        Spoil::NoDeletes,
        Spoil::LostBytes,
        Spoil::DoubledAnswer,
        Spoil::DoubledWrite,
        Spoil::Closed,
    ];
    for spoil in spoils {
        let found_out = |seed| {
            let settings = variants[3 * (seed % 2) as usize].clone();
            let run = move || {
                let mut chaos = Chaos::new(settings, seed);
                chaos.spoil = spoil;
                for server in &mut chaos.servers {
                    server.lying = spoil == Spoil::WrongValues;
                    server.stale = spoil == Spoil::StaleValues;
                    server.keeping = spoil == Spoil::NoDeletes;
                }
                chaos.run();
            };
            std::panic::catch_unwind(run).is_err()
        };
        assert!((0..100).any(found_out), "{spoil:?} was not found out");
    }
}
