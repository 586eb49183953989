//! Every placement once more, computed for each key straight from its rule: slow, and without tables.

use super::super::address::Address;
use super::super::hash::{KeyHash, Murmur3, TwemproxyHash, mcrouter_part, murmur64a};
use super::super::rendezvous::Rendezvous;
use super::super::{Method, Server, buckets, points};

/// A placement without tables.
pub(super) struct Twin<'a> {
    method: Method,
    servers: &'a [Server],
    away: &'a [bool],
    /// For keys that nobody else is there for. It has a slow twin of its own.
    rendezvous: Rendezvous,
}

impl<'a> Twin<'a> {
    pub(super) fn new(method: Method, servers: &'a [Server], away: &'a [bool]) -> Self {
        Twin { method, servers, away, rendezvous: Rendezvous::without(servers, away) }
    }

    pub(super) fn owner(&self, key: &[u8]) -> usize {
        let mcrouter = matches!(self.method, Method::McrouterCh3 | Method::McrouterCrc32);
        let key = if mcrouter { mcrouter_part(key) } else { key };
        let crc = KeyHash::Twemproxy(TwemproxyHash::Crc32a).of(key);
        let one_at_a_time = KeyHash::Twemproxy(TwemproxyHash::OneAtATime).of(key);
        let md5 = KeyHash::Twemproxy(TwemproxyHash::Md5).of(key);
        let xxh3 = xxhash_rust::xxh3::xxh3_64(key);
        let (once, by_weight) = (self.list(false), self.list(true));
        match self.method {
            Method::Rendezvous => self.rendezvous.owner(key),
            Method::LibmemcachedModula => self.modulo(key, one_at_a_time, &once),
            Method::LibmemcachedKetama => self.up(key, one_at_a_time),
            Method::LibmemcachedKetamaWeighted | Method::SpymemcachedKetama => self.up(key, md5),
            Method::TwemproxyKetama(hash) => self.up(key, KeyHash::Twemproxy(hash).of(key)),
            Method::TwemproxyModula(hash) => {
                let order = points::twemproxy_order(self.servers);
                let list: Vec<usize> =
                    order.into_iter().flat_map(|one| vec![one; self.servers[one].weight as usize]).collect();
                self.modulo(key, KeyHash::Twemproxy(hash).of(key), &list)
            }
            Method::Pymemcache => self.best(&text(key)),
            Method::PymemcacheBytes => self.best(&repr(key)),
            Method::Gomemcache => self.modulo(key, crc, &once),
            Method::PythonMemcached => self.modulo(key, crc >> 16 & 0x7fff, &by_weight),
            Method::PhpMemcacheStandard => {
                let hash = if crc >> 16 & 0x7fff == 0 { 1 } else { crc >> 16 & 0x7fff };
                self.modulo(key, hash, &by_weight)
            }
            Method::Dalli => self.down(key, crc),
            Method::PhpMemcache => self.up(key, crc % 1024 * (u32::MAX / 1024)),
            Method::SpymemcachedModula => {
                let units: Vec<u16> = String::from_utf8_lossy(key).encode_utf16().collect();
                let hash = units.iter().fold(0_u64, |hash, unit| (hash * 31 + u64::from(*unit)) % (1 << 32));
                self.modulo(key, hash as u32, &once)
            }
            Method::McrouterCh3 => self.in_list(key, furc(key, once.len()), &once),
            Method::McrouterCrc32 => self.modulo(key, crc & 0x7fff_ffff, &once),
            Method::MemcachedProxyJump => self.in_list(key, buckets::jump(xxh3, once.len()), &once),
            Method::MemcachedProxyRing => self.up(key, xxh3 as u32),
        }
    }

    fn list(&self, by_weight: bool) -> Vec<usize> {
        let times = |one: usize| if by_weight { self.servers[one].weight as usize } else { 1 };
        (0..self.servers.len()).flat_map(|one| vec![one; times(one)]).collect()
    }

    fn modulo(&self, key: &[u8], hash: u32, list: &[usize]) -> usize {
        self.in_list(key, hash as usize % list.len(), list)
    }

    fn in_list(&self, key: &[u8], bucket: usize, list: &[usize]) -> usize {
        if self.away[list[bucket]] { self.rendezvous.owner(key) } else { list[bucket] }
    }

    /// The points of those who are there, in the order of preference.
    fn points(&self) -> Vec<(u32, usize)> {
        let all = points::of(self.method, self.servers).unwrap().into_iter();
        let there = all.map(|point| (point.value, usize::from(point.server)));
        there.filter(|(_, server)| !self.away[*server]).collect()
    }

