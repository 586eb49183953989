//! The question that a link begins with: who is there? A link takes requests only when that is known, for a
//! memcached that was restarted issues the same CAS tokens again.
//!
//! It is `stats`, in the link's own protocol. It stands outside of the pipeline: nothing else is written
//! before it is answered, and a link that ends before that has carried no request.

use crate::io::{Action, ConnId};
use crate::limits::GREETING_BYTES_MAX;
use crate::ownership::change::Notice;
use crate::ownership::identity::{Identity, Stats};
use crate::protocol::binary::{HEADER_BYTES, Request, opcode, status};
use crate::protocol::compose;
use crate::protocol::reply::{self, Frame};

use super::Proxy;
use super::backend::Why;
use super::link::{LinkProtocol, LinkState};
use super::message::Message;

/// What is known of the answer so far.
enum Answer {
    /// It is not whole.
    Partial,
    /// All of it, in so many bytes.
    Whole(Stats, usize),
    /// No answer to that.
    Broken,
}

impl Proxy {
    /// Asks who is there, now that the link stands.
    pub(super) fn greet(&mut self, conn: ConnId) {
        let deadline = self.due;
        let mut buffer = crate::buffer::Outbox::default();
        let tail = buffer.tail(&mut self.room.spare);
        let Some(link) = self.links.get_mut(conn.index(), conn.generation()) else { return };
        match link.protocol {
            LinkProtocol::Text => tail.extend_from_slice(b"stats\r\n"),
            LinkProtocol::Binary => {
                let stat = Request {
                    opcode: opcode::STAT,
                    opaque: [0; 4],
                    cas: 0,
                    extras: &[],
                    key: &[],
                    value: &[],
                };
                compose::binary_head(tail, &stat, opcode::STAT, 0);
            }
        }
        link.state = LinkState::Greeting;
        link.attempt_deadline = deadline;
        link.greeting_in_flight = true;
        link.sending = buffer.len();
        self.actions.push_back(Action::Send { conn, buffer });
        self.charge_link(conn);
        self.wake_at(deadline);
    }

    /// Bytes of the answer.
    pub(super) fn take_greeting(&mut self, conn: ConnId, bytes: &[u8]) {
        let limits = self.reply_limits;
        let Some(link) = self.link(conn) else { return };
        link.unread.extend_from_slice(bytes);
        let answer = match link.protocol {
            LinkProtocol::Text => text_answer(&link.unread, limits),
            LinkProtocol::Binary => binary_answer(&link.unread, limits),
        };
        let (whole, backend) = (link.unread.len(), link.backend);
        match answer {
            Answer::Partial if whole <= GREETING_BYTES_MAX => self.charge_link(conn),
            Answer::Whole(stats, length) if length == whole => {
                link.unread = Vec::new();
                link.state = LinkState::Met;
                link.identity = stats.identity();
                link.attempt_deadline = crate::time::Time::NEVER;
                let identity = link.identity;
                self.charge_link(conn);
                self.note_version(backend, stats.version);
                self.meet(conn, backend, identity);
            }
            _ => {
                let shown = std::mem::take(&mut link.unread);
                self.out_of_step(conn, &shown);
            }
        }
    }

    /// A link knows who is there: it may be used at once if that is who was there before.
    fn meet(&mut self, conn: ConnId, backend: usize, identity: Option<Identity>) {
        if self.backends[backend].probing == Some(conn) {
            self.backends[backend].probing = None;
            self.notify(Notice::Probed { backend, answered: true });
        }
        if identity.is_some() && self.backends[backend].identity == Some(identity) {
            self.vouch(conn);
        } else {
            self.notify(Notice::Met { backend, identity });
        }
    }

    /// The process behind a backend is known: links to it go on, links to another one are given up.
    pub(super) fn take_vouched(&mut self, backend: usize, identity: Option<Identity>) {
        self.backends[backend].identity = Some(identity);
        for conn in [self.backends[backend].text, self.backends[backend].binary].into_iter().flatten() {
            let Some(link) = self.link(conn) else { continue };
            if link.state == LinkState::Met && link.identity == identity {
                self.vouch(conn);
            } else if matches!(link.state, LinkState::Met | LinkState::Standing) && link.identity != identity
            {
                self.lose_link(conn, Why::Lost);
            }
        }
    }

    fn vouch(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(link) = self.link(conn) else { return };
        link.state = LinkState::Standing;
        link.heard = now;
        self.touch_link(conn);
    }

