//! What these tests share: the proxy as a process that can be signalled and waited for, a connection that reads
//! only when it is told to, backends that are not there, and which key lives where.

// Other test programs use it too, each a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcproxy::placement::{Placement, Server as PlacedServer};
use socket2::{Domain, Socket, Type};

use super::support::binary::{Frame, HEADER, frame_length};
use super::support::engine;
use super::support::inbox::PATIENCE;
use super::support::process::{Server, free_address, named_backends};
use super::support::report::escape;

/// Between two looks at something that changes by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcproxy");

/// What the times are that a test has not asked for: longer than it waits, so that a machine however slow does not
/// make errors of its own.
const NO_TIMEOUT: &str = "1m";

/// Bytes of what it wrote to stderr that a failure shows: the last ones.
const STDERR_SHOWN: usize = 20_000;

/// A running mcproxy, killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    command: String,
    /// The TCP addresses it says it listens at, in the order of `--listen`; `None` for all addresses.
    pub(crate) ports: Vec<u16>,
    stdout: Printed,
    stderr: Printed,
}

/// What a child writes, gathered by a thread of its own.
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of `backends`, listening at a port of the kernel's choice on 127.0.0.1.
    pub(crate) fn start(backends: &str, arguments: &[&str]) -> Self {
        Proxy::listening(&["127.0.0.1:0"], backends, arguments)
    }

    /// The same, listening at each of `listen`.
    pub(crate) fn listening(listen: &[&str], backends: &str, arguments: &[&str]) -> Self {
        Proxy::spawn(listen, backends, arguments).when_it_listens(listen.len())
    }

    /// The same without waiting until it listens, for one that is not to come so far.
    pub(crate) fn spawn(listen: &[&str], backends: &str, arguments: &[&str]) -> Self {
        Proxy::spawn_by(Command::new(PROGRAM), listen, backends, arguments)
    }

    /// In front of `backends`, with so many descriptors at most, which it cannot raise.
    pub(crate) fn with_descriptors(limit: usize, backends: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\""), PROGRAM]);
        Proxy::spawn_by(shell, &["127.0.0.1:0"], backends, arguments).when_it_listens(1)
    }

    /// With so many pools as a file of twemproxy's has them.
    pub(crate) fn of_file(file: &Path, pools: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("--nutcracker").arg(file).args(arguments);
        Proxy::by(command).when_it_listens(pools)
    }

    /// One that `command` starts, with further arguments.
    pub(crate) fn spawn_by(
        mut command: Command,
        listen: &[&str],
        backends: &str,
        arguments: &[&str],
    ) -> Self {
        for at in listen {
            command.args(["--listen", at]);
        }
        command.args(["--backends", backends]).args(arguments);
        for flag in ["--timeout", "--connect-timeout"] {
            if !arguments.contains(&flag) {
                command.args([flag, NO_TIMEOUT]);
            }
        }
        Proxy::by(command)
    }

    fn by(mut command: Command) -> Self {
        engine::choose(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Printed::by(child.stdout.take().expect("piped"));
        let stderr = Printed::by(child.stderr.take().expect("piped"));
        Proxy { child, command: format!("{command:?}"), ports: Vec::new(), stdout, stderr }
    }

    /// The address of its first TCP listener.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0]))
    }

    /// A new client of its first TCP listener.
    pub(crate) fn client(&self) -> Talk {
        Talk::tcp(self.address())
    }

    /// What it wrote to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until a line of its log contains all of `words`, and gives it.
    pub(crate) fn log_line(&self, words: &[&str]) -> String {
        eventually(&format!("a log line with {words:?}"), || {
            let log = self.stderr();
            let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
            log.lines().find(has_all).map(str::to_owned)
        })
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name without `SIG`.
    pub(crate) fn signal(&self, signal: &str) {
        send_signal(self.id(), signal);
    }

    /// Waits until it has ended, and its output with it.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let command = self.command.clone();
        let child = &mut self.child;
        let ended = || child.try_wait().expect("the child's status");
        let status = eventually(&format!("{command} ends"), ended);
        for printed in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = printed.reader.take() {
                let _ = reader.join();
            }
        }
        status
    }

    pub(crate) fn when_it_listens(mut self, listeners: usize) -> Self {
        eventually("mcproxy listens", || {
            if let Some(status) = self.child.try_wait().expect("the child's status") {
                panic!("{} ended: {status}; stderr: {}", self.command, self.stderr());
            }
            (self.announced().len() >= listeners).then_some(())
        });
        self.ports = self.announced().iter().filter_map(|at| at.rsplit_once(':')?.1.parse().ok()).collect();
        self
    }

    fn announced(&self) -> Vec<String> {
        let log = self.stderr();
        let at = |line: &str| Some(line.split_once("listening on ")?.1.trim().to_owned());
        log.lines().filter_map(at).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let errors = self.stderr();
            let start = errors.ceil_char_boundary(errors.len().saturating_sub(STDERR_SHOWN));
            eprintln!("{}\nstderr: {}", self.command, &errors[start..]);
        }
    }
}

