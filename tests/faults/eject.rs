//! `--auto-eject`: who owns the keys of a backend that is down, and which CAS tokens still mean something.

use mcproxy::placement::{Placement, Server as PlacedServer};

use super::compares::Compares;
use super::fleet::{Fleet, ejecting, gets, set_until_stored, wind_up};
use super::rig::{Talk, eventually, key_of, keys_of, stat};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, SET};
use super::support::binary::status::EXISTS;

/// The token that client 1 holds: large enough that every server can be brought to hand it out next.
const OLD: u64 = 40;

/// Client 1 has read v0 from A; A is stopped and ejected; client 2's v1 is acknowledged by B, which has
/// handed out the same token for it; A returns. Client 1's token is taken by nobody, however it is sent.
fn the_lost_update(rejoin: &'static str) {
    let fleet = Fleet::start(3, &ejecting(&["--rejoin", rejoin]));
    let compares = Compares::new();
    let (key, other) = (key_of(0, 3, "key"), key_of(0, 3, "other"));
    let owner = owner_without_s0(&key);
    let mut clients = fleet.clients();

    wind_up(&mut fleet.direct(0), OLD);
    clients[0].exchange(format!("set {key} 0 0 2\r\n10\r\n"), "STORED\r\n");
    check_readers(&fleet, &mut clients, &key, OLD);
    wind_up(&mut fleet.direct(owner), OLD);

    let frozen = fleet.freeze(0);
    // By reads: a write to A that is answered with an error may still be applied when it goes on.
    fleet.until_ejected(0, &other);
    set_until_stored(&mut clients[1], &key, "11");
    let at_b = gets(&mut fleet.direct(owner), &key);
    assert_eq!(at_b, Some(("11".to_owned(), OLD)), "B would take the old token, so that it is worth trying");
    compares.are_refused(&mut || fleet.proxy.client(), &key, OLD);
    assert_eq!(gets(&mut fleet.direct(owner), &key), at_b);
    wins_honestly(&mut clients, &other, None);
    wins_honestly(&mut clients, &other, Some("99"));

    frozen.thaw();
    fleet.until_state(0, "up");
    let at_a = gets(&mut fleet.direct(0), &key);
    match rejoin {
        "as-is" => assert_eq!(at_a, Some(("10".to_owned(), OLD)), "A would take the old token"),
        _ => assert_eq!(at_a, None, "A has been made to forget what it has missed"),
    }
    compares.are_refused(&mut || fleet.proxy.client(), &key, OLD);
    assert_eq!(gets(&mut fleet.direct(0), &key), at_a);
    wins_honestly(&mut clients, &key, at_a.as_ref().map(|(value, _)| &value[..]));
    wins_honestly(&mut clients, &key, Some("99"));

    let lines = fleet.stats();
    for (name, value) in [("ejections", 1), ("returns", 1), ("cas_fences", 2), ("cas_fences_standing", 2)] {
        assert_eq!(stat(&lines, name), value, "{name}");
    }
    assert!(stat(&lines, "cas_fenced") > 0);
}

#[test]
fn a_token_of_the_old_owner_is_never_taken() {
    the_lost_update("flush");
}

#[test]
fn a_token_of_the_old_owner_is_never_taken_when_it_returns_as_is() {
    the_lost_update("as-is");
}

/// All three protocols read the same token, on every connection.
#[track_caller]
fn check_readers(fleet: &Fleet, clients: &mut [Talk], key: &str, token: u64) {
    for client in clients {
        assert_eq!(gets(client, key).map(|(_, token)| token), Some(token));
        client.exchange(format!("mg {key} c\r\n"), format!("HD c{token}\r\n"));
    }
    let reply = fleet.proxy.client().ask_frame(&Frame::request(GET, 1).key(key.as_bytes()));
    assert_eq!(reply.cas, token);
}

/// Reads on one connection and swaps on another, as gomemcache does with its pool, in every protocol; `value`
/// is what is there, and 99 is afterwards.
#[track_caller]
fn wins_honestly(clients: &mut [Talk; 4], key: &str, value: Option<&str>) {
    let Some(value) = value else {
        assert_eq!(gets(&mut clients[0], key), None);
        return clients[1].exchange(format!("add {key} 0 0 2\r\n99\r\n"), "STORED\r\n");
    };
    for reader in 0..4 {
        let swapper = (reader + 1) % 4;
        let (seen, token) = gets(&mut clients[reader], key).expect("it is there");
        assert_eq!(seen, if reader == 0 { value } else { "99" });
        clients[swapper].exchange(format!("cas {key} 0 0 2 {token}\r\n99\r\n"), "STORED\r\n");
        let line = clients[reader].ask(format!("mg {key} c\r\n"));
        let token = line.strip_prefix("HD c").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        clients[swapper].exchange(format!("ms {key} 2 C{token}\r\n99\r\n"), "HD\r\n");
        // A token that is used up is EXISTS by the server's own word.
        clients[reader].exchange(format!("ms {key} 2 C{token}\r\n99\r\n"), "EX\r\n");
    }
}

