//! The keys and values of random streams. Few keys, so that requests meet each other's items.

use crate::support::random::Random;

/// Keys of a stream, by what is done to them.
pub(crate) struct Keys {
    /// Everything but arithmetic.
    pub(crate) plain: Vec<Vec<u8>>,
    /// Items that hold numbers of ten digits. memcached writes the result of an arithmetic command over the
    /// old one if no answer still holds it, and pads a shorter one with spaces: with results that keep their
    /// length, what is seen does not depend on how requests meet.
    pub(crate) numeric: Vec<Vec<u8>>,
    /// An item that holds a word, if it is there.
    pub(crate) word: Vec<u8>,
    /// Items of up to a mebibyte; few, so that no server has to evict any.
    pub(crate) large: Vec<Vec<u8>>,
    /// Keys of any bytes, for binary clients.
    pub(crate) binary: Vec<Vec<u8>>,
    /// The same in base64, for meta.
    pub(crate) base64: Vec<Vec<u8>>,
}

impl Keys {
    /// Keys that start with `prefix`, the same for each prefix.
    pub(crate) fn new(prefix: &str) -> Self {
        let mut random = Random::new(0x006b_6579);
        let named = |name: &str, count| -> Vec<Vec<u8>> {
            (0..count).map(|number| format!("{prefix}{name}{number}").into_bytes()).collect()
        };
        let mut plain = named("k", 24);
        for length in [40, 200, 250] {
            let mut long = format!("{prefix}long{length}").into_bytes();
            long.resize(length, b'l');
            plain.push(long);
        }
        for _ in 0..6 {
            let mut odd = prefix.as_bytes().to_vec();
            let length = random.between(1, 12);
            // No byte that ends a token or a line.
            odd.extend(
                random.bytes(length).iter().map(|&byte| if b" \r\n\0".contains(&byte) { 0xff } else { byte }),
            );
            odd.insert(0, b'o');
            plain.push(odd);
        }
        let mut binary: Vec<Vec<u8>> = [1, 2, 3, 8, 30, 100]
            .iter()
            .map(|&length| [prefix.as_bytes(), &random.bytes(length)].concat())
            .collect();
        // memcached gives such a key back as it is, line ends and all, if a binary client stored it.
        binary.push([prefix.as_bytes(), b"\r\nHD\r\nEND\r\n"].concat());
        let base64 = binary.iter().map(|raw| encode(raw)).collect();
        let word = format!("{prefix}word").into_bytes();
        Keys { plain, word, numeric: named("n", 5), large: named("big", 2), binary, base64 }
    }

    /// One for a request that does no arithmetic.
    pub(crate) fn any(&self, random: &mut Random) -> Vec<u8> {
        random.pick(&self.plain).clone()
    }

    /// One for arithmetic, mostly a numeric one.
    pub(crate) fn number(&self, random: &mut Random) -> Vec<u8> {
        random.pick(&self.numeric).clone()
    }
}

/// A value; now and then one that looks like protocol.
pub(crate) fn value(random: &mut Random) -> Vec<u8> {
    const LOOKS: &[&[u8]] = &[
        b"",
        b"END\r\n",
        b"\r\n",
        b"VALUE k0 0 1\r\nx\r\nEND",
        b"HD\r\nEN\r\nMN\r\n",
        b"\0",
        b"\r",
        b"SERVER_ERROR",
    ];
    let length = match random.below(100) {
        0..10 => return random.pick(LOOKS).to_vec(),
        10..75 => random.below(40),
        75..92 => random.below(300),
        92..98 => random.below(5000),
        _ => random.below(100 << 10),
    };
    random.bytes(length)
}

/// A number that keeps its ten digits through every arithmetic command of a stream.
pub(crate) fn ten_digits(random: &mut Random) -> u64 {
    5_000_000_000 + random.below(1_000_000_000) as u64
}

/// Seconds until an item expires: never, at once, or long after the test. A shorter time would make an
/// answer depend on the clock.
pub(crate) fn exptime(random: &mut Random) -> i32 {
    *random.pick(&[0, 0, 0, 0, 3600, 86_400, -1, 2_592_001, 2_000_000_000])
}

/// Base64 as RFC 4648 has it, with padding.
pub(crate) fn encode(raw: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in raw.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { DIGITS[value as usize] } else { b'=' });
        }
    }
    text
}
