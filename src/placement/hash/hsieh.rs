//! Paul Hsieh's SuperFastHash (2004), as libmemcached and twemproxy have it: with a start of 0.

/// The third byte of a tail of three is read as C's `char`, which has a sign on x86; the one of a tail of one
/// is not.
pub(super) fn hsieh(key: &[u8]) -> u32 {
    let pair = |bytes: &[u8]| u32::from(bytes[0]) | u32::from(bytes[1]) << 8;
    let (words, tail) = key.as_chunks::<4>();
    if key.is_empty() {
        return 0;
    }
    let mut hash = 0_u32;
    for word in words {
        hash = hash.wrapping_add(pair(word));
        let mixed = pair(&word[2..]) << 11 ^ hash;
        hash = hash << 16 ^ mixed;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *tail {
        [_, _, third] => {
            hash = hash.wrapping_add(pair(tail));
            hash ^= hash << 16;
            hash ^= (third as i8 as u32) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [_, _] => {
            hash = hash.wrapping_add(pair(tail));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [byte] => {
            hash = hash.wrapping_add(u32::from(byte));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}