/// Binary answers all bear a token: the one that a `set` gives back can be used at once.
#[test]
fn a_token_that_a_binary_set_has_handed_out_under_a_fence_is_taken_on_another_connection() {
    let mut fleet = Fleet::start(3, &ejecting(&[]));
    let key = key_of(0, 3, "key");
    fleet.kill(0);
    fleet.until_ejected(0, &key);
    let mut clients = [fleet.proxy.client(), fleet.proxy.client(), fleet.proxy.client()];
    let set =
        |cas, value: &[u8]| Frame::request(SET, 1).extras(&[0; 8]).key(key.as_bytes()).value(value).cas(cas);
    let mut token = clients[0].ask_frame(&set(0, b"0")).cas;
    for round in 0..6 {
        let reply = clients[round % 3].ask_frame(&set(token, b"1"));
        assert_eq!((reply.status, reply.cas == token), (0, false), "{reply}");
        let stale = clients[(round + 1) % 3].ask_frame(&set(token, b"2"));
        assert_eq!(stale.status, EXISTS, "{stale}");
        token = reply.cas;
    }
    let read = clients[2].ask_frame(&Frame::request(GET, 9).key(key.as_bytes()));
    assert_eq!((&read.value[..], read.cas), (&b"1"[..], token));
}

#[test]
fn an_ejected_backends_keys_go_to_the_others_and_only_they() {
    let mut fleet = Fleet::start(3, &ejecting(&[]));
    let keys: Vec<Vec<String>> = (0..3).map(|owner| keys_of(owner, 3, "key", 40)).collect();
    let mut clients = fleet.clients();
    for (number, key) in keys.iter().flatten().enumerate() {
        clients[number % 4].exchange(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    fleet.kill(0);
    fleet.until_ejected(0, &keys[0][0]);
    // Keys of the others have not moved: what was stored is still there.
    for (number, key) in keys[1..].iter().flatten().enumerate() {
        clients[number % 4].exchange(format!("get {key}\r\n"), format!("VALUE {key} 0 1\r\nx\r\nEND\r\n"));
    }
    for (number, key) in keys[0].iter().enumerate() {
        clients[number % 4].exchange(format!("get {key}\r\n"), "END\r\n");
        clients[(number + 1) % 4].exchange(format!("set {key} 0 0 1\r\ny\r\n"), "STORED\r\n");
        let (wanted, not) = (owner_without_s0(key), 3 - owner_without_s0(key));
        fleet.direct(wanted).exchange(format!("get {key}\r\n"), format!("VALUE {key} 0 1\r\ny\r\nEND\r\n"));
        fleet.direct(not).exchange(format!("get {key}\r\n"), "END\r\n");
    }
    let shares = [1, 2].map(|owner| keys[0].iter().filter(|key| owner_without_s0(key) == owner).count());
    assert!(shares.iter().all(|&share| share > 0), "one has taken all: {shares:?}");
    fleet.start_again(0);
    fleet.until_state(0, "up");
    clients[0].exchange(format!("set {} 0 0 1\r\nz\r\n", keys[0][0]), "STORED\r\n");
    fleet
        .direct(0)
        .exchange(format!("get {}\r\n", keys[0][0]), format!("VALUE {} 0 1\r\nz\r\nEND\r\n", keys[0][0]));
}

/// Both are gone: one is ejected, and the other stays in its place, down. Then both come back.
#[test]
fn the_last_backend_that_serves_is_never_ejected() {
    let mut fleet = Fleet::start(2, &ejecting(&[]));
    let keys = [key_of(0, 2, "key"), key_of(1, 2, "key")];
    let mut client = fleet.proxy.client();
    fleet.kill(0);
    fleet.until_ejected(0, &keys[0]);
    fleet.kill(1);
    eventually("s1 is down", || {
        client.ask(format!("touch {} 0\r\n", keys[1]));
        (fleet.state(1) == "down").then_some(())
    });
    for _ in 0..20 {
        for key in &keys {
            let error = client.ask(format!("set {key} 0 0 1\r\nx\r\n"));
            assert!(error.starts_with("SERVER_ERROR backend s1 "), "{error:?}");
        }
    }
    assert_eq!([fleet.state(0), fleet.state(1)], ["ejected", "down"]);
    assert_eq!(fleet.counter("ejections"), 1);
    fleet.start_again(1);
    fleet.until_state(1, "up");
    set_until_stored(&mut client, &keys[0], "on s1");
    fleet.start_again(0);
    fleet.until_state(0, "up");
    for key in &keys {
        set_until_stored(&mut client, key, "again");
    }
    fleet
        .direct(0)
        .exchange(format!("get {}\r\n", keys[0]), format!("VALUE {} 0 5\r\nagain\r\nEND\r\n", keys[0]));
}

/// `flush_all` goes to those that serve; the one that does not forgets everything when it returns.
#[test]
fn flush_all_reaches_an_ejected_backend_when_it_returns() {
    let fleet = Fleet::start(3, &ejecting(&[]));
    let keys: Vec<String> = (0..3).map(|owner| key_of(owner, 3, "key")).collect();
    let mut client = fleet.proxy.client();
    for key in &keys {
        client.exchange(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    let frozen = fleet.freeze(0);
    fleet.until_ejected(0, &keys[0]);
    client.exchange("flush_all\r\n", "OK\r\n");
    frozen.thaw();
    fleet.until_state(0, "up");
    client.exchange(format!("get {}\r\n", keys.join(" ")), "END\r\n");
    assert_eq!(fleet.counter("rejoin_flushes"), 1);
}

/// Who of three owns a key of s0 while that is away, by the contract of the placement.
fn owner_without_s0(key: &str) -> usize {
    static WITHOUT: std::sync::OnceLock<Placement> = std::sync::OnceLock::new();
    let server = |index| PlacedServer::named(format!("s{index}"), 1);
    let servers: Vec<PlacedServer> = (1..3).map(server).collect();
    // As if there had never been an s0.
    WITHOUT.get_or_init(|| Placement::rendezvous(&servers)).owner(key.as_bytes()) + 1
}
