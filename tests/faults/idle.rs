//! A link that nothing is in flight on may end at any time, and no client is told.

use super::fleet::Fleet;
use super::rig::{Talk, eventually, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, SET};

const PATIENT: [&str; 4] = ["--threads", "2", "--failure-limit", "1"];

/// Uses both kinds of link of both workers; the answers must be those of a memcached that is there.
#[track_caller]
fn use_every_link(clients: &mut [Talk; 4], fleet: &Fleet, round: u32) {
    for (number, client) in clients.iter_mut().enumerate() {
        let value = format!("{round}:{number}");
        let size = value.len();
        client.exchange(format!("set key 0 0 {size}\r\n{value}\r\n"), "STORED\r\n");
        client.exchange("get key\r\n", format!("VALUE key 0 {size}\r\n{value}\r\nEND\r\n"));
        client.exchange("mg key v\r\n", format!("VA {size}\r\n{value}\r\n"));
    }
    let mut binary = [(); 4].map(|()| fleet.proxy.client());
    for client in &mut binary {
        let set = Frame::request(SET, round).extras(&[0; 8]).key(b"binary").value(b"x");
        assert_eq!(client.ask_frame(&set).status, 0);
        assert_eq!(client.ask_frame(&Frame::request(GET, round).key(b"binary")).value, b"x");
    }
}

/// memcached itself ends a connection that is idle for a second.
#[test]
fn an_idle_link_that_the_backend_has_closed_costs_no_client_an_error() {
    let fleet = Fleet::with(&[&["-o", "idle_timeout=1"]], &PATIENT);
    let mut clients = fleet.clients();
    for round in 0..2 {
        use_every_link(&mut clients, &fleet, round);
        eventually("every link is closed", || {
            // The connection that asks is the only one that it counts.
            let lines = stats(&mut fleet.direct(0));
            (stat(&lines, "curr_connections") == 1).then_some(())
        });
    }
    use_every_link(&mut clients, &fleet, 2);
    let lines = fleet.stats();
    assert_eq!([stat(&lines, "backend_errors"), stat(&lines, "backend:s0:errors")], [0, 0]);
    assert_eq!(stat(&lines, "backend_restarts"), 0, "it is the same process");
}

/// So does one that was killed and is there again before anybody asks.
#[test]
fn a_backend_that_was_restarted_while_nobody_asked_costs_no_client_an_error() {
    let mut fleet = Fleet::start(1, &PATIENT);
    let mut clients = fleet.clients();
    for round in 0..3 {
        use_every_link(&mut clients, &fleet, round);
        fleet.kill(0);
        fleet.start_again(0);
    }
    use_every_link(&mut clients, &fleet, 3);
    assert_eq!(fleet.counter("backend_errors"), 0);
}
