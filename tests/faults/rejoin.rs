//! How an ejected backend comes back: when, and without what it has missed.

use std::time::{Duration, Instant};

use super::fleet::{Fleet, ejecting, set_until_stored};
use super::rig::{Frozen, Proxy, Talk, eventually, key_of, keys_of, list_of, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::SET;
use super::support::mock::Mock;
use super::support::process::{Server, named_backends};

/// More than this many keys written elsewhere are not told apart: the server is flushed.
const KEYS_KEPT: usize = 10_000;

/// s0 of three holds `keys`, is stopped and ejected.
fn without_s0(memcached: &[&'static str], arguments: &[&str], keys: &[String]) -> (Fleet, Frozen) {
    let fleet = Fleet::with(&[memcached, &[], &[]], arguments);
    store(&mut fleet.proxy.client(), keys, "old");
    let frozen = fleet.freeze(0);
    fleet.until_ejected(0, &keys[0]);
    (fleet, frozen)
}

/// s0 goes on, and is taken back.
#[track_caller]
fn comes_back(fleet: &Fleet, frozen: Frozen) {
    frozen.thaw();
    fleet.until_state(0, "up");
}

/// Returning backends were made to forget so many keys by name, and so often all.
#[track_caller]
fn assert_cleaned(fleet: &Fleet, deletes: u64, flushes: u64) {
    let lines = fleet.stats();
    assert_eq!([stat(&lines, "rejoin_deletes"), stat(&lines, "rejoin_flushes")], [deletes, flushes]);
}

#[track_caller]
fn store(client: &mut Talk, keys: &[String], value: &str) {
    for some in keys.chunks(100) {
        let sets = some.iter().map(|key| format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()));
        client.exchange(sets.collect::<String>(), "STORED\r\n".repeat(some.len()));
    }
}

/// `value` is there under each of `keys`, or nothing.
#[track_caller]
fn check(client: &mut Talk, keys: &[String], value: Option<&str>) {
    for key in keys {
        let answer =
            value.map_or(String::new(), |value| format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len()));
        client.exchange(format!("get {key}\r\n"), answer + "END\r\n");
    }
}

/// A key that cannot stand in a line of text, so that it can be forgotten only with everything else. Written
/// into such a line all the same, it would be a command.
#[track_caller]
fn store_an_odd_key_of_s0(client: &mut Talk) {
    let key = keys_of(0, 3, "odd\r\nset injected 0 0 1\r\nx\r\n", 1).remove(0);
    let set = Frame::request(SET, 1).extras(&[0; 8]).key(key.as_bytes()).value(b"x");
    assert_eq!(client.ask_frame(&set).status, 0);
}

#[test]
fn what_was_written_elsewhere_is_deleted_and_nothing_else() {
    let keys = keys_of(0, 3, "key", 60);
    let (fleet, frozen) = without_s0(&[], &ejecting(&[]), &keys);
    let mut clients = fleet.clients();
    // Written in every way, by both workers.
    let requests = [
        "set K 0 0 3\r\nnew\r\n",
        "ms K 3\r\nnew\r\n",
        "add K 0 0 3 noreply\r\nnew\r\n",
        "delete K\r\n",
        "incr K 1\r\n",
    ];
    for (number, key) in keys[..20].iter().enumerate() {
        let client = &mut clients[number % 4];
        client.send(requests[number % requests.len()].replace('K', key) + "mn\r\n");
        client.until(b"MN\r\n");
    }
    check(&mut clients[0], &keys[20..], None);
    comes_back(&fleet, frozen);
    for client in &mut clients {
        check(client, &keys[..20], None);
        check(client, &keys[20..], Some("old"));
    }
    assert_cleaned(&fleet, 20, 0);
}

/// What the others have stored in its place must not be found when it goes again.
#[test]
fn what_the_others_stored_meanwhile_is_not_found_when_it_goes_again() {
    let keys = keys_of(0, 3, "key", 20);
    let (fleet, frozen) = without_s0(&[], &ejecting(&[]), &keys);
    let mut clients = fleet.clients();
    store(&mut clients[0], &keys, "between");
    comes_back(&fleet, frozen);
    store(&mut clients[1], &keys, "newest");
    let _frozen = fleet.freeze(0);
    fleet.until_ejected(0, &keys[0]);
    check(&mut clients[2], &keys, None);
}

