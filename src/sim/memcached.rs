//! The model memcached: the embedded one's protocol and store, in memory, and all that can go wrong with a
//! server. It reads a closed link's bytes to their end, as the real one does.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::embedded::session::{Session, Then};
use crate::embedded::store::{Clock, Store};
use crate::protocol::base64;
use crate::protocol::binary;
use crate::protocol::text::{self, ParserLimits};

use super::history::History;
use super::lies::Lies;
use super::network::{DoorState, Network, Peer};

/// Unix time at which runs begin.
const EPOCH: u64 = 1_700_000_000;

/// Bytes that a server holds: never so few that it evicts.
const STORE_BYTES: usize = 64 << 20;

/// What frames requests.
const LIMITS: ParserLimits = ParserLimits { value_max: 1 << 20, get_line_max: 1 << 20 };

/// One backend.
pub(super) struct Server {
    backend: usize,
    pub(super) store: Store,
    sides: BTreeMap<usize, Side>,
    pub(super) alive: bool,
    pub(super) frozen: bool,
    /// It takes so long for each look at a link, once in so many looks.
    pub(super) late: usize,
    pub(super) late_max: Duration,
    pub(super) lies: Lies,
}

/// The server's end of a link.
#[derive(Default)]
struct Side {
    session: Session,
    inbox: Vec<u8>,
    /// Answers that the link has not taken.
    unsent: Vec<u8>,
    over: bool,
}

impl Server {
    pub(super) fn new(backend: usize) -> Self {
        Server {
            backend,
            store: new_store(backend, 0, EPOCH),
            sides: BTreeMap::new(),
            alive: true,
            frozen: false,
            late: 0,
            late_max: Duration::ZERO,
            lies: Lies::default(),
        }
    }

    /// Looks at a link: takes some of what has come, carries it out, and answers.
    pub(super) fn serve(&mut self, conn: usize, network: &mut Network, history: &mut History) {
        if !self.alive || self.frozen || network.conns[conn].far_closed {
            return;
        }
        let side = self.sides.entry(conn).or_default();
        if !flush(side, conn, network) {
            return;
        }
        let there = network.conns[conn].from_proxy.arrived.len();
        if there > 0 {
            let split = network.weather.split;
            let most = if network.random.once_in(split) { 1 + network.random.below(there) } else { there };
            side.inbox.extend_from_slice(&network.far_read(conn, most));
            self.work(conn, network, history);
        }
        let Some(side) = self.sides.get_mut(&conn) else { return };
        let flushed = flush(side, conn, network);
        let state = &network.conns[conn];
        let more = !state.from_proxy.arrived.is_empty();
        let ended = side.over || (state.from_proxy.fin_arrived && !more) || (state.far_broken && !more);
        if ended && flushed {
            network.far_close(conn);
            self.sides.remove(&conn);
        } else if more {
            let delay = self.delay(network);
            network.wake_far(conn, delay);
        }
    }

    /// How long the next look takes.
    pub(super) fn delay(&self, network: &mut Network) -> Duration {
        if network.random.once_in(self.late) {
            network.tally.count("fault: late answer");
            return Duration::from_micros(
                network.random.between(1_000, self.late_max.as_micros() as u64 + 1_000),
            );
        }
        Duration::from_micros(network.random.between(5, 60))
    }

    /// The process ends. What it had read or not is lost; its links break, at once or when it is back.
    pub(super) fn die(&mut self, silently: bool, network: &mut Network, history: &mut History) {
        if !self.alive {
            return;
        }
        let waiting = self.sides.values().filter(|side| !side.inbox.is_empty()).count();
        network.tally.add("fault: died with a request in part", waiting as u64);
        let backend = self.backend;
        network.note(&[40, backend as u64], || format!("backend {backend} dies, silently: {silently}"));
        self.alive = false;
        self.sides.clear();
        history.restart(backend);
        let state = if silently { DoorState::BlackHole } else { DoorState::Refusing };
        network.doors[backend].state = state;
        if !silently {
            self.break_links(network);
        }
    }

    /// It starts again, empty, with tokens from 1.
    pub(super) fn start(&mut self, network: &mut Network, history: &mut History) {
        if self.alive {
            return;
        }
        let backend = self.backend;
        network.note(&[41, backend as u64], || format!("backend {backend} starts again"));
        network.tally.count("fault: restart");
        self.break_links(network);
        history.start(backend);
        let life = history.lives[backend];
        self.store = new_store(backend, life, EPOCH + network.now().0 / 1_000_000);
        self.alive = true;
        self.frozen = false;
        network.doors[backend].state = DoorState::Open;
    }

    /// It does nothing any more until it is thawed; the kernel goes on taking connects and bytes.
    pub(super) fn freeze(&mut self, frozen: bool, network: &mut Network) {
        let backend = self.backend;
        if self.frozen == frozen || !self.alive {
            return;
        }
        network.note(&[42, backend as u64], || format!("backend {backend} is frozen: {frozen}"));
        network.tally.count(if frozen { "fault: freeze" } else { "fault: thaw" });
        self.frozen = frozen;
        if !frozen {
            for conn in self.links(network) {
                let delay = self.delay(network);
                network.wake_far(conn, delay);
            }
        }
    }

