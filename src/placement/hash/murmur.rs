//! Austin Appleby's Murmur hashes (public domain): the second in 32 and in 64 bits, and the third in 32.

/// MurmurHash2 with the seed that libmemcached and twemproxy make of the length.
pub(super) fn murmur2(key: &[u8]) -> u32 {
    murmur2_with_seed(key, 0xdead_beef_u32.wrapping_mul(key.len() as u32))
}

fn murmur2_with_seed(key: &[u8], seed: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = seed ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    if !tail.is_empty() {
        hash = (hash ^ little_endian(tail) as u32).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// MurmurHash64A.
pub(in crate::placement) fn murmur64a(key: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (key.len() as u64).wrapping_mul(M);
    let (words, tail) = key.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(M);
        hash = (hash ^ (word ^ word >> 47).wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        hash = (hash ^ little_endian(tail)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// At most seven bytes, the first the lowest.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// MurmurHash3 (x86, 32 bits) with seed 0, of bytes that come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::placement) struct Murmur3 {
    hash: u32,
    /// Up to three bytes of the next word, the first the lowest.
    part: u32,
    bytes: u32,
}

impl Murmur3 {
    /// As if the bytes had been hashed behind those before.
    #[inline]
    pub(in crate::placement) fn write(&mut self, bytes: &[u8]) {
        let shift = 8 * (self.bytes % 4);
        let (words, tail) = bytes.as_chunks::<4>();
        let mut rest = u64::from(self.part);
        for word in words {
            rest |= u64::from(u32::from_le_bytes(*word)) << shift;
            self.word(rest as u32);
            rest >>= 32;
        }
        self.part = rest as u32;
        self.bytes = self.bytes.wrapping_add(4 * words.len() as u32);
        tail.iter().for_each(|&byte| self.push(byte));
    }

    /// One byte more.
    #[inline]
    pub(in crate::placement) fn push(&mut self, byte: u8) {
        self.part |= u32::from(byte) << (8 * (self.bytes % 4));
        self.bytes = self.bytes.wrapping_add(1);
        if self.bytes.is_multiple_of(4) {
            self.word(self.part);
            self.part = 0;
        }
    }

    /// The hash of what was written.
    #[inline]
    pub(in crate::placement) fn finish(self) -> u32 {
        let mut hash = self.hash;
        if !self.bytes.is_multiple_of(4) {
            hash ^= scrambled(self.part);
        }
        hash ^= self.bytes;
        hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    }

    #[inline]
    fn word(&mut self, word: u32) {
        self.hash = (self.hash ^ scrambled(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
}

#[inline]
fn scrambled(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SMHasher's verification value: keys 0, 0 1, 0 1 2, ... of up to 255 bytes are hashed with the seed 256
    /// less their length, then the results, little-endian, with seed 0.
    fn verification<const N: usize>(hash: impl Fn(&[u8], u32) -> [u8; N]) -> u32 {
        let key: Vec<u8> = (0..=255).collect();
        let hashes: Vec<u8> = (0..256).flat_map(|bytes| hash(&key[..bytes], 256 - bytes as u32)).collect();
        let last = hash(&hashes, 0);
        u32::from_le_bytes([last[0], last[1], last[2], last[3]])
    }

    /// The values in SMHasher's main.cpp (github.com/aappleby/smhasher).
    #[test]
    fn hashes_are_those_of_their_author() {
        assert_eq!(verification(|key, seed| murmur2_with_seed(key, seed).to_le_bytes()), 0x2786_4c1e);
        assert_eq!(verification(|key, seed| murmur64a(key, u64::from(seed)).to_le_bytes()), 0x1f0d_3804);
        let murmur3 = |key: &[u8], seed| {
            let mut state = Murmur3 { hash: seed, ..Murmur3::default() };
            state.write(key);
            state.finish().to_le_bytes()
        };
        assert_eq!(verification(murmur3), 0xb0f5_7ee3);
    }

    #[test]
    fn pieces_hash_as_the_whole() {
        let key: Vec<u8> = (0..36).map(|n| n * 7 + 1).collect();
        for end in 0..key.len() {
            let mut whole = Murmur3::default();
            whole.write(&key[..end]);
            for cut in 0..=end {
                let mut pieces = Murmur3::default();
                pieces.write(&key[..cut]);
                pieces.write(&key[cut..end]);
                assert_eq!(pieces.finish(), whole.finish(), "{end} bytes cut at {cut}");
                key[end..].iter().for_each(|&byte| pieces.push(byte));
                let mut all = Murmur3::default();
                all.write(&key);
                assert_eq!(pieces.finish(), all.finish(), "{end} bytes cut at {cut}, then bytewise");
            }
        }
    }
}
