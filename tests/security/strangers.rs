//! Other protocols at the port: browsers, scanners, TLS.

use super::support::client::Client;
use super::support::inbox::End;
use super::support::process::{Server, named_backends};
use super::support::report::escape;

/// A browser can be made to send the third of these: its body must not be carried out.
const STRANGERS: [&[u8]; 12] = [
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:11211\r\nUser-Agent: x\r\n\r\n",
    b"GET /flush_all HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\n\r\nset injected 0 0 1\r\nx\r\nflush_all\r\n",
    b"HEAD / HTTP/1.1\r\n\r\nset injected 0 0 1\r\nx\r\n",
    b"PUT /get HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nset injected 0 0 1\r\nx\r\n",
    b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n",
    b"SSH-2.0-scanner\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\x81\x01\x00\x03\x08\x00\x00\x00\x00\x00\x00\x0bopaque..casvalue",
];

/// What it is told, and how that ends; still open is `None`.
fn told(server: &Server, input: &[u8]) -> (Vec<u8>, Option<End>) {
    let client = Client::connect(server.address);
    client.send(input);
    // If the connection is open still, this ends it; what it was by then is in the answer.
    client.send(b"\r\nmn\r\n");
    let taken = client.inbox.take_when(super::support::inbox::PATIENCE, |bytes, end| {
        (end.is_some() || bytes.ends_with(b"MN\r\n")).then_some(bytes.len())
    });
    let bytes = taken.unwrap_or_else(|short| panic!("{}: {short}", escape(input)));
    let open = bytes.ends_with(b"MN\r\n");
    // A close with bytes unread is a reset: which of the two is a matter of time.
    (bytes, (!open).then_some(End::Closed))
}

#[test]
fn strangers_are_told_and_closed_as_memcached_does() {
    let (memcached, single) = (Server::memcached(), Server::memcached());
    let proxy = Server::mcproxy(&named_backends(&[memcached.address]), &["--threads", "2"]);
    for stranger in STRANGERS {
        let [expected, got] = [&single, &proxy].map(|server| told(server, stranger));
        assert_eq!(got, expected, "{}", escape(stranger));
    }
    for server in [&memcached, &single] {
        let (answer, _) = told(server, b"get injected");
        assert!(answer.starts_with(b"END\r\n"), "{}", escape(&answer));
    }
}

#[test]
fn a_request_for_a_web_page_is_closed_without_a_word() {
    let memcached = Server::memcached();
    let proxy = Server::mcproxy(&named_backends(&[memcached.address]), &[]);
    for verb in ["GET", "POST"] {
        let client = Client::connect(proxy.address);
        client.send(format!("{verb} / HTTP/1.1\r\n\r\n").as_bytes());
        client.expect_end().expect("closed");
    }
}
