//! What the tests say and expect again and again.

use super::rig::{NAMES, Rig};

/// The line that a request gets whose backend did not answer.
pub(super) fn error(backend: usize, words: &str) -> String {
    format!("SERVER_ERROR backend {} {words}\r\n", NAMES[backend])
}

/// The whole answer to a get that finds `value`.
pub(super) fn found(key: &str, value: &str) -> String {
    format!("{}END\r\n", item(key, value))
}

/// One `VALUE` of an answer.
pub(super) fn item(key: &str, value: &str) -> String {
    format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len())
}

/// One key of each backend.
pub(super) fn three_keys(rig: &mut Rig) -> [String; 3] {
    [rig.key(0, 0), rig.key(1, 0), rig.key(2, 0)]
}

/// A xorshift generator: Marsaglia, "Xorshift RNGs", 2003.
pub(super) struct Dice(u64);

impl Dice {
    /// Throws that depend on `seed` alone.
    pub(super) fn new(seed: u64) -> Self {
        Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`.
    pub(super) fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides as u64) as usize
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.throw(times) == 0
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.throw(from.len())]
    }
}
