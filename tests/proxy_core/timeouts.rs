//! Deadlines by virtual time: the error comes when it is due, to the microsecond; what comes late reaches
//! nobody; and a link that owes a late reply is not written to, but retired in the end.

use std::time::Duration;

use mcproxy::io::{ConnId, Failure};

use super::binary::{Packet, opcode, status};
use super::rig::{Rig, settings};
use super::words::{error, found, three_keys};

const TIMED_OUT: &str = "timed out";
const MICROSECOND: Duration = Duration::from_micros(1);

/// A microsecond before `milliseconds` have passed nothing comes, and then `expected` does.
fn comes_after(rig: &mut Rig, client: ConnId, milliseconds: u64, expected: &str) {
    rig.advance(Duration::from_millis(milliseconds) - MICROSECOND);
    assert_eq!(rig.got(client), "", "one microsecond early");
    rig.advance(MICROSECOND);
    assert_eq!(rig.got(client), expected);
}

#[test]
fn a_request_gets_its_error_when_its_time_is_over() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {a}\r\nget {b}\r\nset {a} 0 0 1\r\nx\r\n"));
    rig.answer(1, "END\r\n");
    let expected = format!("{}END\r\n{}", error(0, TIMED_OUT), error(0, TIMED_OUT));
    comes_after(&mut rig, client, 1000, &expected);
    assert!(rig.is_open(client));
}

#[test]
fn each_request_has_its_own_deadline() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    for _ in 0..3 {
        rig.receive(client, format!("get {a}\r\n"));
        rig.wait(300);
    }
    for wait in [100, 300, 300] {
        comes_after(&mut rig, client, wait, &error(0, TIMED_OUT));
    }
}

/// A link that goes silent is retired, and the mark of what had timed out on it goes with it.
#[test]
fn a_timeout_is_counted_once() {
    let mut rig = Rig::new();
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    rig.receive(client, format!("set {a} 0 0 1\r\nx\r\n"));
    rig.wait(1000);
    assert_eq!((rig.got(client), rig.stat("timeouts")), (error(0, TIMED_OUT), "1".to_string()));
    rig.wait(1000);
    assert_ne!(rig.links(0), [link], "it was retired");
    rig.fail(link, Failure::Reset);
    assert_eq!(rig.stat("timeouts"), "1");
}

#[test]
fn a_late_reply_is_thrown_away() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\nset {a} 0 0 1\r\nx\r\n"));
    rig.wait(1000);
    assert_eq!(rig.got(client), error(0, TIMED_OUT).repeat(2));
    let late = format!("{}STORED\r\n", found(&a, "late"));
    for byte in late.as_bytes().chunks(1) {
        rig.answer(0, byte);
    }
    assert_eq!(rig.got(client), "");
    assert_eq!(rig.stat("late_replies"), "2");
    rig.saw(0);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.saw(0), format!("get {a}\r\n"), "on the same link");
    rig.answer(0, found(&a, "prompt"));
    assert_eq!(rig.got(client), found(&a, "prompt"));
    assert_eq!(rig.connects.len(), 3, "the link never ended");
}

#[test]
fn nothing_is_written_while_a_late_reply_is_owed() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(1000);
    assert_eq!((rig.got(client), rig.saw(0)), (error(0, TIMED_OUT), format!("get {a}\r\n")));
    rig.receive(client, format!("set {a} 0 0 1\r\nx\r\n"));
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(500);
    assert_eq!(rig.saw(0), "", "the link owes a reply");
    rig.answer(0, "END\r\n");
    assert_eq!(rig.saw(0), format!("set {a} 0 0 1\r\nx\r\nget {a}\r\n"), "now it owes none");
    rig.answer(0, format!("STORED\r\n{}", found(&a, "x")));
    assert_eq!(rig.got(client), format!("STORED\r\n{}", found(&a, "x")));
}

