//! Key -> backend: immutable tables behind one small interface.

pub mod rendezvous;

/// What a placement knows of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The configured name, the server's identity (`host:port` unless given).
    pub name: String,
    /// 1 to 1000.
    pub weight: u32,
}
