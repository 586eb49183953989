//! A backend whose answers the test writes: a loopback listener that shows what the proxy sends.
//!
//! The proxy begins each link with the question who is there, `stats`. The mock checks that it does, answers it by
//! itself, and shows only what comes behind it.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::binary::{Frame, HEADER, frame_length, opcode};
use super::client::write_in_pieces;
use super::inbox::{End, Inbox, PATIENCE};
use super::report::{escape, same};

/// Between two looks at several connections at once.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// The first line on a text link.
const STATS_LINE: &[u8] = b"stats\r\n";

/// How a mock behaves without being told step by step.
#[derive(Clone)]
pub(crate) struct Manner {
    /// The version it says to be, or `None` for one that accepts and never answers that question.
    pub(crate) version: Option<&'static str>,
    /// It does not say which process it is.
    pub(crate) nameless: bool,
    /// Answers whole lines by itself; nothing of them is left for the test to take.
    pub(crate) lines: Option<LineServer>,
}

/// From a line (without its end) to what becomes of it.
pub(crate) type LineServer = Arc<dyn Fn(&[u8]) -> Served + Send + Sync>;

/// What a [`LineServer`] does.
pub(crate) enum Served {
    /// Sends this.
    Answer(Vec<u8>),
    /// Sends this and closes the link.
    AnswerAndClose(Vec<u8>),
}

impl Default for Manner {
    fn default() -> Self {
        Manner { version: Some("1.6.18"), nameless: false, lines: None }
    }
}

/// A backend under the test's control.
pub(crate) struct Mock {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    manner: Manner,
    links: Mutex<Vec<Arc<Link>>>,
    stop: AtomicBool,
}

/// One connection that the proxy opened.
pub(crate) struct Link {
    stream: TcpStream,
    inbox: Arc<Inbox>,
    history: Mutex<Vec<u8>>,
    fault: Mutex<Option<String>>,
}

impl Mock {
    /// Listens on a port of the kernel's choice.
    pub(crate) fn start() -> Self {
        Mock::with(Manner::default())
    }

    /// The same with manners of its own.
    pub(crate) fn with(manner: Manner) -> Self {
        Mock::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), manner)
    }

    /// Listens on this address, for a backend that comes back.
    pub(crate) fn listen(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { manner, links: Mutex::default(), stop: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accepting.accept_from(&listener));
        Mock { address, shared, acceptor: Some(acceptor) }
    }

    /// Takes the next bytes that the proxy sends on any link, as many as `expected` has, and compares; gives
    /// the link they came on.
    pub(crate) fn expect(&self, expected: &[u8]) -> Result<Arc<Link>, String> {
        let link = self.asked().map_err(|problem| format!("waiting for {}: {problem}", escape(expected)))?;
        link.expect(expected)?;
        Ok(link)
    }

    /// The link on which requests wait to be taken.
    pub(crate) fn asked(&self) -> Result<Arc<Link>, String> {
        which_is_asked(&[self]).map(|(_, link)| link)
    }

    /// Fails if any link holds request bytes that were not taken, or began wrongly.
    pub(crate) fn nothing_left(&self) -> Result<(), String> {
        for link in self.shared.links().iter() {
            link.without_fault()?;
            let left = link.inbox.peek().got;
            if !left.is_empty() {
                return Err(format!("left unread at the backend: {}", escape(&left)));
            }
        }
        Ok(())
    }

    /// How often `needle` occurs in all requests that ever came.
    pub(crate) fn times_seen(&self, needle: &[u8]) -> usize {
        let count = |link: &Arc<Link>| {
            let history = link.history.lock().expect("no holder panicked");
            history.windows(needle.len()).filter(|window| *window == needle).count()
        };
        self.shared.links().iter().map(count).sum()
    }

    /// Ends every link, as a server does that dies; new ones are still accepted.
    pub(crate) fn end_links(&self) {
        for link in self.shared.links().iter() {
            link.close();
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the acceptor so that it sees the flag.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.end_links();
    }
}

/// The first of `mocks` on which requests wait, and the link they came on.
pub(crate) fn which_is_asked(mocks: &[&Mock]) -> Result<(usize, Arc<Link>), String> {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        for (index, mock) in mocks.iter().enumerate() {
            for link in mock.shared.links().iter() {
                link.without_fault()?;
                if link.inbox.has_bytes() {
                    return Ok((index, Arc::clone(link)));
                }
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Err("the backend sees no request".to_owned())
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().expect("no holder panicked")
    }

    fn accept_from(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Ok(reading) = stream.try_clone() else { continue };
            let _ = stream.set_nodelay(true);
            let _ = stream.set_write_timeout(Some(PATIENCE));
            let inbox = Arc::new(Inbox::default());
            let link = Arc::new(Link {
                stream,
                inbox: Arc::clone(&inbox),
                history: Mutex::default(),
                fault: Mutex::default(),
            });
            self.links().push(Arc::clone(&link));
            let mut reader = Reader { link, manner: self.manner.clone(), unread: Vec::new(), greeted: false };
            inbox.fill_from(reading, move |_, piece| reader.feed(piece));
        }
    }
}