    fn note_version(&mut self, backend: usize, version: Option<Box<[u8]>>) {
        let Some(version) = version else { return };
        if self.backends[backend].version.as_deref() != Some(&*version) {
            let version: std::sync::Arc<[u8]> = version.into();
            for worker in self.others() {
                let message = Message::Version { backend, version: version.clone() };
                self.tell(worker, message);
            }
            self.backends[backend].version = Some(version);
        }
    }
}

/// Lines of `STAT name value` up to `END`; or an error in their place, from a server that does not say.
fn text_answer(mut input: &[u8], limits: reply::ReplyLimits) -> Answer {
    let (mut stats, mut at) = (Stats::default(), 0);
    loop {
        let total = match reply::line(input, limits) {
            Frame::Line { total } => total,
            Frame::Partial { .. } => return Answer::Partial,
            _ => return Answer::Broken,
        };
        let line = &input[..total - 2];
        at += total;
        if line == b"END" || (at == total && reply::is_error(line)) {
            return Answer::Whole(stats, at);
        }
        let Some(stat) = line.strip_prefix(b"STAT ") else { return Answer::Broken };
        let name = stat.iter().position(|&byte| byte == b' ').unwrap_or(stat.len());
        stats.take(&stat[..name], stat.get(name + 1..).unwrap_or(b""));
        input = &input[total..];
    }
}

/// As [`text_answer`]: replies with a name and a value each, up to one without.
fn binary_answer(mut input: &[u8], limits: reply::ReplyLimits) -> Answer {
    let (mut stats, mut at) = (Stats::default(), 0);
    loop {
        let header = match reply::binary(input, limits) {
            Ok(header) => header,
            Err(Frame::Partial { .. }) => return Answer::Partial,
            Err(_) => return Answer::Broken,
        };
        if header.opcode != opcode::STAT || header.opaque != 0 {
            return Answer::Broken;
        }
        let total = HEADER_BYTES + header.body;
        at += total;
        if header.key == 0 || header.status != status::OK {
            return Answer::Whole(stats, at);
        }
        let start = HEADER_BYTES + header.extras;
        stats.take(&input[start..start + header.key], &input[start + header.key..total]);
        input = &input[total..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: reply::ReplyLimits = reply::ReplyLimits { line_max: 1000, value_max: 1000 };

    fn text(input: &str) -> Option<(Option<Identity>, usize)> {
        match text_answer(input.as_bytes(), LIMITS) {
            Answer::Whole(stats, length) => Some((stats.identity(), length)),
            Answer::Partial => None,
            Answer::Broken => panic!("{input:?} is broken"),
        }
    }

    #[test]
    fn stats_tell_who_is_there() {
        let answer = "STAT pid 7\r\nSTAT empty \r\nSTAT uptime 10\r\nSTAT time 110\r\nEND\r\n";
        assert_eq!(text(answer), Some((Some(Identity { pid: 7, started: 100 }), answer.len())));
        for cut in 0..answer.len() {
            assert_eq!(text(&answer[..cut]), None, "cut at {cut}");
        }
        assert_eq!(text("ERROR\r\n"), Some((None, 7)));
        assert_eq!(text("END\r\n"), Some((None, 5)));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for input in ["VERSION 1\r\n", "STAT a b\r\nERROR\r\n", "STAT a b\nEND\r\n", "\r\n"] {
            let answer = text_answer(input.as_bytes(), LIMITS);
            assert!(matches!(answer, Answer::Broken), "{input:?}");
        }
    }

    #[test]
    fn binary_stats_end_with_an_empty_one() {
        let packet = |name: &str, value: &str| {
            let mut packet = super::super::binary_requests::response(
                opcode::STAT,
                [0; 4],
                status::OK,
                format!("{name}{value}").as_bytes(),
            );
            packet[3] = name.len() as u8;
            packet
        };
        let answer =
            [packet("pid", "7"), packet("uptime", "10"), packet("time", "110"), packet("", "")].concat();
        for cut in 0..answer.len() {
            assert!(matches!(binary_answer(&answer[..cut], LIMITS), Answer::Partial), "cut at {cut}");
        }
        let Answer::Whole(stats, length) = binary_answer(&answer, LIMITS) else { panic!("it is whole") };
        assert_eq!((stats.identity(), length), (Some(Identity { pid: 7, started: 100 }), answer.len()));
        let mut other = answer;
        other[1] = opcode::NOOP;
        assert!(matches!(binary_answer(&other, LIMITS), Answer::Broken));
    }
}
