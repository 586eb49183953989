//! What clients ask: one request, in the words of a protocol, and what is remembered of it until its answer
//! comes.

use crate::protocol::base64;
use crate::protocol::binary::opcode;
use crate::time::Time;

use super::history::{History, Key, NUMBER_STEP, Read, WriteId, WriteKind, piece};
use super::random::Random;

/// The protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    Text,
    Meta,
    Binary,
}

/// What is asked, whatever the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Values of keys, with their tokens or not; `touch` sets when they expire.
    Read {
        keys: Vec<Key>,
        with_cas: bool,
        touch: bool,
    },
    /// A write, by its number.
    Write {
        key: Key,
        id: WriteId,
    },
    Delete(Key),
    Touch(Key),
    /// A value that is larger than any may be: memcached forgets what it had.
    TooLarge(Key),
    Flush,
    Stats,
    /// Answered by exactly this.
    Line(&'static [u8]),
}

/// The words it is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Meta { opaque: u32 },
    Binary { opcode: u8, opaque: u32 },
}

/// A request that awaits its answer.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) ask: Ask,
    pub(super) form: Form,
    /// The expected answer is not wanted.
    pub(super) quiet: bool,
    /// The state of each key on each backend when it was asked.
    pub(super) since: Vec<Vec<usize>>,
    pub(super) asked: Time,
}

impl Ask {
    /// The keys in it.
    pub(super) fn keys(&self) -> Vec<Key> {
        match self {
            Ask::Read { keys, .. } => keys.clone(),
            Ask::Write { key, .. } | Ask::Delete(key) | Ask::Touch(key) | Ask::TooLarge(key) => vec![*key],
            Ask::Flush | Ask::Stats | Ask::Line(_) => Vec::new(),
        }
    }
}

/// Makes requests.
pub(super) struct Composer<'a> {
    pub(super) history: &'a mut History,
    pub(super) random: &'a mut Random,
    pub(super) now: Time,
    pub(super) speech: Speech,
    pub(super) next_opaque: &'a mut u32,
    /// Bytes of a value that no backend gets.
    pub(super) too_large: usize,
    /// Padding of values, bytes.
    pub(super) padding: usize,
}

