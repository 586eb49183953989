//! Links that come and go: what was written is never sent again, what was not goes out once; and a link whose
//! bytes cannot be the answer is closed before anybody gets them.

use std::time::Duration;

use mcproxy::io::{ConnId, Failure};
use mcproxy::proxy::settings::ReadErrors;

use super::binary::{Packet, opcode, status};
use super::rig::{Rig, settings};
use super::words::{error, found, three_keys};

const LOST: &str = "connection lost";
const OUT_OF_STEP: &str = "answered out of step";

#[test]
fn an_idle_link_that_ends_is_opened_again_when_needed() {
    for failed in [false, true] {
        let mut rig = Rig::new();
        let (a, client, old) = (rig.key(0, 0), rig.client(), rig.link(0));
        if failed {
            rig.fail(old, Failure::Reset)
        } else {
            rig.eof(old)
        }
        assert_eq!(rig.links(0), [], "nobody needs it");
        rig.receive(client, format!("get {a}\r\n"));
        assert_eq!(rig.saw(0), format!("get {a}\r\n"));
        rig.answer(0, "END\r\n");
        assert_eq!(rig.got(client), "END\r\n");
        assert_eq!(rig.stat("backend:a:11211:errors"), "0");
    }
}

#[test]
fn a_request_of_the_tick_in_which_the_link_ends_goes_to_a_fresh_one() {
    let mut rig = Rig::new();
    let (a, client, old) = (rig.key(0, 0), rig.client(), rig.link(0));
    rig.hand(client, format!("set {a} 0 0 1\r\nx\r\n").as_bytes());
    rig.break_down(old, Failure::Reset);
    rig.settle();
    assert_eq!(rig.got(client), "");
    assert_eq!(rig.saw(0), format!("set {a} 0 0 1\r\nx\r\n"));
    rig.answer(0, "STORED\r\n");
    assert_eq!(rig.got(client), "STORED\r\n");
    assert_eq!(rig.stat("requeued"), "1");
}

#[test]
fn only_what_was_written_is_lost_with_a_link() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let (client, old) = (rig.client(), rig.link(0));
    rig.receive(client, format!("get {a}\r\nset {a} 0 0 1\r\nx\r\nget {b}\r\n"));
    rig.hand(client, format!("incr {a} 1\r\nget {a}\r\n").as_bytes());
    rig.break_down(old, Failure::Reset);
    rig.settle();
    assert_eq!(rig.saw(0), format!("incr {a} 1\r\nget {a}\r\n"), "what was written is not sent again");
    assert_eq!(rig.got(client), error(0, LOST).repeat(2));
    rig.answer(1, "END\r\n");
    rig.answer(0, "2\r\nEND\r\n");
    assert_eq!(rig.got(client), "END\r\n2\r\nEND\r\n");
}

/// A send of three requests of 25 bytes and a value, of which `written` bytes are written when the link
/// breaks.
fn broken_after(written: usize) -> (Vec<String>, String, [String; 3]) {
    let mut rig = Rig::new();
    let (a, client, old) = (rig.key(0, 0), rig.client(), rig.link(0));
    let value = "v".repeat(20_000);
    let requests = [
        format!("incr {a} 1\r\n"),
        format!("set {a} 0 0 {}\r\n{value}\r\n", value.len()),
        format!("incr {a} 2\r\n"),
    ];
    rig.hold(old);
    rig.receive(client, requests.concat());
    if written > 0 {
        rig.write(old, written);
    }
    let seen = rig.got(old);
    rig.fail(old, Failure::Reset);
    let again = rig.links(0).first().map(|&link| rig.got(link)).unwrap_or_default();
    for line in again.lines().filter(|line| line.contains(' ')) {
        rig.answer(0, if line.starts_with("set") { "STORED\r\n" } else { "5\r\n" });
    }
    assert!(rig.is_open(client));
    let got = rig.got(client).split_inclusive('\n').map(str::to_string).collect();
    (got, format!("{seen}|{again}"), requests)
}

