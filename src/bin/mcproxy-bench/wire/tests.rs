//! Replies as memcached gives them: whole, in every split, with every byte altered, crossed.

use std::ffi::OsString;

use super::*;
use crate::arguments;

const KEYS: u64 = 300;
const KEY_BYTES: usize = 12;
const VALUE_BYTES: usize = 60;

const ALL: [&[&str]; 4] =
    [&["--protocol", "text"], &["--gets"], &["--protocol", "meta"], &["--protocol", "binary"]];

fn wire(flags: &[&str]) -> Wire {
    let fixed = ["x", "--target", "127.0.0.1:1", "--multiget", "4", "--keys", "300", "--key-bytes", "12"];
    let words = fixed.iter().chain(&["--value-bytes", "60"]).chain(flags).map(OsString::from);
    let plan = arguments::parse(words).unwrap_or_else(|exit| panic!("{}", exit.text));
    Wire::new(&plan, Arc::new(Items::new(KEYS, KEY_BYTES, VALUE_BYTES)))
}

fn asked(op: Op, subject: u64) -> Asked {
    Asked { at: 0, subject, opaque: 0x0102_0304, op }
}

/// A reply, and where in it a byte may be another one.
#[derive(Default)]
struct Reply {
    bytes: Vec<u8>,
    free: Vec<std::ops::Range<usize>>,
}

impl Reply {
    fn put(&mut self, bytes: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(bytes.as_ref());
    }

    fn put_free(&mut self, bytes: impl AsRef<[u8]>) {
        let start = self.bytes.len();
        self.put(bytes);
        self.free.push(start..self.bytes.len());
    }

    fn put_header(
        &mut self,
        opcode: u8,
        [key, extras, value]: [usize; 3],
        status: u16,
        opaque: u32,
        cas: u64,
    ) {
        self.put([0x81, opcode, 0, key as u8, extras as u8, 0]);
        self.put(status.to_be_bytes());
        self.put(((key + extras + value) as u32).to_be_bytes());
        self.put(opaque.to_be_bytes());
        self.put_free(cas.to_be_bytes());
    }
}

/// What memcached answers a read, with those of its keys there that `there` says.
fn read_reply(wire: &Wire, asked: &Asked, there: impl Fn(u64) -> bool) -> Reply {
    let mut reply = Reply::default();
    let several = asked.op == Op::Multiget;
    for place in (0..wire.count(asked)).filter(|&place| there(place)) {
        let number = wire.number(asked, place);
        let key = wire.items.key(number);
        let mut value = Vec::new();
        wire.items.put_value(number, 7, 1000 + place, &mut value);
        match &wire.form {
            Form::Text(form) => {
                reply.put(b"VALUE ");
                reply.put(key);
                reply.put(b" 0 60");
                if form.gets {
                    reply.put(b" ");
                    reply.put_free(b"345");
                }
                reply.put(b"\r\n");
            }
            Form::Meta(_) => {
                reply.put(b"VA 60 f0 k");
                reply.put(key);
                reply.put(b"\r\n");
            }
            Form::Binary if several => {
                reply.put_header(0x0d, [KEY_BYTES, 4, VALUE_BYTES], 0, asked.opaque + place as u32, 0x0100);
                reply.put([0; 4]);
                reply.put(key);
            }
            Form::Binary => {
                reply.put_header(0x00, [0, 4, VALUE_BYTES], 0, asked.opaque, 0x0100);
                reply.put([0; 4]);
            }
        }
        reply.put(value);
        if !matches!(wire.form, Form::Binary) {
            reply.put(b"\r\n");
        }
    }
    put_end(wire, asked, &mut reply, there(0));
    reply
}

fn put_end(wire: &Wire, asked: &Asked, reply: &mut Reply, hit: bool) {
    let several = asked.op == Op::Multiget;
    match &wire.form {
        Form::Text(_) => reply.put(b"END\r\n"),
        Form::Meta(_) if several => reply.put(b"MN\r\n"),
        Form::Meta(_) if !hit => {
            reply.put(b"EN k");
            reply.put(wire.items.key(asked.subject));
            reply.put(b"\r\n");
        }
        Form::Binary if several => {
            reply.put_header(0x0a, [0; 3], 0, asked.opaque + 4, 0);
            // Its token is zero.
            reply.free.pop();
        }
        Form::Binary if !hit => {
            reply.put_header(0x00, [0, 0, 9], 1, asked.opaque, 0);
            reply.free.pop();
            reply.put(b"Not found");
        }
        _ => {}
    }
}

fn set_reply(wire: &Wire, asked: &Asked) -> Reply {
    let mut reply = Reply::default();
    match &wire.form {
        Form::Text(_) => reply.put(b"STORED\r\n"),
        Form::Meta(_) => {
            reply.put(b"HD k");
            reply.put(wire.items.key(asked.subject));
            reply.put(b"\r\n");
        }
        Form::Binary => reply.put_header(0x01, [0; 3], 0, asked.opaque, 0x0100),
    }
    reply
}