impl Printed {
    fn by(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                gathered.lock().expect("no holder panicked").extend_from_slice(&piece[..count]);
            }
        });
        Printed { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder panicked")).into_owned()
    }
}

/// One connection to a server. It reads only when it is asked to, so that it can be slow on purpose.
pub(crate) struct Talk {
    stream: Socket,
    /// Received and not taken.
    unread: Vec<u8>,
    /// The end of what was sent last, for messages.
    sent: Vec<u8>,
}

impl Talk {
    /// Connects to a server that is known to listen.
    #[track_caller]
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Talk::over(stream.into())
    }

    /// The same, with little room in the kernel for what was not read.
    #[track_caller]
    pub(crate) fn with_little_room(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("SO_RCVBUF");
        socket.connect_timeout(&address.into(), PATIENCE).expect("connect");
        Talk::over(socket)
    }

    /// Connects to a unix socket.
    #[track_caller]
    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Talk::over(stream.into())
    }

    fn over(stream: Socket) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        Talk { stream, unread: Vec::new(), sent: Vec::new() }
    }

    /// Sends all of `bytes`, in one write if the kernel takes them.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.sent = bytes.to_vec();
        self.stream.write_all(bytes).unwrap_or_else(|error| panic!("sending {}: {error}", escape(bytes)));
    }

    /// Sends to a peer that may be gone already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.sent = bytes.as_ref().to_vec();
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `request` and takes the line that answers it, without its end.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.send(request);
        self.line()
    }

    /// Sends `request`; its answer must be `answer`, and nothing behind it.
    #[track_caller]
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        self.send(request);
        self.expect(answer);
    }

    /// Sends a binary request and takes its reply.
    #[track_caller]
    pub(crate) fn ask_frame(&mut self, request: &Frame) -> Frame {
        self.send(request.bytes());
        self.frame()
    }

    /// The next bytes must be `expected`.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut same = 0;
        while same < expected.len() {
            let now = self.unread.len().min(expected.len());
            // Stops at the first byte that differs, so that a wrong answer is shown and not waited out.
            if self.unread[same..now] != expected[same..now] {
                let (sent, got) = (escape(&self.sent), escape(&self.unread));
                panic!("sent {sent}, expected {}, got {got}", escape(expected));
            }
            same = now;
            if same < expected.len()
                && let Err(end) = self.read_more()
            {
                let (sent, got) = (escape(&self.sent), escape(&self.unread));
                panic!("{end}: sent {sent}, expected {}, got {got}", escape(expected));
            }
        }
        self.unread.drain(..expected.len());
    }

    /// The next line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let line = self.take_when("a line", |unread| {
            unread.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2)
        });
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// The next binary reply.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        let frame = self.take_when("a binary reply", |unread| {
            if unread.first().is_some_and(|&byte| byte != 0x81) {
                return Some(unread.len());
            }
            frame_length(unread).filter(|&total| unread.len() >= total)
        });
        match Frame::read(&frame) {
            Some((read, _)) if frame.len() >= HEADER => read,
            _ => panic!("sent {}, got no binary reply but {}", escape(&self.sent), escape(&frame)),
        }
    }

    /// All that comes up to `marker`, with it.
    #[track_caller]
    pub(crate) fn until(&mut self, marker: &[u8]) -> Vec<u8> {
        let mut searched = 0;
        self.take_when(&format!("{} at last", escape(marker)), |unread| {
            let from = searched.min(unread.len());
            let found = unread[from..].windows(marker.len()).position(|window| window == marker);
            searched = unread.len().saturating_sub(marker.len() - 1);
            found.map(|at| from + at + marker.len())
        })
    }

    /// All that still comes before the peer closes the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(End::Closed) => return std::mem::take(&mut self.unread),
                Err(end) => {
                    panic!("{end}, not closed: sent {}, got {}", escape(&self.sent), escape(&self.unread))
                }
            }
        }
    }

    /// The peer must close the connection, and send nothing before.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "before the end came {}", escape(&rest));
    }

    /// What came first, or how the connection ended: for a server that may do either.
    pub(crate) fn first_line_or_end(&mut self) -> Result<String, End> {
        while !self.unread.ends_with(b"\r\n") {
            self.read_more()?;
        }
        Ok(self.line())
    }

    /// Waits until something comes, and throws it away.
    pub(crate) fn skip(&mut self) -> Result<(), End> {
        self.unread.clear();
        self.read_more()
    }

    /// Says that nothing more will be sent; still reads.
    pub(crate) fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        self.stream.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// True if nothing has come by now, the end of the connection included.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("non-blocking");
        let end = self.read_more().err();
        self.stream.set_nonblocking(false).expect("blocking");
        self.unread.is_empty() && end == Some(End::Silent)
    }

    #[track_caller]
    fn take_when(&mut self, what: &str, mut ready: impl FnMut(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(count) = ready(&self.unread) {
                return self.unread.drain(..count).collect();
            }
            if let Err(end) = self.read_more() {
                let (sent, got) = (escape(&self.sent), escape(&self.unread));
                panic!("{end}: sent {sent}, waited for {what}, got only {got}");
            }
        }
    }

    fn read_more(&mut self) -> Result<(), End> {
        let mut piece = [0; 64 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    self.unread.extend_from_slice(&piece[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(End::Silent);
                }
                Err(_) => return Err(End::Reset),
            }
        }
    }
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed the connection.
    Closed,
    /// The peer reset it.
    Reset,
    /// Nothing came for as long as a test waits.
    Silent,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            End::Closed => "the connection was closed",
            End::Reset => "the connection was reset",
            End::Silent => "nothing came for a long time",
        })
    }
}

