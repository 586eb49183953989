//! The keys that oracles are asked for: of every kind that clients have, the same for the same seed.

use crate::support::random::Random;

/// Kinds of keys; a set has as many of each, and they take turns.
const KINDS: [fn(&mut Random, usize) -> Vec<u8>; 9] =
    [short, sequential, uuid, tagged, long, punctuated, utf8, high, zero];

/// `each` keys of each kind.
pub(crate) fn keys(seed: u64, each: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    (0..each * KINDS.len()).map(|n| KINDS[n % KINDS.len()](&mut random, n / KINDS.len())).collect()
}

/// What a key may hold in the text protocol, but for the bytes from 0x80.
fn printable(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.between(0x21, 0x7e) as u8).collect()
}

fn short(random: &mut Random, _: usize) -> Vec<u8> {
    let length = random.between(1, 12);
    printable(random, length)
}

fn sequential(random: &mut Random, number: usize) -> Vec<u8> {
    let prefix = *random.pick(&["key", "user:", "session_", ""]);
    format!("{prefix}{number}").into_bytes()
}

fn uuid(random: &mut Random, _: usize) -> Vec<u8> {
    let (high, low) = (random.next(), random.next());
    let (time, version) = (high >> 32, 0x4000 | (high & 0xfff));
    let (middle, variant) = ((high >> 16) & 0xffff, 0x8000 | ((low >> 48) & 0x3fff));
    let node = low & 0xffff_ffff_ffff;
    format!("{time:08x}-{middle:04x}-{version:04x}-{variant:04x}-{node:012x}").into_bytes()
}

/// With what twemproxy's `hash_tag` may look for, closed or not, empty or not, in this order or the other.
fn tagged(random: &mut Random, number: usize) -> Vec<u8> {
    let parts: [&str; 11] = ["{", "}", "{", "}", "user", ":", "42", "::", "{}", "<", ">"];
    let mut key = number.to_string();
    for _ in 0..random.between(1, 7) {
        key.push_str(random.pick::<&str>(&parts));
    }
    key.into_bytes()
}

/// Half of them as long as memcached takes them.
fn long(random: &mut Random, _: usize) -> Vec<u8> {
    let length = if random.percent(50) { 250 } else { random.between(100, 249) };
    printable(random, length)
}

/// What a language writes with a backslash, or chooses its quotes by.
fn punctuated(random: &mut Random, number: usize) -> Vec<u8> {
    let mut key = format!("k{number}").into_bytes();
    for _ in 0..random.between(1, 4) {
        key.push(*random.pick(b"'\"\\%$#?&=/+-_.:,;|^~`!()[]"));
    }
    key
}

/// Characters of two, three and four bytes.
fn utf8(random: &mut Random, number: usize) -> Vec<u8> {
    let characters = ['ä', 'é', 'ß', 'λ', 'ж', '鍵', '値', 'ࠀ', '€', '𝄞', '😀', '\u{10ffff}', 'k', ':'];
    let mut key: String = (0..random.between(1, 12)).map(|_| *random.pick(&characters)).collect();
    key.push_str(&number.to_string());
    key.into_bytes()
}

/// Bytes from 0x80, most of them no UTF-8.
fn high(random: &mut Random, _: usize) -> Vec<u8> {
    let length = random.between(1, 24);
    let byte = |random: &mut Random| if random.percent(70) { (0x80, 0xff) } else { (0x21, 0x7e) };
    (0..length)
        .map(|_| {
            let (low, high) = byte(random);
            random.between(low, high) as u8
        })
        .collect()
}

/// Those of which the 15 bits that several clients take of CRC-32 are 0, which some of them replace by 1; and others.
fn zero(_: &mut Random, number: usize) -> Vec<u8> {
    let numbers = [3529, 24_431, 90_934, 138_135, 151_634, 165_811];
    let number = numbers.get(number).copied().unwrap_or(200_000 + number);
    format!("zero:{number}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_such_as_memcached_takes_and_the_same_for_the_same_seed() {
        let set = keys(1, 100);
        assert_eq!(set.len(), 900);
        for key in &set {
            assert!((1..=250).contains(&key.len()), "{} bytes", key.len());
            assert!(key.iter().all(|&byte| byte > 0x20 && byte != 0x7f), "{}", key.escape_ascii());
        }
        assert_eq!(set, keys(1, 100));
        assert_ne!(set, keys(2, 100));
        assert!(set.iter().any(|key| key.len() == 250));
        assert!(set.iter().any(|key| std::str::from_utf8(key).is_err()));
        assert!(set.iter().any(|key| !key.is_ascii() && std::str::from_utf8(key).is_ok()));
    }
}