#[test]
fn a_send_that_breaks_off_loses_what_was_begun_and_no_more() {
    let length = broken_after(0).2[0].len();
    let value = broken_after(0).2[1].len();
    for written in [0, 1, length - 1, length, length + 1, length + 1000, length + value - 1, length + value] {
        let (got, seen, requests) = broken_after(written);
        let starts = [0, length, length + value];
        let begun = if written == 0 { 0 } else { starts.iter().filter(|&&start| start < written).count() };
        let answers = ["5\r\n", "STORED\r\n", "5\r\n"].map(str::to_string);
        let lost = std::iter::repeat_n(error(0, LOST), begun);
        let expected: Vec<String> = lost.chain(answers.into_iter().skip(begun)).collect();
        assert_eq!(got, expected, "{written} bytes written");
        let all = requests.concat();
        let again = requests[begun..].concat();
        assert!(
            seen == format!("{}|{again}", &all[..written]),
            "{written} bytes written: {} bytes",
            seen.len()
        );
    }
}

#[test]
fn a_send_that_had_ended_is_lost_whole() {
    let (got, seen, requests) = broken_after(broken_after(0).2.concat().len() - 1);
    assert_eq!(got, vec![error(0, LOST); 3]);
    assert_eq!(seen.len(), requests.concat().len() - 1 + "|".len());
}

#[test]
fn replies_of_the_last_moment_count() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\nget {a}\r\n"));
    let link = rig.link(0);
    rig.hand(link, found(&a, "x").as_bytes());
    rig.break_down(link, Failure::Reset);
    rig.settle();
    assert_eq!(rig.got(client), format!("{}{}", found(&a, "x"), error(0, LOST)));
}

#[test]
fn a_refused_connect_is_told_at_once_and_tried_again_by_the_next_request() {
    let mut rig = Rig::cold(settings(|_| {}), 1);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\nset {a} 0 0 1\r\nx\r\n"));
    rig.fail(rig.link(0), Failure::Refused);
    assert_eq!(rig.got(client), error(0, "connection refused").repeat(2));
    assert_eq!(rig.links(0), []);
    rig.receive(client, format!("get {a}\r\n"));
    rig.fail(rig.link(0), Failure::Unreachable);
    assert_eq!(rig.got(client), error(0, "is unreachable"));
    rig.connecting = true;
    rig.greeting = true;
    rig.receive(client, format!("get {a}\r\n"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(client), "END\r\n");
}

#[test]
fn a_connect_that_takes_too_long_is_given_up() {
    let mut rig = Rig::cold(settings(|_| {}), 1);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    let link = rig.link(0);
    rig.advance(Duration::from_micros(499_999));
    assert_eq!((rig.got(client), rig.is_open(link)), (String::new(), true));
    rig.advance(Duration::from_micros(1));
    assert_eq!(rig.got(client), error(0, "connect timed out"));
    assert!(!rig.is_open(link));
}

#[test]
fn all_addresses_of_a_name_are_tried_in_turn() {
    let settings = settings(|settings| settings.backends[0].by_name = true);
    let mut rig = Rig::cold(settings, 1);
    rig.greeting = true;
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!((rig.resolves.len(), rig.connects.len()), (1, 0), "looked up before the connect");
    rig.resolve(0, 3);
    rig.fail(rig.link(0), Failure::Refused);
    let second = rig.link(0);
    // The second hangs: it may have half of the time that is left for two.
    rig.advance(Duration::from_micros(249_999));
    assert!(rig.is_open(second));
    rig.advance(Duration::from_micros(1));
    assert!(!rig.is_open(second));
    assert_eq!(rig.connects.iter().map(|connect| connect.2).collect::<Vec<_>>(), [0, 1, 2]);
    rig.connect(rig.link(0));
    assert_eq!(rig.saw(0), format!("get {a}\r\n"), "once");
    rig.answer(0, found(&a, "x"));
    assert_eq!(rig.got(client), found(&a, "x"));
    // A fresh link asks for the name again.
    rig.eof(rig.link(0));
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.resolves, [0, 0]);
}

