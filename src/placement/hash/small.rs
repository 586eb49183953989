//! Hashes that go from byte to byte. Those written in C read `char`, which has a sign on x86 and none on ARM:
//! bytes from 0x80 on are taken as on x86 here, and a twemproxy or libmemcached built for ARM hashes them
//! otherwise.

/// A byte as C's `char` on x86 becomes an unsigned number: its sign is spread over the upper bits.
fn signed(byte: u8) -> u32 {
    byte as i8 as u32
}

/// Bob Jenkins' one-at-a-time (Dr. Dobb's Journal, September 1997), with signed characters.
pub(in crate::placement) fn one_at_a_time(key: &[u8]) -> u32 {
    let mut hash = 0_u32;
    for &byte in key {
        hash = hash.wrapping_add(signed(byte));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

const FNV_64_INIT: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_64_PRIME: u64 = 0x100_0000_01b3;
const FNV_32_INIT: u32 = 0x811c_9dc5;
const FNV_32_PRIME: u32 = 0x0100_0193;

/// The lower half of FNV-1 of 64 bits, with signed characters.
pub(super) fn fnv1_64(key: &[u8]) -> u32 {
    key.iter().fold(FNV_64_INIT, |hash, &byte| hash.wrapping_mul(FNV_64_PRIME) ^ byte as i8 as u64) as u32
}

/// What libmemcached and twemproxy call FNV-1a of 64 bits: computed in 32 bits, with the lower half of the
/// prime.
pub(super) fn fnv1a_64(key: &[u8]) -> u32 {
    fnv1a(key, FNV_64_INIT as u32, FNV_64_PRIME as u32)
}

/// FNV-1 of 32 bits, with signed characters.
pub(super) fn fnv1_32(key: &[u8]) -> u32 {
    key.iter().fold(FNV_32_INIT, |hash, &byte| hash.wrapping_mul(FNV_32_PRIME) ^ signed(byte))
}

/// FNV-1a of 32 bits, with signed characters.
pub(super) fn fnv1a_32(key: &[u8]) -> u32 {
    fnv1a(key, FNV_32_INIT, FNV_32_PRIME)
}

fn fnv1a(key: &[u8], init: u32, prime: u32) -> u32 {
    key.iter().fold(init, |hash, &byte| (hash ^ signed(byte)).wrapping_mul(prime))
}

/// CRC-16/XMODEM as twemproxy computes it: in 32 bits that are never cut to 16, so that the upper half holds
/// what the lower half was two bytes before.
pub(super) fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |crc, &byte| crc << 8 ^ u32::from(CRC16[(crc >> 8 ^ u32::from(byte)) as usize & 0xff]))
}

static CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Java's `String.hashCode` of the key read as UTF-8: over UTF-16 code units. Bytes that are not UTF-8 cannot
/// come from a Java string; each broken piece counts as U+FFFD, which is what Java reads in its place.
pub(super) fn java(key: &[u8]) -> u32 {
    let mut hash = 0_u32;
    let mut add = |unit: u16| hash = hash.wrapping_mul(31).wrapping_add(u32::from(unit));
    if key.is_ascii() {
        key.iter().for_each(|&byte| add(u16::from(byte)));
        return hash;
    }
    for chunk in key.utf8_chunks() {
        chunk.valid().encode_utf16().for_each(&mut add);
        if !chunk.invalid().is_empty() {
            add(0xfffd);
        }
    }
    hash
}
