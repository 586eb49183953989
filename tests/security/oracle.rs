//! A proxy whose links are listened to, and a memcached that says how many answers each link's bytes get.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::support::binary::{Frame, frame_length};
use super::support::client::Client;
use super::support::inbox::PATIENCE;
use super::support::process::Server;
use super::support::relay::Relay;
use super::support::report::escape;

/// The last request that the oracle is asked in text. Its answer shows that what came before was not waited
/// for.
const TEXT_FENCE: &[u8] = b"mg ~fence~ k Ofence\r\n";
const TEXT_FENCE_ANSWER: &[u8] = b"EN k~fence~ Ofence\r\n";

/// The same in binary: Noop.
const BINARY_FENCE: u8 = 0x0a;
const BINARY_FENCE_OPAQUE: u32 = 0xfe9c_e000;

/// A proxy with one worker, a memcached behind it, and another one as the oracle.
pub(crate) struct Watched {
    _memcached: Server,
    oracle: Server,
    _relay: Relay,
    pub(crate) proxy: Server,
    links: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What the proxy has written on one link for one client.
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    binary: bool,
}

impl Watched {
    pub(crate) fn start() -> Self {
        let (memcached, oracle) = (Server::memcached(), Server::memcached());
        let links: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = Arc::clone(&links);
        let watch = move |number: usize, piece: &[u8]| {
            let mut links = seen.lock().expect("no holder panicked");
            if links.len() <= number {
                links.resize(number + 1, Vec::new());
            }
            links[number].extend_from_slice(piece);
        };
        let relay = Relay::watching(memcached.address, Arc::new(watch));
        let proxy =
            Server::mcproxy(&format!("{}@s0", relay.address), &["--threads", "1", "--timeout", "30s"]);
        let watched = Watched { _memcached: memcached, oracle, _relay: relay, proxy, links };
        // Both links, so that later ones are later.
        watched.play(b"mg begin\r\n");
        watched.play(&Frame::request(0x00, 1).key(b"begin").bytes());
        watched
    }

    /// A client sends this, says that there is no more, and reads to the end. Gives what it has read and what
    /// the proxy has written for it on each link; counts the requests that it takes that to be.
    pub(crate) fn play(&self, input: &[u8]) -> (Vec<u8>, Vec<Written>, u64) {
        let lengths: Vec<usize> = self.lock().iter().map(Vec::len).collect();
        let before = stat(self.proxy.address, "backend_requests");
        let client = Client::connect(self.proxy.address);
        client.send(input);
        client.half_close();
        let (answer, _) = client
            .inbox
            .take_to_end()
            .unwrap_or_else(|short| panic!("{}: the proxy does not end: {short}", escape(input)));
        let requests = stat(self.proxy.address, "backend_requests") - before;
        let written = |(number, link): (usize, &Vec<u8>)| {
            let start = lengths.get(number).copied().unwrap_or(0);
            Written { bytes: link[start..].to_vec(), binary: link.first() == Some(&0x80) }
        };
        (answer, self.lock().iter().enumerate().map(written).collect(), requests)
    }

    /// Fails if a memcached, fed byte by byte with what the proxy has written for this client, gives another
    /// number of answers than the proxy waits for, or ends the connection.
    pub(crate) fn check(&self, input: &[u8]) -> Result<(), String> {
        let (_, written, requests) = self.play(input);
        let (mut least, mut most) = (0, 0);
        for link in &written {
            let answers = self
                .answers_to(link)
                .map_err(|problem| format!("{} became {}: {problem}", escape(input), escape(&link.bytes)))?;
            // A quiet `ma` that may create goes out as it is with an `mn` behind it, and may or may not be
            // heard.
            let fences = count(&link.bytes, b" q\r\nmn\r\n");
            least += answers.saturating_sub(fences);
            most += answers;
        }
        if (least..=most).contains(&requests) {
            return Ok(());
        }
        let shown: Vec<String> = written.iter().map(|link| escape(&link.bytes)).collect();
        let all = shown.join(" and ");
        Err(format!("{} became {all}: {requests} requests, and {most} answers", escape(input)))
    }

    /// So many links were ever opened: a backend that closes one makes it more.
    pub(crate) fn links(&self) -> usize {
        self.lock().len()
    }

