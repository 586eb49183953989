//! A client of the chaos: it asks, and holds every answer against what it asked, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mcproxy::io::ConnId;

use super::binary::{Packet, opcode, status};
use super::rig::show;
use super::server::{Change, make_value, read_value};
use super::words::Dice;

/// What all users of a run know of all writes.
#[derive(Default)]
pub(super) struct Writes {
    next: u64,
    /// The key of each.
    pub(super) keys: BTreeMap<u64, String>,
    /// Those that a backend said it carried out.
    pub(super) stored: BTreeSet<u64>,
    /// Those that, by their answer, no backend can have got.
    pub(super) never_sent: BTreeSet<u64>,
    /// Changes that backends have made so far; when the number of each write was stored, and when something
    /// last went from under each key, counted in these.
    changes: u64,
    stored_at: BTreeMap<u64, u64>,
    removed_at: BTreeMap<String, u64>,
    /// A read may be answered as a miss because a backend has failed.
    failures_are_misses: bool,
}

/// A request whose answer is awaited.
#[derive(Debug)]
enum Asked {
    /// get or gat of some keys.
    Get(Vec<String>),
    /// set, by number.
    Set(u64),
    Delete(String),
    Flush,
    /// mg; without an answer for a miss if quiet, and then with an mn behind it.
    Meta {
        key: String,
        quiet: bool,
    },
    /// A line that can only be this one.
    Line(&'static str),
    /// A binary request.
    Binary {
        opcode: u8,
        opaque: u32,
        key: String,
        number: u64,
    },
}

/// One client.
pub(super) struct User {
    pub(super) conn: ConnId,
    binary: bool,
    asked: VecDeque<Asked>,
    /// How many changes backends had made when each of these was asked.
    asked_at: VecDeque<u64>,
    /// Requests that have not been delivered.
    pub(super) outgoing: Vec<u8>,
    /// Bytes that came and are not understood yet.
    incoming: Vec<u8>,
    /// It has asked for its end.
    pub(super) ending: bool,
    next_opaque: u32,
    /// When the value was stored that it has last seen under each key, or stored there itself: it never sees
    /// an older one again.
    known: BTreeMap<String, u64>,
    /// How many changes backends had made when it asked to delete a key, which was done: it sees no value
    /// that was stored before.
    deleted: BTreeMap<String, u64>,
}

/// What was found at the front of a user's bytes.
enum Read {
    /// An answer of so many bytes.
    Whole(usize),
    /// There is none: it keeps silent.
    Silence,
    /// Not all of it is there.
    Partial,
}

const NEVER_SENT: [&str; 6] = [
    "connection refused",
    "is unreachable",
    "connect timed out",
    "name does not resolve",
    "is down",
    "has too many requests waiting",
];

impl User {
    pub(super) fn new(conn: ConnId, binary: bool) -> Self {
        User {
            conn,
            binary,
            asked: VecDeque::new(),
            asked_at: VecDeque::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            ending: false,
            next_opaque: 1 << 16,
            known: BTreeMap::new(),
            deleted: BTreeMap::new(),
        }
    }

    /// It has all its answers, and has not asked for its end.
    pub(super) fn is_content(&self) -> bool {
        let settled = self.asked.is_empty() && self.outgoing.is_empty() && self.incoming.is_empty();
        settled && !self.ending
    }

    /// Asks for something that is answered whatever happens, and so says that all before it has been.
    pub(super) fn fence(&mut self) {
        if self.ending {
            return;
        }
        if self.binary {
            let (opcode, opaque) = (opcode::NOOP, self.next_opaque);
            self.next_opaque += 1;
            self.outgoing.extend(Packet::request(opcode).opaque(opaque).bytes());
            self.asked.push_back(Asked::Binary { opcode, opaque, key: String::new(), number: 0 });
        } else {
            self.outgoing.extend_from_slice(b"mn\r\n");
            self.asked.push_back(Asked::Line("MN\r\n"));
        }
    }

    /// What it waits for, for a failure's text.
    pub(super) fn waits_for(&self) -> String {
        format!("{:?} awaits {:?}, has {}", self.conn, self.asked, show(&self.incoming))
    }

    /// Makes up a request.
    pub(super) fn ask(&mut self, keys: &[String], writes: &mut Writes, dice: &mut Dice) {
        if self.binary {
            self.ask_binary(keys, writes, dice)
        } else {
            self.ask_text(keys, writes, dice)
        }
        self.asked_at.resize(self.asked.len(), writes.changes);
    }

    /// Asks for the end, with nothing to come behind it.
    pub(super) fn quit(&mut self) {
        self.ending = true;
        if self.binary {
            self.outgoing.extend(Packet::request(opcode::QUITQ).bytes());
        } else {
            self.outgoing.extend_from_slice(b"quit\r\n");
        }
    }

