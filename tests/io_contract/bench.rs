//! An engine on a bench: a handler that writes down what it is told, and the other ends of its connections.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcproxy::buffer::{Outbox, Spare};
use mcproxy::control::{Control, WorkerHandle};
use mcproxy::io::socket::{BackendAddress, Socket};
use mcproxy::io::{Action, ConnId, Failure, Handler, Io};
use mcproxy::proxy::message::Message;
use mcproxy::time::Time;

/// After this long without what it waits for a test has failed: nothing here takes a thousandth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How an engine is made.
pub(crate) trait Engine {
    type Io: Io;
    /// Polls in which everybody has had a turn, however many send without end.
    const TURNS: usize = 40;
    /// Bytes that come in one piece if they were sent so: what memcached reads at a time.
    const PIECE: usize = 16 << 10;

    fn make(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> Self::Io;
}

/// What a handler was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Now(Time),
    Accepted(ConnId),
    /// So many bytes; they are kept apart.
    Received(ConnId, usize),
    Eof(ConnId),
    Failed(ConnId, Failure),
    /// A buffer of so many bytes, of which so many were written.
    Sent(ConnId, usize, usize),
    /// A send goes on.
    Progress(ConnId),
    Connected(ConnId),
    Closed(ConnId),
    Resolved(usize, usize),
    Message(String),
}

impl Event {
    /// The connection it is about.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match *self {
            Event::Accepted(conn)
            | Event::Received(conn, _)
            | Event::Eof(conn)
            | Event::Failed(conn, _)
            | Event::Sent(conn, ..)
            | Event::Connected(conn)
            | Event::Closed(conn) => Some(conn),
            _ => None,
        }
    }
}

/// Writes down everything, and gives out identities: a place that is free again first, as the core does.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) events: Vec<Event>,
    /// Bytes received, by connection.
    received: Vec<(ConnId, Vec<u8>)>,
    /// What has come back of the last send.
    pub(crate) returned: Option<Outbox>,
    pub(crate) actions: bool,
    places: Vec<u32>,
    free: Vec<u32>,
}

impl Recorder {
    /// Everything that came from a connection, taken out.
    pub(crate) fn take(&mut self, conn: ConnId) -> Vec<u8> {
        let place = self.received.iter().position(|(from, _)| *from == conn);
        place.map(|place| self.received.swap_remove(place).1).unwrap_or_default()
    }

    fn received(&self, conn: ConnId) -> usize {
        self.received.iter().find(|(from, _)| *from == conn).map_or(0, |(_, bytes)| bytes.len())
    }
}

impl Handler for Recorder {
    fn handle_now(&mut self, now: Time) {
        self.events.push(Event::Now(now));
    }

    fn handle_accepted(&mut self) -> ConnId {
        let index = self.free.pop().unwrap_or(self.places.len() as u32);
        if index as usize == self.places.len() {
            self.places.push(0);
        }
        let conn = ConnId::client(index, self.places[index as usize]);
        self.events.push(Event::Accepted(conn));
        conn
    }

    fn handle_received(&mut self, conn: ConnId, bytes: &[u8]) {
        assert!(!bytes.is_empty(), "nothing is not worth telling");
        self.events.push(Event::Received(conn, bytes.len()));
        match self.received.iter_mut().find(|(from, _)| *from == conn) {
            Some((_, all)) => all.extend_from_slice(bytes),
            None => self.received.push((conn, bytes.to_vec())),
        }
    }

    fn handle_eof(&mut self, conn: ConnId) {
        self.events.push(Event::Eof(conn));
    }

    fn handle_failed(&mut self, conn: ConnId, failure: Failure) {
        self.events.push(Event::Failed(conn, failure));
    }

    fn handle_sent(&mut self, conn: ConnId, buffer: Outbox, written: usize) {
        self.events.push(Event::Sent(conn, buffer.len(), written));
        self.returned = Some(buffer);
    }

    fn handle_progress(&mut self, conn: ConnId) {
        self.events.push(Event::Progress(conn));
    }

    fn handle_connected(&mut self, conn: ConnId) {
        self.events.push(Event::Connected(conn));
    }

    fn handle_closed(&mut self, conn: ConnId) {
        self.events.push(Event::Closed(conn));
        if !conn.is_link() {
            self.places[conn.index()] += 1;
            self.free.push(conn.index() as u32);
        }
    }

    fn handle_resolved(&mut self, backend: usize, addresses: usize) {
        self.events.push(Event::Resolved(backend, addresses));
    }

    fn handle_message(&mut self, message: Message) {
        self.events.push(Event::Message(format!("{message:?}")));
    }

    fn has_actions(&self) -> bool {
        self.actions
    }
}

/// Which sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Tcp,
    Unix,
}

/// Both of them: every clause holds for either.
pub(crate) const FAMILIES: [Family; 2] = [Family::Tcp, Family::Unix];

