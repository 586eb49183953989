//! The engine of one worker, without a kernel: it keeps the promises of [`crate::io`] over the simulated
//! network, and holds the core to its side of them.

use std::io;
use std::io::IoSlice;
use std::time::Duration;

use crate::buffer::Outbox;
use crate::io::{Action, Calls, ConnId, Failure, Handler, Io};
use crate::time::Time;

use super::network::{Completion, DoorState, Event, Mail, Network, Peer};
use super::trace::show;

/// Reads that one connection gets in a tick.
const READS_PER_TICK: usize = 2;

/// Bytes that one read brings at most.
pub(super) const READ_BYTES: usize = 16 << 10;

/// Bytes that still come after reading was paused, at most.
pub(super) const GRACE_BYTES: usize = 1 << 10;

/// A worker's view of the network, for one turn of its loop.
pub(super) struct SimIo<'n> {
    pub(super) network: &'n mut Network,
    pub(super) worker: usize,
}

impl Io for SimIo<'_> {
    fn poll<H: Handler>(&mut self, _timeout: Option<Duration>, handler: &mut H) -> io::Result<()> {
        for completion in std::mem::take(&mut self.network.desks[self.worker].completions) {
            self.complete(completion, handler);
        }
        if handler.has_actions() {
            return Ok(());
        }
        handler.handle_now(self.network.now());
        let ready = std::mem::take(&mut self.network.desks[self.worker].ready);
        let is_link = |network: &Network, conn: usize| matches!(network.conns[conn].peer, Peer::Backend(_));
        for links in [true, false] {
            let mut turn: Vec<usize> =
                ready.iter().copied().filter(|&conn| is_link(self.network, conn) == links).collect();
            self.network.random.shuffle(&mut turn);
            turn.into_iter().for_each(|conn| self.look_at(conn, handler));
        }
        while let Some(mail) = self.network.desks[self.worker].mail.pop_front() {
            self.take_mail(mail, handler);
        }
        Ok(())
    }

    fn submit(&mut self, action: Action) {
        match action {
            Action::Send { conn, buffer } => self.send(conn, buffer),
            Action::Connect { conn, backend, address } => self.connect(conn, backend, address),
            Action::Resolve { backend } => self.resolve(backend),
            Action::PauseRead(id) => self.pause(id),
            Action::ResumeRead(id) => {
                let Some(conn) = self.find(id, "resumed") else { return };
                let near = &mut self.network.conns[conn].near;
                if !std::mem::replace(&mut near.paused, false) {
                    self.network.violate(format!("{id:?} is resumed and was not paused"));
                }
                self.network.touch_near(conn);
            }
            Action::ShutdownWrite(id) => {
                let Some(conn) = self.find(id, "shut down") else { return };
                if std::mem::replace(&mut self.network.conns[conn].near.shut, true) {
                    self.network.violate(format!("{id:?} is shut down twice"));
                }
                self.note(conn, 20, || "shuts its sending side down".to_string());
                // A send in flight ends where it is.
                if let Some((buffer, written)) = self.network.conns[conn].near.sending.take() {
                    let completion = Completion::Sent(id, buffer, written);
                    self.network.desks[self.worker].completions.push(completion);
                }
                self.network.finish(conn, false);
            }
            Action::Close(id) => self.close(id),
            Action::Tell { worker, message } if worker < self.network.desks.len() => {
                let delay = self.network.weather.delay(&mut self.network.random, &mut self.network.tally);
                self.network.schedule.after(delay, Event::Mail(worker, Mail::Message(message)));
            }
            Action::Tell { message, .. } => self.network.desks[self.worker].told.push(*message),
            Action::Notify(notice) => {
                let delay = self.network.weather.delay(&mut self.network.random, &mut self.network.tally);
                let at = self.network.desks[self.worker].last_notice.max(self.network.now() + delay);
                self.network.desks[self.worker].last_notice = at;
                self.network.schedule.at(at, Event::Notice(self.worker, notice));
            }
            Action::Stop => {}
        }
    }

    fn now(&self) -> Time {
        self.network.now()
    }

    fn take_calls(&mut self) -> Calls {
        Calls::default()
    }
}

