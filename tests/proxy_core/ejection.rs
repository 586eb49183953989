//! Ejection and return, seen by one worker: what was under way, what is made to be forgotten and where, and
//! that a backend comes back. `src/sim` has found each of these the hard way.

use mcproxy::io::{ConnId, Failure};
use mcproxy::ownership::change::{Notice, Written};

use super::rig::{Rig, settings};
use super::words::error;

/// Backends are ejected after one failure; those that are given up can't be reached.
fn ejecting(change: impl FnOnce(&mut mcproxy::proxy::settings::Settings)) -> Rig {
    let mut rig = Rig::with(settings(|settings| {
        (settings.auto_eject, settings.failure_limit) = (true, 1);
        change(settings);
    }));
    rig.connecting = false;
    // The probe of a backend without a link needs one; these stand already.
    rig.wait(1);
    rig
}

/// A backend's link is lost with a request in flight.
fn eject(rig: &mut Rig, client: ConnId, backend: usize) {
    let key = rig.key(backend, 0);
    rig.receive(client, format!("get {key}\r\n"));
    rig.fail(rig.link(backend), Failure::Reset);
    assert_eq!(rig.got(client), error(backend, "connection lost"));
}

/// It can be reached again, and is probed.
fn let_return(rig: &mut Rig, backend: usize) -> ConnId {
    for _ in 0..100 {
        rig.wait(100);
        if let Some(&link) = rig.links(backend).first() {
            rig.connect(link);
            return link;
        }
    }
    panic!("backend {backend} is not probed");
}

/// Answers what backends are asked to forget; gives how many keys that was, by backend.
fn forget_all(rig: &mut Rig) -> [usize; 3] {
    let mut many = [0; 3];
    loop {
        let before = many;
        for (backend, count) in many.iter_mut().enumerate() {
            for link in rig.links(backend) {
                let lines = rig.got(link);
                for line in lines.lines() {
                    assert!(line.starts_with("delete "), "{line}");
                    *count += 1;
                    rig.receive(link, "DELETED\r\n");
                }
            }
        }
        if many == before {
            return many;
        }
    }
}

#[test]
fn what_was_in_flight_to_an_ejected_backend_is_not_told_apart_from_what_was_applied() {
    let mut rig = ejecting(|_| {});
    rig.connecting = true;
    let (a, client, other) = (rig.key(0, 0), rig.client(), rig.client());
    let text = rig.link(0);
    rig.receive(client, format!("set {a} 0 0 1\r\nx\r\n"));
    let mut get = [0; 24];
    (get[0], get[3], get[11]) = (0x80, a.len() as u8, a.len() as u8);
    rig.receive(other, [&get[..], a.as_bytes()].concat());
    let binary = *rig.links(0).iter().find(|&&link| link != text).expect("a binary link");
    rig.connecting = false;
    rig.fail(binary, Failure::Reset);
    assert_eq!(rig.counters()["ejections"], 1);
    assert_eq!(rig.got(client), error(0, "connection lost"), "it may have been applied");
}

#[test]
fn one_that_stood_in_for_another_forgets_that_ones_keys_too() {
    let mut rig = ejecting(|_| {});
    let client = rig.client();
    let home = rig.settings.placement.clone();
    let second = home.without(&[true, false, false]);
    let key = (0..).map(|number| rig.key(0, number)).find(|key| second.owner(key.as_bytes()) == 1);
    let key = key.expect("one of them goes to 1");
    let set = format!("set {key} 0 0 1\r\nx\r\n");
    eject(&mut rig, client, 0);
    rig.receive(client, &set);
    assert_eq!(rig.saw(1), set);
    rig.answer(1, "STORED\r\n");
    assert_eq!(rig.got(client), "STORED\r\n");
    eject(&mut rig, client, 1);
    rig.receive(client, &set);
    assert_eq!(rig.saw(2), set);
    rig.answer(2, "STORED\r\n");
    assert_eq!(rig.got(client), "STORED\r\n");
    let_return(&mut rig, 1);
    assert_eq!(forget_all(&mut rig), [0, 1, 1], "1 has an older value of it, and 2 does not keep it");
    assert_eq!(rig.counters()["returns"], 1);
    let_return(&mut rig, 0);
    assert_eq!(forget_all(&mut rig), [1, 1, 0], "and now it goes home");
    assert_eq!(rig.counters()["returns"], 2);
}

#[test]
fn more_keys_are_forgotten_than_a_link_takes_at_once() {
    forget_seven(ejecting(|settings| settings.limits.link_requests_max = 2));
    forget_seven(ejecting(|settings| settings.limits.link_bytes_max = 30));
}

fn forget_seven(mut rig: Rig) {
    let client = rig.client();
    eject(&mut rig, client, 0);
    for number in 0..7 {
        let key = rig.key(0, number);
        rig.receive(client, format!("set {key} 0 0 1\r\nx\r\n"));
        for backend in [1, 2] {
            if !rig.saw(backend).is_empty() {
                rig.answer(backend, "STORED\r\n");
            }
        }
        assert_eq!(rig.got(client), "STORED\r\n");
    }
    let_return(&mut rig, 0);
    let many = forget_all(&mut rig);
    assert_eq!((many[0], many[1] + many[2]), (7, 7));
    assert_eq!(rig.counters()["returns"], 1);
}

#[test]
fn a_link_that_has_answered_already_answers_a_probe() {
    // The other worker's confirmations are the test's to give.
    let mut rig = Rig::with(settings(|settings| (settings.workers, settings.failure_limit) = (2, 1)));
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.eof(rig.link(0));
    rig.pids[0] = 2;
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.saw(0), "", "it is another process, of which the other worker does not know yet");
    let failed = Notice::Failed { backend: 0, why: "timed out" };
    rig.coordinator.handle_notice(rig.now, 1, failed);
    rig.wait(2500);
    let number = rig.coordinator.ownership().number + 1;
    let confirmed = Notice::Confirmed { number, unsettled: 0, written: Written::default() };
    rig.coordinator.handle_notice(rig.now, 1, confirmed);
    rig.wait(2500);
    rig.got(client);
    rig.receive(client, format!("get {a}\r\n"));
    assert_eq!(rig.saw(0), format!("get {a}\r\n"), "it is up again: {}", rig.got(client));
}