/// What became of a stream: bytes taken, whether the reply ended, and the counts.
struct Taken {
    bytes: usize,
    done: bool,
    tally: Tally,
}

/// Gives the bytes up to each of `ends` to the wire, as reads would.
fn take(wire: &Wire, asked: &Asked, input: &[u8], ends: &[usize]) -> Result<Taken, &'static str> {
    let mut taken = Taken { bytes: 0, done: false, tally: Tally::new() };
    let mut reading = Reading::default();
    for &end in ends {
        while taken.bytes < end && !taken.done {
            match wire.take(asked, &mut reading, &mut taken.tally, &input[taken.bytes..end])? {
                Step::More => break,
                Step::Part(length) => taken.bytes += length,
                Step::Done(length) => {
                    taken.bytes += length;
                    taken.done = true;
                }
            }
        }
    }
    Ok(taken)
}

/// Every kind of reply of a wire, with hits and misses that it stands for.
fn replies(wire: &Wire) -> Vec<(Asked, Reply, (u64, u64))> {
    let (get, set, several) = (asked(Op::Get, 42), asked(Op::Set, 42), asked(Op::Multiget, 99));
    vec![
        (get, read_reply(wire, &get, |_| true), (1, 0)),
        (get, read_reply(wire, &get, |_| false), (0, 1)),
        (set, set_reply(wire, &set), (0, 0)),
        (several, read_reply(wire, &several, |_| true), (4, 0)),
        (several, read_reply(wire, &several, |place| place % 2 == 1), (2, 2)),
        (several, read_reply(wire, &several, |place| place == 0), (1, 3)),
        (several, read_reply(wire, &several, |_| false), (0, 4)),
    ]
}

#[test]
fn right_replies_are_taken_in_every_split() {
    for flags in ALL {
        let wire = wire(flags);
        for (asked, reply, counts) in replies(&wire) {
            let all = reply.bytes.len();
            for cut in 0..=all {
                let taken = take(&wire, &asked, &reply.bytes, &[cut, all]);
                let shown = || format!("{flags:?} cut at {cut}: {}", reply.bytes.escape_ascii());
                let taken = taken.unwrap_or_else(|what| panic!("{what}: {}", shown()));
                assert!(taken.done && taken.bytes == all, "{}", shown());
                assert_eq!((taken.tally.hits, taken.tally.misses), counts, "{}", shown());
                assert_eq!(taken.tally.errors, 0);
                let part = take(&wire, &asked, &reply.bytes, &[cut]).expect("a first part of it");
                assert_eq!(part.done, cut == all, "{}", shown());
            }
        }
    }
}

