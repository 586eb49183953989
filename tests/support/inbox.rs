//! What a peer has sent, gathered by a thread of its own, so that a test may write as much as it likes
//! without both sides waiting for each other.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::report::escape;

/// After this long a wait is called a hang. It is generous: only a failing test ever waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it.
    Closed,
    /// The peer reset it, or closed it with bytes of ours unread.
    Reset,
}

/// Bytes that were waited for and did not come.
#[derive(Debug)]
pub(crate) struct Shortfall {
    /// What was there instead; still unread.
    pub(crate) got: Vec<u8>,
    /// How the connection ended, if it did.
    pub(crate) end: Option<End>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.end {
            None => "connection open",
            Some(End::Closed) => "connection closed",
            Some(End::Reset) => "connection reset",
        };
        write!(f, "got only {} ({end})", escape(&self.got))
    }
}

/// Bytes received and not taken yet, and the end of the connection.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    end: Option<End>,
}

impl Inbox {
    /// Adds what was received.
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    /// Notes that nothing more will come.
    pub(crate) fn finish(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// Waits until `ready` says how many bytes from the front to take, and takes them.
    pub(crate) fn take_when(
        &self,
        patience: Duration,
        mut ready: impl FnMut(&[u8], Option<End>) -> Option<usize>,
    ) -> Result<Vec<u8>, Shortfall> {
        let give_up = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(count) = ready(&state.bytes, state.end) {
                return Ok(state.bytes.drain(..count).collect());
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() || state.end.is_some() {
                return Err(Shortfall { got: state.bytes.clone(), end: state.end });
            }
            state = self.changed.wait_timeout(state, left).expect("no holder panicked").0;
        }
    }

    /// Waits for `count` bytes and takes them.
    pub(crate) fn take(&self, count: usize) -> Result<Vec<u8>, Shortfall> {
        self.take_when(PATIENCE, |bytes, _| (bytes.len() >= count).then_some(count))
    }

    /// Waits until what came ends with `marker`, and takes all of it.
    pub(crate) fn take_until(&self, marker: &[u8]) -> Result<Vec<u8>, Shortfall> {
        self.take_when(PATIENCE, |bytes, _| bytes.ends_with(marker).then_some(bytes.len()))
    }

    /// Waits for the end of the connection; gives what came before it, and how it ended.
    pub(crate) fn take_to_end(&self) -> Result<(Vec<u8>, End), Shortfall> {
        let mut how = None;
        let bytes = self.take_when(PATIENCE, |bytes, end| {
            how = end;
            end.map(|_| bytes.len())
        })?;
        Ok((bytes, how.expect("the wait ended with an end")))
    }

    /// Fails if anything comes within `moment`, the end included. A slow machine can only make it miss.
    pub(crate) fn stays_quiet(&self, moment: Duration) -> Result<(), Shortfall> {
        match self.take_when(moment, |bytes, end| (!bytes.is_empty() || end.is_some()).then_some(0)) {
            Ok(_) => Err(self.peek()),
            Err(_) => Ok(()),
        }
    }

    /// True if bytes are there that were not taken.
    pub(crate) fn has_bytes(&self) -> bool {
        !self.lock().bytes.is_empty()
    }

    /// What is there now, untouched.
    pub(crate) fn peek(&self) -> Shortfall {
        let state = self.lock();
        Shortfall { got: state.bytes.clone(), end: state.end }
    }

    /// Starts a thread that reads `stream` to its end; `feed` sees each piece on its way.
    pub(crate) fn fill_from(
        self: &Arc<Self>,
        mut stream: TcpStream,
        mut feed: impl FnMut(&Inbox, &[u8]) + Send + 'static,
    ) {
        let inbox = Arc::clone(self);
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 << 10];
            let end = loop {
                match stream.read(&mut piece) {
                    Ok(0) => break End::Closed,
                    Ok(count) => feed(&inbox, &piece[..count]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break End::Reset,
                }
            };
            inbox.finish(end);
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panicked")
    }
}
