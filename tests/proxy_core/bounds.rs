//! Bounds: a client that asks for more than it may is not read from until it has drained, and loses nothing
//! by it; a link that has too much to do says so.

use std::sync::Arc;

use mcproxy::io::{ConnId, Failure};
use mcproxy::limits::Limits;
use mcproxy::proxy::settings::Settings;

use super::rig::{Rig, settings};
use super::words::{Dice, error, found, three_keys};

fn limited(change: impl FnOnce(&mut Limits)) -> Arc<Settings> {
    settings(|settings| change(&mut settings.limits))
}

/// Answers `count` requests of the form `incr K N` that backend 0 was sent, each with its N.
fn answer_incrs(rig: &mut Rig, seen: &mut Vec<String>, count: usize) {
    for _ in 0..count {
        let number = seen.remove(0).rsplit(' ').next().unwrap().to_string();
        rig.answer(0, format!("{number}\r\n"));
        seen.extend(rig.saw(0).lines().map(str::to_string));
    }
}

fn numbers(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("{number}\r\n")).collect()
}

#[test]
fn a_client_that_pipelines_too_much_is_paused_and_resumed_and_every_request_answered() {
    for chunk in [1, 7, 100, 100_000] {
        let mut rig = Rig::with(limited(|limits| limits.client_requests_max = 8));
        let (key, client) = (rig.key(0, 0), rig.client());
        let requests: String = (0..100).map(|number| format!("incr {key} {number}\r\n")).collect();
        // What had been received before the pause still arrives.
        for piece in requests.as_bytes().chunks(chunk) {
            rig.receive(client, piece);
        }
        assert!(rig.end(client).paused, "chunks of {chunk}");
        let mut seen: Vec<String> = rig.saw(0).lines().map(str::to_string).collect();
        assert_eq!(seen.len(), 8, "chunks of {chunk}");
        answer_incrs(&mut rig, &mut seen, 3);
        assert!(rig.end(client).paused && seen.len() == 5, "it goes on when half has drained");
        answer_incrs(&mut rig, &mut seen, 97);
        assert_eq!(rig.got(client), numbers(0, 100), "chunks of {chunk}");
        assert!(!rig.end(client).paused, "chunks of {chunk}");
        rig.receive(client, "mn\r\n");
        assert_eq!(rig.got(client), "MN\r\n");
    }
}

#[test]
fn eof_behind_a_pause_ends_the_client_after_its_last_answer() {
    for quit in [false, true] {
        let mut rig = Rig::with(limited(|limits| limits.client_requests_max = 4));
        let (key, client) = (rig.key(0, 0), rig.client());
        let mut requests: String = (0..20).map(|number| format!("incr {key} {number}\r\n")).collect();
        if quit {
            requests.push_str("quit\r\nincr 99\r\n");
        }
        rig.receive(client, requests);
        assert!(rig.end(client).paused);
        rig.eof(client);
        let mut seen: Vec<String> = rig.saw(0).lines().map(str::to_string).collect();
        answer_incrs(&mut rig, &mut seen, 19);
        assert_eq!(rig.got(client), numbers(0, 19));
        rig.hold(client);
        answer_incrs(&mut rig, &mut seen, 1);
        let (buffer, _) = rig.end(client).in_flight.as_ref().expect("the last answer");
        assert_eq!(super::rig::contents(buffer), b"19\r\n");
        rig.write(client, 4);
        assert!(!rig.is_open(client));
        assert!(seen.is_empty(), "nothing behind the end was carried out");
    }
}