#[test]
fn with_nothing_written_nothing_is_dropped() {
    let keys = keys_of(0, 3, "key", 50);
    let (fleet, frozen) = without_s0(&[], &ejecting(&[]), &keys);
    check(&mut fleet.proxy.client(), &keys, None);
    comes_back(&fleet, frozen);
    check(&mut fleet.proxy.client(), &keys, Some("old"));
    assert_cleaned(&fleet, 0, 0);
}

#[test]
fn more_keys_than_are_kept_are_one_flush() {
    let keys = keys_of(0, 3, "key", KEYS_KEPT + 1);
    let others = keys_of(1, 3, "other", 20);
    let (fleet, frozen) = without_s0(&[], &ejecting(&[]), &keys[..20]);
    let mut clients = fleet.clients();
    store(&mut clients[0], &others, "old");
    // Half by each of two: neither may know all.
    let (some, rest) = keys[20..].split_at(KEYS_KEPT / 2);
    store(&mut clients[0], some, "new");
    store(&mut clients[1], rest, "new");
    store(&mut clients[2], &keys[..10], "new");
    store(&mut clients[3], &keys[10..19], "new");
    store(&mut clients[3], &keys[19..20], "new");
    comes_back(&fleet, frozen);
    check(&mut clients[1], &keys[..20], None);
    check(&mut clients[2], &others, Some("old"));
    assert_cleaned(&fleet, 0, 1);
    assert_eq!(stat(&stats(&mut fleet.direct(0)), "cmd_flush"), 1);
}

#[test]
fn with_rejoin_as_is_it_answers_with_what_is_older() {
    let keys = keys_of(0, 3, "key", 20);
    let (fleet, frozen) = without_s0(&[], &ejecting(&["--rejoin", "as-is"]), &keys);
    store(&mut fleet.proxy.client(), &keys, "new");
    comes_back(&fleet, frozen);
    check(&mut fleet.proxy.client(), &keys, Some("old"));
    assert_cleaned(&fleet, 0, 0);
}

/// Deletes are not refused by `memcached -F`, so that only a flush keeps it out.
#[test]
fn one_that_refuses_the_flush_stays_out_with_one_log_line() {
    let keys = keys_of(0, 3, "key", 20);
    let (fleet, frozen) = without_s0(&["-F"], &ejecting(&[]), &keys);
    let mut client = fleet.proxy.client();
    store(&mut client, &keys, "new");
    store_an_odd_key_of_s0(&mut fleet.proxy.client());
    frozen.thaw();
    let line = fleet.proxy.log_line(&["backend s0 stays out", "flush_all not allowed"]);
    assert!(line.contains("restart it") && line.contains("--rejoin as-is"), "{line}");
    // Several probes later.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(fleet.state(0), "ejected");
    let log = fleet.proxy.stderr();
    assert_eq!(log.lines().filter(|line| line.contains("stays out")).count(), 1, "{log}");
    check(&mut client, &keys, Some("new"));
    assert_eq!(fleet.counter("returns"), 0);
}

/// Restarted, it has nothing to forget but what it never had.
#[test]
fn one_that_comes_back_as_another_process_is_taken_back() {
    let keys = keys_of(0, 3, "key", 20);
    let mut fleet = Fleet::start(3, &ejecting(&[]));
    let mut client = fleet.proxy.client();
    store(&mut client, &keys, "old");
    fleet.kill(0);
    fleet.until_ejected(0, &keys[0]);
    store(&mut client, &keys, "new");
    fleet.start_again(0);
    fleet.until_state(0, "up");
    check(&mut client, &keys, None);
    store(&mut client, &keys, "newest");
    check(&mut fleet.direct(0), &keys, Some("newest"));
}

/// The second return would need a second flush: it waits for its time.
#[test]
fn it_is_flushed_at_most_once_in_each_cas_fence() {
    let keys = keys_of(0, 3, "key", 5);
    let (fleet, frozen) = without_s0(&[], &ejecting(&["--cas-fence", "5s"]), &keys);
    store_an_odd_key_of_s0(&mut fleet.proxy.client());
    let before_the_first = Instant::now();
    comes_back(&fleet, frozen);
    assert_eq!(fleet.counter("rejoin_flushes"), 1);

    store(&mut fleet.proxy.client(), &keys, "old");
    let frozen = fleet.freeze(0);
    fleet.until_ejected(0, &keys[0]);
    store_an_odd_key_of_s0(&mut fleet.proxy.client());
    comes_back(&fleet, frozen);
    let after_the_second = before_the_first.elapsed();
    assert_eq!(fleet.counter("rejoin_flushes"), 2);
    assert!(after_the_second >= Duration::from_secs(5), "flushed again within {after_the_second:?}");
    fleet.proxy.log_line(&["backend s0 does not return yet", "flushed a short while ago"]);
    check(&mut fleet.proxy.client(), &keys, None);
    for member in 0..3 {
        fleet.direct(member).exchange("get injected\r\n", "END\r\n");
    }
}

