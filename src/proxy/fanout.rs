//! One multi-key read: its keys spread over backends, their answers put back in the order asked.
//!
//! Keys are asked for in windows. The first is small, for nobody knows how large the values are; the next
//! take as many keys as the values seen so far allow. What has come is held back until the last part is
//! there, so that one error line can take the place of all of it. An answer that outgrows the bound is
//! streamed instead: each window goes out as the client reads, and a failure then ends the connection after
//! the last whole value.

use std::ops::Range;

use crate::io::ConnId;
use crate::limits::WINDOW_GROWTH_MAX;
use crate::protocol::compose;
use crate::time::Time;

use super::backend::Why;

/// Index and generation of a multi-key read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FanoutId(pub(super) u32, pub(super) u32);

/// Which read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// get, gets
    Get {
        /// gets
        with_cas: bool,
    },
    /// gat, gats
    Gat {
        /// gats
        with_cas: bool,
        /// Seconds, as sent.
        exptime: i32,
    },
}

impl Read {
    /// The start of a request for some keys.
    pub(super) fn head(self, line: &mut Vec<u8>) {
        match self {
            Read::Get { with_cas } => {
                let verb = compose::get_verb(with_cas);
                line.extend_from_slice(&verb[..verb.len() - 1]);
            }
            Read::Gat { with_cas, exptime } => compose::gat_head(line, with_cas, exptime),
        }
    }

    /// It changes the items it reads.
    pub(super) fn writes(self) -> bool {
        matches!(self, Read::Gat { .. })
    }

    /// Its answer bears CAS tokens.
    pub(super) fn with_cas(self) -> bool {
        match self {
            Read::Get { with_cas } | Read::Gat { with_cas, .. } => with_cas,
        }
    }
}

/// A multi-key read's state.
#[derive(Debug)]
pub(super) struct Fanout {
    pub(super) client: ConnId,
    pub(super) slot: u32,
    pub(super) read: Read,
    /// The keys, end to end, and each one's end and owner.
    keys: Vec<u8>,
    asked: Vec<Asked>,
    /// The keys that were asked for last.
    pub(super) window: Range<usize>,
    /// One for each backend in the window.
    pub(super) parts: Vec<Part>,
    /// Parts of the window that are still to come.
    pub(super) waiting: usize,
    /// Whole values that have come, in order, and are not given to the client.
    pub(super) held: Vec<u8>,
    /// Bytes of values seen in all windows so far.
    seen_bytes: usize,
    /// When the whole answer is due, however many windows it takes; unless it is streamed.
    pub(super) deadline: Time,
    /// The answer has outgrown the bound.
    pub(super) streaming: bool,
    /// The next window waits until the client has taken more.
    pub(super) parked: bool,
    /// A part of a streamed answer has failed: nothing comes after what is held.
    pub(super) broken: bool,
    /// What takes the place of the answer, decided from the start.
    pub(super) refusal: Option<&'static [u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    end: u32,
    backend: u16,
}

/// What one backend has to answer of a window.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) backend: u16,
    /// Its keys, by their place in the request.
    keys: Vec<u32>,
    /// How many of them are behind the last value that came.
    passed: usize,
    /// Its values, end to end, with the place of each one's key and its end.
    bytes: Vec<u8>,
    values: Vec<(u32, usize)>,
    /// Requests that are not answered.
    pub(super) requests: u32,
    /// It has failed, and why.
    pub(super) failed: Option<Failed>,
}

/// Why a part has no answer.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// The backend did not give one.
    Backend(Why),
    /// It gave an error line.
    Line(Box<[u8]>),
}

impl Fanout {
    /// A read without keys yet.
    pub(super) fn new(client: ConnId, slot: u32, read: Read, deadline: Time) -> Self {
        Fanout {
            client,
            slot,
            read,
            keys: Vec::new(),
            asked: Vec::new(),
            window: 0..0,
            parts: Vec::new(),
            waiting: 0,
            held: Vec::new(),
            seen_bytes: 0,
            deadline,
            streaming: false,
            parked: false,
            broken: false,
            refusal: None,
        }
    }

    /// Adds a key and its owner.
    pub(super) fn push(&mut self, key: &[u8], backend: usize) {
        self.keys.extend_from_slice(key);
        self.asked.push(Asked { end: self.keys.len() as u32, backend: backend as u16 });
    }