/// Telling the core.
impl SimIo<'_> {
    fn complete<H: Handler>(&mut self, completion: Completion, handler: &mut H) {
        match completion {
            Completion::Sent(id, buffer, written) => self.give_back(id, buffer, written, handler),
            Completion::Failed(id, failure) => {
                self.network.note(&[21, id.to_bits()], || format!("{id:?} has failed: {failure:?}"));
                handler.handle_failed(id, failure);
            }
            Completion::Closed(id) => {
                self.network.desks[self.worker].ids.remove(&id.to_bits());
                self.network.note(&[22, id.to_bits()], || format!("{id:?} is gone"));
                handler.handle_closed(id);
            }
        }
    }

    fn give_back<H: Handler>(&mut self, id: ConnId, buffer: Outbox, written: usize, handler: &mut H) {
        self.network.desks[self.worker].bytes[if id.is_link() { 3 } else { 1 }] += written as u64;
        handler.handle_sent(id, buffer, written);
    }

    fn take_mail<H: Handler>(&mut self, mail: Mail, handler: &mut H) {
        match mail {
            Mail::Client(conn) => {
                let id = handler.handle_accepted();
                self.network.desks[self.worker].clients += 1;
                self.insert(id, conn);
                self.network.conns[conn].near.connected = true;
                self.note(conn, 23, || format!("is {id:?}"));
                self.network.touch_near(conn);
            }
            Mail::Resolved(backend, addresses) => handler.handle_resolved(backend, addresses),
            Mail::Message(message) => handler.handle_message(*message),
        }
    }

    /// Tells what has become known of a connection.
    fn look_at<H: Handler>(&mut self, conn: usize, handler: &mut H) {
        let near = &mut self.network.conns[conn].near;
        let Some(id) = near.id.filter(|_| !near.closed && !near.failure_told) else { return };
        match near.connect_result.take() {
            Some(Ok(())) => {
                near.connected = true;
                self.note(conn, 24, || "is connected".to_string());
                handler.handle_connected(id);
            }
            Some(Err(failure)) => {
                near.failure_told = true;
                self.note(conn, 25, || format!("cannot connect: {failure:?}"));
                return handler.handle_failed(id, failure);
            }
            None if !near.connected => return,
            None => {}
        }
        self.read(conn, id, handler);
        self.go_on_writing(conn, id, handler);
    }

    fn read<H: Handler>(&mut self, conn: usize, id: ConnId, handler: &mut H) {
        for _ in 0..READS_PER_TICK {
            let near = &self.network.conns[conn].near;
            let most = if near.paused { near.grace } else { READ_BYTES };
            let there = self.network.conns[conn].to_proxy.arrived.len().min(most);
            if there == 0 {
                break;
            }
            let count = self.cut(there);
            let bytes = self.network.conns[conn].to_proxy.take(count);
            let near = &mut self.network.conns[conn].near;
            near.grace = near.grace.saturating_sub(count);
            self.network.desks[self.worker].bytes[if id.is_link() { 2 } else { 0 }] += count as u64;
            let now = self.network.now();
            self.network
                .trace
                .note(now, &[26, conn as u64], &bytes, || format!("#{conn} {id:?} reads {}", show(&bytes)));
            // The far end has room again.
            self.network.wake_far(conn, Duration::from_micros(20));
            handler.handle_received(id, &bytes);
        }
        let state = &mut self.network.conns[conn];
        if state.near.paused {
            return;
        }
        if !state.to_proxy.arrived.is_empty() {
            return self.network.touch_near(conn);
        }
        if let Some(failure) = state.near.broken {
            return self.fail(conn, id, failure, handler);
        }
        if state.to_proxy.is_over() && !std::mem::replace(&mut state.near.eof_told, true) {
            self.note(conn, 27, || "has ended".to_string());
            handler.handle_eof(id);
        }
    }

    /// How many of so many bytes one read brings.
    fn cut(&mut self, there: usize) -> usize {
        let random = &mut self.network.random;
        if !random.once_in(self.network.weather.split) {
            return there;
        }
        self.network.tally.count("fault: short read");
        if random.once_in(3) { 1 } else { 1 + random.below(there) }
    }

    fn fail<H: Handler>(&mut self, conn: usize, id: ConnId, failure: Failure, handler: &mut H) {
        let near = &mut self.network.conns[conn].near;
        near.failure_told = true;
        if let Some((buffer, written)) = near.sending.take() {
            self.give_back(id, buffer, written, handler);
        }
        self.note(conn, 28, || format!("has failed: {failure:?}"));
        handler.handle_failed(id, failure);
    }

    fn go_on_writing<H: Handler>(&mut self, conn: usize, id: ConnId, handler: &mut H) {
        let near = &mut self.network.conns[conn].near;
        if near.closed || near.failure_told || near.sending.is_none() {
            return;
        }
        if let Some(failure) = near.broken {
            return self.fail(conn, id, failure, handler);
        }
        if !std::mem::take(&mut near.writable) {
            return;
        }
        let before = near.sending.as_ref().map(|(_, written)| *written);
        let done = self.write(conn);
        let near = &mut self.network.conns[conn].near;
        if done {
            let Some((buffer, written)) = near.sending.take() else { return };
            self.give_back(id, buffer, written, handler);
        } else if near.sending.as_ref().map(|(_, written)| *written) > before {
            handler.handle_progress(id);
        }
    }
}

