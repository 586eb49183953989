//! A backend that does not answer: the error in time, and late answers that nobody gets.

use std::time::{Duration, Instant};

use super::rig::{Frozen, Proxy, Talk, key_of, keys_of, list_of};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, GETK};
use super::support::binary::status::TEMPORARY_FAILURE;
use super::support::inbox::PATIENCE;
use super::support::process::Server;

/// Two memcacheds, s0 and s1, behind the proxy.
struct Two {
    servers: [Server; 2],
    proxy: Proxy,
}

impl Two {
    fn start(arguments: &[&str]) -> Self {
        let servers = [Server::memcached(), Server::memcached()];
        let proxy = Proxy::start(&list_of(&servers), arguments);
        Two { servers, proxy }
    }
}

/// The kernel of a stopped memcached takes connections and requests for it, so that only the clock tells.
#[test]
fn a_request_that_is_not_answered_within_the_timeout_gets_its_error_then() {
    let rig = Two::start(&["--timeout", "300ms", "--failure-limit", "1000"]);
    let key = key_of(1, 2, "key");
    let mut client = rig.proxy.client();
    client.exchange(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
    let _frozen = Frozen::freeze(rig.servers[1].id());
    let started = Instant::now();
    assert_eq!(client.ask(format!("get {key}\r\n")), "SERVER_ERROR backend s1 timed out");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300), "given up after {took:?}");
    for request in ["set K 0 0 1\r\ny\r\n", "incr K 1\r\n", "mg K v\r\n", "md K q\r\n", "gat 0 K\r\n"] {
        let error = client.ask(request.replace('K', &key));
        assert_eq!(error, "SERVER_ERROR backend s1 timed out", "{request:?}");
    }
    let mut binary = rig.proxy.client();
    let reply = binary.ask_frame(&Frame::request(GET, 77).key(key.as_bytes()));
    let words = b"SERVER_ERROR backend s1 timed out";
    assert_eq!(reply, Frame::reply(GET, TEMPORARY_FAILURE, 77).value(words), "{reply}");
}

#[test]
fn a_multi_key_get_of_which_one_part_times_out_is_one_error_line() {
    let rig = Two::start(&["--timeout", "300ms", "--failure-limit", "1000"]);
    let (here, there) = (key_of(0, 2, "here"), key_of(1, 2, "there"));
    let mut client = rig.proxy.client();
    client.exchange(format!("set {here} 0 0 1\r\nx\r\nset {there} 0 0 1\r\nx\r\n"), "STORED\r\n".repeat(2));
    let _frozen = Frozen::freeze(rig.servers[1].id());
    for verb in ["get", "gets", "gat 0"] {
        let error = client.ask(format!("{verb} {here} {there} {here}\r\n"));
        assert_eq!(error, "SERVER_ERROR backend s1 timed out", "{verb}");
        client.exchange("mn\r\n", "MN\r\n");
    }
}

#[test]
fn with_read_errors_miss_what_times_out_is_a_miss() {
    let rig = Two::start(&["--timeout", "300ms", "--failure-limit", "1000", "--read-errors", "miss"]);
    let (here, there) = (key_of(0, 2, "here"), key_of(1, 2, "there"));
    let mut client = rig.proxy.client();
    client.exchange(format!("set {here} 0 0 1\r\nx\r\nset {there} 0 0 1\r\nx\r\n"), "STORED\r\n".repeat(2));
    let _frozen = Frozen::freeze(rig.servers[1].id());
    client.exchange(format!("get {there}\r\nmn\r\n"), "END\r\nMN\r\n");
    let answer = format!("VALUE {here} 0 1\r\nx\r\nEND\r\nMN\r\n");
    client.exchange(format!("get {there} {here}\r\nmn\r\n"), answer);
    client.exchange(format!("mg {there} v\r\nmn\r\n"), "EN\r\nMN\r\n");
    assert_eq!(client.ask(format!("gets {there}\r\n")), "SERVER_ERROR backend s1 timed out");
    assert_eq!(client.ask(format!("set {there} 0 0 1\r\nx\r\n")), "SERVER_ERROR backend s1 timed out");
}

/// s1 is stopped, and a timeout of an hour holds its client: everybody else goes on.
#[test]
fn a_backend_that_does_not_answer_holds_up_nobody_else() {
    let rig = Two::start(&["--timeout", "1h", "--threads", "1"]);
    let (here, there) = (key_of(0, 2, "here"), key_of(1, 2, "there"));
    let _frozen = Frozen::freeze(rig.servers[1].id());
    let mut stuck = rig.proxy.client();
    stuck.send(format!("get {there}\r\nget {here}\r\nget {here} {there}\r\n"));
    let mut other = rig.proxy.client();
    for round in 0..200 {
        let value = format!("{round:03}");
        let answer = format!("STORED\r\nVALUE {here} 0 3\r\n{value}\r\nEND\r\n");
        other.exchange(format!("set {here} 0 0 3\r\n{value}\r\nget {here}\r\n"), answer);
    }
}

