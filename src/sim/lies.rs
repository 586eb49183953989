//! Answers that are not what memcached says: legal refusals, and what no memcached should send.

use crate::protocol::binary;

use super::network::Network;

/// How often a backend answers wrongly: chances of once in so many answers, zero for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lies {
    /// It has no memory, says so, and changes nothing.
    pub(super) refusals: usize,
    /// It sends what cannot be the answer.
    pub(super) lies: usize,
    /// It was started with -F.
    pub(super) refuses_flush: bool,
}

/// What a backend has no business to send.
const GARBAGE: [&[u8]; 6] =
    [b"\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n", b"\r\n", b"\x81\xff\xff\xff", b"VALUE \r\n", b"END"];

/// Answers that somebody else may have asked for.
const SURPLUS: [&[u8]; 5] = [b"STORED\r\n", b"END\r\n", b"HD\r\n", b"EN\r\n", b"NOT_FOUND\r\n"];

impl Lies {
    /// The answer of a backend that has no memory for this request, if it is to have none.
    pub(super) fn refuse(&self, request: &[u8], network: &mut Network) -> Option<Vec<u8>> {
        if self.refuses_flush && request.starts_with(b"flush_all") {
            network.tally.count("fault: flush refused");
            return Some(b"CLIENT_ERROR flush_all not allowed\r\n".to_vec());
        }
        if !network.random.once_in(self.refusals) || is_greeting(request) {
            return None;
        }
        network.tally.count("fault: SERVER_ERROR");
        if request[0] != binary::REQUEST_MAGIC {
            return Some(b"SERVER_ERROR out of memory storing object\r\n".to_vec());
        }
        let mut answer = request[..binary::HEADER_BYTES].to_vec();
        answer[0] = binary::RESPONSE_MAGIC;
        answer[2..8].copy_from_slice(&[0, 0, 0, 0, 0, binary::status::OUT_OF_MEMORY as u8]);
        answer[8..12].copy_from_slice(&13u32.to_be_bytes());
        answer[16..24].fill(0);
        answer.extend_from_slice(b"Out of memory");
        Some(answer)
    }

    /// Spoils an answer, or does not. True if it did.
    pub(super) fn tell(&self, request: &[u8], answer: &mut Vec<u8>, network: &mut Network) -> bool {
        if !network.random.once_in(self.lies) {
            return false;
        }
        let random = &mut network.random;
        let what = match random.below(6) {
            0 => {
                let at = random.below(answer.len() + 1);
                answer.splice(at..at, random.pick(&GARBAGE).iter().copied());
                "fault: garbage"
            }
            1 => {
                answer.extend_from_slice(random.pick(&SURPLUS));
                "fault: surplus answer"
            }
            2 => {
                answer.extend_from_within(..);
                "fault: answer twice"
            }
            3 => {
                answer.truncate(random.below(answer.len().max(1)));
                "fault: short answer"
            }
            4 => {
                answer.clear();
                "fault: no answer"
            }
            _ => {
                let end = answer.iter().rposition(|&byte| byte == b'E').unwrap_or(0);
                answer.splice(end..end, b"END\r\n".iter().copied());
                "fault: wrong END"
            }
        };
        network.tally.count(what);
        network.note(&[45], || format!("{what}, to {}", super::trace::show(request)));
        true
    }
}

fn is_greeting(request: &[u8]) -> bool {
    request == b"stats\r\n" || request.get(1) == Some(&binary::opcode::STAT)
}