#[test]
fn the_last_addresses_failure_is_the_answer() {
    let settings = settings(|settings| settings.backends[0].by_name = true);
    let mut rig = Rig::cold(settings, 1);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.resolve(0, 2);
    rig.fail(rig.link(0), Failure::Refused);
    assert_eq!(rig.got(client), "");
    rig.wait(500);
    assert_eq!(rig.got(client), error(0, "connect timed out"));
}

#[test]
fn a_name_that_does_not_resolve_is_a_backend_that_is_not_there() {
    let settings = settings(|settings| settings.backends[0].by_name = true);
    let mut rig = Rig::cold(settings, 1);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.resolve(0, 0);
    assert_eq!(rig.got(client), error(0, "name does not resolve"));
    // A resolver that hangs is a connect that hangs, and its late answer harms nobody.
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(500);
    assert_eq!(rig.got(client), error(0, "connect timed out"));
    rig.resolve(0, 1);
    assert_eq!(rig.connects.len(), 0);
    assert!(rig.is_open(client));
}

#[test]
fn a_link_that_ends_with_its_requests_unanswered_is_not_opened_for_them_again_and_again() {
    let mut rig = Rig::new();
    rig.greeting = false;
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.eof(rig.link(0));
    for _ in 0..5 {
        rig.receive(client, format!("get {a}\r\n"));
        rig.eof(rig.link(0));
        assert_eq!(rig.got(client), error(0, LOST));
    }
    assert_eq!(rig.connects.len(), 3 + 5);
}

const FOUND: &str = "VALUE K 0 1\r\nx\r\nEND\r\n";
const FOUND_TWICE: &str = "VALUE K 0 1\r\nx\r\nVALUE K 0 1\r\nx\r\nEND\r\n";

/// The requests, what the backend sends, what the client may have got before the link was closed, and how
/// many of the requests are then answered with the error. A value that came whole is its key's, whatever
/// comes behind it.
const DESYNCS: &[(&str, &str, &str, usize)] = &[
    ("get K\r\n", "VALUE other 0 1\r\nx\r\nEND\r\n", "", 1),
    ("get K\r\n", "VALUE K 0 1 7\r\nx\r\nEND\r\n", "", 1),
    ("gets K\r\n", "VALUE K 0 1\r\nx\r\nEND\r\n", "", 1),
    ("get K\r\n", "VALUE K 0 1\r\nxy\r\nEND\r\n", "", 1),
    ("get K\r\n", "VALUE K 0 1\r\nx\r\nVALUE K 0 1\r\nx\r\nEND\r\n", FOUND, 0),
    ("get K\r\n", "VALUE K 0 x\r\nx\r\nEND\r\n", "", 1),
    ("get K\r\n", "STORED\r\n", "", 1),
    ("get K\r\n", "END\n", "", 1),
    ("get K\r\n", "\0\0\0\r\n", "", 1),
    ("get K\r\nget K\r\n", "END\r\nSTORED\r\n", "END\r\n", 1),
    ("get K\r\n", "END\r\nEND\r\n", "END\r\n", 0),
    ("get K\r\n", "END\r\n\n", "END\r\n", 0),
    ("get K\r\n", "VALUE K 0 1\r\nx\r\nVALUE x 0 1\r\ny\r\nEND\r\n", FOUND, 0),
    ("get K K\r\n", "VALUE K 0 1\r\nx\r\nVALUE K 0 1\r\nx\r\nEND\r\n", FOUND_TWICE, 0),
    ("gets K K\r\n", "VALUE K 0 1\r\nx\r\nEND\r\n", "", 1),
    ("mg K v\r\n", "VA 1\r\nxy\r\n", "", 1),
    ("mg K v\r\n", "VA x\r\nx\r\n", "", 1),
    ("mg K v\r\nmn\r\n", "EN\r\nHD\r\n", "EN\r\nMN\r\n", 0),
    ("set K 0 0 1\r\nx\r\n", "STORED\n", "", 1),
];

