//! Requests that concern several backends: multi-key gets, flush_all, and answers put back in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::binary::take_frame;
use crate::rig::{Rig, settle};
use crate::sharing::key_as_value;
use crate::support::binary::Frame;
use crate::support::client::Client;
use crate::support::mock::{LineServer, Manner, Served};
use crate::support::report::{difference, escape};

/// How long a client is watched that must not have its answer yet.
const MOMENT: Duration = Duration::from_millis(30);

/// A rig of two backends with two keys on each: a0 and a1 on the first, b0 and b1 on the second.
struct Two {
    rig: Rig,
    a: Vec<String>,
    b: Vec<String>,
}

fn check(name: &str, case: impl Fn(&Two) -> Result<(), String>) {
    let rig = Rig::start(2);
    let mut keys = rig.keys(2).unwrap_or_else(|problem| panic!("{name}: {problem}")).into_iter();
    let (a, b) = (keys.next().expect("two lists"), keys.next().expect("two lists"));
    let two = Two { rig, a, b };
    let outcome = case(&two).and_then(|()| two.nothing_left(&two.rig.client()));
    settle(&two.rig, name, outcome);
}

impl Two {
    fn nothing_left(&self, client: &Client) -> Result<(), String> {
        self.rig.nothing_left(client, &[&self.a[0], &self.b[0]])
    }

    /// The request that asks for b0 a0 b1 a1 b0, and what each backend is to see of it. A get asks for a key
    /// once, a gat as often as it is named.
    fn mixed(&self, verb: &str) -> (String, String, String) {
        let (a, b) = (&self.a, &self.b);
        let again = if verb.starts_with("gat") { format!(" {}", b[0]) } else { String::new() };
        (
            format!("{verb} {} {} {} {} {}\r\n", b[0], a[0], b[1], a[1], b[0]),
            format!("{verb} {} {}\r\n", a[0], a[1]),
            format!("{verb} {} {}{again}\r\n", b[0], b[1]),
        )
    }
}

fn value(key: &str, value: &str) -> String {
    format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len())
}

#[test]
fn a_multi_key_get_is_answered_in_key_order() {
    check("merge", |two| {
        let client = two.rig.client();
        let (a0, a1) = (value(&two.a[0], "END"), value(&two.a[1], ""));
        let (b0, b1) = (value(&two.b[0], "zero"), value(&two.b[1], "one"));
        let merged = format!("{b0}{a0}{b1}{a1}{b0}END\r\n");
        for (verb, again) in [("get", ""), ("gat 5", &b0[..])] {
            let replies = [format!("{a0}{a1}END\r\n"), format!("{b0}{b1}{again}END\r\n")];
            let (request, for_a, for_b) = two.mixed(verb);
            for cut in 0..replies[1].len() {
                for first in [0, 1] {
                    client.send(request.as_bytes());
                    let links = [
                        two.rig.mocks[0].expect(for_a.as_bytes())?,
                        two.rig.mocks[1].expect(for_b.as_bytes())?,
                    ];
                    links[first].send_in_pieces(replies[first].as_bytes(), &[cut]);
                    links[1 - first].send_in_pieces(replies[1 - first].as_bytes(), &[cut]);
                    client.expect(merged.as_bytes())?;
                }
            }
            two.nothing_left(&client)?;
        }
        Ok(())
    });
}

