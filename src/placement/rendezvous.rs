//! The default placement: weighted rendezvous hashing over a fixed table of slots.
//!
//! A key is hashed once; the top bits of the hash are its slot; a table made at start holds each slot's
//! owner. For the table every server gets a hash for every slot, made of its name, and with its weight a
//! score; the best score owns the slot. A server's scores depend on nothing but itself, so one that leaves
//! gives up its slots and no other slot moves, and the order of the list does not matter.
//!
//! The owner of a slot is the server with the largest `weight / -log2(hash / 2^64)`, which makes the shares
//! proportional to the weights. All of it is integer arithmetic that fits in 63 bits, defined to the bit, so
//! that every machine and every other implementation agrees. The README's section on placement is the
//! contract.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Server;

/// Seed of XXH3-64 for keys and for names: "mcproxy" and the number 1, in ASCII but for the number.
pub const SEED: u64 = 0x6d63_7072_6f78_7901;

/// Slots; enough that of 100 equal servers none gets 5 % more than the mean.
pub const SLOTS: usize = 1 << SLOT_BITS;

/// The largest weight.
pub const WEIGHT_MAX: u32 = 1000;

const SLOT_BITS: u32 = 20;

/// Key -> index of the server that owns it.
pub struct Rendezvous {
    owners: Owners,
}

impl Rendezvous {
    /// A table for `servers`; their order does not matter but for the indexes that [`Self::owner`] gives.
    /// Takes some nanoseconds for each slot and server.
    ///
    /// # Panics
    /// If there is no server or more than 65,536, if two have one name, or if a weight is not 1 to 1000.
    pub fn new(servers: &[Server]) -> Self {
        Rendezvous::without(servers, &vec![false; servers.len()])
    }

    /// As [`Self::new`], as if those for which `away` is true were not in the list; the others keep their
    /// indexes.
    ///
    /// # Panics
    /// As [`Self::new`], and if none is left.
    pub fn without(servers: &[Server], away: &[bool]) -> Self {
        let mut contenders = contenders(servers);
        contenders.retain(|contender| !away[contender.index]);
        assert!(!contenders.is_empty(), "all servers are away");
        let owners = if servers.len() <= 1 << 8 {
            Owners::Few(table(&contenders, |index| index as u8))
        } else {
            Owners::Many(table(&contenders, |index| index as u16))
        };
        Rendezvous { owners }
    }

    /// The index of the server that owns `key`.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> usize {
        self.slot_owner(slot(hash(key)))
    }

    /// The index of the server that owns `slot`, which must be less than [`SLOTS`].
    #[inline]
    pub fn slot_owner(&self, slot: usize) -> usize {
        match &self.owners {
            Owners::Few(owners) => usize::from(owners[slot]),
            Owners::Many(owners) => usize::from(owners[slot]),
        }
    }
}

impl std::fmt::Debug for Rendezvous {
    /// Without the million entries of the table.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendezvous").finish_non_exhaustive()
    }
}

/// The hash of `key`, of which [`slot`] takes the top bits.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// The slot of a key with this hash, less than [`SLOTS`].
#[inline]
pub fn slot(hash: u64) -> usize {
    (hash >> (64 - SLOT_BITS)) as usize
}

/// Owner of each slot. Arrays of a known length, so that a slot is in bounds without a check; one byte an
/// entry as long as it does, since the table shares the cache with everything else.
enum Owners {
    Few(Box<[u8; SLOTS]>),
    Many(Box<[u16; SLOTS]>),
}

/// A server while the table is made.
#[derive(Clone, Copy)]
struct Contender {
    /// Hash of the name.
    seed: u64,
    weight: u64,
    index: usize,
}

