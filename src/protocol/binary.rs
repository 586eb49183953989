//! Requests of the binary protocol (memcached's doc/protocol-binary.txt, and 1.6.18's proto_bin.c for what it
//! does with wrong ones).

use super::plain::{usual, usual_if};
use crate::limits::{KEY_MAX, LINE_MAX};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;

/// First byte of a request.
pub const REQUEST_MAGIC: u8 = 0x80;

/// First byte of a reply.
pub const RESPONSE_MAGIC: u8 = 0x81;

/// Opcodes by their names in the protocol document.
#[allow(missing_docs)]
pub mod opcode {
    pub const GET: u8 = 0x00;
    pub const SET: u8 = 0x01;
    pub const ADD: u8 = 0x02;
    pub const REPLACE: u8 = 0x03;
    pub const DELETE: u8 = 0x04;
    pub const INCREMENT: u8 = 0x05;
    pub const DECREMENT: u8 = 0x06;
    pub const QUIT: u8 = 0x07;
    pub const FLUSH: u8 = 0x08;
    pub const GETQ: u8 = 0x09;
    pub const NOOP: u8 = 0x0a;
    pub const VERSION: u8 = 0x0b;
    pub const GETK: u8 = 0x0c;
    pub const GETKQ: u8 = 0x0d;
    pub const APPEND: u8 = 0x0e;
    pub const PREPEND: u8 = 0x0f;
    pub const STAT: u8 = 0x10;
    pub const SETQ: u8 = 0x11;
    pub const ADDQ: u8 = 0x12;
    pub const REPLACEQ: u8 = 0x13;
    pub const DELETEQ: u8 = 0x14;
    pub const INCREMENTQ: u8 = 0x15;
    pub const DECREMENTQ: u8 = 0x16;
    pub const QUITQ: u8 = 0x17;
    pub const FLUSHQ: u8 = 0x18;
    pub const APPENDQ: u8 = 0x19;
    pub const PREPENDQ: u8 = 0x1a;
    pub const VERBOSITY: u8 = 0x1b;
    pub const TOUCH: u8 = 0x1c;
    pub const GAT: u8 = 0x1d;
    pub const GATQ: u8 = 0x1e;
    pub const SASL_LIST: u8 = 0x20;
    pub const SASL_AUTH: u8 = 0x21;
    pub const SASL_STEP: u8 = 0x22;
    pub const GATK: u8 = 0x23;
    pub const GATKQ: u8 = 0x24;
}

/// Status codes by their names in the protocol document.
#[allow(missing_docs)]
pub mod status {
    pub const OK: u16 = 0x0000;
    pub const KEY_NOT_FOUND: u16 = 0x0001;
    pub const KEY_EXISTS: u16 = 0x0002;
    pub const TOO_LARGE: u16 = 0x0003;
    pub const INVALID_ARGUMENTS: u16 = 0x0004;
    pub const NOT_STORED: u16 = 0x0005;
    pub const NON_NUMERIC: u16 = 0x0006;
    pub const AUTH_ERROR: u16 = 0x0020;
    pub const UNKNOWN_COMMAND: u16 = 0x0081;
    pub const OUT_OF_MEMORY: u16 = 0x0082;
    pub const TEMPORARY_FAILURE: u16 = 0x0086;
}

/// What stands at the start of a client's unread bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole request, and the bytes it had.
    Request(Request<'a>, usize),
    /// Answered here.
    Refused(Refusal<'a>),
    /// Not whole yet: call again when there are `total` bytes (header included).
    Partial {
        /// Bytes needed to get on.
        total: usize,
    },
}

/// A request that was understood. Which fields mean something depends on `opcode`; lengths were checked
/// against it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As sent.
    pub opcode: u8,
    /// What the client wants back in the answer, as its four bytes.
    pub opaque: [u8; 4],
    /// The CAS token, zero for none.
    pub cas: u64,
    /// As sent: flags, expiry, delta, ...
    pub extras: &'a [u8],
    /// 0 to 250 bytes.
    pub key: &'a [u8],
    /// May be empty.
    pub value: &'a [u8],
}

