//! However requests and replies are cut into pieces, the same bytes come out on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcproxy::embedded::session::Session;
use mcproxy::embedded::store::{Clock, Store};
use mcproxy::io::ConnId;
use mcproxy::proxy::settings::Settings;

use super::binary::{Packet, opcode};
use super::rig::{Rig, settings, show};
use super::words::{Dice, found, item, three_keys};

/// Three model backends, and all that they were sent.
struct Backends {
    stores: [Store; 3],
    sessions: BTreeMap<u64, Session>,
    seen: [Vec<u8>; 3],
}

impl Backends {
    fn new() -> Self {
        let store = || Store::new(1 << 24, Clock(1_700_000_000));
        Backends { stores: [store(), store(), store()], sessions: BTreeMap::new(), seen: Default::default() }
    }

    /// Answers everything that has been asked.
    fn answer(&mut self, rig: &mut Rig) {
        for backend in 0..3 {
            for link in rig.links(backend) {
                let bytes = rig.got_bytes(link);
                if !bytes.is_empty() {
                    let answer = self.work(backend, link, &bytes);
                    rig.receive(link, answer);
                }
            }
        }
    }

    fn work(&mut self, backend: usize, link: ConnId, bytes: &[u8]) -> Vec<u8> {
        self.seen[backend].extend_from_slice(bytes);
        let session = self.sessions.entry(link.to_bits()).or_default();
        let mut out = Vec::new();
        session.receive(bytes, &mut self.stores[backend], Clock(1_700_000_000), &mut out);
        out
    }
}

/// Sends `pieces` one after the other; gives what the client got and what each backend was sent.
fn run<'a>(
    settings: &Arc<Settings>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, [Vec<u8>; 3], bool) {
    let mut rig = Rig::with(settings.clone());
    let mut backends = Backends::new();
    let client = rig.client();
    let mut got = Vec::new();
    for piece in pieces {
        rig.receive(client, piece);
        backends.answer(&mut rig);
        if !rig.is_open(client) {
            break;
        }
        got.extend(rig.got_bytes(client));
    }
    let open = rig.is_open(client);
    (got, backends.seen, open)
}

/// `stream` whole, in two pieces at every byte, byte by byte, and in random pieces: always `expected`.
fn in_all_pieces(stream: &[u8], expected: &[u8]) {
    let settings = settings(|_| {});
    let (got, seen, open) = run(&settings, [stream]);
    assert_eq!((show(&got), open), (show(expected), true), "whole");
    let check = |pieces: &[&[u8]], how: &str| {
        let (now, now_seen, open) = run(&settings, pieces.iter().copied());
        assert!(now == got && open, "{how}: {} instead of {}", now.escape_ascii(), got.escape_ascii());
        assert!(now_seen == seen, "{how}: the backends were sent other bytes");
    };
    for cut in 1..stream.len() {
        check(&[&stream[..cut], &stream[cut..]], &format!("cut at {cut}"));
    }
    check(&stream.chunks(1).collect::<Vec<_>>(), "byte by byte");
    for seed in 0..100 {
        let mut dice = Dice::new(seed);
        let (mut pieces, mut rest) = (Vec::new(), stream);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + dice.throw(90)).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        check(&pieces, &format!("random pieces, seed {seed}"));
    }
}

