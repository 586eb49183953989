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
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_read_timeout(Some(HANG)).expect("a read timeout");
        socket.set_write_timeout(Some(HANG)).expect("a write timeout");
        Client { socket, received: Vec::new() }
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
        for request in requests {
            bytes.extend_from_slice(&request.bytes);
            if !request.closes {
                bytes.extend_from_slice(fence(protocol));
            }
        }
        self.send(&bytes, rng);
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
            self.socket.write_all(piece).expect("the server takes requests");
            rest = after;
        }
    }

    fn read_to_fence(&mut self, protocol: Protocol) -> Exchange {
        loop {
            if let Some((reply, whole)) = split_at_fence(protocol, &self.received) {
                let reply = self.received[..reply].to_vec();
                self.received.drain(..whole);
                return Exchange { reply, closed: false };
            }
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
        let mut piece = [0; 16384];
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

/// Bytes of the reply before the first fence's answer, and bytes with it.
fn split_at_fence(protocol: Protocol, received: &[u8]) -> Option<(usize, usize)> {
    let answer: &[u8] = match protocol {
        Protocol::Binary => b"\x81\x0a\0\0\0\0\0\0\0\0\0\0\xfe\xfe\xfe\xfe\0\0\0\0\0\0\0\0",
        _ => b"MN\r\n",
    };
    let start = received.windows(answer.len()).position(|window| window == answer)?;
    Some((start, start + answer.len()))
}
