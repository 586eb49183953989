//! Gets, sets and deletes in each protocol, many in a row: what is asked, and what is told of each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use super::book::Book;
use super::support::binary::opcode::{DELETE, GETK, GETKQ, NOOP, SET};
use super::support::binary::status::{FOUND, NOT_FOUND, REFUSALS};
use super::support::binary::{Frame, HEADER, frame_length};
use super::support::counting::Protocol;
use super::support::inbox::PATIENCE;
use super::support::report::escape;
use super::values::{self, Key};

/// So much is taken by the kernel whether or not the other side reads, bytes.
const KERNEL_TAKES: usize = 16 << 10;

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// These keys at once, with their tokens or without.
    Get(Vec<Key>, bool),
    /// A version, and its size in bytes.
    Set(Key, u64, usize),
    /// Which is a version, too.
    Delete(Key, u64),
}

/// What is told of a request; of a get, of each of its keys.
#[derive(Debug)]
pub(crate) enum Told<'a> {
    /// A value with its flags.
    Value(Key, &'a [u8], u32),
    Missing(Key),
    /// Stored, or deleted, or there was nothing to delete.
    Done,
    /// An error in place of the answer, of the whole get or of one of its keys.
    Refused(&'a str),
}

/// Why there are no more answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection ended.
    Ended,
    /// What came cannot be.
    Wrong(String),
}

type Outcome = Result<(), Trouble>;

fn wrong<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Wrong(what.into()))
}

