//! Backends that are away at the same time, or go while another one returns.

use super::fleet::{Fleet, ejecting, set_until_stored};
use super::rig::{Proxy, Talk, eventually, stats};
use super::support::mock::Mock;
use super::support::process::{Server, named_backends};

use mcproxy::placement::{Placement, Server as PlacedServer};

/// A key of s0 that s1 owns while s0 is away, and s2 while both are.
fn key_by_way_of_s1() -> String {
    let server = |index| PlacedServer::named(format!("s{index}"), 1);
    let servers: Vec<PlacedServer> = (0..3).map(server).collect();
    let home = Placement::rendezvous(&servers);
    let without = home.without(&[true, false, false]);
    let mut keys = (0..).map(|number| format!("key{number}"));
    let is_so = |key: &String| home.owner(key.as_bytes()) == 0 && without.owner(key.as_bytes()) == 1;
    keys.find(is_so).expect("there are enough")
}

#[track_caller]
fn get(client: &mut Talk, key: &str) -> Option<String> {
    match client.ask(format!("get {key}\r\n")) {
        line if line == "END" => None,
        line => {
            assert!(line.starts_with("VALUE "), "{line:?}");
            let value = client.line();
            client.expect("END\r\n");
            Some(value)
        }
    }
}

/// s0 is away, and s1 has the key in its place; then s1 is away too, and s2 takes a newer value. When s1 is back,
/// it must not answer with the older one.
#[test]
fn one_that_stood_in_for_another_forgets_what_it_has_missed_of_that_ones_keys() {
    let fleet = Fleet::start(3, &ejecting(&[]));
    let (key, mut client) = (key_by_way_of_s1(), fleet.proxy.client());
    let _s0 = fleet.freeze(0);
    fleet.until_ejected(0, &key);
    set_until_stored(&mut client, &key, "older, on s1");
    let s1 = fleet.freeze(1);
    fleet.until_ejected(1, &key);
    set_until_stored(&mut client, &key, "newer, on s2");
    s1.thaw();
    fleet.until_state(1, "up");
    let seen = get(&mut client, &key);
    assert_ne!(seen.as_deref(), Some("older, on s1"), "\"newer, on s2\" was acknowledged after that");
}

/// s2 has had the key while s0 and s1 were away, and is not asked for it again before both are away another time.
/// What it has is older then than what s1 and s0 have had.
#[test]
fn every_one_that_stood_in_for_another_forgets_it() {
    let fleet = Fleet::start(3, &ejecting(&[]));
    let (key, mut client) = (key_by_way_of_s1(), fleet.proxy.client());
    let s0 = fleet.freeze(0);
    fleet.until_ejected(0, &key);
    let s1 = fleet.freeze(1);
    fleet.until_ejected(1, &key);
    set_until_stored(&mut client, &key, "oldest, on s2");
    s1.thaw();
    fleet.until_state(1, "up");
    set_until_stored(&mut client, &key, "newer, on s1");
    s0.thaw();
    fleet.until_state(0, "up");
    set_until_stored(&mut client, &key, "newest, on s0");
    let _s0 = fleet.freeze(0);
    fleet.until_ejected(0, &key);
    let _s1 = fleet.freeze(1);
    fleet.until_ejected(1, &key);
    assert_eq!(get(&mut client, &key), None);
}

/// It dies once more in the moment of its return. That is no refusal: when it is there again it is taken back
/// soon, and not only after --cas-fence, which is ten minutes.
#[test]
fn one_that_goes_again_while_it_is_cleaned_is_taken_back_when_it_answers() {
    let (mock, memcached) = (Mock::start(), Server::memcached());
    let proxy = Proxy::start(&named_backends(&[mock.address, memcached.address]), &ejecting(&[]));
    let key = super::rig::key_of(0, 2, "key");
    let mut client = proxy.client();
    let (request, delete) = (format!("set {key} 0 0 1\r\nx\r\n"), format!("delete {key}\r\n"));
    client.send(&request);
    let link = mock.expect(request.as_bytes()).expect("the request");
    assert_eq!(client.line(), "SERVER_ERROR backend s0 timed out");
    // A set before that would reach the mock on another link.
    eventually("s0 is ejected", || (stats(&mut client)["backend:s0:state"] == "ejected").then_some(()));
    set_until_stored(&mut client, &key, "x");
    link.expect_end().expect("our side was shut down");
    link.close();
    let cleaning = mock.expect(delete.as_bytes()).expect("what it has missed is deleted");
    cleaning.close();
    let again = mock.expect(delete.as_bytes()).expect("it is tried again");
    again.send(b"NOT_FOUND\r\n");
    eventually("s0 returns", || (stats(&mut client)["backend:s0:state"] == "up").then_some(()));
}

/// s0 returns when s1, which stood in for it, has just gone. That s1 does not answer is not s0's fault.
#[test]
fn one_returns_although_the_one_that_stood_in_for_it_has_gone() {
    let mut fleet = Fleet::start(2, &ejecting(&[]));
    let (key, mut client) = (super::rig::key_of(0, 2, "key"), fleet.proxy.client());
    let s0 = fleet.freeze(0);
    fleet.until_ejected(0, &key);
    set_until_stored(&mut client, &key, "on s1");
    fleet.kill(1);
    s0.thaw();
    fleet.until_state(0, "up");
}

/// The same, and s1 comes back with what it had in s0's place. When it stands in again, it must not have that any
/// more.
#[test]
fn one_that_was_down_when_another_returned_forgets_when_it_returns_itself() {
    let fleet = Fleet::start(2, &ejecting(&[]));
    let (key, mut client) = (super::rig::key_of(0, 2, "key"), fleet.proxy.client());
    let s0 = fleet.freeze(0);
    fleet.until_ejected(0, &key);
    set_until_stored(&mut client, &key, "older, on s1");
    let s1 = fleet.freeze(1);
    let state_of_s1 = |client: &mut Talk| stats(client)["backend:s1:state"].clone();
    eventually("s1 is down", || {
        client.ask(format!("get {key}\r\n"));
        (state_of_s1(&mut client) == "down").then_some(())
    });
    s0.thaw();
    fleet.until_state(0, "up");
    set_until_stored(&mut client, &key, "newer, on s0");
    fleet.until_state(1, "ejected");
    s1.thaw();
    fleet.until_state(1, "up");
    let _s0 = fleet.freeze(0);
    fleet.until_ejected(0, &key);
    assert_eq!(get(&mut client, &key), None);
}

/// More links were given up than are kept track of; then all of them end, and the process is the same. Nothing
/// is under way to it any more.
#[test]
fn one_of_which_many_links_were_given_up_is_taken_back_when_they_have_ended() {
    let (mock, memcached) = (Mock::start(), Server::memcached());
    let arguments = ["--threads", "1", "--timeout", "100ms", "--failure-limit", "25", "--auto-eject"];
    let proxy = Proxy::start(&named_backends(&[mock.address, memcached.address]), &arguments);
    let key = super::rig::key_of(0, 2, "key");
    let mut client = proxy.client();
    eventually("s0 is ejected", || {
        // A read, so that there is nothing to be forgotten.
        client.ask(format!("get {key}\r\n"));
        (stats(&mut client)["backend:s0:state"] == "ejected").then_some(())
    });
    let given_up = super::rig::stat(&stats(&mut client), "retired_links");
    assert_eq!(given_up, 8, "as many as are kept track of");
    mock.end_links();
    eventually("s0 returns", || (stats(&mut client)["backend:s0:state"] == "up").then_some(()));
}
