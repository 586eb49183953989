//! The two queues, and the one system call that serves both.
#![allow(unsafe_code)] // An entry of the submission queue names memory: who owns it meanwhile is said here.

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};
use rustix::io::Errno;

use super::operations;

/// Times in a row that the kernel may take nothing of what is submitted, for want of memory.
const TRIES: usize = 1000;

/// Times that a ring which ends waits for its operations to come back, and how long each.
const LAST_WAITS: usize = 200;
const LAST_WAIT: Duration = Duration::from_millis(10);

/// A ring of one thread. It begins disabled, so that one thread can make it and another use it.
pub(super) struct Ring {
    uring: IoUring,
    /// It can wait for several completions, and be content with one after a while.
    gathers: bool,
    enabled: bool,
    /// Why it can do nothing more, if an early submission has failed.
    broken: Option<io::Error>,
    /// System calls since this was set to zero.
    pub(super) calls: u64,
    /// Operations that are to complete once more, as those who push and take them count.
    pub(super) in_flight: usize,
}

/// A completion, as the kernel has written it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Completion {
    /// The operation goes on: there will be more of it.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }
}

impl Ring {
    /// A ring with room for so many entries.
    ///
    /// # Errors
    /// What io_uring_setup(2) says.
    pub(super) fn new(submissions: u32, completions: u32) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions)
            .dontfork()
            .build(submissions)?;
        let gathers = uring.params().is_feature_min_timeout();
        Ok(Ring { uring, gathers, enabled: false, broken: None, calls: 0, in_flight: 0 })
    }

    /// What the kernel can do.
    pub(super) fn uring(&self) -> &IoUring {
        &self.uring
    }

    /// From now on it belongs to this thread. True if it did not before.
    pub(super) fn enable(&mut self) -> io::Result<bool> {
        if self.enabled {
            return Ok(false);
        }
        self.uring.submitter().register_enable_rings()?;
        self.enabled = true;
        Ok(true)
    }

    /// Queues an operation, and submits those before it at once if there is no room.
    ///
    /// # Safety
    /// All memory that the entry names stays where it is, and nobody touches it, until the operation is over:
    /// its last completion has been taken from the queue, or it is one that never waits and the entry has
    /// been taken by the kernel.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise is the one that is asked for.
        while unsafe { self.uring.submission().push(entry) }.is_err() {
            if let Err(error) = self.flush() {
                self.broken = Some(error);
                return;
            }
        }
    }

    /// Makes room for submissions.
    #[cold]
    fn flush(&mut self) -> io::Result<()> {
        for _ in 0..TRIES {
            self.enter(0, None)?;
            if !self.uring.submission().is_full() {
                return Ok(());
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Submits all that is queued and waits for so many completions, at most so long (for ever if `None`).
    ///
    /// # Errors
    /// The ring is unusable.
    pub(super) fn enter(&mut self, completions: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.submit_and_wait(completions, Duration::ZERO, timeout)
    }

    /// The same, but that one completion is enough when `gather` is over. Before Linux 6.12 it is enough at
    /// once.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(super) fn gather(
        &mut self,
        completions: u32,
        gather: Duration,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        // To the kernel no time to gather means that all of them are waited for.
        if self.gathers && gather >= Duration::from_micros(1) {
            self.submit_and_wait(completions, gather, timeout)
        } else {
            self.submit_and_wait(1, Duration::ZERO, timeout)
        }
    }

    fn submit_and_wait(
        &mut self,
        completions: u32,
        gather: Duration,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.calls += 1;
        let time = Timespec::from(timeout.unwrap_or_default());
        let arguments = SubmitArgs::new().min_wait_usec(gather.as_micros() as u32);
        let arguments = if timeout.is_some() { arguments.timespec(&time) } else { arguments };
        let submissions = self.uring.submission().len() as u32;
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: the argument is of the kind that EXT_ARG says, and lives until the call is over; the memory
        // that entries name is the affair of those who pushed them.
        let entered =
            unsafe { self.uring.submitter().enter(submissions, completions, flags, Some(&arguments)) };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                // The time is up; a signal; no memory or no room for completions at the moment.
                Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Submits what is queued, then cancels everything and waits for its end, two seconds at most; gives each
    /// completion that comes meanwhile. After it `in_flight` is zero, or the kernel still works on something.
    pub(super) fn end(&mut self, mut each: impl FnMut(Completion)) {
        let mut waits = 0;
        while self.enabled && (waits == 0 || self.in_flight > 0) && waits < LAST_WAITS {
            // SAFETY: it names no memory.
            unsafe { self.push(&operations::cancel_any()) };
            if self.enter(u32::from(waits > 0), Some(LAST_WAIT)).is_err() {
                return;
            }
            let mut over = 0;
            self.take(|completion| {
                over += usize::from(!completion.more() && operations::is_counted(completion.user_data));
                each(completion);
            });
            self.in_flight -= over;
            waits += 1;
        }
    }

    /// Something has come that the kernel has not looked at yet: a call would complete more.
    #[inline]
    pub(super) fn has_work(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    /// The kernel has more to say, or to take, than it could.
    #[inline]
    pub(super) fn is_behind(&mut self) -> bool {
        let queue = self.uring.submission();
        !queue.is_empty() || queue.cq_overflow()
    }

    /// Takes all completions that are there.
    #[inline]
    pub(super) fn take(&mut self, mut each: impl FnMut(Completion)) {
        for entry in self.uring.completion() {
            each(Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() });
        }
    }
}
