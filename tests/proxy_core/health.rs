//! A backend that fails often enough is down: its requests are told so at once, it is probed, and it is taken
//! back by its first answer. Nobody else notices.

use std::time::Duration;

use mcproxy::io::Failure;

use super::rig::{Rig, settings, text_greeting};
use super::words::{error, found, three_keys};

const DOWN: &str = "is down";

/// A worker whose backend 0 has refused three connects, each a timeout apart, and is down since now.
fn down_since_now() -> (Rig, mcproxy::io::ConnId, String) {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.eof(rig.link(0));
    rig.connecting = false;
    for round in 0..3 {
        if round > 0 {
            rig.wait(1000);
            assert_eq!(rig.stat("backend:a:11211:state"), "unknown", "not down before the third");
        }
        rig.receive(client, format!("get {a}\r\n"));
        rig.fail(rig.link(0), Failure::Refused);
        assert_eq!(rig.got(client), error(0, "connection refused"));
    }
    (rig, client, a)
}

#[test]
fn failures_of_one_moment_count_once() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.eof(rig.link(0));
    rig.connecting = false;
    for _ in 0..20 {
        rig.receive(client, format!("get {a}\r\n"));
        rig.fail(rig.link(0), Failure::Refused);
        assert_eq!(rig.got(client), error(0, "connection refused"), "not down after one moment");
    }
}

#[test]
fn a_down_backend_is_named_at_once_and_the_others_do_not_notice() {
    let (mut rig, client, a) = down_since_now();
    let [_, b, c] = three_keys(&mut rig);
    let connects = rig.connects.len();
    rig.receive(client, format!("get {a}\r\nget {b}\r\nget {c}\r\n"));
    assert_eq!(rig.got(client), error(0, DOWN), "at once");
    rig.answer(2, found(&c, "3"));
    rig.answer(1, found(&b, "2"));
    assert_eq!(rig.got(client), format!("{}{}", found(&b, "2"), found(&c, "3")));
    assert_eq!(rig.connects.len(), connects, "requests do not open links to it");
    assert_eq!(rig.stat("backend:a:11211:state"), "down");
    assert_eq!(rig.stat("backend:b:11211:state"), "up");
    assert!(rig.is_open(client));
}

#[test]
fn a_down_backend_is_probed_ever_less_often_and_at_least_every_five_seconds() {
    let (mut rig, _, _) = down_since_now();
    let mut last = rig.now;
    for expected in [1_000, 2_000, 4_000, 5_000, 5_000, 5_000] {
        let connects = rig.connects.len();
        while rig.connects.len() == connects {
            let timeout = rig.poll_timeout().expect("a probe is due");
            rig.advance(timeout);
            let waited = rig.now.since(last);
            assert!(waited <= Duration::from_millis(expected), "no probe after {waited:?} of {expected} ms");
        }
        let waited = rig.now.since(last);
        let least = Duration::from_millis(expected * 9 / 10);
        assert!(waited >= least, "a probe after {waited:?}, jitter takes at most a tenth of {expected} ms");
        last = rig.now;
        rig.fail(rig.link(0), Failure::Refused);
    }
}

#[test]
fn an_answered_probe_takes_the_backend_back() {
    let (mut rig, client, a) = down_since_now();
    rig.wait(1000);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.got(client), error(0, DOWN), "the probe is not answered yet");
    rig.connect(rig.link(0));
    assert_eq!(rig.stat("backend:a:11211:state"), "up");
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.saw(0), format!("get {a}\r\n"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(client), "END\r\n");
}

#[test]
fn a_probe_that_connects_and_is_not_answered_takes_nothing_back() {
    let (mut rig, client, a) = down_since_now();
    rig.connecting = true;
    rig.greeting = false;
    // From now on every connect stands, and nothing is ever answered.
    let connects = rig.connects.len();
    for _ in 0..60 {
        rig.wait(1000);
        rig.receive(client, format!("get {a}\r\n"));
        assert_eq!(rig.got(client), error(0, DOWN));
    }
    let probes = rig.connects.len() - connects;
    assert!((6..=30).contains(&probes), "{probes} probes in a minute");
    // It wakes up: a probe finds out within ten seconds.
    rig.greeting = true;
    rig.wait(10_000);
    assert_eq!(rig.stat("backend:a:11211:state"), "up");
}

