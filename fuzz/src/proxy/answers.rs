//! What a well-behaved backend answers: a function of the request alone, different for nearly every two
//! requests. So a client knows the exact bytes of each answer that it must get, and an answer to somebody
//! else, to another request or with another key's value is another one.

use super::rig::{VERSION, greeting, text_greeting};
use mcproxy::protocol::binary::{answering, opcode, status};
use mcproxy::protocol::naive::Request;

/// What a text or meta request is answered, told to a client that wants to hear everything.
pub(super) fn text(request: &Request) -> Vec<u8> {
    let parts = &request.parts;
    let id = id_of(request);
    let pick = |words: &[&str]| match words.get(id as usize % (words.len() + 1)) {
        Some(word) => format!("{word}\r\n").into_bytes(),
        None => format!("SERVER_ERROR {id:016x}\r\n").into_bytes(),
    };
    match request.name.as_str() {
        "get" | "get many" => values(&parts[1..], parts[0] == b"true", b"get"),
        "gat" => values(&parts[2..], parts[0] == b"true", &parts[1]),
        "cas" => pick(&["STORED", "EXISTS", "NOT_FOUND"]),
        "set" | "add" | "replace" | "append" | "prepend" => pick(&["STORED", "NOT_STORED"]),
        "incr" | "decr" if id.is_multiple_of(4) => b"NOT_FOUND\r\n".to_vec(),
        "incr" | "decr" => format!("{id}\r\n").into_bytes(),
        "touch" => pick(&["TOUCHED", "NOT_FOUND"]),
        "delete" => pick(&["DELETED", "NOT_FOUND"]),
        "flush_all" => b"OK\r\n".to_vec(),
        "stats" => text_greeting(VERSION, 1).into_bytes(),
        "meta Noop" => b"MN\r\n".to_vec(),
        name if name.starts_with("meta ") => meta(request, id),
        other => panic!("a backend was sent {other}: {parts:?}"),
    }
}

/// The `VALUE` of a key, if there is one; `verb` is what it was asked by.
pub(super) fn value(key: &[u8], with_cas: bool, verb: &[u8]) -> Option<Vec<u8>> {
    let id = hash(&[verb, key]);
    if id.is_multiple_of(4) {
        return None;
    }
    let data = data(id);
    let cas = if with_cas { format!(" {}", id | 1) } else { String::new() };
    let line = format!(" {} {}{cas}\r\n", id >> 60, data.len());
    Some([b"VALUE ", key, line.as_bytes(), &data, b"\r\n"].concat())
}

/// The client has asked not to hear this answer to a meta command.
pub(super) fn is_kept_back(request: &Request, answer: &[u8]) -> bool {
    let nominal: &[&[u8]] = match request.name.as_str() {
        "meta Get" => &[b"EN"],
        "meta Set" | "meta Delete" => &[b"HD"],
        "meta Arithmetic" => &[b"HD", b"VA"],
        _ => &[],
    };
    let nominal = nominal.iter().any(|code| answer.starts_with(code));
    // Which of these creates its item only the backend knows; here half of them do.
    let creates = request.name == "meta Arithmetic" && has_flag(request, b'N') && id_of(request) & 32 != 0;
    request.parts[4] == b"true" && nominal && !creates
}

