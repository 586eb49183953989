//! One multi-key read: its keys spread over backends, their answers put back in the order asked.
//!
//! Keys are asked for in windows. The first is small, for nobody knows how large the values are; the next
//! take as many keys as the values seen so far allow. What has come is held back until the last part is
//! there, so that one error line can take the place of all of it. An answer that outgrows the bound is
//! streamed instead: each window goes out as the client reads, and a failure then ends the connection after
//! the last whole value.

use std::ops::Range;

use bytes::Bytes;

use crate::buffer::{Outbox, Recycle, Spare};
use crate::io::ConnId;
use crate::limits::WINDOW_GROWTH_MAX;
use crate::placement::Place;
use crate::protocol::compose;
use crate::time::Time;

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
    /// The keys, end to end, and where each ends and lies.
    keys: Vec<u8>,
    asked: Vec<Asked>,
    /// When they were placed: see [`super::Proxy`]'s field of that name.
    pub(super) placed: u64,
    /// The keys that were asked for last.
    pub(super) window: Range<usize>,
    /// Keys of the window that are not answered.
    pub(super) waiting: usize,
    /// The window's values as they came, end to end, and each key's place among them; empty for a miss.
    values: Vec<u8>,
    places: Vec<Range<usize>>,
    /// Large values are not copied: a thousand reads may have asked for the same one.
    moved: Vec<Bytes>,
    moved_bytes: usize,
    /// Values of the window that came.
    hits: usize,
    /// The first key of the window that has no answer, and the error in its place.
    pub(super) failure: Option<Failure>,
    /// Whole values of earlier windows, in order, that are not given to the client.
    pub(super) held: Outbox,
    /// Bytes of values seen in all windows so far.
    seen_bytes: usize,
    /// When the whole answer is due, however many windows it takes; unless it is streamed.
    pub(super) deadline: Time,
    /// The answer has outgrown the bound.
    pub(super) streaming: bool,
    /// The next window waits until the client has taken more.
    pub(super) parked: bool,
    /// What it is charged for of the process's memory, bytes.
    pub(super) charged: usize,
    /// A part of a streamed answer has failed: nothing comes after what is held.
    pub(super) broken: bool,
    /// What takes the place of the answer, decided from the start.
    pub(super) refusal: Option<&'static [u8]>,
}

/// The place among the values of a key that was not there.
const MISS: Range<usize> = 0..0;

/// The place of a key that is not answered: nowhere.
#[expect(clippy::reversed_empty_ranges, reason = "no value stands at such a place")]
const UNANSWERED: Range<usize> = 1..0;

/// Where the place begins of a value that was moved; it ends with its number among those.
const MOVED: usize = usize::MAX;

/// A value of a window.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Copied(&'a [u8]),
    Moved(&'a Bytes),
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    end: u32,
    hash: u32,
    backend: u16,
}

/// Why a read has no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The key, by its place in the request.
    key: usize,
    /// The error line.
    pub(super) line: Vec<u8>,
}

impl Fanout {
    /// Begins without keys.
    pub(super) fn begin(&mut self, client: ConnId, slot: u32, read: Read, deadline: Time) {
        (self.client, self.slot, self.read, self.deadline) = (client, slot, read, deadline);
    }

    /// Adds a key and where it lies.
    #[inline]
    pub(super) fn push(&mut self, key: &[u8], place: Place) {
        self.keys.extend_from_slice(key);
        let (end, backend) = (self.keys.len() as u32, place.server as u16);
        self.asked.push(Asked { end, hash: place.hash, backend });
    }

