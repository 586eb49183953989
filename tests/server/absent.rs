//! When a backend is not there.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::rig::{BlackHole, Nobody, Proxy, Talk, eventually, key_of, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, NOOP, SET, SETQ};
use super::support::binary::status::TEMPORARY_FAILURE;
use super::support::process::{Server, named_backends};

/// A memcached called s0, and nobody where s1 should be.
struct OneOfTwo {
    _present: Server,
    absent: Nobody,
    proxy: Proxy,
}

impl OneOfTwo {
    fn start(arguments: &[&str]) -> Self {
        let (present, absent) = (Server::memcached(), Nobody::there());
        let proxy = Proxy::start(&named_backends(&[present.address, absent.address]), arguments);
        OneOfTwo { _present: present, absent, proxy }
    }
}

#[test]
fn start_up_succeeds_and_one_log_line_says_so() {
    let rig = OneOfTwo::start(&["--threads", "2"]);
    rig.proxy.log_line(&["backend s1", "connection refused"]);
    rig.proxy.client().exchange("mn\r\n", "MN\r\n");
    let log = rig.proxy.stderr();
    let about: Vec<&str> = log.lines().filter(|line| line.contains("backend s1")).collect();
    assert_eq!(about.len(), 1, "{log}");
}

#[test]
fn requests_for_its_keys_get_server_error_and_client_connections_stay_open() {
    let rig = OneOfTwo::start(&[]);
    let (here, there) = (key_of(0, 2, "here"), key_of(1, 2, "there"));
    let mut client = rig.proxy.client();
    let requests = [
        "get K\r\n",
        "gets K\r\n",
        "gat 0 K\r\n",
        "gats 0 K\r\n",
        "set K 0 0 5\r\nvalue\r\n",
        "add K 0 0 5\r\nvalue\r\n",
        "replace K 0 0 5\r\nvalue\r\n",
        "append K 0 0 5\r\nvalue\r\n",
        "prepend K 0 0 5\r\nvalue\r\n",
        "cas K 0 0 5 7\r\nvalue\r\n",
        "incr K 1\r\n",
        "decr K 1\r\n",
        "touch K 0\r\n",
        "delete K\r\n",
        "mg K v\r\n",
        "ms K 5\r\nvalue\r\n",
        "ms K 5 q\r\nvalue\r\n",
        "md K\r\n",
        "ma K\r\n",
        "me K\r\n",
        "get K K\r\n",
    ];
    for request in requests {
        let error = client.ask(request.replace('K', &there));
        assert!(error.starts_with("SERVER_ERROR backend s1 "), "{request:?} gets {error:?}");
        // Nothing came behind the line, and the connection goes on.
        client.exchange(format!("set {here} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    for quiet in ["set K 0 0 5 noreply\r\nvalue\r\n", "delete K noreply\r\n", "incr K 1 noreply\r\n"] {
        client.exchange(quiet.replace('K', &there) + "mn\r\n", "MN\r\n");
    }
}

/// Were the black hole's connect waited for, these requests would take 200 seconds.
#[test]
fn requests_get_their_error_at_once_while_it_is_known_to_be_down() {
    let hole = BlackHole::open();
    let list = format!("{}@s0", hole.address);
    let limits = ["--connect-timeout", "1s", "--failure-limit", "1", "--retry-interval", "5s"];
    let proxy = Proxy::start(&list, &limits);
    let mut client = proxy.client();
    until_down(&mut client, "key", "s0");
    let started = Instant::now();
    for _ in 0..200 {
        assert_eq!(client.ask("get key\r\n"), "SERVER_ERROR backend s0 is down");
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(100), "200 answers took {took:?}");
    assert_eq!(stats(&mut client)["backend:s0:state"], "down");
}

#[test]
fn a_binary_client_gets_status_0x0086_with_the_same_words_as_body() {
    let rig = OneOfTwo::start(&["--failure-limit", "1", "--threads", "1"]);
    let (here, there) = (key_of(0, 2, "here"), key_of(1, 2, "there"));
    let mut text = rig.proxy.client();
    until_down(&mut text, &there, "s1");
    let mut client = rig.proxy.client();
    let set = |opcode, key: &str, opaque| {
        Frame::request(opcode, opaque).extras(&[0; 8]).key(key.as_bytes()).value(b"value")
    };
    let get = Frame::request(GET, 0x0102_0304).key(there.as_bytes());
    for request in [get, set(SET, &there, 7), set(SETQ, &there, 0xffff_ffff)] {
        let reply = client.ask_frame(&request);
        let words = b"SERVER_ERROR backend s1 is down";
        let expected = Frame::reply(request.opcode, TEMPORARY_FAILURE, request.opaque).value(words);
        assert_eq!(reply, expected, "{request} gets {reply}");
        assert_eq!(client.ask_frame(&set(SET, &here, 8)).status, 0);
    }
    assert_eq!(client.ask_frame(&Frame::request(NOOP, 9)), Frame::reply(NOOP, 0, 9));
}

/// The longest interval between two tries is the one that counts for the promise. The 10 seconds are the
/// promise itself; the tries are 5 seconds apart.
#[test]
fn it_is_taken_back_within_10_s_of_answering_again_without_a_restart() {
    let limits = ["--failure-limit", "1", "--retry-interval", "5s", "--threads", "2"];
    let rig = OneOfTwo::start(&limits);
    let key = key_of(1, 2, "there");
    // One client on each worker: each has its own opinion of a backend.
    let mut clients = [rig.proxy.client(), rig.proxy.client()];
    for client in &mut clients {
        until_down(client, &key, "s1");
    }
    let _memcached = rig.absent.replaced_by_memcached();
    let started = Instant::now();
    for client in &mut clients {
        eventually("s1 is taken back", || {
            (client.ask(format!("touch {key} 0\r\n")) == "NOT_FOUND").then_some(())
        });
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "taken back after {took:?}");
    let mut binary = rig.proxy.client();
    assert_eq!(binary.ask_frame(&Frame::request(GET, 1).key(key.as_bytes())).status, 1, "not found");
    rig.proxy.log_line(&["s1", "up"]);
    let lines = stats(&mut clients[0]);
    assert_eq!((&*lines["backend:s0:state"], &*lines["backend:s1:state"]), ("up", "up"));
}

/// A backend that nobody asks for is taken back all the same: it is tried by the clock, not by requests.
#[test]
fn it_is_taken_back_though_nobody_asks_for_it() {
    let rig = OneOfTwo::start(&["--failure-limit", "1", "--retry-interval", "100ms"]);
    let mut client = rig.proxy.client();
    until_down(&mut client, &key_of(1, 2, "there"), "s1");
    let _memcached = rig.absent.replaced_by_memcached();
    eventually("s1 is up", || (stats(&mut client)["backend:s1:state"] == "up").then_some(()));
}

/// Every connect to s1 and every answer of it may take an hour here: whoever waits for them is found out.
#[test]
fn everybody_elses_traffic_does_not_notice() {
    let (present, hole) = (Server::memcached(), BlackHole::open());
    let list = named_backends(&[present.address, hole.address]);
    let limits = ["--connect-timeout", "1h", "--timeout", "1h", "--threads", "1"];
    let proxy = Proxy::start(&list, &limits);
    let (here, there) = (key_of(0, 2, "here"), key_of(1, 2, "there"));
    let mut stuck: Vec<Talk> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut stuck {
        client.send(format!("set {there} 0 0 1\r\nx\r\nget {there}\r\nget {here} {there}\r\n"));
    }
    let mut other = proxy.client();
    for round in 0..200 {
        let value = round.to_string();
        other.exchange(format!("set {here} 0 0 {}\r\n{value}\r\n", value.len()), "STORED\r\n");
        let answer = format!("VALUE {here} 0 {}\r\n{value}\r\nEND\r\n", value.len());
        other.exchange(format!("get {here}\r\n"), answer);
    }
    let mut binary = proxy.client();
    assert_eq!(binary.ask_frame(&Frame::request(GET, 1).key(here.as_bytes())).value, b"199");
}

/// The kernel itself would try for two minutes, and --timeout is an hour.
#[test]
fn a_black_hole_address_is_answered_within_the_connect_timeout() {
    let (present, hole) = (Server::memcached(), BlackHole::open());
    let list = named_backends(&[present.address, hole.address]);
    let proxy = Proxy::start(&list, &["--connect-timeout", "300ms", "--timeout", "1h"]);
    let key = key_of(1, 2, "there");
    let mut client = proxy.client();
    for _ in 0..3 {
        let error = client.ask(format!("get {key}\r\n"));
        assert_eq!(error, "SERVER_ERROR backend s1 connect timed out");
    }
    let reply = proxy.client().ask_frame(&Frame::request(GET, 5).key(key.as_bytes()));
    assert_eq!((reply.status, reply.opaque), (TEMPORARY_FAILURE, 5));
    assert_eq!(reply.value, b"SERVER_ERROR backend s1 connect timed out");
}

#[test]
fn a_host_name_that_does_not_resolve_is_a_backend_that_is_not_there() {
    // A resolver that finds out slowly is not waited for.
    let limits = ["--failure-limit", "1", "--connect-timeout", "500ms", "--threads", "1"];
    let proxy = Proxy::start("no-such-host.invalid", &limits);
    proxy.log_line(&["backend no-such-host.invalid:11211"]);
    let mut client = proxy.client();
    let error = client.ask("get key\r\n");
    assert!(error.starts_with("SERVER_ERROR backend no-such-host.invalid:11211 "), "{error:?}");
    until_down(&mut client, "key", "no-such-host.invalid:11211");
    client.exchange("mn\r\n", "MN\r\n");
}

#[test]
fn localhost_resolves_and_the_name_is_in_lower_case() {
    let memcached = Server::memcached();
    let port = memcached.address.port();
    let proxy = Proxy::start(&format!("LocalHost:{port}"), &["--connect-timeout", "10s"]);
    let mut client = proxy.client();
    client.exchange("set key 0 0 5\r\nvalue\r\nget key\r\n", "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n");
    assert_eq!(stats(&mut client)[&format!("backend:localhost:{port}:state")], "up");
}

/// A backend that dies under its clients is one that isn't there.
#[test]
fn a_backend_that_ends_while_in_use_is_answered_for_and_taken_back() {
    let nobody = Nobody::there();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, nobody.address.port()).into();
    let memcached = nobody.replaced_by_memcached();
    let limits = ["--retry-interval", "100ms", "--timeout", "200ms"];
    let proxy = Proxy::start(&format!("{address}@s0"), &limits);
    let mut client = proxy.client();
    client.exchange("set key 0 0 1\r\nx\r\n", "STORED\r\n");
    drop(memcached);
    until_down(&mut client, "key", "s0");
    let _again = Server::memcached_at(address, &[]);
    eventually("it is taken back", || (client.ask("touch key 0\r\n") == "NOT_FOUND").then_some(()));
}

/// Asks for a key of backend `name` until the proxy knows that it is down. Every answer up to then names it.
#[track_caller]
fn until_down(client: &mut Talk, key: &str, name: &str) {
    let start = format!("SERVER_ERROR backend {name} ");
    eventually(&format!("{name} is down"), || {
        let error = client.ask(format!("get {key}\r\n"));
        assert!(error.starts_with(&start), "{error:?}");
        error.ends_with(" is down").then_some(())
    });
}