#[test]
fn the_count_starts_again_with_each_answer() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    for _ in 0..10 {
        rig.receive(client, format!("get {a}\r\n"));
        rig.fail(rig.link(0), Failure::Reset);
        assert_eq!(rig.got(client), error(0, "connection lost"));
        rig.wait(1000);
        rig.receive(client, format!("get {a}\r\n"));
        rig.answer(0, "END\r\n");
        assert_eq!(rig.got(client), "END\r\n");
    }
}

#[test]
fn a_backend_that_only_times_out_goes_down_too() {
    let mut rig = Rig::new();
    rig.greeting = false;
    let (a, client) = (rig.key(0, 0), rig.client());
    let mut answers = Vec::new();
    for _ in 0..10 {
        rig.receive(client, format!("get {a}\r\n"));
        rig.wait(1000);
        answers.push(rig.got(client));
    }
    assert_eq!(answers[0], error(0, "timed out"));
    let down = answers.iter().position(|answer| *answer == error(0, DOWN)).expect("it goes down");
    assert!(down <= 5, "after {down} seconds: {answers:?}");
    assert_eq!(rig.stat("backend:a:11211:state"), "down");
}

#[test]
fn many_timeouts_of_one_moment_do_not_delay_the_first_probe() {
    let settings = settings(|settings| settings.failure_limit = 1);
    let mut rig = Rig::with(settings);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n").repeat(10));
    rig.wait(1000);
    assert_eq!(rig.got(client), error(0, "timed out").repeat(10));
    let down = rig.now;
    // The link owes ten replies and is retired a second later; the probe needs a fresh one.
    rig.wait(1000);
    while rig.connects.len() == 3 {
        let timeout = rig.poll_timeout().expect("a probe is due");
        rig.advance(timeout);
        let waited = rig.now.since(down);
        assert!(waited <= Duration::from_millis(3000), "not probed {waited:?} after it went down");
    }
}

#[test]
fn a_late_reply_does_not_take_a_down_backend_back_and_a_probe_does() {
    let settings = settings(|settings| settings.failure_limit = 1);
    let mut rig = Rig::with(settings);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(1000);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.got(client), format!("{}{}", error(0, "timed out"), error(0, DOWN)));
    rig.answer(0, "END\r\n");
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.got(client), error(0, DOWN), "an old link proves nothing");
    rig.wait(1000);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.saw(0), format!("get {a}\r\n"));
}

#[test]
fn a_worker_greets_all_backends_at_its_start_and_names_those_that_are_not_there() {
    let mut rig = Rig::cold(settings(|_| {}), 0);
    rig.settle();
    assert_eq!(rig.connects.len(), 3);
    let (client, keys) = (rig.client(), three_keys(&mut rig));
    rig.connect(rig.link(1));
    rig.fail(rig.link(0), Failure::Refused);
    rig.receive(client, "version\r\n");
    assert_eq!(rig.got(client), "VERSION 1.6.0\r\n", "the oldest that is supported, for none has said");
    rig.answer(1, text_greeting("1.6.21", 1));
    rig.connect(rig.link(2));
    rig.answer(2, text_greeting("1.6.9", 1));
    rig.receive(client, "version\r\n");
    assert_eq!(rig.got(client), "VERSION 1.6.9\r\n", "the lowest");
    rig.saw(1);
    rig.receive(client, format!("get {}\r\n", keys[1]));
    assert_eq!(rig.saw(1), format!("get {}\r\n", keys[1]), "asked for its version once");
    let mut other = Rig::cold(settings(|_| {}), 1);
    other.settle();
    assert_eq!(other.connects.len(), 0, "the other workers open links when they need them");
}
