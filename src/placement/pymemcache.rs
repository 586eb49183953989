//! pymemcache's `HashClient`: each server is hashed together with the key, and the largest hash wins.

use super::Server;
use super::address::Address;
use super::hash::Murmur3;

/// How the program that placed the keys had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// As `str`: the lower byte of each code point is hashed. Bytes that are not UTF-8, which no `str`
    /// becomes, count as code points of their own.
    Text,
    /// As `bytes`: what Python prints of them is hashed, `b'...'`.
    Bytes,
}

/// The servers, those with the greater name first: of equal hashes the first wins.
#[derive(Debug)]
pub(super) struct Scores {
    keys: Keys,
    nodes: Box<[Node]>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Has hashed the server's name and a dash.
    state: Murmur3,
    server: u16,
}

impl Scores {
    /// Without those that are away.
    pub(super) fn new(keys: Keys, servers: &[Server], away: &[bool]) -> Result<Self, String> {
        let names = servers.iter().map(|server| Ok(Address::of(&server.label)?.long()));
        let names: Vec<String> = names.collect::<Result<_, String>>()?;
        let mut order: Vec<usize> = (0..servers.len()).filter(|&server| !away[server]).collect();
        order.sort_by(|&a, &b| names[b].cmp(&names[a]));
        let node = |server: usize| {
            let mut state = Murmur3::default();
            state.write(names[server].as_bytes());
            state.push(b'-');
            Node { state, server: server as u16 }
        };
        Ok(Scores { keys, nodes: order.into_iter().map(node).collect() })
    }

    /// The owner of a key, and its score.
    pub(super) fn best(&self, key: &[u8]) -> (usize, u32) {
        match self.keys {
            Keys::Text if key.is_ascii() => self.best_by(|state| state.write(key)),
            Keys::Text => self.best_by(|state| write_text(state, key)),
            Keys::Bytes if key.iter().all(|byte| prints_as_it_is(*byte)) => self.best_by(|state| {
                state.write(b"b'");
                state.write(key);
                state.push(b'\'');
            }),
            Keys::Bytes => self.best_by(|state| write_bytes(state, key)),
        }
    }

    #[inline]
    fn best_by(&self, write: impl Fn(&mut Murmur3)) -> (usize, u32) {
        let mut best = (0, 0);
        for (place, node) in self.nodes.iter().enumerate() {
            let mut state = node.state;
            write(&mut state);
            let score = state.finish();
            if place == 0 || score > best.1 {
                best = (usize::from(node.server), score);
            }
        }
        best
    }
}

fn write_text(state: &mut Murmur3, key: &[u8]) {
    for chunk in key.utf8_chunks() {
        chunk.valid().chars().for_each(|char| state.push(char as u32 as u8));
        chunk.invalid().iter().for_each(|&byte| state.push(byte));
    }
}

fn prints_as_it_is(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\'' && byte != b'\\'
}

/// Python's `repr` of bytes.
fn write_bytes(state: &mut Murmur3, key: &[u8]) {
    let quote = if key.contains(&b'\'') && !key.contains(&b'"') { b'"' } else { b'\'' };
    state.write(&[b'b', quote]);
    for &byte in key {
        match byte {
            b'\t' => state.write(br"\t"),
            b'\n' => state.write(br"\n"),
            b'\r' => state.write(br"\r"),
            b'\\' => state.write(br"\\"),
            byte if byte == quote => state.write(&[b'\\', quote]),
            b' '..=b'~' => state.push(byte),
            _ => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                state.write(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    state.push(quote);
}