#[test]
fn misses_leave_no_trace_in_a_merged_answer() {
    check("misses", |two| {
        let client = two.rig.client();
        let (request, for_a, for_b) = two.mixed("gets");
        let (a0, b1) = (&two.a[0], &two.b[1]);
        let token = "18446744073709551615";
        // What the two backends send, and what that makes.
        let cases = [
            ("END\r\n".to_owned(), "END\r\n".to_owned(), "END\r\n".to_owned()),
            (
                format!("VALUE {a0} 1 1 {token}\r\nx\r\nEND\r\n"),
                "END\r\n".to_owned(),
                format!("VALUE {a0} 1 1 {token}\r\nx\r\nEND\r\n"),
            ),
            (
                "END\r\n".to_owned(),
                format!("VALUE {b1} 1 1 7\r\nx\r\nEND\r\n"),
                format!("VALUE {b1} 1 1 7\r\nx\r\nEND\r\n"),
            ),
        ];
        for (from_a, from_b, merged) in &cases {
            client.send(request.as_bytes());
            two.rig.mocks[0].expect(for_a.as_bytes())?.send(from_a.as_bytes());
            two.rig.mocks[1].expect(for_b.as_bytes())?.send(from_b.as_bytes());
            client.expect(merged.as_bytes())?;
        }
        Ok(())
    });
}

#[test]
fn one_part_that_fails_makes_one_line() {
    const FAILURE: &[u8] = b"SERVER_ERROR out of memory writing get response\r\n";
    check("a part fails", |two| {
        let client = two.rig.client();
        let (request, for_a, for_b) = two.mixed("get");
        let good = format!("{}{}END\r\n", value(&two.a[0], "1"), value(&two.a[1], "2"));
        for failing_first in [true, false] {
            client.send(request.as_bytes());
            let a = two.rig.mocks[0].expect(for_a.as_bytes())?;
            let b = two.rig.mocks[1].expect(for_b.as_bytes())?;
            if failing_first {
                b.send(FAILURE);
                a.send(good.as_bytes());
            } else {
                a.send(good.as_bytes());
                b.send(FAILURE);
            }
            client.expect(FAILURE)?;
            two.nothing_left(&client)?;
        }
        Ok(())
    });
}

#[test]
fn one_backend_that_dies_makes_one_line() {
    check("a backend dies", |two| {
        let client = two.rig.client();
        let (request, for_a, for_b) = two.mixed("get");
        let good = format!("{}END\r\n", value(&two.a[0], "1"));
        for partial in ["", "VALUE", &value(&two.b[0], "x")] {
            client.send(request.as_bytes());
            let a = two.rig.mocks[0].expect(for_a.as_bytes())?;
            let b = two.rig.mocks[1].expect(for_b.as_bytes())?;
            b.send(partial.as_bytes());
            b.close();
            a.send(good.as_bytes());
            client.expect_line("SERVER_ERROR backend s1 ")?;
            two.nothing_left(&client)?;
        }
        Ok(())
    });
}

#[test]
fn a_bad_key_in_a_multi_key_get_asks_nobody() {
    check("a bad key", |two| {
        let client = two.rig.client();
        let long = "k".repeat(251);
        client.send(format!("get {} {long} {}\r\n", two.a[0], two.b[0]).as_bytes());
        client.expect(b"CLIENT_ERROR bad command line format\r\n")
    });
}

#[test]
fn answers_of_two_backends_keep_the_order_of_the_requests() {
    check("order", |two| {
        let client = two.rig.client();
        let (a, b) = (&two.a[0], &two.b[0]);
        client.send(format!("incr {a} 1\r\nincr {b} 2\r\nincr {a} 3\r\nmn\r\nincr {b} 4\r\n").as_bytes());
        let for_a = two.rig.mocks[0].expect(format!("incr {a} 1\r\nincr {a} 3\r\n").as_bytes())?;
        let for_b = two.rig.mocks[1].expect(format!("incr {b} 2\r\nincr {b} 4\r\n").as_bytes())?;
        for_b.send(b"200\r\n400\r\n");
        client.inbox.stays_quiet(MOMENT).map_err(|more| format!("out of order: {more}"))?;
        for_a.send(b"100\r\n");
        client.expect(b"100\r\n200\r\n")?;
        for_a.send(b"300\r\n");
        client.expect(b"300\r\nMN\r\n400\r\n")
    });
}

