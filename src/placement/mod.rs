//! Key -> backend: immutable tables behind one small interface.
//!
//! A placement is a contract: keys that lie where it once put them must be found there for ever. So a
//! placement never changes under its name, and golden vectors in the tests hold it.

//! | file | subject |
//! |---|---|
//! | `rendezvous.rs` | the default, mcproxy's own |
//! | `method.rs` | the names of placements |
//! | `foreign.rs` | which original has which key hash and which table |
//! | `ring.rs`, `points.rs` | the table of rings, and the points that each original puts there |
//! | `buckets.rs` | lists of servers: modulo, jump, furc |
//! | `pymemcache.rs` | the largest hash of server and key |
//! | `address.rs` | how each original spells a server |
//! | `part.rs` | what of a key is hashed: tags and prefixes |
//! | `hash/` | hash functions of keys |
//!
//! # When servers are away
//! Of no original is it taken over where keys go when a server fails: those that say it move keys of servers
//! that stay. Here, whatever the placement, only the keys of those away go elsewhere, and when one more
//! leaves or one returns, only keys that go from it or to it move; what [`crate::ownership`] does stands on
//! that. On rings they go to the next point, in the ring's own direction, of a server that is there; by
//! pymemcache's rule to the best of those left; from lists of buckets they are dealt out by mcproxy's own
//! rendezvous among those left.

mod address;
mod buckets;
mod foreign;
pub mod hash;
mod method;
mod part;
mod points;
mod pymemcache;
pub mod rendezvous;
mod ring;
#[cfg(test)]
mod tests;
mod why;

pub use method::Method;
pub use part::HashedPart;
pub use why::Why;

use foreign::Foreign;
use rendezvous::{Rendezvous, WEIGHT_MAX};

/// What a placement knows of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The configured name, the server's identity (`host:port` unless given).
    pub name: String,
    /// 1 to 1000; by twemproxy's rules to 1,000,000, modulo to as much in all.
    pub weight: u32,
    /// What those who placed keys before called it.
    pub label: Label,
}

/// A server as clients and other proxies write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// Where it is reached, spelled as in the configuration.
    Tcp {
        /// A host name or an IP address, IPv6 without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(String),
    /// A name of its own: twemproxy hashes it as it stands, the others read it as `host[:port]`.
    Name(String),
}

impl Server {
    /// A server that has been given a name of its own.
    pub fn named(name: impl Into<String>, weight: u32) -> Self {
        let name = name.into();
        Server { label: Label::Name(name.clone()), name, weight }
    }
}

/// Which server owns a key. Made once, then only read: workers share it.
#[derive(Debug)]
pub struct Placement {
    servers: Box<[Server]>,
    rule: Rule,
}

impl Placement {
    /// The default: weighted rendezvous hashing, see [`rendezvous`].
    ///
    /// # Panics
    /// On a list that a checked configuration can't hold, see [`Rendezvous::new`].
    pub fn rendezvous(servers: &[Server]) -> Self {
        Placement { servers: servers.into(), rule: Rule::Rendezvous(Rendezvous::new(servers)) }
    }

    /// A placement of this `method`, which hashes this `part` of a key.
    ///
    /// # Errors
    /// A clause that says what is wrong with the list, or what of it the original cannot have.
    pub fn new(method: Method, part: HashedPart, servers: &[Server]) -> Result<Self, String> {
        check(method, servers)?;
        if method == Method::Rendezvous && part.is_whole() {
            return Ok(Placement::rendezvous(servers));
        }
        let foreign = Foreign::new(method, part, servers, &vec![false; servers.len()])?;
        Ok(Placement { servers: servers.into(), rule: Rule::Foreign(Box::new(foreign)) })
    }

    /// The same rule without some of the servers, which keep their indexes: `away` has an entry for each.
    /// Those that were away before count only if they are away still. Keys of servers that are there do not
    /// move.
    ///
    /// # Panics
    /// If no server is left.
    pub fn without(&self, away: &[bool]) -> Self {
        assert!(away.contains(&false), "all servers are away");
        let rule = match &self.rule {
            Rule::Rendezvous(_) => Rule::Rendezvous(Rendezvous::without(&self.servers, away)),
            Rule::Foreign(foreign) => Rule::Foreign(Box::new(foreign.without(&self.servers, away))),
        };
        Placement { servers: self.servers.clone(), rule }
    }

    /// The owner of `key`: its index in the list that the placement was made of.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> usize {
        match &self.rule {
            Rule::Rendezvous(table) => table.owner(key),
            Rule::Foreign(foreign) => foreign.owner(key),
        }
    }

    /// The owner of `key`, and a hash of it.
    #[inline]
    pub fn place(&self, key: &[u8]) -> Place {
        match &self.rule {
            Rule::Rendezvous(table) => {
                let hash = rendezvous::hash(key);
                Place { server: table.slot_owner(rendezvous::slot(hash)), hash: hash as u32 }
            }
            Rule::Foreign(foreign) => foreign.place(key),
        }
    }

    /// Why `key` lies where it does.
    pub fn explain(&self, key: &[u8]) -> Why {
        match &self.rule {
            Rule::Rendezvous(_) => Why::Slot(rendezvous::slot(rendezvous::hash(key))),
            Rule::Foreign(foreign) => foreign.explain(key),
        }
    }
}

/// Where a key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the server.
    pub server: usize,
    /// Equal for equal keys, and evenly spread over the keys of one server: for tables of keys.
    pub hash: u32,
}

/// An enum, not a trait object: the default's look-up is inlined into the path of a request.
#[derive(Debug)]
enum Rule {
    Rendezvous(Rendezvous),
    Foreign(Box<Foreign>),
}

/// twemproxy itself takes what an int holds, and its own example has a weight of 100000.
pub const TWEMPROXY_WEIGHT_MAX: u32 = 1_000_000;

/// What no placement can do without.
fn check(method: Method, servers: &[Server]) -> Result<(), String> {
    if servers.is_empty() || servers.len() > 1 << 16 {
        return Err(format!("there must be 1 to 65,536 servers, not {}", servers.len()));
    }
    let mut names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two servers are named {}", pair[0]));
    }
    let (most, most_in_all) = match method {
        Method::TwemproxyKetama(_) => (TWEMPROXY_WEIGHT_MAX, u64::MAX),
        // It has a list that is as long.
        Method::TwemproxyModula(_) => (TWEMPROXY_WEIGHT_MAX, u64::from(TWEMPROXY_WEIGHT_MAX)),
        _ => (WEIGHT_MAX, u64::MAX),
    };
    if servers.iter().map(|server| u64::from(server.weight)).sum::<u64>() > most_in_all {
        return Err(format!("the weights are more than {most_in_all} in all"));
    }
    match servers.iter().find(|server| !(1..=most).contains(&server.weight)) {
        Some(Server { name, weight, .. }) => {
            Err(format!("{name} has weight {weight}; it can be 1 to {most}"))
        }
        None => Ok(()),
    }
}
