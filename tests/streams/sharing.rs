//! Several clients on one link: what one does must never be seen by another.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::binary::take_frame;
use crate::rig::{Rig, settle};
use crate::support::binary::Frame;
use crate::support::client::Client;
use crate::support::inbox::PATIENCE;
use crate::support::mock::{Manner, Served};
use crate::support::report::same;

/// How long a client is watched that must not have its answer yet.
const MOMENT: Duration = Duration::from_millis(30);

fn check(name: &str, case: impl FnOnce(&Rig) -> Result<(), String>) {
    let rig = Rig::start(1);
    let outcome = case(&rig).and_then(|()| rig.nothing_left(&rig.client(), &["fence"]));
    settle(&rig, name, outcome);
}

fn not_yet(client: &Client) -> Result<(), String> {
    client.inbox.stays_quiet(MOMENT).map_err(|more| format!("too early for the client: {more}"))
}

#[test]
fn requests_of_several_clients_share_a_link() {
    check("sharing", |rig| {
        let clients: Vec<Client> = (0..5).map(|_| rig.client()).collect();
        let mut links = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            let request = format!("incr n{number} 1\r\n");
            client.send(request.as_bytes());
            links.push(rig.mock().expect(request.as_bytes())?);
        }
        if !links.iter().all(|link| Arc::ptr_eq(link, &links[0])) {
            return Err("one worker used several links to one backend".to_owned());
        }
        links[0].send(b"10\r\n11\r\n12\r\n13\r\n14\r\n");
        for (number, client) in clients.iter().enumerate().rev() {
            client.expect(format!("1{number}\r\n").as_bytes())?;
        }
        Ok(())
    });
}

#[test]
fn half_a_request_holds_nobody_up() {
    check("half a request", |rig| {
        let (slow, quick) = (rig.client(), rig.client());
        slow.send(b"set a 0 0 6\r\nabc");
        quick.send(b"incr n 1\r\n");
        rig.mock().expect(b"incr n 1\r\n")?.send(b"1\r\n");
        quick.expect(b"1\r\n")?;
        rig.mock().nothing_left()?;
        slow.send(b"def\r\n");
        rig.mock().expect(b"set a 0 0 6\r\nabcdef\r\n")?.send(b"STORED\r\n");
        slow.expect(b"STORED\r\n")
    });
}

#[test]
fn half_a_request_of_a_client_that_leaves_goes_nowhere() {
    check("half a request, gone", |rig| {
        let (leaving, resetting) = (rig.client(), rig.client());
        leaving.send(b"set a 0 0 6\r\nabc");
        resetting.send(b"\x80\x01\0\x01\x08\0\0\0\0\0");
        drop(leaving);
        resetting.reset();
        Ok(())
    });
}

#[test]
fn answers_of_a_client_that_left_reach_nobody() {
    for by_reset in [false, true] {
        check("a client that left", |rig| {
            let (leaving, staying) = (rig.client(), rig.client());
            leaving.send(b"incr a 1\r\n");
            rig.mock().expect(b"incr a 1\r\n")?;
            staying.send(b"incr b 1\r\n");
            rig.mock().expect(b"incr b 1\r\n")?;
            leaving.send(b"mg c v\r\n");
            let link = rig.mock().expect(b"mg c v\r\n")?;
            if by_reset {
                leaving.reset();
            } else {
                drop(leaving);
            }
            link.send(b"1\r\n22\r\nVA 4\r\n22\r\n\r\n");
            staying.expect(b"22\r\n")
        });
    }
}

