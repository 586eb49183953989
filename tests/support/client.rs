//! A client of a memcached or of the proxy.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::inbox::{End, Inbox, PATIENCE};
use super::report::{escape, same};

/// Between two pieces of a split write, so that the reader mostly sees them apart. Nothing depends on it.
const PIECE_GAP: Duration = Duration::from_micros(200);

/// One connection; closed when dropped.
pub(crate) struct Client {
    stream: TcpStream,
    /// What came back.
    pub(crate) inbox: Arc<Inbox>,
    ends_by_reset: bool,
}

impl Client {
    /// Connects to a server that is known to listen.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        let inbox = Arc::new(Inbox::default());
        inbox.fill_from(stream.try_clone().expect("second handle"), Inbox::push);
        Client { stream, inbox, ends_by_reset: false }
    }

    /// Sends all of `bytes`. A peer that has gone shows in the inbox, so a failed write is not reported here.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let _ = (&self.stream).write_all(bytes);
    }

    /// Sends `bytes` in pieces that end at `cuts`, ascending.
    pub(crate) fn send_in_pieces(&self, bytes: &[u8], cuts: &[usize]) {
        write_in_pieces(&self.stream, bytes, cuts);
    }

    /// Takes as many bytes as `expected` has, and compares.
    pub(crate) fn expect(&self, expected: &[u8]) -> Result<(), String> {
        match self.inbox.take(expected.len()) {
            Ok(got) => same("client sees", expected, &got),
            Err(shortfall) => Err(format!("client waits for {}: {shortfall}", escape(expected))),
        }
    }

    /// Takes one line that starts with `prefix`, line end included.
    pub(crate) fn expect_line(&self, prefix: &str) -> Result<Vec<u8>, String> {
        let line = self.inbox.take_when(PATIENCE, |bytes, _| {
            bytes.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2)
        });
        match line {
            Ok(line) if line.starts_with(prefix.as_bytes()) => Ok(line),
            Ok(line) => Err(format!("client waits for a line that starts {prefix:?}: got {}", escape(&line))),
            Err(shortfall) => Err(format!("client waits for a line that starts {prefix:?}: {shortfall}")),
        }
    }

    /// Waits for the end of the connection, before which nothing may come.
    pub(crate) fn expect_end(&self) -> Result<End, String> {
        match self.inbox.take_to_end() {
            Ok((bytes, end)) if bytes.is_empty() => Ok(end),
            Ok((bytes, _)) => Err(format!("client sees {} where the connection ends", escape(&bytes))),
            Err(shortfall) => Err(format!("client waits for the end: {shortfall}")),
        }
    }

    /// Says that nothing more will be sent; still reads.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(mut self) {
        self.ends_by_reset = true;
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        // The reading thread holds a second handle: it must let go for the socket to close at all.
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A reset must not have a FIN before it.
        if !self.ends_by_reset {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Writes `bytes` in pieces that end at `cuts`, ascending; cuts outside are no cuts.
pub(crate) fn write_in_pieces(mut stream: &TcpStream, bytes: &[u8], cuts: &[usize]) {
    let mut start = 0;
    for &cut in cuts.iter().filter(|&&cut| cut > 0 && cut < bytes.len()) {
        if stream.write_all(&bytes[start..cut]).is_err() {
            return;
        }
        start = cut;
        std::thread::sleep(PIECE_GAP);
    }
    let _ = stream.write_all(&bytes[start..]);
}
