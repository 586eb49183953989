//! Random meta requests.

use crate::keys::{Keys, exptime, ten_digits, value};
use crate::stream::{NO_TOKEN, Piece, Request};
use crate::support::random::Random;

/// The next meta request of a stream.
pub(crate) fn request(random: &mut Random, keys: &Keys) -> Request {
    match random.below(20) {
        0..8 => get(random, keys),
        8..14 => set(random, keys),
        14..16 => delete(random, keys),
        16..19 => arithmetic(random, keys),
        _ => debug(random, keys),
    }
}

/// A request under way: its line's words, and the value.
struct Words {
    pieces: Vec<Piece>,
    key: Vec<u8>,
}

impl Words {
    /// `verb key`, sometimes with a base64 key and the flag that says so.
    fn new(random: &mut Random, keys: &Keys, verb: &str) -> (Self, bool) {
        let base64 = random.percent(20);
        let key = if base64 { random.pick(&keys.base64).clone() } else { keys.any(random) };
        (Words::of(verb, key), base64)
    }

    fn of(verb: &str, key: Vec<u8>) -> Self {
        let start = [verb.as_bytes(), b" ", &key].concat();
        Words { pieces: vec![Piece::Bytes(start)], key }
    }

    fn add(&mut self, word: &str) {
        self.pieces.push(Piece::Bytes(format!(" {word}").into_bytes()));
    }

    /// Adds each of `flags` in `percent` of 100 cases, in any order.
    fn add_some(&mut self, random: &mut Random, flags: &[&str], percent: usize) {
        let mut chosen: Vec<&str> = flags.iter().copied().filter(|_| random.percent(percent)).collect();
        while !chosen.is_empty() {
            let at = random.below(chosen.len());
            self.add(chosen.swap_remove(at));
        }
    }

    /// `C`: the token last seen, or one that no server gave.
    fn add_compare(&mut self, random: &mut Random) {
        if random.percent(25) {
            self.add(&format!("C{}", NO_TOKEN + random.next() % 100));
        } else {
            self.pieces.push(Piece::Bytes(b" C".to_vec()));
            self.pieces.push(Piece::Decimal(self.key.clone()));
        }
    }

    fn done(mut self, tail: &[u8]) -> Request {
        self.pieces.push(Piece::Bytes([b"\r\n", tail].concat()));
        Request { pieces: self.pieces, about: None }
    }
}

/// Flags that any command gives back.
const COMMON: &[&str] = &["k", "q", "Oab12"];

fn get(random: &mut Random, keys: &Keys) -> Request {
    let (mut words, base64) = Words::new(random, keys, "mg");
    if base64 {
        words.add("b");
    }
    words.add_some(random, COMMON, 30);
    words.add_some(random, &["v", "f", "s", "c", "t", "l", "h"], 40);
    if random.percent(20) {
        words.add_some(random, &["N3600", "T86400", "R30", "R100000"], 30);
    }
    words.done(b"")
}

fn set(random: &mut Random, keys: &Keys) -> Request {
    let (mut words, base64) = Words::new(random, keys, "ms");
    let value = value(random);
    words.add(&value.len().to_string());
    if base64 {
        words.add("b");
    }
    words.add_some(random, COMMON, 30);
    words.add_some(random, &["c", "I", "F77"], 25);
    if random.percent(25) {
        words.add(&format!("T{}", exptime(random)));
    }
    if random.percent(30) {
        let mode = *random.pick(&["MS", "MA", "MP", "MR", "ME", "Ms", "Me"]);
        words.add(mode);
    }
    if random.percent(25) {
        words.add_compare(random);
    }
    words.done(&[&value[..], b"\r\n"].concat())
}

fn delete(random: &mut Random, keys: &Keys) -> Request {
    let (mut words, base64) = Words::new(random, keys, "md");
    if base64 {
        words.add("b");
    }
    words.add_some(random, COMMON, 30);
    if random.percent(30) {
        words.add("I");
        words.add_some(random, &["T3600"], 50);
    }
    if random.percent(25) {
        words.add_compare(random);
    }
    words.done(b"")
}

fn arithmetic(random: &mut Random, keys: &Keys) -> Request {
    let mut words = Words::of("ma", keys.number(random));
    words.add_some(random, COMMON, 30);
    words.add_some(random, &["v", "t", "c"], 40);
    let delta = format!("D{}", random.below(1000));
    // No `T`: memcached sets it on the old item, which is another than the new one if an answer still holds it.
    words.add_some(random, &[&delta], 40);
    if random.percent(40) {
        let mode = *random.pick(&["MI", "MD", "M+", "M-", "Mincr"]);
        words.add(mode);
    }
    if random.percent(40) {
        words.add("N0");
        words.add(&format!("J{}", ten_digits(random)));
    }
    words.done(b"")
}

fn debug(random: &mut Random, keys: &Keys) -> Request {
    let (words, _) = Words::new(random, keys, "me");
    words.done(b"")
}
