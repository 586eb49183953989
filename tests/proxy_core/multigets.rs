//! Multi-key reads: whole or an error in their place, in windows, streamed while the client reads, and cut
//! after the last whole value when there is no other honest end.

use std::sync::Arc;

use mcproxy::io::{ConnId, Failure};
use mcproxy::proxy::settings::{ReadErrors, Settings};

use super::rig::{Rig, settings};
use super::words::{error, found, item, three_keys};

/// Bytes of every value here.
const VALUE: usize = 200;

/// Windows of four keys, and answers larger than 1000 bytes are streamed to clients that have read all but
/// 1500.
fn small_windows() -> Arc<Settings> {
    settings(|settings| {
        settings.limits.window_keys_max = 4;
        settings.limits.held_answer_max = 1000;
        settings.limits.client_unread_max = 1500;
    })
}

fn value_of(key: &str) -> String {
    format!("{key}-").repeat(VALUE).chars().take(VALUE).collect()
}

/// Answers every get and gat that the backends were sent, with a value for each key. Gives how many keys.
fn answer_all(rig: &mut Rig) -> usize {
    (0..3).map(|backend| answer_one(rig, backend)).sum()
}

fn answer_one(rig: &mut Rig, backend: usize) -> usize {
    let mut keys = 0;
    for line in rig.saw(backend).lines() {
        let (verb, rest) = line.split_once(' ').expect("a request");
        let rest = if verb == "gat" { rest.split_once(' ').expect("an expiry").1 } else { rest };
        assert!(verb == "get" || verb == "gat", "{line}");
        let values: Vec<String> = rest.split(' ').map(|key| item(key, &value_of(key))).collect();
        keys += values.len();
        rig.answer(backend, format!("{}END\r\n", values.concat()));
    }
    keys
}

/// Forty keys that lie on all backends, and the answer to a get of all of them.
fn forty(rig: &mut Rig) -> (String, String) {
    let keys: Vec<String> = (0..40).map(|number| rig.key(number % 3, number / 3)).collect();
    let items: String = keys.iter().map(|key| item(key, &value_of(key))).collect();
    (keys.join(" "), format!("{items}END\r\n"))
}

#[test]
fn an_answer_is_whole_or_an_error() {
    let mut rig = Rig::new();
    let [a, b, c] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {a} {b} {c}\r\nget {a}\r\n"));
    rig.answer(0, found(&a, "1"));
    rig.answer(2, found(&c, "3"));
    assert_eq!(rig.got(client), "");
    rig.fail(rig.link(1), Failure::Reset);
    assert_eq!(rig.got(client), error(1, "connection lost"));
    rig.answer(0, "END\r\n");
    assert_eq!(rig.got(client), "END\r\n");
}

#[test]
fn a_backends_own_error_takes_the_place_of_the_answer() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {a} {b}\r\n"));
    rig.answer(0, "SERVER_ERROR out of memory writing get response\r\n");
    rig.answer(1, found(&b, "2"));
    assert_eq!(rig.got(client), "SERVER_ERROR out of memory writing get response\r\n");
    rig.receive(client, format!("get {a} {b}\r\n"));
    rig.answer(0, "END\r\n");
    rig.answer(1, found(&b, "2"));
    assert_eq!(rig.got(client), found(&b, "2"), "the link goes on");
}

#[test]
fn a_part_that_times_out_is_an_error_in_time() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {a} {b}\r\nget {a} {a}\r\n"));
    rig.answer(0, format!("{}END\r\n", found(&a, "1")));
    rig.wait(1000);
    assert_eq!(rig.got(client), format!("{}END\r\n", error(1, "timed out")));
    rig.answer(1, found(&b, "late"));
    assert_eq!(rig.got(client), "");
}