    fn ask_text(&mut self, keys: &[String], writes: &mut Writes, dice: &mut Dice) {
        let key = dice.pick(keys).clone();
        let (request, asked) = match dice.throw(16) {
            0..=2 => (format!("get {key}\r\n"), Some(Asked::Get(vec![key]))),
            3..=5 => {
                let some: Vec<String> = (0..1 + dice.throw(12)).map(|_| dice.pick(keys).clone()).collect();
                let verb = if dice.once_in(3) { "gat 100" } else { "get" };
                (format!("{verb} {}\r\n", some.join(" ")), Some(Asked::Get(some)))
            }
            6..=8 => {
                let (number, value) = writes.make(&key, dice);
                let length = value.len();
                (format!("set {key} 0 0 {length}\r\n{value}\r\n"), Some(Asked::Set(number)))
            }
            9 => {
                let (_, value) = writes.make(&key, dice);
                (format!("set {key} 0 0 {} noreply\r\n{value}\r\n", value.len()), None)
            }
            10 => (format!("delete {key}\r\n"), Some(Asked::Delete(key))),
            11 => (format!("delete {key} noreply\r\n"), None),
            12 => (format!("mg {key} v k\r\n"), Some(Asked::Meta { key, quiet: false })),
            13 => (format!("mg {key} v k q\r\nmn\r\n"), Some(Asked::Meta { key, quiet: true })),
            14 if dice.once_in(4) => ("flush_all\r\n".into(), Some(Asked::Flush)),
            _ => ("nonsense\r\n".into(), Some(Asked::Line("ERROR\r\n"))),
        };
        self.outgoing.extend_from_slice(request.as_bytes());
        let fence = matches!(asked, Some(Asked::Meta { quiet: true, .. }));
        self.asked.extend(asked);
        self.asked.extend(fence.then_some(Asked::Line("MN\r\n")));
    }

    fn ask_binary(&mut self, keys: &[String], writes: &mut Writes, dice: &mut Dice) {
        let key = dice.pick(keys).clone();
        let codes = [
            opcode::GETK,
            opcode::GETKQ,
            opcode::SET,
            opcode::SETQ,
            opcode::DELETE,
            opcode::DELETEQ,
            opcode::NOOP,
        ];
        let opcode = *dice.pick(&codes);
        let opaque = self.next_opaque;
        self.next_opaque += 1;
        let mut number = 0;
        let request = Packet::request(opcode).opaque(opaque);
        let request = match opcode {
            opcode::NOOP => request,
            opcode::SET | opcode::SETQ => {
                let (made, value) = writes.make(&key, dice);
                number = made;
                request.extras(&[0; 8]).key(&key).value(&value)
            }
            _ => request.key(&key),
        };
        self.outgoing.extend(request.bytes());
        self.asked.push_back(Asked::Binary { opcode, opaque, key, number });
    }

    /// Takes bytes and reads all answers in them. An answer to something else is a panic.
    pub(super) fn hear(&mut self, bytes: &[u8], writes: &mut Writes) {
        self.incoming.extend_from_slice(bytes);
        while !self.incoming.is_empty() {
            let Some(asked) = self.asked.front() else {
                panic!("{:?} got {} and had asked for nothing", self.conn, show(&self.incoming));
            };
            let answer = match self.read(asked, writes) {
                Read::Partial => return,
                Read::Silence => 0..0,
                Read::Whole(bytes) => 0..bytes,
            };
            let answer: Vec<u8> = self.incoming.drain(answer).collect();
            if let Some(asked) = self.asked.pop_front() {
                let asked_at = self.asked_at.pop_front().unwrap_or(writes.changes);
                self.learn(&asked, asked_at, &answer, writes);
            }
        }
    }

