//! What single kinds of requests become: quiet ones, flush_all, stats, version, refused values; what is done for
//! a client that is gone; and the way to a clean end.

use std::time::Duration;

use mcproxy::io::{ConnId, Failure, Handler};
use mcproxy::proxy::message::Message;

use super::binary::{Packet, opcode, status};
use super::rig::{Rig, settings};
use super::words::{error, found, three_keys};

/// Quiet request, what the backend sees, its answer, and what the client hears. `K` is the key.
const QUIET: &[(&str, &str, &str, &str)] = &[
    ("set K 0 0 1 noreply\r\nx\r\n", "set K 0 0 1\r\nx\r\n", "STORED\r\n", ""),
    ("add K 0 0 1 noreply\r\nx\r\n", "add K 0 0 1\r\nx\r\n", "NOT_STORED\r\n", ""),
    ("cas K 0 0 1 7 noreply\r\nx\r\n", "cas K 0 0 1 7\r\nx\r\n", "EXISTS\r\n", ""),
    ("append K 0 0 1 noreply\r\nx\r\n", "append K 0 0 1\r\nx\r\n", "SERVER_ERROR out of memory\r\n", ""),
    ("incr K 1 noreply\r\n", "incr K 1\r\n", "2\r\n", ""),
    ("decr K 1 noreply\r\n", "decr K 1\r\n", "NOT_FOUND\r\n", ""),
    ("touch K 1 noreply\r\n", "touch K 1\r\n", "TOUCHED\r\n", ""),
    ("delete K noreply\r\n", "delete K\r\n", "DELETED\r\n", ""),
    ("mg K v q\r\n", "mg K v\r\n", "EN\r\n", ""),
    ("mg K v q\r\n", "mg K v\r\n", "VA 1\r\nx\r\n", "VA 1\r\nx\r\n"),
    ("mg K q s\r\n", "mg K s\r\n", "HD s1\r\n", "HD s1\r\n"),
    ("ms K 1 q\r\nx\r\n", "ms K 1\r\nx\r\n", "HD\r\n", ""),
    ("ms K 1 q\r\nx\r\n", "ms K 1\r\nx\r\n", "NS\r\n", "NS\r\n"),
    ("md K q\r\n", "md K\r\n", "HD\r\n", ""),
    ("md K q\r\n", "md K\r\n", "NF\r\n", "NF\r\n"),
    ("ma K q v\r\n", "ma K v\r\n", "VA 1\r\n2\r\n", ""),
    ("ma K q\r\n", "ma K\r\n", "NF\r\n", "NF\r\n"),
    ("ms K 1 q\r\nx\r\n", "ms K 1\r\nx\r\n", "SERVER_ERROR no\r\n", "SERVER_ERROR no\r\n"),
];

#[test]
fn quiet_requests_are_answered_by_the_backend_and_not_to_the_client() {
    for (request, composed, answer, heard) in QUIET {
        let mut rig = Rig::new();
        let (key, client) = (rig.key(0, 0), rig.client());
        rig.receive(client, format!("{}mn\r\n", request.replace('K', &key)));
        assert_eq!(rig.saw(0), composed.replace('K', &key), "{request:?}");
        assert_eq!(rig.got(client), "", "{request:?}: mn waits for it");
        rig.answer(0, answer);
        assert_eq!(rig.got(client), format!("{heard}MN\r\n"), "{request:?} answered by {answer:?}");
    }
}

