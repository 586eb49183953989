//! Where the load goes: a loopback port or a unix socket, nothing else. A load generator that could be
//! pointed at another machine would be a nuisance sooner or later.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// An address on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A port of 127.0.0.0/8 or ::1.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

/// A connection.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Target {
    /// What `--target` takes.
    ///
    /// # Errors
    /// What is wrong with it, without naming it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("the path is missing") } else { Ok(Target::Unix(path.into())) };
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            return Err("must be 127.0.0.1:port, [::1]:port or unix:/path");
        };
        if !address.ip().is_loopback() {
            return Err("not a loopback address; this tool loads only servers on its own machine");
        }
        if address.port() == 0 { Err("the port must be 1 to 65535") } else { Ok(Target::Tcp(address)) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Socket {
    /// Connects and waits for it. Small writes leave at once.
    ///
    /// # Errors
    /// What connect(2) says.
    pub(crate) fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Target::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    /// Reads and writes that would wait fail instead.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(true),
            Socket::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    /// Reads and writes wait so long and no longer.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout);
        match self {
            Socket::Tcp(stream) => stream.set_read_timeout(timeout).and(stream.set_write_timeout(timeout)),
            Socket::Unix(stream) => stream.set_read_timeout(timeout).and(stream.set_write_timeout(timeout)),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn only_this_machine_is_a_target() {
        for good in ["127.0.0.1:11211", "127.1.2.3:1", "[::1]:65535", "unix:/run/m.sock"] {
            assert_eq!(Target::parse(good).expect(good).to_string(), good);
        }
        for bad in [
            "10.0.0.1:11211",
            "0.0.0.0:11211",
            "[::]:11211",
            "[2001:db8::1]:11211",
            "[::ffff:127.0.0.1]:11211",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "localhost:11211",
            "unix:",
            "",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
