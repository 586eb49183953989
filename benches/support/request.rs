//! Requests of every kind, with the answers that they must get.

use mcproxy::embedded::store::{Clock, Mode, Put, Store};
use mcproxy::protocol::binary::opcode;

use super::answer::Answer;
use super::random::Random;

/// Bytes of a key and of a value, as in the load tests.
pub(crate) const KEY_BYTES: usize = 31;
pub(crate) const VALUE_BYTES: usize = 100;

/// Keys of a multi-key get.
pub(crate) const KEYS_PER_GET: usize = 20;

/// Keys of each sort in the backends. So many that few gets of one tick ask for the same one.
const KEYS: usize = 5_000;

/// A CAS token that no item has.
const OLD_TOKEN: u64 = 1 << 62;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Gets,
    GetOfTwenty,
    Set,
    Delete,
    Incr,
    Touch,
    Cas,
    MetaGet,
    MetaSet,
    MetaDelete,
    MetaArithmetic,
    BinaryGet,
    BinarySet,
    BinaryIncr,
}

impl Kind {
    pub(crate) const TEXT: [Kind; 12] = [
        Kind::Get,
        Kind::Gets,
        Kind::GetOfTwenty,
        Kind::Set,
        Kind::Delete,
        Kind::Incr,
        Kind::Touch,
        Kind::Cas,
        Kind::MetaGet,
        Kind::MetaSet,
        Kind::MetaDelete,
        Kind::MetaArithmetic,
    ];
    pub(crate) const BINARY: [Kind; 3] = [Kind::BinaryGet, Kind::BinarySet, Kind::BinaryIncr];

    /// Figures are given for each of these: a request, or a key of a multi-key get.
    pub(crate) fn operations(self) -> usize {
        if self == Kind::GetOfTwenty { KEYS_PER_GET } else { 1 }
    }

    /// Appends a request of this kind with random keys to `out`; gives its answer.
    pub(crate) fn write(self, random: &mut Random, out: &mut Vec<u8>) -> Answer {
        let number = random.below(KEYS);
        let (item, counter, spare) = (item(number), counter(number), spare(number));
        let mut line = |line: String| out.extend_from_slice(line.as_bytes());
        let answer = Answer::default();
        match self {
            Kind::Get => {
                line(format!("get {item}\r\n"));
                answer.bytes(found(&item)).bytes("END\r\n")
            }
            Kind::Gets => {
                line(format!("gets {item}\r\n"));
                let head = format!("VALUE {item} 0 {VALUE_BYTES} ");
                answer.bytes(head).digits().bytes(format!("\r\n{}\r\nEND\r\n", value(&item)))
            }
            Kind::GetOfTwenty => {
                line("get".to_string());
                let mut answer = answer;
                for _ in 0..KEYS_PER_GET {
                    let key = self::item(random.below(KEYS));
                    line(format!(" {key}"));
                    answer = answer.bytes(found(&key));
                }
                line("\r\n".to_string());
                answer.bytes("END\r\n")
            }
            Kind::Set => {
                line(format!("set {item} 0 0 {VALUE_BYTES}\r\n{}\r\n", value(&item)));
                answer.bytes("STORED\r\n")
            }
            Kind::Delete => {
                line(format!("delete {spare}\r\n"));
                answer.one_of(&["DELETED\r\n", "NOT_FOUND\r\n"])
            }
            Kind::Incr => {
                line(format!("incr {counter} 3\r\n"));
                answer.digits().bytes("\r\n")
            }
            Kind::Touch => {
                line(format!("touch {item} 0\r\n"));
                answer.bytes("TOUCHED\r\n")
            }
            Kind::Cas => {
                line(format!("cas {item} 0 0 {VALUE_BYTES} {OLD_TOKEN}\r\n{}\r\n", value(&item)));
                answer.bytes("EXISTS\r\n")
            }
            Kind::MetaGet => {
                line(format!("mg {item} f s v\r\n"));
                answer.bytes(format!("VA {VALUE_BYTES} f0 s{VALUE_BYTES}\r\n{}\r\n", value(&item)))
            }
            Kind::MetaSet => {
                line(format!("ms {item} {VALUE_BYTES} T0\r\n{}\r\n", value(&item)));
                answer.bytes("HD\r\n")
            }
            Kind::MetaDelete => {
                line(format!("md {spare}\r\n"));
                answer.one_of(&["HD\r\n", "NF\r\n"])
            }
            Kind::MetaArithmetic => {
                line(format!("ma {counter}\r\n"));
                answer.bytes("HD\r\n")
            }
            Kind::BinaryGet | Kind::BinarySet | Kind::BinaryIncr => self.packet(number, out),
        }
    }