#[test]
fn reads_of_an_absent_backend_can_be_misses() {
    let rows = [
        (ReadErrors::Error, "get", false),
        (ReadErrors::Miss, "get", true),
        (ReadErrors::Miss, "gets", false),
        (ReadErrors::MissAll, "gets", true),
    ];
    for (read_errors, verb, miss) in rows {
        let mut rig = Rig::with(settings(|settings| settings.read_errors = read_errors));
        let [a, b, _] = three_keys(&mut rig);
        let client = rig.client();
        rig.receive(client, format!("{verb} {a} {b}\r\n{verb} {b}\r\n"));
        let value = if verb == "gets" { format!("VALUE {a} 0 1 7\r\n1\r\n") } else { item(&a, "1") };
        rig.answer(0, format!("{value}END\r\n"));
        rig.fail(rig.link(1), Failure::Reset);
        let lost = error(1, "connection lost");
        let expected = if miss { format!("{value}END\r\nEND\r\n") } else { lost.repeat(2) };
        assert_eq!(rig.got(client), expected, "{read_errors:?} {verb}");
    }
}

/// What came before the backend failed counts: only the keys behind it are misses.
#[test]
fn a_part_that_fails_in_the_middle_misses_what_had_not_come() {
    let mut rig = Rig::with(settings(|settings| settings.read_errors = ReadErrors::Miss));
    let (a, first, second, client) = (rig.key(0, 0), rig.key(1, 0), rig.key(1, 1), rig.client());
    rig.receive(client, format!("get {first} {a} {second}\r\n"));
    rig.answer(0, found(&a, "1"));
    rig.answer(1, item(&first, "2"));
    rig.fail(rig.link(1), Failure::Reset);
    assert_eq!(rig.got(client), format!("{}{}", item(&first, "2"), found(&a, "1")));
}

/// A hundred keys in one window, some of them three times, some of them not there.
#[test]
fn every_key_of_a_long_read_has_its_own_answer() {
    let mut rig = Rig::new();
    let client = rig.client();
    let keys: Vec<String> = (0..100).map(|number| rig.key(number % 3, number * number % 40)).collect();
    let there = |key: &str| !key.ends_with('7');
    rig.receive(client, format!("get {}\r\n", keys.join(" ")));
    for backend in 0..3 {
        let saw = rig.saw(backend);
        let asked = saw.trim_end().split(' ').skip(1).filter(|key| there(key));
        let items: String = asked.map(|key| item(key, &value_of(key))).collect();
        rig.answer(backend, format!("{items}END\r\n"));
    }
    let items = keys.iter().filter(|key| there(key)).map(|key| item(key, &value_of(key)));
    assert!(rig.got(client) == items.collect::<String>() + "END\r\n");
}

/// The windows of a read that is held back are one request, and it has one deadline.
#[test]
fn a_read_in_windows_has_the_deadline_of_one_request() {
    for read_errors in [ReadErrors::Error, ReadErrors::Miss] {
        let mut rig = Rig::with(settings(|settings| {
            settings.limits.window_keys_max = 4;
            settings.read_errors = read_errors;
        }));
        let keys: Vec<String> = (0..600).map(|number| rig.key(0, number)).collect();
        let client = rig.client();
        rig.receive(client, format!("get {}\r\n", keys.join(" ")));
        rig.wait(900);
        rig.answer(0, "END\r\n");
        rig.wait(99);
        assert_eq!(rig.got(client), "");
        rig.wait(1);
        let miss = read_errors == ReadErrors::Miss;
        let expected = if miss { "END\r\n".to_string() } else { error(0, "timed out") };
        assert_eq!(rig.got(client), expected, "one second after it was asked");
    }
}

