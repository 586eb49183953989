//! Lists of buckets, each with its server, and the ways from a hash to a bucket.

use super::rendezvous::{Rendezvous, WEIGHT_MAX};
use super::{Server, rendezvous};

/// The server of each bucket. When some are away, the keys of their buckets go to those left by mcproxy's own
/// rendezvous: whoever else leaves or returns, a key of theirs moves only if its own server does.
#[derive(Debug)]
pub(super) struct Buckets {
    owners: Box<[u16]>,
    /// Who is away, and who stands in for them.
    away: Option<(Box<[bool]>, Rendezvous)>,
}

/// Where a bucket leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The bucket's server.
    Home(usize),
    /// A stand-in's slot, and the stand-in.
    Slot(usize, usize),
}

impl Found {
    #[inline]
    pub(super) fn server(self) -> usize {
        match self {
            Found::Home(server) | Found::Slot(_, server) => server,
        }
    }
}

impl Buckets {
    pub(super) fn new(owners: Vec<u16>, servers: &[Server], away: &[bool]) -> Self {
        let some = away.contains(&true);
        Buckets { owners: owners.into(), away: some.then(|| (away.into(), stand_ins(servers, away))) }
    }

    /// Buckets in the list.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.owners.len()
    }

    /// Where `key`, whose hash led to `bucket`, goes.
    #[inline]
    pub(super) fn find(&self, bucket: usize, key: &[u8]) -> Found {
        let server = usize::from(self.owners[bucket]);
        match &self.away {
            Some((away, others)) if away[server] => {
                let slot = rendezvous::slot(rendezvous::hash(key));
                Found::Slot(slot, others.slot_owner(slot))
            }
            _ => Found::Home(server),
        }
    }
}

/// mcproxy's own rendezvous among those left, for keys whose own server is away. Its weights end at 1000, and
/// those of twemproxy's files do not.
pub(super) fn stand_ins(servers: &[Server], away: &[bool]) -> Rendezvous {
    let bounded = |server: &Server| Server { weight: server.weight.min(WEIGHT_MAX), ..server.clone() };
    Rendezvous::without(&servers.iter().map(bounded).collect::<Vec<_>>(), away)
}

/// Jump consistent hash (Lamping and Veach, 2014), in memcached's arithmetic.
pub(super) fn jump(mut hash: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0, 0_i64);
    while next < buckets as i64 {
        bucket = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / ((hash >> 33) + 1) as f64)) as i64;
    }
    bucket as usize
}

/// Seed of mcrouter's MurmurHash64A.
pub(super) const FURC_SEED: u64 = 4_193_360_111;

/// mcrouter's furc: a walk down a binary tree, with bits drawn from the hash and, after 64, from the hash of
/// the hash, and so on. `hash` is that of the key.
pub(super) fn furc(hash: u64, buckets: usize) -> usize {
    const STRIDE: u32 = 23;
    if buckets <= 1 {
        return 0;
    }
    let mut stream = Stream { first: hash, word: hash, number: 0 };
    let mut depth = buckets.next_power_of_two().ilog2();
    let mut at = depth;
    for _ in 0..32 {
        while !stream.bit(at) {
            depth -= 1;
            if depth == 0 {
                return 0;
            }
            at = depth;
        }
        at += STRIDE;
        let mut bucket = 1;
        for _ in 1..depth {
            bucket = bucket << 1 | usize::from(stream.bit(at));
            at += STRIDE;
        }
        if bucket < buckets {
            return bucket;
        }
    }
    0
}

/// Bits of the word that begins with the key's hash and goes on with hashes of hashes.
struct Stream {
    first: u64,
    /// The one of this number.
    word: u64,
    number: u32,
}

impl Stream {
    fn bit(&mut self, at: u32) -> bool {
        // A step up the tree goes back to the first word.
        if at / 64 < self.number {
            (self.word, self.number) = (self.first, 0);
        }
        while self.number < at / 64 {
            self.word = super::hash::murmur64a(&self.word.to_le_bytes(), FURC_SEED);
            self.number += 1;
        }
        self.word >> (at % 64) & 1 == 1
    }
}
