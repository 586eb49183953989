//! A connection that sends requests and says which bytes came back for each.

use super::requests::{Protocol, Request};
use super::rng::Rng;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(30);

/// What one request brought.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) reply: Vec<u8>,
    /// The server closed the connection after it.
    pub(crate) closed: bool,
}

pub(crate) struct Client {
    socket: TcpStream,
    /// Received and not yet given to a request.
    received: Vec<u8>,
    /// Bytes of it in which no fence's answer begins.
    searched: usize,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_read_timeout(Some(HANG)).expect("a read timeout");
        socket.set_write_timeout(Some(HANG)).expect("a write timeout");
        Client { socket, received: Vec::new(), searched: 0 }
    }

    /// Sends `requests` in one go, cut into pieces as `rng` says, with a fence behind each: a request that
    /// always answers, and whose answer shows where the request's own answer ends. A request that makes the
    /// server close has no fence and is the last one.
    pub(crate) fn exchange(
        &mut self,
        protocol: Protocol,
        requests: &[Request],
        rng: &mut Rng,
    ) -> Vec<Exchange> {
        let mut bytes = Vec::new();
        for request in requests.iter().filter(|request| !request.closes) {
            bytes.extend_from_slice(&request.bytes);
            bytes.extend_from_slice(fence(protocol));
        }
        self.send(&bytes, rng);
        if let Some(last) = requests.iter().find(|request| request.closes) {
            // In one piece: what arrives after the server has closed makes its system reset the connection, and
            // ours may then forget what it has received.
            let _ = self.socket.write_all(&last.bytes);
        }
        requests
            .iter()
            .map(|request| match request.closes {
                true => Exchange { reply: self.read_to_end(), closed: true },
                false => self.read_to_fence(protocol),
            })
            .collect()
    }

    fn send(&mut self, bytes: &[u8], rng: &mut Rng) {
        let largest = rng.pick(&[1, 7, 100, 5000, usize::MAX]);
        let mut rest = bytes;
        // Small pieces of a large batch take long, and a few of them show as much.
        let mut small = 200;
        while !rest.is_empty() {
            let most = if small > 0 { largest.min(rest.len()) } else { rest.len() };
            small -= 1;
            let (piece, after) = rest.split_at(1 + rng.below(most));
            if self.socket.write_all(piece).is_err() {
                // Closed where nobody thought: the replies show where.
                return;
            }
            rest = after;
        }
    }

    fn read_to_fence(&mut self, protocol: Protocol) -> Exchange {
        let answer = fence_answer(protocol);
        loop {
            let rest = &self.received[self.searched..];
            if let Some(start) = rest.windows(answer.len()).position(|window| window == answer) {
                let start = self.searched + start;
                let reply = self.received[..start].to_vec();
                self.received.drain(..start + answer.len());
                self.searched = 0;
                return Exchange { reply, closed: false };
            }
            self.searched = (self.received.len() + 1).saturating_sub(answer.len());
            if self.read_more() == 0 {
                return Exchange { reply: std::mem::take(&mut self.received), closed: true };
            }
        }
    }

    fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more() > 0 {}
        std::mem::take(&mut self.received)
    }

    fn read_more(&mut self) -> usize {
        let mut piece = [0; 65536];
        match self.socket.read(&mut piece) {
            Ok(bytes) => {
                self.received.extend_from_slice(&piece[..bytes]);
                bytes
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => {
                panic!("{error}; so far the server said {}", self.received.escape_ascii());
            }
        }
    }
}

/// No answer in these tests holds the fence's answer: values have no capital M, opaques are not this one.
fn fence(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Binary => b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\xfe\xfe\xfe\xfe\0\0\0\0\0\0\0\0",
        _ => b"mn\r\n",
    }
}

fn fence_answer(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Binary => b"\x81\x0a\0\0\0\0\0\0\0\0\0\0\xfe\xfe\xfe\xfe\0\0\0\0\0\0\0\0",
        _ => b"MN\r\n",
    }
}
