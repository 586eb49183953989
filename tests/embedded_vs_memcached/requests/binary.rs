//! Random requests of the binary protocol.

use super::super::rng::Rng;
use super::{Generator, LARGE_KEY, Request, addition, key, large_value, value};
use mcproxy::protocol::binary::opcode;

/// A request's parts, put together with lengths that fit unless one is given.
#[derive(Default)]
struct Frame {
    opcode: u8,
    opaque: u32,
    cas: u64,
    extras: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    key_bytes: Option<u16>,
    body_bytes: Option<u32>,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let body = (self.extras.len() + self.key.len() + self.value.len()) as u32;
        let mut bytes = vec![0x80, self.opcode];
        bytes.extend(self.key_bytes.unwrap_or(self.key.len() as u16).to_be_bytes());
        bytes.extend([self.extras.len() as u8, 0, 0, 0]);
        bytes.extend(self.body_bytes.unwrap_or(body).to_be_bytes());
        bytes.extend(self.opaque.to_be_bytes());
        bytes.extend(self.cas.to_be_bytes());
        [bytes, self.extras.clone(), self.key.clone(), self.value.clone()].concat()
    }
}

pub(crate) fn request(generator: &Generator, rng: &mut Rng) -> Request {
    if rng.once_in(60) {
        return closing(rng);
    }
    let mut frame = match rng.below(20) {
        0..5 => read(rng),
        5..11 => store(rng),
        11..14 => append(rng),
        14..17 => arithmetic(rng),
        17 => Frame {
            opcode: rng.pick(&[opcode::DELETE, opcode::DELETEQ]),
            key: short_key(rng),
            ..Frame::default()
        },
        18 => about_the_server(rng),
        _ => unknown(rng),
    };
    frame.opaque = rng.next() as u32 & 0x7fff_ffff;
    if rng.once_in(4) {
        frame.cas = generator.token(rng);
    }
    let mut bytes = frame.bytes();
    if frame.key == LARGE_KEY {
        // A look at what became of it, without the value.
        let look = Frame { opcode: opcode::TOUCH, extras: vec![0; 4], key: frame.key, ..Frame::default() };
        bytes.extend(look.bytes());
    }
    Request { bytes, closes: false }
}

fn key_and_value(rng: &mut Rng, value: fn(&mut Rng) -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    match rng.once_in(60) {
        true => (LARGE_KEY.to_vec(), large_value(rng)),
        false => (short_key(rng), value(rng)),
    }
}

fn short_key(rng: &mut Rng) -> Vec<u8> {
    let mut key = key(rng);
    key.truncate(250);
    key
}

fn exptime(rng: &mut Rng) -> u32 {
    rng.pick(&[0, 0, 0, 1_000, 100_000, 2_592_000, 2_592_001, 0x7fff_ffff, u32::MAX])
}

fn read(rng: &mut Rng) -> Frame {
    let opcodes = [opcode::GET, opcode::GETQ, opcode::GETK, opcode::GETKQ];
    let touching = [opcode::TOUCH, opcode::GAT, opcode::GATQ, opcode::GATK, opcode::GATKQ];
    let key = short_key(rng);
    if rng.once_in(3) {
        let extras = exptime(rng).to_be_bytes().to_vec();
        return Frame { opcode: rng.pick(&touching), extras, key, ..Frame::default() };
    }
    Frame { opcode: rng.pick(&opcodes), key, ..Frame::default() }
}

fn store(rng: &mut Rng) -> Frame {
    let opcodes = [opcode::SET, opcode::SETQ, opcode::ADD, opcode::ADDQ, opcode::REPLACE, opcode::REPLACEQ];
    let (key, value) = key_and_value(rng, value);
    let flags: u32 = rng.pick(&[0, 0, 1, u32::MAX]);
    let extras = [flags.to_be_bytes(), exptime(rng).to_be_bytes()].concat();
    Frame { opcode: rng.pick(&opcodes), extras, key, value, ..Frame::default() }
}

fn append(rng: &mut Rng) -> Frame {
    let (key, value) = key_and_value(rng, addition);
    let opcodes = [opcode::APPEND, opcode::APPENDQ, opcode::PREPEND, opcode::PREPENDQ];
    Frame { opcode: rng.pick(&opcodes), key, value, ..Frame::default() }
}

fn arithmetic(rng: &mut Rng) -> Frame {
    let opcodes = [opcode::INCREMENT, opcode::INCREMENTQ, opcode::DECREMENT, opcode::DECREMENTQ];
    let delta: u64 = rng.pick(&[0, 1, 1, 9, 100, 77_777]);
    let initial: u64 = rng.pick(&[0, 5, 99, 77_777]);
    let extras = [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &exptime(rng).to_be_bytes()].concat();
    Frame { opcode: rng.pick(&opcodes), extras, key: short_key(rng), ..Frame::default() }
}

/// No flush with a delay, for the reasons that the text requests give.
fn about_the_server(rng: &mut Rng) -> Frame {
    let flush = rng.pick(&[opcode::FLUSH, opcode::FLUSHQ]);
    match rng.below(6) {
        0 => Frame { opcode: flush, ..Frame::default() },
        1 => Frame { opcode: flush, extras: 0u32.to_be_bytes().to_vec(), ..Frame::default() },
        2 | 3 => Frame { opcode: opcode::VERSION, ..Frame::default() },
        4 => Frame { opcode: opcode::STAT, key: b"nosuch".to_vec(), ..Frame::default() },
        _ => Frame { opcode: opcode::NOOP, ..Frame::default() },
    }
}

/// Without a body: memcached would swallow as many bytes again of what follows.
fn unknown(rng: &mut Rng) -> Frame {
    match rng.below(3) {
        0 => Frame { opcode: opcode::SASL_LIST, ..Frame::default() },
        1 => Frame { opcode: opcode::SASL_AUTH, key: b"PLAIN".to_vec(), ..Frame::default() },
        _ => Frame { opcode: rng.pick(&[0x1f, 0x50, 0xff, opcode::VERBOSITY]), ..Frame::default() },
    }
}

fn closing(rng: &mut Rng) -> Request {
    let key = key(rng);
    let frame = match rng.below(8) {
        0 => Frame { opcode: opcode::GET, extras: vec![0; 4], key: b"a".to_vec(), ..Frame::default() },
        1 => Frame { opcode: opcode::GETKQ, ..Frame::default() },
        2 => Frame { opcode: opcode::SET, key: b"a".to_vec(), value: b"x".to_vec(), ..Frame::default() },
        3 => Frame { opcode: opcode::NOOP, value: b"x".to_vec(), ..Frame::default() },
        4 => Frame { opcode: opcode::GET, key: vec![b'k'; 251], ..Frame::default() },
        5 => Frame {
            opcode: opcode::GET,
            key,
            key_bytes: Some(5),
            body_bytes: Some(1),
            value: vec![b'v'; 5],
            ..Frame::default()
        },
        6 => Frame { opcode: opcode::QUIT, ..Frame::default() },
        _ => Frame { opcode: opcode::QUITQ, ..Frame::default() },
    };
    Request { bytes: frame.bytes(), closes: true }
}