#[test]
fn quiet_binary_requests_are_sent_in_their_answering_form() {
    let quiet = [
        (opcode::GETQ, opcode::GET, status::KEY_NOT_FOUND, status::OK),
        (opcode::GETKQ, opcode::GETK, status::KEY_NOT_FOUND, status::OK),
        (opcode::GATQ, opcode::GAT, status::KEY_NOT_FOUND, status::OK),
        (opcode::GATKQ, opcode::GATK, status::KEY_NOT_FOUND, status::OK),
        (opcode::SETQ, opcode::SET, status::OK, status::KEY_EXISTS),
        (opcode::ADDQ, opcode::ADD, status::OK, status::KEY_EXISTS),
        (opcode::REPLACEQ, opcode::REPLACE, status::OK, status::KEY_NOT_FOUND),
        (opcode::APPENDQ, opcode::APPEND, status::OK, status::NOT_STORED),
        (opcode::PREPENDQ, opcode::PREPEND, status::OK, status::NOT_STORED),
        (opcode::DELETEQ, opcode::DELETE, status::OK, status::KEY_NOT_FOUND),
        (opcode::INCREMENTQ, opcode::INCREMENT, status::OK, status::NON_NUMERIC),
        (opcode::DECREMENTQ, opcode::DECREMENT, status::OK, status::KEY_NOT_FOUND),
    ];
    for (sent, composed, silent, heard) in quiet {
        let mut rig = Rig::new();
        let (key, client) = (rig.key(0, 0), rig.client());
        let extras: &[u8] = match composed {
            opcode::SET | opcode::ADD | opcode::REPLACE => &[0; 8],
            opcode::INCREMENT | opcode::DECREMENT => &[0; 20],
            opcode::GAT | opcode::GATK => &[0; 4],
            _ => &[],
        };
        let request = Packet::request(sent).key(&key).extras(extras).opaque(77);
        let noop = Packet::request(opcode::NOOP).opaque(78);
        rig.receive(client, [request.bytes(), request.bytes(), noop.bytes()].concat());
        let link = *rig.links(0).last().unwrap();
        let asked = Packet::read_all(&rig.got_bytes(link));
        assert_eq!(asked.iter().map(Packet::opcode_of).collect::<Vec<_>>(), [composed; 2]);
        for (asked, status) in asked.iter().zip([silent, heard]) {
            rig.receive(link, Packet::reply(composed).status(status).opaque(asked.opaque_of()).bytes());
        }
        let got = Packet::read_all(&rig.got_bytes(client));
        let expected = [Packet::reply(sent).status(heard).opaque(77), Packet::reply(opcode::NOOP).opaque(78)];
        assert_eq!(format!("{got:#?}"), format!("{expected:#?}"), "opcode {sent:#x}");
    }
}

#[test]
fn binary_cas_and_opaque_pass_unchanged() {
    let mut rig = Rig::new();
    let (key, client) = (rig.key(0, 0), rig.client());
    let token = 0x1122_3344_5566_7788;
    let set = Packet::request(opcode::SET).key(&key).extras(&[0; 8]).value("x").cas(token).opaque(9);
    rig.receive(client, set.bytes());
    let link = *rig.links(0).last().unwrap();
    let asked = Packet::read_all(&rig.got_bytes(link)).remove(0);
    assert_eq!(format!("{:?}", asked.clone().opaque(9)), format!("{set:?}"));
    let reply = Packet::reply(opcode::SET).cas(token + 1);
    rig.receive(link, reply.clone().opaque(asked.opaque_of()).bytes());
    assert_eq!(rig.got_bytes(client), reply.opaque(9).bytes());
}

#[test]
fn flush_all_keeps_its_place_on_every_link_and_waits_for_all() {
    let mut rig = Rig::new();
    let keys = three_keys(&mut rig);
    let client = rig.client();
    let around: Vec<String> = keys.iter().map(|key| format!("delete {key}\r\n")).collect();
    rig.receive(client, format!("{}flush_all 10\r\n{}", around.concat(), around.concat()));
    for (backend, delete) in around.iter().enumerate() {
        assert_eq!(rig.saw(backend), format!("{delete}flush_all 10\r\n{delete}"));
    }
    rig.answer(2, "DELETED\r\nOK\r\nNOT_FOUND\r\n");
    rig.answer(0, "DELETED\r\nOK\r\nNOT_FOUND\r\n");
    assert_eq!(rig.got(client), "DELETED\r\n");
    rig.answer(1, "DELETED\r\n");
    assert_eq!(rig.got(client), "DELETED\r\nDELETED\r\n");
    rig.answer(1, "OK\r\nNOT_FOUND\r\n");
    assert_eq!(rig.got(client), format!("OK\r\n{}", "NOT_FOUND\r\n".repeat(3)));
}

