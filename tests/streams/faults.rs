//! Backends that misbehave, die, are late or are not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::binary::take_frame;
use crate::rig::{Rig, settle};
use crate::support::binary::Frame;
use crate::support::client::Client;
use crate::support::inbox::PATIENCE;
use crate::support::mock::{LineServer, Link, Manner, Mock, Served};
use crate::support::process::Server;
use crate::support::report::{escape, same};

/// Answers later than this are late. Long enough that a busy machine does not make others late.
const HASTY: &[&str] =
    &["--threads", "1", "--timeout", "2s", "--connect-timeout", "2s", "--failure-limit", "1000"];

/// What a client is told about a backend that is not to be trusted.
const BLAME: &str = "SERVER_ERROR backend s0 ";

fn check(name: &str, case: impl FnOnce(&Rig) -> Result<(), String>) {
    check_on(&Rig::start(1), name, case);
}

fn check_on(rig: &Rig, name: &str, case: impl FnOnce(&Rig) -> Result<(), String>) {
    let outcome = case(rig).and_then(|()| rig.nothing_left(&rig.client(), &["fence"]));
    settle(rig, name, outcome);
}

/// Lets the client ask, the backend answer.
fn ask(rig: &Rig, client: &Client, request: &[u8], reply: &[u8]) -> Result<Arc<Link>, String> {
    client.send(request);
    let link = rig.mock().expect(request)?;
    link.send(reply);
    Ok(link)
}

