//! A memcached that was restarted issues the same CAS tokens again. With `--auto-eject` or without, a token
//! of the process before is not taken.

use std::sync::Arc;

use super::compares::Compares;
use super::fleet::{Fleet, gets, set_until_stored, wind_up};
use super::rig::{Proxy, eventually, key_of, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::{APPEND, GET};
use super::support::mock::{LineServer, Manner, Mock, Served};

const TOKEN: u64 = 40;

/// Two workers. Nothing is frozen here, so no time has to pass: a refused connect is what tells.
const QUICK: [&str; 8] =
    ["--threads", "2", "--timeout", "20s", "--failure-limit", "1", "--retry-interval", "100ms"];

/// One memcached, whose process is another one now, and which has handed out `TOKEN` for `key` both times.
fn restarted(arguments: &[&str], key: &str) -> Fleet {
    let mut fleet = Fleet::start(1, arguments);
    let mut clients = fleet.clients();
    wind_up(&mut fleet.direct(0), TOKEN);
    clients[0].exchange(format!("set {key} 0 0 2\r\n10\r\n"), "STORED\r\n");
    for client in &mut clients {
        assert_eq!(gets(client, key).map(|(_, token)| token), Some(TOKEN));
    }
    // So that each worker has a link of each kind.
    for _ in 0..4 {
        assert_eq!(fleet.proxy.client().ask_frame(&Frame::request(GET, 1).key(key.as_bytes())).cas, TOKEN);
    }
    fleet.kill(0);
    fleet.start_again(0);
    wind_up(&mut fleet.direct(0), TOKEN);
    set_until_stored(&mut clients[1], key, "11");
    assert_eq!(
        gets(&mut fleet.direct(0), key),
        Some(("11".to_owned(), TOKEN)),
        "it would take the old token"
    );
    fleet
}

#[test]
fn a_token_of_the_process_before_is_never_taken() {
    let fleet = restarted(&QUICK, "key");
    Compares::new().are_refused(&mut || fleet.proxy.client(), "key", TOKEN);
    assert_eq!(gets(&mut fleet.direct(0), "key"), Some(("11".to_owned(), TOKEN)));
    let lines = fleet.stats();
    assert_eq!([stat(&lines, "backend_restarts"), stat(&lines, "cas_fences")], [1, 1]);
    fleet.proxy.log_line(&["backend s0 has restarted", "CAS tokens"]);
    // What compares nothing is not concerned.
    let mut clients = fleet.clients();
    clients[0].exchange("incr key 5\r\n", "16\r\n");
    clients[1].exchange("append key 0 0 1\r\n0\r\n", "STORED\r\n");
    clients[2].exchange("ma key N0 D1\r\n", "HD\r\n");
    let append = Frame::request(APPEND, 1).key(b"key").value(b"7");
    assert_eq!(fleet.proxy.client().ask_frame(&append).status, 0);
    clients[3].exchange("get key\r\n", "VALUE key 0 4\r\n1617\r\nEND\r\n");
    // A token read since then is, whoever has read it.
    for reader in 0..4 {
        let (_, token) = gets(&mut clients[reader], "key").expect("it is there");
        clients[(reader + 1) % 4].exchange(format!("cas key 0 0 2 {token}\r\n20\r\n"), "STORED\r\n");
    }
}

/// After `--cas-fence` nobody holds a token from before any more, and what the server says counts again: here
/// of a token that it has handed out past the proxy.
#[test]
fn the_fence_ends() {
    let arguments = [&QUICK[..], &["--cas-fence", "1s"]].concat();
    let fleet = restarted(&arguments, "key");
    eventually("the fence ends", || (fleet.counter("cas_fences_standing") == 0).then_some(()));
    // Each worker learns of it by itself.
    for client in &mut fleet.clients() {
        eventually("the token is forwarded", || {
            let (_, token) = gets(&mut fleet.direct(0), "key").expect("it is there");
            let answer = client.ask(format!("cas key 0 0 2 {token}\r\n12\r\n"));
            assert!(["STORED", "EXISTS"].contains(&&answer[..]), "{answer:?}");
            (answer == "STORED").then_some(())
        });
    }
}

/// Clients that go on while it happens: what was read before is never stored, whenever it comes.
#[test]
fn a_token_that_comes_in_the_moment_of_the_restart_is_not_taken_either() {
    let mut fleet = Fleet::start(1, &QUICK);
    for round in 0..4 {
        let key = format!("key{round}");
        let mut clients = fleet.clients();
        set_until_stored(&mut clients[0], &key, "10");
        let tokens = clients.each_mut().map(|client| {
            eventually("it is read", || {
                client.send(format!("gets {key}\r\nmn\r\n"));
                let answer = String::from_utf8(client.until(b"MN\r\n")).expect("text");
                answer.split([' ', '\r']).nth(4)?.parse::<u64>().ok()
            })
        });
        fleet.kill(0);
        fleet.start_again(0);
        // The new process has an item whose token is the very next that was read.
        let mut direct = fleet.direct(0);
        if tokens[0] > 1 {
            wind_up(&mut direct, tokens[0]);
        }
        direct.exchange(format!("set {key} 0 0 2\r\n11\r\n"), "STORED\r\n");
        assert_eq!(gets(&mut direct, &key), Some(("11".to_owned(), tokens[0])));
        for (client, token) in clients.iter_mut().zip(tokens) {
            for _ in 0..3 {
                let answer = client.ask(format!("cas {key} 0 0 2 {token}\r\n99\r\n"));
                assert!(answer == "EXISTS" || answer.starts_with("SERVER_ERROR backend s0 "), "{answer:?}");
            }
        }
        assert_eq!(gets(&mut direct, &key).map(|(value, _)| value).as_deref(), Some("11"));
    }
}

/// One that does not say its pid and its times may be another process whenever a link to it was lost.
#[test]
fn a_server_that_does_not_say_who_it_is_counts_as_restarted_after_a_lost_link() {
    let lines: LineServer = Arc::new(|line: &[u8]| {
        let answer: &[u8] = match line.split(|&byte| byte == b' ').next() {
            Some(b"gets") => b"VALUE key 0 1 7\r\nx\r\nEND\r\n",
            Some(b"cas") => b"",
            Some(b"y") => b"STORED\r\n",
            _ => b"ERROR\r\n",
        };
        Served::Answer(answer.to_vec())
    });
    let mock = Mock::with(Manner { nameless: true, lines: Some(lines), ..Manner::default() });
    let proxy = Proxy::start(&named(&mock), &QUICK);
    let cas = "cas key 0 0 1 7\r\ny\r\n";
    let mut clients = [(); 4].map(|()| proxy.client());
    for client in &mut clients {
        assert_eq!(gets(client, "key"), Some(("x".to_owned(), 7)));
        client.exchange(cas, "STORED\r\n");
    }
    assert_eq!(stat(&stats(&mut clients[0]), "backend_restarts"), 0);
    let sent = mock.times_seen(b"cas key");
    mock.end_links();
    for client in &mut clients {
        let answer = eventually("the backend is back", || {
            let answer = client.ask(cas);
            (!answer.starts_with("SERVER_ERROR backend s0 ")).then_some(answer)
        });
        assert_eq!(answer, "EXISTS");
    }
    assert_eq!(mock.times_seen(b"cas key"), sent, "a token from before was sent");
    let lines = stats(&mut clients[0]);
    assert!(stat(&lines, "backend_restarts") >= 1, "{lines:?}");
    assert_eq!(gets(&mut clients[1], "key"), Some(("x".to_owned(), 7)));
    clients[2].exchange(cas, "STORED\r\n");
}

fn named(mock: &Mock) -> String {
    format!("{}@s0", mock.address)
}

#[test]
fn with_three_backends_only_the_keys_of_the_restarted_one_are_concerned() {
    let mut fleet = Fleet::start(3, &QUICK);
    let mut clients = fleet.clients();
    let keys: Vec<String> = (0..3).map(|owner| key_of(owner, 3, "key")).collect();
    let tokens: Vec<u64> = keys
        .iter()
        .map(|key| {
            clients[0].exchange(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
            gets(&mut clients[1], key).expect("it is there").1
        })
        .collect();
    fleet.kill(0);
    fleet.start_again(0);
    set_until_stored(&mut clients[2], &keys[0], "y");
    for (owner, (key, token)) in keys.iter().zip(tokens).enumerate() {
        let answer = if owner == 0 { "EXISTS\r\n" } else { "STORED\r\n" };
        clients[3].exchange(format!("cas {key} 0 0 1 {token}\r\nz\r\n"), answer);
    }
}
