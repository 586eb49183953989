//! Random requests of the meta protocol.

use super::super::rng::Rng;
use super::{Generator, KEYS, LARGE_KEY, Request, addition, key, large_value, value};

pub(crate) fn request(generator: &Generator, rng: &mut Rng) -> Request {
    let bytes = match rng.below(20) {
        _ if rng.once_in(150) => set_large(rng),
        0..8 => line(b"mg", &GET_FLAGS, None, generator, rng),
        8..13 => set(generator, rng),
        13..15 => line(b"md", &DELETE_FLAGS, None, generator, rng),
        15..18 => line(b"ma", &ARITHMETIC_FLAGS, None, generator, rng),
        18 => debug(rng),
        _ => bad_line(rng),
    };
    Request { bytes, closes: false }
}

/// Letters that mean something, and a few that do not.
const GET_FLAGS: [u8; 18] = *b"svtfhlkcqONTRusPLv";
const SET_FLAGS: [u8; 12] = *b"CckFITMqOOMk";
const DELETE_FLAGS: [u8; 9] = *b"CITqOkxIT";
const ARITHMETIC_FLAGS: [u8; 14] = *b"NJDTMqOkctvCvc";
const OTHER_FLAGS: [u8; 12] = *b"bZESCMJDFI\xff0";

/// A line with random flags; `length` stands behind the key.
fn line(verb: &[u8], flags: &[u8], length: Option<usize>, generator: &Generator, rng: &mut Rng) -> Vec<u8> {
    let base64 = rng.once_in(4);
    let mut words = vec![verb.to_vec(), if base64 { base64_key(rng) } else { key(rng) }];
    words.extend(length.map(|length| length.to_string().into_bytes()));
    let mut used = Vec::new();
    let most = if rng.once_in(50) { 22 } else { 7 };
    for _ in 0..rng.below(most) {
        let letter = if rng.once_in(60) { rng.pick(&OTHER_FLAGS) } else { rng.pick(flags) };
        if !used.contains(&letter) || rng.once_in(60) {
            used.push(letter);
            words.push(flag(letter, generator, rng));
        }
    }
    if base64 {
        words.insert(rng.below(words.len() - 1).max(words.len() - 1 - used.len()) + 1, b"b".to_vec());
    }
    let space: &[u8] = if rng.once_in(20) { b"  " } else { b" " };
    [words.join(space), b"\r\n".to_vec()].concat()
}

/// The base64 of the usual keys, of some that cannot be sent otherwise, and some that cannot be decoded.
fn base64_key(rng: &mut Rng) -> Vec<u8> {
    let encoded: [&[u8]; 12] = [
        b"YQ==",
        b"Yg==",
        b"bnVt",
        b"Y291bnQ=",
        b"YSBi",
        b"AAEC",
        b"//79",
        b"Y*Q==",
        b"YQ==YQ==",
        b"YQ",
        b"!!!",
        b"====",
    ];
    let fine = if rng.once_in(10) { encoded.len() } else { 7 };
    rng.pick(&encoded[..fine]).to_vec()
}

fn flag(letter: u8, generator: &Generator, rng: &mut Rng) -> Vec<u8> {
    let numbers: [&[u8]; 6] = [b"0", b"1", b"5", b"10", b"99", b"77777"];
    let times: [&[u8]; 8] = [b"0", b"0", b"1000", b"100000", b"2592000", b"-1", b"2147483647", b"4294968296"];
    // Never equal to a time that an item has, which would depend on when the server's clock moves.
    let recaches: [&[u8]; 5] = [b"50", b"5000", b"500000", b"0", b"-1"];
    let bad = rng.once_in(60);
    let argument: Vec<u8> = match letter {
        _ if bad && letter != b'b' => rng.pick(&[&b"abc"[..], b"", b"1x"]).to_vec(),
        b'N' | b'T' => rng.pick(&times).to_vec(),
        b'R' => rng.pick(&recaches).to_vec(),
        b'J' | b'D' => rng.pick(&numbers).to_vec(),
        b'F' => rng.pick(&[&b"0"[..], b"1", b"4294967295", b"4294967296"]).to_vec(),
        b'C' => generator.token(rng).to_string().into_bytes(),
        b'M' => vec![rng.pick(b"SERSERIDs+-X")],
        b'O' => vec![b'7'; rng.pick(&[0, 1, 5, 30, 31, 31, 32])],
        b'E' => b"77".to_vec(),
        _ => Vec::new(),
    };
    [vec![letter], argument].concat()
}

fn set(generator: &Generator, rng: &mut Rng) -> Vec<u8> {
    if rng.once_in(5) {
        return append(generator, rng);
    }
    let value = value(rng);
    let line = if rng.once_in(60) {
        // Too short a length. No flag of later versions here: the parser would take the value before anybody
        // looks at it.
        format!("ms a {} c k\r\n", value.len().saturating_sub(1)).into_bytes()
    } else {
        line(b"ms", &SET_FLAGS, Some(value.len()), generator, rng)
    };
    [line, value, b"\r\n".to_vec()].concat()
}

fn append(generator: &Generator, rng: &mut Rng) -> Vec<u8> {
    let value = addition(rng);
    let length = value.len().to_string().into_bytes();
    let token = format!("C{}", generator.token(rng)).into_bytes();
    let (key, mode) = (key(rng), [b'M', rng.pick(b"AP")]);
    let mut words: Vec<&[u8]> = vec![b"ms", &key, &length, &mode];
    for word in [&b"c"[..], b"k", b"q", b"T1000", b"F5", &token] {
        if rng.once_in(3) {
            words.push(word);
        }
    }
    [words.join(&b' '), b"\r\n".to_vec(), value, b"\r\n".to_vec()].concat()
}

/// And a look at what became of it, without the value.
fn set_large(rng: &mut Rng) -> Vec<u8> {
    let value = large_value(rng);
    let mode = [b'M', rng.pick(b"SEAPR")];
    let length = value.len().to_string().into_bytes();
    let words: [&[u8]; 6] = [b"ms", LARGE_KEY, &length, &mode, b"c", rng.pick(&[&b"F0"[..], b"F9", b"q"])];
    [words.join(&b' '), b"\r\n".to_vec(), value, b"\r\nmg large s f c\r\n".to_vec()].concat()
}

fn debug(rng: &mut Rng) -> Vec<u8> {
    let mut line = b"me ".to_vec();
    match rng.below(4) {
        0 => line.extend([base64_key(rng), b" b".to_vec()].concat()),
        1 => line.extend([rng.pick(&KEYS), &b" k b"[..]].concat()),
        _ => line.extend(key(rng)),
    }
    line.extend(b"\r\n");
    line
}

fn bad_line(rng: &mut Rng) -> Vec<u8> {
    let lines: [&[u8]; 16] = [
        b"m",
        b"mx a",
        b"mg",
        b"ms",
        b"md",
        b"ma",
        b"me",
        b"ms a",
        b"ms a abc",
        b"ms a -1",
        b"ms a S1",
        b"ms a 2147483646",
        b"mg a v v",
        b"md a q q",
        b"mg  a  v",
        b"mg a\0v",
    ];
    [rng.pick(&lines), &b"\r\n"[..]].concat()
}
