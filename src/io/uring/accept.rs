//! Listeners over io_uring: accepts that stay in the kernel.
#![allow(unsafe_code)] // A completion hands a descriptor over by its number.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::operations::{self, Kind, plain_number};
use super::ring::Ring;
use crate::control::Waker;

/// Accepts that listeners may have done before they are looked at; the kernel keeps more itself.
const COMPLETIONS: u32 = 1024;

/// What waits for the clients of some listeners.
pub(crate) struct Accepts {
    ring: Ring,
    event: Arc<OwnedFd>,
    begun: bool,
}

impl Accepts {
    /// Nothing yet, and what ends its waiting.
    ///
    /// # Errors
    /// The kernel gives no ring.
    pub(crate) fn new() -> io::Result<(Self, Waker)> {
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let waker = Waker::Event(event.clone());
        Ok((Accepts { ring: Ring::new(64, COMPLETIONS)?, event, begun: false }, waker))
    }

    /// Accepts at this listener from now on. Its descriptor stays open until this value is dropped.
    pub(crate) fn arm(&mut self, listener: &impl AsFd, place: usize) -> io::Result<()> {
        self.ring.enable()?;
        self.ring.in_flight += 1;
        // SAFETY: it names no memory.
        unsafe { self.ring.push(&operations::accept(listener, place)) };
        Ok(())
    }

    /// Waits, at most so long. Tells for each client of which listener it is, non-blocking, or why there is
    /// none, and whether that listener has to be armed again. True if the waiting is to end for good.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(usize, io::Result<OwnedFd>, bool),
    ) -> io::Result<bool> {
        self.ring.enable()?;
        if !std::mem::replace(&mut self.begun, true) {
            self.ring.in_flight += 1;
            // SAFETY: it names no memory; the descriptor is open as long as this value lives.
            unsafe { self.ring.push(&operations::readable(&*self.event, plain_number(Kind::Mail, 0))) };
        }
        self.ring.enter(1, timeout)?;
        let (mut stop, mut over) = (false, 0);
        self.ring.take(|completion| {
            let last = !completion.more();
            match operations::kind(completion.user_data) {
                Kind::Accept => {
                    over += usize::from(last);
                    each(operations::place(completion.user_data), accepted(completion.result), last);
                }
                Kind::Mail => {
                    over += usize::from(last);
                    stop = true;
                }
                _ => {}
            }
        });
        self.ring.in_flight -= over;
        Ok(stop)
    }
}

/// What an accept has brought.
fn accepted(result: i32) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: the kernel has opened the descriptor for this completion, which is taken once, so that nobody
    // else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

impl Drop for Accepts {
    /// Lets go of the listeners, and of clients that nobody has seen.
    fn drop(&mut self) {
        self.ring.end(|completion| {
            if operations::kind(completion.user_data) == Kind::Accept {
                drop(accepted(completion.result));
            }
        });
    }
}
