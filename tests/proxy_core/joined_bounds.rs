//! How much is joined: bounds on keys, on the bytes of a line and on the bytes that the answer is expected to
//! bring; and what waits in joined gets counts with what waits for a link.

use std::collections::BTreeSet;
use std::io::IoSlice;

use mcproxy::io::ConnId;
use mcproxy::limits::{JOINED_KEYS_MAX, Limits};

use super::joined::{ask_each, clients, joining, joining_with};
use super::rig::Rig;
use super::words::{error, found, item};

fn limited(change: impl FnOnce(&mut Limits)) -> Rig {
    Rig::with(joining_with(|settings| change(&mut settings.limits)))
}

fn gets(keys: &[String]) -> Vec<String> {
    keys.iter().map(|key| format!("get {key}\r\n")).collect()
}

/// `count` keys of backend 0.
fn keys(rig: &mut Rig, count: usize) -> Vec<String> {
    (0..count).map(|number| rig.key(0, number)).collect()
}

/// Answers every get that backend 0 was sent with `value` for each key; gives the number of keys of each.
fn answer_all(rig: &mut Rig, value: &str) -> Vec<usize> {
    let mut sizes = Vec::new();
    for line in rig.saw(0).lines() {
        let keys: Vec<&str> = line.strip_prefix("get ").expect("a get").split(' ').collect();
        sizes.push(keys.len());
        let items: String = keys.iter().map(|key| item(key, value)).collect();
        rig.answer(0, format!("{items}END\r\n"));
    }
    sizes
}

/// So many clients ask for one key each in one tick. Gives the keys in each request that made of it.
#[track_caller]
fn round(rig: &mut Rig, count: usize, value: &str) -> Vec<usize> {
    let keys = keys(rig, count);
    let clients = ask_each(rig, &gets(&keys));
    let sizes = answer_all(rig, value);
    for (&client, key) in clients.iter().zip(&keys) {
        assert_eq!(rig.got(client), found(key, value));
        rig.eof(client);
    }
    sizes
}

#[test]
fn more_keys_than_one_request_may_hold_leave_in_several() {
    let mut rig = joining();
    assert_eq!(round(&mut rig, JOINED_KEYS_MAX, "v"), [JOINED_KEYS_MAX]);
    assert_eq!(round(&mut rig, JOINED_KEYS_MAX + 1, "v"), [JOINED_KEYS_MAX, 1]);
    assert_eq!(round(&mut rig, 300, "v"), [JOINED_KEYS_MAX, JOINED_KEYS_MAX, 300 - 2 * JOINED_KEYS_MAX]);
    // The same from one client, in one piece and in two keys' reads.
    let keys = keys(&mut rig, 300);
    let client = rig.client();
    rig.receive(client, gets(&keys).concat());
    assert_eq!(answer_all(&mut rig, "w"), [JOINED_KEYS_MAX, JOINED_KEYS_MAX, 44]);
    assert_eq!(rig.got(client), keys.iter().map(|key| found(key, "w")).collect::<String>());
    let pairs: String = keys.chunks(2).map(|pair| format!("get {} {}\r\n", pair[0], pair[1])).collect();
    rig.receive(client, pairs);
    assert_eq!(answer_all(&mut rig, "w"), [JOINED_KEYS_MAX, JOINED_KEYS_MAX, 44]);
    let expected: String =
        keys.chunks(2).map(|pair| format!("{}{}", item(&pair[0], "w"), found(&pair[1], "w"))).collect();
    assert_eq!(rig.got(client), expected);
}

#[test]
fn the_longest_keys_fit() {
    let mut rig = joining();
    let long = |number: usize| format!("{number:0>250}");
    let own = |key: &String| rig.settings.placement.owner(key.as_bytes()) == 0;
    let keys: Vec<String> = (0..).map(long).filter(own).take(JOINED_KEYS_MAX + 2).collect();
    // Everybody twice, so that each key is looked up when the line is full.
    let requests = [gets(&keys), gets(&keys)].concat();
    let clients = ask_each(&mut rig, &requests);
    let (first, second) = keys.split_at(JOINED_KEYS_MAX);
    assert_eq!(rig.saw(0), format!("get {}\r\nget {}\r\n", first.join(" "), second.join(" ")));
    let items = |keys: &[String]| -> String {
        keys.iter().skip(1).step_by(2).map(|key| item(key, &key[200..])).collect()
    };
    rig.answer(0, format!("{}END\r\n{}END\r\n", items(first), items(second)));
    for (number, &client) in clients.iter().enumerate() {
        let key = &keys[number % keys.len()];
        let there = number % keys.len() % 2 == 1;
        let expected = if there { found(key, &key[200..]) } else { "END\r\n".into() };
        assert_eq!(rig.got(client), expected, "client {number}");
    }
}

