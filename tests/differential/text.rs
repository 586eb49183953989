//! Random requests of classic text and meta: good ones, bad ones and noise. Left out is what differs between
//! two servers by nature (`stats`, times of access) and what memcached itself answers differently when it
//! arrives in pieces (lines over 2,048 bytes other than gets).

use crate::keys::{Keys, exptime, ten_digits, value};
use crate::stream::{Ending, NO_TOKEN, Piece, Request};
use crate::support::random::Random;

/// What a grammar may do.
#[derive(Clone, Copy)]
pub(crate) struct Permits {
    /// Reach what other clients stored: `flush_all`, and keys that became others by chance.
    pub(crate) others: bool,
    /// Values near a mebibyte and gets of hundreds of keys.
    pub(crate) large: bool,
}

/// The next request of a stream.
pub(crate) fn request(random: &mut Random, keys: &Keys, permits: Permits) -> Request {
    match random.below(100) {
        0..12 => get(random, keys, 1),
        12..20 => {
            let count = random.between(2, 12);
            get(random, keys, count)
        }
        20 if permits.large => {
            let count = random.between(100, 700);
            get(random, keys, count)
        }
        20..24 => gat(random, keys),
        24..41 => store(random, keys),
        41..47 => cas(random, keys),
        47..53 => arithmetic(random, keys),
        53..56 => touch(random, keys),
        56..60 => delete(random, keys),
        60 if permits.others => flush(random),
        60..64 => fixed(random),
        64..86 => crate::meta::request(random, keys),
        86..92 => bad(random, keys),
        92..94 if permits.others => words(random, keys),
        94..95 => noise(random),
        95 if permits.large => large(random, keys),
        _ if permits.others => mutated(random, keys),
        _ => store(random, keys),
    }
}

/// True if memcached may throw away what it still has to answer when it reads this: on a key too long in a get
/// it drops the answers to earlier requests of the same read, too (proto_text.c, "Kill any stacked responses").
/// No proxy can or should do the same, so those answers are read before such a request is sent.
pub(crate) fn may_lose_answers(request: &Request) -> bool {
    const KEY_MAX: usize = 250;
    let bytes = request.render(&Default::default());
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.split(|&byte| byte == b' ').any(|word| word.len() > KEY_MAX)
}