#[test]
fn binary_answers_of_two_backends_keep_the_order_of_the_requests() {
    check("binary order", |two| {
        let client = two.rig.client();
        let ask = |opcode, key: &str, opaque| Frame::request(opcode, opaque).key(key.as_bytes()).bytes();
        let (a, b) = (&two.a[0], &two.b[0]);
        let requests = [ask(0x0d, a, 1), ask(0x0d, b, 2), ask(0x0d, a, 3), ask(0x0a, "", 4)];
        client.send(&requests.concat());
        let (for_a, for_b) = (two.rig.mocks[0].asked()?, two.rig.mocks[1].asked()?);
        let hit = |asked: &Frame, token| {
            Frame::reply(0x0c, 0, asked.opaque).cas(token).extras(&[0; 4]).key(&asked.key).value(b"v")
        };
        let late = [for_a.take_frame()?, for_a.take_frame()?];
        for_b.send(&hit(&for_b.take_frame()?, 22).bytes());
        client.inbox.stays_quiet(MOMENT).map_err(|more| format!("out of order: {more}"))?;
        let miss = Frame::reply(0x0c, 1, late[0].opaque).key(a.as_bytes());
        for_a.send(&[miss.bytes(), hit(&late[1], 33).bytes()].concat());
        for (opaque, token) in [(2, 22), (3, 33), (4, 0)] {
            let seen = take_frame(&client)?;
            if (seen.opaque, seen.cas) != (opaque, token) {
                return Err(format!("client sees {seen} in place of opaque {opaque} and token {token}"));
            }
        }
        Ok(())
    });
}

#[test]
fn flush_all_is_ok_when_all_said_so() {
    check("flush_all", |two| {
        let client = two.rig.client();
        let (a, b) = (&two.a[0], &two.b[0]);
        client.send(format!("incr {a} 1\r\nflush_all 5\r\nincr {b} 1\r\n").as_bytes());
        let for_a = two.rig.mocks[0].expect(format!("incr {a} 1\r\nflush_all 5\r\n").as_bytes())?;
        let for_b = two.rig.mocks[1].expect(format!("flush_all 5\r\nincr {b} 1\r\n").as_bytes())?;
        for_b.send(b"OK\r\n9\r\n");
        for_a.send(b"8\r\n");
        client.expect(b"8\r\n")?;
        client.inbox.stays_quiet(MOMENT).map_err(|more| format!("OK before all said so: {more}"))?;
        for_a.send(b"OK\r\n");
        client.expect(b"OK\r\n9\r\n")
    });
}

#[test]
fn flush_all_noreply_reaches_all_and_keeps_its_place() {
    check("flush_all noreply", |two| {
        let client = two.rig.client();
        let b = &two.b[0];
        client.send(format!("flush_all noreply\r\nincr {b} 1\r\nmn\r\n").as_bytes());
        let for_a = two.rig.mocks[0].expect(b"flush_all\r\n")?;
        let for_b = two.rig.mocks[1].expect(format!("flush_all\r\nincr {b} 1\r\n").as_bytes())?;
        for_b.send(b"OK\r\n9\r\n");
        for_a.send(b"OK\r\n");
        client.expect(b"9\r\nMN\r\n")
    });
}

#[test]
fn flush_all_names_who_failed() {
    check("flush_all fails", |two| {
        let client = two.rig.client();
        client.send(b"flush_all\r\n");
        let for_a = two.rig.mocks[0].expect(b"flush_all\r\n")?;
        let for_b = two.rig.mocks[1].expect(b"flush_all\r\n")?;
        for_b.close();
        for_a.send(b"OK\r\n");
        client.expect_line("SERVER_ERROR backend s1 ")?;
        two.nothing_left(&client)?;
        client.send(b"flush_all\r\n");
        let for_b = two.rig.mocks[1].expect(b"flush_all\r\n")?;
        let for_a = two.rig.mocks[0].expect(b"flush_all\r\n")?;
        for_a.send(b"CLIENT_ERROR flush_all not allowed\r\n");
        for_b.send(b"OK\r\n");
        let line = client.expect_line("")?;
        match line.windows(2).any(|pair| pair == b"s0") {
            true => Ok(()),
            false => Err(format!("no name in {}", escape(&line))),
        }
    });
}