#[test]
fn flush_all_names_who_did_not_do_it() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.receive(client, "flush_all\r\n");
    rig.answer(0, "OK\r\n");
    rig.fail(rig.link(1), Failure::Reset);
    assert_eq!(rig.got(client), "", "the third has still to answer");
    rig.answer(2, "OK\r\n");
    assert_eq!(rig.got(client), error(1, "connection lost"));

    rig.receive(client, "flush_all\r\nmn\r\n");
    rig.answer(0, "OK\r\n");
    rig.answer(1, "OK\r\n");
    rig.wait(1000);
    assert_eq!(rig.got(client), format!("{}MN\r\n", error(2, "timed out")));

    rig.answer(2, "OK\r\n");
    rig.receive(client, "flush_all noreply\r\nmn\r\n");
    assert_eq!(rig.got(client), "", "it holds its place all the same");
    for backend in 0..3 {
        rig.answer(backend, if backend == 1 { "SERVER_ERROR no\r\n" } else { "OK\r\n" });
    }
    assert_eq!(rig.got(client), "MN\r\n");
    rig.receive(client, "flush_all\r\n");
    for backend in 0..3 {
        rig.answer(backend, if backend == 1 { "CLIENT_ERROR flush_all not allowed\r\n" } else { "OK\r\n" });
    }
    let words = error(1, "answered CLIENT_ERROR flush_all not allowed");
    assert_eq!(rig.got(client), words, "its own words behind its name");

    rig.receive(client, "flush_all\r\n");
    rig.answer(1, "OK\r\n");
    rig.fail(rig.link(2), Failure::Reset);
    rig.wait(1000);
    let words = "SERVER_ERROR backend c:11211 connection lost, backend a:11211 timed out\r\n";
    assert_eq!(rig.got(client), words, "all who did not are named");
}

#[test]
fn flush_all_can_be_forbidden() {
    let mut rig = Rig::with(settings(|settings| settings.flush_all_enabled = false));
    let client = rig.client();
    rig.receive(client, "flush_all\r\nflush_all noreply\r\nmn\r\n");
    assert_eq!(rig.got(client), "CLIENT_ERROR flush_all not allowed\r\nMN\r\n");
    assert_eq!([0, 1, 2].map(|backend| rig.saw(backend)), ["", "", ""]);
}

#[test]
fn binary_flush_goes_to_all() {
    let mut rig = Rig::new();
    let client = rig.client();
    let delay = [0, 0, 0, 9];
    rig.receive(client, Packet::request(opcode::FLUSH).extras(&delay).opaque(5).bytes());
    rig.receive(client, Packet::request(opcode::FLUSHQ).opaque(6).bytes());
    rig.receive(client, Packet::request(opcode::NOOP).opaque(7).bytes());
    for backend in 0..3 {
        let link = *rig.links(backend).last().unwrap();
        let asked = Packet::read_all(&rig.got_bytes(link));
        assert_eq!(asked.len(), 2);
        let delayed = Packet::request(opcode::FLUSH).extras(&delay).opaque(asked[0].opaque_of());
        assert_eq!(format!("{:?}", asked[0]), format!("{delayed:?}"));
        assert_eq!(rig.got_bytes(client), b"");
        for packet in asked {
            rig.receive(link, Packet::reply(opcode::FLUSH).opaque(packet.opaque_of()).bytes());
        }
    }
    let got = Packet::read_all(&rig.got_bytes(client));
    let expected = [Packet::reply(opcode::FLUSH).opaque(5), Packet::reply(opcode::NOOP).opaque(7)];
    assert_eq!(format!("{got:#?}"), format!("{expected:#?}"));
}