/// Backends that an engine on the bench knows, by their places.
pub(crate) const TCP: usize = 0;
pub(crate) const UNIX: usize = 1;
pub(crate) const REFUSING: usize = 2;
pub(crate) const NOT_THERE: usize = 3;
pub(crate) const BY_NAME: usize = 4;

/// One engine, and the other side of everything.
pub(crate) struct Bench<E: Engine> {
    pub(crate) io: E::Io,
    pub(crate) told: Recorder,
    pub(crate) control: Arc<Control>,
    tcp: TcpListener,
    unix: UnixListener,
    path: PathBuf,
    /// Bound and not listening: a port that refuses, and that nobody else can take meanwhile.
    _refusing: socket2::Socket,
    links: u32,
}

impl<E: Engine> Bench<E> {
    pub(crate) fn new() -> Self {
        let (control, mut handles) = Control::new(1, vec![None; 5], crossbeam_channel::unbounded().0);
        Bench::with(control, handles.remove(0))
    }

    /// An engine for this handle.
    pub(crate) fn with(control: Arc<Control>, handle: WorkerHandle) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mcproxy-io-{}-{number}", std::process::id()));
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let unix = UnixListener::bind(&path).expect("a unix socket");
        let refusing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        refusing.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let refused = refusing.local_addr().unwrap().as_socket().unwrap();
        let addresses = vec![
            BackendAddress::Tcp(vec![tcp.local_addr().unwrap()]),
            BackendAddress::Unix(path.clone()),
            BackendAddress::Tcp(vec![refused]),
            BackendAddress::Unix(path.with_extension("none")),
            BackendAddress::Tcp(Vec::new()),
        ];
        let io = E::make(handle, addresses);
        Bench { io, told: Recorder::default(), control, tcp, unix, path, _refusing: refusing, links: 0 }
    }

    /// One poll. Between what became of actions and what is new it tells the time.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> &[Event] {
        let before = self.told.events.len();
        self.io.poll(timeout, &mut self.told).expect("the engine goes on");
        let events = &self.told.events[before..];
        let of_actions =
            |event: &&Event| matches!(event, Event::Sent(..) | Event::Failed(..) | Event::Closed(_));
        let next = events.iter().find(|event| !of_actions(event));
        assert!(matches!(next, None | Some(Event::Now(_))), "events begin with the time: {events:?}");
        events
    }

    /// Polls until `done`.
    pub(crate) fn poll_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "{what} never came; told: {:?}", self.last_events());
            self.poll(Some(Duration::from_millis(2)));
        }
    }

    /// Polls until it was told.
    pub(crate) fn await_event(&mut self, event: Event) {
        self.poll_until(&format!("{event:?}"), |bench| bench.told.events.contains(&event));
    }

    /// Polls until so many bytes have come from a connection since the last look, and gives all.
    pub(crate) fn await_bytes(&mut self, conn: ConnId, count: usize) -> Vec<u8> {
        self.poll_until(&format!("{count} bytes"), |bench| bench.told.received(conn) >= count);
        self.told.take(conn)
    }

    /// Polls until a fresh connection of its own has brought a byte: whatever was on its way before is told.
    pub(crate) fn fence(&mut self) {
        for _ in 0..3 {
            let (conn, mut peer) = self.client(Family::Unix);
            peer.write_all(b"x").expect("room for a byte");
            self.await_bytes(conn, 1);
            self.io.submit(Action::Close(conn));
            self.await_event(Event::Closed(conn));
        }
    }

    /// A client of the engine, and its other end.
    pub(crate) fn client(&mut self, family: Family) -> (ConnId, Peer) {
        let (socket, peer) = match family {
            Family::Tcp => {
                let address = self.tcp.local_addr().unwrap();
                let peer = TcpStream::connect(address).expect("a connection");
                let (stream, _) = self.tcp.accept().expect("a connection");
                stream.set_nonblocking(true).unwrap();
                (Socket::tcp(stream), Peer::Tcp(peer))
            }
            Family::Unix => {
                let (stream, peer) = UnixStream::pair().expect("a pair of sockets");
                stream.set_nonblocking(true).unwrap();
                (Socket::unix(stream), Peer::Unix(peer))
            }
        };
        self.control.place_client(socket);
        let before = self.told.events.len();
        let accepted = |event: &Event| match event {
            Event::Accepted(conn) => Some(*conn),
            _ => None,
        };
        let mut found = None;
        self.poll_until("a client", |bench| {
            found = bench.told.events[before..].iter().find_map(accepted);
            found.is_some()
        });
        (found.expect("it was found"), peer)
    }

    /// The identity of a link that has yet to be connected.
    pub(crate) fn link_id(&mut self) -> ConnId {
        self.links += 1;
        ConnId::link(self.links - 1, 0)
    }

    /// Starts a connect.
    pub(crate) fn connect(&mut self, backend: usize) -> ConnId {
        let conn = self.link_id();
        self.io.submit(Action::Connect { conn, backend, address: 0 });
        conn
    }

    /// A link of the engine that stands, and its other end.
    pub(crate) fn link(&mut self, family: Family) -> (ConnId, Peer) {
        let conn = self.connect(if family == Family::Tcp { TCP } else { UNIX });
        let peer = match family {
            Family::Tcp => Peer::Tcp(self.tcp.accept().expect("a connection").0),
            Family::Unix => Peer::Unix(self.unix.accept().expect("a connection").0),
        };
        self.await_event(Event::Connected(conn));
        (conn, peer)
    }

    /// The kernel holds as much as it may for clients that come from now on over TCP.
    pub(crate) fn widen(&mut self) {
        socket2::SockRef::from(&self.tcp).set_recv_buffer_size(4 << 20).expect("an option");
    }

    /// A client or a link, the clauses hold for either.
    pub(crate) fn either(&mut self, link: bool, family: Family) -> (ConnId, Peer) {
        if link { self.link(family) } else { self.client(family) }
    }

    /// What was told about a connection, its bytes and their pieces left out.
    pub(crate) fn about(&self, conn: ConnId) -> Vec<Event> {
        let all = self.told.events.iter().filter(|event| event.conn() == Some(conn));
        all.filter(|event| !matches!(event, Event::Received(..))).cloned().collect()
    }

    /// How often it was told.
    pub(crate) fn count(&self, event: &Event) -> usize {
        self.told.events.iter().filter(|told| *told == event).count()
    }

    /// Sends to a connection whose other end does not read, until that send cannot end. Gives its length.
    pub(crate) fn fill(&mut self, conn: ConnId) -> usize {
        let length = 32 << 20;
        self.io.submit(Action::Send { conn, buffer: outbox(&[pattern(0, length)]) });
        self.fence();
        assert!(!self.about(conn).iter().any(|event| matches!(event, Event::Sent(..))), "nobody reads it");
        length
    }

    fn last_events(&self) -> &[Event] {
        let events = &self.told.events;
        &events[events.len().saturating_sub(30)..]
    }
}