    /// Keys in all.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// A key by its number.
    #[inline]
    pub(super) fn key(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.asked[number - 1].end as usize };
        &self.keys[start..self.asked[number].end as usize]
    }

    /// Where a key lies.
    #[inline]
    pub(super) fn place(&self, number: usize) -> Place {
        let asked = &self.asked[number];
        Place { server: usize::from(asked.backend), hash: asked.hash }
    }

    /// Finds out anew where the keys lie that are still to be asked for.
    pub(super) fn place_again(&mut self, place: impl Fn(&[u8]) -> Place) {
        for number in self.window.end..self.asked.len() {
            let Place { server, hash } = place(self.key(number));
            let asked = &mut self.asked[number];
            (asked.backend, asked.hash) = (server as u16, hash);
        }
    }

    /// All windows have been asked for.
    pub(super) fn is_last_window(&self) -> bool {
        self.window.end == self.asked.len()
    }

    /// Moves on to the next window: at most `keys_max` keys at first, and `first_max`; later as many as
    /// `bytes_max` bytes of values like those seen allow, within a bound.
    pub(super) fn next_window(&mut self, keys_max: usize, first_max: usize, bytes_max: usize) {
        let start = self.window.end;
        let count = match self.seen_bytes.checked_div(start) {
            None => keys_max.min(first_max),
            Some(average) => (bytes_max / average.max(1)).clamp(1, keys_max * WINDOW_GROWTH_MAX),
        };
        self.window = start..(start + count).min(self.asked.len());
        self.waiting = self.window.len();
        self.hits = 0;
        self.drop_values();
        self.places.clear();
        self.places.resize(self.window.len(), UNANSWERED);
    }

    /// A key of the window is there.
    #[inline]
    pub(super) fn take_value(&mut self, key: usize, frame: &[u8]) {
        let start = self.values.len();
        self.values.extend_from_slice(frame);
        self.places[key - self.window.start] = start..self.values.len();
        self.hits += 1;
        self.waiting -= 1;
    }

    /// As [`Self::take_value`], without copying it.
    pub(super) fn take_moved(&mut self, key: usize, frame: Bytes) {
        self.places[key - self.window.start] = MOVED..self.moved.len();
        self.moved_bytes += frame.len();
        self.moved.push(frame);
        self.hits += 1;
        self.waiting -= 1;
    }

    /// A key of the window is not there.
    #[inline]
    pub(super) fn take_miss(&mut self, key: usize) {
        self.places[key - self.window.start] = MISS;
        self.waiting -= 1;
    }

    /// A key of the window has no answer; `line` is the error. The earliest key's is the one that counts.
    pub(super) fn take_failure(&mut self, key: usize, line: impl FnOnce() -> Vec<u8>) {
        self.take_miss(key);
        if self.failure.as_ref().is_none_or(|failure| key < failure.key) {
            self.failure = Some(Failure { key, line: line() });
        }
    }

    /// The window's values in the order of the keys, up to the first that has no answer.
    fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let count =
            self.failure.as_ref().map_or(self.window.len(), |failure| failure.key - self.window.start);
        self.places[..count].iter().filter_map(|place| match self.values.get(place.clone()) {
            Some(value) => Some(Value::Copied(value)),
            None if place.start == MOVED => self.moved.get(place.end).map(Value::Moved),
            None => None,
        })
    }

    /// Appends the whole answer but its end, if all of it stands in copies of this window.
    pub(super) fn copy_values(&self, bytes: &mut Vec<u8>) {
        for value in self.values() {
            if let Value::Copied(value) = value {
                bytes.extend_from_slice(value);
            }
        }
    }

    /// The first key of the window that is not answered.
    pub(super) fn first_unanswered(&self) -> Option<usize> {
        self.places.iter().position(|place| *place == UNANSWERED).map(|index| self.window.start + index)
    }

    /// Bytes of all values of the window.
    pub(super) fn value_bytes(&self) -> usize {
        self.values.len() + self.moved_bytes
    }

    /// Puts the window's values behind what is held.
    pub(super) fn hold(&mut self, spare: &mut Spare) {
        let mut held = std::mem::take(&mut self.held);
        for value in self.values() {
            match value {
                Value::Copied(value) => held.tail(spare).extend_from_slice(value),
                Value::Moved(value) => held.push(value.clone(), spare),
            }
        }
        self.held = held;
        self.seen_bytes += self.value_bytes();
        self.drop_values();
        self.places.fill(MISS);
    }

    /// Drops what is held.
    pub(super) fn drop_held(&mut self, spare: &mut Spare) {
        std::mem::take(&mut self.held).recycle(spare);
    }

    fn drop_values(&mut self) {
        self.values.clear();
        self.moved.clear();
        self.moved_bytes = 0;
    }

    /// Values that came and keys asked for in this window, for the counters.
    pub(super) fn hits_and_keys(&self) -> (u64, u64) {
        (self.hits as u64, self.window.len() as u64)
    }
}

