//! What goes wrong with a joined get: everybody in it gets an answer of their own, a late one reaches nobody,
//! and what was never written goes out once on a fresh link.

use std::time::Duration;

use mcproxy::io::{ConnId, Failure};
use mcproxy::proxy::settings::ReadErrors;

use super::joined::{ask_each, clients, item_with_cas, joining, joining_with, together};
use super::rig::{Rig, text_greeting};
use super::words::{error, found, item};

const END: &str = "END\r\n";
const OUT_OF_STEP: &str = "answered out of step";

/// Four keys of backend 0.
fn four_keys(rig: &mut Rig) -> [String; 4] {
    [0, 1, 2, 3].map(|number| rig.key(0, number))
}

/// One client for each key; they ask in one tick, and the one line is taken.
fn ask(rig: &mut Rig, verb: &str, keys: &[String]) -> Vec<ConnId> {
    let requests: Vec<String> = keys.iter().map(|key| format!("{verb} {key}\r\n")).collect();
    let clients = ask_each(rig, &requests);
    let mut asked: Vec<&str> = Vec::new();
    keys.iter().for_each(|key| asked.extend((!asked.contains(&&key[..])).then_some(&key[..])));
    assert_eq!(rig.saw(0), format!("{verb} {}\r\n", asked.join(" ")));
    clients
}

#[track_caller]
fn all_got(rig: &mut Rig, clients: &[ConnId], expected: &[&str]) {
    let got: Vec<String> = clients.iter().map(|&client| rig.got(client)).collect();
    assert_eq!(got, expected);
}

/// The link goes on: a request on it is answered.
#[track_caller]
fn is_in_step(rig: &mut Rig, key: &str) {
    let client = rig.client();
    rig.receive(client, format!("get {key}\r\n"));
    assert_eq!(rig.saw(0), format!("get {key}\r\n"));
    rig.answer(0, found(key, "in step"));
    assert_eq!(rig.got(client), found(key, "in step"));
    rig.eof(client);
}

#[test]
fn an_error_line_reaches_every_joined_get_as_its_own() {
    let refusal = "SERVER_ERROR out of memory writing get response\r\n";
    for refusal in [refusal, "ERROR\r\n", "CLIENT_ERROR line too long\r\n"] {
        let mut rig = joining();
        let [a, b, c, d] = four_keys(&mut rig);
        let requests = [&a, &b, &a, &c].map(|key| format!("get {key}\r\n"));
        let clients = ask_each(&mut rig, &[&requests[..], &[format!("get {b} {d} {a}\r\n")]].concat());
        assert_eq!(rig.saw(0), format!("get {a} {b} {c} {d}\r\n"));
        rig.answer(0, refusal);
        all_got(&mut rig, &clients, &[refusal; 5]);
        is_in_step(&mut rig, &a);
    }
}

/// memcached has begun to write values when it runs out of memory.
#[test]
fn an_error_behind_some_values_reaches_those_who_have_none() {
    let mut rig = joining();
    let [a, b, c, d] = four_keys(&mut rig);
    let clients = ask(&mut rig, "get", &[a.clone(), b.clone(), c.clone(), d.clone(), b.clone(), d]);
    let refusal = "SERVER_ERROR out of memory writing get response\r\n";
    rig.answer(0, format!("{}{}{refusal}", item(&b, "2"), item(&c, "3")));
    let (two, three) = (found(&b, "2"), found(&c, "3"));
    all_got(&mut rig, &clients, &[refusal, &two, &three, refusal, &two, refusal]);
    is_in_step(&mut rig, &a);
}

