//! Joined gets: what several clients ask one backend in one tick leaves as one request, and each gets exactly
//! its own bytes. What has to keep its order is in `joined_order`, what goes wrong in `joined_faults`, and
//! how much is joined in `joined_bounds`.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcproxy::io::{ConnId, Failure};
use mcproxy::proxy::settings::Settings;

use super::binary::{Packet, opcode, status};
use super::rig::{Rig, settings};
use super::words::{found, item, three_keys};

/// As most tests of joined gets want it, and then as `change` does.
pub(super) fn joining_with(change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    settings(|settings| {
        settings.join_gets = true;
        change(settings);
    })
}

/// A rig that joins gets.
pub(super) fn joining() -> Rig {
    Rig::with(joining_with(|_| {}))
}

/// So many clients.
pub(super) fn clients(rig: &mut Rig, count: usize) -> Vec<ConnId> {
    (0..count).map(|_| rig.client()).collect()
}

/// All of these arrive in one tick, in this order.
pub(super) fn together(rig: &mut Rig, asked: &[(ConnId, &str)]) {
    for (client, request) in asked {
        rig.hand(*client, request.as_bytes());
    }
    rig.settle();
}

/// One client for each of these requests, which arrive in one tick, in this order.
pub(super) fn ask_each(rig: &mut Rig, requests: &[String]) -> Vec<ConnId> {
    let clients = clients(rig, requests.len());
    for (&client, request) in clients.iter().zip(requests) {
        rig.hand(client, request.as_bytes());
    }
    rig.settle();
    clients
}

/// The `VALUE` of an answer to gets.
pub(super) fn item_with_cas(key: &str, value: &str, cas: u64) -> String {
    format!("VALUE {key} 0 {} {cas}\r\n{value}\r\n", value.len())
}

/// Counters of joined gets: requests to backends, get and gets among them, keys in these, joined, shared.
fn counted(rig: &mut Rig) -> [u64; 5] {
    let counters = rig.counters();
    ["backend_requests", "backend_gets", "backend_get_keys", "joined_gets", "shared_keys"]
        .map(|name| counters[name])
}

#[test]
fn the_gets_of_ten_clients_leave_in_one_line_and_each_gets_its_own_bytes() {
    let mut rig = joining();
    let keys: Vec<String> = (0..10).map(|number| rig.key(0, number)).collect();
    let requests: Vec<String> = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    let clients = ask_each(&mut rig, &requests);
    assert_eq!(rig.saw(0), format!("get {}\r\n", keys.join(" ")));
    // Every third is not there.
    let there = |number: usize| number % 3 != 1;
    let value = |number: usize| format!("{number}-\r\nEND\r\n{}", "v".repeat(number * 50));
    let items = (0..10).filter(|&number| there(number)).map(|number| item(&keys[number], &value(number)));
    rig.answer(0, format!("{}END\r\n", items.collect::<String>()));
    for (number, &client) in clients.iter().enumerate() {
        let expected = match there(number) {
            true => found(&keys[number], &value(number)),
            false => "END\r\n".to_string(),
        };
        assert_eq!(rig.got(client), expected, "client {number}");
    }
    assert_eq!(counted(&mut rig), [1, 1, 10, 10, 0]);
}

#[test]
fn an_answer_in_any_pieces_is_the_same() {
    let mut rig = joining();
    let keys: Vec<String> = (0..4).map(|number| rig.key(0, number)).collect();
    let reply =
        [item(&keys[0], ""), item(&keys[2], "VALUE x 0 1\r\nx\r\nEND\r\n"), "END\r\n".into()].concat();
    let answers = [found(&keys[0], ""), "END\r\n".into(), found(&keys[2], "VALUE x 0 1\r\nx\r\nEND\r\n")];
    let requests: Vec<String> = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    for first in 0..=reply.len() {
        for second in (first..=reply.len()).step_by(if first % 8 == 0 { 1 } else { 29 }) {
            let clients = ask_each(&mut rig, &requests);
            rig.saw(0);
            for piece in [&reply[..first], &reply[first..second], &reply[second..]] {
                rig.answer(0, piece);
            }
            for (number, &client) in clients.iter().enumerate() {
                let expected = answers.get(number).map_or("END\r\n", |answer| answer);
                assert_eq!(rig.got(client), expected, "client {number}, cut at {first} and {second}");
                rig.eof(client);
            }
        }
    }
}