impl<E: Engine> Drop for Bench<E> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The other end of a connection. Blocking, unless said otherwise.
pub(crate) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Peer::Tcp(stream) => stream.write_all(bytes),
            Peer::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Writes what there is room for.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> usize {
        self.set_nonblocking(true);
        let wrote = match self {
            Peer::Tcp(stream) => stream.write(bytes),
            Peer::Unix(stream) => stream.write(bytes),
        };
        self.set_nonblocking(false);
        match wrote {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            other => other.expect("the other side is there"),
        }
    }

    /// Reads what is there; `None` at the end.
    pub(crate) fn read_some(&mut self, most: usize) -> Option<Vec<u8>> {
        self.set_nonblocking(true);
        let mut buffer = vec![0; most];
        let read = match self {
            Peer::Tcp(stream) => stream.read(&mut buffer),
            Peer::Unix(stream) => stream.read(&mut buffer),
        };
        self.set_nonblocking(false);
        match read {
            Ok(0) => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Vec::new()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            other => {
                buffer.truncate(other.expect("the other side is there"));
                Some(buffer)
            }
        }
    }

    /// Sends no more.
    pub(crate) fn shutdown(&mut self) {
        let how = std::net::Shutdown::Write;
        match self {
            Peer::Tcp(stream) => stream.shutdown(how),
            Peer::Unix(stream) => stream.shutdown(how),
        }
        .expect("it can be shut down");
    }

    /// Breaks the connection. A unix socket does so when it is closed with something unread, so there must
    /// be.
    pub(crate) fn reset(self) {
        if let Peer::Tcp(stream) = &self {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        drop(self);
    }

    fn set_nonblocking(&self, on: bool) {
        match self {
            Peer::Tcp(stream) => stream.set_nonblocking(on),
            Peer::Unix(stream) => stream.set_nonblocking(on),
        }
        .expect("an option");
    }
}

/// `count` bytes that tell where they are from, so that lost, doubled and moved ones are seen.
pub(crate) fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]).collect()
}

/// An outbox of pieces, each as the core would queue it: small ones copied, large ones moved.
pub(crate) fn outbox(pieces: &[Vec<u8>]) -> Outbox {
    let mut spare = Spare::new(1 << 16, 1 << 16);
    let mut outbox = Outbox::default();
    for (number, piece) in pieces.iter().enumerate() {
        if number % 2 == 0 {
            outbox.tail(&mut spare).extend_from_slice(piece);
        } else {
            outbox.push(Bytes::from(piece.clone()), &mut spare);
        }
    }
    outbox
}

/// The bytes of an outbox.
pub(crate) fn contents(outbox: &Outbox) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = outbox.slices(bytes.len(), &mut slices);
        if filled == 0 {
            return bytes;
        }
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
    }
}
