//! Files of twemproxy's configuration, and nutcracker running one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::rig::{ScratchPath, eventually};
use super::support::process::free_port;

/// Debian puts it where only root's PATH leads.
const PROGRAM: &str = "/usr/sbin/nutcracker";

/// A file with this text, removed when dropped.
pub(crate) struct File {
    path: ScratchPath,
    text: String,
}

impl File {
    /// One for this test.
    pub(crate) fn new(name: &str, text: String) -> Self {
        let path = ScratchPath::new(&format!("{name}.yml"));
        std::fs::write(&path.0, &text).expect("the temporary directory is writable");
        File { path, text }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.path.0.display(), self.text);
        }
    }
}

/// A running nutcracker, killed when dropped.
pub(crate) struct Nutcracker {
    child: Child,
    log: ScratchPath,
}

impl Nutcracker {
    /// One with this file; waits until it listens at `ports`.
    pub(crate) fn start(file: &File, ports: &[u16]) -> Self {
        for port in ports {
            // What a killed mcproxy had in an io_uring is taken apart after its end, and nutcracker tries once.
            eventually(&format!("port {port} is free"), || {
                TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).ok()
            });
        }
        let statistics = free_port().to_string();
        let log = ScratchPath::new(&format!("nutcracker-{statistics}.log"));
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(file.path()).arg("-o").arg(&log.0).args(["-a", "127.0.0.1", "-s", &statistics]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/install"));
        for port in ports {
            eventually(&format!("{command:?} listens at {port}"), || {
                if let Some(status) = child.try_wait().expect("the child's status") {
                    let said = std::fs::read_to_string(&log.0).unwrap_or_default();
                    panic!("{command:?} ended: {status}; it said: {said}");
                }
                TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).ok()
            });
        }
        Nutcracker { child, log }
    }
}

impl Drop for Nutcracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.log.0).unwrap_or_default();
            let start = said.ceil_char_boundary(said.len().saturating_sub(4000));
            eprintln!("nutcracker said: {}", &said[start..]);
        }
    }
}