/// Answers of the wrong kind: each could only be another request's.
const IMPOSSIBLE: &[(&str, &[&str])] = &[
    (
        "set K 0 0 1\r\nx\r\n",
        &["", "END", "OK", "HD", "7", "DELETED", "TOUCHED", "VALUE K 0 1", "VERSION 1.6.18"],
    ),
    ("cas K 0 0 1 7\r\nx\r\n", &["END", "OK", "MN", "7", "DELETED", "TOUCHED"]),
    ("incr K 1\r\n", &["STORED", "END", "OK", "HD", "DELETED", "1x", "-1"]),
    ("touch K 1\r\n", &["STORED", "END", "OK", "7", "DELETED"]),
    ("delete K\r\n", &["STORED", "END", "OK", "7", "TOUCHED"]),
    ("flush_all\r\n", &["STORED", "END", "7", "DELETED"]),
    ("mg K\r\n", &["STORED", "END", "OK", "7", "DELETED", "VALUE K 0 1"]),
    ("md K\r\n", &["STORED", "END", "OK", "7", "DELETED", "VALUE K 0 1"]),
    // Somebody else's.
    ("mg K t O1 k\r\n", &["HD t-1 O2", "HD t-1 O1 kother", "HD t-1 O12", "EN O2", "VA 1 O2\r\nx"]),
    ("ma K q N0 O1\r\n", &["HD O2\r\nMN", "VA 1 O2\r\n1\r\nMN"]),
];

/// memcached gives the raw key back, and its line end is none of the answer.
#[test]
fn an_answer_that_bears_a_raw_key_is_in_step() {
    for (command, flags, fence) in [("mg", "", ""), ("ma", "", ""), ("ma", "N0 q", "MN\r\n"), ("md", "", "")]
    {
        let mut rig = Rig::new();
        let client = rig.client();
        let request = format!("{command} YQ0KYg== b k O1 {flags}\r\nmn\r\n");
        rig.receive(client, &request);
        let owner = (0..3).find(|&backend| !rig.saw(backend).is_empty()).expect("somebody owns it");
        rig.answer(owner, format!("HD ka\r\nb O1\r\n{fence}"));
        assert_eq!(rig.got(client), "HD ka\r\nb O1\r\nMN\r\n", "{request}");
    }
}

/// A lone request or two on a's link, an answer out of step, and what has become of it.
fn out_of_step(requests: &str, sent: &str) -> (String, bool, String) {
    let mut rig = Rig::new();
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    let fill = |text: &str| text.replace('K', &a).replace(&format!("O{a}"), "OK");
    rig.receive(client, fill(requests));
    rig.receive(link, fill(sent));
    let got = rig.got(client);
    assert!(rig.is_open(client), "the client is not to blame");
    let closed = !rig.is_open(link);
    (got, closed, a)
}

#[test]
fn a_link_out_of_step_is_closed_and_nobody_gets_its_bytes() {
    for &(requests, sent, before, errors) in DESYNCS {
        let (got, closed, _) = out_of_step(requests, sent);
        assert!(closed, "{requests:?} answered by {sent:?} closes the link; the client got {got:?}");
        let before = before.replace('K', &Rig::new().key(0, 0));
        let expected = format!("{before}{}", error(0, OUT_OF_STEP).repeat(errors));
        assert_eq!(got, expected, "{requests:?} answered by {sent:?}");
    }
}

#[test]
fn an_answer_of_another_kind_is_out_of_step() {
    let mut passed_on = Vec::new();
    for &(request, answers) in IMPOSSIBLE {
        for answer in answers {
            let (got, closed, _) = out_of_step(request, &format!("{answer}\r\n"));
            // A flush_all waits for the other backends.
            if !closed || !(got.is_empty() || got == error(0, OUT_OF_STEP)) {
                passed_on.push(format!("{} answered by {answer}: {got:?}", request.trim_end()));
            }
        }
    }
    assert!(passed_on.is_empty(), "believed: {passed_on:#?}");
}