/// Two workers with the same settings.
fn two_workers() -> (Rig, Rig) {
    let settings = settings(|settings| settings.workers = 2);
    let mut second = Rig::cold(settings.clone(), 1);
    second.connecting = true;
    second.greeting = true;
    let mut first = Rig::with(settings);
    deliver(&mut first, &mut second);
    (first, second)
}

/// Carries messages between two workers until there are none.
fn deliver(first: &mut Rig, second: &mut Rig) {
    loop {
        let to_second = std::mem::take(&mut first.told);
        let to_first = std::mem::take(&mut second.told);
        if to_second.is_empty() && to_first.is_empty() {
            return;
        }
        for (worker, message) in to_second {
            assert_eq!(worker, 1);
            second.tell(message);
        }
        for (worker, message) in to_first {
            assert_eq!(worker, 0);
            first.tell(message);
        }
    }
}

fn stat_of(answer: &str, name: &str) -> u64 {
    let start = format!("STAT {name} ");
    let line = answer.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number {name} in {answer}"))
}

#[test]
fn stats_are_those_of_all_workers() {
    let (mut first, mut second) = two_workers();
    let (here, there) = (first.client(), second.client());
    second.client();
    let key = first.key(0, 0);
    for (rig, client, times) in [(&mut first, here, 1), (&mut second, there, 2)] {
        for _ in 0..times {
            rig.receive(client, format!("get {key}\r\n"));
            rig.answer(0, found(&key, "x"));
        }
        rig.got(client);
    }
    first.receive(here, format!("stats\r\nget {key}\r\n"));
    first.answer(0, "END\r\n");
    assert_eq!(first.got(here), "", "the other worker has not reported");
    deliver(&mut first, &mut second);
    let answer = first.got(here);
    assert!(answer.ends_with("END\r\nEND\r\n"), "in its place: {answer}");
    assert_eq!(stat_of(&answer, "curr_connections"), 3);
    assert_eq!(stat_of(&answer, "worker:0:curr_connections"), 1);
    assert_eq!(stat_of(&answer, "worker:1:curr_connections"), 2);
    assert_eq!(stat_of(&answer, "get_hits"), 3);
    assert_eq!(stat_of(&answer, "cmd_get"), 3);
    assert_eq!(stat_of(&answer, "backend:a:11211:requests"), 3);
    assert!(answer.contains("STAT backend:a:11211:state up\r\n"));
    assert!(answer.contains("STAT backend:b:11211:version 1.6.18\r\n"));
}

#[test]
fn a_worker_that_does_not_report_is_left_out_and_named() {
    let (mut first, mut second) = two_workers();
    let client = first.client();
    second.client();
    first.receive(client, "stats\r\nmn\r\n");
    let asked = std::mem::take(&mut first.told);
    assert_eq!(asked.len(), 1);
    first.wait(10_000);
    let answer = first.got(client);
    assert!(answer.ends_with("END\r\nMN\r\n"), "it is answered in the end: {answer}");
    assert!(answer.contains("STAT worker:1:state did not report in time\r\n"), "{answer}");
    assert_eq!(stat_of(&answer, "curr_connections"), 1);
    // A report that comes after all harms nobody, and no later question takes it for its own.
    for (_, message) in asked {
        second.tell(message);
    }
    let late = std::mem::take(&mut second.told);
    first.receive(client, "stats\r\n");
    for (_, message) in late {
        first.tell(message);
    }
    assert_eq!(first.got(client), "");
    deliver(&mut first, &mut second);
    assert_eq!(stat_of(&first.got(client), "curr_connections"), 2);
}

#[test]
fn versions_are_passed_on_to_the_other_workers() {
    let (mut first, mut second) = two_workers();
    let client = second.client();
    second.receive(client, "version\r\n");
    assert_eq!(second.got(client), "VERSION 1.6.18\r\n", "worker 0 has asked");
    assert_eq!(second.connects.len(), 0);
    first.tell(Message::Version { backend: 2, version: (*b"1.5.22").into() });
    let client = first.client();
    first.receive(client, "version\r\n");
    assert_eq!(first.got(client), "VERSION 1.5.22\r\n");
}