#[test]
fn what_was_whole_before_the_end_is_carried_out() {
    check("quit", |rig| {
        let client = rig.client();
        client.send(b"set a 0 0 1 noreply\r\nx\r\nincr n 1\r\nquit\r\nincr never 1\r\n");
        rig.mock().expect(b"set a 0 0 1\r\nx\r\nincr n 1\r\n")?.send(b"STORED\r\n7\r\n");
        client.expect(b"7\r\n")?;
        client.expect_end().map(|_| ())
    });
    check("end of the client's sending", |rig| {
        let client = rig.client();
        client.send(b"incr n 1\r\nset half 0 0 9\r\nx");
        client.half_close();
        rig.mock().expect(b"incr n 1\r\n")?.send(b"7\r\n");
        client.expect(b"7\r\n")?;
        client.expect_end().map(|_| ())
    });
    check("a reset behind a write", |rig| {
        let client = rig.client();
        client.send(b"set a 0 0 1 noreply\r\nx\r\n");
        rig.mock().expect(b"set a 0 0 1\r\nx\r\n")?.send(b"STORED\r\n");
        client.reset();
        Ok(())
    });
}

#[test]
fn a_fence_waits_for_what_is_before_it() {
    check("mn", |rig| {
        let client = rig.client();
        client.send(b"set a 0 0 1 noreply\r\nx\r\nmg b v q\r\nmn\r\n");
        let link = rig.mock().expect(b"set a 0 0 1\r\nx\r\nmg b v\r\n")?;
        not_yet(&client)?;
        link.send(b"STORED\r\n");
        not_yet(&client)?;
        link.send(b"EN\r\n");
        client.expect(b"MN\r\n")
    });
}

#[test]
fn a_noop_waits_for_what_is_before_it() {
    check("noop", |rig| {
        let client = rig.client();
        let set = Frame::request(0x11, 5).extras(&[0; 8]).key(b"a").value(b"x");
        client.send(&[set.bytes(), Frame::request(0x0a, 6).bytes()].concat());
        let link = rig.mock().asked()?;
        let seen = link.take_frame()?;
        not_yet(&client)?;
        link.send(&Frame::reply(0x01, 0, seen.opaque).cas(1).bytes());
        client.expect(&Frame::reply(0x0a, 0, 6).bytes())
    });
}

#[test]
fn text_and_binary_have_links_of_their_own() {
    check("two protocols", |rig| {
        let (text, binary) = (rig.client(), rig.client());
        text.send(b"incr a 1\r\n");
        let text_link = rig.mock().expect(b"incr a 1\r\n")?;
        binary.send(&Frame::request(0x00, 77).key(b"a").bytes());
        let binary_link = rig.mock().asked()?;
        if Arc::ptr_eq(&text_link, &binary_link) {
            return Err("text and binary on one link".to_owned());
        }
        let seen = binary_link.take_frame()?;
        binary_link.send(&Frame::reply(0x00, 1, seen.opaque).value(b"Not found").bytes());
        let answer = take_frame(&binary)?;
        same("binary answer", &Frame::reply(0x00, 1, 77).value(b"Not found").bytes(), &answer.bytes())?;
        text_link.send(b"5\r\n");
        text.expect(b"5\r\n")
    });
}

/// Gets of many clients at once, which the proxy may join into one request: each client gets its own.
#[test]
fn many_readers_get_their_own() {
    let rig = Rig::patient(vec![Manner { lines: Some(Arc::new(key_as_value)), ..Manner::default() }]);
    let readers: Vec<_> = (0..12)
        .map(|reader| {
            let client = rig.client();
            std::thread::spawn(move || read_own_keys(&client, reader))
        })
        .collect();
    let outcomes = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic"));
    settle(&rig, "many readers", outcomes.collect());
}

fn read_own_keys(client: &Client, reader: usize) -> Result<(), String> {
    for turn in 0..40 {
        // Keys that others ask for too, so that joined requests hold duplicates.
        let keys = [format!("r{reader}t{turn}"), format!("shared{}", turn % 3)];
        let request = format!("get {}\r\nget {} {}\r\n", keys[0], keys[1], keys[0]);
        client.send(request.as_bytes());
        let value = |key: &str| format!("VALUE {key} 0 {}\r\n{key}\r\n", key.len());
        let (own, shared) = (value(&keys[0]), value(&keys[1]));
        client.expect(format!("{own}END\r\n{shared}{own}END\r\n").as_bytes())?;
    }
    Ok(())
}

