//! Connected sockets, whichever engine moves their bytes, and how they come to be.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use mio::net::{TcpStream, UnixStream};
use socket2::SockRef;

use super::Failure;

/// Where a backend is reached.
#[derive(Clone, Debug)]
pub enum BackendAddress {
    /// Over TCP: one address, or those that a name had when it was last looked up.
    Tcp(Vec<SocketAddr>),
    /// A unix socket.
    Unix(PathBuf),
}

/// A connected stream that never blocks.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Tcp,
    Unix,
}

impl Socket {
    /// A TCP stream, which has been made non-blocking.
    pub fn tcp(stream: impl Into<OwnedFd>) -> Self {
        Socket { fd: stream.into(), family: Family::Tcp }
    }

    /// A unix stream, which has been made non-blocking.
    pub fn unix(stream: impl Into<OwnedFd>) -> Self {
        Socket { fd: stream.into(), family: Family::Unix }
    }

    /// Starts to connect to one of the addresses, options set. It stands when it can be written to and
    /// [`Self::connect_result`] says so.
    ///
    /// # Errors
    /// There is no such address, or what connect(2) says at once; [`failure_of`] knows its meaning.
    pub(super) fn connect(address: &BackendAddress, which: usize) -> io::Result<Self> {
        let socket = match address {
            BackendAddress::Tcp(addresses) => match addresses.get(which) {
                Some(&address) => TcpStream::connect(address).map(Socket::tcp),
                None => Err(ErrorKind::AddrNotAvailable.into()),
            },
            BackendAddress::Unix(path) => UnixStream::connect(path).map(Socket::unix),
        }?;
        socket.set_options();
        Ok(socket)
    }

    /// Small writes leave at once, and a peer that vanished is noticed in the end.
    pub fn set_options(&self) {
        if self.family == Family::Tcp {
            // A socket that refuses an option works without it.
            let _ = SockRef::from(self).set_tcp_nodelay(true);
            let _ = SockRef::from(self).set_keepalive(true);
        }
    }

    /// Shuts our sending side down.
    pub(super) fn shutdown_write(&self) {
        // The connection may be gone already; that is told by a read.
        let _ = SockRef::from(self).shutdown(Shutdown::Write);
    }

    /// True if a connect has succeeded, false if it is still under way.
    pub(super) fn connect_result(&self) -> Result<bool, Failure> {
        let socket = SockRef::from(self);
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return Err(failure_of(&error));
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(failure_of(&error)),
        }
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What it means for a link that its connect has failed so.
pub(super) fn failure_of(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
        _ => Failure::Unreachable,
    }
}
