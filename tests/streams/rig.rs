//! A proxy between a client and scripted backends, and the proof after each case that no byte is left
//! anywhere.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::support::binary::opcode::TOUCH;
use crate::support::binary::Frame;
use crate::support::client::Client;
use crate::support::mock::{Manner, Mock, which_is_asked};
use crate::support::process::{Server, named_backends};

/// Arguments under which nothing is late and no backend is given up: a case that wants either says so.
const PATIENT: &[&str] =
    &["--threads", "1", "--timeout", "60s", "--connect-timeout", "20s", "--failure-limit", "1000"];

/// One proxy and its backends, named s0, s1, ...
pub(crate) struct Rig {
    /// The backends, in the order of their names.
    pub(crate) mocks: Vec<Mock>,
    proxy: Option<Server>,
    entry: SocketAddr,
    fences: AtomicU32,
}

impl Rig {
    /// A proxy that is never impatient before this many plain mocks.
    pub(crate) fn start(backends: usize) -> Self {
        Rig::with(vec![Manner::default(); backends], PATIENT)
    }

    /// A proxy with these arguments and mocks of these manners.
    pub(crate) fn with(manners: Vec<Manner>, arguments: &[&str]) -> Self {
        Rig::before(manners.into_iter().map(Mock::with).collect(), arguments)
    }

    /// A patient proxy before mocks of these manners.
    pub(crate) fn patient(manners: Vec<Manner>) -> Self {
        Rig::with(manners, PATIENT)
    }

    /// A proxy with these arguments before these mocks.
    pub(crate) fn before(mocks: Vec<Mock>, arguments: &[&str]) -> Self {
        let addresses: Vec<SocketAddr> = mocks.iter().map(|mock| mock.address).collect();
        let proxy = Server::mcproxy(&named_backends(&addresses), arguments);
        let entry = proxy.address;
        Rig { mocks, proxy: Some(proxy), entry, fences: AtomicU32::new(1) }
    }

    /// A proxy whose backends are not mocks, or not there.
    pub(crate) fn of(proxy: Server) -> Self {
        let entry = proxy.address;
        Rig { mocks: Vec::new(), proxy: Some(proxy), entry, fences: AtomicU32::new(1) }
    }

    /// No proxy at all: something else listens at `entry` and leads to the mock.
    pub(crate) fn without_proxy(mock: Mock, entry: SocketAddr) -> Self {
        Rig { mocks: vec![mock], proxy: None, entry, fences: AtomicU32::new(1) }
    }

    /// A new connection to the proxy.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.entry)
    }

    /// Where the proxy listens.
    pub(crate) fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// The first backend, where there is but one.
    pub(crate) fn mock(&self) -> &Mock {
        &self.mocks[0]
    }

    /// What the proxy logged.
    pub(crate) fn log(&self) -> String {
        self.proxy.as_ref().map(Server::errors).unwrap_or_default()
    }

    /// For each backend `count` keys that live on it, found by asking.
    pub(crate) fn keys(&self, count: usize) -> Result<Vec<Vec<String>>, String> {
        let mut keys = vec![Vec::new(); self.mocks.len()];
        let mocks: Vec<&Mock> = self.mocks.iter().collect();
        let client = self.client();
        for number in 0.. {
            if keys.iter().all(|list: &Vec<String>| list.len() >= count) {
                break;
            }
            let key = format!("key{number}");
            let question = format!("touch {key} 0\r\n");
            client.send(question.as_bytes());
            let (owner, link) = which_is_asked(&mocks)?;
            link.expect(question.as_bytes())?;
            link.send(b"NOT_FOUND\r\n");
            client.expect(b"NOT_FOUND\r\n")?;
            if keys[owner].len() < count {
                keys[owner].push(key);
            }
        }
        Ok(keys)
    }

    /// Proves that nothing is under way between `client`, a text one, and the backends: a request of which
    /// there is only one is the next thing that its backend sees, and its answer the next that the client
    /// sees. `keys` names one key for each backend to be looked at.
    pub(crate) fn nothing_left(&self, client: &Client, keys: &[&str]) -> Result<(), String> {
        let problem = |text: String| format!("after the case: {text}");
        for key in keys {
            let fence = self.fences.fetch_add(1, Ordering::Relaxed);
            let request = format!("touch {key} {fence}\r\n");
            client.send(request.as_bytes());
            let (_, link) = which_is_asked(&self.mocks.iter().collect::<Vec<_>>()).map_err(problem)?;
            link.expect(request.as_bytes()).map_err(problem)?;
            link.send(b"TOUCHED\r\n");
            client.expect(b"TOUCHED\r\n").map_err(problem)?;
        }
        self.mocks.iter().try_for_each(Mock::nothing_left).map_err(problem)
    }

    /// The same for a binary client.
    pub(crate) fn nothing_left_binary(&self, client: &Client, keys: &[&str]) -> Result<(), String> {
        let problem = |text: String| format!("after the case: {text}");
        for key in keys {
            let fence = self.fences.fetch_add(1, Ordering::Relaxed);
            let request = Frame::request(TOUCH, 0).extras(&fence.to_be_bytes()).key(key.as_bytes());
            client.send(&request.clone().opaque(fence).bytes());
            let (_, link) = which_is_asked(&self.mocks.iter().collect::<Vec<_>>()).map_err(problem)?;
            let seen = link.take_frame().map_err(problem)?;
            if seen.clone().opaque(0) != request {
                return Err(problem(format!("backend sees {seen} instead of {request}")));
            }
            link.send(&Frame::reply(TOUCH, 0, seen.opaque).bytes());
            client.expect(&Frame::reply(TOUCH, 0, fence).bytes()).map_err(problem)?;
        }
        self.mocks.iter().try_for_each(Mock::nothing_left).map_err(problem)
    }
}

/// Fails the test with the report and what the proxy logged.
pub(crate) fn settle(rig: &Rig, name: &str, outcome: Result<(), String>) {
    if let Err(report) = outcome {
        panic!("{name}: {report}\nlog of the proxy:\n{}", rig.log());
    }
}