#[test]
fn a_key_asked_by_several_is_asked_once_and_answered_to_all() {
    for with_cas in [false, true] {
        let verb = if with_cas { "gets" } else { "get" };
        let mut rig = joining();
        let (hot, cold, miss) = (rig.key(0, 0), rig.key(0, 1), rig.key(0, 2));
        let asked = [&hot, &miss, &hot, &cold, &miss, &hot, &miss, &hot];
        let requests = asked.map(|key| format!("{verb} {key}\r\n"));
        let clients = ask_each(&mut rig, &requests);
        assert_eq!(rig.saw(0), format!("{verb} {hot} {miss} {cold}\r\n"));
        let show = |key: &str, value: &str| match with_cas {
            true => item_with_cas(key, value, u64::MAX - value.len() as u64),
            false => item(key, value),
        };
        let (hot_item, cold_item) = (show(&hot, "burning"), show(&cold, "x"));
        rig.answer(0, format!("{hot_item}{cold_item}END\r\n"));
        for (&client, key) in clients.iter().zip(asked) {
            let answers = [(&hot, &hot_item[..]), (&cold, &cold_item[..]), (&miss, "")];
            let (_, found) = answers.into_iter().find(|answer| answer.0 == key).unwrap();
            assert_eq!(rig.got(client), format!("{found}END\r\n"), "{verb} {key}");
        }
        assert_eq!(counted(&mut rig), [1, 1, 3, 8, 5]);
        let counters = rig.counters();
        assert_eq!(
            (counters["get_hits"], counters["get_misses"], counters["cmd_get"]),
            (5, 3, 8),
            "each client's"
        );
    }
}

#[test]
fn get_and_gets_are_joined_among_themselves() {
    let mut rig = joining();
    let (a, b) = (rig.key(0, 0), rig.key(0, 1));
    let requests = ["get", "gets", "get", "gets"];
    let requests: Vec<String> =
        requests.iter().zip([&a, &a, &b, &b]).map(|(verb, key)| format!("{verb} {key}\r\n")).collect();
    let clients = ask_each(&mut rig, &requests);
    assert_eq!(rig.saw(0), format!("get {a} {b}\r\ngets {a} {b}\r\n"));
    let (plain, tokens) = (found(&a, "1"), item_with_cas(&b, "22", 7));
    rig.answer(0, format!("{plain}{tokens}END\r\n"));
    let answers = [&plain, "END\r\n", "END\r\n", &format!("{tokens}END\r\n")];
    for (&client, answer) in clients.iter().zip(answers) {
        assert_eq!(rig.got(client), answer);
    }
}

#[test]
fn keys_that_begin_with_one_another_are_told_apart() {
    let mut rig = joining();
    let keys = {
        let mut by_backend = BTreeMap::<usize, Vec<String>>::new();
        for length in 1..40 {
            let key = "k".repeat(length);
            by_backend.entry(rig.settings.placement.owner(key.as_bytes())).or_default().push(key);
        }
        by_backend.remove(&0).expect("some lie there")
    };
    assert!(keys.len() > 3, "{keys:?}");
    // Asked from the longest to the shortest, then the other way; every second one is there.
    for reversed in [false, true] {
        let mut keys = keys.clone();
        if reversed {
            keys.reverse();
        }
        let requests: Vec<String> = keys.iter().map(|key| format!("get {key}\r\n")).collect();
        let clients = ask_each(&mut rig, &requests);
        assert_eq!(rig.saw(0), format!("get {}\r\n", keys.join(" ")));
        let items: String = keys.iter().skip(1).step_by(2).map(|key| item(key, key)).collect();
        rig.answer(0, format!("{items}END\r\n"));
        for (number, &client) in clients.iter().enumerate() {
            let key = &keys[number];
            let expected = if number % 2 == 1 { found(key, key) } else { "END\r\n".into() };
            assert_eq!(rig.got(client), expected, "{key}");
        }
    }
}