/// A client that asks for much and reads nothing holds up neither the link nor anybody else; when it reads at
/// last, all is there.
#[test]
fn a_client_that_does_not_read_stops_nobody() {
    const ASKED: usize = 300;
    let rig = Rig::patient(vec![Manner { lines: Some(Arc::new(long_value)), ..Manner::default() }]);
    let lazy = TcpStream::connect(rig.entry()).expect("the proxy listens");
    lazy.set_read_timeout(Some(PATIENCE)).expect("read timeout");
    let asking = lazy.try_clone().expect("second handle");
    // Once enough is unread the proxy reads no more either, so the questions need a thread of their own.
    let asker = std::thread::spawn(move || {
        (0..ASKED).try_for_each(|_| (&asking).write_all(b"get long\r\n")).expect("all questions are taken")
    });
    let other = rig.client();
    for _ in 0..50 {
        other.send(b"touch a 0\r\n");
        settle(&rig, "beside a client that does not read", other.expect(b"TOUCHED\r\n"));
    }
    let Served::Answer(answer) = long_value(b"get long") else { panic!("the answer is but sent") };
    let mut got = vec![0; answer.len()];
    for turn in 0..ASKED {
        (&lazy).read_exact(&mut got).unwrap_or_else(|error| panic!("answer {turn}: {error}"));
        settle(&rig, "read at last", same("answer", &answer, &got));
    }
    asker.join().expect("the asker does not panic");
}

fn long_value(line: &[u8]) -> Served {
    const VALUE: usize = 100_000;
    if line != b"get long" {
        return Served::Answer(b"TOUCHED\r\n".to_vec());
    }
    let value = "l".repeat(VALUE);
    Served::Answer(format!("VALUE long 0 {VALUE}\r\n{value}\r\nEND\r\n").into_bytes())
}

/// More requests in one go than may be under way for one client: none is lost, all keep their order.
#[test]
fn a_flood_of_requests_is_answered_in_order() {
    let rig = Rig::patient(vec![Manner { lines: Some(Arc::new(key_as_value)), ..Manner::default() }; 2]);
    let client = rig.client();
    let (mut requests, mut answers) = (String::new(), String::new());
    for number in 0..20_000 {
        let key = format!("key{number}");
        requests += &format!("get {key}\r\n");
        answers += &format!("VALUE {key} 0 {}\r\n{key}\r\nEND\r\n", key.len());
    }
    client.send(requests.as_bytes());
    settle(&rig, "flood", client.expect(answers.as_bytes()));
}

/// A value that is too large is refused here, and the item that it was to replace is removed, as memcached does;
/// for the commands that do not replace, nothing is removed.
#[test]
fn a_value_too_large_removes_what_it_would_replace() {
    const REFUSED: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
    check("too large", |rig| {
        let client = rig.client();
        let value = [vec![b'x'; (1 << 20) + 1], b"\r\n".to_vec()].concat();
        client.send(&[b"set a 0 0 1048577\r\n", &value[..]].concat());
        rig.mock().expect(b"delete a\r\n")?.send(b"DELETED\r\n");
        client.expect(REFUSED)?;
        client.send(&[b"set a 0 0 1048577 noreply\r\n", &value[..]].concat());
        rig.mock().expect(b"delete a\r\n")?.send(b"NOT_FOUND\r\n");
        client.send(&[b"add a 0 0 1048577\r\n", &value[..], b"mn\r\n"].concat());
        client.expect(REFUSED)?;
        client.expect(b"MN\r\n")
    });
}

/// A backend on which each key's value is its own name.
pub(crate) fn key_as_value(line: &[u8]) -> Served {
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split(' ');
    let verb = words.next().unwrap_or_default();
    if verb.starts_with("gat") {
        words.next();
    }
    if verb == "touch" {
        return Served::Answer(b"TOUCHED\r\n".to_vec());
    }
    let mut answer = String::new();
    for key in words {
        answer += &format!("VALUE {key} 0 {}\r\n{key}\r\n", key.len());
    }
    Served::Answer((answer + "END\r\n").into_bytes())
}
