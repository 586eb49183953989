//! Whether this kernel, and whoever guards it, lets the engine run: asked by doing what it will do.
#![allow(unsafe_code)] // It submits what the engine submits; its memory outlives its operations.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::{Probe, opcode, squeue};
use rustix::io::Errno;

use super::buffers::Buffers;
use super::operations::{self, Kind, Manner, number, plain_number};
use super::ring::{Completion, Ring};
use crate::buffer::{Outbox, Spare};
use crate::io::ConnId;
use crate::io::socket::Socket;

/// The oldest Linux that has all of it, for those who ask what to do.
const NEEDED: &str = "Linux 6.1 or newer has it";

/// Operations that the engine submits.
const OPERATIONS: [(&str, u8); 6] = [
    ("IORING_OP_RECV", opcode::RecvMulti::CODE),
    ("IORING_OP_SEND", opcode::Send::CODE),
    ("IORING_OP_SENDMSG", opcode::SendMsg::CODE),
    ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
    ("IORING_OP_ACCEPT", opcode::AcceptMulti::CODE),
    ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// Sees whether the engine can run here.
///
/// # Errors
/// One line that names what is missing, or who does not allow it.
pub fn check() -> Result<(), String> {
    let mut ring = Ring::new(8, 16).map_err(|error| refusal(&error))?;
    let parameters = ring.uring().params();
    for (name, has) in [
        ("IORING_FEAT_NODROP", parameters.is_feature_nodrop()),
        ("IORING_FEAT_EXT_ARG", parameters.is_feature_ext_arg()),
        ("IORING_FEAT_FAST_POLL", parameters.is_feature_fast_poll()),
        ("IORING_FEAT_CQE_SKIP", parameters.is_feature_skip_cqe_on_success()),
    ] {
        if !has {
            return Err(format!("io_uring: the kernel has no {name}; {NEEDED}"));
        }
    }
    ring.enable().map_err(|error| format!("io_uring: IORING_REGISTER_ENABLE_RINGS: {error}"))?;
    let mut probe = Probe::new();
    let probed = ring.uring().submitter().register_probe(&mut probe);
    probed.map_err(|error| format!("io_uring: IORING_REGISTER_PROBE: {error}"))?;
    for (name, code) in OPERATIONS {
        if !probe.is_supported(code) {
            return Err(format!("io_uring: the kernel has no {name}; {NEEDED}"));
        }
    }
    let mut buffers = Buffers::new(4, 64, false);
    let registered = buffers.register(ring.uring());
    registered.map_err(|error| format!("io_uring: IORING_REGISTER_PBUF_RING: {error}; {NEEDED}"))?;
    let mut trial = Trial { ring, buffers: Some(buffers) };
    trial.run().map_err(|what| format!("io_uring: {what}; {NEEDED}"))
}

/// Why io_uring_setup(2) gave no ring.
fn refusal(error: &io::Error) -> String {
    let why = match Errno::from_io_error(error) {
        Some(Errno::NOSYS) => "this kernel has no io_uring, or a seccomp filter hides it".to_owned(),
        Some(Errno::PERM | Errno::ACCESS) => {
            "it is not permitted: /proc/sys/kernel/io_uring_disabled says so, \
             or a seccomp filter, as those of containers do"
                .to_owned()
        }
        Some(Errno::INVAL) => {
            format!("the kernel has no IORING_SETUP_SINGLE_ISSUER or IORING_SETUP_DEFER_TASKRUN; {NEEDED}")
        }
        Some(Errno::NOMEM) => {
            "no memory for its queues; the limit of locked memory counts, ulimit -l".to_owned()
        }
        Some(Errno::MFILE | Errno::NFILE) => "no descriptor is left".to_owned(),
        _ => "the kernel gives no ring".to_owned(),
    };
    format!("io_uring_setup: {error}: {why}")
}

struct Trial {
    ring: Ring,
    /// Until it is known that the kernel does not use them.
    buffers: Option<Buffers>,
}

/// The connection of the trial.
const CONN: ConnId = ConnId::client(0, 0);

impl Trial {
    fn run(&mut self) -> Result<(), String> {
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            Ok((Socket::unix(ours), Socket::unix(theirs)))
        });
        let (ours, theirs) = pair.map_err(|error| format!("a pair of sockets: {error}"))?;
        self.receives(&ours, &theirs)?;
        self.sends(&ours)
    }

    /// A receive that stays, gets a buffer by itself, and can be cancelled.
    fn receives(&mut self, ours: &Socket, theirs: &Socket) -> Result<(), String> {
        let what = "multishot receive into provided buffers";
        let failed = |why: String| format!("{what}: {why}");
        self.submit(&operations::receive(ours, CONN)).map_err(failed)?;
        for _ in 0..2 {
            rustix::net::send(theirs, b"hello", rustix::net::SendFlags::NOSIGNAL)
                .map_err(|error| failed(error.to_string()))?;
            let told = self.submit(&squeue_nop()).map_err(failed)?;
            let received = told.iter().find(|told| operations::kind(told.user_data) == Kind::Receive);
            let whole = received.is_some_and(|told| told.result == 5 && told.more());
            if !whole {
                return Err(failed(format!("it tells {told:?}")));
            }
        }
        let told = self.submit(&operations::cancel(number(Kind::Receive, CONN))).map_err(failed)?;
        let ended = told.iter().any(|told| {
            operations::kind(told.user_data) == Kind::Receive
                && told.result == -Errno::CANCELED.raw_os_error()
                && !told.more()
        });
        if ended { Ok(()) } else { Err(failed(format!("cancelled, it tells {told:?}"))) }
    }

    /// A send that does not wait says nothing when all is sent, and how much if not.
    fn sends(&mut self, ours: &Socket) -> Result<(), String> {
        let what = "sends that tell only what fell short";
        let failed = |why: String| format!("{what}: {why}");
        let number = plain_number(Kind::SendNow, 0);
        let mut outbox = Outbox::default();
        outbox.tail(&mut Spare::new(0, 0)).extend_from_slice(b"hello");
        let mut slices = None;
        let (entry, _) = operations::send(ours, &outbox, 0, &mut slices, Manner::Silent, number);
        let told = self.submit(&entry).map_err(failed)?;
        if !told.is_empty() {
            return Err(failed(format!("of a whole one it tells {told:?}")));
        }
        // More than a socket takes.
        let length = 64 << 20;
        outbox.tail(&mut Spare::new(0, 0)).resize(length, b'x');
        let (entry, _) = operations::send(ours, &outbox, 0, &mut slices, Manner::Silent, number);
        let told = self.submit(&entry).map_err(failed)?;
        match told[..] {
            [Completion { result, .. }] if result > 0 && (result as usize) < length => Ok(()),
            _ => Err(failed(format!("of a short one it tells {told:?}"))),
        }
    }

    /// Submits one operation and takes what there is to tell then.
    fn submit(&mut self, entry: &squeue::Entry) -> Result<Vec<Completion>, String> {
        // SAFETY: a receive names the trial's buffers, which live until its end was seen; a send does not
        // wait and is over when this returns, before its buffer is touched again.
        unsafe { self.ring.push(entry) };
        let mut told = Vec::new();
        // What the kernel still has to do for it is done by the next call at the latest.
        for _ in 0..2 {
            self.ring.enter(0, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
            self.ring.take(|completion| told.push(completion));
        }
        let receives = |told: &&Completion| operations::kind(told.user_data) == Kind::Receive;
        if told.iter().filter(receives).any(|told| !told.more()) {
            self.ring.in_flight = 0;
        } else if operations::kind(entry.get_user_data()) == Kind::Receive {
            self.ring.in_flight = 1;
        }
        told.retain(|told| operations::kind(told.user_data) != Kind::Cancel);
        Ok(told)
    }
}

fn squeue_nop() -> squeue::Entry {
    opcode::Nop::new().build().user_data(plain_number(Kind::Cancel, 0))
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.ring.in_flight > 0 {
            // The kernel may write to them yet.
            std::mem::forget(self.buffers.take());
        }
    }
}