/// Replies that no memcached gives to the request before them. The client learns which backend it was, and
/// the link ends.
const NONSENSE: &[(&str, &[u8], &[u8])] = &[
    ("another key", b"get a\r\n", b"VALUE b 0 1\r\nx\r\nEND\r\n"),
    ("a longer key", b"get a\r\n", b"VALUE aa 0 1\r\nx\r\nEND\r\n"),
    ("keys in another order", b"get a b\r\n", b"VALUE b 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n"),
    ("no number", b"get a\r\n", b"VALUE a 0 x\r\nx\r\nEND\r\n"),
    ("no length", b"get a\r\n", b"VALUE a 0\r\nx\r\nEND\r\n"),
    ("a huge length", b"get a\r\n", b"VALUE a 0 18446744073709551615\r\nx\r\nEND\r\n"),
    ("a token not asked for", b"get a\r\n", b"VALUE a 0 1 7\r\nx\r\nEND\r\n"),
    ("no token", b"gets a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    ("a value without its end", b"get a\r\n", b"VALUE a 0 1\r\nxyzEND\r\n"),
    ("an answer to a set", b"get a\r\n", b"STORED\r\n"),
    ("an answer to a get", b"set a 0 0 1\r\nx\r\n", b"END\r\n"),
    ("an answer to meta", b"touch a 0\r\n", b"HD\r\n"),
    ("an answer to classic", b"mg a v\r\n", b"END\r\n"),
    ("an empty line", b"incr a 1\r\n", b"\r\n"),
    ("no protocol", b"delete a\r\n", b"\x81\x04\xff\0\r\n"),
    ("meta without a length", b"mg a v\r\n", b"VA\r\n"),
    ("meta with a bad length", b"mg a v\r\n", b"VA 1x\r\nx\r\n"),
    ("meta value without its end", b"mg a v\r\n", b"VA 1\r\nxyz\r\n"),
];

#[test]
fn nonsense_is_never_passed_on() {
    let taken: Vec<String> = NONSENSE
        .iter()
        .filter_map(|(name, request, reply)| {
            let rig = Rig::start(1);
            let client = rig.client();
            let blamed = || -> Result<(), String> {
                let link = ask(&rig, &client, request, reply)?;
                client.expect_line(BLAME)?;
                link.expect_end()?;
                rig.nothing_left(&rig.client(), &["fence"])
            };
            let problem = blamed().err()?;
            Some(format!("{name}: {} answered by {}: {problem}", escape(request), escape(reply)))
        })
        .collect();
    assert!(taken.is_empty(), "{}", taken.join("\n"));
}

#[test]
fn a_line_without_an_end_is_given_up() {
    check("endless line", |rig| {
        let client = rig.client();
        let link = ask(rig, &client, b"incr a 1\r\n", &[b'1'; 64 << 10])?;
        client.expect_line(BLAME)?;
        link.expect_end().map(|_| ())
    });
}

#[test]
fn surplus_bytes_end_the_link_and_reach_nobody() {
    for (request, reply, good) in [
        (&b"incr a 1\r\n"[..], &b"5\r\n6\r\n"[..], &b"5\r\n"[..]),
        (b"get a\r\n", b"END\r\nEND\r\n", b"END\r\n"),
        // A value that came whole is its key's.
        (b"get a\r\n", b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
        (b"set a 0 0 1\r\nx\r\n", b"STORED\r\n\0", b"STORED\r\n"),
        (b"mg a v\r\n", b"VA 1\r\nx\r\n\r\n", b"VA 1\r\nx\r\n"),
    ] {
        check("surplus", |rig| {
            let client = rig.client();
            let link = ask(rig, &client, request, reply)?;
            client.expect(good)?;
            link.expect_end().map(|_| ())
        });
    }
}

#[test]
fn bytes_that_nobody_asked_for_reach_nobody() {
    check("unasked", |rig| {
        let client = rig.client();
        let link = ask(rig, &client, b"incr a 1\r\n", b"5\r\n")?;
        client.expect(b"5\r\n")?;
        link.send(b"STORED\r\n");
        link.expect_end()?;
        ask(rig, &client, b"incr a 1\r\n", b"6\r\n")?;
        client.expect(b"6\r\n")
    });
}

/// Makes bytes that must not be sent from a frame that may.
type Spoil = fn(&Frame) -> Vec<u8>;

/// The frames that a binary backend must not send, made from a good one.
fn binary_nonsense() -> [(&'static str, Spoil); 6] {
    [
        ("another opaque", |good| good.clone().opaque(good.opaque ^ 0x100).bytes()),
        ("another opcode", |good| Frame { opcode: 0x01, ..good.clone() }.bytes()),
        ("a request", |good| Frame { magic: 0x80, ..good.clone() }.bytes()),
        ("another key", |good| good.clone().key(b"b").bytes()),
        ("key longer than body", |good| {
            let mut bytes = good.bytes();
            bytes[2..4].copy_from_slice(&200_u16.to_be_bytes());
            bytes
        }),
        ("no protocol", |_| b"VALUE a 0 1\r\nx\r\nEND\r\n..".to_vec()),
    ]
}

#[test]
fn binary_nonsense_is_never_passed_on() {
    for (name, spoil) in binary_nonsense() {
        check(name, |rig| {
            let client = rig.client();
            client.send(&Frame::request(0x0c, 9).key(b"a").bytes());
            let link = rig.mock().asked()?;
            let asked = link.take_frame()?;
            let good = Frame::reply(0x0c, 0, asked.opaque).extras(&[0; 4]).key(b"a").value(b"x");
            link.send(&spoil(&good));
            expect_temporary_failure(&client, 0x0c, 9)?;
            link.expect_end().map(|_| ())
        });
    }
}

/// Takes the answer that names a backend which failed: status 0x0086.
fn expect_temporary_failure(client: &Client, opcode: u8, opaque: u32) -> Result<(), String> {
    let seen = take_frame(client)?;
    let named = seen.value.windows(11).any(|words| words == b"backend s0 ");
    match (seen.opcode, seen.status, seen.opaque, named) {
        (code, 0x86, given, true) if code == opcode && given == opaque => Ok(()),
        _ => Err(format!("client sees {seen} instead of status 0x0086 and the backend's name")),
    }
}

#[test]
fn a_backend_that_dies_amid_a_reply_is_named() {
    let partials: [(&[u8], &[u8]); 7] = [
        (b"get a\r\n", b""),
        (b"get a\r\n", b"VALUE a 0 5\r\nab"),
        (b"get a b\r\n", b"VALUE a 0 5\r\nabcde\r\n"),
        (b"get a b\r\n", b"VALUE a 0 5\r\nabcde\r\nEND\r"),
        (b"mg a v\r\n", b"VA 5\r\nabcde\r"),
        (b"incr a 1\r\n", b"12"),
        (b"set a 0 0 1\r\nx\r\n", b"STORED"),
    ];
    for (request, partial) in partials {
        check("dies amid a reply", |rig| {
            let client = rig.client();
            ask(rig, &client, request, partial)?.close();
            client.expect_line(BLAME).map(|_| ())
        });
    }
}

#[test]
fn a_value_that_came_whole_before_its_backend_died_is_passed_on() {
    check("dies before the end", |rig| {
        let client = rig.client();
        ask(rig, &client, b"get a\r\n", b"VALUE a 0 5\r\nabcde\r\n")?.close();
        client.expect(b"VALUE a 0 5\r\nabcde\r\nEND\r\n")
    });
}

#[test]
fn each_request_on_a_link_that_dies_has_its_error() {
    check("several requests", |rig| {
        let (one, other) = (rig.client(), rig.client());
        one.send(b"incr a 1\r\nset b 0 0 1 noreply\r\nx\r\nmg c v q\r\nincr d 1\r\n");
        let link = rig.mock().expect(b"incr a 1\r\nset b 0 0 1\r\nx\r\nmg c v\r\nincr d 1\r\n")?;
        other.send(b"delete e\r\n");
        rig.mock().expect(b"delete e\r\n")?;
        link.send(b"5\r\n");
        link.close();
        one.expect(b"5\r\n")?;
        // Nothing for the noreply; the error for meta q, as memcached shows errors in spite of it.
        one.expect_line(BLAME)?;
        one.expect_line(BLAME)?;
        one.send(b"version\r\n");
        one.expect(b"VERSION 1.6.18\r\n")?;
        other.expect_line(BLAME).map(|_| ())
    });
}

#[test]
fn binary_requests_on_a_link_that_dies_have_their_errors() {
    check("binary, dies", |rig| {
        let client = rig.client();
        let set = Frame::request(0x11, 2).extras(&[0; 8]).key(b"a").value(b"x");
        let requests =
            [Frame::request(0x00, 1).key(b"a").bytes(), set.bytes(), Frame::request(0x0a, 3).bytes()];
        client.send(&requests.concat());
        let link = rig.mock().asked()?;
        link.take_frame()?;
        link.take_frame()?;
        link.send(&[0x81, 0x00, 0x00]);
        link.close();
        expect_temporary_failure(&client, 0x00, 1)?;
        expect_temporary_failure(&client, 0x11, 2)?;
        client.expect(&Frame::reply(0x0a, 0, 3).bytes())
    });
}

/// What carries a token reaches a backend once, whatever becomes of the link.
#[test]
fn a_cas_is_sent_once() {
    let requests: [(&[u8], &[u8]); 3] = [
        (b"cas a 0 0 1 7\r\nx\r\n", b"cas a "),
        (b"ms a 1 C7\r\nx\r\n", b"ms a "),
        (b"md a C7\r\n", b"md a "),
    ];
    for (request, needle) in requests {
        check("cas once", |rig| {
            let client = rig.client();
            ask(rig, &client, request, b"")?.close();
            client.expect_line(BLAME)?;
            rig.nothing_left(&client, &["fence"])?;
            match rig.mock().times_seen(needle) {
                1 => Ok(()),
                times => Err(format!("{} sent {times} times", escape(request))),
            }
        });
    }
    check("binary cas once", |rig| {
        let client = rig.client();
        let set = Frame::request(0x01, 5).extras(&[0; 8]).key(b"once").value(b"x").cas(7);
        client.send(&set.bytes());
        let link = rig.mock().asked()?;
        link.take_frame()?;
        link.close();
        expect_temporary_failure(&client, 0x01, 5)?;
        rig.nothing_left_binary(&client, &["fence"])?;
        match rig.mock().times_seen(b"oncex") {
            1 => Ok(()),
            times => Err(format!("{set} sent {times} times")),
        }
    });
}

/// Replies whose first part came in time and whose rest is late: (request, early, late).
const LATE: &[(&[u8], &[u8], &[u8])] = &[
    (b"incr a 1\r\n", b"", b"111\r\n"),
    (b"get a\r\n", b"VALUE a 0 10\r\nabc", b"defghij\r\nEND\r\n"),
    (b"mg a v\r\n", b"VA 2\r", b"\nhi\r\n"),
];

#[test]
fn a_late_answer_reaches_nobody() {
    for (request, early, late) in LATE {
        check_on(&hasty(), "late", |rig| {
            let (client, other) = (rig.client(), rig.client());
            let link = ask(rig, &client, request, early)?;
            let line = client.expect_line(BLAME)?;
            same("the error", b"SERVER_ERROR backend s0 timed out\r\n", &line)?;
            // The next request may wait until the link is clean, or go out on another.
            other.send(b"incr b 1\r\n");
            link.send(late);
            rig.mock().expect(b"incr b 1\r\n")?.send(b"222\r\n");
            other.expect(b"222\r\n")?;
            client.send(b"version\r\n");
            client.expect(b"VERSION 1.6.18\r\n")
        });
    }
}

#[test]
fn a_late_binary_answer_reaches_nobody() {
    check_on(&hasty(), "late binary", |rig| {
        let client = rig.client();
        client.send(&Frame::request(0x00, 1).key(b"a").bytes());
        let link = rig.mock().asked()?;
        let late = link.take_frame()?;
        expect_temporary_failure(&client, 0x00, 1)?;
        client.send(&Frame::request(0x00, 2).key(b"a").bytes());
        let hit = |opaque, value: &[u8]| Frame::reply(0x00, 0, opaque).extras(&[0; 4]).value(value).bytes();
        link.send(&hit(late.opaque, b"late"));
        let second = rig.mock().asked()?;
        let asked = second.take_frame()?;
        second.send(&hit(asked.opaque, b"in time"));
        client.expect(&hit(2, b"in time"))
    });
}

#[test]
fn one_slow_part_makes_a_multi_key_get_one_line() {
    let rig = Rig::with(vec![Manner::default(); 2], HASTY);
    let outcome = rig.keys(1).and_then(|keys| {
        let (a, b) = (&keys[0][0], &keys[1][0]);
        let client = rig.client();
        client.send(format!("get {a} {b}\r\nversion\r\n").as_bytes());
        let quick = rig.mocks[0].expect(format!("get {a}\r\n").as_bytes())?;
        rig.mocks[1].expect(format!("get {b}\r\n").as_bytes())?;
        quick.send(format!("VALUE {a} 0 1\r\nx\r\nEND\r\n").as_bytes());
        client.expect(b"SERVER_ERROR backend s1 timed out\r\nVERSION 1.6.18\r\n")?;
        rig.nothing_left(&client, &[a])
    });
    settle(&rig, "slow part", outcome);
}

/// A reply that never comes costs a client no more than some errors: the backend is asked again before long.
#[test]
fn a_lost_reply_is_got_over() {
    let forgetful: LineServer = Arc::new(|line: &[u8]| match line.starts_with(b"incr lost ") {
        true => Served::Answer(Vec::new()),
        false => Served::Answer(b"7\r\n".to_vec()),
    });
    let rig = Rig::with(vec![Manner { lines: Some(forgetful), ..Manner::default() }], HASTY);
    let client = rig.client();
    client.send(b"incr lost 1\r\n");
    settle(&rig, "lost", client.expect_line(BLAME).map(|_| ()));
    let outcome = until_answered(&client, b"incr a 1\r\n", b"7\r\n");
    settle(&rig, "after a lost reply", outcome);
}

/// Asks until the answer comes instead of an error.
fn until_answered(client: &Client, request: &[u8], answer: &[u8]) -> Result<(), String> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        client.send(request);
        let line = client.expect_line("")?;
        if line == answer {
            return Ok(());
        }
        if Instant::now() > give_up {
            return Err(format!("still {}", escape(&line)));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hasty() -> Rig {
    Rig::with(vec![Manner::default()], HASTY)
}

#[test]
fn a_backend_that_never_says_who_it_is_times_out() {
    let mute = Manner { version: None, ..Manner::default() };
    let rig = Rig::with(vec![mute], HASTY);
    let client = rig.client();
    client.send(b"incr a 1\r\nversion\r\n");
    let outcome = client.expect_line(BLAME).and_then(|_| client.expect_line("VERSION ")).map(|_| ());
    settle(&rig, "mute", outcome);
}

#[test]
fn version_is_the_lowest_of_the_backends() {
    let older = Manner { version: Some("1.5.22"), ..Manner::default() };
    let rig = Rig::patient(vec![Manner::default(), older, Manner::default()]);
    let client = rig.client();
    let give_up = Instant::now() + PATIENCE;
    let outcome = loop {
        client.send(b"version\r\n");
        match client.expect_line("VERSION ") {
            Ok(line) if line == b"VERSION 1.5.22\r\n" => break Ok(()),
            // The links may still be asking.
            Ok(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(5)),
            Ok(line) => break Err(format!("got {}", escape(&line))),
            Err(problem) => break Err(problem),
        }
    };
    settle(&rig, "version", outcome);
}

/// A rig whose backend has gone: nothing listens where it was.
fn without_backend(arguments: &[&str]) -> Rig {
    let mock = Mock::start();
    let address = mock.address;
    drop(mock);
    let server = Server::mcproxy(&format!("{address}@s0"), arguments);
    Rig::of(server)
}

/// Requests, and their answers when their backend is not there: `None` for its name in an error.
type Absent = (&'static [u8], Option<&'static [u8]>);

fn check_absent(name: &str, arguments: &[&str], cases: &[Absent]) {
    let rig = without_backend(arguments);
    let client = rig.client();
    for (request, answer) in cases {
        client.send(request);
        let outcome = match answer {
            Some(answer) => client.expect(answer),
            None => client.expect_line(BLAME).map(|_| ()),
        };
        settle(&rig, &format!("{name}: {}", escape(request)), outcome);
    }
    client.send(b"mn\r\n");
    settle(&rig, name, client.expect(b"MN\r\n"));
}

#[test]
fn an_absent_backend_is_named() {
    let cases: &[Absent] = &[
        (b"get a\r\n", None),
        (b"gets a\r\n", None),
        (b"get a b c\r\n", None),
        (b"gat 0 a\r\n", None),
        (b"mg a v\r\n", None),
        (b"mg a v q\r\n", None),
        (b"set a 0 0 1\r\nx\r\n", None),
        (b"set a 0 0 1 noreply\r\nx\r\n", Some(b"")),
        (b"cas a 0 0 1 7\r\nx\r\n", None),
        (b"incr a 1\r\n", None),
        (b"delete a noreply\r\n", Some(b"")),
        (b"flush_all\r\n", None),
    ];
    check_absent("absent", &["--threads", "1"], cases);
}

#[test]
fn reads_of_an_absent_backend_can_be_misses() {
    let cases: &[Absent] = &[
        (b"get a\r\n", Some(b"END\r\n")),
        (b"get a b\r\n", Some(b"END\r\n")),
        (b"gat 0 a\r\n", Some(b"END\r\n")),
        (b"mg a v\r\n", Some(b"EN\r\n")),
        (b"gets a\r\n", None),
        (b"gats 0 a\r\n", None),
        (b"mg a v c\r\n", None),
        (b"set a 0 0 1\r\nx\r\n", None),
        (b"incr a 1\r\n", None),
    ];
    check_absent("miss", &["--threads", "1", "--read-errors", "miss"], cases);
    let cases: &[Absent] = &[
        (b"get a\r\n", Some(b"END\r\n")),
        (b"gets a b\r\n", Some(b"END\r\n")),
        (b"gats 0 a\r\n", Some(b"END\r\n")),
        (b"set a 0 0 1\r\nx\r\n", None),
    ];
    check_absent("miss-all", &["--threads", "1", "--read-errors", "miss-all"], cases);
}

#[test]
fn an_absent_backend_fails_binary_requests_for_now() {
    let rig = without_backend(&["--threads", "1"]);
    let client = rig.client();
    let set = Frame::request(0x11, 2).extras(&[0; 8]).key(b"a").value(b"x");
    client.send(
        &[Frame::request(0x09, 1).key(b"a").bytes(), set.bytes(), Frame::request(0x0a, 3).bytes()].concat(),
    );
    let outcome = expect_temporary_failure(&client, 0x09, 1)
        .and_then(|()| expect_temporary_failure(&client, 0x11, 2))
        .and_then(|()| client.expect(&Frame::reply(0x0a, 0, 3).bytes()));
    settle(&rig, "absent, binary", outcome);
}

/// A backend that comes back is used again, without a restart, and client connections stay open.
#[test]
fn a_backend_that_comes_back_is_used_again() {
    let mut rig = Rig::with(vec![Manner::default()], &["--threads", "1", "--failure-limit", "1"]);
    let client = rig.client();
    let address = rig.mock().address;
    rig.mocks.clear();
    client.send(b"incr a 1\r\n");
    settle(&rig, "gone", client.expect_line(BLAME).map(|_| ()));
    rig.mocks.push(Mock::listen(address, Manner { lines: Some(Arc::new(counting)), ..Manner::default() }));
    let outcome = until_answered(&client, b"incr a 1\r\n", b"7\r\n");
    settle(&rig, "back", outcome);
}

fn counting(_line: &[u8]) -> Served {
    Served::Answer(b"7\r\n".to_vec())
}