#[test]
fn what_a_paused_client_had_sent_is_carried_out_when_it_is_reset() {
    let mut rig = Rig::with(limited(|limits| limits.client_requests_max = 4));
    let (key, client) = (rig.key(0, 0), rig.client());
    let requests: String = (0..20).map(|number| format!("incr {key} {number}\r\n")).collect();
    rig.receive(client, format!("{requests}incr {key} 9"));
    assert_eq!(rig.saw(0).lines().count(), 4);
    rig.fail(client, Failure::Reset);
    assert_eq!(rig.saw(0).lines().count(), 16, "all that were whole");
    rig.answer(0, numbers(0, 20));
    let other = rig.client();
    rig.receive(other, format!("get {key}\r\n"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(other), "END\r\n");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    let mut rig = Rig::with(limited(|limits| limits.client_unread_max = 1000));
    let (key, client) = (rig.key(0, 0), rig.client());
    let reply = found(&key, &"v".repeat(300));
    rig.hold(client);
    let mut asked = 0;
    while !rig.end(client).paused {
        assert!(asked < 10, "paused long before");
        rig.receive(client, format!("get {key}\r\n"));
        asked += rig.saw(0).lines().count();
        for _ in 0..usize::from(!rig.end(client).paused) {
            rig.answer(0, &reply);
        }
    }
    assert_eq!(asked, 4, "after 1000 bytes that it has not read");
    rig.receive(client, format!("get {key}\r\n").repeat(5));
    assert_eq!(rig.saw(0), "", "nothing more is asked for");
    // It reads some, and goes on at half.
    rig.write(client, reply.len());
    assert!(rig.end(client).paused, "three answers of four are left");
    rig.write(client, reply.len());
    assert!(rig.end(client).paused, "two answers of four are left, which is more than half");
    rig.release(client);
    // Four answers like those it has had are sure not to be much too many.
    for count in [4, 2] {
        assert_eq!(rig.saw(0), format!("get {key}\r\n").repeat(count));
        rig.answer(0, reply.repeat(count));
    }
    assert!(!rig.end(client).paused);
    assert_eq!(rig.got(client), reply.repeat(10));
}

#[test]
fn answers_that_wait_for_their_turn_count_as_unread() {
    let mut rig = Rig::with(limited(|limits| limits.client_unread_max = 1000));
    let [a, b, _] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {a}\r\nget {b}\r\n"));
    rig.answer(1, found(&b, &"v".repeat(2000)));
    rig.receive(client, format!("get {b}\r\n"));
    assert!(rig.end(client).paused, "2000 bytes wait behind the first answer");
    rig.answer(0, "END\r\n");
    assert!(!rig.end(client).paused);
    rig.answer(1, "END\r\n");
    assert_eq!(rig.got(client), format!("END\r\n{}END\r\n", found(&b, &"v".repeat(2000))));
}

#[test]
fn a_link_with_too_many_requests_says_so() {
    let mut rig = Rig::with(limited(|limits| limits.link_requests_max = 5));
    let [a, b, _] = three_keys(&mut rig);
    let clients: Vec<ConnId> = (0..4).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.receive(client, format!("get {a}\r\nset {a} 0 0 1 noreply\r\nx\r\nget {b}\r\n"));
    }
    assert_eq!(rig.saw(0), format!("get {a}\r\nset {a} 0 0 1\r\nx\r\n").repeat(2) + &format!("get {a}\r\n"));
    rig.answer(1, "END\r\n".repeat(4));
    assert_eq!(rig.got(clients[3]), format!("{}END\r\n", error(0, "has too many requests waiting")));
    rig.answer(0, "END\r\nSTORED\r\nEND\r\nSTORED\r\nEND\r\n");
    for &client in &clients[..3] {
        assert_eq!(rig.got(client), "END\r\nEND\r\n");
    }
    rig.receive(clients[3], format!("get {a}\r\n"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(clients[3]), "END\r\n", "there is room again");
}

#[test]
fn a_link_with_too_many_bytes_says_so() {
    let mut rig = Rig::with(limited(|limits| limits.link_bytes_max = 3000));
    let (a, client, link) = (rig.key(0, 0), rig.client(), rig.link(0));
    let set = format!("set {a} 0 0 1000\r\n{}\r\n", "v".repeat(1000));
    rig.hold(link);
    rig.receive(client, &set);
    for _ in 0..10 {
        rig.receive(client, &set);
    }
    let errors = error(0, "has too many requests waiting");
    rig.release(link);
    let written = rig.saw(0).matches("set ").count();
    assert!((3..=5).contains(&written), "{written} sets of 1000 bytes for 3000");
    rig.answer(0, "STORED\r\n".repeat(written));
    assert_eq!(rig.got(client), "STORED\r\n".repeat(written) + &errors.repeat(11 - written));
}

/// Chunks, answers and the reading of the client come in random order; everything is answered in order.
#[test]
fn pauses_at_any_time_lose_nothing() {
    let settings = limited(|limits| {
        limits.client_requests_max = 5;
        limits.client_unread_max = 200;
    });
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut rig = Rig::with(settings.clone());
        let (key, client) = (rig.key(0, 0), rig.client());
        let requests: String = (0..200).map(|number| format!("incr {key} {number}\r\n")).collect();
        let (mut rest, mut seen, mut got) = (requests.as_bytes(), Vec::new(), String::new());
        rig.hold(client);
        for _ in 0..100_000 {
            match dice.throw(3) {
                0 => {
                    let most = dice.throw(100).min(rest.len());
                    // A paused client's bytes stay in the kernel, most of the time.
                    if !rig.end(client).paused || dice.once_in(10) {
                        rig.receive(client, &rest[..most]);
                        rest = &rest[most..];
                    }
                }
                1 if !seen.is_empty() => answer_incrs(&mut rig, &mut seen, 1),
                2 if rig.end(client).in_flight.is_some() => rig.write(client, 1 + dice.throw(50)),
                _ => {}
            }
            seen.extend(rig.saw(0).lines().map(str::to_string));
            got += &rig.got(client);
            if got.len() == numbers(0, 200).len() {
                break;
            }
        }
        assert_eq!(got, numbers(0, 200), "seed {seed}");
        assert!(!rig.end(client).paused, "seed {seed}");
    }
}

