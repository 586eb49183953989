//! Joined gets with everything real: fifty clients that pipeline, the program as it is started by default, and
//! memcacheds that count what they are asked.

use std::fmt::Write;

use super::rig::{Proxy, Talk, list_of, stat, stats, three_memcacheds};
use super::support::process::Server;
use super::support::random::Random;

const CLIENTS: usize = 50;
const ROUNDS: usize = 12;

/// Keys that everybody asks for, every third of which is not there; the last one's value is large.
const SHARED: usize = 20;
const LARGE: usize = 100_000;

fn shared_key(number: usize) -> String {
    format!("shared-{number}")
}

/// The value of a shared key; `None` for those that are not there.
fn shared_value(number: usize) -> Option<String> {
    let length = if number == SHARED - 1 { LARGE } else { number * 37 };
    let value = || format!("{}:", shared_key(number)).repeat(length / 10 + 1);
    (number % 3 != 1 || number == SHARED - 1).then(value)
}

fn item(key: &str, value: &str) -> String {
    format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len())
}

fn shared_item(number: usize) -> String {
    shared_value(number).map_or(String::new(), |value| item(&shared_key(number), &value))
}

/// One of the clients: what it stores, only it knows.
struct User {
    talk: Talk,
    number: usize,
    /// What its own key holds.
    version: usize,
    random: Random,
    /// What was sent in this round, and the answer to it.
    requests: String,
    expected: Vec<Expected>,
}

/// A part of an answer.
enum Expected {
    These(String),
    /// A `VALUE` line with a token at its end, which nobody can know, and what follows.
    Token(String, String),
}

/// What all of them have asked for.
#[derive(Default)]
struct Asked {
    keys: u64,
    hits: u64,
}

impl User {
    fn new(proxy: &Proxy, number: usize) -> Self {
        let random = Random::new(number as u64);
        User {
            talk: proxy.client(),
            number,
            version: 0,
            random,
            requests: String::new(),
            expected: Vec::new(),
        }
    }

    fn own_key(&self) -> String {
        format!("own-{}", self.number)
    }

    fn own_value(&self) -> String {
        format!("version {} of {}", self.version, self.own_key())
    }

    fn request(&mut self, line: &str, answer: String) {
        write!(self.requests, "{line}\r\n").expect("a string");
        self.expected.push(Expected::These(answer));
    }

    fn make_up(&mut self, asked: &mut Asked) {
        let own = self.own_key();
        match self.random.below(8) {
            0 => {
                self.version += 1;
                let value = self.own_value();
                self.request(&format!("set {own} 0 0 {}\r\n{value}", value.len()), "STORED\r\n".into());
            }
            1 | 2 if self.version > 0 => {
                asked.keys += 1;
                asked.hits += 1;
                self.request(&format!("get {own}"), item(&own, &self.own_value()) + "END\r\n");
            }
            3 if self.version > 0 => {
                asked.keys += 1;
                asked.hits += 1;
                write!(self.requests, "gets {own}\r\n").expect("a string");
                let value = self.own_value();
                let line = format!("VALUE {own} 0 {} ", value.len());
                self.expected.push(Expected::Token(line, format!("{value}\r\nEND\r\n")));
            }
            4 => {
                let numbers: Vec<usize> =
                    (0..2 + self.random.below(6)).map(|_| self.random.below(SHARED - 1)).collect();
                asked.keys += numbers.len() as u64;
                asked.hits += numbers.iter().filter(|&&number| shared_value(number).is_some()).count() as u64;
                let keys: Vec<String> = numbers.iter().map(|&number| shared_key(number)).collect();
                let items: String = numbers.iter().map(|&number| shared_item(number)).collect();
                self.request(&format!("get {}", keys.join(" ")), items + "END\r\n");
            }
            kind => {
                // The large one rarely.
                let number = self.random.below(SHARED - usize::from(kind != 7));
                asked.keys += 1;
                asked.hits += u64::from(shared_value(number).is_some());
                self.request(&format!("get {}", shared_key(number)), shared_item(number) + "END\r\n");
            }
        }
    }

    #[track_caller]
    fn hear(&mut self) {
        for expected in self.expected.drain(..) {
            match expected {
                Expected::These(bytes) => self.talk.expect(bytes),
                Expected::Token(start, end) => {
                    let line = self.talk.line();
                    let token =
                        line.strip_prefix(&start).unwrap_or_else(|| panic!("{line:?}, not {start:?}"));
                    assert!(token.parse::<u64>().is_ok(), "{line:?}");
                    self.talk.expect(end);
                }
            }
        }
    }
}