/// What ends a stream of text.
pub(crate) fn ending(random: &mut Random, keys: &Keys) -> Ending {
    let key = String::from_utf8_lossy(&keys.plain[0]).into_owned();
    match random.below(12) {
        0 => Ending::Sent(b"quit\r\n".to_vec()),
        1 => Ending::Sent(b"quit noreply\r\n".to_vec()),
        2 => Ending::Sent(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        3 => Ending::Sent(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        4 => Ending::Sent(vec![b'a'; 2100]),
        5 => Ending::HalfClosed(Vec::new()),
        6 => Ending::HalfClosed(format!("get {key}\r\ntouch {key} 0\r\nget {key}").into_bytes()),
        7 => Ending::HalfClosed(format!("set {key} 0 0 10\r\n12345").into_bytes()),
        _ => Ending::Leave,
    }
}

/// A line from words; a space between them.
fn line(words: &[&[u8]]) -> Request {
    Request::plain([&words.join(&b' ')[..], b"\r\n"].concat())
}

fn noreply(random: &mut Random) -> &'static [u8] {
    if random.percent(15) { b" noreply" } else { b"" }
}

fn get(random: &mut Random, keys: &Keys, count: usize) -> Request {
    let verb: &[u8] = if random.percent(40) { b"gets" } else { b"get" };
    let mut words = vec![verb.to_vec()];
    for _ in 0..count {
        words.push(match random.below(10) {
            0 => keys.number(random),
            1 => format!("missing{}", random.below(50)).into_bytes(),
            _ => keys.any(random),
        });
    }
    if random.percent(2) {
        words.push(random.pick(&keys.large).clone());
    }
    line(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn gat(random: &mut Random, keys: &Keys) -> Request {
    let verb: &[u8] = if random.percent(40) { b"gats" } else { b"gat" };
    let mut words = vec![verb.to_vec(), exptime(random).to_string().into_bytes()];
    for _ in 0..random.between(1, 6) {
        words.push(keys.any(random));
    }
    line(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// `verb key flags exptime length[ noreply]`, and the value.
fn storage(verb: &str, key: &[u8], flags: &str, exptime: i32, value: &[u8], noreply: &[u8]) -> Request {
    let head = [verb.as_bytes(), b" ", key].concat();
    let numbers = format!(" {flags} {exptime} {}", value.len());
    Request::plain([&head, numbers.as_bytes(), noreply, b"\r\n", value, b"\r\n"].concat())
}

fn flags(random: &mut Random) -> String {
    match random.below(6) {
        0 => u64::from(u32::MAX).to_string(),
        1 => (random.next() % (1 << 32)).to_string(),
        2 => random.below(100).to_string(),
        _ => "0".to_owned(),
    }
}

fn store(random: &mut Random, keys: &Keys) -> Request {
    if random.percent(25) {
        let number = ten_digits(random).to_string();
        let verb = random.pick(&["set", "add", "replace"]);
        return storage(verb, &keys.number(random), "0", 0, number.as_bytes(), noreply(random));
    }
    let verb = *random.pick(&["set", "set", "set", "add", "replace", "append", "prepend"]);
    let key = keys.any(random);
    // Appending must not let an item grow without end.
    let value = if verb.ends_with("pend") { random.bytes(8) } else { value(random) };
    storage(verb, &key, &flags(random), exptime(random), &value, noreply(random))
}

fn cas(random: &mut Random, keys: &Keys) -> Request {
    let (key, value) = (keys.any(random), value(random));
    let head = [b"cas ", &key[..]].concat();
    let numbers = format!(" {} {} {} ", flags(random), exptime(random), value.len());
    let token = match random.below(4) {
        0 => Piece::Bytes((NO_TOKEN + random.next() % 1000).to_string().into_bytes()),
        _ => Piece::Decimal(key),
    };
    let tail = [noreply(random), b"\r\n", &value, b"\r\n"].concat();
    let pieces = vec![Piece::Bytes([&head, numbers.as_bytes()].concat()), token, Piece::Bytes(tail)];
    Request { pieces, about: None }
}

fn arithmetic(random: &mut Random, keys: &Keys) -> Request {
    let verb: &[u8] = if random.percent(50) { b"incr " } else { b"decr " };
    let key = if random.percent(90) { keys.number(random) } else { b"missing".to_vec() };
    let delta = format!(" {}", random.below(1000));
    Request::plain([verb, &key, delta.as_bytes(), noreply(random), b"\r\n"].concat())
}

fn touch(random: &mut Random, keys: &Keys) -> Request {
    let seconds = format!(" {}", exptime(random));
    Request::plain([b"touch ", &keys.any(random)[..], seconds.as_bytes(), noreply(random), b"\r\n"].concat())
}

fn delete(random: &mut Random, keys: &Keys) -> Request {
    let zero: &[u8] = if random.percent(20) { b" 0" } else { b"" };
    Request::plain([b"delete ", &keys.any(random)[..], zero, noreply(random), b"\r\n"].concat())
}

fn flush(random: &mut Random) -> Request {
    // With a delay, what was flushed before would come to life again or not, by the clock.
    Request::plain(*random.pick(&[&b"flush_all\r\n"[..], b"flush_all noreply\r\n", b"flush_all 0\r\n"]))
}

fn fixed(random: &mut Random) -> Request {
    Request::plain(*random.pick(&[
        &b"version\r\n"[..],
        b"version 1 2\r\n",
        b"verbosity 0\r\n",
        b"verbosity 1 noreply\r\n",
        b"mn\r\n",
        b"mn\n",
        b"mn 1\r\n",
    ]))
}

/// A value near the largest that memcached takes, on either side of the bound.
fn large(random: &mut Random, keys: &Keys) -> Request {
    let length = *random.pick(&[500_000, 1_048_000, 1_048_276, 1_048_577]);
    let key = random.pick(&keys.large).clone();
    let verb = *random.pick(&["set", "set", "add", "replace"]);
    storage(verb, &key, "0", 0, &random.bytes(length), noreply(random))
}

/// Lines that are wrong in a way that is known. `K` stands for a key, `N` for one of a number, `W` for one of a
/// word, `L` for one that is too long. Before an `L` stands no key that is there: memcached counts such an item
/// as fetched although it refuses the request. Arithmetic on a value of white space alone is left out: memcached
/// reads on behind the value then, and answers by what it finds there.
const WRONG: &[&[u8]] = &[
    b"\r\n",
    b" \r\n",
    b"\n",
    b"get\r\n",
    b"get \r\n",
    b"gets\r\n",
    b"GET K\r\n",
    b" get K\r\n",
    b"get   K   K\r\n",
    b"get K\n",
    b"get K\0K\r\n",
    b"get\0 K\r\n",
    b"get missing L K\r\n",
    b"get L\r\n",
    b"gets missing missing L\r\n",
    b"get\tK\r\n",
    b"get K\r\r\n",
    b"set K 0 0\r\n",
    b"set K 0 0 1 2 3\r\nx\r\n",
    b"set K 0 0 3\r\nabcdef\r\n",
    b"set K 0 0 3 noreply\r\nabcdef\r\n",
    b"set K 0 0 6\r\nabc\r\nget a\r\n",
    b"set K 0 0 3\r\nabc\n\r\n",
    b"set K 0 0 abc\r\n",
    b"set K 0 0 -1\r\n",
    b"set K 0 0 -1 noreply\r\nabc\r\n",
    b"set K 0 0 2147483647\r\n",
    b"set K 0 0 2147483648\r\n",
    b"set K 0 0 18446744073709551616\r\n",
    b"set K -1 0 3\r\nabc\r\n",
    b"set K 4294967296 0 3\r\nabc\r\n",
    b"set K 18446744073709551615 0 3\r\nabc\r\n",
    b"set K 18446744073709551616 0 3\r\nabc\r\n",
    b"set K 1x 0 3\r\nabc\r\n",
    b"set K 0 abc 3\r\nabc\r\n",
    b"set K 0 abc 3 noreply\r\nabc\r\n",
    b"set K 0 0 3x\r\nabc\r\n",
    b"set K 0 0 +3\r\nabc\r\n",
    b"set K +0 +0 003\r\nabc\r\n",
    b"set K 0 0 3 NOREPLY\r\nabc\r\n",
    b"set K 0 0 3 norepl\r\nabc\r\n",
    b"set K 0 0 3 noreplyy\r\nabc\r\n",
    b"set L 0 0 3\r\nabc\r\n",
    b"set L 0 0 3 noreply\r\nabc\r\n",
    b"add K 0 0 x\r\n",
    b"append K 0 0 3\r\nabcd\r\n",
    b"cas K 0 0 3\r\nabc\r\n",
    b"cas K 0 0 3 abc\r\nabc\r\n",
    b"cas K 0 0 3 -1\r\nabc\r\n",
    b"cas K 0 0 3 18446744073709551616\r\nabc\r\n",
    b"cas K 0 0 3 1152921504606846977 noreply\r\nabc\r\n",
    b"cas K 0 0 3 1152921504606846977 norepl\r\nabc\r\n",
    b"cas L 0 0 3 1\r\nabc\r\n",
    b"incr N\r\n",
    b"incr N abc\r\n",
    b"incr N -1\r\n",
    b"incr N 18446744073709551616\r\n",
    b"incr N 1 2 3\r\n",
    b"incr L 1\r\n",
    b"set W 0 0 3\r\nabc\r\n",
    b"incr W 1\r\n",
    b"decr W 1 noreply\r\n",
    b"ma W v\r\n",
    b"ma W v q\r\n",
    b"decr missing 1 noreply\r\n",
    b"incr missing 1 norepl\r\n",
    b"delete\r\n",
    b"delete K 5\r\n",
    b"delete K 0 0\r\n",
    b"delete K norepl\r\n",
    b"delete L noreply\r\n",
    b"delete L\r\n",
    b"touch K\r\n",
    b"touch K abc\r\n",
    b"touch K abc noreply\r\n",
    b"touch L 0\r\n",
    b"touch K 0 1 2\r\n",
    b"gat\r\n",
    b"gat 0\r\n",
    b"gat abc K\r\n",
    b"gat 0 missing L\r\n",
    b"gats 0 L\r\n",
    b"gat K\r\n",
    b"flush_all abc\r\n",
    b"flush_all abc noreply\r\n",
    b"verbosity\r\n",
    b"verbosity abc\r\n",
    b"verbosity 0 1 2 3\r\n",
    b"foo\r\n",
    b"foo bar\r\n",
    b"m\r\n",
    b"mx K\r\n",
    b"mg\r\n",
    b"mg L v\r\n",
    b"mg K !\r\n",
    b"mg K v v\r\n",
    b"mg K v \r\n",
    b"mg  K  v\r\n",
    b"mg K v\0 k\r\n",
    b"mg K 1\r\n",
    b"mg *** b v\r\n",
    b"mg QQ== v b b\r\n",
    b"mg QQ= b v\r\n",
    b"mg = b v\r\n",
    b"mg K O111111111111111111111111111111111 v\r\n",
    b"mg K O11111111111111111111111111111111 v\r\n",
    b"mg K O1111111111111111111111111111111 v\r\n",
    b"mg K Tx v\r\n",
    b"mg K N\r\n",
    b"mg K O v\r\n",
    b"mg K a b c d e f g h i j k l m n o p q r s t u v w x y z\r\n",
    b"mg K v k s t f h l c q O1 v k s t f h l c q O1 v k s t f h\r\n",
    b"ms\r\n",
    b"ms K\r\n",
    b"ms K abc\r\nx\r\n",
    b"ms K -1\r\n",
    b"ms K S1\r\nx\r\n",
    b"ms K 1 MX\r\nx\r\n",
    b"ms K 1 MSX\r\nx\r\n",
    b"ms K 1 M\r\nx\r\n",
    b"ms K 1 !\r\nx\r\n",
    b"ms K 1 F-1\r\nx\r\n",
    b"ms K 1 F4294967296\r\nx\r\n",
    b"ms K 1 Tx\r\nx\r\n",
    b"ms K 1 Cx\r\nx\r\n",
    b"ms K 1 C18446744073709551616\r\nx\r\n",
    b"ms K 1 k k\r\nx\r\n",
    b"ms K 1x\r\nx\r\n",
    b"ms K 3\r\nabcdef\r\n",
    b"ms K 3 q\r\nabcdef\r\n",
    b"ms K 1 q !\r\nx\r\n",
    b"ms L 3\r\nabc\r\n",
    b"ms L 3 q\r\nabc\r\n",
    b"ms *** 3 b\r\nabc\r\n",
    b"ms K 1 O111111111111111111111111111111111\r\nx\r\n",
    b"md\r\n",
    b"md L\r\n",
    b"md K !\r\n",
    b"md K Cx\r\n",
    b"md K q !\r\n",
    b"md *** b\r\n",
    b"ma\r\n",
    b"ma L\r\n",
    b"ma N MX\r\n",
    b"ma N Dx\r\n",
    b"ma N D-1\r\n",
    b"ma N q\r\n",
    b"ma missing q\r\n",
    b"ma missing\r\n",
    b"ma N Jx N0\r\n",
    b"ma *** b\r\n",
    b"me\r\n",
    b"me L\r\n",
    b"me missing\r\n",
    b"me missing b\r\n",
];

/// A wrong line.
fn bad(random: &mut Random, keys: &Keys) -> Request {
    let template = *random.pick(WRONG);
    let (head, value) = match template.iter().position(|&byte| byte == b'\n') {
        Some(end) => template.split_at(end + 1),
        None => (template, &b""[..]),
    };
    let mut bytes = Vec::new();
    for (index, &byte) in head.iter().enumerate() {
        let alone =
            (index == 0 || head[index - 1] <= b' ') && head.get(index + 1).is_none_or(|&next| next <= b' ');
        match byte {
            b'K' if alone => bytes.extend_from_slice(&keys.any(random)),
            b'N' if alone => bytes.extend_from_slice(&keys.number(random)),
            b'W' if alone => bytes.extend_from_slice(&keys.word),
            b'L' if alone => bytes.extend_from_slice(&[b'L'; 251]),
            _ => bytes.push(byte),
        }
    }
    bytes.extend_from_slice(value);
    Request::plain(bytes)
}

/// Words of the protocol in any order. No number makes a value longer than nothing (not even when it is cut to
/// 32 bits, as memcached does for `ms`), or an expiry short. The arithmetic commands are left out, for the
/// reason that [`WRONG`] has.
fn words(random: &mut Random, keys: &Keys) -> Request {
    const WORDS: &str = "get gets gat set add cas append delete touch mg ms md mn me verbosity 0 0 0 -1 \
                         x noreply q v k c b  4294967296 18446744073709551616";
    let choices: Vec<&str> = WORDS.split(' ').collect();
    let mut line = Vec::new();
    for _ in 0..random.between(1, 9) {
        match random.percent(30) {
            true => line.extend_from_slice(&keys.any(random)),
            false => line.extend_from_slice(random.pick(&choices).as_bytes()),
        }
        line.push(b' ');
    }
    line.pop();
    // The empty line is the value of a storage command with length 0.
    line.extend_from_slice(b"\r\n\r\n");
    Request::plain(line)
}

/// Bytes without a line end, and then one.
fn noise(random: &mut Random) -> Request {
    let length = random.between(1, 60);
    let mut bytes = random.bytes(length);
    bytes.retain(|&byte| byte != b'\n');
    bytes.extend_from_slice(b"\r\n");
    Request::plain(bytes)
}

/// A good request with one byte of its line changed.
fn mutated(random: &mut Random, keys: &Keys) -> Request {
    let key = keys.any(random);
    let number = keys.number(random);
    let (line, value): (Vec<u8>, &[u8]) = match random.below(6) {
        0 => ([b"get missing ", &key[..]].concat(), b""),
        1 => ([b"gets ", &key[..]].concat(), b""),
        2 => ([b"delete ", &key[..], b" noreply"].concat(), b""),
        3 => ([b"incr ", &number[..], b" 5"].concat(), b""),
        4 => ([b"mg ", &key[..], b" v k Oab f s c"].concat(), b""),
        _ => ([b"set ", &key[..], b" 0 0 5"].concat(), b"hello\r\n"),
    };
    let changed = loop {
        let changed = change_one_byte(random, &line);
        if !expires_soon(&changed) {
            break changed;
        }
    };
    // If the change made the value longer, these lines are its rest; if not, they are unknown commands.
    let filler = if value.is_empty() { Vec::new() } else { b"filler filler filler filler x\r\n".repeat(4) };
    Request::plain([&changed, &b"\r\n"[..], value, &filler].concat())
}

fn change_one_byte(random: &mut Random, line: &[u8]) -> Vec<u8> {
    let mut changed = line.to_vec();
    let at = random.below(line.len());
    let byte = match random.below(3) {
        0 => *random.pick(b" \0\r0x-\t9"),
        1 => (random.next() & 0xff) as u8,
        _ => line[at],
    };
    match random.below(3) {
        0 => drop(changed.remove(at)),
        1 => changed.insert(at, byte),
        _ => changed[at] = byte,
    }
    changed
}

/// True if the line may be a `set` whose item lives for a time that a test can see pass.
fn expires_soon(line: &[u8]) -> bool {
    let words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let exptime = words.skip(3).map(String::from_utf8_lossy).next().and_then(|word| word.parse::<i64>().ok());
    exptime.is_some_and(|seconds| (1..=2_592_000).contains(&seconds))
}
