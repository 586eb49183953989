//! An embedded backend's socket and thread: what a test of bytes alone does not show.

use mcproxy::embedded::EmbeddedBackend;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(60);

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the backend listens");
    socket.set_read_timeout(Some(HANG)).expect("a read timeout");
    socket.set_write_timeout(Some(HANG)).expect("a write timeout");
    socket
}

/// Sends `request` and reads as many bytes as `expected` has.
fn check(socket: &mut TcpStream, request: &[u8], expected: &[u8]) {
    socket.write_all(request).expect("the backend takes requests");
    let mut got = vec![0; expected.len()];
    socket.read_exact(&mut got).expect("the backend answers");
    assert!(got == expected, "{}, not {}", got.escape_ascii(), expected.escape_ascii());
}

/// A number of `stats`.
fn stat(address: SocketAddr, name: &str) -> u64 {
    let mut socket = connect(address);
    socket.write_all(b"stats\r\n").expect("the backend takes requests");
    let start = format!("STAT {name} ");
    let mut number = None;
    for line in BufReader::new(socket).lines() {
        let line = line.expect("the backend answers");
        if line == "END" {
            break;
        }
        number = number.or(line.strip_prefix(&start).map(|text| text.parse().expect("a number")));
    }
    number.unwrap_or_else(|| panic!("stats has no {name}"))
}

#[test]
fn backends_have_their_own_items_and_tokens() {
    let backends = ["one", "two"].map(|name| EmbeddedBackend::start(name).expect("a backend starts"));
    assert_ne!(backends[0].address, backends[1].address);
    for backend in &backends {
        let mut socket = connect(backend.address);
        check(&mut socket, b"gets a\r\n", b"END\r\n");
        check(&mut socket, b"set a 0 0 1\r\n1\r\n", b"STORED\r\n");
        check(&mut socket, b"gets a\r\n", b"VALUE a 0 1 1\r\n1\r\nEND\r\n");
    }
    assert_eq!(backends[1].name, "two");
}

#[test]
fn it_says_that_it_is_embedded() {
    let backend = EmbeddedBackend::start("stats").expect("a backend starts");
    let mut socket = connect(backend.address);
    socket.write_all(b"stats\r\nquit\r\n").expect("the backend takes requests");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("the backend answers");
    assert!(text.contains("\r\nSTAT version 1.6.18\r\nSTAT embedded mcproxy-"), "{text}");
    assert!(text.ends_with("END\r\n"), "{text}");
}

