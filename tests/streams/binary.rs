//! The binary protocol: tables of what goes in and out on both sides of the proxy. On a link the proxy uses
//! opaques of its own: they are compared by being given back, and the client's by coming back.

use super::support::binary::opcode::{NOOP, TOUCH, VERSION};
use crate::rig::Rig;
use crate::support::binary::Frame;
use crate::support::client::Client;
use crate::support::inbox::PATIENCE;

/// Four streams around the proxy, in frames. Opaques of the backend's side are zero here.
pub(crate) struct Case {
    name: &'static str,
    client_sends: Vec<Frame>,
    backend_sees: Vec<Frame>,
    backend_sends: Vec<Frame>,
    client_sees: Vec<Frame>,
}

/// Opaque of a client's first request in a case; the next one has the next number.
const OPAQUE: u32 = 0xdead_be00;

/// Opcodes with the word that answers instead of keeping silent, and whether the quiet one is a read.
pub(crate) const PAIRS: &[(&str, u8, u8)] = &[
    ("get", 0x00, 0x09),
    ("set", 0x01, 0x11),
    ("add", 0x02, 0x12),
    ("replace", 0x03, 0x13),
    ("delete", 0x04, 0x14),
    ("increment", 0x05, 0x15),
    ("decrement", 0x06, 0x16),
    ("flush", 0x08, 0x18),
    ("getk", 0x0c, 0x0d),
    ("append", 0x0e, 0x19),
    ("prepend", 0x0f, 0x1a),
    ("gat", 0x1d, 0x1e),
    ("gatk", 0x23, 0x24),
];

/// A request as the named command wants it.
fn request(name: &str, opcode: u8) -> Frame {
    let empty = Frame::request(opcode, 0);
    match name {
        "set" | "add" | "replace" => empty.extras(&[0, 0, 0, 5, 0, 0, 1, 0]).key(b"a").value(b"x\r\n\0"),
        "append" | "prepend" => empty.key(b"a").value(b"x"),
        "increment" | "decrement" => {
            let numbers = [&7_u64.to_be_bytes()[..], &1_u64.to_be_bytes(), &60_u32.to_be_bytes()];
            empty.extras(&numbers.concat()).key(b"a")
        }
        "gat" | "gatk" | "touch" => empty.extras(&60_u32.to_be_bytes()).key(b"a"),
        "flush" => empty,
        _ => empty.key(b"a\xff\0\r\n"),
    }
}

/// A good answer to it.
fn success(name: &str, opcode: u8) -> Frame {
    let empty = Frame::reply(opcode, 0, 0);
    let token = u64::MAX - 1;
    match name {
        "get" | "gat" => empty.cas(token).extras(&[0, 0, 0, 5]).value(b"va\r\nlue"),
        "getk" | "gatk" => {
            let key = request(name, opcode).key;
            empty.cas(token).extras(&[0, 0, 0, 5]).key(&key).value(b"value")
        }
        "increment" | "decrement" => empty.cas(token).value(&8_u64.to_be_bytes()),
        "delete" | "flush" => empty,
        _ => empty.cas(token),
    }
}

/// A bad one.
fn failure(name: &str, opcode: u8) -> Frame {
    match name {
        "getk" | "gatk" => {
            let key = request(name, opcode).key;
            Frame::reply(opcode, 1, 0).key(&key)
        }
        "append" | "prepend" => Frame::reply(opcode, 5, 0).value(b"Not stored."),
        "set" => Frame::reply(opcode, 2, 0).value(b"Data exists for key."),
        _ => Frame::reply(opcode, 1, 0).value(b"Not found"),
    }
}

/// What a quiet command keeps to itself: a read its miss, everything else its success.
fn is_read(name: &str) -> bool {
    matches!(name, "get" | "getk" | "gat" | "gatk")
}

/// A case of one request; with no `seen` the quiet command's silence.
fn single(name: &'static str, opcode: u8, sent: u8, reply: &Frame, seen: bool) -> Case {
    let asked = request(name, opcode);
    let mut client_sees = Vec::new();
    if seen {
        let mut frame = reply.clone().opaque(OPAQUE);
        frame.opcode = sent;
        client_sees.push(frame);
    }
    Case {
        name,
        client_sends: vec![request(name, sent).opaque(OPAQUE)],
        backend_sees: vec![asked],
        backend_sends: vec![reply.clone()],
        client_sees,
    }
}

/// Every opcode that goes to a backend, loud and quiet, with a good and a bad answer.
pub(crate) fn every_opcode() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(name, loud, quiet) in PAIRS {
        let (good, bad) = (success(name, loud), failure(name, loud));
        cases.push(single(name, loud, loud, &good, true));
        cases.push(single(name, loud, quiet, &good, is_read(name)));
        // A flush that fails names the backends that did not do it: the tables of several backends have that.
        if name != "flush" {
            cases.push(single(name, loud, loud, &bad, true));
            cases.push(single(name, loud, quiet, &bad, !is_read(name)));
        }
    }
    cases.push(single("touch", TOUCH, TOUCH, &Frame::reply(TOUCH, 0, 0), true));
    cases.push(single("touch", TOUCH, TOUCH, &failure("touch", TOUCH), true));
    cases
}