/// What a binary request is answered, with its own opcode and opaque.
pub(super) fn binary(request: &Request) -> Vec<u8> {
    let [code, opaque, cas, extras, key, value] = &request.parts[..] else { panic!("{request:?}") };
    let answering = answering(code[0]).0;
    if answering == opcode::STAT {
        return binary_greeting(opaque);
    }
    let id = hash(&[&[answering], cas, extras, key, value]);
    let errors = [0, 0, status::KEY_NOT_FOUND, status::KEY_EXISTS, status::NOT_STORED, status::OUT_OF_MEMORY];
    let mut status = errors[id as usize % errors.len()];
    let is_read = matches!(answering, opcode::GET | opcode::GETK | opcode::GAT | opcode::GATK);
    let mut body = format!("{id:016x}").into_bytes();
    let (mut extras, mut echoed, mut token) = (0, 0, id);
    match answering {
        opcode::NOOP | opcode::FLUSH => (status, body, token) = (0, Vec::new(), 0),
        _ if is_read && status == 0 => (extras, body) = (4, data(id)),
        _ => {}
    }
    if matches!(answering, opcode::GETK | opcode::GATK) && (status == 0 || id & 64 != 0) {
        echoed = key.len();
    }
    let body = [&id.to_be_bytes()[..extras], &key[..echoed], &body].concat();
    let mut frame = vec![0x81, code[0], (echoed >> 8) as u8, echoed as u8, extras as u8, 0];
    frame.extend(status.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend_from_slice(opaque);
    frame.extend(if status == 0 { token } else { 0 }.to_be_bytes());
    frame.extend(body);
    frame
}

/// Who is there: a packet for each line, and an empty one.
fn binary_greeting(opaque: &[u8]) -> Vec<u8> {
    let packet = |name: &str, value: &str| {
        let (name_bytes, body) = (name.len() as u8, (name.len() + value.len()) as u8);
        let head = [0x81, opcode::STAT, 0, name_bytes, 0, 0, 0, 0, 0, 0, 0, body];
        [&head, opaque, &[0; 8], name.as_bytes(), value.as_bytes()].concat()
    };
    let stats = greeting(VERSION, 1);
    let packets = stats.iter().map(|(name, value)| packet(name, value)).chain([packet("", "")]);
    packets.collect::<Vec<_>>().concat()
}

fn values(keys: &[Vec<u8>], with_cas: bool, verb: &[u8]) -> Vec<u8> {
    let mut answer: Vec<u8> = keys.iter().filter_map(|key| value(key, with_cas, verb)).flatten().collect();
    answer.extend_from_slice(b"END\r\n");
    answer
}

fn meta(request: &Request, id: u64) -> Vec<u8> {
    let (key, place) = (&request.parts[0], &request.parts[2]);
    let is_base64 = request.parts[3] == b"true";
    // An item that was stored under a raw key has its key given back raw.
    let raw = is_base64 && id & 16 != 0;
    if request.name == "meta Debug" && !id.is_multiple_of(4) {
        let key = if raw { place } else { key };
        return [b"ME ", &key[..], format!(" exp={id:x}\r\n").as_bytes()].concat();
    }
    let codes: &[&str] = match request.name.as_str() {
        "meta Get" | "meta Debug" => &["EN", "HD", "HD"],
        "meta Set" => &["HD", "HD", "NS", "EX", "NF"],
        "meta Delete" => &["HD", "HD", "NF", "EX"],
        _ => &["HD", "HD", "HD", "NF", "NS", "EX"],
    };
    // So is a key deleted whose new value was refused; memcached has nothing more to say to it.
    let is_bare = request.name == "meta Delete" && request.parts[8..].iter().all(|flag| flag == b"b");
    let codes = if is_bare { &["HD", "NF"] } else { codes };
    let code = if request.name == "meta Debug" { "EN" } else { codes[(id >> 8) as usize % codes.len()] };
    let mut flags = Vec::new();
    for flag in &request.parts[8..] {
        match flag[0] {
            b'O' => flags.extend_from_slice(&[b" ", &flag[..]].concat()),
            b'k' if raw => flags.extend_from_slice(&[b" k", &place[..]].concat()),
            b'k' => {
                flags.extend_from_slice(&[b" k", &key[..]].concat());
                flags.extend_from_slice(if is_base64 { b" b" } else { b"" });
            }
            _ => {}
        }
    }
    if code == "EN" {
        // The one answer that bears no sign of its request.
        return b"EN\r\n".to_vec();
    }
    flags.extend_from_slice(if is_bare { String::new() } else { format!(" s{id:x}") }.as_bytes());
    flags.extend_from_slice(b"\r\n");
    if code == "HD" && has_flag(request, b'v') && request.name != "meta Set" && request.name != "meta Delete"
    {
        let data = data(id);
        return [format!("VA {}", data.len()).as_bytes(), &flags, &data, b"\r\n"].concat();
    }
    [code.as_bytes(), &flags].concat()
}

fn has_flag(request: &Request, letter: u8) -> bool {
    request.parts[8..].iter().any(|flag| flag[0] == letter)
}

/// The value that tells a request or a key: one in eight large, all with what looks like the end of an answer.
fn data(id: u64) -> Vec<u8> {
    let padding = if (id >> 32).is_multiple_of(8) { 600 } else { (id >> 40) as usize % 60 };
    let filler = b"\r\nEND\r\nHD\r\n".repeat(55);
    [format!("{id:016x}").as_bytes(), &filler[..padding]].concat()
}

/// Tells a request by all that its answer may depend on: not by whether somebody wants to hear it.
fn id_of(request: &Request) -> u64 {
    let mut parts: Vec<&[u8]> = vec![request.name.as_bytes()];
    if request.name.starts_with("meta") {
        parts.extend([&request.parts[0][..], &request.parts[1]]);
        parts.extend(request.parts[8..].iter().filter(|flag| flag[0] != b'q').map(Vec::as_slice));
    } else {
        parts.extend(request.parts.iter().take(request.parts.len().saturating_sub(1)).map(Vec::as_slice));
    }
    hash(&parts)
}

/// FNV-1a of the parts and their lengths, and mixed, for its low bits are weak.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for &byte in part.iter().chain(&(part.len() as u32).to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ hash >> 32
}