impl Link {
    /// Takes as many bytes as `expected` has, and compares.
    pub(crate) fn expect(&self, expected: &[u8]) -> Result<(), String> {
        match self.inbox.take(expected.len()) {
            Ok(got) => same("backend sees", expected, &got),
            Err(shortfall) => Err(format!("backend waits for {}: {shortfall}", escape(expected))),
        }
    }

    /// Takes one binary request.
    pub(crate) fn take_frame(&self) -> Result<Frame, String> {
        let whole = |bytes: &[u8]| frame_length(bytes).filter(|&total| bytes.len() >= total);
        let bytes = self
            .inbox
            .take_when(PATIENCE, |bytes, _| whole(bytes))
            .map_err(|shortfall| format!("backend waits for a frame: {shortfall}"))?;
        let (frame, _) = Frame::read(&bytes).ok_or_else(|| format!("no frame: {}", escape(&bytes)))?;
        Ok(frame)
    }

    /// Sends to the proxy.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let _ = (&self.stream).write_all(bytes);
    }

    /// Sends to the proxy in pieces that end at `cuts`, ascending.
    pub(crate) fn send_in_pieces(&self, bytes: &[u8], cuts: &[usize]) {
        write_in_pieces(&self.stream, bytes, cuts);
    }

    /// Closes the link, both directions.
    pub(crate) fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until the proxy has ended the link, or its sending side; nothing may come before.
    pub(crate) fn expect_end(&self) -> Result<End, String> {
        match self.inbox.take_to_end() {
            Ok((bytes, end)) if bytes.is_empty() => Ok(end),
            Ok((bytes, _)) => Err(format!("backend sees {} where the link ends", escape(&bytes))),
            Err(shortfall) => Err(format!("backend waits for the link's end: {shortfall}")),
        }
    }

    fn without_fault(&self) -> Result<(), String> {
        match self.fault.lock().expect("no holder panicked").as_ref() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }
}

/// What a mock says of itself.
fn stats(version: &str, nameless: bool) -> Vec<(&str, &str)> {
    let all = [("version", version), ("pid", "1"), ("uptime", "100"), ("time", "1100")];
    if nameless { all[..1].to_vec() } else { all.to_vec() }
}

/// The reading side of a link: takes the first question out of what comes.
struct Reader {
    link: Arc<Link>,
    manner: Manner,
    unread: Vec<u8>,
    greeted: bool,
}

impl Reader {
    fn feed(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
        if !self.greeted && !self.greet() {
            return;
        }
        self.link.history.lock().expect("no holder panicked").extend_from_slice(&self.unread);
        match self.manner.lines.clone() {
            None => self.link.inbox.push(&std::mem::take(&mut self.unread)),
            Some(server) => self.serve(&*server),
        }
    }

    /// Reads the question who is there; true once it is there. A wrong one is the link's fault.
    fn greet(&mut self) -> bool {
        let binary = self.unread.first() == Some(&0x80);
        let length = if binary { HEADER } else { STATS_LINE.len() };
        if self.unread.len() < length {
            return false;
        }
        let question: Vec<u8> = self.unread.drain(..length).collect();
        let answer = if binary { self.greet_binary(&question) } else { self.greet_text(&question) };
        match answer {
            Ok(answer) => self.link.send(&answer),
            Err(fault) => *self.link.fault.lock().expect("no holder panicked") = Some(fault),
        }
        self.greeted = true;
        true
    }

    fn greet_text(&self, question: &[u8]) -> Result<Vec<u8>, String> {
        same("a text link begins", STATS_LINE, question)?;
        let Some(version) = self.manner.version else { return Ok(Vec::new()) };
        let stats = stats(version, self.manner.nameless);
        let lines: String = stats.iter().map(|(name, value)| format!("STAT {name} {value}\r\n")).collect();
        Ok(format!("{lines}END\r\n").into_bytes())
    }

    fn greet_binary(&self, question: &[u8]) -> Result<Vec<u8>, String> {
        let opaque = Frame::read(question).map(|(frame, _)| frame.opaque).unwrap_or_default();
        same("a binary link begins", &Frame::request(opcode::STAT, opaque).bytes(), question)?;
        let Some(version) = self.manner.version else { return Ok(Vec::new()) };
        let reply = || Frame::reply(opcode::STAT, 0, opaque);
        let stat = |(name, value): (&str, &str)| reply().key(name.as_bytes()).value(value.as_bytes()).bytes();
        let stats: Vec<u8> = stats(version, self.manner.nameless).into_iter().flat_map(stat).collect();
        Ok([stats, reply().bytes()].concat())
    }

    fn serve(&mut self, server: &dyn Fn(&[u8]) -> Served) {
        while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            match server(&line[..end]) {
                Served::Answer(answer) => self.link.send(&answer),
                Served::AnswerAndClose(answer) => {
                    self.link.send(&answer);
                    self.link.close();
                    return;
                }
            }
        }
    }
}