/// Two keys of one backend with the same hash, which is what joined gets look keys up by.
fn keys_of_one_hash(rig: &Rig) -> [String; 2] {
    let mut before = BTreeMap::new();
    for number in 0.. {
        let key = format!("{number}");
        let place = rig.settings.placement.place(key.as_bytes());
        if let Some(other) = before.insert((place.server, place.hash), key.clone()) {
            return [other, key];
        }
    }
    unreachable!("there are more keys than hashes")
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let mut rig = joining();
    let [a, b] = keys_of_one_hash(&rig);
    let backend = rig.settings.placement.owner(a.as_bytes());
    assert_eq!(rig.settings.placement.owner(b.as_bytes()), backend);
    let requests = [&a, &b, &b, &a].map(|key| format!("get {key}\r\n"));
    let clients = ask_each(&mut rig, &requests);
    assert_eq!(rig.saw(backend), format!("get {a} {b}\r\n"));
    rig.answer(backend, found(&b, "of b"));
    let answers = ["END\r\n", &found(&b, "of b"), &found(&b, "of b"), "END\r\n"];
    for (&client, answer) in clients.iter().zip(answers) {
        assert_eq!(rig.got(client), answer);
    }
}

/// Whatever is no get or gets stands in the order of its arrival, each by itself, with the gets behind.
#[test]
fn nothing_but_gets_is_joined() {
    let mut rig = joining();
    let key = rig.key(0, 0);
    let alone: Vec<String> = [
        "gat 10 K",
        "gat 10 K",
        "gats 10 K",
        "gats 10 K",
        "mg K v",
        "mg K v",
        "touch K 1",
        "touch K 1",
        "incr K 1",
        "incr K 1",
        "decr K 1",
        "delete K",
        "delete K",
        "flush_all",
        "flush_all",
        "md K",
        "me K",
    ]
    .iter()
    .map(|request| format!("{}\r\n", request.replace('K', &key)))
    .collect();
    let set = format!("set {key} 0 0 1\r\nx\r\n");
    let get = format!("get {key}\r\n");
    let mut requests = vec![get.clone()];
    requests.extend(alone.iter().cloned());
    requests.extend([set.clone(), set.clone(), get.clone()]);
    ask_each(&mut rig, &requests);
    assert_eq!(rig.saw(0), [&alone[..], &[set.clone(), set, get]].concat().concat());
    let requests = alone.len() as u64 + 2 + 1 + 2 * 2;
    assert_eq!(counted(&mut rig), [requests, 1, 1, 2, 1], "flush_all went to all three");
}

#[test]
fn binary_gets_are_not_joined() {
    let mut rig = joining();
    let key = rig.key(0, 0);
    let text = rig.client();
    let users = clients(&mut rig, 2);
    let get = |opaque| Packet::request(opcode::GETK).key(&key).opaque(opaque).bytes();
    // The binary link is opened and greeted first.
    rig.receive(users[0], get(1));
    let links = rig.links(0);
    let binary = *links.last().unwrap();
    assert_eq!(links.len(), 2);
    let answer = |packet: &Packet, value: &str| {
        let reply = Packet::reply(opcode::GETK).opaque(packet.opaque_of());
        reply.extras(&[0; 4]).key(&key).value(value).cas(3).bytes()
    };
    let first = Packet::read_all(&rig.got_bytes(binary)).remove(0);
    rig.receive(binary, answer(&first, "0"));
    rig.got_bytes(users[0]);

    rig.hand(users[0], &get(2));
    rig.hand(text, format!("get {key}\r\n").as_bytes());
    rig.hand(users[1], &get(3));
    rig.settle();
    assert_eq!(rig.got(links[0]), format!("get {key}\r\n"));
    let asked = Packet::read_all(&rig.got_bytes(binary));
    assert_eq!(asked.len(), 2);
    let replies = [answer(&asked[0], "1"), answer(&asked[1], "22")].concat();
    rig.receive(binary, replies);
    rig.receive(links[0], found(&key, "333"));
    assert_eq!(rig.got(text), found(&key, "333"));
    for (&user, (opaque, value)) in users.iter().zip([(2, "1"), (3, "22")]) {
        let reply = Packet::read_all(&rig.got_bytes(user)).remove(0);
        assert_eq!((reply.status_of(), reply.opaque_of()), (status::OK, opaque));
        assert_eq!(reply.value_of(), value.as_bytes());
    }
}