/// Carrying out what the core wants.
impl SimIo<'_> {
    fn insert(&mut self, id: ConnId, conn: usize) {
        if self.network.desks[self.worker].ids.insert(id.to_bits(), conn).is_some() {
            self.network.violate(format!("{id:?} is in use"));
        }
        self.network.conns[conn].near.id = Some(id);
    }

    /// The connection of an action; one that was closed takes no more of them.
    fn find(&mut self, id: ConnId, what: &str) -> Option<usize> {
        let found = self.network.desks[self.worker].ids.get(&id.to_bits()).copied();
        let open = found.filter(|&conn| !self.network.conns[conn].near.closed);
        if open.is_none() {
            self.network.violate(format!("{id:?} is {what} and not there"));
        }
        open
    }

    fn note(&mut self, conn: usize, what: u64, line: impl FnOnce() -> String) {
        let id = self.network.conns[conn].near.id;
        self.network.note(&[what, conn as u64], || format!("#{conn} {id:?} {}", line()));
    }

    fn pause(&mut self, id: ConnId) {
        let Some(conn) = self.find(id, "paused") else { return };
        self.network.tally.count("outcome: paused");
        let graceful = self.network.random.once_in(self.network.weather.grace);
        let state = &mut self.network.conns[conn];
        state.near.grace = if graceful { state.to_proxy.arrived.len().min(GRACE_BYTES) } else { 0 };
        if std::mem::replace(&mut state.near.paused, true) {
            self.network.violate(format!("{id:?} is paused twice"));
        }
    }

    fn connect(&mut self, id: ConnId, backend: usize, address: usize) {
        let conn = self.network.connection(Peer::Backend(backend), self.worker);
        self.network.desks[self.worker].links += 1;
        self.insert(id, conn);
        self.note(conn, 29, || format!("connects to backend {backend}, address {address}"));
        let Network { weather, random, tally, doors, .. } = &mut *self.network;
        let door = doors[backend];
        let mut delay = weather.delay(random, tally);
        if random.once_in(weather.slow_connect) {
            tally.count("fault: slow connect");
            delay = weather.long(random);
        }
        let result = if address != door.address {
            Err(random.pick(&[Failure::Unreachable, Failure::Refused]))
        } else if random.once_in(weather.refused) || door.state == DoorState::Refusing {
            tally.count("fault: refused connect");
            Err(Failure::Refused)
        } else if door.state == DoorState::BlackHole {
            tally.count("fault: black hole");
            return;
        } else {
            Ok(())
        };
        self.network.schedule.after(delay, Event::ConnectDone(conn, result));
    }

    fn resolve(&mut self, backend: usize) {
        let Network { weather, random, tally, doors, .. } = &mut *self.network;
        let addresses = if weather.refused > 0 && random.once_in(8) {
            tally.count("fault: name without address");
            0
        } else {
            doors[backend].addresses
        };
        let delay = weather.delay(random, tally);
        self.network.schedule.after(delay, Event::Mail(self.worker, Mail::Resolved(backend, addresses)));
    }

    fn send(&mut self, id: ConnId, buffer: Outbox) {
        let Some(conn) = self.find(id, "written to") else { return };
        let near = &mut self.network.conns[conn].near;
        let (connected, busy, shut, told) =
            (near.connected, near.sending.is_some(), near.shut, near.failure_told);
        if !connected || busy || shut {
            let what = format!("{id:?} is written to: connected {connected}, sending {busy}, shut {shut}");
            return self.network.violate(what);
        }
        if told {
            return self.network.desks[self.worker].completions.push(Completion::Sent(id, buffer, 0));
        }
        near.sending = Some((buffer, 0));
        if self.network.random.once_in(self.network.weather.reset) {
            self.network.tally.count("fault: reset");
            self.write_some(conn);
            self.network.reset(conn);
        }
        if let Some(failure) = self.network.conns[conn].near.broken {
            return self.broken_send(conn, id, failure);
        }
        if self.network.random.once_in(self.network.weather.late_send) {
            self.network.tally.count("fault: late write");
            let delay = self.network.weather.delay(&mut self.network.random, &mut self.network.tally);
            return self.network.schedule.after(delay, Event::Writable(conn));
        }
        if self.write(conn)
            && let Some((buffer, written)) = self.network.conns[conn].near.sending.take()
        {
            self.network.desks[self.worker].completions.push(Completion::Sent(id, buffer, written));
        }
    }

    /// The kernel knows already that the connection is broken.
    fn broken_send(&mut self, conn: usize, id: ConnId, failure: Failure) {
        let near = &mut self.network.conns[conn].near;
        let Some((buffer, written)) = near.sending.take() else { return };
        near.failure_told = true;
        let completions = &mut self.network.desks[self.worker].completions;
        completions.push(Completion::Sent(id, buffer, written));
        completions.push(Completion::Failed(id, failure));
    }

    /// Writes what the window takes, or only a part of that. True when all of it is written.
    fn write(&mut self, conn: usize) -> bool {
        let part = self.network.random.once_in(self.network.weather.split);
        self.write_part(conn, part)
    }

    /// Writes a part of what is left, and seldom all of it.
    fn write_some(&mut self, conn: usize) {
        let part = !self.network.random.once_in(4);
        self.write_part(conn, part);
    }

    fn write_part(&mut self, conn: usize, part: bool) -> bool {
        let Some((buffer, mut written)) = self.network.conns[conn].near.sending.take() else { return false };
        let bytes = contents(&buffer);
        let mut rest = &bytes[written..];
        if part && rest.len() > 1 {
            rest = &rest[..1 + self.network.random.below(rest.len() - 1)];
        }
        let taken = self.network.put(conn, rest, false);
        let now = self.network.now();
        let id = self.network.conns[conn].near.id;
        self.network.trace.note(now, &[30, conn as u64], &rest[..taken], || {
            format!("#{conn} {id:?} writes {}", show(&rest[..taken]))
        });
        written += taken;
        let done = written == bytes.len();
        if !done {
            self.network.tally.count("fault: short write");
            if taken == rest.len() {
                let delay = self.network.weather.delay(&mut self.network.random, &mut self.network.tally);
                self.network.schedule.after(delay, Event::Writable(conn));
            }
        }
        self.network.conns[conn].near.sending = Some((buffer, written));
        done
    }

    fn close(&mut self, id: ConnId) {
        let Some(conn) = self.find(id, "closed") else { return };
        self.note(conn, 31, || "is closed by the proxy".to_string());
        let state = &mut self.network.conns[conn];
        state.near.closed = true;
        state.to_proxy.arrived.clear();
        if let Some((buffer, written)) = state.near.sending.take() {
            self.network.desks[self.worker].completions.push(Completion::Sent(id, buffer, written));
        }
        self.network.finish(conn, false);
        self.network.wake_far(conn, Duration::ZERO);
        if self.network.random.once_in(self.network.weather.late_send) {
            let delay = self.network.weather.delay(&mut self.network.random, &mut self.network.tally);
            self.network.schedule.after(delay, Event::LetGo(conn));
        } else {
            self.network.desks[self.worker].completions.push(Completion::Closed(id));
        }
    }
}

/// The bytes of an outbox.
fn contents(outbox: &Outbox) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(outbox.len());
    while bytes.len() < outbox.len() {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = outbox.slices(bytes.len(), &mut slices);
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
    }
    bytes
}
