//! Somebody who sends whether he is read from or not, and reads only when told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection whose writes take what the kernel takes and no more.
pub(crate) struct Pushy(TcpStream);

impl Pushy {
    /// To a server that is known to listen.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nonblocking(true).expect("non-blocking");
        Pushy(stream)
    }

    /// Pushes so much of `bytes` as can be; gives how much. The peer may have had enough of it and be gone:
    /// then it takes everything.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        match self.0.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => bytes.len(),
        }
    }

    /// Something of what has come by now.
    pub(crate) fn come_by_now(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        let count = self.0.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }
}