#[test]
fn a_link_that_is_lost_in_the_middle_fails_those_who_have_no_answer() {
    let lost = error(0, "connection lost");
    for end in [false, true] {
        for half in ["", "VAL", "E", "VALUE "] {
            let mut rig = joining();
            let [a, b, c, d] = four_keys(&mut rig);
            let clients = ask(&mut rig, "get", &[a.clone(), b.clone(), c.clone(), d, c.clone(), a.clone()]);
            // That the second key is not there is known at the end of the answer only.
            rig.answer(0, format!("{}{}{half}", item(&a, "1"), item(&c, "3")));
            let (one, three) = (found(&a, "1"), found(&c, "3"));
            all_got(&mut rig, &clients, &[&one, "", &three, "", &three, &one]);
            let link = rig.link(0);
            if end {
                rig.eof(link)
            } else {
                rig.fail(link, Failure::Reset)
            }
            all_got(&mut rig, &clients, &["", &lost, "", &lost, "", ""]);
            is_in_step(&mut rig, &a);
        }
    }
}

#[test]
fn a_multi_key_read_that_is_joined_fails_whole() {
    let mut rig = joining();
    let [a, b, c, d] = four_keys(&mut rig);
    let requests = [format!("get {a}\r\n"), format!("get {a} {b}\r\n"), format!("get {b} {d} {c}\r\n")];
    let clients = ask_each(&mut rig, &requests);
    assert_eq!(rig.saw(0), format!("get {a} {b} {d} {c}\r\n"));
    rig.answer(0, format!("{}{}", item(&a, "1"), item(&d, "4")));
    let one = found(&a, "1");
    all_got(&mut rig, &clients, &[&one, "", ""]);
    rig.fail(rig.link(0), Failure::Reset);
    let lost = error(0, "connection lost");
    all_got(&mut rig, &clients, &["", &lost, &lost]);
}

/// Something that befalls a link.
type Fault = fn(&mut Rig);

