//! Binds the addresses that clients come to.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::acceptor::Listener;
use crate::config::Listen;

/// A bound listener, and what it really listens at. So many connections may wait to be accepted; the file of
/// a unix socket gets these permissions, if any.
///
/// # Errors
/// What bind(2), listen(2) and chmod(2) say.
pub fn bind(listen: &Listen, backlog: u32, mode: Option<u32>) -> io::Result<(Listener, Listen)> {
    let mut tries = TRIES;
    loop {
        match bind_once(listen, backlog, mode) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                thread::sleep(AGAIN);
            }
            other => return other,
        }
    }
}

/// How often, and how long after each other, an address in use is tried again: what a killed process had in
/// an io_uring, its listeners too, is taken apart some milliseconds after its end, and mcproxy may have been
/// that.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(10);

fn bind_once(listen: &Listen, backlog: u32, mode: Option<u32>) -> io::Result<(Listener, Listen)> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    match listen {
        Listen::Tcp { host, port } => {
            let socket = match host {
                Some(host) => bind_tcp(SocketAddr::new(*host, *port), backlog)?,
                None => bind_all(*port, backlog)?,
            };
            socket.set_nonblocking(true)?;
            let listener: std::net::TcpListener = socket.into();
            let bound = Listen::Tcp { host: *host, port: listener.local_addr()?.port() };
            Ok((Listener::Tcp(mio::net::TcpListener::from_std(listener)), bound))
        }
        Listen::Unix(path) => {
            let listener = bind_unix(path, backlog)?;
            if let Some(mode) = mode {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            }
            listener.set_nonblocking(true)?;
            Ok((Listener::Unix(mio::net::UnixListener::from_std(listener)), listen.clone()))
        }
    }
}

/// All addresses: one socket for IPv6 and IPv4, or one for IPv4 where there is no IPv6.
fn bind_all(port: u16, backlog: i32) -> io::Result<Socket> {
    match bind_tcp(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), backlog) {
        Err(error) if error.kind() != ErrorKind::AddrInUse => {
            bind_tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), backlog)
        }
        other => other,
    }
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// A socket file that nobody listens at any more is replaced, as memcached does; one in use is not.
fn bind_unix(path: &Path, backlog: i32) -> io::Result<StdUnixListener> {
    match listen_unix(path, backlog) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
            let is_socket = std::fs::symlink_metadata(path)
                .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
            if !is_socket {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            listen_unix(path, backlog)
        }
        other => other,
    }
}

fn listen_unix(path: &Path, backlog: i32) -> io::Result<StdUnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
