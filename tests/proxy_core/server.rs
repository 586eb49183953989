//! A model backend for the chaos: it reads what the core composes, to the letter, and refuses everything
//! else. It knows each write by the number in its value, and never wants to see one twice.

use std::collections::{BTreeMap, BTreeSet};

use super::binary::{Packet, opcode, status};
use super::rig::{greeting, show, text_greeting};

/// One backend: its items, and the writes that it has carried out.
#[derive(Default)]
pub(super) struct Server {
    items: BTreeMap<String, String>,
    /// The numbers of the values that it was sent.
    pub(super) seen: BTreeSet<u64>,
    /// What became of its items, in order, since somebody last looked.
    pub(super) changes: Vec<Change>,
    /// How it behaves now.
    pub(super) mood: Mood,
    /// It gives every key the value that was stored last.
    pub(super) lying: bool,
    /// It answers with what stood under a key before the last write.
    pub(super) stale: bool,
    /// It says that it has removed what it keeps.
    pub(super) keeping: bool,
    /// That, if it is stale.
    before: BTreeMap<String, String>,
}

/// What became of an item.
#[derive(Debug)]
pub(super) enum Change {
    /// The value with this number was stored.
    Stored(u64),
    /// What stood under this key is gone.
    Removed(String),
}

/// How a backend behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// It does its work.
    #[default]
    Well,
    /// It takes connects and bytes, and does nothing.
    Frozen,
    /// It refuses connects.
    Refusing,
    /// Its connects go nowhere.
    Unreachable,
}

/// The backend's side of a link.
#[derive(Default)]
pub(super) struct Side {
    /// Bytes that came and are not read.
    pub(super) inbox: Vec<u8>,
    /// Answers that have not been delivered.
    pub(super) outbox: Vec<u8>,
}

impl Server {
    /// Carries out the first whole request of a link, if there is one.
    pub(super) fn work(&mut self, side: &mut Side) -> bool {
        let used = if side.inbox.first() == Some(&0x80) {
            self.work_binary(&side.inbox, &mut side.outbox)
        } else {
            self.work_text(&side.inbox, &mut side.outbox)
        };
        side.inbox.drain(..used);
        used > 0
    }

    fn work_text(&mut self, inbox: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(lf) = inbox.iter().position(|&byte| byte == b'\n') else { return 0 };
        let line = std::str::from_utf8(&inbox[..lf - 1]).expect("a line of text");
        let words: Vec<&str> = line.split(' ').collect();
        let (mut used, mut answer) = (lf + 1, String::new());
        match words[..] {
            ["stats"] => answer = text_greeting("1.6.18", 1),
            ["get", ref keys @ ..] | ["gat", _, ref keys @ ..] => {
                for key in keys {
                    if let Some(value) = self.item(key) {
                        answer += &format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len());
                    }
                }
                answer += "END\r\n";
            }
            ["set", key, "0", "0", length] => {
                let length: usize = length.parse().expect("a length");
                let Some(value) = inbox.get(used..used + length + 2) else { return 0 };
                assert!(value.ends_with(b"\r\n"), "a value ends");
                used += length + 2;
                self.store(key, &value[..length]);
                answer = "STORED\r\n".to_string();
            }
            ["delete", key] => {
                answer = if self.remove(key) { "DELETED\r\n" } else { "NOT_FOUND\r\n" }.to_string();
            }
            ["flush_all"] => {
                self.clear();
                answer = "OK\r\n".to_string();
            }
            ["mg", key, "v", "k"] => {
                answer = match self.item(key) {
                    Some(value) => format!("VA {} k{key}\r\n{value}\r\n", value.len()),
                    None => format!("EN k{key}\r\n"),
                };
            }
            _ => panic!("nobody asked for this: {}", show(inbox)),
        }
        out.extend_from_slice(answer.as_bytes());
        used
    }

    fn work_binary(&mut self, inbox: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(head) = inbox.first_chunk::<24>() else { return 0 };
        let body = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = inbox.get(..24 + body) else { return 0 };
        let request = Packet::read_all(frame).remove(0);
        let key = String::from_utf8(request.key_of().to_vec()).expect("a key of text");
        let reply = Packet::reply(request.opcode_of()).opaque(request.opaque_of());
        let missing = reply.clone().status(status::KEY_NOT_FOUND).value("Not found");
        let reply = match request.opcode_of() {
            opcode::STAT => {
                for (name, value) in greeting("1.6.18", 1) {
                    out.extend(reply.clone().key(name).value(&value).bytes());
                }
                reply
            }
            opcode::SET => {
                self.store(&key, request.value_of());
                reply.cas(1)
            }
            opcode::GETK => match self.item(&key) {
                Some(value) => reply.extras(&[0; 4]).key(&key).value(value).cas(1),
                None => missing,
            },
            opcode::DELETE if self.remove(&key) => reply,
            opcode::DELETE => missing,
            opcode::FLUSH => {
                self.clear();
                reply
            }
            _ => panic!("nobody asked for this: {request:?}"),
        };
        out.extend(reply.bytes());
        frame.len()
    }

    fn store(&mut self, key: &str, value: &[u8]) {
        let value = String::from_utf8(value.to_vec()).expect("a value of text");
        let (owner, number) = read_value(&value).expect("a value of a user");
        assert_eq!(owner, key, "a value goes to its own key");
        assert!(self.seen.insert(number), "write {number} came twice");
        self.changes.push(Change::Stored(number));
        if self.lying {
            self.items.values_mut().for_each(|item| item.clone_from(&value));
        }
        if let Some(before) = self.items.insert(key.to_string(), value).filter(|_| self.stale) {
            self.before.insert(key.to_string(), before);
        }
    }

    fn item(&self, key: &str) -> Option<&String> {
        self.before.get(key).or(self.items.get(key))
    }

    /// True if there was something to remove.
    fn remove(&mut self, key: &str) -> bool {
        let there =
            if self.keeping { self.items.contains_key(key) } else { self.items.remove(key).is_some() };
        self.changes.extend(there.then(|| Change::Removed(key.to_string())));
        there
    }

    fn clear(&mut self) {
        self.changes.extend(std::mem::take(&mut self.items).into_keys().map(Change::Removed));
    }
}

/// A value that tells its key and its number.
pub(super) fn make_value(key: &str, number: u64, padding: usize) -> String {
    format!("{key}:{number}:{}", "\r\nEND".chars().cycle().take(padding).collect::<String>())
}

/// The key and the number of a value.
pub(super) fn read_value(value: &str) -> Option<(&str, u64)> {
    let (key, rest) = value.split_once(':')?;
    Some((key, rest.split_once(':')?.0.parse().ok()?))
}
