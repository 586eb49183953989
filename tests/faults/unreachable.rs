//! Backends that die, that accept and never answer, and that cannot be reached at all: in each case their
//! clients get an error that names them, the others lose nothing, and recovery needs no hand.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::fleet::Fleet;
use super::rig::{BlackHole, Proxy, Talk, eventually, key_of, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::GET;
use super::support::binary::status::TEMPORARY_FAILURE;
use super::support::process::{Server, free_address, named_backends};

/// The promise itself.
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(10);

/// A memcached called s0, somebody else called s1, and the proxy.
struct Pair {
    _memcached: Server,
    proxy: Proxy,
    keys: [String; 2],
}

impl Pair {
    fn with(address: SocketAddr, arguments: &[&str]) -> Self {
        let memcached = Server::memcached();
        let proxy = Proxy::start(&named_backends(&[memcached.address, address]), arguments);
        Pair { _memcached: memcached, proxy, keys: [0, 1].map(|owner| key_of(owner, 2, "key")) }
    }

    /// Keys of s1 get its error, in each protocol, until it is known to be down; keys of s0 are served.
    #[track_caller]
    fn check_errors(&self, error: &str) {
        let [here, there] = &self.keys;
        let mut client = self.proxy.client();
        let is_one_of = |words: &str| words == error || words == "SERVER_ERROR backend s1 is down";
        eventually("s1 is down", || {
            client.exchange(format!("set {here} 0 0 1\r\nx\r\n"), "STORED\r\n");
            for request in ["get K\r\n", "set K 0 0 1\r\ny\r\n", "mg K v c\r\n", "cas K 0 0 1 5\r\ny\r\n"] {
                let words = client.ask(request.replace('K', there));
                assert!(is_one_of(&words), "{request:?} gets {words:?}");
            }
            let reply = self.proxy.client().ask_frame(&Frame::request(GET, 3).key(there.as_bytes()));
            assert_eq!((reply.status, reply.opaque), (TEMPORARY_FAILURE, 3), "{reply}");
            assert!(is_one_of(&String::from_utf8_lossy(&reply.value)), "{reply}");
            client.exchange(format!("get {here}\r\n"), format!("VALUE {here} 0 1\r\nx\r\nEND\r\n"));
            (self.state(&mut client) == "down").then_some(())
        });
    }

    /// A memcached is at s1's address now: it is taken back by itself.
    #[track_caller]
    fn check_recovery(&self) {
        let started = Instant::now();
        let mut clients = [(); 4].map(|()| self.proxy.client());
        let there = &self.keys[1];
        for client in &mut clients {
            eventually("s1 is taken back", || {
                (client.ask(format!("touch {there} 0\r\n")) == "NOT_FOUND").then_some(())
            });
        }
        let took = started.elapsed();
        assert!(took < TAKEN_BACK_WITHIN, "taken back after {took:?}");
        assert_eq!(self.state(&mut clients[0]), "up");
        let reply = self.proxy.client().ask_frame(&Frame::request(GET, 3).key(there.as_bytes()));
        assert_eq!(reply.status, 1, "not found: {reply}");
    }

    fn state(&self, client: &mut Talk) -> String {
        stats(client)["backend:s1:state"].clone()
    }
}

/// The kernel completes the connects; nobody reads what comes.
#[test]
fn a_listener_that_accepts_and_never_answers() {
    let deaf = TcpListener::bind(free_address()).expect("a loopback port");
    let address = deaf.local_addr().expect("bound");
    let arguments =
        ["--threads", "2", "--timeout", "1s", "--failure-limit", "2", "--retry-interval", "200ms"];
    let pair = Pair::with(address, &arguments);
    pair.check_errors("SERVER_ERROR backend s1 timed out");
    drop(deaf);
    let _memcached = Server::memcached_at(address, &[]);
    pair.check_recovery();
}

/// Not even the connect is answered.
#[test]
fn a_black_hole() {
    let hole = BlackHole::open();
    let address = hole.address;
    let arguments = [
        "--threads",
        "2",
        "--connect-timeout",
        "300ms",
        "--timeout",
        "1s",
        "--failure-limit",
        "2",
        "--retry-interval",
        "200ms",
    ];
    let pair = Pair::with(address, &arguments);
    pair.check_errors("SERVER_ERROR backend s1 connect timed out");
    drop(hole);
    let _memcached = Server::memcached_at(address, &[]);
    pair.check_recovery();
}

/// `kill -9` with requests in flight in all protocols: each is told at once, though --timeout is a minute.
#[test]
fn one_that_is_killed_with_requests_in_flight() {
    let arguments = ["--threads", "2", "--failure-limit", "3", "--retry-interval", "200ms"];
    let mut fleet = Fleet::start(2, &arguments);
    let [here, there] = [1, 0].map(|owner| key_of(owner, 2, "key"));
    let mut clients = fleet.clients();
    let mut binary = [(); 4].map(|()| fleet.proxy.client());
    let before = stat(&fleet.stats(), "backend:s0:requests");
    let frozen = fleet.freeze(0);
    for client in &mut clients {
        client.send(format!("set {there} 0 0 1\r\nx\r\nincr {there} 1\r\nmg {there} v\r\nget {here}\r\n"));
    }
    for client in &mut binary {
        client.send(Frame::request(GET, 9).key(there.as_bytes()).bytes());
    }
    eventually("they are in flight", || {
        (stat(&fleet.stats(), "backend:s0:requests") >= before + 16).then_some(())
    });
    fleet.kill(0);
    // Nothing is left that could go on.
    std::mem::forget(frozen);
    let lost = "SERVER_ERROR backend s0 connection lost";
    for client in &mut clients {
        client.expect(format!("{lost}\r\n{lost}\r\n{lost}\r\nEND\r\n"));
    }
    for client in &mut binary {
        let reply = client.frame();
        assert_eq!(reply, Frame::reply(GET, TEMPORARY_FAILURE, 9).value(lost.as_bytes()), "{reply}");
    }
    for client in &mut clients {
        let error = client.ask(format!("get {there}\r\n"));
        let expected = ["SERVER_ERROR backend s0 connection refused", "SERVER_ERROR backend s0 is down"];
        assert!(expected.contains(&&error[..]), "{error:?}");
        client.exchange(format!("set {here} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    fleet.start_again(0);
    let started = Instant::now();
    for client in &mut clients {
        eventually("it is taken back", || {
            (client.ask(format!("touch {there} 0\r\n")) == "NOT_FOUND").then_some(())
        });
    }
    let took = started.elapsed();
    assert!(took < TAKEN_BACK_WITHIN, "taken back after {took:?}");
}