/// Fifty clients send pipelines of sixteen at the same time, round by round; every answer is to the key that
/// was asked for.
fn load(proxy: &Proxy) -> Asked {
    let mut first = proxy.client();
    for number in 0..SHARED {
        if let Some(value) = shared_value(number) {
            let set = format!("set {} 0 0 {}\r\n{value}\r\n", shared_key(number), value.len());
            first.exchange(set, "STORED\r\n");
        }
    }
    let mut asked = Asked::default();
    let mut users: Vec<User> = (0..CLIENTS).map(|number| User::new(proxy, number)).collect();
    for _ in 0..ROUNDS {
        for user in &mut users {
            (0..16).for_each(|_| user.make_up(&mut asked));
            user.talk.send(std::mem::take(&mut user.requests));
        }
        users.iter_mut().for_each(User::hear);
    }
    asked
}

/// What the proxy's counters say of joined gets.
struct Counted {
    backend_gets: u64,
    backend_get_keys: u64,
    joined_gets: u64,
    shared_keys: u64,
}

impl Counted {
    /// Its counters, of which those that count clients' keys must be what they asked.
    fn of(proxy: &Proxy, asked: &Asked) -> Self {
        let lines = stats(&mut proxy.client());
        assert_eq!(stat(&lines, "cmd_get"), asked.keys);
        assert_eq!(
            (stat(&lines, "get_hits"), stat(&lines, "get_misses")),
            (asked.hits, asked.keys - asked.hits)
        );
        for nothing in ["backend_errors", "timeouts", "desyncs"] {
            assert_eq!(stat(&lines, nothing), 0, "{nothing}");
        }
        Counted {
            backend_gets: stat(&lines, "backend_gets"),
            backend_get_keys: stat(&lines, "backend_get_keys"),
            joined_gets: stat(&lines, "joined_gets"),
            shared_keys: stat(&lines, "shared_keys"),
        }
    }

    /// A pipeline alone brings gets that can be joined and keys that are asked for twice.
    fn are_joined(&self, asked: &Asked) {
        assert!(self.joined_gets > 0 && self.shared_keys > 0, "{} {}", self.joined_gets, self.shared_keys);
        assert!(self.backend_gets < self.backend_get_keys, "{}", self.backend_gets);
        assert_eq!(self.backend_get_keys + self.shared_keys, asked.keys, "each is asked for, or shared");
    }
}

/// Keys that the memcacheds were asked for, by their own count.
fn keys_asked(servers: &[Server]) -> u64 {
    servers.iter().map(|server| stat(&stats(&mut Talk::tcp(server.address)), "cmd_get")).sum()
}

#[test]
fn fifty_clients_get_their_own_bytes_and_memcached_counts_the_keys_that_the_proxy_says_it_asked_for() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let asked = load(&proxy);
    let counted = Counted::of(&proxy, &asked);
    counted.are_joined(&asked);
    assert_eq!(keys_asked(&servers), counted.backend_get_keys);
}

#[test]
fn fifty_clients_of_embedded_backends_get_their_own_bytes() {
    let proxy = Proxy::start("embedded:3", &[]);
    let asked = load(&proxy);
    Counted::of(&proxy, &asked).are_joined(&asked);
}

/// One get of many keys is still one for each backend, and asks for each key once.
#[test]
fn with_join_gets_off_no_get_is_joined_with_another() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &["--join-gets", "off"]);
    let asked = load(&proxy);
    let counted = Counted::of(&proxy, &asked);
    assert_eq!((counted.joined_gets, counted.shared_keys), (0, 0));
    assert_eq!(keys_asked(&servers), counted.backend_get_keys);
    assert!(counted.backend_get_keys <= asked.keys);
}

/// memcached reads lines of 32 KiB in pieces, and some of its versions close on such lines of other commands.
#[test]
fn the_longest_keys_are_joined_to_lines_that_memcached_takes() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..1000).map(|number| format!("{number:0>250}")).collect();
    let there = || keys.iter().skip(1).step_by(2);
    let sets: String = there().map(|key| format!("set {key} 0 0 3\r\n{}\r\n", &key[247..])).collect();
    client.exchange(sets, "STORED\r\n".repeat(keys.len() / 2));
    let mut answers = String::new();
    for (number, key) in keys.iter().enumerate() {
        let value = if number % 2 == 1 { item(key, &key[247..]) } else { String::new() };
        answers += &(value + "END\r\n");
    }
    let gets: String = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    client.exchange(gets, answers);
    let lines = stats(&mut client);
    assert_eq!(stat(&lines, "backend_get_keys"), keys.len() as u64);
    assert!(stat(&lines, "joined_gets") > 0);
    assert_eq!(keys_asked(&servers), keys.len() as u64);
}

#[test]
fn the_checks_of_an_answer_can_fail() {
    let proxy = Proxy::start("embedded:3", &[]);
    let mut user = User::new(&proxy, 0);
    user.version = 1;
    user.talk.exchange("set own-0 0 0 1\r\nx\r\n", "STORED\r\n");
    user.talk.send("get own-0\r\n");
    user.expected.push(Expected::These(item("own-0", &user.own_value()) + "END\r\n"));
    let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| user.hear()));
    assert!(heard.is_err(), "another value was taken for its own");
}
