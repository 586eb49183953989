//! One worker of the library over real sockets, without the program around it: for what the program cannot be
//! made to do from outside.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::unbounded;
use mcproxy::control::{Control, Mail};
use mcproxy::control_loop;
use mcproxy::io::mio::MioIo;
use mcproxy::io::socket::{BackendAddress, Socket};
use mcproxy::ownership::Coordinator;
use mcproxy::proxy::Proxy;
use mcproxy::proxy::message::Message;
use mcproxy::proxy::settings::{BackendSettings, Settings};
use mcproxy::worker;

use super::rig::Talk;
use super::support::inbox::PATIENCE;
use super::support::settings::in_front_of;

/// One worker whose only backend is known by name.
pub(crate) struct OneWorker {
    control: Arc<Control>,
    /// What the name stands for at present.
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    running: Option<JoinHandle<()>>,
}

impl OneWorker {
    /// Tries the backend's addresses within `connect_timeout`.
    pub(crate) fn resolving(connect_timeout: Duration, addresses: &[SocketAddr]) -> Self {
        OneWorker::start(1, connect_timeout, addresses)
    }

    /// Has colleagues that never answer: there are `workers` in all, and only this one runs.
    pub(crate) fn of(workers: usize) -> Self {
        OneWorker::start(workers, PATIENCE, &[])
    }

    fn start(workers: usize, connect_timeout: Duration, addresses: &[SocketAddr]) -> Self {
        let (ask, asked) = unbounded();
        let (notify, notices) = unbounded();
        let addresses = Arc::new(Mutex::new(addresses.to_vec()));
        let (control, mut handles) = Control::new(workers, vec![Some(ask)], notify);
        let settings = Arc::new(settings(workers, connect_timeout));
        let (coordinator, door) = (Coordinator::new(Arc::clone(&settings), 1), Arc::clone(&control));
        std::thread::spawn(move || control_loop::run(coordinator, &notices, &door));
        let io = MioIo::new(handles.remove(0), vec![BackendAddress::Tcp(Vec::new())]).expect("a selector");
        let proxy = Proxy::new(settings, 0);
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

    /// From now on the name stands for these.
    pub(crate) fn resolve_to(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().expect("no holder panicked") = addresses.to_vec();
    }

    /// A new client, of this worker if it is the first.
    pub(crate) fn client(&self) -> Talk {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let client = Talk::tcp(listener.local_addr().expect("bound"));
        let (accepted, _): (TcpStream, _) = listener.accept().expect("a client");
        accepted.set_nonblocking(true).expect("non-blocking");
        self.control.place_client(Socket::tcp(accepted));
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

fn settings(workers: usize, connect_timeout: Duration) -> Settings {
    let name = "name:1".to_owned();
    Settings {
        workers,
        max_conns: 10,
        timeout: PATIENCE * 2,
        connect_timeout,
        failure_limit: 1000,
        backends: vec![BackendSettings { name: name.clone(), by_name: true }],
        ..in_front_of(&[name])
    }
}
