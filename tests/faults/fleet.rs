//! memcacheds that can be stopped, killed and started again, called s0, s1 and so on, behind a proxy.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::rig::{Frozen, Proxy, Talk, eventually, stat, stats};
use super::support::process::{Server, named_backends};

/// Two workers; a backend that is silent for a second is down, and is tried again soon.
pub(crate) const QUICK: [&str; 8] =
    ["--threads", "2", "--timeout", "1s", "--failure-limit", "1", "--retry-interval", "200ms"];

/// [`QUICK`], and keys of a backend that is down go to the others.
pub(crate) fn ejecting(further: &[&'static str]) -> Vec<&'static str> {
    [&QUICK[..], &["--auto-eject"], further].concat()
}

/// The memcacheds and the proxy.
pub(crate) struct Fleet {
    members: Vec<Member>,
    pub(crate) proxy: Proxy,
}

struct Member {
    address: SocketAddr,
    arguments: Vec<&'static str>,
    process: Option<Server>,
}

impl Fleet {
    /// So many memcacheds, and the proxy with these arguments.
    pub(crate) fn start(count: usize, arguments: &[&str]) -> Self {
        Fleet::with(&vec![&[][..]; count], arguments)
    }

    /// A memcached for each list of arguments.
    pub(crate) fn with(memcacheds: &[&[&'static str]], arguments: &[&str]) -> Self {
        let member = |arguments: &&[&'static str]| {
            let server = Server::memcached_with(arguments);
            let address = server.address;
            Member { address, arguments: arguments.to_vec(), process: Some(server) }
        };
        let members: Vec<Member> = memcacheds.iter().map(member).collect();
        let addresses: Vec<SocketAddr> = members.iter().map(|member| member.address).collect();
        let proxy = Proxy::start(&named_backends(&addresses), arguments);
        let fleet = Fleet { members, proxy };
        // Every backend has been met before the first fault.
        (0..memcacheds.len()).for_each(|member| fleet.until_state(member, "up"));
        fleet
    }

    /// Where a memcached listens.
    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        self.members[member].address
    }

    /// A connection to a memcached itself.
    #[track_caller]
    pub(crate) fn direct(&self, member: usize) -> Talk {
        Talk::tcp(self.address(member))
    }

    /// Stops a memcached.
    pub(crate) fn freeze(&self, member: usize) -> Frozen {
        Frozen::freeze(self.members[member].process.as_ref().expect("it runs").id())
    }

    /// Ends a memcached, as `kill -9` does.
    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].process = None;
    }

    /// Starts a memcached anew where a killed one was.
    pub(crate) fn start_again(&mut self, member: usize) {
        let Member { address, arguments, process } = &mut self.members[member];
        *process = Some(Server::memcached_at(*address, arguments));
    }

    /// All lines of the proxy's `stats`.
    #[track_caller]
    pub(crate) fn stats(&self) -> HashMap<String, String> {
        stats(&mut self.proxy.client())
    }

    /// One of the proxy's counters.
    #[track_caller]
    pub(crate) fn counter(&self, name: &str) -> u64 {
        stat(&self.stats(), name)
    }

    /// What the proxy takes a backend to be: `up`, `down` or `ejected`.
    #[track_caller]
    pub(crate) fn state(&self, member: usize) -> String {
        self.stats()[&format!("backend:s{member}:state")].clone()
    }

    /// Waits until it takes it to be that.
    #[track_caller]
    pub(crate) fn until_state(&self, member: usize, state: &str) {
        let mut observer = self.proxy.client();
        eventually(&format!("s{member} is {state}"), || {
            (stats(&mut observer)[&format!("backend:s{member}:state")] == state).then_some(())
        });
    }

    /// Waits until so many clients are left.
    #[track_caller]
    pub(crate) fn until_alone(&self, clients: u64) {
        let mut observer = self.proxy.client();
        eventually("all others have left", || {
            (stat(&stats(&mut observer), "curr_connections") == clients + 1).then_some(())
        });
        // Its own descriptor is closed when the proxy has seen its end.
        observer.half_close();
        observer.expect_closed();
    }

    /// Asks with `key` until its backend is ejected: it must be frozen or gone.
    #[track_caller]
    pub(crate) fn until_ejected(&self, member: usize, key: &str) {
        let mut client = self.proxy.client();
        eventually(&format!("s{member} is ejected"), || {
            client.send(format!("mg {key}\r\nmn\r\n"));
            client.until(b"MN\r\n");
            (self.state(member) == "ejected").then_some(())
        });
    }

    /// Four clients, so that each of the two workers has two of them.
    pub(crate) fn clients(&self) -> [Talk; 4] {
        let clients = [(); 4].map(|()| self.proxy.client());
        clients.map(|mut client| {
            client.exchange("mn\r\n", "MN\r\n");
            client
        })
    }
}

/// Sends `set` until it is stored; what comes before that must blame a backend.
#[track_caller]
pub(crate) fn set_until_stored(client: &mut Talk, key: &str, value: &str) {
    let request = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
    eventually(&format!("{key} is stored"), || {
        let answer = client.ask(&request);
        assert!(answer == "STORED" || answer.starts_with("SERVER_ERROR backend s"), "{answer:?}");
        (answer == "STORED").then_some(())
    });
}

/// The value of a key and its token, by `gets`.
#[track_caller]
pub(crate) fn gets(client: &mut Talk, key: &str) -> Option<(String, u64)> {
    let line = client.ask(format!("gets {key}\r\n"));
    if line == "END" {
        return None;
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [value, read, _, _, token] = words[..] else { panic!("gets {key}: {line:?}") };
    assert_eq!((value, read), ("VALUE", key), "{line:?}");
    let token = token.parse().expect("a number");
    let value = client.line();
    client.expect("END\r\n");
    Some((value, token))
}

/// Makes a memcached's next token `token`: it has handed out smaller ones only.
#[track_caller]
pub(crate) fn wind_up(direct: &mut Talk, token: u64) {
    loop {
        direct.exchange("set winding 0 0 1\r\nx\r\n", "STORED\r\n");
        let (_, last) = gets(direct, "winding").expect("it was stored");
        assert!(last < token, "token {last} has been handed out, and {token} was to be the next");
        if last + 1 == token {
            return;
        }
    }
}
