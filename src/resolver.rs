//! Looks a backend's name up off the event loops: getaddrinfo blocks, for seconds if it must.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::control::{Control, Mail};

/// Answers for one backend until nobody can ask any more. Workers that asked meanwhile get the same answer.
pub fn run(backend: usize, host: &str, port: u16, asked: &Receiver<usize>, control: &Arc<Control>) {
    while let Ok(worker) = asked.recv() {
        let mut workers = vec![worker];
        let addresses = look_up(host, port);
        while let Ok(worker) = asked.try_recv() {
            if !workers.contains(&worker) {
                workers.push(worker);
            }
        }
        for worker in workers {
            control.send(worker, Mail::Resolved { backend, addresses: addresses.clone() });
        }
    }
}

/// The addresses of a name, each once, in the resolver's order; none if it has none.
fn look_up(host: &str, port: u16) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, port).to_socket_addrs().into_iter().flatten() {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_meaning_has_no_address() {
        assert_eq!(look_up("no-such-host.invalid", 11211), []);
        assert!(!look_up("localhost", 11211).is_empty());
        assert!(look_up("localhost", 11211).iter().all(|address| address.port() == 11211));
    }
}