impl Request<'_> {
    /// It changes nothing: without somebody who wants the answer it need not be carried out.
    pub fn only_reads(&self) -> bool {
        matches!(answering(self.opcode).0, opcode::GET | opcode::GETK)
    }
}

/// A request that we answer ourselves, as memcached does.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// As sent.
    pub opcode: u8,
    /// As sent.
    pub opaque: [u8; 4],
    /// Status and message of the answer; `None` where memcached closes without one.
    pub answer: Option<(u16, &'static [u8])>,
    /// Bytes of the input to drop now.
    pub consumed: usize,
    /// Bytes to drop after these, as they arrive; the answer is due when they have.
    pub swallow: u64,
    /// The key whose item memcached removes because its new value could not be taken.
    pub unlink: Option<&'a [u8]>,
    /// The connection ends after the answer.
    pub close: bool,
}

/// Reads one request from the start of `input`. Values larger than `value_max` bytes are refused.
#[inline]
pub fn parse(input: &[u8], value_max: usize) -> Step<'_> {
    match plain(input, value_max) {
        Some((request, bytes)) => Step::Request(request, bytes),
        None => any(input, value_max),
    }
}

/// A whole request that is about a key and has nothing unusual, and the bytes it had: what [`parse`] says of
/// it, sooner. `None` where a closer look is needed.
#[inline]
pub fn plain(input: &[u8], value_max: usize) -> Option<(Request<'_>, usize)> {
    let (bytes, rest) = input.split_first_chunk::<HEADER_BYTES>()?;
    let Header { opcode, key, body, opaque, cas, .. } = Header::read(bytes);
    let start = u64::from_le_bytes(*bytes.first_chunk()?) & !OPCODE_AND_KEY;
    usual_if(start == PLAIN.starts[usize::from(opcode)])?;
    // It is what the start has besides the magic.
    let (extras, key) = ((start >> 32) as usize, usize::from(key));
    usual_if(key.wrapping_sub(1) < KEY_MAX)?;
    let body = usual(rest.get(..body as usize))?;
    let value = usual(body.get(extras + key..))?;
    usual_if(value.is_empty() || (PLAIN.with_value[usize::from(opcode)] && value.len() <= value_max))?;
    let (extras, key) = (&body[..extras], &body[extras..extras + key]);
    Some((Request { opcode, opaque, cas, extras, key, value }, HEADER_BYTES + body.len()))
}

