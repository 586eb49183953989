//! Random requests of the classic text protocol.

use super::super::rng::Rng;
use super::{Generator, LARGE_KEY, Request, addition, key, large_value, value};

pub(crate) fn request(generator: &Generator, rng: &mut Rng) -> Request {
    let closes = rng.once_in(150);
    let bytes = match rng.below(20) {
        _ if closes => closing(rng),
        _ if rng.once_in(150) => store_large(rng),
        0..3 => get(rng),
        3 => get_and_touch(rng),
        4..12 => store(generator, rng),
        12..15 => arithmetic(rng),
        15 => line(&[b"touch", &key(rng), exptime(rng)], rng),
        16 => delete(rng),
        17 => about_the_server(rng),
        _ => bad_line(rng),
    };
    Request { bytes, closes }
}

const EXPTIMES: [&[u8]; 11] = [
    b"0",
    b"0",
    b"0",
    b"1000",
    b"100000",
    b"2592000",
    b"2592001",
    b"2147483647",
    b"-1",
    b"4294968296",
    b"9223372036854775807",
];

fn exptime(rng: &mut Rng) -> &'static [u8] {
    if rng.once_in(30) {
        rng.pick(&[&b"abc"[..], b"1x", b"9223372036854775808"])
    } else {
        rng.pick(&EXPTIMES)
    }
}

/// Words with a space between, and sometimes a noreply or a word too many or too few.
fn line(words: &[&[u8]], rng: &mut Rng) -> Vec<u8> {
    let mut words = words.to_vec();
    match rng.below(40) {
        0..8 => words.push(b"noreply"),
        8 => words.push(b"surplus"),
        9 => drop(words.pop()),
        10 => words.extend([&b"noreply"[..], b"noreply"]),
        _ => {}
    }
    let space: &[u8] = if rng.once_in(20) { b"   " } else { b" " };
    let end: &[u8] = if rng.once_in(20) { b"\n" } else { b"\r\n" };
    [words.join(space), end.to_vec()].concat()
}

fn get(rng: &mut Rng) -> Vec<u8> {
    let verb: &[u8] = rng.pick(&[&b"get"[..], b"gets", b"gets", b"bget"]);
    let mut line = verb.to_vec();
    // For the end of a long line memcached waits only if it begins with get or gets.
    let most = if verb == b"bget" { 4 } else { rng.pick(&[1, 1, 4, 60]) };
    for _ in 0..=rng.below(most) {
        line.push(b' ');
        line.extend(key(rng));
    }
    line.extend(b"\r\n");
    line
}

fn get_and_touch(rng: &mut Rng) -> Vec<u8> {
    let mut line = rng.pick(&[&b"gat "[..], b"gats "]).to_vec();
    line.extend(exptime(rng));
    for _ in 0..rng.below(4) {
        line.push(b' ');
        line.extend(key(rng));
    }
    line.extend(b"\r\n");
    line
}

fn store(generator: &Generator, rng: &mut Rng) -> Vec<u8> {
    let verbs: [&[u8]; 8] = [b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas", b"cas"];
    let verb = rng.pick(&verbs);
    let flags: [&[u8]; 8] =
        [b"0", b"0", b"0", b"1", b"4294967295", b"4294967296", b"-4294967295", b"18446744073709551615"];
    let flags: &[u8] = if rng.once_in(40) { b"x" } else { rng.pick(&flags) };
    let value = if verb.ends_with(b"pend") { addition(rng) } else { value(rng) };
    let length = if rng.once_in(100) { value.len().saturating_sub(1) } else { value.len() };
    let length = length.to_string().into_bytes();
    let token = generator.token(rng).to_string().into_bytes();
    let (key, exptime) = (key(rng), exptime(rng));
    let mut words: Vec<&[u8]> = vec![verb, &key, flags, exptime, &length];
    if verb == b"cas" {
        words.push(&token);
    }
    [line(&words, rng), value, b"\r\n".to_vec()].concat()
}

/// And a look at what became of it, without the value.
fn store_large(rng: &mut Rng) -> Vec<u8> {
    let value = large_value(rng);
    let verb: &[u8] = rng.pick(&[&b"set"[..], b"add", b"replace", b"append", b"prepend", b"cas"]);
    let length = value.len().to_string().into_bytes();
    let flags: &[u8] = rng.pick(&[&b"0"[..], b"9"]);
    let mut words: Vec<&[u8]> = vec![verb, LARGE_KEY, flags, b"0", &length];
    if verb == b"cas" {
        words.push(b"1");
    }
    if rng.once_in(3) {
        words.push(b"noreply");
    }
    [words.join(&b' '), b"\r\n".to_vec(), value, b"\r\nmg large s f c\r\n".to_vec()].concat()
}

fn arithmetic(rng: &mut Rng) -> Vec<u8> {
    let verb: &[u8] = rng.pick(&[&b"incr"[..], b"decr"]);
    let deltas: [&[u8]; 7] = [b"1", b"1", b"9", b"100", b"0", b"77777", b"-18446744073709551610"];
    let delta: &[u8] = if rng.once_in(20) {
        rng.pick(&[&b"abc"[..], b"-1", b"18446744073709551616", b"1x"])
    } else {
        rng.pick(&deltas)
    };
    line(&[verb, &key(rng), delta], rng)
}

fn delete(rng: &mut Rng) -> Vec<u8> {
    let key = key(rng);
    match rng.below(10) {
        0 => line(&[b"delete", &key, b"0"], rng),
        1 => line(&[b"delete", &key, b"5"], rng),
        2 => line(&[b"delete", &key, b"0", b"0"], rng),
        _ => line(&[b"delete", &key], rng),
    }
}

/// No flush with a delay: of one second, it depends on when the server's clock moves; of more, it may bring back
/// what was flushed before, unless memcached has cleaned up in between.
fn about_the_server(rng: &mut Rng) -> Vec<u8> {
    let lines: [&[&[u8]]; 12] = [
        &[b"flush_all"],
        &[b"flush_all", b"0"],
        &[b"flush_all", b"-1"],
        &[b"flush_all", b"-1000"],
        &[b"flush_all", b"abc"],
        &[b"verbosity", b"1"],
        &[b"verbosity", b"abc"],
        &[b"verbosity"],
        &[b"version"],
        &[b"version", b"foo"],
        &[b"shutdown"],
        &[b"shutdown", b"graceful"],
    ];
    line(rng.pick(&lines), rng)
}

fn bad_line(rng: &mut Rng) -> Vec<u8> {
    let lines: [&[u8]; 20] = [
        b"",
        b" ",
        b"\r",
        b"foo",
        b"GET a",
        b"get",
        b"get ",
        b" get a",
        b"get\ta",
        b"get a\0b",
        b"\0get a",
        b"set a 0 0",
        b"set a 0 0 -1",
        b"set a 0 0 abc",
        b"set a 0 0 2147483647",
        b"g",
        b"gett a",
        b"noreply",
        b"stats nosuch",
        b"stats reset",
    ];
    [rng.pick(&lines), &b"\r\n"[..]].concat()
}

fn closing(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => b"quit\r\n".to_vec(),
        1 => b"quit noreply\r\n".to_vec(),
        2 => b"POST / HTTP/1.1\r\n".to_vec(),
        // One byte more than memcached waits for a line's end.
        _ => vec![b'a'; 2049],
    }
}
