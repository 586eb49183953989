//! SIGTERM and SIGINT: no new clients, answers to what is in flight, then the end with status 0.

use std::net::TcpStream;

use super::rig::{Frozen, Proxy, Talk, eventually, list_of, stat, stats, three_memcacheds};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, NOOP};
use super::support::inbox::PATIENCE;
use super::support::process::Server;

#[test]
fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    finishes_what_is_in_flight("TERM");
}

#[test]
fn sigint_finishes_what_is_in_flight_and_exits_0() {
    finishes_what_is_in_flight("INT");
}

/// Nothing but the backend's answers ends the wait here: both times are an hour.
fn finishes_what_is_in_flight(signal: &str) {
    let server = Server::memcached();
    let limits = ["--timeout", "1h", "--drain-timeout", "1h", "--threads", "2"];
    let mut proxy = Proxy::start(&format!("{}@s0", server.address), &limits);
    let mut direct = Talk::tcp(server.address);
    direct.exchange("set key 0 0 5\r\nvalue\r\n", "STORED\r\n");
    let (mut fresh, mut idle, mut half) = (proxy.client(), proxy.client(), proxy.client());
    idle.exchange("get key\r\n", "VALUE key 0 5\r\nvalue\r\nEND\r\n");
    half.exchange("mn\r\n", "MN\r\n");
    half.send("set half 0 0 10\r\nabc");
    let (mut text, mut binary) = (proxy.client(), proxy.client());
    // Served before, so that what they send next is in the hands of a worker that knows them.
    text.exchange("mn\r\n", "MN\r\n");
    assert_eq!(binary.ask_frame(&Frame::request(NOOP, 1)).status, 0);
    let frozen = Frozen::freeze(server.id());
    text.send("get key\r\nset other 0 0 1\r\nx\r\nget key other\r\nset quiet 0 0 1 noreply\r\ny\r\nmn\r\n");
    binary.send(Frame::request(GET, 2).key(b"key").bytes());
    // One of them before the freeze.
    wait_until_asked(&proxy, 6);

    proxy.signal(signal);
    proxy.log_line(&[&format!("SIG{signal}")]);
    eventually("nobody listens any more", || TcpStream::connect(proxy.address()).err());
    for client in [&mut fresh, &mut idle, &mut half] {
        client.expect_closed();
    }
    assert!(text.is_silent() && binary.is_silent(), "a client in flight was not waited for");
    frozen.thaw();
    let value = "VALUE key 0 5\r\nvalue\r\n";
    text.expect(format!("{value}END\r\nSTORED\r\n{value}VALUE other 0 1\r\nx\r\nEND\r\nMN\r\n"));
    let reply = binary.frame();
    assert_eq!((reply.opaque, &reply.value[..]), (2, &b"value"[..]));
    text.expect_closed();
    binary.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    direct.exchange("get quiet half\r\n", "VALUE quiet 0 1\r\ny\r\nEND\r\n");
}

/// The proxy has taken so many requests for s0.
fn wait_until_asked(proxy: &Proxy, requests: u64) {
    let mut client = proxy.client();
    eventually("the requests are on their way", || {
        (stat(&stats(&mut client), "backend:s0:requests") >= requests).then_some(())
    });
}

#[test]
fn with_a_backend_that_never_answers_it_ends_within_the_drain_timeout() {
    let server = Server::memcached();
    let limits = ["--timeout", "1h", "--drain-timeout", "500ms"];
    let mut proxy = Proxy::start(&format!("{}@s0", server.address), &limits);
    let _frozen = Frozen::freeze(server.id());
    let mut client = proxy.client();
    client.send("get key\r\n");
    wait_until_asked(&proxy, 1);
    proxy.signal("TERM");
    client.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

/// 10 MB for a client that does not read them.
#[test]
fn with_a_client_that_never_reads_it_ends_within_the_drain_timeout() {
    let server = Server::memcached();
    let mut proxy = Proxy::start(&format!("{}@s0", server.address), &["--drain-timeout", "500ms"]);
    let mut client = Talk::with_little_room(proxy.address());
    let value = vec![b'v'; 100_000];
    client.exchange([&b"set key 0 0 100000\r\n"[..], &value, b"\r\n"].concat(), "STORED\r\n");
    client.send("get key\r\n".repeat(100));
    // What comes first shows that the requests have arrived.
    client.expect("VALUE key 0 100000\r\n");
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

#[test]
fn what_times_out_while_it_ends_still_gets_its_error() {
    let server = Server::memcached();
    let limits = ["--timeout", "500ms", "--drain-timeout", "1h"];
    let mut proxy = Proxy::start(&format!("{}@s0", server.address), &limits);
    let _frozen = Frozen::freeze(server.id());
    let mut client = proxy.client();
    client.exchange("mn\r\n", "MN\r\n");
    client.send("get key\r\n");
    proxy.signal("TERM");
    let rest = String::from_utf8(client.rest()).expect("text");
    // The signal may overtake the request; then it was not in flight.
    assert!(rest.is_empty() || rest == "SERVER_ERROR backend s0 timed out\r\n", "{rest:?}");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

#[test]
fn without_clients_it_ends_at_once() {
    let servers = three_memcacheds();
    for signal in ["TERM", "INT"] {
        let mut proxy = Proxy::start(&list_of(&servers), &["--drain-timeout", "1h"]);
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    }
}

/// 10 MB for a client that begins to read when the signal has come.
#[test]
fn a_large_answer_that_is_on_its_way_arrives_whole() {
    let servers = three_memcacheds();
    let mut proxy = Proxy::start(&list_of(&servers), &["--drain-timeout", "1h", "--threads", "1"]);
    let (mut request, mut answer) = ("get".to_owned(), Vec::new());
    let mut filler = proxy.client();
    for number in 0..100_u8 {
        let (key, value) = (format!("key{number}"), vec![number; 100_000]);
        filler.send([format!("set {key} 0 0 100000\r\n").as_bytes(), &value, b"\r\n"].concat());
        filler.expect("STORED\r\n");
        request += &format!(" {key}");
        answer.extend([format!("VALUE {key} 0 100000\r\n").as_bytes(), &value, b"\r\n"].concat());
    }
    drop(filler);
    answer.extend_from_slice(b"END\r\n");
    let mut slow = Talk::with_little_room(proxy.address());
    slow.send(request + "\r\n");
    slow.expect(&answer[..1000]);
    proxy.signal("TERM");
    eventually("nobody listens any more", || TcpStream::connect_timeout(&proxy.address(), PATIENCE).err());
    slow.expect(&answer[1000..]);
    slow.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}
