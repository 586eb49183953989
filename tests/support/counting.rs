//! Counters that are read with their token and swapped by it, in each protocol: a blocking connection, one
//! request and one answer at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::binary::{Frame, HEADER, frame_length, opcode, status};
use super::inbox::PATIENCE;
use super::report::escape;

/// How a client speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Text,
    Binary,
    Meta,
}

/// All of them.
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Text, Protocol::Binary, Protocol::Meta];

/// What becomes of a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// It is stored.
    Stored,
    /// The token is not the present one.
    Exists,
    /// There is no item.
    Gone,
}

/// A `SERVER_ERROR` in place of an answer.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl Protocol {
    /// The value under a key and its token; `None` if there is none.
    pub(crate) fn read(
        self,
        connection: &mut Connection,
        key: &str,
    ) -> Result<Option<(String, u64)>, Refused> {
        match self {
            Protocol::Text => {
                let line = connection.ask_line(&format!("gets {key}\r\n"))?;
                if line == "END" {
                    return Ok(None);
                }
                let (size, token) = header(&line, &format!("VALUE {key} 0 "));
                let value = connection.value(size);
                assert_eq!(connection.line(), "END");
                Ok(Some((value, token)))
            }
            Protocol::Meta => {
                let line = connection.ask_line(&format!("mg {key} v c\r\n"))?;
                if line == "EN" {
                    return Ok(None);
                }
                let (size, token) = header(&line.replacen(" c", " ", 1), "VA ");
                Ok(Some((connection.value(size), token)))
            }
            Protocol::Binary => {
                let reply = connection.ask_frame(&Frame::request(opcode::GET, 7).key(key.as_bytes()))?;
                assert!(matches!(reply.status, 0 | 1) && reply.opaque == 7, "{reply}");
                let value = || String::from_utf8(reply.value.clone()).expect("ASCII");
                Ok((reply.status == 0).then(|| (value(), reply.cas)))
            }
        }
    }

    /// Stores a value if the token still holds.
    pub(crate) fn swap(
        self,
        connection: &mut Connection,
        key: &str,
        value: &str,
        token: u64,
    ) -> Result<Swapped, Refused> {
        let size = value.len();
        let answers = match self {
            Protocol::Text => {
                let answer = connection.ask_line(&format!("cas {key} 0 0 {size} {token}\r\n{value}\r\n"))?;
                return Ok(one_of(&answer, ["STORED", "EXISTS", "NOT_FOUND"]));
            }
            Protocol::Meta => connection.ask_line(&format!("ms {key} {size} C{token}\r\n{value}\r\n"))?,
            Protocol::Binary => {
                let set = Frame::request(opcode::SET, 8).extras(&[0; 8]).key(key.as_bytes());
                let reply = connection.ask_frame(&set.value(value.as_bytes()).cas(token))?;
                assert_eq!(reply.opaque, 8, "{reply}");
                reply.status.to_string()
            }
        };
        Ok(match self {
            Protocol::Meta => one_of(&answers, ["HD", "EX", "NF"]),
            _ => one_of(&answers, ["0", "2", "1"]),
        })
    }

    /// Stores a value if there is none; says whether it did.
    pub(crate) fn add(self, connection: &mut Connection, key: &str, value: &str) -> Result<bool, Refused> {
        let size = value.len();
        let (answer, words) = match self {
            Protocol::Text => {
                let line = connection.ask_line(&format!("add {key} 0 0 {size}\r\n{value}\r\n"))?;
                (line, ["STORED", "NOT_STORED", ""])
            }
            Protocol::Meta => {
                (connection.ask_line(&format!("ms {key} {size} ME\r\n{value}\r\n"))?, ["HD", "NS", ""])
            }
            Protocol::Binary => {
                let add = Frame::request(0x02, 9).extras(&[0; 8]).key(key.as_bytes());
                let reply = connection.ask_frame(&add.value(value.as_bytes()))?;
                assert_eq!(reply.opaque, 9, "{reply}");
                (reply.status.to_string(), ["0", "2", ""])
            }
        };
        Ok(one_of(&answer, words) == Swapped::Stored)
    }
}

/// Which of three it is; anything else is a failure.
fn one_of(answer: &str, words: [&str; 3]) -> Swapped {
    let which = words.iter().position(|&word| word == answer);
    let all = [Swapped::Stored, Swapped::Exists, Swapped::Gone];
    all[which.unwrap_or_else(|| panic!("unexpected answer {answer:?}"))]
}

/// Size and token, the two numbers behind `start`.
fn header(line: &str, start: &str) -> (usize, u64) {
    let numbers = line.strip_prefix(start).and_then(|rest| rest.split_once(' '));
    let parsed = numbers.and_then(|(size, token)| Some((size.parse().ok()?, token.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("unexpected answer {line:?}"))
}

/// A blocking connection. A read that takes too long fails.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// To a server that is known to listen.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        Connection { stream: BufReader::new(stream) }
    }

    /// Sends all of `request`.
    pub(crate) fn send(&mut self, request: &[u8]) {
        self.stream.get_mut().write_all(request).expect("the connection is open");
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("an answer in time");
        assert!(line.ends_with(b"\r\n"), "the connection ended after {}", escape(&line));
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("ASCII")
    }

    /// A value of `size` bytes, with the line end behind it.
    fn value(&mut self, size: usize) -> String {
        let mut value = vec![0; size + 2];
        self.stream.read_exact(&mut value).expect("a whole value");
        assert!(value.ends_with(b"\r\n"), "{}", escape(&value));
        value.truncate(size);
        String::from_utf8(value).expect("ASCII")
    }

    fn ask_line(&mut self, request: &str) -> Result<String, Refused> {
        self.send(request.as_bytes());
        let line = self.line();
        if line.starts_with("SERVER_ERROR ") { Err(Refused(line)) } else { Ok(line) }
    }

    fn ask_frame(&mut self, request: &Frame) -> Result<Frame, Refused> {
        self.send(&request.bytes());
        let mut bytes = vec![0; HEADER];
        self.stream.read_exact(&mut bytes).expect("a whole header");
        let total = frame_length(&bytes).expect("a whole header");
        bytes.resize(total, 0);
        self.stream.read_exact(&mut bytes[HEADER..]).expect("a whole body");
        let reply = Frame::read(&bytes).expect("a whole frame").0;
        if status::REFUSALS.contains(&reply.status) {
            return Err(Refused(String::from_utf8_lossy(&reply.value).into_owned()));
        }
        Ok(reply)
    }

    /// A number among the `stats`.
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        self.send(b"stats\r\n");
        let mut found = None;
        loop {
            let line = self.line();
            if line == "END" {
                return found.unwrap_or_else(|| panic!("no stat {name}"));
            }
            if let Some(digits) = line.strip_prefix(&format!("STAT {name} ")) {
                found = Some(digits.parse().unwrap_or_else(|_| panic!("{line} is no number")));
            }
        }
    }
}