impl Recycle for Fanout {
    fn fresh() -> Self {
        Fanout {
            client: ConnId::client(0, 0),
            slot: 0,
            read: Read::Get { with_cas: false },
            keys: Vec::with_capacity(512),
            asked: Vec::with_capacity(16),
            placed: 0,
            window: 0..0,
            waiting: 0,
            values: Vec::new(),
            places: Vec::new(),
            moved: Vec::new(),
            moved_bytes: 0,
            hits: 0,
            failure: None,
            held: Outbox::default(),
            seen_bytes: 0,
            deadline: Time::NEVER,
            streaming: false,
            parked: false,
            charged: 0,
            broken: false,
            refusal: None,
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.asked.clear();
        self.drop_values();
        self.places.clear();
        self.held = Outbox::default();
        (self.window, self.failure, self.refusal) = (0..0, None, None);
        (self.waiting, self.hits, self.seen_bytes) = (0, 0, 0);
        (self.streaming, self.parked, self.broken) = (false, false, false);
    }

    #[inline]
    fn bytes(&self) -> usize {
        let keys = self.keys.capacity() + self.asked.capacity() * size_of::<Asked>();
        let values = self.values.capacity() + self.moved_bytes + self.held.len();
        keys + values + self.places.capacity() * size_of::<Range<usize>>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;

    fn copied(fanout: &Fanout) -> Vec<u8> {
        let mut bytes = Vec::new();
        fanout.copy_values(&mut bytes);
        bytes
    }

    fn fanout(keys: &[&str]) -> Fanout {
        let mut fanout = Fanout::fresh();
        for key in keys {
            fanout.push(key.as_bytes(), Place { server: 0, hash: 0 });
        }
        fanout
    }

    #[test]
    fn values_come_back_in_the_order_asked() {
        let mut fanout = fanout(&["a", "b", "a", "c", "d"]);
        fanout.next_window(10, 10, 1000);
        assert_eq!(fanout.key(2), b"a");
        fanout.take_value(3, b"<c>");
        fanout.take_value(0, b"<a>");
        fanout.take_miss(1);
        assert_eq!(fanout.first_unanswered(), Some(2));
        fanout.take_value(2, b"<a>");
        assert_eq!((fanout.waiting, fanout.value_bytes()), (1, 9));
        fanout.take_value(4, b"<d>");
        assert_eq!(copied(&fanout), b"<a><a><c><d>");
        assert_eq!((fanout.waiting, fanout.hits_and_keys()), (0, (4, 5)));
        fanout.hold(&mut Room::new().spare);
        assert_eq!(fanout.held.single(0), Some(&b"<a><a><c><d>"[..]));
    }

    #[test]
    fn large_values_are_held_once() {
        let (mut fanout, large) = (fanout(&["a", "b", "c"]), Bytes::from_static(b"<large>"));
        fanout.next_window(10, 10, 1000);
        fanout.take_moved(1, large.clone());
        fanout.take_value(2, b"<c>");
        fanout.take_value(0, b"<a>");
        assert_eq!((fanout.value_bytes(), fanout.hits_and_keys()), (13, (3, 3)));
        fanout.hold(&mut Room::new().spare);
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let count = fanout.held.slices(0, &mut slices);
        let text: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(text, b"<a><large><c>");
        assert!(slices.iter().any(|slice| slice.as_ptr() == large.as_ptr()), "it was copied");
    }

    #[test]
    fn windows_grow_with_what_was_seen() {
        let keys: Vec<String> = (0..1000).map(|number| format!("k{number}")).collect();
        let mut fanout = fanout(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>());
        fanout.next_window(10, 10, 1000);
        assert_eq!(fanout.window, 0..10);
        fanout.take_value(3, &[b'v'; 500]);
        fanout.hold(&mut Room::new().spare);
        fanout.next_window(10, 10, 1000);
        assert_eq!(fanout.window, 10..30, "500 bytes for 10 keys: 20 keys for 1000 bytes");
    }

    #[test]
    fn an_answer_stops_before_the_first_key_that_has_none() {
        let mut fanout = fanout(&["a", "b", "c", "d"]);
        fanout.next_window(10, 10, 1000);
        fanout.take_value(0, b"<a>");
        fanout.take_failure(3, || b"late".to_vec());
        fanout.take_failure(1, || b"first".to_vec());
        fanout.take_failure(2, || unreachable!("an earlier key has failed"));
        assert_eq!(copied(&fanout), b"<a>");
        assert_eq!(fanout.failure.map(|failure| failure.line), Some(b"first".to_vec()));
    }
}