/// What a backend says to `get A B C D`, and how many of the four clients have their answer before it is seen
/// that this is none: hits by the value `1`, misses by nothing.
const NO_ANSWERS: [(&str, [&str; 4]); 22] = [
    ("VALUE other 0 1\r\n1\r\n", ["?", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nVALUE other 0 1\r\n1\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nVALUE A 0 1\r\n1\r\n", ["1", "?", "?", "?"]),
    ("VALUE B 0 1\r\n1\r\nVALUE A 0 1\r\n1\r\n", ["?", "1", "?", "?"]),
    ("VALUE D 0 1\r\n1\r\nVALUE B 0 1\r\n1\r\nEND\r\n", ["?", "?", "?", "1"]),
    ("VALUE D 0 1\r\n1\r\nVALUE D 0 1\r\n1\r\nEND\r\n", ["?", "?", "?", "1"]),
    ("VALUE A 0 1 7\r\n1\r\n", ["?", "?", "?", "?"]),
    ("VALUE C 0 1\r\n1\r\nVALUE D 0 1 7\r\n1\r\n", ["?", "?", "1", "?"]),
    ("VALUE A 0 1 7 8\r\n1\r\n", ["?", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nVALUE B 0 x\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nVALUE B 0\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nVALUE B 0 1\r\n12\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nVALUE  0 1\r\n1\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nSTORED\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nEN\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nEND \r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\nEND\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\n\r\n", ["1", "?", "?", "?"]),
    ("VALUE A 0 1\r\n1\r\n\0\n", ["1", "?", "?", "?"]),
    ("VA 1 A\r\n1\r\n", ["?", "?", "?", "?"]),
    ("END\r\nEND\r\n", ["", "", "", ""]),
    ("VALUE D 0 1\r\n1\r\nEND\r\nVALUE D 0 1\r\n1\r\n", ["", "", "", "1"]),
];

#[test]
fn what_is_no_answer_to_a_joined_get_ends_the_link() {
    for (reply, answers) in NO_ANSWERS {
        let mut rig = joining();
        let keys = four_keys(&mut rig);
        let old = rig.link(0);
        let clients = ask(&mut rig, "get", &keys);
        let mut bytes = reply.to_string();
        for (letter, key) in ["A", "B", "C", "D"].iter().zip(&keys) {
            for verb in ["VALUE", "VA 1"] {
                bytes = bytes.replace(&format!("{verb} {letter}"), &format!("{verb} {key}"));
            }
        }
        rig.answer(0, bytes);
        for ((&client, key), answer) in clients.iter().zip(&keys).zip(answers) {
            let expected = match answer {
                "?" => error(0, OUT_OF_STEP),
                "" => END.to_string(),
                value => found(key, value),
            };
            assert_eq!(rig.got(client), expected, "{reply:?}, {key}");
        }
        assert!(!rig.is_open(old), "{reply:?}");
        is_in_step(&mut rig, &keys[0]);
        assert_eq!(rig.stat("desyncs"), "1", "{reply:?}");
    }
}

#[test]
fn tokens_are_given_to_gets_and_to_nobody_else() {
    for (verb, with_cas) in [("get", true), ("gets", false)] {
        let mut rig = joining();
        let keys = four_keys(&mut rig);
        let clients = ask(&mut rig, verb, &keys);
        let value = if with_cas { item_with_cas(&keys[0], "1", 7) } else { item(&keys[0], "1") };
        rig.answer(0, format!("{value}END\r\n"));
        all_got(&mut rig, &clients, &[&error(0, OUT_OF_STEP)[..]; 4]);
    }
}

#[test]
fn at_the_deadline_all_who_have_no_answer_get_the_error_and_the_rest_of_it_reaches_nobody() {
    let timed_out = error(0, "timed out");
    for pieces in [1, 7, 1000] {
        let mut rig = joining();
        let [a, b, c, d] = four_keys(&mut rig);
        let clients =
            ask(&mut rig, "get", &[a.clone(), b.clone(), c.clone(), d.clone(), a.clone(), d.clone()]);
        let pair = rig.client();
        let value = "VALUE x 0 1\r\nx\r\nEND\r\n";
        let reply = format!("{}{}{}END\r\n", item(&a, "1"), item(&c, value), item(&d, value));
        // One is there, and some of the next.
        let cut = item(&a, "1").len() + 25;
        rig.answer(0, &reply[..cut]);
        let one = found(&a, "1");
        all_got(&mut rig, &clients, &[&one, "", "", "", &one, ""]);
        rig.wait(999);
        all_got(&mut rig, &clients, &[""; 6]);
        rig.wait(1);
        all_got(&mut rig, &clients, &["", &timed_out, &timed_out, &timed_out, "", &timed_out]);
        assert_eq!(rig.stat("timeouts"), "4");
        // What is asked meanwhile waits for the rest, and is answered by its own.
        rig.receive(pair, format!("get {d}\r\nget {b} {c}\r\n"));
        assert_eq!(rig.saw(0), "", "the link owes a reply");
        for piece in reply.as_bytes()[cut..].chunks(pieces) {
            rig.answer(0, piece);
        }
        all_got(&mut rig, &clients, &[""; 6]);
        assert_eq!((rig.got(pair), rig.saw(0)), (String::new(), format!("get {d} {b} {c}\r\n")));
        rig.answer(0, format!("{}{}END\r\n", item(&d, "44"), item(&c, "33")));
        assert_eq!(rig.got(pair), found(&d, "44") + &found(&c, "33"));
        assert_eq!((rig.stat("late_replies"), rig.connects.len()), ("1".into(), 3));
    }
}

#[test]
fn a_late_reply_that_is_none_ends_the_link() {
    let mut rig = joining();
    let keys = four_keys(&mut rig);
    let clients = ask(&mut rig, "get", &keys);
    rig.answer(0, item(&keys[1], "1"));
    rig.wait(1000);
    let timed_out = error(0, "timed out");
    all_got(&mut rig, &clients, &[&timed_out, &found(&keys[1], "1"), &timed_out, &timed_out]);
    let waiting = clients[0];
    rig.receive(waiting, format!("get {}\r\n", keys[0]));
    // This key was answered before the deadline.
    rig.answer(0, item(&keys[1], "1"));
    assert_eq!(rig.stat("desyncs"), "1");
    assert_eq!(rig.saw(0), format!("get {}\r\n", keys[0]), "never written before, on a fresh link");
    rig.answer(0, found(&keys[0], "2"));
    all_got(&mut rig, &clients, &[&found(&keys[0], "2"), "", "", ""]);
}

#[test]
fn each_joined_get_has_its_own_deadline() {
    let mut rig = joining();
    let [a, b, c, d] = four_keys(&mut rig);
    let early = ask(&mut rig, "get", &[a.clone(), b.clone()]);
    rig.wait(400);
    let late = ask(&mut rig, "get", &[b.clone(), c.clone(), b.clone()]);
    rig.wait(600);
    let timed_out = error(0, "timed out");
    all_got(&mut rig, &early, &[&timed_out, &timed_out]);
    // A third one waits unwritten.
    let third = ask_each(&mut rig, &[format!("get {d}\r\n"), format!("get {a}\r\n")]);
    rig.wait(200);
    rig.answer(0, format!("{}END\r\n{}", item(&a, "late"), item(&b, "2")));
    all_got(&mut rig, &early, &["", ""]);
    all_got(&mut rig, &late, &[&found(&b, "2"), "", &found(&b, "2")]);
    assert_eq!(rig.saw(0), format!("get {d} {a}\r\n"), "the link owes no late reply any more");
    rig.answer(0, END);
    all_got(&mut rig, &late, &["", END, ""]);
    rig.answer(0, found(&d, "4"));
    all_got(&mut rig, &third, &[&found(&d, "4"), END]);
}

#[test]
fn joined_gets_that_were_never_written_go_out_once_on_a_fresh_link() {
    // Bytes of the send in flight that were written when the link ends.
    for written in [0, 1, 10] {
        let mut rig = joining();
        let [a, b, c, d] = four_keys(&mut rig);
        let link = rig.link(0);
        rig.hold(link);
        let first = ask_each(&mut rig, &[format!("get {a}\r\n"), format!("get {b}\r\n")]);
        let second = ask_each(&mut rig, &[&c, &d, &c].map(|key| format!("get {key}\r\n")));
        if written > 0 {
            rig.write(link, written);
        }
        rig.fail(link, Failure::Reset);
        let fresh = rig.link(0);
        assert_ne!(fresh, link);
        let rest = format!("get {c} {d}\r\n");
        let expected = if written == 0 { format!("get {a} {b}\r\n{rest}") } else { rest };
        assert_eq!(rig.got(fresh), expected, "{written} bytes were written");
        if written == 0 {
            rig.answer(0, found(&b, "2"));
            all_got(&mut rig, &first, &[END, &found(&b, "2")]);
        } else {
            let lost = error(0, "connection lost");
            all_got(&mut rig, &first, &[&lost, &lost]);
        }
        rig.answer(0, format!("{}{}END\r\n", item(&c, "3"), item(&d, "4")));
        let three = found(&c, "3");
        all_got(&mut rig, &second, &[&three, &found(&d, "4"), &three]);
    }
}

#[test]
fn gets_of_the_tick_in_which_a_link_ends_go_out_on_a_fresh_one() {
    for staged in [false, true] {
        let mut rig = joining();
        let [a, b, c, _] = four_keys(&mut rig);
        let old = ask(&mut rig, "get", std::slice::from_ref(&a));
        let users = clients(&mut rig, 3);
        let link = rig.link(0);
        if !staged {
            rig.break_down(link, Failure::Reset);
        }
        rig.hand(users[0], format!("get {b}\r\nset {b} 0 0 1\r\nx\r\nget {b}\r\n").as_bytes());
        rig.hand(users[1], format!("get {c}\r\ndelete {c}\r\n").as_bytes());
        if staged {
            rig.break_down(link, Failure::Reset);
        }
        // Some are on the fresh link already when these come.
        rig.hand(users[2], format!("get {b}\r\n").as_bytes());
        rig.hand(users[1], format!("get {c}\r\n").as_bytes());
        rig.settle();
        all_got(&mut rig, &old, &[&error(0, "connection lost")]);
        let set = format!("set {b} 0 0 1\r\nx\r\n");
        // The last one's client was there before, with somebody in between: its get stands behind everything.
        let fresh = if staged { format!("get {b}\r\n") } else { String::new() };
        let expected = format!("get {b} {c}\r\n{set}delete {c}\r\nget {b}\r\n{fresh}get {c}\r\n");
        assert_eq!(rig.saw(0), expected);
        let (before, after) = (found(&b, "0"), found(&b, "x"));
        let fresh = if staged { &after[..] } else { "" };
        rig.answer(0, format!("{before}STORED\r\nNOT_FOUND\r\n{after}{fresh}{END}"));
        let third = if staged { &after } else { &before };
        let first = format!("{before}STORED\r\n{after}");
        all_got(&mut rig, &users, &[&first, &format!("{END}NOT_FOUND\r\n{END}"), third]);
    }
}

#[test]
fn of_joined_gets_that_wait_unwritten_those_expire_whose_time_has_passed() {
    let mut rig = joining();
    let [a, b, c, d] = four_keys(&mut rig);
    let first = ask(&mut rig, "get", std::slice::from_ref(&a));
    rig.wait(1000);
    let timed_out = error(0, "timed out");
    all_got(&mut rig, &first, &[&timed_out]);
    // The link owes a reply, so these wait: two requests of one tick, one of a later.
    let second = ask_each(&mut rig, &[&b, &c, &b].map(|key| format!("get {key}\r\n")));
    let tokens = ask_each(&mut rig, &[format!("get {b} {d}\r\ngets {c}\r\n")]);
    rig.wait(400);
    let third = ask_each(&mut rig, &[&d, &b].map(|key| format!("get {key}\r\n")));
    rig.answer(0, "E");
    rig.wait(600);
    all_got(&mut rig, &second, &[&timed_out; 3].map(|text| &text[..]));
    all_got(&mut rig, &tokens, &[&timed_out.repeat(2)]);
    all_got(&mut rig, &third, &["", ""]);
    rig.answer(0, "ND\r\n");
    assert_eq!(rig.saw(0), format!("get {d} {b}\r\n"), "the expired ones never go out");
    rig.answer(0, found(&b, "2"));
    all_got(&mut rig, &third, &[END, &found(&b, "2")]);
}

#[test]
fn when_a_silent_link_is_retired_unwritten_joined_gets_go_out_on_a_fresh_one() {
    let mut rig = joining();
    let [a, b, c, _] = four_keys(&mut rig);
    let old = rig.link(0);
    let first = ask(&mut rig, "get", &[a.clone(), b.clone()]);
    rig.wait(1500);
    let timed_out = error(0, "timed out");
    all_got(&mut rig, &first, &[&timed_out, &timed_out]);
    let second = ask_each(&mut rig, &[&b, &c, &b].map(|key| format!("get {key}\r\n")));
    rig.wait(500);
    assert!(rig.end(old).shut, "retired");
    assert_eq!(rig.saw(0), format!("get {b} {c}\r\n"), "once, on the fresh link");
    rig.receive(old, found(&a, "late"));
    all_got(&mut rig, &first, &["", ""]);
    rig.answer(0, found(&b, "2"));
    let two = found(&b, "2");
    all_got(&mut rig, &second, &[&two, END, &two]);
    assert_eq!(rig.stat("requeued"), "1");
}

#[test]
fn failures_look_like_misses_where_that_is_wanted() {
    let rows = [
        (ReadErrors::Error, "get", false),
        (ReadErrors::Miss, "get", true),
        (ReadErrors::Miss, "gets", false),
        (ReadErrors::MissAll, "get", true),
        (ReadErrors::MissAll, "gets", true),
    ];
    for (read_errors, verb, misses) in rows {
        let faults: [(&str, Fault); 3] = [
            ("timed out", |rig| rig.wait(1000)),
            ("connection lost", |rig| rig.fail(rig.link(0), Failure::Reset)),
            (OUT_OF_STEP, |rig| rig.answer(0, "HD\r\n")),
        ];
        for (words, fault) in faults {
            let mut rig = Rig::with(joining_with(|settings| settings.read_errors = read_errors));
            let keys = four_keys(&mut rig);
            let clients = ask(&mut rig, verb, &keys);
            let hit = match verb {
                "get" => item(&keys[1], "1"),
                _ => item_with_cas(&keys[1], "1", 7),
            };
            rig.answer(0, &hit);
            fault(&mut rig);
            let failed = if misses { END.to_string() } else { error(0, words) };
            let hit = format!("{hit}END\r\n");
            all_got(&mut rig, &clients, &[&failed, &hit, &failed, &failed]);
            let counter = if misses { "backend_errors_as_misses" } else { "backend_errors" };
            assert_eq!(rig.stat(counter), "3", "{read_errors:?} {verb} {words}");
        }
    }
}

#[test]
fn gets_wait_together_for_the_connect_and_fail_apart() {
    for refused in [false, true] {
        let mut rig = Rig::cold(joining_with(|_| {}), 1);
        let [a, b, c, _] = four_keys(&mut rig);
        let first = ask_each(&mut rig, &[&a, &b, &a].map(|key| format!("get {key}\r\n")));
        let second = ask_each(&mut rig, &[&a, &c].map(|key| format!("get {key}\r\n")));
        let link = rig.link(0);
        if refused {
            rig.fail(link, Failure::Refused);
            let refused = error(0, "connection refused");
            all_got(&mut rig, &first, &[&refused; 3].map(|text| &text[..]));
            all_got(&mut rig, &second, &[&refused; 2].map(|text| &text[..]));
            continue;
        }
        rig.connect(link);
        rig.saw(0);
        rig.answer(0, text_greeting("1.6.18", 1));
        assert_eq!(rig.saw(0), format!("get {a} {b}\r\nget {a} {c}\r\n"));
        rig.answer(0, format!("{}{}", found(&b, "2"), found(&a, "1")));
        all_got(&mut rig, &first, &[END, &found(&b, "2"), END]);
        all_got(&mut rig, &second, &[&found(&a, "1"), END]);
    }
}

#[test]
fn a_backend_that_is_down_refuses_each_get() {
    let mut rig = Rig::with(joining_with(|settings| settings.failure_limit = 1));
    let keys = four_keys(&mut rig);
    let clients = ask(&mut rig, "get", &keys);
    rig.connecting = false;
    rig.fail(rig.link(0), Failure::Reset);
    let lost = error(0, "connection lost");
    all_got(&mut rig, &clients, &[&lost; 4].map(|text| &text[..]));
    let requests: Vec<(ConnId, String)> =
        clients.iter().zip(&keys).map(|(&client, key)| (client, format!("get {key}\r\n"))).collect();
    together(&mut rig, &requests.iter().map(|(client, text)| (*client, &text[..])).collect::<Vec<_>>());
    let down = error(0, "is down");
    all_got(&mut rig, &clients, &[&down; 4].map(|text| &text[..]));
}

/// Time may pass while a tick's events are told. Requests behind a joined get are not due before it then:
/// else the core would be woken for them in vain.
#[test]
fn a_tick_that_takes_its_time_leaves_no_deadline_out_of_order() {
    let mut rig = joining();
    let [a, b, _, _] = four_keys(&mut rig);
    let users = clients(&mut rig, 2);
    rig.hand(users[0], format!("get {a}\r\ndelete {a}\r\n").as_bytes());
    rig.now = rig.now + Duration::from_micros(700);
    rig.hand(users[1], format!("get {b}\r\n").as_bytes());
    rig.settle();
    assert_eq!(rig.saw(0), format!("get {a} {b}\r\ndelete {a}\r\n"));
    rig.wait(2000);
    let timed_out = error(0, "timed out");
    all_got(&mut rig, &users, &[&timed_out.repeat(2), &timed_out]);
}