#[test]
fn a_late_answer_that_comes_at_once_never_reaches_anybody() {
    late_answers(1);
}

/// After so many timeouts the link has been given up, or the backend is down.
#[test]
fn a_late_answer_that_comes_long_after_never_reaches_anybody() {
    late_answers(5);
}

/// Stops a memcached until each client has had `errors` errors, lets it go on, and reads until everybody has
/// had many answers: each is an error that names the backend, or the value of the very key.
fn late_answers(errors: usize) {
    let limits = ["--timeout", "150ms", "--retry-interval", "100ms", "--threads", "2"];
    let rig = Two::start(&limits);
    let keys = keys_of(1, 2, "key", 60);
    let mut filler = rig.proxy.client();
    for key in &keys {
        filler.exchange(
            format!("set {key} 0 0 {}\r\n{}\r\n", value_of(key).len(), value_of(key)),
            "STORED\r\n",
        );
    }
    let mut readers: Vec<Reader> = (0..6).map(|kind| Reader::new(rig.proxy.client(), kind, &keys)).collect();
    let frozen = Frozen::freeze(rig.servers[1].id());
    for _ in 0..errors {
        readers.iter_mut().for_each(Reader::send_next);
        for reader in &mut readers {
            assert!(!reader.take_answer(), "a stopped memcached has answered");
        }
    }
    frozen.thaw();
    let give_up = Instant::now() + PATIENCE;
    while readers.iter().any(|reader| reader.values < 100) {
        assert!(Instant::now() < give_up, "the backend is not taken back");
        readers.iter_mut().for_each(Reader::send_next);
        for reader in &mut readers {
            reader.take_answer();
        }
    }
}

fn value_of(key: &str) -> String {
    format!("the value of {key}, and of no other key")
}

/// One client that reads key after key, in one of several ways.
struct Reader<'a> {
    client: Talk,
    kind: usize,
    keys: &'a [String],
    asked: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn new(client: Talk, kind: usize, keys: &'a [String]) -> Self {
        // Each begins elsewhere, so that an answer for somebody else is one for another key.
        Reader { client, kind, keys, asked: kind * 7, values: 0 }
    }

    fn key(&self) -> &'a str {
        &self.keys[self.asked % self.keys.len()]
    }

    fn send_next(&mut self) {
        self.asked += 1;
        let key = self.key();
        match self.kind {
            0 => self.client.send(format!("get {key}\r\n")),
            1 => self.client.send(format!("gets {key}\r\n")),
            2 => self.client.send(format!("mg {key} k v O{}\r\n", self.asked)),
            3 => self.client.send(format!("get {key} {key}\r\n")),
            4 => self.client.send(Frame::request(GETK, self.asked as u32).key(key.as_bytes()).bytes()),
            _ => self.client.send(Frame::request(GET, self.asked as u32).key(key.as_bytes()).bytes()),
        }
    }

    /// True for the right value, false for an error; anything else fails the test.
    #[track_caller]
    fn take_answer(&mut self) -> bool {
        let right = if self.kind >= 4 { self.take_binary() } else { self.take_text() };
        self.values += usize::from(right);
        right
    }

    fn take_text(&mut self) -> bool {
        let (key, value) = (self.key(), value_of(self.key()));
        let line = self.client.line();
        if line.starts_with("SERVER_ERROR backend s1 ") {
            return false;
        }
        let length = value.len();
        let rest = match self.kind {
            2 => {
                assert_eq!(line, format!("VA {length} k{key} O{}", self.asked));
                format!("{value}\r\n")
            }
            kind => {
                let start = format!("VALUE {key} 0 {length}");
                assert!(line.starts_with(&start), "asked for {key}, got {line:?}");
                let again = if kind == 3 { format!("{line}\r\n{value}\r\n") } else { String::new() };
                format!("{value}\r\n{again}END\r\n")
            }
        };
        self.client.expect(rest);
        true
    }

    fn take_binary(&mut self) -> bool {
        let reply = self.client.frame();
        assert_eq!(reply.opaque, self.asked as u32, "asked for {}, got {reply}", self.key());
        if reply.status == TEMPORARY_FAILURE {
            assert!(reply.value.starts_with(b"SERVER_ERROR backend s1 "), "{reply}");
            return false;
        }
        assert_eq!((reply.status, &reply.value[..]), (0, value_of(self.key()).as_bytes()), "{reply}");
        true
    }
}

#[test]
#[should_panic(expected = "of no other key")]
fn canary_the_value_of_another_key_is_found() {
    let rig = Two::start(&[]);
    let keys = keys_of(1, 2, "key", 2);
    let mut reader = Reader::new(rig.proxy.client(), 0, &keys);
    let (asked, other) = (&keys[1], value_of(&"x".repeat(keys[1].len())));
    let mut filler = rig.proxy.client();
    filler.exchange(format!("set {asked} 0 0 {}\r\n{other}\r\n", other.len()), "STORED\r\n");
    reader.send_next();
    reader.take_answer();
}
