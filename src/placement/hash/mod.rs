//! Hash functions of keys, as the programs that placed keys before compute them.

/// The key hashes that twemproxy offers under `hash:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TwemproxyHash {
    /// Bob Jenkins' one-at-a-time.
    OneAtATime,
    /// The first four bytes of MD5.
    Md5,
    /// CRC-16/XMODEM.
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

    /// The hash that twemproxy's configuration calls `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }
}
