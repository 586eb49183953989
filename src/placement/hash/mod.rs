//! Hash functions of keys, as the programs that placed keys before compute them.

mod hsieh;
mod jenkins;
mod murmur;
mod small;

use md5::Digest;
use xxhash_rust::xxh3::xxh3_64;

pub(super) use murmur::{Murmur3, murmur64a};
pub(super) use small::one_at_a_time;

/// The key hashes that twemproxy offers under `hash:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TwemproxyHash {
    /// Bob Jenkins' one-at-a-time.
    OneAtATime,
    /// The first four bytes of MD5.
    Md5,
    /// CRC-16/XMODEM, in 32 bits that are not cut.
    Crc16,
    /// 15 bits of CRC-32.
    Crc32,
    /// CRC-32.
    Crc32a,
    /// FNV-1 of 64 bits, of which the lower 32.
    Fnv1_64,
    /// The lower half of FNV-1a of 64 bits, with the lower half of its prime: twemproxy's default.
    Fnv1a64,
    /// FNV-1 of 32 bits.
    Fnv1_32,
    /// FNV-1a of 32 bits.
    Fnv1a32,
    /// Paul Hsieh's SuperFastHash.
    Hsieh,
    /// MurmurHash2.
    Murmur,
    /// Bob Jenkins' lookup3.
    Jenkins,
}

use TwemproxyHash::*;

impl TwemproxyHash {
    /// All of them.
    pub const ALL: [Self; 12] =
        [OneAtATime, Md5, Crc16, Crc32, Crc32a, Fnv1_64, Fnv1a64, Fnv1_32, Fnv1a32, Hsieh, Murmur, Jenkins];

    /// As twemproxy's configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            OneAtATime => "one_at_a_time",
            Md5 => "md5",
            Crc16 => "crc16",
            Crc32 => "crc32",
            Crc32a => "crc32a",
            Fnv1_64 => "fnv1_64",
            Fnv1a64 => "fnv1a_64",
            Fnv1_32 => "fnv1_32",
            Fnv1a32 => "fnv1a_32",
            Hsieh => "hsieh",
            Murmur => "murmur",
            Jenkins => "jenkins",
        }
    }

    fn of(self, key: &[u8]) -> u32 {
        match self {
            OneAtATime => small::one_at_a_time(key),
            Md5 => md5(key)[0],
            Crc16 => small::crc16(key),
            Crc32 => crc32(key) >> 16 & 0x7fff,
            Crc32a => crc32(key),
            Fnv1_64 => small::fnv1_64(key),
            Fnv1a64 => small::fnv1a_64(key),
            Fnv1_32 => small::fnv1_32(key),
            Fnv1a32 => small::fnv1a_32(key),
            Hsieh => hsieh::hsieh(key),
            Murmur => murmur::murmur2(key),
            Jenkins => jenkins::jenkins(key),
        }
    }

    /// The hash that twemproxy's configuration calls `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }
}

/// The hash of a key in 32 bits, with what the original does to it before it looks into its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyHash {
    /// One of twemproxy's, which are libmemcached's too.
    Twemproxy(TwemproxyHash),
    /// 15 bits of CRC-32, of which 0 counts as 1: PHP memcache's `standard`.
    Crc32NotZero,
    /// 31 bits of CRC-32: mcrouter.
    Crc32Positive,
    /// Java's `String.hashCode`.
    Java,
    /// The lower half of XXH3: memcached's own proxy.
    Xxh3,
}

impl KeyHash {
    pub(super) fn of(self, key: &[u8]) -> u32 {
        match self {
            KeyHash::Twemproxy(hash) => hash.of(key),
            KeyHash::Crc32NotZero => Crc32.of(key).max(1),
            KeyHash::Crc32Positive => crc32(key) & 0x7fff_ffff,
            KeyHash::Java => small::java(key),
            KeyHash::Xxh3 => xxh3_64(key) as u32,
        }
    }
}

/// CRC-32 of IEEE 802.3.
pub(super) fn crc32(key: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.finalize()
}

/// The four little-endian words of MD5.
pub(super) fn md5(key: &[u8]) -> [u32; 4] {
    let digest = md5::Md5::digest(key);
    let (words, _) = digest.as_chunks();
    [0, 1, 2, 3].map(|word| u32::from_le_bytes(words[word]))
}

/// The first four bytes of SHA-1, big-endian: the first eight digits of its hexadecimal form.
pub(super) fn sha1(key: &[u8]) -> u32 {
    let digest = sha1::Sha1::digest(key);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// What mcrouter hashes of a key: not its routing prefix, `/region/cluster/`, nor what follows `|#|`.
pub(super) fn mcrouter_part(key: &[u8]) -> &[u8] {
    let slash = |(at, byte): (usize, &u8)| (*byte == b'/').then_some(at);
    let prefix = match key.first() {
        Some(b'/') => key.iter().enumerate().filter_map(slash).nth(2).map_or(0, |third| third + 1),
        _ => 0,
    };
    let key = &key[prefix..];
    // Few keys have the mark's first byte.
    let end = match key.iter().position(|&byte| byte == b'|') {
        Some(first) => key[first..].windows(3).position(|three| three == b"|#|").map(|at| first + at),
        None => None,
    };
    let end = end.unwrap_or(key.len());
    &key[..end]
}

#[cfg(test)]
mod tests;