#[test]
fn keys_are_asked_for_in_windows_that_grow_with_what_was_seen() {
    let mut rig = Rig::with(small_windows());
    let client = rig.client();
    let keys: Vec<String> = (0..300).map(|number| rig.key(0, number)).collect();
    rig.receive(client, format!("get {}\r\n", keys.join(" ")));
    assert_eq!(rig.saw(0), format!("get {}\r\n", keys[..4].join(" ")));
    rig.answer(0, "END\r\n");
    let second = format!("get {}\r\nget {}\r\n", keys[4..132].join(" "), keys[132..260].join(" "));
    assert_eq!(rig.saw(0), second, "four were no bytes at all");
    rig.answer(0, "END\r\nEND\r\n");
    assert_eq!(rig.saw(0), format!("get {}\r\n", keys[260..].join(" ")));
    rig.answer(0, found(&keys[299], "x"));
    assert_eq!(rig.got(client), found(&keys[299], "x"));
}

#[test]
fn a_large_answer_is_streamed_in_order() {
    let mut rig = Rig::with(small_windows());
    let (keys, expected) = forty(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {keys}\r\nmn\r\n"));
    while answer_all(&mut rig) > 0 {}
    assert_eq!(rig.got(client), format!("{expected}MN\r\n"));
}

#[test]
fn a_stream_waits_for_a_client_that_does_not_read() {
    let mut rig = Rig::with(small_windows());
    let (keys, expected) = forty(&mut rig);
    let client = rig.client();
    rig.hold(client);
    rig.receive(client, format!("get {keys}\r\nmn\r\n"));
    let mut asked = 0;
    loop {
        match answer_all(&mut rig) {
            0 => break,
            keys => asked += keys,
        }
    }
    assert!((8..=16).contains(&asked), "{asked} values of 200 bytes for 1500 unread and 1000 held");
    rig.wait(60_000);
    assert_eq!(answer_all(&mut rig), 0, "parked, and no deadline runs");
    let mut got = String::new();
    while rig.end(client).in_flight.is_some() {
        rig.write(client, 100);
        answer_all(&mut rig);
        got += &rig.got(client);
    }
    assert_eq!(got, format!("{expected}MN\r\n"));
    assert!(rig.is_open(client));
}

#[test]
fn a_stream_that_fails_is_cut_after_the_last_whole_value() {
    for parked in [false, true] {
        let mut rig = Rig::with(small_windows());
        let (keys, whole) = forty(&mut rig);
        let client = rig.client();
        rig.receive(client, format!("get {keys}\r\n"));
        for _ in 0..3 {
            answer_all(&mut rig);
        }
        let mut got = rig.got(client);
        assert!(!got.is_empty(), "it streams");
        rig.receive(client, "mn\r\n");
        if parked {
            rig.hold(client);
        }
        answer_one(&mut rig, 0);
        answer_one(&mut rig, 2);
        assert!(rig.is_open(client));
        rig.fail(rig.link(1), Failure::Reset);
        if parked {
            assert!(rig.is_open(client) && rig.end(client).in_flight.is_some());
            let before = got.len();
            let buffer = rig.end(client).in_flight.as_ref().unwrap().0.len();
            rig.write(client, buffer - 1);
            got += &rig.got(client);
            assert_eq!(got.len(), before + buffer - 1);
            assert!(rig.is_open(client), "one byte of what it is owed is not written");
            got.push('\n');
            rig.write(client, 1);
        }
        assert!(!rig.is_open(client), "there is no other honest end");
        if parked {
            assert!(whole.starts_with(&got) && got.ends_with("\r\n") && !got.contains("ERROR"));
            let next = &whole[got.len()..];
            assert!(next.starts_with("VALUE "), "cut before {}", &next[..20]);
        }
    }
}

#[test]
fn a_stream_waits_for_its_turn() {
    let mut rig = Rig::with(small_windows());
    let (keys, expected) = forty(&mut rig);
    let (a, client) = (rig.key(0, 100), rig.client());
    rig.receive(client, format!("set {a} 0 0 1\r\nx\r\n"));
    rig.saw(0);
    rig.receive(client, format!("get {keys}\r\n"));
    let first = rig.saw(0);
    let wanted: Vec<String> =
        first.trim_end().split(' ').skip(1).map(|key| item(key, &value_of(key))).collect();
    answer_one(&mut rig, 1);
    answer_one(&mut rig, 2);
    assert_eq!(rig.got(client), "");
    rig.answer(0, "STORED\r\n");
    rig.answer(0, format!("{}END\r\n", wanted.concat()));
    while answer_all(&mut rig) > 0 {}
    assert_eq!(rig.got(client), format!("STORED\r\n{expected}"));
}

/// What is held behind a streamed answer is not what the client has not read.
#[test]
fn large_answers_behind_a_stream_do_not_stop_it() {
    let mut rig = Rig::with(small_windows());
    let keys: Vec<String> = (0..40).map(|number| rig.key(0, number)).collect();
    let (b, client) = (rig.key(1, 0), rig.client());
    rig.receive(client, format!("get {}\r\nget {b}\r\nget {b}\r\n", keys.join(" ")));
    let large = found(&b, &"v".repeat(2000));
    loop {
        let asked = rig.saw(1).lines().count();
        if asked > 0 {
            rig.answer(1, large.repeat(asked));
        }
        if answer_one(&mut rig, 0) + asked == 0 {
            break;
        }
    }
    let items: String = keys.iter().map(|key| item(key, &value_of(key))).collect();
    let got = rig.got(client);
    assert!(got == format!("{items}END\r\n{large}{large}"), "{} bytes of the answer came", got.len());
}

/// A client's later requests do not overtake the windows of its read: they would be applied before them.
#[test]
fn nothing_overtakes_the_windows_of_a_read() {
    let mut rig = Rig::with(small_windows());
    let keys: Vec<String> = (0..10).map(|number| rig.key(0, number)).collect();
    let (client, other) = (rig.client(), rig.client());
    rig.receive(client, format!("get {}\r\ndelete {}\r\n", keys.join(" "), keys[9]));
    rig.receive(other, format!("delete {}\r\n", keys[8]));
    let first = format!("get {}\r\ndelete {}\r\n", keys[..4].join(" "), keys[8]);
    assert_eq!(rig.saw(0), first, "others are not held up");
    rig.answer(0, "END\r\nDELETED\r\n");
    assert_eq!(rig.saw(0), format!("get {}\r\ndelete {}\r\n", keys[4..].join(" "), keys[9]));
    rig.answer(0, "END\r\nDELETED\r\n");
    assert_eq!((rig.got(client), rig.got(other)), ("END\r\nDELETED\r\n".into(), "DELETED\r\n".into()));
}

/// The client's other requests stand behind the stream: they are answered when it is done, whatever they are.
#[test]
fn two_streams_of_one_client_come_one_after_the_other() {
    let mut rig = Rig::with(small_windows());
    let (keys, expected) = forty(&mut rig);
    let (first, second) = (rig.client(), rig.client());
    rig.receive(first, format!("get {keys}\r\nget {keys}\r\nmn\r\n"));
    rig.receive(second, format!("get {keys}\r\n"));
    while answer_all(&mut rig) > 0 {}
    assert!(rig.got(first) == format!("{expected}{expected}MN\r\n"));
    assert!(rig.got(second) == expected);
}

/// No send is worth nothing: one that is done at once hides that one is in flight.
#[test]
fn every_send_has_bytes() {
    let mut rig = Rig::with(small_windows());
    let (keys, _) = forty(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {keys} {keys}\r\n"));
    loop {
        rig.hold(client);
        let answered = answer_all(&mut rig);
        rig.release(client);
        if answered == 0 {
            break;
        }
    }
    // Windows without a value in them.
    rig.receive(client, format!("get {keys} {keys}\r\n"));
    for round in 0..50 {
        for backend in 0..3 {
            if round < 2 {
                answer_one(&mut rig, backend);
            } else {
                let asked = rig.saw(backend).lines().count();
                rig.answer(backend, "END\r\n".repeat(asked));
            }
        }
    }
    assert!(rig.got(client).ends_with("END\r\n"));
    assert_eq!(rig.empty_sends, 0);
}

/// Everything that a worker remembers of multi-key reads, as far as its Debug shows it.
fn remembers_a_read(rig: &Rig) -> bool {
    format!("{:?}", rig.proxy).contains("Fanout {")
}

#[test]
fn nothing_is_kept_of_a_stream_whose_client_is_gone() {
    for (behind, held) in [(false, false), (false, true), (true, false)] {
        let mut rig = Rig::with(small_windows());
        let (keys, _) = forty(&mut rig);
        let (a, client) = (rig.key(0, 100), rig.client());
        if behind {
            rig.receive(client, format!("delete {a}\r\n"));
            rig.saw(0);
        }
        if held {
            rig.hold(client);
        }
        rig.receive(client, format!("get {keys}\r\n"));
        if behind {
            rig.answer(0, "DELETED\r\n");
        }
        answer_all(&mut rig);
        assert!(remembers_a_read(&rig), "the check can fail");
        rig.fail(client, Failure::Reset);
        answer_all(&mut rig);
        rig.wait(10_000);
        assert_eq!(answer_all(&mut rig), 0, "nobody reads it, so nothing more is asked for");
        assert!(!remembers_a_read(&rig), "behind another answer: {behind}, unread: {held}");
    }
}

#[test]
fn nothing_is_kept_of_a_stream_that_never_had_its_turn() {
    let mut rig = Rig::with(small_windows());
    let keys: Vec<String> = (0..40).map(|number| rig.key(1, number)).collect();
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("delete {a}\r\nget {}\r\n", keys.join(" ")));
    for _ in 0..10 {
        answer_one(&mut rig, 1);
    }
    rig.fail(client, Failure::Reset);
    rig.answer(0, "DELETED\r\n");
    rig.wait(10_000);
    assert!(!remembers_a_read(&rig), "its values are still held");
}

#[test]
fn too_many_keys_and_too_long_keys_are_refused_and_nothing_is_asked() {
    let mut rig = Rig::with(settings(|settings| settings.limits.keys_max = 3));
    let [a, b, c] = three_keys(&mut rig);
    let client = rig.client();
    rig.receive(client, format!("get {a} {b} {c} {a}\r\nget {a} {} {b}\r\nmn\r\n", "k".repeat(251)));
    let expected = "CLIENT_ERROR too many keys\r\nCLIENT_ERROR bad command line format\r\nMN\r\n";
    assert_eq!(rig.got(client), expected);
    assert_eq!([0, 1, 2].map(|backend| rig.saw(backend)), ["", "", ""]);
    rig.receive(client, format!("get {a} {b} {c}\r\n"));
    for backend in 0..3 {
        rig.answer(backend, "END\r\n");
    }
    assert_eq!(rig.got(client), "END\r\n");
}

/// memcached touches the keys before a bad one, and answers with nothing but the error.
#[test]
fn a_gat_with_a_bad_key_touches_what_is_before_it_and_is_refused_whole() {
    let mut rig = Rig::with(small_windows());
    let (keys, _) = forty(&mut rig);
    let client = rig.client();
    for count in [1, 40] {
        let some: Vec<&str> = keys.split(' ').take(count).collect();
        rig.receive(client, format!("gat 100 {} {} x\r\nmn\r\n", some.join(" "), "k".repeat(251)));
        let mut touched = 0;
        loop {
            match answer_all(&mut rig) {
                0 => break,
                keys => touched += keys,
            }
        }
        assert_eq!(touched, count);
        assert_eq!(
            rig.got(client),
            "CLIENT_ERROR bad command line format\r\nMN\r\n",
            "{count} keys before it"
        );
    }
}

#[test]
fn long_gats_are_split_into_lines_that_memcached_reads_in_pieces() {
    let mut rig = Rig::new();
    let keys: Vec<String> = (0..1000).map(|number| rig.key(0, number)).collect();
    let client = rig.client();
    rig.receive(client, format!("gat 100 {}\r\n", keys.join(" ")));
    let (mut asked, mut lines) = (Vec::new(), 0);
    loop {
        let saw = rig.saw(0);
        if saw.is_empty() {
            break;
        }
        for line in saw.split_inclusive("\r\n") {
            assert!(line.len() <= 2048, "{} bytes", line.len());
            lines += 1;
            asked.extend(line.trim_end().split(' ').skip(2).map(str::to_string));
            let last = asked.last().unwrap().clone();
            rig.answer(0, found(&last, "x"));
        }
    }
    assert_eq!(asked, keys);
    assert!(lines > 4);
    assert_eq!(rig.got(client).matches("VALUE ").count(), lines);
}

/// A gat changes what it reads, so it is carried out to its end though nobody waits for it.
#[test]
fn a_gat_goes_on_when_its_client_is_gone() {
    for rounds in [0, 1, 2, 4] {
        let mut rig = Rig::with(small_windows());
        let (keys, _) = forty(&mut rig);
        let client = rig.client();
        rig.hold(client);
        rig.receive(client, format!("gat 100 {keys}\r\n"));
        let mut touched = 0;
        for _ in 0..rounds {
            touched += answer_all(&mut rig);
        }
        rig.fail(client, Failure::Reset);
        loop {
            match answer_all(&mut rig) {
                0 => break,
                keys => touched += keys,
            }
        }
        assert_eq!(touched, 40, "the client was gone after {rounds} windows");
    }
}

#[test]
fn an_overloaded_or_absent_backend_fails_the_whole_read_and_nothing_hangs() {
    let mut rig = Rig::with(settings(|settings| settings.limits.link_requests_max = 2));
    let [a, b, _] = three_keys(&mut rig);
    let (client, other): (ConnId, ConnId) = (rig.client(), rig.client());
    rig.receive(other, format!("get {a}\r\nget {a}\r\n"));
    rig.receive(client, format!("get {a} {b}\r\nget {a} {a}\r\n"));
    rig.answer(1, found(&b, "2"));
    let overloaded = error(0, "has too many requests waiting");
    assert_eq!(rig.got(client), overloaded.repeat(2));
}

/// A long line is gathered in pieces, whatever comes with its end; one that is too long ends the connection.
#[test]
fn a_get_of_megabytes_is_answered_whole_and_one_without_end_is_given_up() {
    let keys: Vec<String> = (0..20_000).map(|number| format!("a-key-of-somebody-{number:012}")).collect();
    let asked = format!("get {} last\r\nmn\r\nget ", keys.join(" "));
    for piece in [4_096, 65_536, 300_000, 1 << 22] {
        let mut rig = Rig::with(settings(|settings| settings.limits.get_line_max = asked.len()));
        let client = rig.client();
        for part in asked.as_bytes().chunks(piece) {
            rig.receive(client, part);
        }
        let (mut values, mut asked_for) = (String::new(), 0);
        loop {
            match answer_all(&mut rig) {
                0 => break,
                answered => asked_for += answered,
            }
            values.push_str(&rig.got(client));
        }
        values.push_str(&rig.got(client));
        let found = values.matches("VALUE ").count();
        assert_eq!((asked_for, found), (20_001, 20_001), "pieces of {piece}");
        assert!(values.ends_with("END\r\nMN\r\n"), "pieces of {piece}: {:?}", &values[values.len() - 40..]);
        let endless = "k ".repeat(50_000);
        let mut sent = 4;
        while sent <= asked.len() {
            rig.receive(client, &endless);
            sent += endless.len();
        }
        let (gone, words) = rig.gone.pop().expect("it is closed");
        assert_eq!((gone, &words[..]), (client, &b"CLIENT_ERROR line too long\r\n"[..]), "pieces of {piece}");
    }
}