#[test]
fn nothing_that_came_unasked_is_kept_for_later() {
    let mut rig = Rig::new();
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    rig.receive(link, "E");
    assert!(!rig.is_open(link), "nobody had asked");
    rig.receive(client, format!("get {a}\r\n"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(client), "END\r\n");
    assert_eq!(rig.stat("desyncs"), "1");
}

#[test]
fn an_answer_before_its_request_was_written_is_out_of_step() {
    let mut rig = Rig::new();
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    rig.hand(client, format!("get {a}\r\n").as_bytes());
    rig.hand(link, b"END\r\n");
    rig.settle();
    assert!(!rig.is_open(link));
    assert_eq!(rig.got(client), "", "it was never written, so it goes to a fresh link");
    assert_eq!(rig.saw(0), format!("get {a}\r\n"));
}

#[test]
fn a_greeting_that_is_no_stats_is_out_of_step() {
    let mut rig = Rig::cold(settings(|_| {}), 1);
    rig.connecting = true;
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.answer(0, "VERSION 1.6.18\r\n");
    assert_eq!(rig.got(client), error(0, OUT_OF_STEP));
    assert_eq!(rig.links(0), []);
}

#[test]
fn binary_replies_must_bear_what_was_asked() {
    let request = |op| Packet::request(op).opaque(1);
    for wrong in ["opaque", "opcode", "magic", "surplus"] {
        let mut rig = Rig::new();
        let (a, client) = (rig.key(0, 0), rig.client());
        rig.eof(rig.link(0));
        rig.receive(client, request(opcode::GETK).key(&a).bytes());
        let link = rig.link(0);
        let asked = Packet::read_all(&rig.got_bytes(link)).remove(0);
        let right = Packet::reply(opcode::GETK).opaque(asked.opaque_of()).status(1).bytes();
        let mut reply = right.clone();
        match wrong {
            "opaque" => reply[15] ^= 1,
            "opcode" => reply[1] = opcode::GET,
            "magic" => reply[0] = 0x80,
            _ => reply.push(0x81),
        }
        rig.receive(link, &reply);
        assert!(!rig.is_open(link), "wrong {wrong}");
        let got = Packet::read_all(&rig.got_bytes(client));
        let expected = if wrong == "surplus" { status::KEY_NOT_FOUND } else { status::TEMPORARY_FAILURE };
        assert_eq!((got.len(), got[0].status_of(), got[0].opaque_of()), (1, expected, 1), "wrong {wrong}");
        assert_eq!(got[0].opcode_of(), opcode::GETK);
    }
}

/// With reads of a dead backend shown as misses, a multi-get goes on to its next window by itself.
#[test]
fn a_lost_link_is_replaced_by_one_link() {
    let settings = settings(|settings| {
        settings.read_errors = ReadErrors::MissAll;
        settings.limits.window_keys_max = 2;
    });
    let mut rig = Rig::with(settings);
    let (client, other) = (rig.client(), rig.client());
    let keys: Vec<String> = (0..4).map(|number| rig.key(0, number)).collect();
    rig.receive(client, format!("get {}\r\n", keys.join(" ")));
    rig.hand(other, format!("set {} 0 0 1\r\nx\r\n", keys[0]).as_bytes());
    rig.break_down(rig.link(0), Failure::Reset);
    rig.settle();
    let links: Vec<ConnId> = rig.links(0);
    assert_eq!(links.len(), 1, "one link to a backend for each protocol");
}

#[test]
fn a_retired_link_is_replaced_by_one_link() {
    let settings = settings(|settings| {
        settings.read_errors = ReadErrors::MissAll;
        settings.limits.window_keys_max = 2;
        settings.timeout = Duration::from_millis(100);
    });
    let mut rig = Rig::with(settings);
    let (client, other) = (rig.client(), rig.client());
    let keys: Vec<String> = (0..20).map(|number| rig.key(0, number)).collect();
    rig.receive(client, format!("get {}\r\n", keys.join(" ")));
    rig.wait(150);
    rig.receive(other, format!("set {} 0 0 1\r\nx\r\n", keys[0]));
    rig.wait(50);
    let links: Vec<ConnId> = rig.links(0);
    assert_eq!(links.len(), 1, "one link to a backend for each protocol");
}