/// The servers in the order of their names: the earlier one keeps a slot when all else is equal.
fn contenders(servers: &[Server]) -> Vec<Contender> {
    assert!(!servers.is_empty() && servers.len() <= 1 << 16, "{} servers", servers.len());
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by(|&a, &b| servers[a].name.as_bytes().cmp(servers[b].name.as_bytes()));
    for pair in order.windows(2) {
        assert!(
            servers[pair[0]].name != servers[pair[1]].name,
            "two servers named {}",
            servers[pair[0]].name
        );
    }
    let contender = |index: usize| {
        let Server { name, weight, .. } = &servers[index];
        assert!((1..=WEIGHT_MAX).contains(weight), "{name} has weight {weight}");
        Contender { seed: xxh3_64_with_seed(name.as_bytes(), SEED), weight: u64::from(*weight), index }
    };
    order.into_iter().map(contender).collect()
}

fn table<T: Copy + std::fmt::Debug>(contenders: &[Contender], entry: impl Fn(usize) -> T) -> Box<[T; SLOTS]> {
    let equal = contenders.iter().all(|contender| contender.weight == contenders[0].weight);
    let best = if equal { best_of_equals } else { best_by_weight };
    let owners: Box<[T]> = (0..SLOTS as u64).map(|slot| entry(best(contenders, slot))).collect();
    owners.try_into().expect("one entry for each slot")
}

/// [`best_by_weight`] when all weights are equal: the greatest hash has the least cost, or one of several
/// equal least costs, of which the greatest hash wins too. A test compares the two.
fn best_of_equals(contenders: &[Contender], slot: u64) -> usize {
    let mut best = &contenders[0];
    let mut best_hash = slot_hash(best.seed, slot);
    for contender in &contenders[1..] {
        let hash = slot_hash(contender.seed, slot);
        if hash > best_hash {
            (best, best_hash) = (contender, hash);
        }
    }
    best.index
}

/// The index of the owner of `slot`: least cost / weight, then greatest hash, then least name.
fn best_by_weight(contenders: &[Contender], slot: u64) -> usize {
    let mut best = &contenders[0];
    let mut best_hash = slot_hash(best.seed, slot);
    let mut best_cost = cost(best_hash);
    for contender in &contenders[1..] {
        let hash = slot_hash(contender.seed, slot);
        let cost = cost(hash);
        // cost / weight < best_cost / best.weight, without the division. Costs have 51 bits and weights 10.
        let (ours, theirs) = (cost * best.weight, best_cost * contender.weight);
        if ours < theirs || (ours == theirs && hash > best_hash) {
            (best, best_hash, best_cost) = (contender, hash, cost);
        }
    }
    best.index
}

