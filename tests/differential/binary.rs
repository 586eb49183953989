//! Random requests of the binary protocol.

use crate::keys::{Keys, exptime, ten_digits, value};
use crate::stream::{Ending, NO_TOKEN, Piece, Request};
use crate::support::binary::Frame;
use crate::support::random::Random;
use crate::text::Permits;

/// The next request of a stream; `opaque` is its alone.
pub(crate) fn request(random: &mut Random, keys: &Keys, permits: Permits, opaque: u32) -> Request {
    match random.below(100) {
        0..32 => read(random, keys, opaque),
        32..58 => store(random, keys, opaque),
        58..63 => join(random, keys, opaque),
        63..70 => delete(random, keys, opaque),
        70..79 => arithmetic(random, keys, opaque),
        79..87 => touch(random, keys, opaque),
        87..90 => plain(Frame::request(0x0a, opaque)),
        90..92 => plain(Frame::request(0x0b, opaque)),
        92 if permits.others => flush(random, opaque),
        93 if permits.large => large(random, keys, opaque),
        _ => unknown(random, opaque),
    }
}

/// What ends a binary stream.
pub(crate) fn ending(random: &mut Random) -> Ending {
    let request = |opcode| Frame::request(opcode, 0x0e0e);
    match random.below(14) {
        0 => Ending::Sent(request(0x07).bytes()),
        1 => Ending::Sent(request(0x17).bytes()),
        2 => Ending::Sent(vec![0; 24]),
        3 => Ending::Sent(b"get a\r\n                 ".to_vec()),
        4 => Ending::Sent(request(0x00).extras(&[0; 4]).key(b"a").bytes()),
        5 => Ending::Sent(request(0x0a).value(b"x").bytes()),
        6 => Ending::Sent(request(0x00).key(&[b'k'; 251]).bytes()),
        7 => Ending::Sent(request(0x01).key(b"a").value(b"x").bytes()),
        8 => Ending::Sent(request(0x00).bytes()),
        9 => Ending::HalfClosed(Vec::new()),
        10 => Ending::HalfClosed([request(0x00).key(b"a").bytes(), request(0x0a).bytes()].concat()),
        11 => {
            Ending::HalfClosed(request(0x01).extras(&[0; 8]).key(b"a").value(b"12345").bytes()[..30].to_vec())
        }
        _ => Ending::Leave,
    }
}

fn plain(frame: Frame) -> Request {
    Request { about: Some((frame.opaque, frame.key.clone())), ..Request::plain(frame.bytes()) }
}

/// A frame whose token is sometimes the one last seen, sometimes one that no server gave.
fn with_token(random: &mut Random, frame: Frame) -> Request {
    match random.below(10) {
        0 => plain(frame.cas(NO_TOKEN + 1)),
        1..4 => {
            let bytes = frame.bytes();
            let pieces = vec![
                Piece::Bytes(bytes[..16].to_vec()),
                Piece::Eight(frame.key.clone()),
                Piece::Bytes(bytes[24..].to_vec()),
            ];
            Request { pieces, about: Some((frame.opaque, frame.key)) }
        }
        _ => plain(frame),
    }
}

fn read(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x00, 0x09, 0x0c, 0x0d]);
    let key = match random.below(12) {
        0 => keys.number(random),
        1 => format!("missing{}", random.below(50)).into_bytes(),
        2 if random.percent(20) => random.pick(&keys.large).clone(),
        _ => binary_key(random, keys),
    };
    plain(Frame::request(opcode, opaque).key(&key))
}

/// A key that text clients use too, or one that only a binary client can write.
fn binary_key(random: &mut Random, keys: &Keys) -> Vec<u8> {
    match random.below(10) {
        0 => random.pick(&keys.binary).clone(),
        1 => {
            let mut key = keys.any(random);
            key.truncate(200);
            key.extend_from_slice(random.pick::<&[u8]>(&[b" \r\n", b"\0", b"\0\0 \xff"]));
            key
        }
        _ => keys.any(random),
    }
}

fn store(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x01, 0x01, 0x01, 0x02, 0x03, 0x11, 0x11, 0x12, 0x13]);
    let frame = Frame::request(opcode, opaque);
    if random.percent(20) {
        let number = ten_digits(random).to_string();
        return plain(frame.extras(&[0; 8]).key(&keys.number(random)).value(number.as_bytes()));
    }
    let mut extras = random.bytes(4);
    extras.extend_from_slice(&exptime(random).to_be_bytes());
    let frame = frame.extras(&extras).key(&binary_key(random, keys)).value(&value(random));
    with_token(random, frame)
}

fn join(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x0e, 0x0f, 0x19, 0x1a]);
    let frame = Frame::request(opcode, opaque).key(&binary_key(random, keys)).value(&random.bytes(8));
    with_token(random, frame)
}

fn delete(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x04, 0x14]);
    let frame = Frame::request(opcode, opaque).key(&binary_key(random, keys));
    with_token(random, frame)
}

fn arithmetic(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x05, 0x06, 0x15, 0x16]);
    let delta = random.below(1000) as u64;
    let create = if random.percent(60) { 0 } else { u32::MAX };
    let extras =
        [&delta.to_be_bytes()[..], &ten_digits(random).to_be_bytes(), &create.to_be_bytes()].concat();
    plain(Frame::request(opcode, opaque).extras(&extras).key(&keys.number(random)))
}

fn touch(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x1c, 0x1d, 0x1e, 0x23, 0x24]);
    let seconds = exptime(random).to_be_bytes();
    plain(Frame::request(opcode, opaque).extras(&seconds).key(&binary_key(random, keys)))
}

fn flush(random: &mut Random, opaque: u32) -> Request {
    let frame = Frame::request(*random.pick(&[0x08, 0x18]), opaque);
    plain(if random.percent(50) { frame } else { frame.extras(&[0; 4]) })
}

fn large(random: &mut Random, keys: &Keys, opaque: u32) -> Request {
    let length = *random.pick(&[500_000, 1_048_000, 1_048_276, 1_048_577]);
    let opcode = *random.pick(&[0x01, 0x11, 0x02, 0x03]);
    let key = random.pick(&keys.large).clone();
    plain(Frame::request(opcode, opaque).extras(&[0; 8]).key(&key).value(&random.bytes(length)))
}

/// An opcode that memcached, built without SASL, does not know. Of all but SASL's it reads extras and key, and
/// then drops as many bytes as the whole body has: what is missing to that stands behind the frame.
fn unknown(random: &mut Random, opaque: u32) -> Request {
    let opcode = *random.pick(&[0x1b, 0x1f, 0x20, 0x21, 0x22, 0x25, 0x30, 0x3d, 0x50, 0xff]);
    let frame = Frame::request(opcode, opaque);
    if opcode == 0x20 {
        return Request::plain(frame.bytes());
    }
    if opcode == 0x21 || opcode == 0x22 {
        return Request::plain(frame.key(b"PLAIN").value(&value_of_credentials(random)).bytes());
    }
    if random.percent(40) {
        return Request::plain(frame.bytes());
    }
    let frame = frame.extras(&vec![0; random.below(5)]).key(&vec![b'k'; random.below(20)]);
    let frame = frame.value(&vec![b'v'; random.below(30)]);
    let dropped = vec![b'.'; frame.extras.len() + frame.key.len()];
    Request::plain([frame.bytes(), dropped].concat())
}

fn value_of_credentials(random: &mut Random) -> Vec<u8> {
    random.pick(&[&b""[..], b"\0user\0secret"]).to_vec()
}