    fn packet(self, number: usize, out: &mut Vec<u8>) -> Answer {
        let (item, counter) = (item(number), counter(number));
        let value = value(&item);
        let opaque = number as u32;
        let mut packet = |opcode: u8, extras: &[u8], key: &str, value: &str| {
            head(out, 0x80, opcode, key.len(), extras.len(), value.len(), opaque);
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(extras);
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value.as_bytes());
        };
        // Behind the first 16 bytes of its header, an answer has the CAS token.
        let mut answer = Vec::new();
        match self {
            Kind::BinarySet => {
                packet(opcode::SET, &[0; 8], &item, &value);
                head(&mut answer, 0x81, opcode::SET, 0, 0, 0, opaque);
                Answer::default().bytes(answer).any(8)
            }
            Kind::BinaryIncr => {
                packet(opcode::INCREMENT, &[&3u64.to_be_bytes()[..], &[0; 12]].concat(), &counter, "");
                head(&mut answer, 0x81, opcode::INCREMENT, 0, 0, 8, opaque);
                Answer::default().bytes(answer).any(8 + 8)
            }
            _ => {
                packet(opcode::GET, &[], &item, "");
                head(&mut answer, 0x81, opcode::GET, 0, 4, VALUE_BYTES, opaque);
                Answer::default().bytes(answer).any(8).bytes([0; 4]).bytes(value)
            }
        }
    }
}

/// The first 16 bytes of a binary header; status or vbucket is zero.
fn head(out: &mut Vec<u8>, magic: u8, opcode: u8, key: usize, extras: usize, value: usize, opaque: u32) {
    out.extend_from_slice(&[magic, opcode]);
    out.extend_from_slice(&(key as u16).to_be_bytes());
    out.extend_from_slice(&[extras as u8, 0, 0, 0]);
    out.extend_from_slice(&((extras + key + value) as u32).to_be_bytes());
    out.extend_from_slice(&opaque.to_be_bytes());
}

/// A key whose item has [`VALUE_BYTES`] bytes, and keeps its value for ever.
pub(crate) fn item(number: usize) -> String {
    key("item:", number)
}

/// A key whose item is a number.
fn counter(number: usize) -> String {
    key("counter:", number)
}

/// A key whose item is there until it is deleted.
fn spare(number: usize) -> String {
    key("spare:", number)
}

/// Written by hand: formatting with leading zeros takes most of the time that a benchmark needs to get ready.
fn key(sort: &str, number: usize) -> String {
    let number = number.to_string();
    let zeros = &"0000000000000000000000000000000"[..KEY_BYTES - sort.len() - number.len()];
    [sort, zeros, &number].concat()
}

/// The value of a key's item.
pub(crate) fn value(key: &str) -> String {
    let mut value = key.repeat(VALUE_BYTES.div_ceil(key.len()));
    value.truncate(VALUE_BYTES);
    value
}

fn found(key: &str) -> String {
    format!("VALUE {key} 0 {VALUE_BYTES}\r\n{}\r\n", value(key))
}

/// Puts all items that requests may ask for into the stores of their owners.
pub(crate) fn fill(clock: Clock, owner: impl Fn(&[u8]) -> usize, stores: &mut [Store]) {
    for number in 0..KEYS {
        let item = item(number);
        let value = value(&item);
        for (key, value) in [(item, value.as_str()), (counter(number), "1000000000"), (spare(number), "x")] {
            assert_eq!(key.len(), KEY_BYTES);
            let put = Put {
                mode: Mode::Set,
                key: key.as_bytes(),
                value: value.as_bytes(),
                flags: 0,
                exptime: 0,
                cas: 0,
                base64: false,
                stale: false,
            };
            stores[owner(put.key)].put(&put, clock).expect("a small item");
        }
    }
}
