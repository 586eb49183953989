//! On one link a client's requests leave in its order, whatever is joined: a get may go past the requests of
//! others, and never past one of its own client.

use mcproxy::io::ConnId;

use super::joined::{ask_each, clients, joining, joining_with, together};
use super::rig::Rig;
use super::words::{error, found, item};

/// What it is about, requests of clients by number in one tick, and what backend 0 sees of them. `A` to `D`
/// stand for keys.
type Order = (&'static str, &'static [(usize, &'static str)], &'static str);

const ORDERS: [Order; 17] = [
    ("others' writes go first", &[(0, "get A"), (1, "delete A"), (2, "get A")], "delete A, get A"),
    ("get behind the own write", &[(0, "get A"), (1, "delete A, get A")], "delete A, get A"),
    ("write behind the own get", &[(0, "get A, delete A"), (1, "get B")], "get A B, delete A"),
    (
        "a get behind an own write behind an own get",
        &[(0, "get A, delete A, get A"), (1, "get A")],
        "get A, delete A, get A",
    ),
    (
        "another's get still joins the first",
        &[(0, "get A, delete A, get B"), (1, "get C, get D")],
        "get A C D, delete A, get B",
    ),
    (
        "two that take turns with reads and writes",
        &[(0, "get A, touch A 1, get B, touch B 2"), (1, "get C, touch C 3, get D, touch D 4")],
        "get A C, touch A 1, touch C 3, get B D, touch B 2, touch D 4",
    ),
    ("get, gets, get", &[(0, "get A, gets A, get A")], "get A, gets A, get A"),
    (
        "gets of another joins, its get stands behind that",
        &[(0, "get A"), (1, "gets B"), (2, "gets C, get D")],
        "get A, gets B C, get D",
    ),
    (
        "get of another joins, its gets stands behind that",
        &[(0, "gets A"), (1, "get B"), (2, "get C, gets D")],
        "gets A, get B C, gets D",
    ),
    (
        "a client again, nobody between",
        &[(0, "get A"), (0, "delete A"), (0, "get A")],
        "get A, delete A, get A",
    ),
    (
        "a client again, another between",
        &[(0, "delete A"), (1, "get A, delete B"), (0, "get A")],
        "delete A, get A, delete B, get A",
    ),
    (
        "a client again with a write, another between",
        &[(0, "get A"), (1, "get B"), (0, "delete A"), (1, "get C")],
        "get A B, delete A, get C",
    ),
    ("a get of many keys is one of them", &[(0, "get A B, delete A, get A B")], "get A B, delete A, get A B"),
    (
        "a get of many keys behind an own write",
        &[(0, "get A"), (1, "delete B, get B A"), (2, "get C B, delete C, get A C")],
        "delete B, get A B C, delete C, get A C",
    ),
    ("mg is a request like others", &[(0, "get A, mg A v, get A"), (1, "get B")], "get A B, mg A v, get A"),
    (
        "gat is a write",
        &[(0, "get A, gat 9 A B, get B"), (1, "gat 8 C, get B")],
        "gat 8 C, get A B, gat 9 A B, get B",
    ),
    (
        "flush_all keeps its place",
        &[(0, "get A, flush_all, get A"), (1, "flush_all, get B")],
        "flush_all, get A B, flush_all, get A",
    ),
];

#[test]
fn requests_leave_in_the_order_of_their_clients() {
    for (name, asked, expected) in ORDERS {
        let mut rig = joining();
        let keys = [0, 1, 2, 3].map(|number| rig.key(0, number));
        let lines = |text: &str| {
            let mut text = text.replace(", ", "\r\n") + "\r\n";
            for (letter, key) in ["A", "B", "C", "D"].iter().zip(&keys) {
                text = text.replace(&format!(" {letter}"), &format!(" {key}"));
            }
            text
        };
        let clients = clients(&mut rig, 3);
        let asked: Vec<(ConnId, String)> =
            asked.iter().map(|(client, text)| (clients[*client], lines(text))).collect();
        together(&mut rig, &asked.iter().map(|(client, text)| (*client, &text[..])).collect::<Vec<_>>());
        assert_eq!(rig.saw(0), lines(expected), "{name}");
    }
}

/// What a client asks behind a long read leaves when the last keys of that have been asked for.
#[test]
fn a_write_behind_a_long_read_waits_for_its_last_window() {
    let mut rig = Rig::with(joining_with(|settings| settings.limits.window_keys_max = 3));
    let keys: Vec<String> = (0..8).map(|number| rig.key(0, number)).collect();
    let (client, other) = (rig.client(), rig.client());
    let last = &keys[7];
    rig.receive(client, format!("get {}\r\nset {last} 0 0 1\r\nx\r\nget {last}\r\n", keys.join(" ")));
    assert_eq!(rig.saw(0), format!("get {}\r\n", keys[..3].join(" ")));
    // The next window asks for all the rest, and so does another client in that tick.
    rig.hand(rig.link(0), format!("{}END\r\n", item(&keys[1], &"v".repeat(400_000))).as_bytes());
    rig.hand(other, format!("get {}\r\nget {last}\r\n", keys[3]).as_bytes());
    rig.settle();
    let behind = format!("set {last} 0 0 1\r\nx\r\nget {last}\r\n");
    assert_eq!(rig.saw(0), format!("get {}\r\n{behind}", keys[3..].join(" ")));
    rig.answer(0, format!("{}END\r\n", item(last, "old")));
    rig.answer(0, format!("STORED\r\n{}", found(last, "x")));
    let long = item(&keys[1], &"v".repeat(400_000));
    let expected = format!("{long}{}END\r\nSTORED\r\n{}", item(last, "old"), found(last, "x"));
    assert_eq!(rig.got(client), expected);
    assert_eq!(rig.got(other), format!("END\r\n{}", found(last, "old")));
}

#[test]
fn a_client_that_was_paused_goes_on_in_its_order() {
    let mut rig = Rig::with(joining_with(|settings| settings.limits.client_requests_max = 4));
    let (a, b) = (rig.key(0, 0), rig.key(0, 1));
    let (client, other) = (rig.client(), rig.client());
    let touch = |number: usize| format!("touch {a} {number}\r\n");
    let get = format!("get {a}\r\n");
    let requests: String = (0..5).map(|number| format!("{get}{}", touch(number))).collect();
    rig.receive(client, &requests);
    assert!(rig.end(client).paused);
    assert_eq!(rig.saw(0), format!("{get}{}{get}{}", touch(0), touch(1)));
    rig.hand(rig.link(0), b"END\r\nTOUCHED\r\nEND\r\nTOUCHED\r\n");
    rig.hand(other, format!("get {a}\r\nget {b}\r\n").as_bytes());
    rig.settle();
    assert_eq!(rig.saw(0), format!("get {a} {b}\r\n{get}{}{get}{}", touch(2), touch(3)));
    rig.answer(0, "END\r\nEND\r\nTOUCHED\r\nEND\r\nTOUCHED\r\n");
    assert_eq!(rig.saw(0), format!("{get}{}", touch(4)));
    rig.answer(0, "END\r\nTOUCHED\r\n");
    assert_eq!(rig.got(client), "END\r\nTOUCHED\r\n".repeat(5));
    assert_eq!(rig.got(other), "END\r\nEND\r\n");
}

/// The get finds no room behind the client's write; that it is refused must not let it go before that.
#[test]
fn what_is_refused_takes_no_place() {
    let mut rig = Rig::with(joining_with(|settings| settings.limits.link_requests_max = 2));
    let (a, b) = (rig.key(0, 0), rig.key(0, 1));
    let requests = [format!("get {a}\r\n"), format!("delete {b}\r\nget {b}\r\ngets {b}\r\nget {a}\r\n")];
    let clients = ask_each(&mut rig, &requests);
    assert_eq!(rig.saw(0), format!("delete {b}\r\nget {a} {b}\r\n"));
    rig.answer(0, format!("NOT_FOUND\r\n{}", found(&a, "1")));
    assert_eq!(rig.got(clients[0]), found(&a, "1"));
    let full = error(0, "has too many requests waiting");
    assert_eq!(rig.got(clients[1]), format!("NOT_FOUND\r\nEND\r\n{full}{}", found(&a, "1")));
}
