//! Requests of the binary protocol (memcached's doc/protocol-binary.txt, and 1.6.18's proto_bin.c for what it
//! does with wrong ones).

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
pub fn parse(input: &[u8], value_max: usize) -> Step<'_> {
    let _ = (input, value_max);
    Step::Partial { total: HEADER_BYTES }
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