/// One connection.
pub(crate) struct Wire {
    protocol: Protocol,
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// To a server that is known to listen.
    pub(crate) fn open(address: SocketAddr, protocol: Protocol) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        Wire { protocol, stream: BufReader::with_capacity(64 << 10, stream) }
    }

    /// Sends all of `asks` and reads their answers; `told` hears each with the number of its request.
    pub(crate) fn ask(
        &mut self,
        book: &Book,
        asks: &[Ask],
        mut told: impl FnMut(usize, Told<'_>) -> Outcome,
    ) -> Outcome {
        let request: Vec<u8> = asks.iter().flat_map(|ask| compose(self.protocol, book, ask)).collect();
        let mut writing = self.stream.get_ref().try_clone().expect("a second handle");
        // A peer that has gone shows when its answers are read.
        let mut send = move || drop(writing.write_all(&request));
        thread::scope(|scope| {
            if asks.len() == 1 || request_is_small(asks) {
                send();
            } else {
                scope.spawn(send);
            }
            asks.iter().enumerate().try_for_each(|(number, ask)| {
                let mut told = |what: Told<'_>| told(number, what);
                match self.protocol {
                    Protocol::Text => self.text(book, ask, &mut told),
                    Protocol::Meta => self.meta(book, ask, &mut told),
                    Protocol::Binary => self.binary(book, ask, &mut told),
                }
            })
        })
    }

    fn text(&mut self, book: &Book, ask: &Ask, told: &mut impl FnMut(Told<'_>) -> Outcome) -> Outcome {
        match ask {
            Ask::Get(keys, _) => self.text_values(book, keys, told),
            Ask::Set(..) => self.one_line(&["STORED"], told),
            Ask::Delete(..) => self.one_line(&["DELETED", "NOT_FOUND"], told),
        }
    }

    /// Values in the order of the keys, then END; or one error in place of all.
    fn text_values(
        &mut self,
        book: &Book,
        keys: &[Key],
        told: &mut impl FnMut(Told<'_>) -> Outcome,
    ) -> Outcome {
        let (mut next, mut missing) = (0, Vec::new());
        loop {
            let line = self.line()?;
            if line == "END" {
                missing.extend(&keys[next..]);
                return missing.into_iter().try_for_each(|key| told(Told::Missing(key)));
            }
            if let Some(error) = refusal(&line) {
                return if next == 0 {
                    told(Told::Refused(error))
                } else {
                    wrong(format!("{line} after values"))
                };
            }
            let words: Vec<&str> = line.split(' ').collect();
            let ["VALUE", name, flags, size, ..] = words[..] else { return wrong(line) };
            let Some(at) = keys[next..].iter().position(|&key| book.name(key) == name) else {
                return wrong(format!("{line:?}, which was not asked for here"));
            };
            let (Ok(flags), Ok(size)) = (flags.parse(), size.parse()) else { return wrong(line) };
            let value = self.value(size)?;
            told(Told::Value(keys[next + at], &value, flags))?;
            missing.extend(&keys[next..next + at]);
            next += at + 1;
        }
    }

    fn meta(&mut self, book: &Book, ask: &Ask, told: &mut impl FnMut(Told<'_>) -> Outcome) -> Outcome {
        match ask {
            Ask::Get(keys, _) => self.meta_values(book, keys, told),
            Ask::Set(..) => self.one_line(&["HD"], told),
            Ask::Delete(..) => self.one_line(&["HD", "NF"], told),
        }
    }

    /// Answers in the order of the keys: of one key, in any case; of several, only hits and errors, then MN.
    fn meta_values(
        &mut self,
        book: &Book,
        keys: &[Key],
        told: &mut impl FnMut(Told<'_>) -> Outcome,
    ) -> Outcome {
        let (mut next, mut refused) = (0, false);
        loop {
            let line = self.line()?;
            match line.as_str() {
                "MN" if keys.len() > 1 => {
                    // With an error among them nobody knows which of the others are misses.
                    let rest = if refused { &[][..] } else { &keys[next..] };
                    return rest.iter().try_for_each(|&key| told(Told::Missing(key)));
                }
                miss if keys.len() == 1 && miss == format!("EN k{}", book.name(keys[0])) => {
                    return told(Told::Missing(keys[0]));
                }
                _ => {}
            }
            if let Some(error) = refusal(&line) {
                refused = true;
                told(Told::Refused(error))?;
            } else {
                let words: Vec<&str> = line.split(' ').collect();
                let ["VA", size, name, flags, ..] = words[..] else { return wrong(line) };
                let name = name.strip_prefix('k').unwrap_or_default();
                let Some(at) = keys[next..].iter().position(|&key| book.name(key) == name) else {
                    return wrong(format!("{line:?}, which was not asked for here"));
                };
                let flags = flags.strip_prefix('f').and_then(|flags| flags.parse().ok());
                let (Some(flags), Ok(size)) = (flags, size.parse()) else { return wrong(line) };
                let value = self.value(size)?;
                if !refused {
                    keys[next..next + at].iter().try_for_each(|&key| told(Told::Missing(key)))?;
                }
                told(Told::Value(keys[next + at], &value, flags))?;
                next += at + 1;
            }
            if keys.len() == 1 {
                return Ok(());
            }
        }
    }

    fn binary(&mut self, book: &Book, ask: &Ask, told: &mut impl FnMut(Told<'_>) -> Outcome) -> Outcome {
        let (keys, quiet) = match ask {
            Ask::Get(keys, _) => (&keys[..], keys.len() > 1),
            Ask::Set(..) | Ask::Delete(..) => {
                let reply = self.frame()?;
                let opcode = if matches!(ask, Ask::Set(..)) { SET } else { DELETE };
                return match reply.status {
                    _ if reply.opcode != opcode => wrong(reply.to_string()),
                    FOUND => told(Told::Done),
                    NOT_FOUND if opcode == DELETE => told(Told::Done),
                    status if REFUSALS.contains(&status) => told(Told::Refused(&words(&reply))),
                    _ => wrong(reply.to_string()),
                };
            }
        };
        let mut next = 0;
        loop {
            let reply = self.frame()?;
            if quiet && reply.opcode == NOOP {
                return keys[next..].iter().try_for_each(|&key| told(Told::Missing(key)));
            }
            let at = reply.opaque as usize;
            if reply.opcode != if quiet { GETKQ } else { GETK } || !(next..keys.len()).contains(&at) {
                return wrong(reply.to_string());
            }
            keys[next..at].iter().try_for_each(|&key| told(Told::Missing(key)))?;
            next = at + 1;
            match (reply.status, reply.extras.first_chunk()) {
                (FOUND, Some(&flags)) if reply.key == book.name(keys[at]).as_bytes() => {
                    told(Told::Value(keys[at], &reply.value, u32::from_be_bytes(flags)))?;
                }
                (NOT_FOUND, _) if !quiet => told(Told::Missing(keys[at]))?,
                (status, _) if REFUSALS.contains(&status) => told(Told::Refused(&words(&reply)))?,
                _ => return wrong(reply.to_string()),
            }
            if !quiet {
                return Ok(());
            }
        }
    }

    fn one_line(&mut self, good: &[&str], told: &mut impl FnMut(Told<'_>) -> Outcome) -> Outcome {
        let line = self.line()?;
        match refusal(&line) {
            Some(error) => told(Told::Refused(error)),
            None if good.contains(&line.as_str()) => told(Told::Done),
            None => wrong(format!("{line:?} where one of {good:?} is due")),
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        read.map_err(|error| trouble(&error))?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => String::from_utf8(line.to_vec()).or_else(|_| wrong(escape(line))),
            None if line.ends_with(b"\n") => wrong(escape(&line)),
            None => Err(Trouble::Ended),
        }
    }

    /// A value of `size` bytes, with the line end behind it.
    fn value(&mut self, size: usize) -> Result<Vec<u8>, Trouble> {
        if size > values::SIZE_MAX {
            return wrong(format!("a value of {size} bytes"));
        }
        let mut value = vec![0; size + 2];
        self.stream.read_exact(&mut value).map_err(|error| trouble(&error))?;
        match value.ends_with(b"\r\n") {
            true => Ok(value[..size].to_vec()),
            false => wrong(format!("a value that goes on: {}", escape(&value))),
        }
    }

    fn frame(&mut self) -> Result<Frame, Trouble> {
        let mut bytes = vec![0; HEADER];
        self.stream.read_exact(&mut bytes).map_err(|error| trouble(&error))?;
        let total =
            frame_length(&bytes).filter(|&total| bytes[0] == 0x81 && total <= values::SIZE_MAX + 1000);
        let Some(total) = total else { return wrong(escape(&bytes)) };
        bytes.resize(total, 0);
        self.stream.read_exact(&mut bytes[HEADER..]).map_err(|error| trouble(&error))?;
        Frame::read(&bytes).map(|(frame, _)| frame).map_or_else(|| wrong(escape(&bytes)), Ok)
    }
}

/// The words of an error, of those that may take the place of an answer.
fn refusal(line: &str) -> Option<&str> {
    line.starts_with("SERVER_ERROR ").then_some(line)
}

fn words(reply: &Frame) -> String {
    String::from_utf8_lossy(&reply.value).into_owned()
}

fn trouble(error: &std::io::Error) -> Trouble {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match error.kind() {
        TimedOut | WouldBlock => Trouble::Wrong(format!("nothing came for {PATIENCE:?}")),
        _ => Trouble::Ended,
    }
}

fn request_is_small(asks: &[Ask]) -> bool {
    let size = |ask: &Ask| match ask {
        Ask::Get(keys, _) => keys.len() * 300,
        Ask::Set(_, _, size) => size + 300,
        Ask::Delete(..) => 300,
    };
    asks.iter().map(size).sum::<usize>() <= KERNEL_TAKES
}

fn compose(protocol: Protocol, book: &Book, ask: &Ask) -> Vec<u8> {
    match (protocol, ask) {
        (Protocol::Text, Ask::Get(keys, tokens)) => {
            let names: Vec<&str> = keys.iter().map(|&key| book.name(key)).collect();
            format!("{} {}\r\n", if *tokens { "gets" } else { "get" }, names.join(" ")).into_bytes()
        }
        (Protocol::Text, &Ask::Set(key, version, size)) => {
            let value = values::compose(key, version, size);
            let line = format!("set {} {} 0 {}", book.name(key), values::flags(key, version), value.len());
            [line.as_bytes(), b"\r\n", &value, b"\r\n"].concat()
        }
        (Protocol::Text, &Ask::Delete(key, _)) => format!("delete {}\r\n", book.name(key)).into_bytes(),
        (Protocol::Meta, Ask::Get(keys, tokens)) => {
            let several = keys.len() > 1;
            let flags = [" v k f", if *tokens { " c" } else { "" }, if several { " q" } else { "" }].concat();
            let gets = keys.iter().map(|&key| format!("mg {}{flags}\r\n", book.name(key)));
            (gets.collect::<String>() + if several { "mn\r\n" } else { "" }).into_bytes()
        }
        (Protocol::Meta, &Ask::Set(key, version, size)) => {
            let value = values::compose(key, version, size);
            let line = format!("ms {} {} F{}", book.name(key), value.len(), values::flags(key, version));
            [line.as_bytes(), b"\r\n", &value, b"\r\n"].concat()
        }
        (Protocol::Meta, &Ask::Delete(key, _)) => format!("md {}\r\n", book.name(key)).into_bytes(),
        (Protocol::Binary, Ask::Get(keys, _)) => {
            let opcode = if keys.len() > 1 { GETKQ } else { GETK };
            let get = |(at, &key)| Frame::request(opcode, at as u32).key(book.name(key).as_bytes()).bytes();
            let mut gets: Vec<u8> = keys.iter().enumerate().flat_map(get).collect();
            if keys.len() > 1 {
                gets.extend(Frame::request(NOOP, 0).bytes());
            }
            gets
        }
        (Protocol::Binary, &Ask::Set(key, version, size)) => {
            let extras = [values::flags(key, version).to_be_bytes(), [0; 4]].concat();
            let set = Frame::request(SET, 0).extras(&extras).key(book.name(key).as_bytes());
            set.value(&values::compose(key, version, size)).bytes()
        }
        (Protocol::Binary, &Ask::Delete(key, _)) => {
            Frame::request(DELETE, 0).key(book.name(key).as_bytes()).bytes()
        }
    }
}
