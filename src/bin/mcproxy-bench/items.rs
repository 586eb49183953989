//! Keys, and values that say whose they are.
//!
//! A key is `k` and its number, padded with zeros. A value is
//!
//! ```text
//! KEY SP client(5 digits) . version(10 digits) . check(5 letters) SP padding
//! ```
//!
//! where client and version are those of the `set` that wrote it. The letters are a hash of the key's number,
//! the client and the version, and the padding is cut from one fixed pattern at a place that is part of the
//! same hash: a value of another key, an altered one, or one pieced together from two, is known by it.

/// Bytes of ` client.version.check `.
const STAMP_BYTES: usize = 24;

/// Where the client and the version stand in the stamp, as two words.
const WRITE: std::ops::Range<usize> = 1..17;

/// Where the letters stand.
const CHECK: std::ops::Range<usize> = 18..23;

/// Places where a padding may begin; a power of two.
const SHIFTS: u64 = 1024;

/// The keys and values of a run.
pub(crate) struct Items {
    keys: Box<[u8]>,
    key_bytes: usize,
    value_bytes: usize,
    pattern: Box<[u8]>,
}

/// The shortest keys of which there are `keys` different ones, bytes.
pub(crate) fn key_bytes_min(keys: u64) -> u64 {
    2 + u64::from((keys - 1).max(1).ilog10())
}

/// The shortest value for keys of `key_bytes`, bytes.
pub(crate) fn value_bytes_min(key_bytes: u64) -> u64 {
    key_bytes + STAMP_BYTES as u64
}

impl Items {
    /// `count` keys. Lengths are at least those that [`key_bytes_min`] and [`value_bytes_min`] give.
    pub(crate) fn new(count: u64, key_bytes: usize, value_bytes: usize) -> Self {
        let mut keys = vec![b'k'; count as usize * key_bytes];
        for (number, key) in keys.chunks_exact_mut(key_bytes).enumerate() {
            put_digits(&mut key[1..], number as u64);
        }
        let padding = value_bytes - key_bytes - STAMP_BYTES;
        let letter = |place: usize| b'a' + (mix(place as u64) % 26) as u8;
        let pattern = (0..padding + SHIFTS as usize).map(letter).collect();
        Items { keys: keys.into_boxed_slice(), key_bytes, value_bytes, pattern }
    }

    /// The key with this number, below the count.
    #[inline]
    pub(crate) fn key(&self, number: u64) -> &[u8] {
        let start = number as usize * self.key_bytes;
        &self.keys[start..start + self.key_bytes]
    }

    /// Length of every key, bytes.
    pub(crate) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Length of every value, bytes.
    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Appends what `client` writes to a key.
    #[inline]
    pub(crate) fn put_value(&self, number: u64, client: u32, version: u64, out: &mut Vec<u8>) {
        let mut stamp = *b" 00000.0000000000.aaaaa ";
        put_digits(&mut stamp[1..6], u64::from(client));
        put_digits(&mut stamp[7..17], version);
        let hash = hash(number, &stamp);
        stamp[CHECK].copy_from_slice(&letters(hash));
        out.extend_from_slice(self.key(number));
        out.extend_from_slice(&stamp);
        out.extend_from_slice(self.padding(hash));
    }

    /// Whether `value` is one that some client wrote to this key, to the last byte.
    #[inline]
    pub(crate) fn is_value(&self, number: u64, value: &[u8]) -> bool {
        let Some((key, rest)) = value.split_at_checked(self.key_bytes) else { return false };
        let Some((stamp, padding)) = rest.split_first_chunk::<STAMP_BYTES>() else { return false };
        let hash = hash(number, stamp);
        key == self.key(number)
            && (stamp[0], stamp[17], stamp[23]) == (b' ', b'.', b' ')
            && stamp[CHECK] == letters(hash)
            && padding == self.padding(hash)
    }

    #[inline]
    fn padding(&self, hash: u64) -> &[u8] {
        let start = (hash % SHIFTS) as usize;
        &self.pattern[start..start + self.pattern.len() - SHIFTS as usize]
    }
}

/// Of a key and a write to it.
#[inline]
fn hash(number: u64, stamp: &[u8; STAMP_BYTES]) -> u64 {
    let mut words = stamp[WRITE].chunks_exact(8);
    let mut word = || words.next().and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
    mix(number ^ mix(word()) ^ word())
}

/// The bits above those that place the padding.
#[inline]
fn letters(hash: u64) -> [u8; 5] {
    std::array::from_fn(|place| b'`' + ((hash >> (10 + 5 * place)) & 31) as u8)
}

/// A well-mixed number (the finalizer of SplitMix64, Steele, Lea and Flood 2014).
#[inline]
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The last digits of `number`.
#[inline]
fn put_digits(places: &mut [u8], mut number: u64) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(items: &Items, number: u64, client: u32, version: u64) -> Vec<u8> {
        let mut value = Vec::new();
        items.put_value(number, client, version, &mut value);
        value
    }

    #[test]
    fn keys_differ_and_have_their_length() {
        for (count, least) in [(1, 2), (10, 2), (11, 3), (100, 3), (101, 4), (10_000, 5)] {
            assert_eq!(key_bytes_min(count), least, "{count} keys");
            let items = Items::new(count, least as usize, 100);
            let mut keys: Vec<&[u8]> = (0..count).map(|number| items.key(number)).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len() as u64, count);
            assert!(keys.iter().all(|key| key.len() as u64 == least));
        }
    }

    #[test]
    fn a_value_is_known_by_every_byte() {
        for length in [55, 56, 100, 5000] {
            let items = Items::new(1000, 31, length);
            let good = value(&items, 123, 7, 4_567_890);
            assert_eq!(good.len(), length);
            assert!(items.is_value(123, &good));
            assert!(!items.is_value(122, &good));
            assert!(!items.is_value(123, &good[..length - 1]));
            for place in 0..length {
                for change in [1, 2, 0x20, 0x80] {
                    let mut wrong = good.clone();
                    wrong[place] ^= change;
                    assert!(!items.is_value(123, &wrong), "byte {place} of {length} altered");
                }
            }
        }
    }

    #[test]
    fn a_value_pieced_together_is_known() {
        let items = Items::new(1000, 31, 4096);
        let (one, other) = (value(&items, 5, 1, 1), value(&items, 5, 1, 2));
        assert!(items.is_value(5, &one) && items.is_value(5, &other));
        for cut in 30..4096 {
            let pieced = [&one[..cut], &other[cut..]].concat();
            // Where both agree up to the cut or from it on, the whole is one of the two.
            assert!(pieced == one || pieced == other || !items.is_value(5, &pieced), "cut at {cut}");
        }
    }

    #[test]
    fn digits_fill_their_places() {
        let mut places = [0; 5];
        put_digits(&mut places, 4_200_301);
        assert_eq!(&places, b"00301");
    }
}
