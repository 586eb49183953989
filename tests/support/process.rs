//! Servers as child processes: memcached and the proxy, on free loopback ports, killed when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::client::Client;
use super::engine;
use super::inbox::PATIENCE;

/// Ports that the kernel does not hand out by itself on a default Linux, so that no client's own port is
/// in the way: this many blocks of so many.
const PORT_FIRST: u16 = 12_000;
const BLOCKS: u16 = 20;
const BLOCK: u16 = 1_000;

/// How often a server is started anew because its port was taken in the meantime.
const START_ATTEMPTS: usize = 8;

/// A child process that listens.
pub(crate) struct Server {
    child: Child,
    name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    errors: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    /// A fresh memcached with 64 MiB and one thread.
    pub(crate) fn memcached() -> Self {
        Server::memcached_with(&["-m", "64"])
    }

    /// A fresh memcached with one thread and these arguments.
    pub(crate) fn memcached_with(arguments: &[&str]) -> Self {
        Server::start("memcached", free_address, |address| memcached_at(address, arguments))
    }

    /// The same at an address that the caller has kept free.
    pub(crate) fn memcached_at(address: SocketAddr, arguments: &[&str]) -> Self {
        Server::start("memcached", || address, |address| memcached_at(address, arguments))
    }

    /// The proxy in front of `backends`, a list as `--backends` takes it, with further arguments.
    pub(crate) fn mcproxy(backends: &str, arguments: &[&str]) -> Self {
        Server::start("mcproxy", free_address, |address| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mcproxy"));
            command.arg("--listen").arg(address.to_string());
            command.arg("--backends").arg(backends).args(arguments);
            engine::choose(&mut command);
            command
        })
    }

    /// Waits until each worker of a proxy says the version of the memcacheds behind it. Before a link has
    /// asked for it, a worker says the oldest that the proxy supports.
    pub(crate) fn learn_version(&self) {
        const IN_A_ROW: usize = 8;
        let give_up = Instant::now() + PATIENCE;
        let mut known = 0;
        while known < IN_A_ROW {
            assert!(Instant::now() < give_up, "no version of the backends: {}", self.errors());
            let client = Client::connect(self.address);
            client.send(b"version\r\n");
            let line = client.expect_line("VERSION ").unwrap_or_else(|problem| panic!("{problem}"));
            known = if line == b"VERSION 1.6.18\r\n" { known + 1 } else { 0 };
        }
    }

    /// The process, for what a test does to it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().expect("no holder panicked")).into_owned()
    }

    /// Starts what is to listen at an address: the next one that `address` gives if it cannot.
    pub(crate) fn start(
        name: &str,
        address: impl Fn() -> SocketAddr,
        command: impl Fn(SocketAddr) -> Command,
    ) -> Self {
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS {
            let address = address();
            match Server::start_once(name, command(address), address) {
                Ok(server) => return server,
                Err(error) => last = error,
            }
        }
        panic!("{name} does not start: {last}");
    }

    fn start_once(name: &str, mut command: Command, address: SocketAddr) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/install"));
        let errors = Arc::new(Mutex::new(Vec::new()));
        collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&errors));
        let mut server = Server { child, name: name.to_owned(), address, errors };
        match server.wait_until_it_listens() {
            Ok(()) => Ok(server),
            Err(error) => Err(format!("{command:?}: {error}; stderr: {}", server.errors())),
        }
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended: {status}"));
            }
            match who_listens(self.address) {
                Some(pid) if pid == self.child.id() => return Ok(()),
                // It took the port first, and the child is about to end for that reason.
                Some(pid) => return Err(format!("process {pid} listens on {}", self.address)),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err(format!("nothing listens on {}", self.address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let errors = self.errors();
            let start = errors.ceil_char_boundary(errors.len().saturating_sub(4000));
            eprintln!("stderr of {} ({}): {}", self.name, self.address, &errors[start..]);
        }
    }
}

fn memcached_at(address: SocketAddr, arguments: &[&str]) -> Command {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = Command::new("memcached");
    command.args(["-u", "nobody", "-l", &ip, "-U", "0", "-t", "1", "-p", &port]).args(arguments);
    command
}

/// The process that answers `stats` there. Nobody does where a connection ends without an answer: a listener that
/// was closed lives on for a moment in a child that another thread is starting.
fn who_listens(address: SocketAddr) -> Option<u32> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
    stream.write_all(b"stats\r\n").ok()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| line != "END");
    lines.find_map(|line| line.strip_prefix("STAT pid ")?.parse().ok())
}

/// The list of `--backends` for servers named s0, s1, ...: the names decide where keys live, so with names
/// of our own a key lives on the same server in every run, whatever ports are free.
pub(crate) fn named_backends(addresses: &[SocketAddr]) -> String {
    let named = addresses.iter().enumerate().map(|(index, address)| format!("{address}@s{index}"));
    named.collect::<Vec<_>>().join(",")
}

/// `free_port` of 127.0.0.1.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// A port on which nothing listens, and that this process has not given out before. No other test program gives it
/// out while this one runs.
///
/// It is asked, not bound: a child that another thread is starting has all descriptors until it runs its program,
/// and would hold the port.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = own_block();
    for _ in 1..BLOCK {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) % (BLOCK - 1);
        let port = block + 1 + turn;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            return port;
        }
    }
    panic!("no free port");
}

/// The first port of this process's block. A listener there says that the block is taken: a server that is
/// stopped for a while finds its port free when it starts again, although other tests run beside.
fn own_block() -> u16 {
    static TAKEN: OnceLock<(u16, TcpListener)> = OnceLock::new();
    let take = || {
        let start = std::process::id() as u16 % BLOCKS;
        let blocks = (0..BLOCKS).map(|turn| PORT_FIRST + (start + turn) % BLOCKS * BLOCK);
        let mut free =
            blocks.filter_map(|first| Some((first, TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?)));
        free.next().expect("a block of ports that no other test program has")
    };
    TAKEN.get_or_init(take).0
}

/// Keeps what a child writes to stderr.
fn collect(mut stderr: impl Read + Send + 'static, errors: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut piece) {
            errors.lock().expect("no holder panicked").extend_from_slice(&piece[..count]);
        }
    });
}