#[test]
fn a_value_too_large_is_swallowed_and_what_it_would_have_replaced_is_removed() {
    let mut rig = Rig::with(settings(|settings| settings.limits.value_max = 10));
    let (key, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("set {key} 0 0 11\r\nflush_all\r\n"));
    assert_eq!(rig.saw(0), "", "the value is data, and not all there");
    rig.receive(client, "\r\nget ");
    assert_eq!(rig.saw(0), format!("delete {key}\r\n"));
    rig.receive(client, format!("{key}\r\n"));
    rig.answer(0, "NOT_FOUND\r\nEND\r\n");
    assert_eq!(rig.got(client), "SERVER_ERROR object too large for cache\r\nEND\r\n");
    rig.saw(0);
    rig.receive(client, format!("add {key} 0 0 11\r\n12345678901\r\n"));
    assert_eq!(
        (rig.saw(0), rig.got(client)),
        ("".into(), "SERVER_ERROR object too large for cache\r\n".into())
    );
}

/// `ms` with `b` names its key in base64: the item to be removed is the one under the decoded key, at its owner.
#[test]
fn a_value_too_large_for_a_base64_key_removes_the_decoded_key_and_no_other() {
    let mut rig = Rig::with(settings(|settings| settings.limits.value_max = 10));
    let client = rig.client();
    // Base64 of "key1", "key2", ...; the owner of the decoded key must not be the encoded one's.
    let rows = [("key1", "a2V5MQ=="), ("key2", "a2V5Mg=="), ("key3", "a2V5Mw=="), ("key4", "a2V5NA==")];
    for (key, encoded) in rows {
        let owner = rig.settings.placement.owner(key.as_bytes());
        rig.receive(client, format!("ms {encoded} 11 b\r\n12345678901\r\n"));
        for backend in 0..3 {
            let saw = rig.saw(backend);
            let right = [format!("md {encoded} b\r\n"), format!("delete {key}\r\n")].contains(&saw);
            assert!(
                if backend == owner { right } else { saw.is_empty() },
                "{key} belongs to backend {owner}; backend {backend} was sent {saw:?}"
            );
        }
        rig.answer(owner, "NOT_FOUND\r\n");
        rig.got(client);
    }
}

#[test]
fn a_client_that_is_gone_loses_its_answers_and_not_its_requests() {
    for how in ["reset", "eof"] {
        let mut rig = Rig::new();
        let [a, b, _] = three_keys(&mut rig);
        let (client, other) = (rig.client(), rig.client());
        rig.hand(
            client,
            format!("set {a} 0 0 1\r\nx\r\nget {b}\r\nset {b} 0 0 1 noreply\r\ny\r\nset {a} ").as_bytes(),
        );
        match how {
            "reset" => rig.break_down(client, Failure::Reset),
            _ => rig.proxy.handle_eof(client),
        }
        rig.settle();
        assert_eq!(rig.saw(0), format!("set {a} 0 0 1\r\nx\r\n"), "{how}");
        assert_eq!(rig.saw(1), format!("get {b}\r\nset {b} 0 0 1\r\ny\r\n"), "{how}");
        // Its place may be taken by another client at once.
        let next = rig.client();
        rig.receive(next, format!("get {b}\r\n"));
        rig.answer(1, format!("{}STORED\r\nEND\r\n", found(&b, "not for the next")));
        rig.answer(0, "STORED\r\n");
        assert_eq!(rig.got(next), "END\r\n", "{how}");
        if how == "eof" {
            assert!(!rig.ends.contains_key(&client.to_bits()), "it has been answered and closed");
        }
        rig.receive(other, format!("get {a}\r\n"));
        rig.answer(0, "END\r\n");
        assert_eq!(rig.got(other), "END\r\n", "{how}");
    }
}

