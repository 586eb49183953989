//! What the proxy holds: memory, descriptors, links.

use std::net::SocketAddr;

use super::rig::{Proxy, Talk, eventually, key_of, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::GET;

/// The most memory that may be resident with the default flags and two workers, bytes.
pub(crate) const RESIDENT_MAX: usize = 256 << 20;

const WORKERS: u64 = 2;

/// Of links: one for text and meta, one for binary.
const KINDS: u64 = 2;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holdings {
    pub(crate) descriptors: usize,
    /// Bytes.
    pub(crate) resident: usize,
}

impl Holdings {
    /// What the proxy holds now.
    pub(crate) fn of(proxy: &Proxy) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("its descriptors");
        Holdings { descriptors: descriptors.count(), resident: bytes_of(proxy, "VmRSS:") }
    }
}

/// The most memory that was resident since the proxy began, bytes.
pub(crate) fn peak_of(proxy: &Proxy) -> usize {
    bytes_of(proxy, "VmHWM:")
}

fn bytes_of(proxy: &Proxy, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// Makes each of two workers open its links of both kinds to each backend, called s0 and so on, which it then
/// keeps.
#[track_caller]
pub(crate) fn open_links(proxy: &Proxy, backends: &[SocketAddr]) {
    for (member, &address) in backends.iter().enumerate() {
        let key = key_of(member, backends.len(), "opened");
        let mut direct = Talk::tcp(address);
        let mut clients = Vec::new();
        eventually("both workers have both links", || {
            // Clients are dealt out in turn; these stay, so that two in a row meet both workers.
            for _ in 0..WORKERS {
                clients.push(proxy.client());
                clients.last_mut().expect("just come").exchange(format!("get {key}\r\n"), "END\r\n");
            }
            for _ in 0..WORKERS {
                clients.push(proxy.client());
                let get = Frame::request(GET, 1).key(key.as_bytes());
                clients.last_mut().expect("just come").ask_frame(&get);
            }
            // The connection that asks is one of them.
            (stat(&stats(&mut direct), "curr_connections") == WORKERS * KINDS + 1).then_some(())
        });
    }
}