#[test]
fn half_a_late_reply_is_still_owed() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    let reply = found(&a, "some value");
    rig.answer(0, &reply[..20]);
    comes_after(&mut rig, client, 1000, &error(0, TIMED_OUT));
    rig.saw(0);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.saw(0), "");
    rig.answer(0, &reply[20..]);
    assert_eq!(rig.saw(0), format!("get {a}\r\n"));
    rig.answer(0, &reply);
    assert_eq!(rig.got(client), reply);
}

#[test]
fn what_waits_behind_a_late_reply_has_its_own_deadline() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(1000);
    rig.got(client);
    rig.receive(client, format!("set {a} 0 0 1 noreply\r\nx\r\nget {a}\r\n"));
    rig.wait(500);
    // One byte of the late reply keeps the link from being retired meanwhile.
    rig.answer(0, "E");
    comes_after(&mut rig, client, 500, &error(0, TIMED_OUT));
    rig.answer(0, "ND\r\n");
    assert_eq!(rig.saw(0), format!("get {a}\r\n"), "the two that gave up were never written");
    rig.receive(client, format!("get {a}\r\n"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(client), "END\r\n");
}

#[test]
fn a_silent_link_is_retired_and_what_was_never_written_goes_out_once_on_a_fresh_one() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    let old = rig.link(0);
    rig.receive(client, format!("get {a}\r\ndelete {a}\r\n"));
    rig.wait(1000);
    assert_eq!(rig.got(client), error(0, TIMED_OUT).repeat(2));
    rig.wait(400);
    rig.receive(client, format!("set {a} 0 0 1\r\nx\r\nincr {a} 1\r\n"));
    rig.advance(Duration::from_millis(600) - MICROSECOND);
    assert!(!rig.end(old).shut, "one microsecond early");
    rig.advance(MICROSECOND);
    assert!(rig.end(old).shut && rig.is_open(old), "shut down, and kept");
    assert_eq!(rig.got(old), format!("get {a}\r\ndelete {a}\r\n"));
    let fresh = rig.link(0);
    assert_ne!(old, fresh);
    assert_eq!(rig.got(fresh), format!("set {a} 0 0 1\r\nx\r\nincr {a} 1\r\n"), "once, and nothing else");
    rig.answer(0, "STORED\r\n5\r\n");
    assert_eq!(rig.got(client), "STORED\r\n5\r\n");
    assert_eq!((rig.stat("requeued"), rig.stat("retired_links")), ("2".into(), "1".into()));

    rig.receive(old, "END\r\nDELETED\r\nwhatever\r\n");
    assert!(rig.is_open(old), "it is kept until the backend ends it");
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.got(client), "");
    assert_eq!(rig.saw(0), format!("get {a}\r\n"), "on the fresh link");
    rig.eof(old);
    assert!(!rig.ends.contains_key(&old.to_bits()), "its end has come");
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(client), "END\r\n");
}

/// One get is overdue, and its client has asked for the same again: that waits, for nothing new is written to
/// the link.
fn waiting_behind_a_mark() -> (Rig, ConnId) {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(1100);
    rig.got(client);
    rig.receive(client, format!("get {a}\r\n"));
    (rig, client)
}

#[test]
fn what_is_requeued_keeps_its_deadline() {
    let (mut rig, client) = waiting_behind_a_mark();
    rig.connecting = false;
    rig.wait(900);
    assert_eq!((rig.links(0).len(), rig.connects.len()), (1, 4), "retired, and a fresh link connects");
    assert_eq!(rig.got(client), "");
    comes_after(&mut rig, client, 100, &error(0, TIMED_OUT));
}

#[test]
fn what_waited_for_the_connect_keeps_its_deadline_behind_the_greeting() {
    let mut rig = Rig::cold(settings(|_| {}), 1);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(400);
    rig.connect(rig.link(0));
    assert_eq!(rig.saw(0), "stats\r\n");
    comes_after(&mut rig, client, 600, &error(0, TIMED_OUT));
}

#[test]
fn what_was_requeued_keeps_its_deadline_behind_the_greeting() {
    let (mut rig, client) = waiting_behind_a_mark();
    rig.greeting = false;
    rig.wait(900);
    assert_eq!(rig.saw(0), "stats\r\n", "a fresh link");
    comes_after(&mut rig, client, 100, &error(0, TIMED_OUT));
}

