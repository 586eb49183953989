//! Binds the addresses that clients come to.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Socket, Type};

use crate::acceptor::Listener;
use crate::config::Listen;

/// Connections that wait to be accepted, at most; memcached's -b.
const BACKLOG: i32 = 1024;

/// A bound listener, and what it really listens at.
///
/// # Errors
/// What bind(2) and listen(2) say.
pub fn bind(listen: &Listen) -> io::Result<(Listener, Listen)> {
    match listen {
        Listen::Tcp { host, port } => {
            let socket = match host {
                Some(host) => bind_tcp(SocketAddr::new(*host, *port))?,
                None => bind_all(*port)?,
            };
            socket.set_nonblocking(true)?;
            let listener: std::net::TcpListener = socket.into();
            let bound = Listen::Tcp { host: *host, port: listener.local_addr()?.port() };
            Ok((Listener::Tcp(mio::net::TcpListener::from_std(listener)), bound))
        }
        Listen::Unix(path) => {
            let listener = bind_unix(path)?;
            listener.set_nonblocking(true)?;
            Ok((Listener::Unix(mio::net::UnixListener::from_std(listener)), listen.clone()))
        }
    }
}

/// All addresses: one socket for IPv6 and IPv4, or one for IPv4 where there is no IPv6.
fn bind_all(port: u16) -> io::Result<Socket> {
    match bind_tcp(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
        Err(error) if error.kind() != ErrorKind::AddrInUse => {
            bind_tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        }
        other => other,
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A socket file that nobody listens at any more is replaced, as memcached does; one in use is not.
fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    match StdUnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
            let is_socket = std::fs::symlink_metadata(path)
                .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
            if !is_socket {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            StdUnixListener::bind(path)
        }
        other => other,
    }
}