#[test]
fn large_values_make_joined_gets_smaller_and_small_ones_larger_again() {
    let mut rig = limited(|limits| limits.joined_bytes_max = 4000);
    assert_eq!(round(&mut rig, 30, "small"), [30], "nothing is known of the values yet");
    // Frames of some 1000 bytes: at once, at most four for the bound.
    let large = "v".repeat(970);
    assert_eq!(round(&mut rig, 10, &large), [10]);
    assert_eq!(round(&mut rig, 10, &large), [4, 4, 2]);
    // Larger than the bound: each travels alone.
    let larger = "v".repeat(5000);
    assert_eq!(round(&mut rig, 3, &larger), [3]);
    assert_eq!(round(&mut rig, 3, &larger), [1, 1, 1]);
    // Little by little, the other way.
    let mut most = 0;
    for _ in 0..60 {
        let sizes = round(&mut rig, 40, "small");
        let now = *sizes.iter().max().unwrap();
        assert!(now >= most, "{sizes:?} after {most}");
        most = now;
    }
    assert_eq!(most, 40);
}

#[test]
fn misses_say_nothing_of_the_size_of_values() {
    let mut rig = limited(|limits| limits.joined_bytes_max = 4000);
    round(&mut rig, 3, &"v".repeat(3000));
    for _ in 0..20 {
        let keys = keys(&mut rig, 5);
        ask_each(&mut rig, &gets(&keys));
        assert_eq!(rig.saw(0).lines().count(), 5, "still one by one");
        rig.answer(0, "END\r\n".repeat(5));
    }
}

#[test]
fn a_hot_key_with_a_large_value_is_still_asked_once() {
    let mut rig = limited(|limits| limits.joined_bytes_max = 4000);
    let value = "v".repeat(5000);
    round(&mut rig, 2, &value);
    let keys = keys(&mut rig, 3);
    let asked = [0, 1, 0, 2, 1, 0, 2, 0].map(|number: usize| keys[number].clone());
    let clients = ask_each(&mut rig, &gets(&asked));
    assert_eq!(rig.saw(0), gets(&keys).concat());
    rig.answer(0, [found(&keys[0], &value), "END\r\n".into(), found(&keys[2], "x")].concat());
    for (&client, key) in clients.iter().zip(&asked) {
        let answers = [found(&keys[0], &value), "END\r\n".into(), found(&keys[2], "x")];
        let number = keys.iter().position(|other| other == key).unwrap();
        assert_eq!(rig.got(client), answers[number]);
    }
    assert_eq!(rig.counters()["shared_keys"], 5);
}

#[test]
fn full_requests_of_the_one_kind_hide_no_room_in_those_of_the_other() {
    let mut rig = limited(|limits| limits.joined_bytes_max = 4000);
    let value = "v".repeat(970);
    round(&mut rig, 2, &value);
    let keys = keys(&mut rig, 120);
    let mut requests = gets(&keys);
    for number in [0, 60, 119] {
        requests.insert(number, format!("gets {}\r\n", keys[number]));
    }
    ask_each(&mut rig, &requests);
    let seen = rig.saw(0);
    let [tokens, rest @ ..] = &seen.lines().collect::<Vec<_>>()[..] else { unreachable!() };
    assert_eq!(*tokens, format!("gets {} {} {}", keys[0], keys[60], keys[119]));
    let expected: Vec<String> = keys.chunks(4).map(|keys| format!("get {}", keys.join(" "))).collect();
    assert_eq!(rest, expected);
}

/// A client that takes turns makes a request of each of its gets. Others find room in the first of them.
#[test]
fn thousands_of_requests_of_one_tick_are_joined_by_the_next_client() {
    let mut rig = joining();
    let (a, b, [one, two]) = (rig.key(0, 0), rig.key(0, 1), [rig.client(), rig.client()]);
    let turns = |key: &str| format!("get {key}\r\ntouch {key} 1\r\n").repeat(2000);
    rig.hand(one, turns(&a).as_bytes());
    rig.hand(two, turns(&b).as_bytes());
    rig.settle();
    assert!(rig.saw(0) == format!("get {a} {b}\r\ntouch {a} 1\r\ntouch {b} 1\r\n").repeat(2000));
}

/// Where a client's answer has the value that is moved: the same bytes are the same memory.
fn place_of(rig: &mut Rig, client: ConnId, value: &str) -> *const u8 {
    let (outbox, _) = rig.end(client).in_flight.as_ref().expect("an answer on its way");
    let mut slices = [IoSlice::new(&[]); 8];
    let filled = outbox.slices(0, &mut slices);
    let whole = |slice: &&IoSlice<'_>| slice.len() >= value.len();
    let slice = slices[..filled].iter().find(whole).expect("the value is in one piece");
    slice.as_ptr()
}