/// Of a header's first eight bytes those that differ between plain requests with the same extras.
const OPCODE_AND_KEY: u64 = u64::from_le_bytes([0, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/// Plain requests, by opcode.
struct Plain {
    /// The other bytes: the magic, the length of the extras, and three zeros, compared at once. Of an
    /// opcode that is not plain something else.
    starts: [u64; 256],
    /// There may be a value.
    with_value: [bool; 256],
}

const PLAIN: Plain = {
    use opcode::*;
    let rows: [(u8, bool, &[u8]); 5] = [
        (0, false, &[GET, GETQ, GETK, GETKQ, DELETE, DELETEQ]),
        (8, true, &[SET, SETQ, ADD, ADDQ, REPLACE, REPLACEQ]),
        (0, true, &[APPEND, APPENDQ, PREPEND, PREPENDQ]),
        (20, false, &[INCREMENT, INCREMENTQ, DECREMENT, DECREMENTQ]),
        (4, false, &[TOUCH, GAT, GATQ, GATK, GATKQ]),
    ];
    let mut plain = Plain { starts: [u64::MAX; 256], with_value: [false; 256] };
    let mut row = 0;
    while row < rows.len() {
        let (extras, with_value, opcodes) = rows[row];
        let mut at = 0;
        while at < opcodes.len() {
            let opcode = opcodes[at] as usize;
            plain.starts[opcode] = u64::from_le_bytes([REQUEST_MAGIC, 0, 0, 0, extras, 0, 0, 0]);
            plain.with_value[opcode] = with_value;
            at += 1;
        }
        row += 1;
    }
    plain
};

/// Any request. Not part of its callers, so that the way of the plain ones stays short.
#[inline(never)]
fn any(input: &[u8], value_max: usize) -> Step<'_> {
    let Some((bytes, _)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return Step::Partial { total: HEADER_BYTES };
    };
    let header = Header::read(bytes);
    if header.magic != REQUEST_MAGIC {
        return header.give_up(input, None);
    }
    let (extras_bytes, key_bytes) = (usize::from(header.extras), usize::from(header.key));
    let head = HEADER_BYTES + extras_bytes + key_bytes;
    if input.len() < head || head > HEAD_MAX {
        return header.wait(input, head);
    }
    let (extras_and_key, rest) = input[HEADER_BYTES..].split_at(extras_bytes + key_bytes);
    let (extras, key) = extras_and_key.split_at(extras_bytes);
    match header.verdict() {
        Verdict::Whole => header.request(extras, key, &[], head),
        Verdict::Value => {
            let value_bytes = header.body as usize - extras_bytes - key_bytes;
            if value_bytes > value_max.min(i32::MAX as usize) {
                return header.too_large(key, head, value_bytes);
            }
            match rest.get(..value_bytes) {
                Some(value) => header.request(extras, key, value, head + value_bytes),
                None => Step::Partial { total: head + value_bytes },
            }
        }
        Verdict::Unknown { swallow } => header.unknown(head, swallow),
        Verdict::Inconsistent => header.give_up(input, Some(UNKNOWN_COMMAND)),
        Verdict::Invalid => header.give_up(input, Some(INVALID_ARGUMENTS)),
    }
}

type Answer = (u16, &'static [u8]);

const UNKNOWN_COMMAND: Answer = (status::UNKNOWN_COMMAND, b"Unknown command");
const INVALID_ARGUMENTS: Answer = (status::INVALID_ARGUMENTS, b"Invalid arguments");
const TOO_LARGE: Answer = (status::TOO_LARGE, b"Too large.");

/// Header, extras and key must fit memcached's read buffer; else it closes when that is full and more comes.
const HEAD_MAX: usize = LINE_MAX;

/// A request's header, lengths in bytes.
struct Header {
    magic: u8,
    opcode: u8,
    key: u16,
    extras: u8,
    body: u32,
    opaque: [u8; 4],
    cas: u64,
}

/// What memcached makes of a header.
enum Verdict {
    /// A request without value. What the body may have more is left to be read as the next header.
    Whole,
    /// What the body has more than extras and key is the value.
    Value,
    /// No such command; that many bytes are swallowed after header, extras and key.
    Unknown { swallow: u32 },
    /// The body is shorter than its parts: answered as unknown, and closed.
    Inconsistent,
    /// Lengths that the command does not have: answered and closed.
    Invalid,
}

impl Header {
    #[inline]
    fn read(bytes: &[u8; HEADER_BYTES]) -> Header {
        let [magic, opcode, k0, k1, extras, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, cas @ ..] = *bytes;
        Header {
            magic,
            opcode,
            key: u16::from_be_bytes([k0, k1]),
            extras,
            body: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: [o0, o1, o2, o3],
            cas: u64::from_be_bytes(cas),
        }
    }

    /// memcached's dispatch_bin_command.
    #[inline]
    fn verdict(&self) -> Verdict {
        use opcode::*;
        let (key, extras, body) = (u32::from(self.key), u32::from(self.extras), self.body);
        if key + extras > body {
            return Verdict::Inconsistent;
        }
        if usize::from(self.key) > KEY_MAX {
            return Verdict::Invalid;
        }
        let exact = key + extras == body;
        let (valid, verdict) = match answering(self.opcode).0 {
            GET | GETK | DELETE => (key > 0 && extras == 0 && exact, Verdict::Whole),
            SET | ADD | REPLACE => (key > 0 && extras == 8, Verdict::Value),
            INCREMENT | DECREMENT => (key > 0 && extras == 20 && exact, Verdict::Whole),
            APPEND | PREPEND => (key > 0 && extras == 0, Verdict::Value),
            TOUCH | GAT | GATK => (key > 0 && extras == 4, Verdict::Whole),
            NOOP | VERSION | QUIT => (body == 0, Verdict::Whole),
            FLUSH => (key == 0 && exact && (extras == 0 || extras == 4), Verdict::Whole),
            STAT => (extras == 0, Verdict::Whole),
            SASL_LIST => (body == 0, Verdict::Unknown { swallow: 0 }),
            SASL_AUTH | SASL_STEP => (key > 0 && extras == 0, Verdict::Unknown { swallow: body - key }),
            _ => (true, Verdict::Unknown { swallow: body }),
        };
        if valid { verdict } else { Verdict::Invalid }
    }

    /// Extras or key are not there yet, or never will be.
    fn wait<'a>(&self, input: &'a [u8], head: usize) -> Step<'a> {
        if input.len() > HEAD_MAX {
            return self.give_up(input, None);
        }
        Step::Partial { total: head.min(HEAD_MAX + 1) }
    }

    #[inline]
    fn request<'a>(&self, extras: &'a [u8], key: &'a [u8], value: &'a [u8], bytes: usize) -> Step<'a> {
        let Header { opcode, opaque, cas, .. } = *self;
        Step::Request(Request { opcode, opaque, cas, extras, key, value }, bytes)
    }

    /// The item goes if it was to be replaced: memcached keeps no stale value. It counts the bytes to swallow
    /// in an int. Where that comes out negative, it swallows nothing after a Set, Add or Replace, and loses
    /// its way in an Append or Prepend; there we swallow all.
    fn too_large<'a>(&self, key: &'a [u8], head: usize, value_bytes: usize) -> Step<'a> {
        use opcode::{APPEND, PREPEND, SET};
        let verb = answering(self.opcode).0;
        let counted = value_bytes <= i32::MAX as usize || matches!(verb, APPEND | PREPEND);
        let swallow = if counted { value_bytes as u64 } else { 0 };
        self.refuse(TOO_LARGE, head, swallow, (verb == SET).then_some(key))
    }

    /// Here too the bytes to swallow are counted in an int.
    fn unknown<'a>(&self, head: usize, swallow: u32) -> Step<'a> {
        self.refuse(UNKNOWN_COMMAND, head, i32::try_from(swallow).map_or(0, |bytes| bytes as u64), None)
    }

    fn refuse<'a>(&self, answer: Answer, head: usize, swallow: u64, unlink: Option<&'a [u8]>) -> Step<'a> {
        let Header { opcode, opaque, .. } = *self;
        let (answer, consumed) = (Some(answer), head);
        Step::Refused(Refusal { opcode, opaque, answer, consumed, swallow, unlink, close: false })
    }

    fn give_up<'a>(&self, input: &'a [u8], answer: Option<Answer>) -> Step<'a> {
        let Header { opcode, opaque, .. } = *self;
        let consumed = input.len();
        Step::Refused(Refusal { opcode, opaque, answer, consumed, swallow: 0, unlink: None, close: true })
    }
}

/// The opcode that always answers, for one that may keep silent; and whether it was such a one.
pub fn answering(opcode: u8) -> (u8, bool) {
    use opcode::*;
    match opcode {
        GETQ => (GET, true),
        GETKQ => (GETK, true),
        SETQ => (SET, true),
        ADDQ => (ADD, true),
        REPLACEQ => (REPLACE, true),
        DELETEQ => (DELETE, true),
        INCREMENTQ => (INCREMENT, true),
        DECREMENTQ => (DECREMENT, true),
        QUITQ => (QUIT, true),
        FLUSHQ => (FLUSH, true),
        APPENDQ => (APPEND, true),
        PREPENDQ => (PREPEND, true),
        GATQ => (GAT, true),
        GATKQ => (GATK, true),
        other => (other, false),
    }
}