/// An altered byte is found at once, or nothing is taken for whole that is not (then the run ends by
/// silence).
#[test]
fn an_altered_byte_is_never_taken_for_right() {
    for flags in ALL {
        let wire = wire(flags);
        for (asked, reply, _) in replies(&wire) {
            let fixed = |place: &usize| !reply.free.iter().any(|range| range.contains(place));
            for place in (0..reply.bytes.len()).filter(fixed) {
                for change in (0..8).map(|bit| 1 << bit).chain([0x03, 0x7f, 0xff]) {
                    let mut bytes = reply.bytes.clone();
                    bytes[place] ^= change;
                    let taken = take(&wire, &asked, &bytes, &[bytes.len()]);
                    let right = taken.is_ok_and(|taken| taken.done);
                    assert!(!right, "{flags:?} byte {place} ^ {change}: {}", bytes.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn crossed_replies_are_found() {
    for flags in ALL {
        let wire = wire(flags);
        let (one, other) = (asked(Op::Get, 42), asked(Op::Get, 43));
        let reply = read_reply(&wire, &other, |_| true);
        assert!(take(&wire, &one, &reply.bytes, &[reply.bytes.len()]).is_err(), "{flags:?} another key's");
        let several = asked(Op::Multiget, 99);
        let reply = read_reply(&wire, &several, |_| true);
        let end = read_reply(&wire, &several, |_| false).bytes.len();
        let values: Vec<&[u8]> =
            reply.bytes[..reply.bytes.len() - end].chunks((reply.bytes.len() - end) / 4).collect();
        for order in [[1, 0, 2, 3], [0, 0, 1, 2], [0, 2, 1, 3], [3, 2, 1, 0]] {
            let mixed = order.map(|place| values[place]).concat();
            assert!(take(&wire, &several, &mixed, &[mixed.len()]).is_err(), "{flags:?} {order:?}");
        }
    }
}

/// memcached 1.6.18 says the key of a miss; that it does not have to is the protocol's.
#[test]
fn a_meta_miss_may_be_short() {
    let (wire, asked) = (wire(ALL[2]), asked(Op::Get, 42));
    let taken = take(&wire, &asked, b"EN\r\n", &[1, 2, 3, 4]).expect("a miss");
    assert!(taken.done && taken.tally.misses == 1);
    for wrong in [&b"EN k00000000043\r\n"[..], b"ENx\r\n", b"EN \r\n", b"EN x\r\n", b"ENDE\r\n"] {
        assert!(take(&wire, &asked, wrong, &[wrong.len()]).is_err(), "{}", wrong.escape_ascii());
    }
}

#[test]
fn a_token_is_a_number() {
    let (wire, asked) = (wire(ALL[1]), asked(Op::Get, 42));
    let reply = read_reply(&wire, &asked, |_| true);
    let token = reply.free[0].clone();
    let with = |token_bytes: &[u8]| {
        let input = [&reply.bytes[..token.start], token_bytes, &reply.bytes[token.end..]].concat();
        take(&wire, &asked, &input, &[input.len()]).is_ok_and(|taken| taken.done)
    };
    assert!(with(b"1") && with(b"18446744073709551615"));
    for wrong in [&b""[..], b"-1", b"1a", b"a", b" 1", b"1 ", b"111111111111111111111"] {
        assert!(!with(wrong), "{}", wrong.escape_ascii());
    }
}

#[test]
fn a_binary_token_is_not_zero() {
    let wire = wire(ALL[3]);
    for (asked, mut reply, _) in replies(&wire) {
        let Some(token) = reply.free.first().cloned() else { continue };
        reply.bytes[token].fill(0);
        assert!(take(&wire, &asked, &reply.bytes, &[reply.bytes.len()]).is_err(), "{asked:?}");
    }
}

#[test]
fn errors_end_the_run_or_are_counted() {
    for (flags, op) in [("text", Op::Get), ("text", Op::Set), ("meta", Op::Get), ("meta", Op::Set)] {
        let (strict, lenient) =
            (wire(&["--protocol", flags]), wire(&["--protocol", flags, "--tolerate-errors"]));
        let asked = asked(op, 42);
        let error = b"SERVER_ERROR backend a is down\r\n";
        assert!(take(&strict, &asked, error, &[error.len()]).is_err());
        for cut in 0..=error.len() {
            let taken =
                take(&lenient, &asked, error, &[cut, error.len()]).expect("an error that is only counted");
            assert!(taken.done && taken.tally.errors == 1 && taken.tally.misses == 0);
        }
        for other in [&b"ERROR\r\n"[..], b"CLIENT_ERROR bad\r\n", b"SERVER_ERROR x\n", b"NOT_STORED\r\n"] {
            assert!(take(&lenient, &asked, other, &[other.len()]).is_err(), "{}", other.escape_ascii());
        }
    }
    let (strict, lenient) = (wire(ALL[3]), wire(&["--protocol", "binary", "--tolerate-errors"]));
    for op in [Op::Get, Op::Set] {
        let (asked, mut reply) = (asked(op, 42), Reply::default());
        reply.put_header(u8::from(op == Op::Set), [0, 0, 4], 0x86, asked.opaque, 0);
        reply.put(b"down");
        assert!(take(&strict, &asked, &reply.bytes, &[28]).is_err());
        let taken = take(&lenient, &asked, &reply.bytes, &[28]).expect("an error that is only counted");
        assert!(taken.done && taken.tally.errors == 1);
    }
}

/// An error in a multiget: one for all in text, one for each key in the others. It counts as one operation.
#[test]
fn an_error_in_a_multiget_is_one_error() {
    let asked = asked(Op::Multiget, 99);
    let text = wire(&["--tolerate-errors"]);
    let error = b"SERVER_ERROR backend a is down\r\n";
    let taken = take(&text, &asked, error, &[error.len()]).expect("counted");
    assert!(taken.done && taken.tally.errors == 1);
    let meta = wire(&["--protocol", "meta", "--tolerate-errors"]);
    let stream = [&error[..], error, b"MN\r\n"].concat();
    let taken = take(&meta, &asked, &stream, &[stream.len()]).expect("counted");
    assert!(taken.done && taken.tally.errors == 1 && taken.tally.misses == 0);
}

#[test]
fn no_bytes_panic() {
    for flags in ALL {
        let wire = wire(flags);
        for (asked, reply, _) in replies(&wire) {
            for round in 0..3000 {
                let mut random = crate::items::mix(round);
                let mut next = |bound: usize| {
                    random = crate::items::mix(random);
                    (random % bound as u64) as usize
                };
                let mut bytes = reply.bytes.clone();
                for _ in 0..=next(6) {
                    let place = next(bytes.len());
                    match next(3) {
                        0 => bytes[place] = next(256) as u8,
                        1 => bytes.insert(place, next(256) as u8),
                        _ if bytes.len() > 1 => drop(bytes.remove(place)),
                        _ => {}
                    }
                }
                let cut = next(bytes.len() + 1);
                let _ = take(&wire, &asked, &bytes, &[cut, bytes.len()]);
            }
        }
    }
}