    /// What this client has seen or stored under a key, it or something later is what it sees there ever after.
    fn learn(&mut self, asked: &Asked, asked_at: u64, answer: &[u8], writes: &Writes) {
        let stored_at = |value: &[u8]| {
            let (_, number) = read_value(std::str::from_utf8(value).expect("text")).expect("a value");
            *writes.stored_at.get(&number).expect("what was read had been stored")
        };
        match asked {
            Asked::Get(keys) if !answer.starts_with(b"SERVER_ERROR") => {
                let (read, _) = read_values(answer, keys);
                let mut missing: BTreeSet<&String> = keys.iter().collect();
                for (key, value) in read.values {
                    missing.remove(&key);
                    self.see(&key, stored_at(value));
                }
                missing.into_iter().for_each(|key| self.see_nothing(key, writes));
            }
            Asked::Meta { key, .. } if answer.starts_with(b"VA ") => {
                let line = answer.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
                self.see(key, stored_at(&answer[line..answer.len() - 2]));
            }
            Asked::Meta { key, .. } if answer.is_empty() || answer.starts_with(b"EN ") => {
                self.see_nothing(key, writes);
            }
            Asked::Set(number) if answer == b"STORED\r\n" => self.known_by_write(*number, writes),
            Asked::Delete(key) if !answer.starts_with(b"SERVER_ERROR") => {
                self.deleted.insert(key.clone(), asked_at);
            }
            Asked::Binary { opcode: code, key, number, .. } if !answer.is_empty() => {
                let reply = Packet::read_all(answer).remove(0);
                match (*code, reply.status_of()) {
                    (opcode::GETK | opcode::GETKQ, status::OK) => self.see(key, stored_at(reply.value_of())),
                    (opcode::GETK, status::KEY_NOT_FOUND) => self.see_nothing(key, writes),
                    (opcode::SET, status::OK) => self.known_by_write(*number, writes),
                    (opcode::DELETE, status::OK | status::KEY_NOT_FOUND) => {
                        self.deleted.insert(key.clone(), asked_at);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn known_by_write(&mut self, number: u64, writes: &Writes) {
        let stored_at = *writes.stored_at.get(&number).expect("STORED means that it was");
        self.known.insert(writes.keys[&number].clone(), stored_at);
    }

    fn see(&mut self, key: &str, stored_at: u64) {
        let known = self.known.insert(key.to_string(), stored_at).unwrap_or(0);
        assert!(known <= stored_at, "{:?} sees an older value of {key} than before", self.conn);
        let deleted = self.deleted.get(key).copied().unwrap_or(0);
        assert!(deleted < stored_at, "{:?} sees a value of {key} that it has deleted", self.conn);
    }

    fn see_nothing(&self, key: &String, writes: &Writes) {
        let known = self.known.get(key).copied().unwrap_or(0);
        let removed_at = writes.removed_at.get(key).copied().unwrap_or(0);
        let explained = writes.failures_are_misses || known == 0 || removed_at > known;
        assert!(explained, "{:?} sees nothing under {key}, and nothing was removed", self.conn);
    }

    /// The proxy has closed the connection: fine if it was asked to, or behind whole values of a cut answer;
    /// then true.
    pub(super) fn closed(&self) -> bool {
        let quiet = |asked: &Asked| matches!(asked, Asked::Binary { opcode, .. } if is_quiet(*opcode));
        if self.ending && self.incoming.is_empty() && self.asked.iter().all(quiet) {
            return false;
        }
        let Some(Asked::Get(keys)) = self.asked.front() else {
            panic!("closed for no reason: {}", self.waits_for());
        };
        let (read, _) = read_values(&self.incoming, keys);
        assert!(
            keys.len() > 1 && read.bytes == self.incoming.len(),
            "cut inside of a value: {}",
            self.waits_for()
        );
        true
    }

    fn read(&self, asked: &Asked, writes: &mut Writes) -> Read {
        if let Asked::Binary { opcode, opaque, key, number } = asked {
            return self.read_binary(*opcode, *opaque, key, *number, writes);
        }
        let incoming = &self.incoming;
        let Some(lf) = incoming.iter().position(|&byte| byte == b'\n') else { return Read::Partial };
        let line = std::str::from_utf8(&incoming[..=lf]).expect("a line of text");
        let failed = line.starts_with("SERVER_ERROR backend ");
        match asked {
            Asked::Get(keys) if !failed => {
                let (read, whole) = read_values(incoming, keys);
                if !whole {
                    return Read::Partial;
                }
                let rest = &incoming[read.bytes..];
                assert!(b"END\r\n".starts_with(&rest[..rest.len().min(5)]), "{}", self.waits_for());
                if rest.len() < 5 { Read::Partial } else { Read::Whole(read.bytes + 5) }
            }
            Asked::Meta { key, .. } if line.starts_with("VA ") => {
                let words: Vec<&str> = line.trim_end().split(' ').collect();
                let total = lf + 1 + words[1].parse::<usize>().expect("a length") + 2;
                assert_eq!(words[2], format!("k{key}"), "{}", self.waits_for());
                let Some(value) = incoming.get(lf + 1..total) else { return Read::Partial };
                check_value(key, &value[..value.len() - 2]);
                Read::Whole(total)
            }
            Asked::Meta { quiet: true, .. } if line == "MN\r\n" => Read::Silence,
            Asked::Meta { key, quiet: false } if line == format!("EN k{key}\r\n") => Read::Whole(line.len()),
            Asked::Set(number) => {
                writes.answered(*number, line);
                Read::Whole(line.len())
            }
            Asked::Delete(_) if ["DELETED\r\n", "NOT_FOUND\r\n"].contains(&line) => Read::Whole(line.len()),
            Asked::Flush if line == "OK\r\n" => Read::Whole(line.len()),
            Asked::Line(expected) if line == *expected => Read::Whole(line.len()),
            Asked::Line(_) => panic!("an answer out of order: {}", self.waits_for()),
            _ if failed => Read::Whole(line.len()),
            _ => panic!("an answer out of order: {}", self.waits_for()),
        }
    }

    fn read_binary(&self, opcode: u8, opaque: u32, key: &str, number: u64, writes: &mut Writes) -> Read {
        let Some(head) = self.incoming.first_chunk::<24>() else { return Read::Partial };
        let body = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = self.incoming.get(..24 + body) else { return Read::Partial };
        let reply = Packet::read_all(frame).remove(0);
        if reply.opaque_of() != opaque {
            assert!(is_quiet(opcode), "{reply:?} is out of order: {}", self.waits_for());
            return Read::Silence;
        }
        assert_eq!(reply.opcode_of(), opcode, "{}", self.waits_for());
        match (opcode, reply.status_of()) {
            (_, status::TEMPORARY_FAILURE) => {
                let words = String::from_utf8_lossy(reply.value_of()).into_owned();
                if number > 0 {
                    writes.answered(number, &words);
                }
            }
            (opcode::GETK | opcode::GETKQ, status::OK) => {
                assert_eq!(reply.key_of(), key.as_bytes(), "{}", self.waits_for());
                check_value(key, reply.value_of());
            }
            (opcode::SET, status::OK) => drop(writes.stored.insert(number)),
            (opcode::DELETE | opcode::NOOP, status::OK) => {}
            (opcode::GETK | opcode::DELETE | opcode::DELETEQ, status::KEY_NOT_FOUND) => {}
            _ => panic!("{reply:?} answers {}", self.waits_for()),
        }
        Read::Whole(frame.len())
    }
}

impl Writes {
    pub(super) fn new(failures_are_misses: bool) -> Self {
        Writes { failures_are_misses, ..Writes::default() }
    }

    /// A backend has changed its items.
    pub(super) fn note(&mut self, changes: impl Iterator<Item = Change>) {
        for change in changes {
            self.changes += 1;
            match change {
                Change::Stored(number) => drop(self.stored_at.insert(number, self.changes)),
                Change::Removed(key) => drop(self.removed_at.insert(key, self.changes)),
            }
        }
    }

    fn make(&mut self, key: &str, dice: &mut Dice) -> (u64, String) {
        self.next += 1;
        self.keys.insert(self.next, key.to_string());
        let padding = if dice.once_in(3) { dice.throw(300) } else { dice.throw(30) };
        (self.next, make_value(key, self.next, padding))
    }

    fn answered(&mut self, number: u64, line: &str) {
        let words = line.trim_end();
        if words == "STORED" {
            self.stored.insert(number);
            return;
        }
        assert!(words.starts_with("SERVER_ERROR backend "), "{words} is no answer to write {number}");
        if NEVER_SENT.iter().any(|end| words.ends_with(end)) {
            self.never_sent.insert(number);
        }
    }
}

fn is_quiet(code: u8) -> bool {
    mcproxy::protocol::binary::answering(code).1
}

fn check_value(key: &str, value: &[u8]) {
    let value = std::str::from_utf8(value).expect("a value of text");
    let (owner, _) = read_value(value).unwrap_or_else(|| panic!("{value:?} is nobody's value"));
    assert_eq!(owner, key, "a value of another key");
}

/// Whole values at the start of an answer.
#[derive(Default)]
struct Values<'a> {
    bytes: usize,
    /// Their keys and data.
    values: Vec<(String, &'a [u8])>,
}

/// Reads whole values of some of `keys`, in their order. Gives them, and whether something else follows.
fn read_values<'a>(incoming: &'a [u8], keys: &[String]) -> (Values<'a>, bool) {
    let (mut read, mut next) = (Values::default(), 0);
    loop {
        let rest = &incoming[read.bytes..];
        let Some(lf) = rest.iter().position(|&byte| byte == b'\n') else { return (read, false) };
        let line = std::str::from_utf8(&rest[..lf]).expect("a line of text").trim_end();
        let Some(words) = line.strip_prefix("VALUE ") else { return (read, true) };
        let words: Vec<&str> = words.split(' ').collect();
        let place = keys[next..].iter().position(|key| key == words[0]);
        next += place.unwrap_or_else(|| panic!("{line} was not asked for, or before: {keys:?}")) + 1;
        let length: usize = words[2].parse().expect("a length");
        let Some(value) = rest.get(lf + 1..lf + 1 + length + 2) else { return (read, false) };
        assert!(value.ends_with(b"\r\n"), "a value ends: {}", show(rest));
        check_value(words[0], &value[..length]);
        read.values.push((words[0].to_string(), &value[..length]));
        read.bytes += lf + 1 + length + 2;
    }
}
