//! A host name may stand for several addresses, IPv6 and IPv4. They are tried in turn within one
//! --connect-timeout. What a name stands for is a machine's own affair, so here the test plays the resolver to
//! a worker of the library; the sockets are real.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::unbounded;
use mcproxy::control::{Control, Mail};
use mcproxy::io::mio::{BackendAddress, MioIo, Socket};
use mcproxy::limits::Limits;
use mcproxy::placement::{Placement, Server as Placed};
use mcproxy::proxy::Proxy;
use mcproxy::proxy::message::Message;
use mcproxy::proxy::settings::{BackendSettings, Process, ReadErrors, Settings};
use mcproxy::worker;

use super::rig::{BlackHole, Latecomer, Nobody, Proxy as Running, ScratchPath, Talk, stats};
use super::support::inbox::PATIENCE;
use super::support::process::Server;

/// One worker whose only backend is known by name.
struct OneWorker {
    control: Arc<Control>,
    /// What the name stands for at present.
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    running: Option<JoinHandle<()>>,
}

impl OneWorker {
    fn start(connect_timeout: Duration, addresses: &[SocketAddr]) -> Self {
        let (ask, asked) = unbounded();
        let addresses = Arc::new(Mutex::new(addresses.to_vec()));
        let (control, mut handles) = Control::new(1, vec![Some(ask)]);
        let io = MioIo::new(handles.remove(0), vec![BackendAddress::Tcp(Vec::new())]).expect("a selector");
        let proxy = Proxy::new(Arc::new(settings(connect_timeout)), 0, 1);
        let running = std::thread::spawn(move || worker::run(proxy, io).expect("the worker runs"));
        let (known, door) = (Arc::clone(&addresses), Arc::clone(&control));
        std::thread::spawn(move || {
            while asked.recv_timeout(PATIENCE).is_ok() {
                let addresses = known.lock().expect("no holder panicked").clone();
                door.send(0, Mail::Resolved { backend: 0, addresses });
            }
        });
        OneWorker { control, addresses, running: Some(running) }
    }

    fn client(&self) -> Talk {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let client = Talk::tcp(listener.local_addr().expect("bound"));
        let (accepted, _): (TcpStream, _) = listener.accept().expect("a client");
        accepted.set_nonblocking(true).expect("non-blocking");
        self.control.place_client(Socket::Tcp(mio::net::TcpStream::from_std(accepted)));
        client
    }
}

impl Drop for OneWorker {
    fn drop(&mut self) {
        self.control.send_all(|| Message::Drain(Duration::ZERO));
        if let Some(Err(panic)) = self.running.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn settings(connect_timeout: Duration) -> Settings {
    Settings {
        backends: vec![BackendSettings { name: "name:1".to_owned(), by_name: true }],
        placement: Placement::rendezvous(&[Placed { name: "name:1".to_owned(), weight: 1 }]),
        workers: 1,
        max_conns: 10,
        timeout: PATIENCE * 2,
        connect_timeout,
        failure_limit: 1000,
        retry_interval: Duration::from_secs(1),
        read_errors: ReadErrors::Error,
        flush_all_enabled: true,
        limits: Limits::default(),
        process: Process::default(),
    }
}

#[test]
fn ipv6_and_ipv4_are_tried_in_turn_until_one_accepts() {
    let memcached = Server::memcached();
    let there = memcached.address;
    // memcached listens only on 127.0.0.1: at the same port of ::1 nobody does.
    let nobody: SocketAddr = (Ipv6Addr::LOCALHOST, there.port()).into();
    let refusing = Nobody::there();
    for addresses in [&[nobody, there][..], &[there, nobody], &[nobody, refusing.address, there]] {
        let worker = OneWorker::start(PATIENCE, addresses);
        let answer = "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n";
        worker.client().exchange("set key 0 0 5\r\nvalue\r\nget key\r\n", answer);
    }
}

#[test]
fn a_backend_at_an_ipv6_address_or_a_unix_socket() {
    let v4 = Server::memcached();
    let v6: SocketAddr = (Ipv6Addr::LOCALHOST, v4.address.port()).into();
    let path = ScratchPath::new("backend");
    let (_v6, _unix) = (Latecomer::start(v6), Latecomer::start_unix(&path.0));
    let missing = ScratchPath::new("missing");
    for place in [v6.to_string(), format!("unix:{}", path.0.display())] {
        let proxy = Running::start(&place, &[]);
        let mut client = proxy.client();
        client
            .exchange("set key 0 0 5\r\nvalue\r\nget key\r\n", "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n");
        assert_eq!(stats(&mut client)[&format!("backend:{place}:state")], "up");
    }
    let place = format!("unix:{}", missing.0.display());
    let error = Running::start(&place, &[]).client().ask("get key\r\n");
    assert!(error.starts_with(&format!("SERVER_ERROR backend {place} ")), "{error:?}");
}

/// Without a share for each address the first would take all of the time.
#[test]
fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    let (memcached, hole) = (Server::memcached(), BlackHole::open());
    let worker = OneWorker::start(Duration::from_secs(4), &[hole.address, memcached.address]);
    worker.client().exchange("set key 0 0 5\r\nvalue\r\n", "STORED\r\n");
}

#[test]
fn the_last_address_says_why_there_is_no_backend() {
    let refusing = [Nobody::there(), Nobody::there()];
    let worker = OneWorker::start(PATIENCE, &refusing.each_ref().map(|nobody| nobody.address));
    let error = worker.client().ask("get key\r\n");
    assert_eq!(error, "SERVER_ERROR backend name:1 connection refused");
}

#[test]
fn a_name_is_resolved_again_before_each_connect() {
    let (memcached, refusing) = (Server::memcached(), Nobody::there());
    let worker = OneWorker::start(PATIENCE, &[]);
    let mut client = worker.client();
    assert_eq!(client.ask("get key\r\n"), "SERVER_ERROR backend name:1 name does not resolve");
    *worker.addresses.lock().expect("no holder panicked") = vec![refusing.address];
    assert_eq!(client.ask("get key\r\n"), "SERVER_ERROR backend name:1 connection refused");
    *worker.addresses.lock().expect("no holder panicked") = vec![memcached.address];
    client.exchange("get key\r\n", "END\r\n");
}