    /// All links of it that its process has not closed.
    fn links(&self, network: &Network) -> Vec<usize> {
        let is_mine = |conn: &&usize| {
            let state = &network.conns[**conn];
            state.peer == Peer::Backend(self.backend) && state.near.connected && !state.far_closed
        };
        (0..network.conns.len()).collect::<Vec<_>>().iter().filter(is_mine).copied().collect()
    }

    fn break_links(&mut self, network: &mut Network) {
        for conn in self.links(network) {
            network.reset(conn);
            let state = &mut network.conns[conn];
            state.from_proxy.arrived.clear();
            state.far_closed = true;
        }
    }

    /// Carries out the whole requests of a link.
    fn work(&mut self, conn: usize, network: &mut Network, history: &mut History) {
        let clock = Clock(EPOCH + network.now().0 / 1_000_000);
        while let Some(side) = self.sides.get_mut(&conn)
            && !side.over
        {
            let total = match frame(&side.inbox) {
                Ok(Some(total)) => total,
                Ok(None) => return,
                Err(what) => return network.violate(format!("backend {} was sent {what}", self.backend)),
            };
            let request: Vec<u8> = side.inbox.drain(..total).collect();
            if let Err(what) = history.note_request(&request) {
                network.violate(format!("backend {}: {what}", self.backend));
            }
            let mut answer = Vec::new();
            if let Some(refusal) = self.lies.refuse(&request, network) {
                answer = refusal;
            } else {
                let mut then = side.session.receive(&request, &mut self.store, clock, &mut answer);
                while then == Then::Full {
                    then = side.session.receive(&[], &mut self.store, clock, &mut answer);
                }
                side.over = then == Then::Close;
            }
            let state = &network.conns[conn];
            // What the network broke may be applied at any time, and nobody can know.
            let is_over =
                !state.far_broken && history.owners.is_over(self.backend, state.worker, state.opened);
            for change in self.store.journal.iter_mut().flat_map(|journal| journal.drain(..)) {
                if let Err(what) = history.note(self.backend, &change, is_over) {
                    network.violate(what);
                }
            }
            for name in told_tokens(&request) {
                history.hand_out(self.backend, &name);
            }
            if self.lies.tell(&request, &mut answer, network) {
                history.liars[self.backend] = true;
            }
            side.unsent.extend_from_slice(&answer);
        }
    }
}

fn new_store(backend: usize, life: u32, started: u64) -> Store {
    let mut store = Store::new(STORE_BYTES, Clock(started));
    store.process = 1000 * (backend as u32 + 1) + life;
    store.journal = Some(Vec::new());
    store
}

/// Gives the link what it takes of the answers. True if that is all.
fn flush(side: &mut Side, conn: usize, network: &mut Network) -> bool {
    if !side.unsent.is_empty() {
        let taken = network.far_write(conn, &side.unsent);
        side.unsent.drain(..taken);
    }
    side.unsent.is_empty()
}

/// The keys whose tokens the answer to a request bears: those of gets, gats and mg with `c`, and of
/// everything binary.
fn told_tokens(request: &[u8]) -> Vec<Vec<u8>> {
    if request[0] == binary::REQUEST_MAGIC {
        let (key, extras) = (usize::from(request[3]), usize::from(request[4]));
        return vec![request[binary::HEADER_BYTES + extras..][..key].to_vec()];
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    match words[..] {
        [b"gets", ref keys @ ..] | [b"gats", _, ref keys @ ..] => {
            keys.iter().map(|key| key.to_vec()).collect()
        }
        [b"mg", key, ref flags @ ..] if flags.contains(&&b"c"[..]) => {
            let mut room = [0; 256];
            let decoded = if flags.contains(&&b"b"[..]) { base64::decode(key, &mut room) } else { Some(key) };
            vec![decoded.unwrap_or_default().to_vec()]
        }
        _ => Vec::new(),
    }
}

/// Bytes of the first whole request.
fn frame(inbox: &[u8]) -> Result<Option<usize>, String> {
    let refused = || Err(format!("what memcached refuses: {}", super::trace::show(inbox)));
    match inbox.first() {
        None => Ok(None),
        Some(&binary::REQUEST_MAGIC) => match binary::parse(inbox, LIMITS.value_max) {
            binary::Step::Request(_, total) => Ok(Some(total)),
            binary::Step::Partial { .. } => Ok(None),
            binary::Step::Refused(_) => refused(),
        },
        Some(_) => match text::parse(inbox, 0, &LIMITS) {
            text::Step::Request(_, total) => Ok(Some(total)),
            text::Step::Partial(_) => Ok(None),
            text::Step::Refused(_) => refused(),
        },
    }
}
