//! Frames of the binary protocol, written from memcached's doc/protocol-binary.txt and on purpose not from
//! the proxy's own code, so that both are not wrong alike.

use std::fmt;

use super::report::escape;

/// Bytes of a header.
pub(crate) const HEADER: usize = 24;

/// Commands.
pub(crate) mod opcode {
    pub(crate) const GET: u8 = 0x00;
    pub(crate) const SET: u8 = 0x01;
    pub(crate) const REPLACE: u8 = 0x03;
    pub(crate) const DELETE: u8 = 0x04;
    pub(crate) const INCREMENT: u8 = 0x05;
    pub(crate) const FLUSH: u8 = 0x08;
    pub(crate) const GETQ: u8 = 0x09;
    pub(crate) const NOOP: u8 = 0x0a;
    pub(crate) const VERSION: u8 = 0x0b;
    pub(crate) const GETK: u8 = 0x0c;
    pub(crate) const GETKQ: u8 = 0x0d;
    pub(crate) const APPEND: u8 = 0x0e;
    pub(crate) const PREPEND: u8 = 0x0f;
    pub(crate) const STAT: u8 = 0x10;
    pub(crate) const SETQ: u8 = 0x11;
    pub(crate) const DELETEQ: u8 = 0x14;
    pub(crate) const FLUSHQ: u8 = 0x18;
    pub(crate) const TOUCH: u8 = 0x1c;
    pub(crate) const GATQ: u8 = 0x1e;
}

/// What became of a command.
pub(crate) mod status {
    pub(crate) const FOUND: u16 = 0x0000;
    pub(crate) const NOT_FOUND: u16 = 0x0001;
    pub(crate) const EXISTS: u16 = 0x0002;
    pub(crate) const TOO_LARGE: u16 = 0x0003;
    pub(crate) const OUT_OF_MEMORY: u16 = 0x0082;
    pub(crate) const TEMPORARY_FAILURE: u16 = 0x0086;
    /// The two that stand where a text client gets a SERVER_ERROR.
    pub(crate) const REFUSALS: [u16; 2] = [OUT_OF_MEMORY, TEMPORARY_FAILURE];
}

/// A request or a reply. Numbers are those of the header, in host order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// 0x80 for a request, 0x81 for a reply.
    pub(crate) magic: u8,
    /// The command.
    pub(crate) opcode: u8,
    /// vbucket of a request, status of a reply.
    pub(crate) status: u16,
    /// Chosen by who asks, given back by who answers.
    pub(crate) opaque: u32,
    /// The CAS token.
    pub(crate) cas: u64,
    /// Flags, expiry and the like.
    pub(crate) extras: Vec<u8>,
    /// The key.
    pub(crate) key: Vec<u8>,
    /// The rest of the body.
    pub(crate) value: Vec<u8>,
}

impl Frame {
    /// A request with no extras, key or value.
    pub(crate) fn request(opcode: u8, opaque: u32) -> Self {
        Frame { magic: 0x80, opcode, opaque, ..Frame::default() }
    }

    /// A reply with no extras, key or value.
    pub(crate) fn reply(opcode: u8, status: u16, opaque: u32) -> Self {
        Frame { magic: 0x81, opcode, status, opaque, ..Frame::default() }
    }

    /// The same with other extras.
    pub(crate) fn extras(mut self, extras: &[u8]) -> Self {
        self.extras = extras.to_vec();
        self
    }

    /// The same with another key.
    pub(crate) fn key(mut self, key: &[u8]) -> Self {
        self.key = key.to_vec();
        self
    }

    /// The same with another value.
    pub(crate) fn value(mut self, value: &[u8]) -> Self {
        self.value = value.to_vec();
        self
    }

    /// The same with another CAS token.
    pub(crate) fn cas(mut self, cas: u64) -> Self {
        self.cas = cas;
        self
    }

    /// The same with another opaque.
    pub(crate) fn opaque(mut self, opaque: u32) -> Self {
        self.opaque = opaque;
        self
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let mut bytes = vec![self.magic, self.opcode];
        bytes.extend_from_slice(&(self.key.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&[self.extras.len() as u8, 0]);
        bytes.extend_from_slice(&self.status.to_be_bytes());
        bytes.extend_from_slice(&(body as u32).to_be_bytes());
        bytes.extend_from_slice(&self.opaque.to_be_bytes());
        bytes.extend_from_slice(&self.cas.to_be_bytes());
        bytes.extend_from_slice(&self.extras);
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&self.value);
        bytes
    }

    /// The frame at the start of `bytes` and its length; `None` if it is not whole, or no frame at all.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Frame, usize)> {
        let total = frame_length(bytes)?;
        let frame = bytes.get(..total)?;
        let key_length = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
        let extras_length = usize::from(frame[4]);
        let body = &frame[HEADER..];
        let (extras, rest) = body.split_at_checked(extras_length)?;
        let (key, value) = rest.split_at_checked(key_length)?;
        let read = Frame {
            magic: frame[0],
            opcode: frame[1],
            status: u16::from_be_bytes([frame[6], frame[7]]),
            opaque: u32::from_be_bytes(frame[12..16].try_into().expect("four bytes")),
            cas: u64::from_be_bytes(frame[16..24].try_into().expect("eight bytes")),
            extras: extras.to_vec(),
            key: key.to_vec(),
            value: value.to_vec(),
        };
        Some((read, total))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{:#04x} op {:#04x} status {:#06x} opaque {:#010x} cas {} extras {} key {} value {}]",
            self.magic,
            self.opcode,
            self.status,
            self.opaque,
            self.cas,
            escape(&self.extras),
            escape(&self.key),
            escape(&self.value)
        )
    }
}

/// The frames that `bytes` are made of, and what is left behind the last whole one.
pub(crate) fn frames(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut list = Vec::new();
    while let Some((frame, total)) = Frame::read(bytes) {
        list.push(frame);
        bytes = &bytes[total..];
    }
    (list, bytes)
}

/// Bytes of the frame whose header starts `bytes`; `None` while the header is not whole.
pub(crate) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(8..12)?;
    bytes.get(..HEADER)?;
    Some(HEADER + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize)
}

/// `replies` with every nonzero CAS token made 1. What is no whole frame stays as it is.
pub(crate) fn hide_tokens(replies: &[u8]) -> Vec<u8> {
    let mut hidden = replies.to_vec();
    let mut start = 0;
    while let Some(total) = frame_length(&hidden[start..]).filter(|&total| start + total <= hidden.len()) {
        let token = &mut hidden[start + 16..start + HEADER];
        if token.iter().any(|&byte| byte != 0) {
            token.copy_from_slice(&1_u64.to_be_bytes());
        }
        start += total;
    }
    hidden
}