    /// How many answers the oracle gives before it comes to the fence.
    fn answers_to(&self, written: &Written) -> Result<u64, String> {
        if written.bytes.is_empty() {
            return Ok(0);
        }
        let fence = match written.binary {
            true => Frame::request(BINARY_FENCE, BINARY_FENCE_OPAQUE).bytes(),
            false => TEXT_FENCE.to_vec(),
        };
        let answer = feed(self.oracle.address, &[&written.bytes[..], &fence].concat())?;
        let answers = if written.binary { binary_answers(&answer) } else { text_answers(&answer) };
        answers.ok_or_else(|| format!("no fence in {}", escape(&answer)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.links.lock().expect("no holder panicked")
    }
}

/// Sends byte by byte, and reads to the end.
fn feed(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("memcached listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
    // Of what is long, only the start and the end: requests begin and end there.
    let (head, tail) = (bytes.len().min(600), bytes.len().saturating_sub(600).max(bytes.len().min(600)));
    let pieces = bytes[..head].chunks(1).chain([&bytes[head..tail]]).chain(bytes[tail..].chunks(1));
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            return Err("memcached has closed the connection".to_owned());
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => Ok(answer),
        Err(error) => Err(format!("{error} after {}", escape(&answer))),
    }
}

/// Answers before the fence's, which must be the last: `VALUE`s belong to the line behind them.
fn text_answers(mut answer: &[u8]) -> Option<u64> {
    let mut count = 0;
    while let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") {
        let (line, rest) = (&answer[..end], &answer[end + 2..]);
        if rest.is_empty() {
            return (answer == TEXT_FENCE_ANSWER).then_some(count);
        }
        let line = String::from_utf8_lossy(line);
        let words: Vec<&str> = line.split(' ').collect();
        let size = match words[0] {
            "VALUE" => words.get(3),
            "VA" => words.get(1),
            _ => None,
        };
        let size = size.and_then(|size| size.parse::<usize>().ok());
        answer = rest.get(size.map_or(0, |size| size + 2)..)?;
        count += u64::from(words[0] != "VALUE");
    }
    None
}

/// The same in binary.
fn binary_answers(mut answer: &[u8]) -> Option<u64> {
    let mut count = 0;
    loop {
        let total = frame_length(answer)?;
        let (frame, _) = Frame::read(answer)?;
        answer = &answer[total..];
        if (frame.opcode, frame.opaque) == (BINARY_FENCE, BINARY_FENCE_OPAQUE) {
            return answer.is_empty().then_some(count);
        }
        count += 1;
    }
}

fn count(bytes: &[u8], needle: &[u8]) -> u64 {
    bytes.windows(needle.len()).filter(|window| *window == needle).count() as u64
}

fn stat(address: SocketAddr, name: &str) -> u64 {
    let client = Client::connect(address);
    client.send(b"stats\r\n");
    let answer = client.inbox.take_until(b"END\r\n").expect("stats");
    let text = String::from_utf8(answer).expect("stats are text");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// What is written to a memcached as if by a careless proxy is found by its answers.
#[test]
fn canary_requests_that_are_answered_twice_or_never_are_found() {
    let oracle = Server::memcached();
    let answers = |bytes: &[u8]| {
        feed(oracle.address, &[bytes, TEXT_FENCE].concat()).ok().and_then(|answer| text_answers(&answer))
    };
    assert_eq!(answers(b"set key 0 0 2\r\nmn\r\n"), Some(1));
    assert_eq!(answers(b"get key key missing\r\n"), Some(1));
    assert_eq!(answers(b"mg key v\r\nget x\r\n"), Some(2));
    assert_eq!(answers(b""), Some(0));
    // No answer; two; the fence is swallowed; the connection ends.
    assert_eq!(answers(b"set key 0 0 2 noreply\r\nmn\r\n"), Some(0));
    assert_eq!(answers(b"ms key 7x\r\nflush_all\r\n"), Some(2));
    assert_eq!(answers(b"set key 0 0 100\r\nmn\r\n"), None);
    assert_eq!(answers(b"quit\r\n"), None);
    let frame = |opcode| Frame::request(opcode, 5).bytes();
    let fence = Frame::request(BINARY_FENCE, BINARY_FENCE_OPAQUE).bytes();
    let answers = |bytes: Vec<u8>| {
        feed(oracle.address, &[bytes, fence.clone()].concat()).ok().and_then(|answer| binary_answers(&answer))
    };
    assert_eq!(answers(frame(0x0b)), Some(1));
    assert_eq!(answers(Frame::request(0x09, 5).key(b"missing").bytes()), Some(0));
    assert_eq!(answers(frame(0x17)), None);
}