#[test]
fn eof_and_quit_end_a_client_after_its_last_answer() {
    for quit in [false, true] {
        let mut rig = Rig::new();
        let (a, client) = (rig.key(0, 0), rig.client());
        rig.hold(client);
        rig.receive(client, format!("get {a}\r\nmn\r\n"));
        if quit {
            rig.receive(client, "quit\r\nmn\r\n")
        } else {
            rig.eof(client)
        }
        assert!(rig.is_open(client), "its answers have not come");
        rig.answer(0, "END\r\n");
        assert!(rig.is_open(client), "its answers are not written");
        rig.write(client, 5);
        assert!(rig.is_open(client));
        rig.end(client).in_flight.as_ref().expect("half is written");
        let bytes = rig.got(client);
        let (buffer, _) = rig.end(client).in_flight.as_ref().unwrap();
        assert_eq!((bytes.as_str(), buffer.len()), ("END\r\n", "END\r\nMN\r\n".len()));
        rig.write(client, 4);
        assert!(!rig.ends.contains_key(&client.to_bits()), "everything is written");
    }
}

#[test]
fn drain_finishes_what_is_in_flight_and_stops_once() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let (idle, busy, half) = (rig.client(), rig.client(), rig.client());
    rig.receive(busy, format!("get {a}\r\nget {b}\r\n"));
    rig.receive(half, format!("set {a} 0 0 5\r\nx"));
    rig.tell(Message::Drain(Duration::from_secs(5)));
    assert!(!rig.is_open(idle) && !rig.is_open(half), "they are owed nothing");
    rig.receive(busy, format!("get {a}\r\n"));
    rig.answer(1, "END\r\n");
    assert!(rig.is_open(busy) && !rig.stopped);
    rig.hold(busy);
    rig.answer(0, found(&a, "x"));
    assert!(rig.is_open(busy) && !rig.stopped, "not written yet");
    rig.end(busy).held = false;
    let answer = format!("{}END\r\n", found(&a, "x"));
    let (buffer, _) = rig.end(busy).in_flight.as_ref().expect("its answers");
    assert_eq!(super::rig::contents(buffer), answer.as_bytes());
    rig.write(busy, answer.len());
    assert!(rig.stopped);
    assert_eq!(rig.saw(0), format!("get {a}\r\n"), "what came after the end was not taken");
}

#[test]
fn drain_ends_by_its_deadline_whatever_is_outstanding() {
    let settings = settings(|settings| settings.timeout = Duration::from_secs(60));
    let mut rig = Rig::with(settings);
    let (a, client) = (rig.key(0, 0), rig.client());
    rig.receive(client, format!("get {a}\r\n"));
    rig.tell(Message::Drain(Duration::from_secs(5)));
    rig.advance(Duration::from_micros(4_999_999));
    assert!(rig.is_open(client) && !rig.stopped);
    let late = rig.client();
    assert!(!rig.is_open(late), "nobody is let in any more");
    rig.advance(Duration::from_micros(1));
    assert!(!rig.is_open(client) && rig.stopped);
    rig.wait(100_000);
}

#[test]
fn a_drain_without_clients_stops_at_once() {
    let mut rig = Rig::new();
    rig.tell(Message::Drain(Duration::from_secs(5)));
    assert!(rig.stopped);
}

#[test]
fn administrative_commands_and_a_servers_inside_are_refused() {
    let mut rig = Rig::new();
    let client: ConnId = rig.client();
    rig.receive(client, "stats items\r\nstats settings\r\nwatch\r\nlru_crawler enable\r\nmn\r\n");
    let got = rig.got(client);
    assert!(got.starts_with("CLIENT_ERROR mcproxy has no stats items"), "{got}");
    assert!(got.contains("STAT maxconns 100\r\n"), "{got}");
    assert_eq!(got.matches("CLIENT_ERROR mcproxy does not pass on").count(), 2, "{got}");
    assert!(got.ends_with("MN\r\n"));
    assert_eq!([0, 1, 2].map(|backend| rig.saw(backend)), ["", "", ""]);
}