/// A server's hash for `slot`: output number `slot + 1` of SplitMix64 (Steele, Lea and Flood, 2014) started
/// with the hash of the server's name.
fn slot_hash(seed: u64, slot: u64) -> u64 {
    let mut z = seed.wrapping_add((slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bits after the point of [`LOG2`] and of [`cost`].
const FRACTION_BITS: u32 = 44;
/// [`LOG2`] has 2^10 steps; between them the logarithm is a straight line.
const STEP_BITS: u32 = 10;
/// Bits of the hash, after those that choose the step, that place it on the line.
const LINE_BITS: u32 = 28;

/// `-log2(hash / 2^64)` with 44 bits after the point, 1 to 64 * 2^44. A hash of 0 counts as 1. Never grows
/// with the hash: each line falls, and one begins where the other ended.
fn cost(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let mantissa = hash << zeros;
    let step = (mantissa >> (63 - STEP_BITS)) as usize & ((1 << STEP_BITS) - 1);
    let along = (mantissa >> (63 - STEP_BITS - LINE_BITS)) & ((1 << LINE_BITS) - 1);
    let line = ((LOG2[step + 1] - LOG2[step]) * along) >> LINE_BITS;
    (u64::from(zeros + 1) << FRACTION_BITS) - LOG2[step] - line
}

/// `floor(2^44 * log2(1 + step / 2^10))` for each step and for the end of the last.
static LOG2: [u64; (1 << STEP_BITS) + 1] = log2_table();

const fn log2_table() -> [u64; (1 << STEP_BITS) + 1] {
    let mut table = [1 << FRACTION_BITS; (1 << STEP_BITS) + 1];
    let mut step = 0;
    while step < 1 << STEP_BITS {
        table[step] = log2((1 << 63) + ((step as u64) << (63 - STEP_BITS)));
        step += 1;
    }
    table
}

/// `log2(mantissa / 2^63)` with 44 bits after the point, for mantissas from 2^63. Squaring a number doubles
/// its logarithm, so whether the square reaches 2 is the logarithm's next bit.
const fn log2(mut mantissa: u64) -> u64 {
    let mut bits = 0;
    let mut done = 0;
    while done < FRACTION_BITS {
        let square = (mantissa as u128 * mantissa as u128) >> 63;
        let bit = (square >> 64) as u64;
        bits = bits << 1 | bit;
        mantissa = (square >> bit) as u64;
        done += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str], weight: u32) -> Vec<Server> {
        names.iter().map(|name| Server::named((*name).to_string(), weight)).collect()
    }

    /// The inverse of what [`slot_hash`] does to its sum, so that a test can choose a server's hash.
    fn seed_for(hash: u64, slot: u64) -> u64 {
        // Inverse of an odd number modulo 2^64 by Newton's iteration, which doubles the right bits.
        let inverse =
            |odd: u64| (0..6).fold(odd, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))));
        let unshift = |z: u64, shift: u32| z ^ (z >> shift) ^ (z >> (2 * shift));
        let mut z = unshift(hash, 31);
        z = unshift(z.wrapping_mul(inverse(0x94d0_49bb_1331_11eb)), 27);
        z = unshift(z.wrapping_mul(inverse(0xbf58_476d_1ce4_e5b9)), 30);
        z.wrapping_sub((slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn hashes_are_those_of_their_authors() {
        // XXH3-64 of nothing with seed 0, from the reference implementation's tests.
        assert_eq!(xxh3_64_with_seed(b"", 0), 0x2d06_8005_38d3_94c2);
        // First outputs of the reference SplitMix64 started with 0 and with 1234567.
        assert_eq!(slot_hash(0, 0), 0xe220_a839_7b1d_cdaf);
        assert_eq!([0, 1].map(|slot| slot_hash(1_234_567, slot)), [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn the_table_of_logarithms_is_the_floor_of_the_exact_ones() {
        // Sum and entries computed with 60 decimal digits.
        assert_eq!(LOG2.iter().sum::<u64>(), 10_048_308_685_037_191);
        assert_eq!(
            [0, 1, 512, 1023, 1024].map(|step| LOG2[step]),
            [0, 24_773_217_744, 10_290_769_141_693, 17_579_790_361_842, 1 << 44]
        );
    }

    #[test]
    fn costs_have_these_values() {
        let table = [
            (0, 64 << 44),
            (1, 64 << 44),
            (2, 1_098_016_951_656_515),
            (3, 1_098_016_951_656_515),
            (0x0123_4567_89ab_cdef, 137_461_493_148_762),
            ((1 << 63) - 1, (1 << 44) + 47),
            (1 << 63, 1 << 44),
            ((1 << 63) + 1, 1 << 44),
            (u64::MAX - 1, 47),
            (u64::MAX, 47),
        ];
        for (hash, expected) in table {
            assert_eq!(cost(hash), expected, "hash {hash:#x}");
        }
    }

    /// What the short way for equal weights stands on: over every step's border in every octave.
    #[test]
    fn costs_never_grow_with_the_hash() {
        let mut last = cost(0);
        let mut follow = |hash: u64| {
            let now = cost(hash);
            assert!(now <= last && now > 0, "hash {hash:#x}: {now} after {last}");
            last = now;
        };
        for hash in 1..1 << 12 {
            follow(hash);
        }
        for octave in 12..64 {
            for step in 0..1_u64 << STEP_BITS {
                let border = (1_u64 << octave) + (u128::from(step) << octave >> STEP_BITS) as u64;
                for hash in border.saturating_sub(1)..=border + 1 {
                    follow(hash);
                }
            }
        }
        follow(u64::MAX);
    }

    #[test]
    fn costs_are_logarithms() {
        for slot in 0..100_000 {
            // Shifts make small hashes as frequent as large ones.
            let hash = slot_hash(7, slot) >> (slot % 64);
            let exact = (64.0 - ((hash | 1) as f64).log2()) * (1_u64 << FRACTION_BITS) as f64;
            let error = (cost(hash) as f64 - exact) / exact;
            assert!(error.abs() < 2.5e-4, "hash {hash:#x}: off by {error}");
        }
    }

    #[test]
    fn the_short_way_for_equal_weights_finds_the_same_owners() {
        for (count, weight) in [(2, 1), (3, 7), (17, 1000)] {
            let names: Vec<String> = (0..count).map(|n| format!("10.1.0.{n}:11211")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let contenders = contenders(&named(&names, weight));
            for slot in 0..SLOTS as u64 {
                let owner = best_of_equals(&contenders, slot);
                assert_eq!(owner, best_by_weight(&contenders, slot), "{count} servers, slot {slot}");
            }
        }
    }

    #[test]
    fn ties_go_to_the_greater_hash_then_to_the_lesser_name() {
        let slot = 12_345;
        for (best, other) in [(u64::MAX, u64::MAX - 1), (3, 2), (1, 0), ((1 << 63) + 1, 1 << 63), (9, 9)] {
            assert_eq!(cost(best), cost(other), "not a tie");
            let contender = |hash, index| Contender { seed: seed_for(hash, slot), weight: 5, index };
            let first = [contender(best, 0), contender(other, 1)];
            assert_eq!(first.map(|contender| slot_hash(contender.seed, slot)), [best, other]);
            // The list is in the order of names; when the hashes differ, the order must not matter.
            let last = [contender(other, 1), contender(best, 0)];
            for both in [&first[..], if best == other { &first } else { &last }] {
                assert_eq!(best_of_equals(both, slot), 0, "hash {best:#x}");
                assert_eq!(best_by_weight(both, slot), 0, "hash {best:#x}");
            }
        }
        // Equal quotients of different weights: 64 / 64 and 1 / 1.
        let heavy = Contender { seed: seed_for(1, slot), weight: 64, index: 0 };
        let light = Contender { seed: seed_for(1 << 63, slot), weight: 1, index: 1 };
        assert_eq!(best_by_weight(&[heavy, light], slot), 1);
        assert_eq!(best_by_weight(&[light, heavy], slot), 1);
        let order =
            contenders(&named(&["b", "a", "aa", "B"], 1)).into_iter().map(|contender| contender.index);
        assert_eq!(order.collect::<Vec<_>>(), [3, 1, 2, 0]);
    }

    #[test]
    fn entries_are_bytes_up_to_256_servers() {
        for (count, bytes) in [(1, true), (256, true), (257, false)] {
            let servers: Vec<Server> = (0..count).map(|n| Server::named(format!("{n}"), 1)).collect();
            let table = Rendezvous::new(&servers);
            assert_eq!(matches!(table.owners, Owners::Few(_)), bytes, "{count} servers");
            let mut seen = vec![false; count];
            for slot in 0..SLOTS {
                seen[table.slot_owner(slot)] = true;
            }
            assert!(seen.iter().all(|seen| *seen), "of {count} servers one has no slot");
        }
    }

    #[test]
    #[should_panic(expected = "0 servers")]
    fn no_server_is_a_broken_invariant() {
        Rendezvous::new(&[]);
    }

    #[test]
    #[should_panic(expected = "two servers named a")]
    fn a_name_twice_is_a_broken_invariant() {
        Rendezvous::new(&named(&["a", "b", "a"], 1));
    }

    #[test]
    #[should_panic(expected = "b has weight 1001")]
    fn a_weight_out_of_range_is_a_broken_invariant() {
        Rendezvous::new(&named(&["b"], 1001));
    }
}
