//! When the process's budget of bytes is used up: the client that has made no progress for longest, in
//! sending or in taking, gives way, so that others get through.

use std::time::Duration;

use crate::io::ConnId;
use crate::protocol::binary::{HEADER_BYTES, status};
use crate::time::Time;

use super::Proxy;
use super::binary_requests::response;
use super::client::{Client, Protocol};
use super::message::Message;

/// A client that holds less does not help by giving way, bytes.
const WORTH: usize = 4 << 10;

/// A client that has made progress since is not in anybody's way, unless the shortage is great.
const PATIENCE: Duration = Duration::from_millis(100);

/// A great shortage: bytes that a worker holds beyond the budget.
const GREAT: usize = 4 << 20;

/// Between two calls for help to other workers, and between two lines of the log.
const CALLS_APART: Duration = Duration::from_millis(10);
const LINES_APART: Duration = Duration::from_secs(10);

impl Proxy {
    /// Sees to it that what is held is within the budget.
    #[inline]
    pub(super) fn settle_memory(&mut self) {
        if !self.memory.settle() {
            self.make_room();
        }
    }

    #[cold]
    fn make_room(&mut self) {
        while !self.memory.settle() {
            match self.client_in_the_way() {
                Some(conn) => self.give_way(conn),
                None => break,
            }
        }
        if self.memory.is_short() && self.now >= self.called + CALLS_APART {
            self.called = self.now;
            for worker in self.others() {
                self.tell(worker, Message::MakeRoom);
            }
        }
        // What makes room may take a while, and nobody else calls.
        if self.memory.is_short() {
            self.wake_at(self.now + CALLS_APART);
        }
    }

    /// Another worker is short of memory, and this one may have clients that are in everybody's way.
    pub(super) fn help_out(&mut self) {
        if let Some(conn) = self.stalest_client() {
            self.give_way(conn);
        }
    }

    /// The client that is to give way: if the shortage is great, somebody has to.
    fn client_in_the_way(&self) -> Option<ConnId> {
        let great = self.memory.lacking() > GREAT;
        // When all of a crowd go on sending, those who came later were not the ones who filled the memory.
        self.stalest_client()
            .or_else(|| great.then(|| self.first_by(|client| client.began)).flatten().map(|first| first.0))
    }

    /// The client that has made no progress for longest, and for long.
    fn stalest_client(&self) -> Option<ConnId> {
        let (conn, moved) = self.first_by(|client| client.moved)?;
        (self.now >= moved + PATIENCE).then_some(conn)
    }

    /// The client with the earliest `time`, of those that hold something.
    fn first_by(&self, time: impl Fn(&Client) -> Time) -> Option<(ConnId, Time)> {
        let ids = self.clients.ids().filter_map(|(index, generation)| {
            let client = self.clients.get(index as usize, generation)?;
            let holds = client.charged + client.reading >= WORTH && !client.closed && !client.ending;
            holds.then_some((ConnId::client(index, generation), time(client)))
        });
        ids.min_by_key(|&(_, time)| time)
    }

    /// The client's connection ends; if it was sending something, memcached's words for that come first.
    fn give_way(&mut self, conn: ConnId) {
        self.counters.evicted_clients += 1;
        if self.now >= self.shortage_logged + LINES_APART {
            self.shortage_logged = self.now;
            log::warn!("out of memory (--memory-limit): the clients that stand still longest are closed");
        }
        let Some(client) = self.client(conn) else { return };
        let words = client.out_of_memory();
        let owes_nothing = client.slots.len() == 0 && client.sending == 0;
        match words {
            Some(words) if owes_nothing => {
                client.stalled = false;
                self.end_client(conn);
                self.answer_now(conn, &words);
            }
            _ => self.close_client(conn),
        }
        self.charge_client(conn);
    }

    /// What a client holds may have changed.
    pub(super) fn charge_client(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn.index(), conn.generation()) {
            self.memory.charge(client.bytes(), &mut client.charged);
        }
    }

    /// What a link holds may have changed.
    pub(super) fn charge_link(&mut self, conn: ConnId) {
        if let Some(link) = self.links.get_mut(conn.index(), conn.generation()) {
            self.memory.charge(link.bytes(), &mut link.charged);
        }
    }
}

impl Client {
    /// What memcached says to somebody who sends a value for which there is no memory (1.6.18's proto_text.c
    /// and proto_bin.c); `None` if that is not what it does.
    fn out_of_memory(&self) -> Option<Vec<u8>> {
        match self.protocol {
            Protocol::Text if !self.unread.is_empty() => {
                Some(b"SERVER_ERROR out of memory storing object\r\n".to_vec())
            }
            Protocol::Binary => {
                let header: &[u8; HEADER_BYTES] = self.unread.front().first_chunk()?;
                let opaque = [header[12], header[13], header[14], header[15]];
                Some(response(header[1], opaque, status::OUT_OF_MEMORY, b"Out of memory allocating item."))
            }
            _ => None,
        }
    }
}
