//! Keys that hold commands. A binary key may hold any byte, and so may a base64 key of the meta protocol; on
//! a text link they must stay keys.

use super::oracle::Watched;
use super::support::base64::base64;
use super::support::binary::Frame;
use super::support::report::escape;

const KEYS: [&[u8]; 8] = [
    b"\r\nset injected 0 0 1\r\nx\r\n",
    b"k\r\nset injected 0 0 1\r\nx\r\n",
    b"k 0 0 1\r\nx\r\nset injected 0 0 1\r\nx\r\n",
    b"k\nms injected 1\nx\n",
    b"k noreply\r\nflush_all\r\n",
    b"a b c",
    b"\0\x01\x02\x7f\x80\xff",
    b"\r",
];

/// All binary requests that have a key, with what they need beside it.
fn binary_requests(key: &[u8]) -> Vec<u8> {
    let frame = |opcode: u8| Frame::request(opcode, opcode.into()).key(key);
    let increment = [0; 20];
    let mut requests = Vec::new();
    for opcode in [0x01, 0x02, 0x03, 0x11, 0x12, 0x13] {
        requests.extend(frame(opcode).extras(&[0; 8]).value(b"1").bytes());
    }
    for opcode in [0x0e, 0x0f, 0x19, 0x1a] {
        requests.extend(frame(opcode).value(b"1").bytes());
    }
    for opcode in [0x05, 0x06, 0x15, 0x16] {
        requests.extend(frame(opcode).extras(&increment).bytes());
    }
    for opcode in [0x1c, 0x1d, 0x1e, 0x23, 0x24] {
        requests.extend(frame(opcode).extras(&[0; 4]).bytes());
    }
    for opcode in [0x00, 0x09, 0x0c, 0x0d, 0x04, 0x14] {
        requests.extend(frame(opcode).bytes());
    }
    requests.extend(Frame::request(0x0a, 1).bytes());
    requests
}

/// All meta requests that have a key.
fn meta_requests(key: &[u8]) -> Vec<u8> {
    let lines = [
        "ms K 1 b\r\n1\r\n",
        "ms K 1 b q\r\n1\r\n",
        "ms K 1 b MA\r\n1\r\n",
        "ms K 1 b C5 O1\r\n1\r\n",
        "mg K b v\r\n",
        "mg K b t T0 N5\r\n",
        "ma K b\r\n",
        "ma K b N0 v\r\n",
        "ma K b N0 q\r\n",
        "md K b C5\r\n",
        "md K b I T9\r\n",
        "md K b q\r\n",
        "mg K b q\r\n",
    ];
    lines.map(|line| line.replace('K', &base64(key))).concat().into_bytes()
}

#[test]
fn a_key_that_holds_a_command_is_never_one() {
    let watched = Watched::start();
    watched.play(b"set witness 0 0 1\r\nx\r\n");
    for key in KEYS {
        for input in [binary_requests(key), meta_requests(key)] {
            watched.check(&input).unwrap_or_else(|problem| panic!("key {}: {problem}", escape(key)));
        }
    }
    // Neither what the keys hold has been stored, nor has everything been dropped.
    for (key, answer) in [("injected", &b"END\r\n"[..]), ("witness", b"VALUE witness 0 1\r\nx\r\nEND\r\n")] {
        assert_eq!(watched.play(format!("get {key}\r\n").as_bytes()).0, answer);
    }
}