/// Each time it is ejected it stays out twice as long. What is measured begins before the ejection and ends
/// after the return, so that a slow machine makes it longer.
#[test]
fn one_that_flaps_stays_out_longer_each_time() {
    let arguments = [
        "--threads",
        "2",
        "--timeout",
        "500ms",
        "--failure-limit",
        "1",
        "--retry-interval",
        "400ms",
        "--auto-eject",
    ];
    let fleet = Fleet::start(3, &arguments);
    let key = key_of(0, 3, "key");
    for (turn, least) in [400, 800, 1600, 3200].into_iter().enumerate() {
        let started = Instant::now();
        let frozen = fleet.freeze(0);
        fleet.until_ejected(0, &key);
        frozen.thaw();
        fleet.until_state(0, "up");
        let out = started.elapsed();
        assert!(out >= Duration::from_millis(least), "back after {out:?} when ejected for the {turn}th time");
    }
    assert_eq!(fleet.counter("ejections"), 4);
    assert_eq!(fleet.counter("returns"), 4);
}

/// s0 answers every probe, but does not end the link that was given up: what was written there may still be
/// applied, so it stays out. When that link has ended it returns.
#[test]
fn it_returns_only_when_every_retired_link_has_ended() {
    let (mock, memcached) = (Mock::start(), Server::memcached());
    let arguments = [
        "--threads",
        "1",
        "--timeout",
        "500ms",
        "--failure-limit",
        "1",
        "--retry-interval",
        "100ms",
        "--auto-eject",
    ];
    let proxy = Proxy::start(&named_backends(&[mock.address, memcached.address]), &arguments);
    let key = key_of(0, 2, "key");
    let mut client = proxy.client();
    let request = format!("set {key} 0 0 1\r\nx\r\n");
    client.send(&request);
    let link = mock.expect(request.as_bytes()).expect("the request");
    assert_eq!(client.line(), "SERVER_ERROR backend s0 timed out");
    let state = |client: &mut Talk| stats(client)["backend:s0:state"].clone();
    eventually("s0 is ejected", || (state(&mut client) == "ejected").then_some(()));
    client.exchange(&request, "STORED\r\n");
    // Many probes.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        assert_eq!(state(&mut client), "ejected", "the retired link has not ended");
    }
    link.expect_end().expect("our side was shut down");
    link.close();
    let cleaning =
        mock.expect(format!("delete {key}\r\n").as_bytes()).expect("what it has missed is deleted");
    assert_eq!(state(&mut client), "ejected", "it is not clean yet");
    cleaning.send(b"NOT_FOUND\r\n");
    eventually("s0 returns", || (state(&mut client) == "up").then_some(()));
    mock.nothing_left().expect("no more");
}

/// A write that lies unread in the socket of a frozen memcached is applied when that wakes up, closed or not.
/// It must not survive the cleaning. It happens in half of the tries, so there are several.
#[test]
fn a_write_that_lay_in_a_frozen_servers_socket_does_not_come_back() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(a_late_write);
        }
    });
}

fn a_late_write() {
    let servers = [(); 3].map(|()| Server::memcached());
    let proxy = Proxy::start(&list_of(&servers), &ejecting(&[]));
    let keys = keys_of(0, 3, "key", 8);
    let mut clients = [(); 8].map(|()| proxy.client());
    store(&mut clients[0], &keys, "oldest");
    let frozen = Frozen::freeze(servers[0].id());
    for (client, key) in clients.iter_mut().zip(&keys) {
        client.send(format!("set {key} 0 0 4\r\nlate\r\n"));
    }
    for client in &mut clients {
        let error = client.line();
        assert!(error.starts_with("SERVER_ERROR backend s0 "), "{error:?}");
    }
    for key in &keys {
        set_until_stored(&mut clients[1], key, "new");
    }
    frozen.thaw();
    eventually("s0 returns", || (stats(&mut clients[0])["backend:s0:state"] == "up").then_some(()));
    check(&mut clients[2], &keys, None);
    check(&mut Talk::tcp(servers[0].address), &keys, None);
}
