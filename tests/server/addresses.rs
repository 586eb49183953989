//! Where a backend is reached: by IPv6, by a unix socket, and by a name. A name may stand for several addresses,
//! IPv6 and IPv4, which are tried in turn within one --connect-timeout. What a name stands for is a machine's own
//! affair, so here the test plays the resolver to a worker of the library; the sockets are real.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::one_worker::OneWorker;
use super::rig::{BlackHole, Nobody, Proxy, ScratchPath, UnixMemcached, stats};
use super::support::inbox::PATIENCE;
use super::support::process::Server;

#[test]
fn ipv6_and_ipv4_are_tried_in_turn_until_one_accepts() {
    let memcached = Server::memcached();
    let there = memcached.address;
    // memcached listens only on 127.0.0.1: at the same port of ::1 nobody does.
    let nobody: SocketAddr = (Ipv6Addr::LOCALHOST, there.port()).into();
    let refusing = Nobody::there();
    for addresses in [&[nobody, there][..], &[there, nobody], &[nobody, refusing.address, there]] {
        let worker = OneWorker::resolving(PATIENCE, addresses);
        let answer = "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n";
        worker.client().exchange("set key 0 0 5\r\nvalue\r\nget key\r\n", answer);
    }
}

#[test]
fn a_backend_at_an_ipv6_address_or_a_unix_socket() {
    let v4 = Server::memcached();
    let v6: SocketAddr = (Ipv6Addr::LOCALHOST, v4.address.port()).into();
    let path = ScratchPath::new("backend");
    let (_v6, _unix) = (Server::memcached_at(v6, &[]), UnixMemcached::start(&path.0));
    let missing = ScratchPath::new("missing");
    for place in [v6.to_string(), format!("unix:{}", path.0.display())] {
        let proxy = Proxy::start(&place, &[]);
        let mut client = proxy.client();
        client
            .exchange("set key 0 0 5\r\nvalue\r\nget key\r\n", "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n");
        assert_eq!(stats(&mut client)[&format!("backend:{place}:state")], "up");
    }
    let place = format!("unix:{}", missing.0.display());
    let error = Proxy::start(&place, &[]).client().ask("get key\r\n");
    assert!(error.starts_with(&format!("SERVER_ERROR backend {place} ")), "{error:?}");
}

/// Without a share for each address the first would take all of the time.
#[test]
fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    let (memcached, hole) = (Server::memcached(), BlackHole::open());
    let worker = OneWorker::resolving(Duration::from_secs(4), &[hole.address, memcached.address]);
    worker.client().exchange("set key 0 0 5\r\nvalue\r\n", "STORED\r\n");
}

#[test]
fn the_last_address_says_why_there_is_no_backend() {
    let refusing = [Nobody::there(), Nobody::there()];
    let worker = OneWorker::resolving(PATIENCE, &refusing.each_ref().map(|nobody| nobody.address));
    let error = worker.client().ask("get key\r\n");
    assert_eq!(error, "SERVER_ERROR backend name:1 connection refused");
}

#[test]
fn a_name_is_resolved_again_before_each_connect() {
    let (memcached, refusing) = (Server::memcached(), Nobody::there());
    let worker = OneWorker::resolving(PATIENCE, &[]);
    let mut client = worker.client();
    assert_eq!(client.ask("get key\r\n"), "SERVER_ERROR backend name:1 name does not resolve");
    worker.resolve_to(&[refusing.address]);
    assert_eq!(client.ask("get key\r\n"), "SERVER_ERROR backend name:1 connection refused");
    worker.resolve_to(&[memcached.address]);
    client.exchange("get key\r\n", "END\r\n");
}