    /// Keys in all.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// A key by its place.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.asked[index - 1].end as usize };
        &self.keys[start..self.asked[index].end as usize]
    }

    /// All windows have been asked for.
    pub(super) fn is_last_window(&self) -> bool {
        self.window.end == self.asked.len()
    }

    /// Moves on to the next window: at most `keys_max` keys at first, later as many as `bytes_max` bytes of
    /// values like those seen allow, within a bound. Spreads its keys over [`Self::parts`].
    pub(super) fn next_window(&mut self, keys_max: usize, bytes_max: usize) {
        let start = self.window.end;
        let count = match self.seen_bytes.checked_div(start) {
            None => keys_max,
            Some(average) => (bytes_max / average.max(1)).clamp(1, keys_max * WINDOW_GROWTH_MAX),
        };
        self.window = start..(start + count).min(self.asked.len());
        self.parts.clear();
        for index in self.window.clone() {
            let backend = self.asked[index].backend;
            let part = match self.parts.iter().position(|part| part.backend == backend) {
                Some(part) => part,
                None => {
                    self.parts.push(Part::new(backend));
                    self.parts.len() - 1
                }
            };
            self.parts[part].keys.push(index as u32);
        }
        self.waiting = self.parts.len();
    }

    /// The keys of a part, in the order asked.
    pub(super) fn part_keys(&self, part: usize) -> impl Iterator<Item = &[u8]> {
        self.parts[part].keys.iter().map(|&index| self.key(index as usize))
    }

    /// Takes a value for a part. False if the backend was not asked for this key, or not in this order.
    pub(super) fn take_value(&mut self, part: usize, key: &[u8], frame: &[u8]) -> bool {
        let mut passed = self.parts[part].passed;
        loop {
            let Some(&index) = self.parts[part].keys.get(passed) else { return false };
            passed += 1;
            if self.key(index as usize) == key {
                let part = &mut self.parts[part];
                part.passed = passed;
                part.bytes.extend_from_slice(frame);
                part.values.push((index, part.bytes.len()));
                return true;
            }
        }
    }

    /// Puts the window's values, in the order of the keys, behind what is held. Stops before the first key of
    /// a failed part if `stop_at_failure`.
    pub(super) fn merge(&mut self, stop_at_failure: bool) {
        let mut next = vec![(0, 0); self.parts.len()];
        for index in self.window.clone() {
            let backend = self.asked[index].backend;
            let place =
                self.parts.iter().position(|part| part.backend == backend).expect("each key has a part");
            let (part, (value, start)) = (&self.parts[place], &mut next[place]);
            if stop_at_failure && part.failed.is_some() {
                break;
            }
            if let Some(&(key, end)) = part.values.get(*value)
                && key as usize == index
            {
                self.held.extend_from_slice(&part.bytes[*start..end]);
                (*value, *start) = (*value + 1, end);
            }
        }
        self.seen_bytes += self.parts.iter().map(|part| part.bytes.len()).sum::<usize>();
    }

    /// Values that came and keys asked for in this window, for the counters.
    pub(super) fn hits_and_keys(&self) -> (u64, u64) {
        let hits = self.parts.iter().map(|part| part.values.len() as u64).sum();
        (hits, self.window.len() as u64)
    }
}

impl Part {
    fn new(backend: u16) -> Self {
        Part {
            backend,
            keys: Vec::new(),
            passed: 0,
            bytes: Vec::new(),
            values: Vec::new(),
            requests: 0,
            failed: None,
        }
    }

    /// Forgets the values that came: its backend has failed.
    pub(super) fn fail(&mut self, failed: Failed) {
        self.bytes.clear();
        self.values.clear();
        self.failed.get_or_insert(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fanout(keys: &[(&str, usize)]) -> Fanout {
        let mut fanout = Fanout::new(ConnId::client(0, 0), 0, Read::Get { with_cas: false }, Time::NEVER);
        for (key, backend) in keys {
            fanout.push(key.as_bytes(), *backend);
        }
        fanout
    }

    #[test]
    fn values_come_back_in_the_order_asked_duplicates_included() {
        let mut fanout = fanout(&[("a", 0), ("b", 1), ("a", 0), ("c", 1), ("d", 0)]);
        fanout.next_window(10, 1000);
        assert_eq!(fanout.part_keys(0).collect::<Vec<_>>(), [b"a", b"a", b"d"]);
        assert!(fanout.take_value(1, b"c", b"<c>"));
        assert!(fanout.take_value(0, b"a", b"<a>"));
        assert!(fanout.take_value(0, b"a", b"<a>"));
        assert!(fanout.take_value(0, b"d", b"<d>"));
        fanout.merge(false);
        assert_eq!(fanout.held, b"<a><a><c><d>");
        assert!(!fanout.take_value(0, b"d", b"<d>"), "asked once, answered twice");
        assert!(!fanout.take_value(1, b"x", b"<x>"), "never asked for");
    }

    #[test]
    fn windows_grow_with_what_was_seen() {
        let keys: Vec<(String, usize)> = (0..1000).map(|number| (format!("k{number}"), 0)).collect();
        let mut fanout = fanout(&keys.iter().map(|(key, backend)| (&key[..], *backend)).collect::<Vec<_>>());
        fanout.next_window(10, 1000);
        assert_eq!(fanout.window, 0..10);
        assert!(fanout.take_value(0, b"k3", &[b'v'; 500]));
        fanout.merge(false);
        fanout.next_window(10, 1000);
        assert_eq!(fanout.window, 10..30, "500 bytes for 10 keys: 20 keys for 1000 bytes");
    }

    #[test]
    fn a_streamed_answer_stops_before_the_failed_part() {
        let mut fanout = fanout(&[("a", 0), ("b", 1), ("c", 0)]);
        fanout.next_window(10, 1000);
        assert!(fanout.take_value(0, b"a", b"<a>"));
        assert!(fanout.take_value(0, b"c", b"<c>"));
        fanout.parts[1].fail(Failed::Backend(Why::TimedOut));
        fanout.merge(true);
        assert_eq!(fanout.held, b"<a>");
    }
}
