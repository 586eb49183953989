//! Wakes an event loop at a time given in nanoseconds. epoll waits in whole milliseconds, in which a constant
//! rate of 20,000 a second has twenty operations.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};

/// A timer in an event loop.
pub(crate) struct Timer(inner::Timer);

impl Timer {
    /// A timer that wakes the loop of `registry` with `token`.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        inner::Timer::new(registry, token).map(Timer)
    }

    /// The loop is woken once `wait` from now, instead of what was asked before. Gives how long the poll may
    /// wait.
    pub(crate) fn wake_in(&mut self, wait: Duration, at_most: Duration) -> io::Result<Duration> {
        self.0.wake_in(wait.max(Duration::from_nanos(1)), at_most)
    }
}

#[cfg(target_os = "linux")]
mod inner {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timerfd. It is never read: setting it anew clears it, and the loop is told of edges only.
    pub(super) struct Timer(OwnedFd);

    impl Timer {
        pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let fd =
                timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Timer(fd))
        }

        pub(super) fn wake_in(&mut self, wait: Duration, at_most: Duration) -> io::Result<Duration> {
            let time = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
                    tv_nsec: wait.subsec_nanos().into(),
                },
            };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &time)?;
            Ok(at_most)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod inner {
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token};

    /// Elsewhere the timeout of the poll has to do.
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new(_: &Registry, _: Token) -> io::Result<Self> {
            Ok(Timer)
        }

        pub(super) fn wake_in(&mut self, wait: Duration, at_most: Duration) -> io::Result<Duration> {
            Ok(wait.min(at_most))
        }
    }
}