#[test]
fn all_of_many_connections_are_served() {
    const CONNECTIONS: usize = 400;
    let backend = EmbeddedBackend::start("many").expect("a backend starts");
    let mut sockets: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(backend.address)).collect();
    for (index, socket) in sockets.iter_mut().enumerate() {
        let set = format!("set k{index} 0 0 4\r\n{index:04}\r\n");
        socket.write_all(set.as_bytes()).expect("the backend takes requests");
    }
    for (index, socket) in sockets.iter_mut().enumerate() {
        check(socket, b"", b"STORED\r\n");
        let (get, answer) =
            (format!("get k{index}\r\n"), format!("VALUE k{index} 0 4\r\n{index:04}\r\nEND\r\n"));
        check(socket, get.as_bytes(), answer.as_bytes());
    }
    assert_eq!(stat(backend.address, "curr_items"), CONNECTIONS as u64);
    assert!(stat(backend.address, "curr_connections") > CONNECTIONS as u64);
    drop(sockets);
    let start = Instant::now();
    while stat(backend.address, "curr_connections") > 1 {
        assert!(start.elapsed() < HANG, "closed connections stay");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_does_not_read_costs_little_and_stops_nobody() {
    const VALUE: usize = 1_000_000;
    const GETS: usize = 5_000;
    let backend = EmbeddedBackend::start("slow").expect("a backend starts");
    let mut slow = connect(backend.address);
    let value = vec![b'v'; VALUE];
    let set = [format!("set k 0 0 {VALUE}\r\n").into_bytes(), value.clone(), b"\r\n".to_vec()].concat();
    check(&mut slow, &set, b"STORED\r\n");
    let before = resident_bytes();
    slow.write_all(&b"get k\r\n".repeat(GETS)).expect("the backend takes requests");
    // Whenever one looks: no more is written than the two sockets hold, and no more is kept than a turn.
    let mut other = connect(backend.address);
    for _ in 0..100 {
        check(&mut other, b"mn\r\n", b"MN\r\n");
        assert!(stat(backend.address, "bytes_written") < 100_000_000);
        assert!(resident_bytes() < before + 200_000_000);
    }
    // And what it does read is right and in order.
    let answer = [format!("VALUE k 0 {VALUE}\r\n").into_bytes(), value, b"\r\nEND\r\n".to_vec()].concat();
    for _ in 0..20 {
        check(&mut slow, b"", &answer);
    }
}

/// Memory of this process, bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().strip_suffix(" kB").expect("kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_half_closed_connection_gets_all_its_answers() {
    let backend = EmbeddedBackend::start("half").expect("a backend starts");
    let mut socket = connect(backend.address);
    let value = vec![b'v'; 100_000];
    check(
        &mut socket,
        &[b"set k 0 0 100000\r\n".to_vec(), value.clone(), b"\r\n".to_vec()].concat(),
        b"STORED\r\n",
    );
    socket.write_all(&b"get k\r\n".repeat(200)).expect("the backend takes requests");
    socket.shutdown(Shutdown::Write).expect("the end of our side");
    let mut got = Vec::new();
    socket.read_to_end(&mut got).expect("the backend answers and closes");
    let answer = [b"VALUE k 0 100000\r\n".to_vec(), value, b"\r\nEND\r\n".to_vec()].concat();
    assert!(got == answer.repeat(200), "{} bytes", got.len());
}

#[test]
fn the_store_keeps_its_bound() {
    let backend = EmbeddedBackend::start_with("bound", 1 << 20).expect("a backend starts");
    let mut socket = connect(backend.address);
    for index in 0..100 {
        let set = [format!("set k{index} 0 0 50000\r\n").into_bytes(), vec![b'v'; 50_000], b"\r\n".to_vec()];
        check(&mut socket, &set.concat(), b"STORED\r\n");
    }
    assert_eq!(stat(backend.address, "limit_maxbytes"), 1 << 20);
    assert!(stat(backend.address, "bytes") <= 1 << 20);
    assert_eq!(stat(backend.address, "curr_items"), 20);
    assert_eq!(stat(backend.address, "evictions"), 80);
    check(&mut socket, b"get k0\r\nmg k99 s\r\n", b"END\r\nHD s50000\r\n");
}

#[test]
fn items_expire_by_the_real_clock() {
    let backend = EmbeddedBackend::start("clock").expect("a backend starts");
    let mut socket = connect(backend.address);
    check(&mut socket, b"set stays 0 1000 1\r\n1\r\nset goes 0 1 1\r\n1\r\n", b"STORED\r\nSTORED\r\n");
    let start = Instant::now();
    loop {
        socket.write_all(b"mg goes\r\n").expect("the backend takes requests");
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).expect("the backend answers");
        if &answer == b"EN\r\n" {
            break;
        }
        assert_eq!(&answer, b"HD\r\n");
        assert!(start.elapsed() < HANG, "an item of one second stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    check(&mut socket, b"get stays\r\n", b"VALUE stays 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn dropping_it_ends_it() {
    let backend = EmbeddedBackend::start("ends").expect("a backend starts");
    let mut socket = connect(backend.address);
    check(&mut socket, b"mn\r\n", b"MN\r\n");
    drop(backend);
    // The thread has ended, so its sockets are closed.
    match socket.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}