/// Whether it comes in one piece or in many.
#[test]
fn a_large_value_answered_to_several_is_held_once() {
    for piece in [1000, 30_000, 100_000] {
        let mut rig = joining();
        let (key, other) = (rig.key(0, 0), rig.key(0, 1));
        let value = "v".repeat(20_000);
        let users = clients(&mut rig, 6);
        users.iter().for_each(|&client| rig.hold(client));
        for &client in &users[..5] {
            rig.hand(client, format!("get {key}\r\n").as_bytes());
        }
        rig.hand(users[5], format!("get {other}\r\n").as_bytes());
        rig.settle();
        assert_eq!(rig.saw(0), format!("get {key} {other}\r\n"));
        let reply = format!("{}{}END\r\n", item(&key, &value), item(&other, "x"));
        for bytes in reply.as_bytes().chunks(piece) {
            rig.answer(0, bytes);
        }
        let places: BTreeSet<_> =
            users[..5].iter().map(|&client| place_of(&mut rig, client, &value)).collect();
        assert_eq!(places.len(), 1, "in pieces of {piece}");
        for &client in &users[..5] {
            rig.release(client);
            assert_eq!(rig.got(client), found(&key, &value));
        }
        rig.release(users[5]);
        assert_eq!(rig.got(users[5]), found(&other, "x"));
    }
}

#[test]
fn a_joined_get_is_one_of_the_requests_of_a_link() {
    let mut rig = limited(|limits| limits.link_requests_max = 2);
    let keys = keys(&mut rig, 3);
    let [one, two, three] = clients(&mut rig, 3)[..] else { unreachable!() };
    rig.hand(one, gets(&keys).concat().as_bytes());
    rig.hand(two, format!("delete {}\r\n", keys[0]).as_bytes());
    // A third request has no place, but a get is still joined.
    rig.hand(three, format!("delete {}\r\nget {}\r\ngets {}\r\n", keys[0], keys[1], keys[1]).as_bytes());
    rig.settle();
    assert_eq!(rig.saw(0), format!("delete {}\r\nget {}\r\n", keys[0], keys.join(" ")));
    rig.answer(0, format!("DELETED\r\n{}", found(&keys[1], "1")));
    assert_eq!(rig.got(one), format!("END\r\n{}END\r\n", found(&keys[1], "1")));
    assert_eq!(rig.got(two), "DELETED\r\n");
    let full = error(0, "has too many requests waiting");
    assert_eq!(rig.got(three), format!("{full}{}{full}", found(&keys[1], "1")));
}

#[test]
fn requests_behind_joined_gets_count_with_those_that_wait_for_a_link() {
    let mut rig = limited(|limits| limits.link_requests_max = 10);
    let (key, client, other) = (rig.key(0, 0), rig.client(), rig.client());
    let requests: String = (0..20).map(|number| format!("incr {key} {number}\r\n")).collect();
    rig.hand(client, format!("get {key}\r\n{requests}").as_bytes());
    rig.hand(other, format!("delete {key}\r\nget {key}\r\n").as_bytes());
    rig.settle();
    let seen = rig.saw(0);
    assert_eq!(seen.lines().count(), 10, "{seen}");
    let full = error(0, "has too many requests waiting");
    let numbers: String = (0..9).map(|number| format!("{number}\r\n")).collect();
    rig.answer(0, format!("{}{numbers}", found(&key, "0")));
    assert_eq!(rig.got(client), format!("{}{numbers}{}", found(&key, "0"), full.repeat(11)));
    assert_eq!(rig.got(other), format!("{full}{}", found(&key, "0")));
    // What has left does not count any more.
    rig.receive(client, format!("get {key}\r\n{requests}"));
    assert_eq!(rig.saw(0).lines().count(), 10);
}

#[test]
fn bytes_behind_joined_gets_count_with_those_that_wait_for_a_link() {
    let mut rig = limited(|limits| limits.link_bytes_max = 1000);
    let (key, client) = (rig.key(0, 0), rig.client());
    let value = "v".repeat(300);
    let set = format!("set {key} 0 0 300\r\n{value}\r\n");
    rig.receive(client, format!("get {key}\r\n{}", set.repeat(20)));
    let expected = format!("get {key}\r\n{}", set.repeat(4));
    assert!(rig.saw(0) == expected, "up to the first that is above the bound, and no further");
    rig.answer(0, format!("END\r\n{}", "STORED\r\n".repeat(4)));
    let full = error(0, "has too many requests waiting");
    assert_eq!(rig.got(client), format!("END\r\n{}{}", "STORED\r\n".repeat(4), full.repeat(16)));
}

#[test]
fn keys_of_joined_gets_count_with_the_bytes_that_wait_for_a_link() {
    let mut rig = limited(|limits| limits.link_bytes_max = 10_000);
    let long = |number: usize| format!("{number:0>250}");
    let own = |key: &String| rig.settings.placement.owner(key.as_bytes()) == 0;
    let keys: Vec<String> = (0..).map(long).filter(own).take(JOINED_KEYS_MAX * 3).collect();
    let clients = ask_each(&mut rig, &gets(&keys));
    let seen = rig.saw(0);
    assert_eq!(seen.lines().count(), 1, "the first one is above the bound already");
    rig.answer(0, "END\r\n");
    let full = error(0, "has too many requests waiting");
    for (number, &client) in clients.iter().enumerate() {
        let expected = if number < JOINED_KEYS_MAX { "END\r\n" } else { &full };
        assert_eq!(rig.got(client), expected, "client {number}");
    }
}
