//! Packets of the binary protocol, written out.

pub(super) use mcproxy::protocol::binary::{opcode, status};

/// A request or a reply, or nothing at all.
#[derive(Clone, Default)]
pub(super) struct Packet {
    magic: u8,
    opcode: u8,
    status: u16,
    opaque: u32,
    cas: u64,
    extras: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Packet {
    pub(super) fn request(opcode: u8) -> Self {
        Packet { magic: 0x80, opcode, ..Packet::default() }
    }

    pub(super) fn reply(opcode: u8) -> Self {
        Packet { magic: 0x81, opcode, ..Packet::default() }
    }

    /// No bytes.
    pub(super) fn nothing() -> Self {
        Packet::default()
    }

    pub(super) fn status(self, status: u16) -> Self {
        Packet { status, ..self }
    }

    pub(super) fn opaque(self, opaque: u32) -> Self {
        Packet { opaque, ..self }
    }

    pub(super) fn cas(self, cas: u64) -> Self {
        Packet { cas, ..self }
    }

    pub(super) fn extras(self, extras: &[u8]) -> Self {
        Packet { extras: extras.to_vec(), ..self }
    }

    pub(super) fn key(self, key: &str) -> Self {
        Packet { key: key.into(), ..self }
    }

    pub(super) fn value(self, value: &str) -> Self {
        Packet { value: value.into(), ..self }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        if self.magic == 0 {
            return Vec::new();
        }
        let body = self.extras.len() + self.key.len() + self.value.len();
        let mut bytes = vec![self.magic, self.opcode];
        bytes.extend((self.key.len() as u16).to_be_bytes());
        bytes.extend([self.extras.len() as u8, 0]);
        bytes.extend(self.status.to_be_bytes());
        bytes.extend((body as u32).to_be_bytes());
        bytes.extend(self.opaque.to_be_bytes());
        bytes.extend(self.cas.to_be_bytes());
        [bytes, self.extras.clone(), self.key.clone(), self.value.clone()].concat()
    }

    /// The packets that `bytes` are made of. What is no whole packet at the end is an error of the test.
    pub(super) fn read_all(mut bytes: &[u8]) -> Vec<Packet> {
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            let number = |at: usize, count: usize| {
                bytes[at..at + count].iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte))
            };
            let (key, extras, body) = (number(2, 2) as usize, number(4, 1) as usize, number(8, 4) as usize);
            let (key_at, value_at) = (24 + extras, 24 + extras + key);
            packets.push(Packet {
                magic: bytes[0],
                opcode: bytes[1],
                status: number(6, 2) as u16,
                opaque: number(12, 4) as u32,
                cas: number(16, 8),
                extras: bytes[24..key_at].to_vec(),
                key: bytes[key_at..value_at].to_vec(),
                value: bytes[value_at..24 + body].to_vec(),
            });
            bytes = &bytes[24 + body..];
        }
        packets
    }

    /// The opaque, which a reply must bear.
    pub(super) fn opaque_of(&self) -> u32 {
        self.opaque
    }

    pub(super) fn opcode_of(&self) -> u8 {
        self.opcode
    }

    pub(super) fn status_of(&self) -> u16 {
        self.status
    }

    pub(super) fn key_of(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn value_of(&self) -> &[u8] {
        &self.value
    }
}

/// Packets for people and for comparing.
impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Packet { magic, opcode, status, opaque, cas, .. } = self;
        write!(f, "{magic:02x} op {opcode:02x} status {status:02x} opaque {opaque:x} cas {cas} ")?;
        let parts = [&self.extras, &self.key, &self.value].map(|part| part.escape_ascii().to_string());
        write!(f, "extras \"{}\" key \"{}\" value \"{}\"", parts[0], parts[1], parts[2])
    }
}
