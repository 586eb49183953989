//! Where clients come in: TCP of both families, unix sockets, several at once, all three protocols on each.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::rig::{Proxy, ScratchPath, Talk, list_of, three_memcacheds};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, SET};
use super::support::process::Server;

const NOBODY: &str = "127.0.0.1:1";

/// Text, meta and binary by clients that `connect` makes; each finds what the others have stored.
#[track_caller]
fn all_three_protocols(connect: &dyn Fn() -> Talk) {
    let (mut text, mut meta, mut binary) = (connect(), connect(), connect());
    text.exchange("set key 0 0 4\r\ntext\r\n", "STORED\r\n");
    meta.exchange("mg key v\r\nms key 4\r\nmeta\r\n", "VA 4\r\ntext\r\nHD\r\n");
    assert_eq!(binary.ask_frame(&Frame::request(GET, 1).key(b"key")).value, b"meta");
    let set = Frame::request(SET, 2).extras(&[0; 8]).key(b"key").value(b"binary");
    assert_eq!(binary.ask_frame(&set).status, 0);
    text.exchange("get key\r\n", "VALUE key 0 6\r\nbinary\r\nEND\r\n");
}

fn v4(port: u16) -> impl Fn() -> Talk {
    move || Talk::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn v6(port: u16) -> impl Fn() -> Talk {
    move || Talk::tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
}

#[test]
fn an_ipv4_address() {
    let server = Server::memcached();
    let proxy = Proxy::listening(&["127.0.0.1:0"], &server.address.to_string(), &[]);
    all_three_protocols(&v4(proxy.ports[0]));
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, proxy.ports[0]));
    assert!(std::net::TcpStream::connect(other).is_err(), "{other} was not asked for");
}

#[test]
fn an_ipv6_address() {
    let server = Server::memcached();
    let proxy = Proxy::listening(&["[::1]:0"], &server.address.to_string(), &[]);
    all_three_protocols(&v6(proxy.ports[0]));
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, proxy.ports[0]));
    assert!(std::net::TcpStream::connect(other).is_err(), "{other} was not asked for");
}

#[test]
fn a_port_alone_is_reached_by_both_families() {
    let server = Server::memcached();
    let proxy = Proxy::listening(&[":0"], &server.address.to_string(), &[]);
    all_three_protocols(&v4(proxy.ports[0]));
    all_three_protocols(&v6(proxy.ports[0]));
}

#[test]
fn several_listeners_at_once() {
    let servers = three_memcacheds();
    let paths = [ScratchPath::new("several-1"), ScratchPath::new("several-2")];
    let unix = paths.each_ref().map(|path| format!("unix:{}", path.0.display()));
    let listen = ["127.0.0.1:0", &unix[0], "[::1]:0", ":0", &unix[1]];
    let mut proxy = Proxy::listening(&listen, &list_of(&servers), &["--threads", "2"]);
    all_three_protocols(&v4(proxy.ports[0]));
    all_three_protocols(&v6(proxy.ports[1]));
    all_three_protocols(&v4(proxy.ports[2]));
    for path in &paths {
        all_three_protocols(&|| Talk::unix(&path.0));
    }
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    for path in &paths {
        assert!(!path.0.exists(), "{} is left behind", path.0.display());
    }
}

#[test]
fn a_unix_socket_whose_file_is_removed_at_the_end() {
    let server = Server::memcached();
    let path = ScratchPath::new("removed");
    let listen = format!("unix:{}", path.0.display());
    for signal in ["TERM", "INT"] {
        let mut proxy = Proxy::listening(&[&listen], &server.address.to_string(), &[]);
        assert!(is_socket(&path.0));
        all_three_protocols(&|| Talk::unix(&path.0));
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
        assert!(!path.0.exists(), "{} is left behind by SIG{signal}", path.0.display());
    }
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let server = Server::memcached();
    let path = ScratchPath::new("stale");
    drop(UnixListener::bind(&path.0).expect("a unix socket"));
    assert!(is_socket(&path.0), "a closed listener leaves its file");
    let listen = format!("unix:{}", path.0.display());
    let _proxy = Proxy::listening(&[&listen], &server.address.to_string(), &[]);
    all_three_protocols(&|| Talk::unix(&path.0));
}

/// One that was killed leaves its socket as well.
#[test]
fn the_unix_socket_of_a_killed_mcproxy_is_replaced() {
    let server = Server::memcached();
    let path = ScratchPath::new("killed");
    let listen = format!("unix:{}", path.0.display());
    for _ in 0..2 {
        let mut proxy = Proxy::listening(&[&listen], &server.address.to_string(), &[]);
        all_three_protocols(&|| Talk::unix(&path.0));
        proxy.signal("KILL");
        proxy.wait();
        assert!(is_socket(&path.0));
    }
}

#[test]
fn a_unix_socket_in_use_is_refused_with_status_1() {
    let server = Server::memcached();
    let path = ScratchPath::new("in-use");
    let listen = format!("unix:{}", path.0.display());
    let _first = Proxy::listening(&[&listen], &server.address.to_string(), &[]);
    refused(&listen);
    // The first one has not lost its clients' way in.
    all_three_protocols(&|| Talk::unix(&path.0));
}

#[test]
fn a_file_that_is_no_socket_is_refused_with_status_1_and_left_alone() {
    let path = ScratchPath::new("file");
    std::fs::write(&path.0, "precious").expect("a file");
    refused(&format!("unix:{}", path.0.display()));
    assert_eq!(std::fs::read_to_string(&path.0).expect("the file"), "precious");
}

#[test]
fn a_port_in_use_is_refused_with_status_1() {
    let server = Server::memcached();
    let proxy = Proxy::listening(&["127.0.0.1:0", "[::1]:0"], &server.address.to_string(), &[]);
    refused(&format!("127.0.0.1:{}", proxy.ports[0]));
    refused(&format!("[::1]:{}", proxy.ports[1]));
}

/// One clear line that names the flag and the value, and status 1.
#[track_caller]
fn refused(listen: &str) {
    let mut proxy = Proxy::spawn(&[listen], NOBODY, &[]);
    let status = proxy.wait();
    let (stdout, stderr) = (proxy.stdout(), proxy.stderr());
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stdout.is_empty(), "stderr {stderr:?} stdout {stdout:?}");
    assert!(stderr.contains(&format!("--listen {listen}")), "{stderr}");
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}
