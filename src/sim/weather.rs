//! How the network and the machine treat everybody: drawn for a seed, and good weather after the faults stop.

use std::time::Duration;

use super::random::Random;
use super::tally::Tally;

/// Chances are `once in so many`, zero for never.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// A piece of bytes is split, or read only in part.
    pub(super) split: usize,
    /// A piece takes milliseconds.
    pub(super) spike: usize,
    /// A piece takes as long as [`Self::stall_max`].
    pub(super) stall: usize,
    pub(super) stall_max: Duration,
    /// A send is completed later.
    pub(super) late_send: usize,
    /// A connect takes as long as [`Self::stall_max`].
    pub(super) slow_connect: usize,
    /// A connect is refused.
    pub(super) refused: usize,
    /// A connection breaks when something is written to it.
    pub(super) reset: usize,
    /// An order of the control plane takes hundreds of milliseconds.
    pub(super) late_order: usize,
    /// A worker does not run for milliseconds.
    pub(super) pause: usize,
    /// A paused connection still brings what was received.
    pub(super) grace: usize,
    /// What the sockets of one direction hold, bytes.
    pub(super) window: usize,
}

impl Weather {
    /// Nothing goes wrong.
    pub(super) fn good() -> Self {
        Weather {
            split: 0,
            spike: 0,
            stall: 0,
            stall_max: Duration::ZERO,
            late_send: 0,
            slow_connect: 0,
            refused: 0,
            reset: 0,
            late_order: 0,
            pause: 0,
            grace: 0,
            window: 64 << 10,
        }
    }

    /// How long a piece of bytes is under way.
    pub(super) fn delay(&self, random: &mut Random, tally: &mut Tally) -> Duration {
        if random.once_in(self.stall) {
            tally.count("fault: stall");
            return self.long(random);
        }
        if random.once_in(self.spike) {
            tally.count("fault: delay");
            return Duration::from_micros(random.between(1_000, 30_000));
        }
        Duration::from_micros(random.between(10, 200))
    }

    /// As long as a stall.
    pub(super) fn long(&self, random: &mut Random) -> Duration {
        Duration::from_micros(random.between(1, self.stall_max.as_micros() as u64 + 1))
    }

    /// How long a worker takes to see what is there.
    pub(super) fn tick_delay(&self, random: &mut Random) -> Duration {
        if random.once_in(self.pause) {
            return Duration::from_micros(random.between(1_000, 20_000));
        }
        Duration::from_micros(random.between(1, 30))
    }
}