#[test]
fn what_comes_in_different_ticks_is_not_joined() {
    let mut rig = joining();
    let (a, b) = (rig.key(0, 0), rig.key(0, 1));
    let [one, two] = clients(&mut rig, 2)[..] else { unreachable!() };
    let link = rig.link(0);
    // Not even while it waits for an earlier write: its place on the link is fixed.
    rig.hold(link);
    rig.receive(one, format!("get {a}\r\n"));
    rig.receive(one, format!("get {b}\r\n"));
    rig.receive(two, format!("get {b}\r\n"));
    rig.release(link);
    assert_eq!(rig.saw(0), format!("get {a}\r\nget {b}\r\nget {b}\r\n"));
    rig.answer(0, format!("END\r\n{}END\r\n", found(&b, "1")));
    assert_eq!((rig.got(one), rig.got(two)), (format!("END\r\n{}", found(&b, "1")), "END\r\n".into()));
    assert_eq!(counted(&mut rig), [3, 3, 3, 0, 0]);
}

#[test]
fn the_same_clients_are_joined_in_every_tick() {
    let mut rig = joining();
    let keys: Vec<String> = (0..5).map(|number| rig.key(0, number)).collect();
    let clients = clients(&mut rig, 5);
    for round in 0..4 {
        let number_of = |place: usize| (place * 2 + round) % 5;
        for (place, &client) in clients.iter().enumerate() {
            rig.hand(client, format!("get {}\r\n", keys[number_of(place)]).as_bytes());
        }
        rig.settle();
        let asked: Vec<&str> = (0..5).map(|place| &keys[number_of(place)][..]).collect();
        assert_eq!(rig.saw(0), format!("get {}\r\n", asked.join(" ")), "tick {round}");
        rig.answer(0, format!("{}END\r\n", item(asked[3], "x")));
        for (place, &client) in clients.iter().enumerate() {
            let expected = if place == 3 { found(asked[3], "x") } else { "END\r\n".into() };
            assert_eq!(rig.got(client), expected);
        }
    }
}

#[test]
fn every_backend_has_its_own_joined_gets() {
    let mut rig = joining();
    let keys: Vec<String> = (0..9).map(|number| rig.key(number % 3, number / 3)).collect();
    let requests: Vec<String> = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    let clients = ask_each(&mut rig, &requests);
    for backend in 0..3 {
        let own = [&keys[backend][..], &keys[backend + 3], &keys[backend + 6]];
        assert_eq!(rig.saw(backend), format!("get {}\r\n", own.join(" ")));
        let items: String = own.iter().map(|key| item(key, key)).collect();
        rig.answer(backend, format!("{items}END\r\n"));
    }
    for (&client, key) in clients.iter().zip(&keys) {
        assert_eq!(rig.got(client), found(key, key));
    }
}

