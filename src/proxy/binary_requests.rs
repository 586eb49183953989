//! What each request of a binary client becomes. Quiet opcodes go out as their answering kin, under an opaque
//! of the link's own: the reply must bear it, and the client gets its own opcode and opaque back.

use bytes::Bytes;

use crate::io::ConnId;
use crate::protocol::binary::{self, HEADER_BYTES, RESPONSE_MAGIC, Request, Step, opcode, status};
use crate::protocol::compose;

use super::Proxy;
use super::client::{Progress, Refused, Taken, Unlink};
use super::fencing::EXISTS;
use super::link::{Expect, LinkProtocol, Target};
use super::link_queue::Value;

impl Proxy {
    /// Deals with the first frame of a binary client's bytes.
    pub(super) fn take_binary(&mut self, conn: ConnId, input: &[u8], backing: Option<&Bytes>) -> Taken {
        let value_max = self.settings.limits.value_max;
        if let Some((request, length)) = binary::plain(input, value_max) {
            self.forward_binary(conn, &request, &input[..length], backing);
            return Taken::Frame(length);
        }
        match binary::parse(input, value_max) {
            Step::Request(request, length) => {
                if self.take_binary_request(conn, &request, &input[..length], backing) {
                    Taken::Frame(length)
                } else {
                    Taken::Ended
                }
            }
            Step::Partial { total } => Taken::Partial(Progress { scanned: 0, needed: total }),
            Step::Refused(refusal) => {
                let Some((status, message)) = refusal.answer else { return Taken::Ended };
                let answer = response(refusal.opcode, refusal.opaque, status, message);
                let unlink = refusal.unlink.map(|key| Unlink { key: key.into(), base64: false });
                let refused = Refused { answer, unlink, close: refusal.close };
                self.refuse(conn, refusal.swallow, refused);
                Taken::Frame(refusal.consumed)
            }
        }
    }

    /// False if the connection takes no more requests.
    fn take_binary_request(
        &mut self,
        conn: ConnId,
        request: &Request<'_>,
        frame: &[u8],
        backing: Option<&Bytes>,
    ) -> bool {
        match binary::answering(request.opcode).0 {
            opcode::NOOP => {
                self.answer_now(conn, &response(request.opcode, request.opaque, status::OK, b""));
            }
            opcode::VERSION => self.answer_binary_version(conn, request),
            opcode::STAT => self.answer_binary_stats(conn, request),
            opcode::FLUSH => self.flush_all_binary(conn, request),
            opcode::QUIT => {
                if request.opcode == opcode::QUIT {
                    self.answer_now(conn, &response(request.opcode, request.opaque, status::OK, b""));
                }
                return false;
            }
            _ => self.forward_binary(conn, request, frame, backing),
        }
        true
    }

    fn forward_binary(&mut self, conn: ConnId, request: &Request<'_>, frame: &[u8], backing: Option<&Bytes>) {
        let (answering, _) = binary::answering(request.opcode);
        match answering {
            opcode::GET | opcode::GETK => self.counters.cmd_get += 1,
            opcode::GAT | opcode::GATK => {
                self.counters.cmd_get += 1;
                self.counters.cmd_touch += 1;
            }
            opcode::TOUCH => self.counters.cmd_touch += 1,
            opcode::DELETE | opcode::INCREMENT | opcode::DECREMENT => {}
            _ => self.counters.cmd_set += 1,
        }
        let (opcode, opaque, compares) = (request.opcode, request.opaque, request.cas != 0);
        if compares && !self.may_compare(request.key, request.cas) {
            return self.answer_now(conn, &response(opcode, opaque, status::KEY_EXISTS, EXISTS));
        }
        let slot = self.reserve_slot(conn);
        if !matches!(answering, opcode::GET | opcode::GETK) {
            self.note_write(request.key);
        }
        let backend = self.place(request.key).server;
        let expect = Expect::Binary { opcode, opaque, compares, tag: 0 };
        let moved_min = self.settings.limits.moved_min;
        // Replies that bear the key are checked for it, and tokens are remembered under it.
        let keyed = self.fenced || matches!(answering, opcode::GETK | opcode::GATK);
        let key = if keyed { request.key } else { &[] };
        self.queue_or_fail(
            backend,
            LinkProtocol::Binary,
            Target::Slot(conn, slot),
            expect,
            key,
            |out, tag| match backing {
                Some(backing) if request.value.len() >= moved_min => {
                    compose::binary_head(out, request, answering, tag);
                    Value::Moved(backing.slice_ref(request.value))
                }
                _ => {
                    compose::binary(out, request, frame, answering, tag);
                    Value::None
                }
            },
        );
    }

    /// As [`Self::unlink_then_answer`], on the link that the client's other requests take.
    pub(super) fn unlink_then_answer_binary(&mut self, conn: ConnId, key: &[u8], answer: &[u8]) {
        let slot = self.reserve_slot(conn);
        self.note_write(key);
        let backend = self.place(key).server;
        let (opcode, opaque) = (answer[1], [answer[12], answer[13], answer[14], answer[15]]);
        let expect = Expect::BinaryUnlinked { opcode, opaque, tag: 0 };
        let delete = Request { opcode: opcode::DELETE, opaque: [0; 4], cas: 0, extras: &[], key, value: &[] };
        self.queue_or_fail(
            backend,
            LinkProtocol::Binary,
            Target::Slot(conn, slot),
            expect,
            &[],
            |out, tag| {
                compose::binary_head(out, &delete, opcode::DELETE, tag);
                Value::None
            },
        );
    }
}

/// A reply without key, extras and CAS.
pub(super) fn response(opcode: u8, opaque: [u8; 4], status: u16, body: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; HEADER_BYTES];
    reply[0] = RESPONSE_MAGIC;
    reply[1] = opcode;
    reply[6..8].copy_from_slice(&status.to_be_bytes());
    reply[8..12].copy_from_slice(&(body.len() as u32).to_be_bytes());
    reply[12..16].copy_from_slice(&opaque);
    reply.extend_from_slice(body);
    reply
}

/// The client does not want to hear this reply: a miss of a quiet read, the success of a quiet write.
pub(super) fn is_silenced(opcode: u8, status: u16) -> bool {
    let (answering, quiet) = binary::answering(opcode);
    quiet
        && match answering {
            opcode::GET | opcode::GETK | opcode::GAT | opcode::GATK => status == status::KEY_NOT_FOUND,
            _ => status == status::OK,
        }
}
