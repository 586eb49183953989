//! A real memcached on a free port of 127.0.0.1, ended with the test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Memcached {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Memcached {
    /// Starts it with `arguments` beyond the usual. Fails the test if there is none.
    pub(crate) fn start(arguments: &[&str]) -> Memcached {
        // Another process may take the port between the look and the start, so a few are tried.
        for _ in 0..5 {
            if let Some(memcached) = Memcached::try_start(arguments) {
                return memcached;
            }
        }
        panic!("memcached does not start: is the package memcached installed?");
    }

    fn try_start(arguments: &[&str]) -> Option<Memcached> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // One thread, so that connections take turns. No threads that work in the background: a maintainer holds
        // items that were read for a while, and a decr then stores a shorter number without filling it up.
        let child = Command::new("memcached")
            .args([
                "-l",
                "127.0.0.1",
                "-U",
                "0",
                "-t",
                "1",
                "-u",
                "nobody",
                "-o",
                "no_lru_maintainer,no_lru_crawler",
            ])
            .args(["-p", &port.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut memcached = Memcached { address, child };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if memcached.child.try_wait().ok()?.is_some() {
                return None;
            }
            if TcpStream::connect(address).is_ok() {
                return Some(memcached);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // By its own id; it is no longer needed, whatever this says.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
