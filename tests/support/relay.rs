//! A relay between a client and a server that can do harm to what passes: the canaries' tool. A checker that
//! finds nothing wrong with a harmful relay finds nothing at all.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is done to each piece that the server sends, before the client sees it.
pub(crate) type Harm = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// Sees each piece that a client sends, with the number of its connection, from 0.
pub(crate) type Watch = Arc<dyn Fn(usize, &[u8]) + Send + Sync>;

/// Listens on a loopback port and relays every connection to one server.
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays to `server`; `harm` is shared by all connections.
    pub(crate) fn start(server: SocketAddr, harm: Harm) -> Self {
        Relay::opening_with(server, harm, Arc::new(|_, _| {}), |_| Ok(()))
    }

    /// Relays to `server` without harm; `watch` sees what it is sent before it is.
    pub(crate) fn watching(server: SocketAddr, watch: Watch) -> Self {
        Relay::opening_with(server, Box::new(|_| {}), watch, |_| Ok(()))
    }

    /// The same, but begins each connection to the server with the question who is there, as the proxy does
    /// with a link: the least that a mock takes for one.
    pub(crate) fn greeting(server: SocketAddr, harm: Harm) -> Self {
        Relay::opening_with(server, harm, Arc::new(|_, _| {}), |upstream| {
            upstream.write_all(b"stats\r\n")?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"END\r\n") {
                let mut byte = [0];
                upstream.read_exact(&mut byte)?;
                answer.extend(byte);
            }
            Ok(())
        })
    }

    fn opening_with(
        server: SocketAddr,
        harm: Harm,
        watch: Watch,
        open: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let harm = Arc::new(Mutex::new(harm));
        let stopped = Arc::clone(&stop);
        let acceptor = std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(client) = client else { continue };
                let Ok(mut upstream) = TcpStream::connect(server) else { continue };
                if open(&mut upstream).is_err() {
                    continue;
                }
                let watch = Arc::clone(&watch);
                relay(client, upstream, Arc::clone(&harm), move |piece| watch(number, piece));
            }
        });
        Relay { address, stop, acceptor: Some(acceptor) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the acceptor so that it sees the flag.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn relay(
    client: TcpStream,
    server: TcpStream,
    harm: Arc<Mutex<Harm>>,
    watch: impl Fn(&[u8]) + Send + 'static,
) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (Ok(client_out), Ok(server_out)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || pump(client, server_out, move |piece| watch(piece)));
    std::thread::spawn(move || {
        pump(server, client_out, |piece| (harm.lock().expect("no holder panicked"))(piece));
    });
}

/// Copies one direction to its end.
fn pump(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(&mut Vec<u8>)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut piece = buffer[..count].to_vec();
        change(&mut piece);
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Alters the last bit of the middle byte of the `nth` piece (from 0), once.
pub(crate) fn one_byte_altered(nth: usize) -> Harm {
    let mut seen = 0;
    Box::new(move |piece| {
        if seen == nth {
            let middle = piece.len() / 2;
            piece[middle] ^= 1;
        }
        seen += 1;
    })
}

/// Swaps the first two neighbouring lines that differ, once, in the first piece that has such a pair. Lines
/// that start with `spared` stay: those by which a test knows that it has read enough, for it would wait long.
pub(crate) fn two_replies_swapped(spared: &'static [u8]) -> Harm {
    let mut done = false;
    Box::new(move |piece| {
        if done {
            return;
        }
        let mut lines: Vec<&[u8]> = piece.split_inclusive(|&byte| byte == b'\n').collect();
        let movable = |line: &&[u8]| line.ends_with(b"\n") && !line.starts_with(spared);
        if let Some(at) = lines.windows(2).position(|pair| pair[0] != pair[1] && pair.iter().all(movable)) {
            lines.swap(at, at + 1);
            *piece = lines.concat();
            done = true;
        }
    })
}
