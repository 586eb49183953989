//! What is asked next.

use crate::arguments::{Plan, Workload};
use crate::items::mix;

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// One key.
    Get,
    /// Several keys, one operation.
    Multiget,
    /// One key.
    Set,
}

/// An operation that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// When it was due: nanoseconds since the start of the run.
    pub(crate) at: u64,
    /// The key's number, or for a multiget the number that its keys are drawn by.
    pub(crate) subject: u64,
    /// Of a binary request, or the first of several.
    pub(crate) opaque: u32,
    /// What was asked.
    pub(crate) op: Op,
}

/// Where a lane's operations come from.
pub(crate) enum Source {
    /// Keys at random.
    Random { workload: Workload, keys: u64, gets_below: u64, state: u64 },
    /// A set of each key from `next` to before `end`.
    Fill { next: u64, end: u64 },
}

impl Source {
    /// The operations of a plan; each lane of each phase has a seed of its own.
    pub(crate) fn of_plan(plan: &Plan, stream: u64) -> Self {
        let share = (plan.get_share * (1u64 << 32) as f64) as u64;
        let gets_below = match plan.workload {
            Workload::Mixed => share,
            Workload::Set => 0,
            Workload::Get | Workload::Multiget => 1 << 32,
        };
        Source::Random {
            workload: plan.workload,
            keys: plan.keys,
            gets_below,
            state: mix(plan.seed ^ mix(stream)),
        }
    }

    /// The next operation. A fill has as many as it has keys, and its pace must not ask for more.
    #[inline]
    pub(crate) fn next(&mut self) -> (Op, u64) {
        match self {
            Source::Fill { next, end } => {
                debug_assert!(next < end, "asked for more than there is");
                *next += 1;
                (Op::Set, *next - 1)
            }
            Source::Random { workload, keys, gets_below, state } => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let random = mix(*state);
                if *workload == Workload::Multiget {
                    return (Op::Multiget, random);
                }
                let op = if random >> 32 < *gets_below { Op::Get } else { Op::Set };
                (op, below(random, *keys))
            }
        }
    }
}

/// The number of the `place`th key of a multiget. They are all different: each comes from a stretch of its
/// own, of `width` keys.
#[inline]
pub(crate) fn key_of_multiget(subject: u64, place: u64, width: u64) -> u64 {
    place * width + below(mix(subject.wrapping_add(place)), width)
}

/// Below `bound` (which has at most 32 bits), by the low half of `random`.
#[inline]
fn below(random: u64, bound: u64) -> u64 {
    ((random & 0xffff_ffff) * bound) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_multiget_differ() {
        for (count, keys) in [(1, 1), (20, 20), (20, 10_000), (7, 30), (1000, 1001)] {
            for subject in 0..50 {
                let drawn: Vec<u64> =
                    (0..count).map(|at| key_of_multiget(mix(subject), at, keys / count)).collect();
                assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]), "{count} of {keys}: {drawn:?}");
                assert!(drawn.iter().all(|&key| key < keys), "{count} of {keys}: {drawn:?}");
            }
        }
    }

    #[test]
    fn the_share_of_gets_is_kept_and_every_key_is_drawn() {
        let gets_below = (0.9 * (1u64 << 32) as f64) as u64;
        let mut source = Source::Random { workload: Workload::Mixed, keys: 10, gets_below, state: 1 };
        let (mut gets, mut drawn) = (0, [0; 10]);
        for _ in 0..10_000 {
            let (op, key) = source.next();
            gets += usize::from(op == Op::Get);
            drawn[key as usize] += 1;
        }
        assert!((8800..9200).contains(&gets), "{gets} gets of 10000");
        assert!(drawn.iter().all(|&times| times > 800), "{drawn:?}");
    }
}
