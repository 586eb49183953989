//! When a tick waits for more than one event: what comes together leaves together, and costs the backends,
//! and us, less.

use std::time::Duration;

/// Longest wait for more, for each client, and for any number of them. When all of them ask at once, each is
/// answered after ten times as long anyway.
const TIME_EACH: Duration = Duration::from_micros(1);
const TIME_MAX: Duration = Duration::from_micros(400);

/// Events of a tick from which on it is a busy one: a worker that has less to do than that in `TIME_MAX`
/// makes nobody wait.
const BUSY: usize = 24;

/// Most events that are waited for.
const EVENTS_MAX: usize = 256;

/// How many events to wait for next, after `wanted` were waited for and `came` came: one where little
/// happens, more as long as more come.
#[inline]
pub(super) fn events_wanted(wanted: usize, came: usize) -> usize {
    match came {
        0..BUSY => 1,
        _ if came >= wanted => (2 * came).min(EVENTS_MAX),
        _ => came,
    }
}

/// How long to wait for them at most, with so many clients connected.
#[inline]
pub(super) fn time(clients: usize) -> Duration {
    (TIME_EACH * clients.min(1000) as u32).min(TIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_waited_for_as_long_as_more_comes() {
        for (before, came, next) in [(1, 0, 1), (1, BUSY - 1, 1), (1, BUSY, 2 * BUSY), (64, BUSY - 1, 1)] {
            assert_eq!(events_wanted(before, came), next, "{before} {came}");
        }
        assert_eq!(events_wanted(64, 30), 30, "what did not come is not waited for again");
        assert_eq!(events_wanted(EVENTS_MAX, 10 * EVENTS_MAX), EVENTS_MAX);
        assert_eq!((time(50), time(100_000)), (50 * TIME_EACH, TIME_MAX));
    }
}