    /// The first of equal ones.
    fn up(&self, key: &[u8], hash: u32) -> usize {
        let points = self.points();
        let not_less = points.iter().filter(|(value, _)| *value >= hash).min_by_key(|(value, _)| *value);
        let point = not_less.or(points.iter().min_by_key(|(value, _)| *value));
        point.map_or_else(|| self.rendezvous.owner(key), |(_, server)| *server)
    }

    /// The last of equal ones.
    fn down(&self, key: &[u8], hash: u32) -> usize {
        let points = self.points();
        let not_greater = points.iter().filter(|(value, _)| *value <= hash).max_by_key(|(value, _)| *value);
        let point = not_greater.or(points.iter().max_by_key(|(value, _)| *value));
        point.map_or_else(|| self.rendezvous.owner(key), |(_, server)| *server)
    }

    fn best(&self, key: &[u8]) -> usize {
        let there = (0..self.servers.len()).filter(|server| !self.away[*server]);
        let scored = there.map(|server| {
            let name = Address::of(&self.servers[server].label).unwrap().long();
            let mut state = Murmur3::default();
            state.write(&[name.as_bytes(), b"-", key].concat());
            ((state.finish(), name), server)
        });
        scored.max().unwrap().1
    }
}

/// The lower bytes of the code points; bytes that are not UTF-8 as they are.
fn text(key: &[u8]) -> Vec<u8> {
    let chunks = key.utf8_chunks();
    let lower = chunks.map(|chunk| {
        let valid: Vec<u8> = chunk.valid().chars().map(|char| char as u32 as u8).collect();
        [&valid, chunk.invalid()].concat()
    });
    lower.collect::<Vec<_>>().concat()
}

/// What Python prints of bytes.
fn repr(key: &[u8]) -> Vec<u8> {
    let quote = if key.contains(&b'\'') && !key.contains(&b'"') { '"' } else { '\'' };
    let mut shown = format!("b{quote}");
    for &byte in key {
        shown += &match byte {
            b'\t' => "\\t".to_string(),
            b'\n' => "\\n".to_string(),
            b'\r' => "\\r".to_string(),
            _ if char::from(byte) == quote || byte == b'\\' => format!("\\{}", char::from(byte)),
            0x20..=0x7e => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
    }
    shown.push(quote);
    shown.into_bytes()
}

/// mcrouter's furc over a table of all the bits that it may ask for.
fn furc(key: &[u8], buckets: usize) -> usize {
    let mut words = vec![murmur64a(key, 4_193_360_111)];
    for n in 1..400 {
        words.push(murmur64a(&words[n - 1].to_le_bytes(), 4_193_360_111));
    }
    let bit = |at: usize| (words[at / 64] >> (at % 64) & 1) as usize;
    let mut depth = (0..).find(|depth| buckets <= 1 << depth).unwrap();
    let mut at = depth;
    for _ in 0..32 {
        loop {
            if depth == 0 {
                return 0;
            }
            if bit(at) == 1 {
                break;
            }
            depth -= 1;
            at = depth;
        }
        let bits = (1..depth).map(|n| bit(at + 23 * n));
        let bucket = bits.fold(1, |number, bit| number * 2 + bit);
        at += 23 * depth;
        if bucket < buckets {
            return bucket;
        }
    }
    0
}

/// From mcrouter's own unit tests of `furc_hash`.
#[test]
fn furc_finds_the_buckets_of_mcrouter() {
    let seed = buckets::FURC_SEED;
    for (key, of, expected) in
        [("sample", 100, 97), ("", 100, 72), ("", 1 << 23, 6_173_600), ("sample", 1 << 23, 5_167_780)]
    {
        assert_eq!(buckets::furc(murmur64a(key.as_bytes(), seed), of), expected, "{key:?} of {of}");
        assert_eq!(furc(key.as_bytes(), of), expected, "{key:?} of {of}, by the twin");
    }
    let mut counts = [0; 3];
    (0..1000).for_each(|n| counts[buckets::furc(murmur64a(n.to_string().as_bytes(), seed), 3)] += 1);
    assert_eq!(counts, [307, 342, 351]);
}

/// From Guava's HashingTest, which calls the same function `consistentHash`.
#[test]
fn jump_finds_the_buckets_of_others() {
    let hundred = [0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83];
    for (hash, expected) in hundred.into_iter().enumerate() {
        assert_eq!(buckets::jump(hash as u64, 100), expected, "{hash}");
    }
    for (hash, of, expected) in [
        (10_863_919_174_838_991, 11, 6),
        (2_016_238_256_797_177_309, 11, 3),
        (1_673_758_223_894_951_030, 11, 5),
        (2, 100_001, 80_343),
        (2201, 100_001, 22_152),
        (2202, 100_001, 15_018),
    ] {
        assert_eq!(buckets::jump(hash, of), expected, "{hash} of {of}");
    }
}