impl Composer<'_> {
    /// The bytes of a request, and what to remember; a text request that wants no answer leaves nothing.
    pub(super) fn compose(&mut self, ask: Ask, quiet: bool, token: Option<Read>) -> (Vec<u8>, Option<Op>) {
        if let Ask::Write { id, .. } = &ask {
            self.history.writes[*id as usize].token = token;
        }
        let cas = token.map_or(0, |token| token.cas);
        *self.next_opaque += 1;
        let opaque = *self.next_opaque;
        let (bytes, form) = match self.speech {
            Speech::Text => (self.text(&ask, quiet, cas), Form::Text),
            Speech::Meta => match self.meta(&ask, quiet, cas, opaque) {
                Some(bytes) => (bytes, Form::Meta { opaque }),
                None => (self.text(&ask, quiet, cas), Form::Text),
            },
            Speech::Binary => {
                let (bytes, opcode) = self.binary(&ask, quiet, cas, opaque);
                (bytes, Form::Binary { opcode, opaque })
            }
        };
        let since = ask.keys().iter().map(|&key| self.history.present(key)).collect();
        let unheard = quiet && form == Form::Text;
        let op = Op { ask, form, quiet, since, asked: self.now };
        (bytes, (!unheard).then_some(op))
    }

    /// A new write of this kind.
    pub(super) fn write(&mut self, key: Key, kind: WriteKind) -> Ask {
        let id = self.history.next_write();
        let is_number = self.history.names[key].starts_with(b"n");
        let value = match kind {
            WriteKind::Increment | WriteKind::Decrement => id.to_string().into_bytes(),
            _ if is_number => (id * NUMBER_STEP).to_string().into_bytes(),
            _ => piece(&self.history.names[key], id, self.random.below(self.padding + 1)),
        };
        self.history.begin_write(key, kind, value);
        Ask::Write { key, id }
    }

    fn name(&self, key: Key) -> String {
        String::from_utf8_lossy(&self.history.names[key]).into_owned()
    }

    fn text(&mut self, ask: &Ask, quiet: bool, cas: u64) -> Vec<u8> {
        let end = if quiet { " noreply\r\n" } else { "\r\n" };
        let line = match ask {
            Ask::Read { keys, with_cas, touch } => {
                let verb = match (touch, with_cas) {
                    (false, false) => "get",
                    (false, true) => "gets",
                    (true, false) => "gat 5000",
                    (true, true) => "gats 5000",
                };
                let names: Vec<String> = keys.iter().map(|&key| self.name(key)).collect();
                format!("{verb} {}\r\n", names.join(" "))
            }
            Ask::Write { key, id } => return self.text_write(*key, *id, end, cas),
            Ask::Delete(key) => format!("delete {}{end}", self.name(*key)),
            Ask::Touch(key) => format!("touch {} 5000{end}", self.name(*key)),
            Ask::TooLarge(key) => {
                let value = "y".repeat(self.too_large);
                format!("set {} 0 0 {}{end}{value}\r\n", self.name(*key), value.len())
            }
            Ask::Flush => format!("flush_all{end}"),
            Ask::Stats => "stats\r\n".to_string(),
            Ask::Line(b"MN\r\n") => "mn\r\n".to_string(),
            Ask::Line(b"OK\r\n") => "verbosity 1\r\n".to_string(),
            Ask::Line(_) => self.random.pick(&["nonsense\r\n", "get\r\n", "set a b\r\n", "\r\n"]).to_string(),
        };
        line.into_bytes()
    }

    fn text_write(&mut self, key: Key, id: WriteId, end: &str, cas: u64) -> Vec<u8> {
        let write = &self.history.writes[id as usize];
        let (name, value) = (self.name(key), &write.value);
        let verb = match write.kind {
            WriteKind::Set => "set",
            WriteKind::Add => "add",
            WriteKind::Replace => "replace",
            WriteKind::Append => "append",
            WriteKind::Prepend => "prepend",
            WriteKind::Cas => "cas",
            WriteKind::Increment => return format!("incr {name} {id}{end}").into_bytes(),
            WriteKind::Decrement => return format!("decr {name} {id}{end}").into_bytes(),
        };
        let token = if write.kind == WriteKind::Cas { format!(" {cas}") } else { String::new() };
        let head = format!("{verb} {name} 0 0 {}{token}{end}", value.len());
        [head.as_bytes(), value, b"\r\n"].concat()
    }

    /// Not everything can be said in meta commands.
    fn meta(&mut self, ask: &Ask, quiet: bool, cas: u64, opaque: u32) -> Option<Vec<u8>> {
        let key = *ask.keys().first()?;
        // A longer one has no room for its base64.
        let base64 = self.random.once_in(6) && self.history.names[key].len() < 100;
        let quiet = if quiet { " q" } else { "" };
        let name = if base64 {
            let encoded = base64_of(&self.history.names[key]);
            format!("{encoded} b")
        } else {
            self.name(key)
        };
        let token = if cas == 0 { String::new() } else { format!(" C{cas}") };
        let bytes = match ask {
            Ask::Read { keys, with_cas, touch } if keys.len() == 1 => {
                let cas = if *with_cas { " c" } else { "" };
                let touch = if *touch { " T5000" } else { "" };
                format!("mg {name} v k O{opaque}{cas}{touch}{quiet}\r\n").into_bytes()
            }
            Ask::Write { id, .. } => {
                let write = &self.history.writes[*id as usize];
                let mode = match write.kind {
                    WriteKind::Set | WriteKind::Cas => "S",
                    WriteKind::Add => "E",
                    WriteKind::Replace => "R",
                    WriteKind::Append => "A",
                    WriteKind::Prepend => "P",
                    WriteKind::Increment | WriteKind::Decrement => {
                        let mode = if write.kind == WriteKind::Increment { "I" } else { "D" };
                        return Some(format!("ma {name} v M{mode} D{id} O{opaque}{quiet}\r\n").into_bytes());
                    }
                };
                let (name, flags) = name.split_once(' ').map_or((&name[..], ""), |(name, _)| (name, " b"));
                let head =
                    format!("ms {name} {}{flags} M{mode} O{opaque}{token}{quiet}\r\n", write.value.len());
                [head.as_bytes(), &write.value, b"\r\n"].concat()
            }
            Ask::Delete(_) => format!("md {name} O{opaque}{quiet}\r\n").into_bytes(),
            _ => return None,
        };
        Some(bytes)
    }

    fn binary(&mut self, ask: &Ask, quiet: bool, cas: u64, opaque: u32) -> (Vec<u8>, u8) {
        let pick = |loud, silent| if quiet { silent } else { loud };
        let expiry = 5000u32.to_be_bytes();
        let mut extras: Vec<u8> = Vec::new();
        let mut value: Vec<u8> = Vec::new();
        let key = ask.keys().first().map_or(Vec::new(), |&key| self.history.names[key].clone());
        let code = match ask {
            Ask::Read { touch: true, .. } => {
                extras.extend_from_slice(&expiry);
                pick(opcode::GATK, opcode::GATKQ)
            }
            Ask::Read { with_cas: false, .. } => pick(opcode::GET, opcode::GETQ),
            Ask::Read { .. } => pick(opcode::GETK, opcode::GETKQ),
            Ask::Write { id, .. } => {
                let write = &self.history.writes[*id as usize];
                value.clone_from(&write.value);
                if !matches!(write.kind, WriteKind::Append | WriteKind::Prepend) {
                    extras.extend_from_slice(&[0; 8]);
                }
                match write.kind {
                    WriteKind::Set | WriteKind::Cas => pick(opcode::SET, opcode::SETQ),
                    WriteKind::Add => pick(opcode::ADD, opcode::ADDQ),
                    WriteKind::Replace => pick(opcode::REPLACE, opcode::REPLACEQ),
                    WriteKind::Append => pick(opcode::APPEND, opcode::APPENDQ),
                    WriteKind::Prepend => pick(opcode::PREPEND, opcode::PREPENDQ),
                    WriteKind::Increment | WriteKind::Decrement => {
                        value.clear();
                        extras = [&id.to_be_bytes()[..], &[0; 8], &[0xff; 4]].concat();
                        match write.kind {
                            WriteKind::Increment => pick(opcode::INCREMENT, opcode::INCREMENTQ),
                            _ => pick(opcode::DECREMENT, opcode::DECREMENTQ),
                        }
                    }
                }
            }
            Ask::Delete(_) => pick(opcode::DELETE, opcode::DELETEQ),
            Ask::Touch(_) => {
                extras.extend_from_slice(&expiry);
                opcode::TOUCH
            }
            Ask::TooLarge(_) => {
                extras.extend_from_slice(&[0; 8]);
                value = vec![b'y'; self.too_large];
                pick(opcode::SET, opcode::SETQ)
            }
            Ask::Flush => pick(opcode::FLUSH, opcode::FLUSHQ),
            Ask::Stats => opcode::STAT,
            Ask::Line(_) => opcode::NOOP,
        };
        (packet(code, opaque, cas, &extras, &key, &value), code)
    }
}

/// A request of the binary protocol (memcached's doc/protocol-binary.txt).
fn packet(code: u8, opaque: u32, cas: u64, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = extras.len() + key.len() + value.len();
    let mut bytes = vec![0x80, code];
    bytes.extend_from_slice(&(key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[extras.len() as u8, 0, 0, 0]);
    bytes.extend_from_slice(&(body as u32).to_be_bytes());
    bytes.extend_from_slice(&opaque.to_be_bytes());
    bytes.extend_from_slice(&cas.to_be_bytes());
    [&bytes[..], extras, key, value].concat()
}

/// A key as meta commands with `b` bear it.
pub(super) fn base64_of(name: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in name.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sign = SIGNS[(word >> (18 - 6 * place)) as usize & 63];
            encoded.push(if place <= chunk.len() { sign as char } else { '=' });
        }
    }
    debug_assert_eq!(base64::decode(encoded.as_bytes(), &mut [0; 256]), Some(name));
    encoded
}