#[test]
fn binary_flush_is_ok_when_all_said_so() {
    check("binary flush", |two| {
        let client = two.rig.client();
        for quiet in [false, true] {
            let opcode = if quiet { 0x18 } else { 0x08 };
            client.send(&[Frame::request(opcode, 5).bytes(), Frame::request(0x0a, 6).bytes()].concat());
            for mock in &two.rig.mocks {
                client.inbox.stays_quiet(MOMENT).map_err(|more| format!("before all said so: {more}"))?;
                let link = mock.asked()?;
                let seen = link.take_frame()?;
                if seen.clone().opaque(0) != Frame::request(0x08, 0) {
                    return Err(format!("backend sees {seen}"));
                }
                link.send(&Frame::reply(0x08, 0, seen.opaque).bytes());
            }
            if !quiet {
                client.expect(&Frame::reply(0x08, 0, 5).bytes())?;
            }
            client.expect(&Frame::reply(0x0a, 0, 6).bytes())?;
        }
        Ok(())
    });
}

/// Thousands of keys over three backends, duplicates among them.
#[test]
fn many_keys_are_answered_in_order() {
    let rig = Rig::patient(vec![serving(Arc::new(short_lines_only)); 3]);
    let client = rig.client();
    let keys: Vec<String> = (0..5000).map(|number| format!("key{}", number * 7919 % 3001)).collect();
    let expected: String = keys.iter().map(|key| value(key, key)).collect::<String>() + "END\r\n";
    client.send(format!("get {}\r\n", keys.join(" ")).as_bytes());
    settle(&rig, "many keys", client.expect(expected.as_bytes()));
}

fn serving(lines: LineServer) -> Manner {
    Manner { lines: Some(lines), ..Manner::default() }
}

/// memcached closes a connection on which a line over 2,048 bytes comes in pieces, unless it is a get.
fn short_lines_only(line: &[u8]) -> Served {
    let is_get = line.starts_with(b"get ") || line.starts_with(b"gets ");
    if line.len() + 2 > 2048 && !is_get {
        return Served::AnswerAndClose(b"ERROR line too long\r\n".to_vec());
    }
    key_as_value(line)
}

#[test]
fn a_long_gat_is_split() {
    let rig = Rig::patient(vec![serving(Arc::new(short_lines_only)); 2]);
    let client = rig.client();
    // As long as a gat may be: it fits the buffer in which memcached reads a line.
    let keys: Vec<String> = (0..1500).map(|number| format!("key{number}")).collect();
    let expected: String = keys.iter().map(|key| value(key, key)).collect::<String>() + "END\r\n";
    client.send(format!("gat 10 {}\r\n", keys.join(" ")).as_bytes());
    settle(&rig, "long gat", client.expect(expected.as_bytes()));
}

/// Answers larger than what is held back: fetched in windows, complete, and in order.
#[test]
fn a_large_answer_is_whole_and_in_order() {
    let rig = Rig::patient(vec![serving(Arc::new(large_values)); 2]);
    let client = rig.client();
    let keys: Vec<String> = (0..300).map(|number| format!("key{number}")).collect();
    let expected: String = keys.iter().map(|key| value(key, &large(key))).collect::<String>() + "END\r\n";
    client.send(format!("get {}\r\nmn\r\n", keys.join(" ")).as_bytes());
    let outcome = client.expect(expected.as_bytes()).and_then(|()| client.expect(b"MN\r\n"));
    settle(&rig, "large answer", outcome);
}