#[test]
fn the_oldest_retired_link_gives_way() {
    let mut rig = Rig::with(settings(|settings| {
        settings.limits.retired_links_max = 2;
        settings.failure_limit = 100;
    }));
    let (a, client) = (rig.key(0, 0), rig.client());
    let mut retired = Vec::new();
    for round in 1..=4 {
        retired.push(rig.link(0));
        rig.receive(client, format!("get {a}\r\n"));
        rig.wait(2000);
        assert_eq!(rig.got(client), error(0, TIMED_OUT));
        // The next request opens the next link.
        rig.receive(client, format!("get {a}\r\n"));
        rig.answer(0, "END\r\n");
        assert_eq!(rig.got(client), "END\r\n");
        let open: Vec<bool> = retired.iter().map(|&link| rig.is_open(link)).collect();
        let expected: Vec<bool> = (1..=round).map(|number| number + 2 > round).collect();
        assert_eq!(open, expected, "after {round} retired links");
    }
    assert_eq!(rig.stat("backend:a:11211:retired_links"), "2");
}

#[test]
fn a_reset_ends_a_retired_link() {
    let mut rig = Rig::new();
    let (a, client, old) = (rig.key(0, 0), rig.client(), rig.link(0));
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(2000);
    assert!(rig.end(old).shut);
    rig.fail(old, Failure::Reset);
    assert!(!rig.ends.contains_key(&old.to_bits()));
    assert_eq!(rig.got(client), error(0, TIMED_OUT));
}

#[test]
fn a_link_that_goes_on_answering_is_not_retired() {
    let mut rig = Rig::new();
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    let value = "v".repeat(100);
    let reply = found(&a, &value);
    rig.receive(client, format!("get {a}\r\n"));
    for byte in reply.as_bytes()[..reply.len() - 1].chunks(20) {
        rig.wait(900);
        rig.answer(0, byte);
    }
    assert_eq!(rig.got(client), error(0, TIMED_OUT));
    assert!(!rig.end(link).shut, "bytes came in every second");
    rig.answer(0, "\n");
    rig.saw(0);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.got(link), format!("get {a}\r\n"));
}

#[test]
fn quiet_requests_time_out_in_silence() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("set {a} 0 0 1 noreply\r\nx\r\nms {a} 1 q\r\nx\r\nget {b}\r\n"));
    rig.answer(1, "END\r\n");
    assert_eq!(rig.got(client), "", "the order is kept");
    rig.wait(1000);
    assert_eq!(rig.got(client), format!("{}END\r\n", error(0, TIMED_OUT)), "meta's q hears errors");
    assert_eq!(rig.stat("backend_errors_unheard"), "1");
}

#[test]
fn a_binary_request_gets_a_temporary_failure() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    let requests =
        [Packet::request(opcode::GETKQ).key(&a).opaque(0xdead_beef), Packet::request(opcode::NOOP).opaque(2)];
    requests.iter().for_each(|packet| rig.receive(client, packet.bytes()));
    rig.wait(1000);
    let words = error(0, TIMED_OUT);
    let expected = [
        Packet::reply(opcode::GETKQ)
            .status(status::TEMPORARY_FAILURE)
            .opaque(0xdead_beef)
            .value(words.trim_end()),
        Packet::reply(opcode::NOOP).opaque(2),
    ];
    let got = Packet::read_all(&rig.got_bytes(client));
    assert_eq!(format!("{got:#?}"), format!("{expected:#?}"));
}

#[test]
fn a_send_that_does_not_end_does_not_hide_a_timeout() {
    let mut rig = Rig::new();
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    rig.hold(link);
    rig.receive(client, format!("set {a} 0 0 1\r\nx\r\n"));
    rig.receive(client, format!("get {a}\r\n"));
    rig.write(link, 3);
    comes_after(&mut rig, client, 1000, &error(0, TIMED_OUT).repeat(2));
    rig.wait(1000);
    assert!(rig.end(link).shut, "retired");
    rig.wait(10_000);
    assert_eq!(rig.got(client), "");
}