/// Tokens, header fields that mean nothing, own answers, batches.
pub(crate) fn others() -> Vec<Case> {
    let set = request("set", 0x01);
    let stored = Frame::reply(0x01, 0, 0).cas(9);
    let mut odd = set.clone().opaque(OPAQUE);
    odd.status = 7;
    let own = |name, opcode, answer: Frame| Case {
        name,
        client_sends: vec![Frame::request(opcode, OPAQUE)],
        backend_sees: vec![],
        backend_sends: vec![],
        client_sees: vec![answer.opaque(OPAQUE)],
    };
    vec![
        Case {
            name: "a token goes both ways unchanged",
            client_sends: vec![set.clone().cas(u64::MAX).opaque(OPAQUE)],
            backend_sees: vec![set.clone().cas(u64::MAX)],
            backend_sends: vec![stored.clone().cas(1 << 63)],
            client_sees: vec![stored.clone().cas(1 << 63).opaque(OPAQUE)],
        },
        Case {
            name: "the vbucket is not passed on",
            client_sends: vec![odd],
            backend_sees: vec![set],
            backend_sends: vec![stored.clone()],
            client_sees: vec![stored.opaque(OPAQUE)],
        },
        own("noop", NOOP, Frame::reply(NOOP, 0, 0)),
        own("version", VERSION, Frame::reply(VERSION, 0, 0).value(b"1.6.18")),
        own("sasl list", 0x20, Frame::reply(0x20, 0x81, 0).value(b"Unknown command")),
        own("unknown", 0x50, Frame::reply(0x50, 0x81, 0).value(b"Unknown command")),
        batch(),
    ]
}

/// Quiet and loud ones in one write, with a Noop as fence.
fn batch() -> Case {
    let numbered = |frames: Vec<Frame>| -> Vec<Frame> {
        (OPAQUE..).zip(frames).map(|(opaque, frame)| frame.opaque(opaque)).collect()
    };
    let hit = success("getk", 0x0c);
    let mut quiet_hit = hit.clone().opaque(OPAQUE + 1);
    quiet_hit.opcode = 0x0d;
    let mut quiet_failure = failure("add", 0x02).opaque(OPAQUE + 3);
    quiet_failure.opcode = 0x12;
    Case {
        name: "a batch",
        client_sends: numbered(vec![
            request("getk", 0x0d),
            request("getk", 0x0d),
            request("set", 0x11),
            request("add", 0x12),
            request("get", 0x00),
            Frame::request(NOOP, 0),
        ]),
        backend_sees: vec![
            request("getk", 0x0c),
            request("getk", 0x0c),
            request("set", 0x01),
            request("add", 0x02),
            request("get", 0x00),
        ],
        backend_sends: vec![
            failure("getk", 0x0c),
            hit,
            success("set", 0x01),
            failure("add", 0x02),
            failure("get", 0x00),
        ],
        client_sees: vec![
            quiet_hit,
            quiet_failure,
            failure("get", 0x00).opaque(OPAQUE + 4),
            Frame::reply(NOOP, 0, OPAQUE + 5),
        ],
    }
}

/// Runs every case whole and cut at every byte, all on one connection; the number of exchanges.
pub(crate) fn run_all(rig: &Rig, cases: &[Case]) -> Result<usize, String> {
    let client = rig.client();
    let mut exchanges = 0;
    for case in cases {
        let sent = joined(&case.client_sends);
        for cut in 0..sent.len().max(joined(&case.backend_sends).len()) {
            exchange(rig, &client, case, cut)
                .and_then(|()| rig.nothing_left_binary(&client, &["fence"]))
                .map_err(|problem| {
                    let first = &case.client_sends[0];
                    format!("case {:?}, client sends {first} ..., cut at {cut}: {problem}", case.name)
                })?;
            exchanges += 1;
        }
    }
    Ok(exchanges)
}

fn exchange(rig: &Rig, client: &Client, case: &Case, cut: usize) -> Result<(), String> {
    client.send_in_pieces(&joined(&case.client_sends), &[cut]);
    if !case.backend_sees.is_empty() {
        let link = rig.mock().asked()?;
        let mut replies = Vec::new();
        for (expected, reply) in case.backend_sees.iter().zip(&case.backend_sends) {
            let seen = link.take_frame()?;
            let opaque = seen.opaque;
            if seen.clone().opaque(0) != *expected {
                return Err(format!("backend sees\n  {seen} instead of\n  {expected}"));
            }
            replies.extend(reply.clone().opaque(opaque).bytes());
        }
        link.send_in_pieces(&replies, &[cut]);
    }
    for expected in &case.client_sees {
        let seen = take_frame(client)?;
        if seen != *expected {
            return Err(format!("client sees\n  {seen} instead of\n  {expected}"));
        }
    }
    Ok(())
}

/// Takes the next reply of a binary client.
pub(crate) fn take_frame(client: &Client) -> Result<Frame, String> {
    let mut found = None;
    client
        .inbox
        .take_when(PATIENCE, |bytes, _| {
            let (frame, total) = Frame::read(bytes)?;
            found = Some(frame);
            Some(total)
        })
        .map_err(|shortfall| format!("client waits for a frame: {shortfall}"))?;
    Ok(found.expect("a frame was taken"))
}

fn joined(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}