#[test]
fn multi_key_reads_are_joined_with_the_gets_of_others() {
    let mut rig = joining();
    let [a, b, c] = three_keys(&mut rig);
    let (d, e) = (rig.key(0, 1), rig.key(0, 2));
    let requests = [
        format!("get {a}\r\n"),
        format!("get {b} {d} {a} {c} {d}\r\n"),
        format!("get {d}\r\nget {e}\r\nget {d} {e}\r\n"),
    ];
    let clients = ask_each(&mut rig, &requests);
    let seen = [0, 1, 2].map(|backend| rig.saw(backend));
    assert_eq!(seen, [format!("get {a} {d} {e}\r\n"), format!("get {b}\r\n"), format!("get {c}\r\n")]);
    let [a, b, d, e] = [&a, &b, &d, &e].map(|key| item(key, &format!("of {key}")));
    rig.answer(2, "END\r\n");
    rig.answer(0, format!("{a}{d}{e}END\r\n"));
    assert_eq!(rig.got(clients[0]), format!("{a}END\r\n"));
    assert_eq!(rig.got(clients[1]), "", "it waits for the second backend");
    assert_eq!(rig.got(clients[2]), format!("{d}END\r\n{e}END\r\n{d}{e}END\r\n"));
    rig.answer(1, format!("{b}END\r\n"));
    assert_eq!(rig.got(clients[1]), format!("{b}{d}{a}{d}END\r\n"));
    assert_eq!(counted(&mut rig), [3, 3, 5, 8, 5]);
}

#[test]
fn a_client_that_has_gone_takes_nobody_with_it() {
    for everybody in [false, true] {
        let mut rig = joining();
        let (a, b) = (rig.key(0, 0), rig.key(0, 1));
        let requests = [format!("get {a}\r\n"), format!("get {b}\r\n"), format!("get {a} {b}\r\n")];
        let clients = ask_each(&mut rig, &requests);
        rig.fail(clients[0], Failure::Reset);
        rig.fail(clients[2], Failure::Reset);
        if everybody {
            rig.fail(clients[1], Failure::Reset);
        }
        // Somebody else has come to their places.
        let late = ask_each(&mut rig, &requests[..2]);
        rig.answer(0, format!("{}{}END\r\n", item(&a, "1"), item(&b, "2")));
        if !everybody {
            assert_eq!(rig.got(clients[1]), found(&b, "2"));
        }
        rig.answer(0, found(&a, "11"));
        assert_eq!(rig.got(late[0]), found(&a, "11"));
        assert_eq!(rig.got(late[1]), "END\r\n");
    }
}

#[test]
fn when_it_is_off_every_get_leaves_by_itself() {
    let mut rig = Rig::new();
    let (a, b) = (rig.key(0, 0), rig.key(0, 1));
    let requests =
        [format!("get {a}\r\nget {a}\r\n"), format!("get {a}\r\n"), format!("get {a} {b} {a}\r\n")];
    let clients = ask_each(&mut rig, &requests);
    let alone = format!("get {a}\r\n");
    assert_eq!(rig.saw(0), format!("{alone}{alone}{alone}get {a} {b}\r\n"));
    let answers = ["1", "2", "3"].map(|value| found(&a, value));
    rig.answer(0, format!("{}{}END\r\n", answers.concat(), item(&b, "4")));
    assert_eq!(rig.got(clients[0]), answers[..2].concat());
    assert_eq!(rig.got(clients[1]), answers[2]);
    assert_eq!(rig.got(clients[2]), found(&b, "4"));
    assert_eq!(counted(&mut rig), [4, 4, 5, 0, 0], "nothing was joined");
}

#[test]
fn stats_show_what_was_joined() {
    let mut rig = joining();
    let key = rig.key(0, 0);
    let other = rig.key(0, 1);
    let requests = [&key, &other, &key].map(|key| format!("get {key}\r\n"));
    ask_each(&mut rig, &requests);
    let rows = [("backend_gets", "1"), ("backend_get_keys", "2"), ("joined_gets", "3"), ("shared_keys", "1")];
    for (name, value) in rows {
        assert_eq!(rig.stat(name), value, "{name}");
    }
}