/// What comes behind a get that is fetched in windows sees and changes nothing before the last of them.
#[test]
fn a_large_get_is_not_overtaken() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let noting: LineServer = {
        let log = Arc::clone(&log);
        Arc::new(move |line: &[u8]| {
            log.lock().expect("no holder panicked").push(line.starts_with(b"touch "));
            key_as_value(line)
        })
    };
    let rig = Rig::patient(vec![serving(noting)]);
    let client = rig.client();
    let keys: Vec<String> = (0..1000).map(|number| format!("key{number}")).collect();
    let expected: String = keys.iter().map(|key| value(key, key)).collect::<String>() + "END\r\nTOUCHED\r\n";
    client.send(format!("get {}\r\ntouch key999 0\r\n", keys.join(" ")).as_bytes());
    settle(&rig, "large get", client.expect(expected.as_bytes()));
    let touches = log.lock().expect("no holder panicked").clone();
    let overtaken = touches.iter().rev().take_while(|touch| !**touch).count();
    assert_eq!(overtaken, 0, "gets that the touch behind them overtook, of {} requests", touches.len());
}

/// Nor when a smaller read before it is answered while its windows are fetched.
#[test]
fn a_large_get_behind_a_small_one_is_not_overtaken() {
    let rig = Rig::patient(vec![serving(Arc::new(key_as_value))]);
    let client = rig.client();
    let keys: Vec<String> = (0..1000).map(|number| format!("key{number}")).collect();
    let touched: Vec<String> = keys.iter().map(|key| format!("touch {key} 0")).collect();
    let small = value("key1", "key1") + &value("key2", "key2") + "END\r\n";
    let large: String = keys.iter().map(|key| value(key, key)).collect::<String>() + "END\r\n";
    for _ in 0..20 {
        client.send(format!("get key1 key2\r\nget {}\r\n{}\r\n", keys.join(" "), touched[999]).as_bytes());
        let expected = format!("{small}{large}TOUCHED\r\n");
        settle(&rig, "large get behind a small one", client.expect(expected.as_bytes()));
    }
}

/// If a part fails when some of the answer has gone out, the connection ends after a whole value.
#[test]
fn a_large_answer_that_fails_ends_after_a_whole_value() {
    let asked = Arc::new(AtomicUsize::new(0));
    let failing: LineServer = Arc::new(move |line: &[u8]| {
        let keys = line.split(|&byte| byte == b' ').count() - 1;
        // Three quarters of the keys live before the fault.
        match asked.fetch_add(keys, Ordering::Relaxed) + keys > 225 {
            true => Served::AnswerAndClose(b"VALUE key".to_vec()),
            false => large_values(line),
        }
    });
    let rig = Rig::patient(vec![serving(failing)]);
    let client = rig.client();
    let keys: Vec<String> = (0..300).map(|number| format!("key{number}")).collect();
    client.send(format!("get {}\r\nmn\r\n", keys.join(" ")).as_bytes());
    settle(&rig, "large answer fails", whole_values_then_end(&client, &keys));
}

fn whole_values_then_end(client: &Client, keys: &[String]) -> Result<(), String> {
    let (got, _) =
        client.inbox.take_to_end().map_err(|short| format!("no end: {} bytes", short.got.len()))?;
    let mut expected = Vec::new();
    for key in keys {
        if expected.len() >= got.len() {
            break;
        }
        expected.extend_from_slice(value(key, &large(key)).as_bytes());
    }
    match difference(&expected, &got) {
        None if got.is_empty() => Err("nothing came before the end".to_owned()),
        None => Ok(()),
        Some(text) => Err(format!("no whole values in order: {text}")),
    }
}

/// 32 KiB that depend on the key.
fn large(key: &str) -> String {
    let mut text = format!("{key}.").repeat((32 << 10) / (key.len() + 1));
    text.push('!');
    text
}

fn large_values(line: &[u8]) -> Served {
    let line = String::from_utf8_lossy(line).into_owned();
    let values: String = line.split(' ').skip(1).map(|key| value(key, &large(key))).collect();
    Served::Answer((values + "END\r\n").into_bytes())
}
