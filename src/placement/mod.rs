//! Key -> backend: immutable tables behind one small interface.
//!
//! A placement is a contract: keys that lie where it once put them must be found there for ever. So a
//! placement never changes under its name, and golden vectors in the tests hold it.

pub mod hash;
mod method;
mod part;
pub mod rendezvous;
mod why;

pub use method::Method;
pub use part::HashedPart;
pub use why::Why;

use rendezvous::Rendezvous;

/// What a placement knows of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The configured name, the server's identity (`host:port` unless given).
    pub name: String,
    /// 1 to 1000.
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
    /// A clause that says what of `servers` the original cannot have.
    pub fn new(method: Method, part: HashedPart, servers: &[Server]) -> Result<Self, String> {
        if method == Method::Rendezvous && part.is_whole() {
            return Ok(Placement::rendezvous(servers));
        }
        Err(format!("{method} is not there yet"))
    }

    /// Why `key` lies where it does.
    pub fn explain(&self, key: &[u8]) -> Why {
        match &self.rule {
            Rule::Rendezvous(_) => Why::Slot(rendezvous::slot(rendezvous::hash(key))),
        }
    }

    /// The same rule without some of the servers, which keep their indexes: `away` has an entry for each.
    ///
    /// # Panics
    /// If no server is left.
    pub fn without(&self, away: &[bool]) -> Self {
        let rule = match &self.rule {
            Rule::Rendezvous(_) => Rule::Rendezvous(Rendezvous::without(&self.servers, away)),
        };
        Placement { servers: self.servers.clone(), rule }
    }

    /// The owner of `key`: its index in the list that the placement was made of.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> usize {
        self.place(key).server
    }

    /// The owner of `key`, and a hash of it that was made on the way.
    #[inline]
    pub fn place(&self, key: &[u8]) -> Place {
        match &self.rule {
            Rule::Rendezvous(table) => {
                let hash = rendezvous::hash(key);
                Place { server: table.slot_owner(rendezvous::slot(hash)), hash: hash as u32 }
            }
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
}