/// Three memcacheds that are called s0, s1 and s2, in this order.
pub(crate) fn three_memcacheds() -> [Server; 3] {
    [Server::memcached(), Server::memcached(), Server::memcached()]
}

/// The list for `--backends` of servers called s0, s1, and so on.
pub(crate) fn list_of(servers: &[Server]) -> String {
    named_backends(&servers.iter().map(|server| server.address).collect::<Vec<_>>())
}

/// A memcached at a unix socket, killed when dropped.
pub(crate) struct UnixMemcached {
    child: Child,
}

impl UnixMemcached {
    /// Starts it and waits until it listens.
    pub(crate) fn start(path: &Path) -> Self {
        let mut command = Command::new("memcached");
        command.args(["-u", "nobody", "-t", "1", "-a", "0777", "-s"]).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        eventually(&format!("{command:?} listens"), || {
            if let Some(status) = child.try_wait().expect("the child's status") {
                panic!("{command:?} ended: {status}");
            }
            UnixStream::connect(path).is_ok().then_some(())
        });
        UnixMemcached { child }
    }
}

impl Drop for UnixMemcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address where nobody listens, and nobody else can while this lives: connecting there is refused.
pub(crate) struct Nobody {
    /// The address.
    pub(crate) address: SocketAddr,
    _holder: Socket,
}

impl Nobody {
    /// One on 127.0.0.1, at a port that the kernel gives nobody between this and a memcached there.
    pub(crate) fn there() -> Self {
        let address = free_address();
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        holder.bind(&address.into()).expect("a loopback port");
        Nobody { address, _holder: holder }
    }

    /// Starts a memcached there.
    pub(crate) fn replaced_by_memcached(self) -> Server {
        let address = self.address;
        drop(self);
        Server::memcached_at(address, &[])
    }
}

/// An address that neither answers nor refuses a connect: a listener that accepts nothing and whose queue is
/// full, so that the kernel drops every further SYN.
pub(crate) struct BlackHole {
    /// The address.
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    /// One on 127.0.0.1.
    pub(crate) fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a loopback port");
        listener.listen(0).expect("listen");
        let address = listener.local_addr().expect("bound");
        // The queue holds one connection more than was asked for; the others see to it that it stays full.
        let queued: Vec<Socket> = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                socket.set_nonblocking(true).expect("non-blocking");
                let _ = socket.connect(&address);
                socket
            })
            .collect();
        eventually("the listener's queue is full", || {
            let connected = queued.iter().filter(|socket| socket.peer_addr().is_ok()).count();
            (connected > 0).then_some(())
        });
        let address = address.as_socket().expect("an IP address");
        BlackHole { address, _listener: listener, _queued: queued }
    }
}

/// A process that was stopped by SIGSTOP; it goes on when this is dropped.
pub(crate) struct Frozen {
    id: u32,
}

impl Frozen {
    /// Stops the process and waits until every thread of it stands still.
    pub(crate) fn freeze(id: u32) -> Self {
        send_signal(id, "STOP");
        let frozen = Frozen { id };
        eventually(&format!("all threads of process {id} stand still"), || {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("the process's threads");
            let stopped = |task: &Path| {
                let status = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
                // The state follows the name, which stands in parentheses.
                status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            };
            tasks.flatten().all(|task| stopped(&task.path())).then_some(())
        });
        frozen
    }

