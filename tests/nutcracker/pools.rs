//! Several pools in one process: what is each one's own, and what they share.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use super::files::File;
use super::rig::{Nobody, Proxy, ScratchPath, Talk, eventually, stat, stats};
use super::support::process::{Server, free_port};

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A pool of these servers that listens at `listen`, with further keys. The default hash would give keys that count
/// up all to one server.
fn pool(name: &str, listen: &str, keys: &str, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|server| format!("    - {server}:1\n")).collect();
    format!("{name}:\n  listen: {listen}\n  timeout: 60000\n  hash: md5\n{keys}  servers:\n{servers}")
}

#[test]
fn each_pool_has_its_own_servers_clients_and_statistics() {
    let (own, shared) = (Server::memcached(), Server::memcached());
    let (one, two) = (free_port(), free_port());
    let text = pool("one", &at(one).to_string(), "", &[own.address, shared.address])
        + &pool("two", &at(two).to_string(), "  client_connections: 1\n", &[shared.address]);
    let file = File::new("own", text);
    let proxy = Proxy::of_file(file.path(), 2, &["--threads", "3"]);
    for port in [one, two] {
        proxy.log_line(&["pool ", &format!("listening on 127.0.0.1:{port}")]);
    }
    proxy.log_line(&["pool one: 2 workers in front of "]);
    proxy.log_line(&["pool two: 1 workers in front of "]);

    let (mut first, mut second) = (Talk::tcp(at(one)), Talk::tcp(at(two)));
    let keys: Vec<String> = (0..100).map(|n| format!("key{n}")).collect();
    for key in &keys {
        second.exchange(format!("set {key} 0 0 3\r\ntwo\r\n"), "STORED\r\n");
    }
    // Of one pool's keys the other finds those that the server in both owns for it.
    let answers: Vec<String> = keys.iter().map(|key| first.ask(format!("touch {key} 0\r\n"))).collect();
    assert!(
        answers.iter().any(|answer| answer == "TOUCHED")
            && answers.iter().any(|answer| answer == "NOT_FOUND")
    );
    let (of_first, of_second) = (stats(&mut first), stats(&mut second));
    assert_eq!((stat(&of_first, "cmd_touch"), stat(&of_second, "cmd_touch")), (100, 0));
    assert_eq!((stat(&of_first, "cmd_set"), stat(&of_second, "cmd_set")), (0, 100));
    assert_eq!((stat(&of_first, "threads"), stat(&of_second, "threads")), (2, 1));
    assert!(of_first.contains_key(&format!("backend:{}:state", own.address)), "{of_first:?}");
    assert!(!of_second.contains_key(&format!("backend:{}:state", own.address)), "{of_second:?}");
    assert_eq!(stat(&of_first, "pid"), stat(&of_second, "pid"));

    // The second pool has the client that it may have, the first one any number.
    let mut surplus = Talk::tcp(at(two));
    assert_eq!(surplus.line(), "ERROR Too many open connections");
    surplus.expect_closed();
    Talk::tcp(at(one)).exchange("mn\r\n", "MN\r\n");
}

#[test]
fn all_pools_together_have_no_more_clients_than_max_conns() {
    let server = Server::memcached();
    let (one, two) = (free_port(), free_port());
    let text = pool("one", &at(one).to_string(), "", &[server.address])
        + &pool("two", &at(two).to_string(), "", &[server.address]);
    let file = File::new("together", text);
    let _proxy = Proxy::of_file(file.path(), 2, &["-c", "2"]);
    let mut clients = [Talk::tcp(at(one)), Talk::tcp(at(two))];
    for client in &mut clients {
        client.exchange("mn\r\n", "MN\r\n");
    }
    for port in [one, two] {
        assert_eq!(Talk::tcp(at(port)).line(), "ERROR Too many open connections");
    }
    drop(clients);
    eventually("there is room again", || {
        let mut client = Talk::tcp(at(two));
        let _ = client.try_send("mn\r\n");
        client.first_line_or_end().is_ok_and(|line| line == "MN").then_some(())
    });
}

#[test]
fn log_lines_name_the_pool_and_a_dead_server_is_one_pools_affair() {
    let (server, nobody) = (Server::memcached(), Nobody::there());
    let (one, two) = (free_port(), free_port());
    let ejecting = "  auto_eject_hosts: true\n  server_failure_limit: 1\n";
    let text = pool("one", &at(one).to_string(), "", &[server.address])
        + &pool("two", &at(two).to_string(), ejecting, &[nobody.address, server.address]);
    let file = File::new("dead", text);
    let proxy = Proxy::of_file(file.path(), 2, &[]);
    proxy.log_line(&["WARN", "dead.yml:11: pool two: auto_eject_hosts true: ", "--rejoin as-is"]);
    let mut client = Talk::tcp(at(two));
    eventually("all keys are served", || {
        let keys = (0..50).map(|n| format!("touch key{n} 0\r\n"));
        keys.map(|line| client.ask(line)).all(|answer| answer == "NOT_FOUND").then_some(())
    });
    proxy.log_line(&["pool two: backend ", &nobody.address.to_string(), "is ejected"]);
    Talk::tcp(at(one)).exchange("get key\r\n", "END\r\n");
    assert!(!proxy.stderr().contains("pool one: backend"), "{}", proxy.stderr());
}

#[test]
fn one_signal_ends_all_pools_and_removes_their_sockets() {
    let server = Server::memcached();
    let path = ScratchPath::new("ending-pool");
    let port = free_port();
    let text = pool("one", &at(port).to_string(), "", &[server.address])
        + &pool("two", &format!("{} 0640", path.0.display()), "", &[server.address]);
    let file = File::new("ending", text);
    let mut proxy = Proxy::of_file(file.path(), 2, &[]);
    let mode = std::fs::metadata(&path.0).expect("the socket's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let mut clients = [Talk::tcp(at(port)), Talk::unix(&path.0)];
    for client in &mut clients {
        client.exchange("set key 0 0 1\r\nx\r\nget key\r\n", "STORED\r\nVALUE key 0 1\r\nx\r\nEND\r\n");
    }
    proxy.signal("TERM");
    for client in &mut clients {
        client.expect_closed();
    }
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    assert!(!path.0.exists());
}

#[test]
fn a_single_pool_is_not_named_in_each_line() {
    let server = Server::memcached();
    let port = free_port();
    let file = File::new("single", pool("one", &at(port).to_string(), "", &[server.address]));
    let proxy = Proxy::of_file(file.path(), 1, &["--threads", "1", "--memory-limit", "64m"]);
    let line = proxy.log_line(&["listening on "]);
    assert!(!line.contains("pool"), "{line}");
    Talk::tcp(at(port)).exchange("get key\r\n", "END\r\n");
}