#[test]
fn a_new_client_asks_for_little_until_answers_have_come() {
    let mut rig = Rig::with(limited(|limits| {
        limits.client_requests_first = 3;
        limits.client_requests_max = 7;
    }));
    let (key, client) = (rig.key(0, 0), rig.client());
    let get = format!("get {key}\r\n");
    rig.receive(client, get.repeat(30));
    // Half of what it may have must be answered before it goes on.
    let mut asked = Vec::new();
    while asked.iter().sum::<usize>() < 30 {
        let count = rig.saw(0).lines().count();
        assert!(count > 0, "it goes on: {asked:?}");
        asked.push(count);
        rig.answer(0, "END\r\n".repeat(count));
    }
    assert_eq!(asked, [4, 7, 7, 7, 5], "four are never too many");
    assert_eq!(rig.got(client), "END\r\n".repeat(30));
}

#[test]
fn a_client_with_large_answers_asks_for_few_at_once() {
    let mut rig = Rig::with(limited(|limits| limits.client_unread_max = 1000));
    let (key, client) = (rig.key(0, 0), rig.client());
    let get = format!("get {key}\r\n");
    let reply = found(&key, &"v".repeat(100));
    rig.receive(client, &get);
    rig.answer(0, &reply);
    rig.saw(0);
    rig.receive(client, get.repeat(20));
    assert_eq!(rig.saw(0), get.repeat(8), "about a thousand bytes");
    // Another one, that comes now, may be sent the same.
    let other = rig.client();
    rig.receive(other, get.repeat(20));
    assert_eq!(rig.saw(0), get.repeat(8));
}

#[test]
fn a_part_of_a_large_reply_is_charged_before_the_rest_comes() {
    let mut rig = Rig::new();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.answer(0, format!("VALUE {a} 0 1000000\r\n{}", "x".repeat(600_000)));
    assert!(rig.settings.memory.taken() >= 600_000, "{} bytes", rig.settings.memory.taken());
    rig.answer(0, format!("{}\r\nEND\r\n", "x".repeat(400_000)));
    assert_eq!(rig.got(client).len(), format!("VALUE {a} 0 1000000\r\n\r\nEND\r\n").len() + 1_000_000);
}

#[test]
fn a_client_that_waited_for_its_backend_did_not_stand_still() {
    let budget = Arc::new(mcproxy::memory::Budget::new(320 << 10));
    let mut rig = Rig::with(settings(|settings| settings.memory = budget));
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.wait(500);
    let answer = format!("VALUE {a} 0 300000\r\n{}\r\nEND\r\n", "x".repeat(300_000));
    rig.answer(0, &answer);
    assert!(rig.is_open(client));
    assert_eq!(rig.got(client).len(), answer.len());
}

#[test]
fn a_client_that_takes_a_large_answer_slowly_does_not_stand_still() {
    let budget = Arc::new(mcproxy::memory::Budget::new(1300 << 10));
    let mut rig = Rig::with(settings(|settings| settings.memory = budget));
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let clients = [rig.client(), rig.client()];
    for (client, (backend, key)) in clients.into_iter().zip([(0, &a), (1, &b)]) {
        rig.hold(client);
        rig.receive(client, format!("get {key}\r\n"));
        rig.answer(backend, format!("VALUE {key} 0 400000\r\n{}\r\nEND\r\n", "x".repeat(400_000)));
    }
    // The first one takes a little again and again, the second one nothing.
    for _ in 0..10 {
        rig.wait(50);
        rig.write(clients[0], 1000);
    }
    let other = rig.client();
    rig.receive(other, format!("set {a} 0 0 400000\r\n{}", "x".repeat(350_000)));
    rig.settle();
    assert_eq!([rig.is_open(clients[0]), rig.is_open(clients[1])], [true, false]);
}

/// Thousands of pipelined gets of large values would keep a backend busy for nobody.
#[test]
fn of_what_a_paused_client_had_sent_only_writes_are_carried_out_when_it_is_reset() {
    let mut rig = Rig::with(limited(|limits| limits.client_requests_max = 1));
    let (key, client) = (rig.key(0, 0), rig.client());
    let reads = format!("get {key}\r\ngets {key} {key}\r\nmg {key} v\r\n");
    let writes = format!("set {key} 0 0 1\r\nx\r\nmg {key} t T30\r\ngat 9 {key}\r\ndelete {key}\r\n");
    rig.receive(client, format!("touch {key} 1\r\n{reads}{writes}{reads}incr {key} 1\r\nget {key}"));
    assert_eq!(rig.saw(0), format!("touch {key} 1\r\n"));
    rig.fail(client, Failure::Reset);
    assert_eq!(rig.saw(0), format!("{writes}incr {key} 1\r\n"));
}