    /// Lets it go on.
    pub(crate) fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        send_signal(self.id, "CONT");
    }
}

fn send_signal(id: u32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status();
    // A process that has ended meanwhile needs no signal; the test finds out by itself.
    assert!(sent.is_ok(), "kill(1) is missing: {sent:?}");
}

/// Keys with the `wanted` owner among backends called s0, s1, ...: as many as are asked for, each starting with
/// `prefix`.
pub(crate) fn keys_of(wanted: usize, of: usize, prefix: &str, count: usize) -> Vec<String> {
    let placement = placement(of);
    let keys = (0..).map(|number| format!("{prefix}{number}"));
    keys.filter(|key| placement.owner(key.as_bytes()) == wanted).take(count).collect()
}

/// Which of the backends called s0, s1, ... owns a key.
pub(crate) fn owner(key: &str, of: usize) -> usize {
    placement(of).owner(key.as_bytes())
}

/// One key with the `wanted` owner.
pub(crate) fn key_of(wanted: usize, of: usize, prefix: &str) -> String {
    keys_of(wanted, of, prefix, 1).remove(0)
}

fn placement(of: usize) -> Arc<Placement> {
    static MADE: Mutex<Option<HashMap<usize, Arc<Placement>>>> = Mutex::new(None);
    let mut made = MADE.lock().expect("no holder panicked");
    let made = made.get_or_insert_default().entry(of);
    let server = |index| PlacedServer::named(format!("s{index}"), 1);
    made.or_insert_with(|| Arc::new(Placement::rendezvous(&(0..of).map(server).collect::<Vec<_>>()))).clone()
}

/// All lines of `stats`, by name.
#[track_caller]
pub(crate) fn stats(client: &mut Talk) -> HashMap<String, String> {
    client.send("stats\r\n");
    let answer = client.until(b"END\r\n");
    let answer = String::from_utf8(answer).expect("stats are text");
    let mut lines = HashMap::new();
    for line in answer.lines().filter(|&line| line != "END") {
        let stat = line.strip_prefix("STAT ").and_then(|rest| rest.split_once(' '));
        let (name, value) = stat.unwrap_or_else(|| panic!("stats has the line {line:?}"));
        assert!(lines.insert(name.to_owned(), value.to_owned()).is_none(), "stats has {name} twice");
    }
    lines
}

/// One number of `stats`.
#[track_caller]
pub(crate) fn stat(lines: &HashMap<String, String>, name: &str) -> u64 {
    let value = lines.get(name).unwrap_or_else(|| panic!("stats has no {name}: {lines:?}"));
    value.parse().unwrap_or_else(|_| panic!("STAT {name} {value} is no number"))
}

/// Waits until all of so many backends, called s0 and so on, serve, and nothing is left that a woken server
/// could still apply.
#[track_caller]
pub(crate) fn until_settled(proxy: &Proxy, backends: usize) {
    let mut observer = proxy.client();
    eventually("all backends are up", || {
        let lines = stats(&mut observer);
        let of = |server: usize, name: &str| lines[&format!("backend:s{server}:{name}")].as_str();
        let settled = |server| of(server, "state") == "up" && of(server, "retired_links") == "0";
        (0..backends).all(settled).then_some(())
    });
}

/// Waits until `look` finds something. Only a failing test waits long.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A path in the temporary directory that nobody else uses; removed when dropped, whatever it has become.
pub(crate) struct ScratchPath(pub(crate) PathBuf);

impl ScratchPath {
    /// One for this test.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcproxy-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        ScratchPath(path)
    }
}

impl Drop for ScratchPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn canary_silence_is_told_from_an_answer_and_from_the_end() {
    let (one, mut other) = UnixStream::pair().expect("a pair");
    let mut talk = Talk::over(one.into());
    assert!(talk.is_silent());
    other.write_all(b"x").expect("written");
    assert!(!talk.is_silent());
    talk.expect("x");
    assert!(talk.is_silent());
    drop(other);
    assert!(!talk.is_silent());
    talk.expect_closed();
}

#[test]
fn canary_a_black_hole_takes_no_connection_and_nobody_refuses_it() {
    let (hole, nobody) = (BlackHole::open(), Nobody::there());
    let connect = |address| TcpStream::connect_timeout(&address, Duration::from_millis(100));
    assert_eq!(connect(hole.address).expect_err("a connection").kind(), ErrorKind::TimedOut);
    assert_eq!(connect(nobody.address).expect_err("a connection").kind(), ErrorKind::ConnectionRefused);
}
