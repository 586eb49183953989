//! Random requests of the three protocols: few keys, so that they meet; all commands; good and bad ones.

use super::rng::Rng;

mod binary;
mod meta;
mod text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Text,
    Meta,
    Binary,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    /// The server ends the connection after it.
    pub(crate) closes: bool,
}

/// Expiry times that count from now, seconds; so far apart that what is left of one is no mistake for another.
/// None is so short that it ends during a test. The last two stand for what is left until the Unix times 2^31 - 1
/// and 2^32 - 1.
pub(crate) const TTLS: [u64; 5] = [1_000, 100_000, 2_592_000, 0x7fff_ffff, 3_000_000_000];

/// Makes requests, and remembers tokens that it was told of, so that some of those it sends are right.
#[derive(Default)]
pub(crate) struct Generator {
    tokens: Vec<u64>,
}

impl Generator {
    pub(crate) fn batch(&mut self, rng: &mut Rng, protocol: Protocol, most: usize) -> Vec<Request> {
        let mut batch = Vec::new();
        for _ in 0..=rng.below(most) {
            let request = match protocol {
                Protocol::Text => text::request(self, rng),
                Protocol::Meta => meta::request(self, rng),
                Protocol::Binary => binary::request(self, rng),
            };
            let closes = request.closes;
            batch.push(request);
            if closes {
                break;
            }
        }
        batch
    }

    /// Looks for tokens in a reply.
    pub(crate) fn learn(&mut self, protocol: Protocol, reply: &[u8]) {
        if protocol == Protocol::Binary {
            if let Some(token) = reply.get(16..24) {
                self.remember(u64::from_be_bytes(token.try_into().expect("eight bytes")));
            }
            return;
        }
        for line in reply.split(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let mut words = text.split_ascii_whitespace();
            match words.next() {
                Some("VALUE") => self.remember(words.nth(3).and_then(|word| word.parse().ok()).unwrap_or(0)),
                Some("HD" | "VA") => {
                    let token = words.find_map(|word| word.strip_prefix('c')?.parse().ok());
                    self.remember(token.unwrap_or(0));
                }
                _ => {}
            }
        }
    }

    fn remember(&mut self, token: u64) {
        if token != 0 {
            self.tokens.push(token);
        }
        if self.tokens.len() > 4 {
            self.tokens.remove(0);
        }
    }

    /// A token that may be right.
    fn token(&self, rng: &mut Rng) -> u64 {
        match self.tokens.last() {
            Some(&last) if rng.once_in(2) => last,
            Some(_) if rng.once_in(2) => rng.pick(&self.tokens),
            _ => rng.next() >> rng.pick(&[0, 58, 60]),
        }
    }
}

const KEYS: [&[u8]; 6] = [b"a", b"b", b"num", b"count", b"x:y", &[b'k'; 250]];

/// The key of large values; seldom asked for, since a get of many keys can ask for it many times.
const LARGE_KEY: &[u8] = b"large";

fn key(rng: &mut Rng) -> Vec<u8> {
    if rng.once_in(60) {
        return LARGE_KEY.to_vec();
    }
    if rng.once_in(60) {
        return vec![b'l'; rng.pick(&[249, 251, 400])];
    }
    rng.pick(&KEYS[..]).to_vec()
}

/// Lengths around those where memcached keeps a value in several pieces, and takes no larger one.
const LARGE: [usize; 7] = [524_226, 524_300, 1_048_300, 1_048_512, 1_048_515, 1_048_577, 2_000_000];

/// A value of one of those lengths, for requests that are right in all else: the lines of a refused one would be
/// too long for commands.
fn large_value(rng: &mut Rng) -> Vec<u8> {
    let mut value = vec![b'x'; rng.pick(&LARGE)];
    value[0] = b'7';
    value[1] = b' ';
    value
}

/// A value: often a number, in most of the ways in which memcached takes or refuses one. No capital M, which the
/// answer to a fence begins with. No number from 2^63 on, nor a way to come there: memcached takes such a one for
/// none if it finds a minus, and looks for that even behind the value, in what its memory held before.
fn value(rng: &mut Rng) -> Vec<u8> {
    let numbers: [&[u8]; 16] = [
        b"0",
        b"1",
        b"9",
        b"10",
        b"100",
        b"9223372036000000000",
        b"18446744073709551616",
        b"1000000000000000000000",
        b"007",
        b" 7",
        b"7 ",
        b"7 x",
        b"+5",
        b"7\0x",
        b"",
        b"7x",
    ];
    match rng.below(3) {
        0 => letters(rng),
        _ => rng.pick(&numbers[..]).to_vec(),
    }
}

fn letters(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(300)).map(|_| (rng.next() as u8).max(b'N')).collect()
}

/// A value to append or prepend. No digits, of which enough together would come to 2^63, and not only white space,
/// behind which memcached would look for a number in what its memory held before.
fn addition(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => letters(rng),
        _ => rng.pick(&[&b" x"[..], b"\tx", b"\0", b"x", b"", b"\r\nx", b"x "]).to_vec(),
    }
}