/// Requests of a text client and memcached's answers. `A`, `B` and `C` stand for a key of each backend.
const TEXT: &[(&str, &str)] = &[
    ("set A 5 0 3\r\none\r\n", "STORED\r\n"),
    ("set B 0 0 0\r\n\r\n", "STORED\r\n"),
    ("set C 0 0 6 noreply\r\n\r\nEND\n\r\n", ""),
    ("get A\r\n", "VALUE A 5 3\r\none\r\nEND\r\n"),
    ("gets A\r\n", "VALUE A 5 3 1\r\none\r\nEND\r\n"),
    (
        "get C nothing B A C\r\n",
        "VALUE C 0 6\r\n\r\nEND\n\r\nVALUE B 0 0\r\n\r\nVALUE A 5 3\r\none\r\n\
         VALUE C 0 6\r\n\r\nEND\n\r\nEND\r\n",
    ),
    ("get nothing\r\n", "END\r\n"),
    ("append A 0 0 3\r\n+++\r\n", "STORED\r\n"),
    ("prepend A 0 0 3 noreply\r\n---\r\n", ""),
    ("add A 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
    ("replace nothing 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
    ("cas A 5 0 3 1\r\ntwo\r\n", "EXISTS\r\n"),
    ("cas A 5 0 3 3\r\ntwo\r\n", "STORED\r\n"),
    ("cas nothing 5 0 3 3\r\ntwo\r\n", "NOT_FOUND\r\n"),
    ("gat 100 A B\r\n", "VALUE A 5 3\r\ntwo\r\nVALUE B 0 0\r\n\r\nEND\r\n"),
    ("touch B 100\r\n", "TOUCHED\r\n"),
    ("set B 0 0 2\r\n41\r\n", "STORED\r\n"),
    ("incr B 1\r\n", "42\r\n"),
    ("decr B 2\r\n", "40\r\n"),
    ("incr B 7 noreply\r\n", ""),
    ("incr nothing 7\r\n", "NOT_FOUND\r\n"),
    ("delete nothing\r\n", "NOT_FOUND\r\n"),
    ("delete C noreply\r\n", ""),
    ("get C\r\n", "END\r\n"),
    ("mg A v f s Oabc k\r\n", "VA 3 f5 s3 Oabc kA\r\ntwo\r\n"),
    ("mg nothing v q\r\nmg nothing v\r\n", "EN\r\n"),
    ("ms C 4 T0 F9\r\nmeta\r\n", "HD\r\n"),
    ("ms C 4 q\r\nMETA\r\n", ""),
    ("mg C v f\r\n", "VA 4 f0\r\nMETA\r\n"),
    ("ma B D3 v\r\n", "VA 2\r\n50\r\n"),
    ("md C q\r\nmn\r\n", "MN\r\n"),
    ("nonsense\r\n", "ERROR\r\n"),
    ("get\r\n", "ERROR\r\n"),
    ("set A x 0 3\r\n", "CLIENT_ERROR bad command line format\r\n"),
    ("set A 0 0 3\r\nlong\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
    ("touch A x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
    ("verbosity 1\r\n", "OK\r\n"),
    ("version\r\n", "VERSION 1.6.18\r\n"),
    ("flush_all 0\r\n", "OK\r\n"),
    ("get A B C\n", "END\r\n"),
];

#[test]
fn text_requests_split_at_every_byte() {
    let keys = three_keys(&mut Rig::new());
    let fill = |text: &str| {
        let words = ["A", "B", "C"].into_iter().zip(&keys);
        words.fold(text.to_string(), |text, (letter, key)| {
            text.split_inclusive([' ', '\r']).map(|word| replaced(word, letter, key)).collect()
        })
    };
    let stream: String = TEXT.iter().map(|row| fill(row.0)).collect();
    let expected: String = TEXT.iter().map(|row| fill(row.1)).collect();
    in_all_pieces(stream.as_bytes(), expected.as_bytes());
}

/// `word`, its end included, or `key` and the same end if it is `letter`.
fn replaced(word: &str, letter: &str, key: &str) -> String {
    match word.strip_prefix('k').filter(|rest| rest.trim_end() == letter) {
        Some(rest) => format!("k{key}{}", &rest[1..]),
        None if word.trim_end() == letter => format!("{key}{}", &word[1..]),
        None => word.to_string(),
    }
}

#[test]
fn binary_requests_split_at_every_byte() {
    let [a, b, c] = three_keys(&mut Rig::new());
    let set = |op, key: &str, value| Packet::request(op).key(key).extras(&[0; 8]).value(value);
    let get = |op, key: &str| Packet::request(op).key(key);
    let hit = |op, key: &str, value, cas| Packet::reply(op).key(key).extras(&[0; 4]).value(value).cas(cas);
    let rows = [
        (set(opcode::SET, &a, "one").opaque(1), Packet::reply(opcode::SET).opaque(1).cas(1)),
        (set(opcode::SETQ, &b, "two").opaque(2), Packet::nothing()),
        (get(opcode::GETKQ, &c).opaque(3), Packet::nothing()),
        (get(opcode::GETKQ, &b).opaque(4), hit(opcode::GETKQ, &b, "two", 1).opaque(4)),
        (get(opcode::GETQ, &a).opaque(5), hit(opcode::GETQ, "", "one", 1).opaque(5)),
        (
            set(opcode::ADDQ, &a, "x").opaque(6),
            Packet::reply(opcode::ADDQ).opaque(6).status(2).value("Data exists for key."),
        ),
        (
            get(opcode::DELETE, &c).opaque(u32::MAX),
            Packet::reply(opcode::DELETE).opaque(u32::MAX).status(1).value("Not found"),
        ),
        (Packet::request(opcode::NOOP).opaque(8), Packet::reply(opcode::NOOP).opaque(8)),
        (get(opcode::DELETEQ, &a).opaque(9), Packet::nothing()),
        (get(opcode::GET, &a).opaque(10), Packet::reply(opcode::GET).opaque(10).status(1).value("Not found")),
        (
            Packet::request(0x60).value("junk").opaque(11),
            Packet::reply(0x60).opaque(11).status(0x81).value("Unknown command"),
        ),
        (Packet::request(opcode::FLUSHQ).opaque(12), Packet::nothing()),
        (
            Packet::request(opcode::VERSION).opaque(13),
            Packet::reply(opcode::VERSION).opaque(13).value("1.6.18"),
        ),
    ];
    let stream: Vec<u8> = rows.iter().flat_map(|row| row.0.bytes()).collect();
    let expected: Vec<u8> = rows.iter().flat_map(|row| row.1.bytes()).collect();
    in_all_pieces(&stream, &expected);
}

/// Requests of one client, the replies of each backend to them, and what the client must get.
fn three_streams(rig: &mut Rig) -> (String, [String; 3], String) {
    let [a, b, c] = three_keys(rig);
    let big = "x".repeat(300);
    let requests = format!(
        "get {a}\r\nget {b}\r\nget {c}\r\nget {c} {a} {b} {a}\r\n\
         set {b} 0 0 1\r\ny\r\nmg {c} v\r\nget {a}\r\n"
    );
    let replies = [
        format!("{}{}END\r\nEND\r\n", found(&a, "END\r\n"), item(&a, "1")),
        format!("END\r\n{}STORED\r\n", found(&b, &big)),
        format!("{}{}VA 5\r\nHD\r\n!\r\n", found(&c, ""), found(&c, "3")),
    ];
    let all = [item(&c, "3"), item(&a, "1"), item(&b, &big), item(&a, "1")].concat();
    let gets = format!("{}END\r\n{}", found(&a, "END\r\n"), found(&c, ""));
    (requests, replies, format!("{gets}{all}END\r\nSTORED\r\nVA 5\r\nHD\r\n!\r\nEND\r\n"))
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Gives the rig's one client the replies, in turns of `step` bytes per backend, backends in this order.
fn in_turns(settings: &Arc<Settings>, order: [usize; 3], step: usize) -> (String, String) {
    let mut rig = Rig::with(settings.clone());
    let (requests, replies, expected) = three_streams(&mut rig);
    let client = rig.client();
    rig.receive(client, requests);
    let mut rests: [&[u8]; 3] = [0, 1, 2].map(|backend| replies[backend].as_bytes());
    while rests.iter().any(|rest| !rest.is_empty()) {
        for backend in order {
            let (piece, rest) = rests[backend].split_at(step.min(rests[backend].len()));
            rests[backend] = rest;
            if !piece.is_empty() {
                rig.answer(backend, piece);
            }
        }
    }
    (rig.got(client), expected)
}

#[test]
fn replies_interleaved_over_three_backends_come_back_in_the_clients_order() {
    let settings = settings(|_| {});
    for order in ORDERS {
        for step in [1, 2, 3, 5, 7, 16, 64, 1000] {
            let (got, expected) = in_turns(&settings, order, step);
            assert_eq!(got, expected, "order {order:?}, {step} bytes at a time");
        }
    }
}

#[test]
fn replies_split_at_every_byte() {
    let settings = settings(|_| {});
    let replies = three_streams(&mut Rig::with(settings.clone())).1;
    for (late, reply) in replies.iter().enumerate() {
        for cut in 1..reply.len() {
            let mut rig = Rig::with(settings.clone());
            let (requests, replies, expected) = three_streams(&mut rig);
            let client = rig.client();
            rig.receive(client, requests);
            rig.answer(late, &replies[late][..cut]);
            for backend in (0..3).filter(|&backend| backend != late) {
                rig.answer(backend, &replies[backend]);
            }
            rig.answer(late, &replies[late][cut..]);
            assert_eq!(rig.got(client), expected, "backend {late}, cut at {cut}");
        }
    }
}

#[test]
fn large_values_pass_in_any_pieces() {
    let settings = settings(|_| {});
    let value = "0123456789abcdef".repeat(5000);
    for (step, seed) in [(1 << 20, 0), (65536, 1), (16 << 10, 2), (1000, 3), (333, 4)] {
        let mut rig = Rig::with(settings.clone());
        let (key, client) = (rig.key(0, 0), rig.client());
        let request = format!("set {key} 0 0 {}\r\n{value}\r\nget {key}\r\nget {key}\r\n", value.len());
        for piece in request.as_bytes().chunks(step) {
            rig.receive(client, piece);
        }
        assert!(rig.saw(0) == request, "step {step}: what the backend sees");
        let answer = format!("STORED\r\n{}{}", found(&key, &value), found(&key, &value));
        let mut dice = Dice::new(seed);
        let mut rest = answer.as_bytes();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + dice.throw(2 * step)).min(rest.len()));
            rig.answer(0, piece);
            rest = behind;
        }
        assert!(rig.got(client) == answer, "step {step}: what the client sees");
    }
}

#[test]
fn one_write_per_connection_and_tick() {
    let mut rig = Rig::new();
    let [a, b, _] = three_keys(&mut rig);
    let clients: Vec<_> = (0..10).map(|_| rig.client()).collect();
    let writes: u64 = rig.stat("backend_writes").parse().unwrap();
    for &client in &clients {
        rig.hand(client, format!("get {a}\r\nget {b}\r\nget {a}\r\n").as_bytes());
    }
    rig.settle();
    let after: u64 = rig.stat("backend_writes").parse().unwrap();
    assert_eq!(after - writes, 2, "thirty requests of a tick to two backends leave in two writes");
    assert_eq!(rig.saw(0), format!("get {a}\r\n").repeat(20));
    assert_eq!(rig.saw(1), format!("get {b}\r\n").repeat(10));
}
