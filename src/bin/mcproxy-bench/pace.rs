//! When operations are asked: as soon as an answer came (closed loop), or by a schedule that does not wait
//! (open loop). Times are nanoseconds since the start of the run.

/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// What a lane may send, and when.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// As fast as answers come, until a time or a number is reached.
    Closed { until: u64, left: u64 },
    /// Every `step`th operation of a common schedule.
    Open(Schedule),
}

/// A lane's part of a constant rate. Operation `k` of all lanes is due at `start + k / rate`.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// When the first operation of all lanes is due.
    pub(crate) start: u64,
    /// Operations a second, over all lanes.
    pub(crate) rate: u64,
    /// The number of this lane's next operation.
    pub(crate) next: u64,
    /// Lanes.
    pub(crate) step: u64,
    /// Operations over all lanes.
    pub(crate) total: u64,
    /// After this nothing more is sent, however much is due: a target that can't keep up has to end too.
    pub(crate) give_up: u64,
}

impl Pace {
    /// Takes the right to send one operation; gives the time that its latency counts from.
    #[inline]
    pub(crate) fn next(&mut self, now: u64) -> Option<u64> {
        match self {
            Pace::Closed { until, left } => {
                if *left == 0 || now >= *until {
                    *left = 0;
                    return None;
                }
                *left -= 1;
                Some(now)
            }
            Pace::Open(schedule) => {
                let due = schedule.due()?;
                if now >= schedule.give_up || due > now {
                    return None;
                }
                schedule.next += schedule.step;
                Some(due)
            }
        }
    }

    /// When the next operation of an open loop is due, if it will still be sent.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        match self {
            Pace::Open(schedule) if now < schedule.give_up => schedule.due(),
            _ => None,
        }
    }

    /// Nothing more will be sent.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        match self {
            Pace::Closed { until, left } => *left == 0 || now >= *until,
            Pace::Open(schedule) => schedule.next >= schedule.total || now >= schedule.give_up,
        }
    }

    /// Operations of the schedule that were never sent.
    pub(crate) fn unsent(&self) -> u64 {
        match self {
            Pace::Closed { .. } => 0,
            Pace::Open(schedule) => schedule.total.saturating_sub(schedule.next).div_ceil(schedule.step),
        }
    }
}

impl Schedule {
    #[inline]
    fn due(&self) -> Option<u64> {
        if self.next >= self.total {
            return None;
        }
        let (seconds, rest) = (self.next / self.rate, self.next % self.rate);
        Some(self.start + seconds * SECOND + rest * SECOND / self.rate)
    }
}

/// This lane's part of `total`.
pub(crate) fn part(total: u64, lane: u64, lanes: u64) -> u64 {
    total / lanes + u64::from(lane < total % lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_a_schedule_and_miss_nothing() {
        let (rate, total, lanes) = (3_000, 1_000, 3);
        let mut all = Vec::new();
        for lane in 0..lanes {
            let schedule = Schedule { start: 50, rate, next: lane, step: lanes, total, give_up: u64::MAX };
            let mut pace = Pace::Open(schedule);
            assert_eq!(pace.next(0), None, "before the start");
            while let Some(due) = pace.next(u64::MAX - 1) {
                all.push(due);
            }
            assert!(pace.is_over(0));
            assert_eq!(pace.unsent(), 0);
        }
        all.sort_unstable();
        let expected: Vec<u64> = (0..total).map(|k| 50 + k * SECOND / rate).collect();
        assert_eq!(all, expected);
    }

    /// Behind schedule, each operation keeps the time that it was due.
    #[test]
    fn lateness_is_not_forgotten() {
        let schedule = Schedule { start: 0, rate: 10, next: 0, step: 1, total: 5, give_up: 10 * SECOND };
        let mut pace = Pace::Open(schedule);
        let sent: Vec<u64> = (0..3).filter_map(|_| pace.next(2 * SECOND)).collect();
        assert_eq!(sent, [0, SECOND / 10, SECOND / 5]);
        assert_eq!((pace.unsent(), pace.due(0)), (2, Some(3 * SECOND / 10)));
        assert_eq!(pace.next(10 * SECOND), None, "given up");
        assert!(pace.is_over(10 * SECOND));
        assert_eq!(pace.due(10 * SECOND), None);
    }

    #[test]
    fn a_closed_loop_ends_by_number_or_time() {
        let mut pace = Pace::Closed { until: 100, left: 2 };
        assert_eq!((pace.next(5), pace.next(99), pace.next(99)), (Some(5), Some(99), None));
        let mut pace = Pace::Closed { until: 100, left: 2 };
        assert_eq!(pace.next(100), None);
        assert!(pace.is_over(0), "an end is final");
    }

    #[test]
    fn parts_add_up() {
        for total in 0..40 {
            assert_eq!((0..7).map(|lane| part(total, lane, 7)).sum::<u64>(), total);
        }
    }
}
