//! A joined get: what several clients ask one backend in one tick, as one `get` or `gets` line of many keys.
//!
//! memcached before 1.6.35 answers every pipelined get with a system call of its own, and one get of many
//! keys with a single one. A key that several ask for is asked once and answered to all: asked twice, a hit
//! and a miss could not be told apart.

use crate::buffer::Recycle;
use crate::io::ConnId;
use crate::limits::{JOINED_KEYS_MAX, KEY_MAX};

use super::fanout::{FanoutId, Read};

/// One request for many keys, and who wants which.
#[derive(Debug)]
pub(super) struct JoinedGet {
    pub(super) read: Read,
    /// The line without its end: the verb, then each key with a space before it.
    line: Vec<u8>,
    keys: Vec<Key>,
    /// Who else asks for a key that has been asked for, and the next one of them plus one.
    others: Vec<(Asker, u32)>,
    /// Hash -> number of the key plus one; zero is free. Collisions go to the next place.
    places: [u8; PLACES],
    /// Keys from the first on that cannot come any more: the last of them has.
    passed: usize,
    /// Everybody has got an error: what comes is for nobody.
    abandoned: bool,
    /// Requests of clients that are in it; one of many keys counts with each of them.
    askers: u32,
    /// Bytes of the values that came.
    value_bytes: usize,
    values: usize,
}

/// Twice the keys, so that a free place is never far.
const PLACES: usize = 256;
const _: () = assert!(PLACES == 2 * JOINED_KEYS_MAX);
const _: () = assert!(JOINED_KEYS_MAX * (KEY_MAX + 1) + 32 <= u16::MAX as usize);

#[derive(Debug)]
struct Key {
    /// Where it stands in the line.
    start: u16,
    end: u16,
    hash: u32,
    asker: Asker,
    /// The next of [`JoinedGet::others`] plus one.
    other: u32,
    place: u8,
    /// It is there.
    hit: bool,
}

/// Who wants to know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client's get of this one key, by its slot.
    Slot(ConnId, u32),
    /// A multi-key read, by the key's place in it.
    Part(FanoutId, u32),
}

impl JoinedGet {
    /// Begins with the verb.
    pub(super) fn begin(&mut self, read: Read) {
        self.read = read;
        read.head(&mut self.line);
    }

    /// Adds what `asker` wants to know. True if nobody has asked for this key before.
    #[inline(always)]
    pub(super) fn ask(&mut self, key: &[u8], hash: u32, asker: Asker) -> bool {
        self.askers += 1;
        let (place, asked) = self.look_up(key, hash);
        // The first gat of a key may make the second one miss.
        if let Some(number) = asked
            && !self.read.writes()
        {
            self.ask_too(number, asker);
            return false;
        }
        self.line.reserve(1 + key.len());
        self.line.push(b' ');
        self.line.extend_from_slice(key);
        let end = self.line.len();
        let (start, end) = ((end - key.len()) as u16, end as u16);
        self.keys.push(Key { start, end, hash, asker, other: 0, place, hit: false });
        self.places[usize::from(place)] = self.keys.len() as u8;
        true
    }

    /// The place of a key in the table, and its number if it has been asked for.
    #[inline]
    fn look_up(&self, key: &[u8], hash: u32) -> (u8, Option<usize>) {
        let mut place = hash as u8;
        loop {
            match usize::from(self.places[usize::from(place)]) {
                0 => return (place, None),
                number if self.keys[number - 1].hash == hash && self.key(number - 1) == key => {
                    return (place, Some(number - 1));
                }
                _ => place = place.wrapping_add(1),
            }
        }
    }

    fn ask_too(&mut self, number: usize, asker: Asker) {
        let key = &mut self.keys[number];
        self.others.push((asker, key.other));
        key.other = self.others.len() as u32;
    }

    /// The key has been asked for.
    pub(super) fn asks_for(&self, key: &[u8], hash: u32) -> bool {
        self.look_up(key, hash).1.is_some()
    }

    /// Keys in it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// There is room for another key, in a line of at most `line_max` bytes.
    pub(super) fn has_room(&self, key: &[u8], line_max: usize) -> bool {
        self.len() < JOINED_KEYS_MAX && self.line.len() + 1 + key.len() + 2 <= line_max
    }

    /// What it has come to, without the line's end.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Requests of clients in it.
    pub(super) fn askers(&self) -> u32 {
        self.askers
    }

    /// Nobody awaits its answer any more: all who had none have got an error.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// The first key that may come next.
    #[inline]
    pub(super) fn next_key(&self) -> Option<&[u8]> {
        (self.passed < self.keys.len()).then(|| self.key(self.passed))
    }

    /// Goes on to `key`; false if it is not asked for, or not behind those that have come.
    pub(super) fn pass_to(&mut self, key: &[u8]) -> bool {
        let found = (self.passed..self.keys.len()).find(|&number| self.key(number) == key);
        self.passed = found.unwrap_or(self.passed);
        found.is_some()
    }

    /// The next key is there: those who ask for it.
    #[inline]
    pub(super) fn hit(&mut self) -> Askers {
        let number = self.passed;
        self.passed += 1;
        self.keys[number].hit = true;
        self.askers_of(number)
    }

    /// The first key, its number `from` or above, that has not come.
    #[inline]
    pub(super) fn next_missing(&self, from: usize) -> Option<usize> {
        if self.values == self.keys.len() {
            return None;
        }
        (from..self.keys.len()).find(|&number| !self.keys[number].hit)
    }

    /// Who asks for a key, one after the other.
    #[inline]
    pub(super) fn askers_of(&self, number: usize) -> Askers {
        let key = &self.keys[number];
        Askers { asker: (!self.abandoned).then_some(key.asker), other: key.other }
    }

    /// A value has come, with so many bytes of its frame.
    #[inline]
    pub(super) fn count_value(&mut self, bytes: usize) {
        self.values += 1;
        self.value_bytes += bytes;
    }

    /// Bytes of a value among those that came, on average.
    pub(super) fn value_bytes(&self) -> Option<usize> {
        self.value_bytes.checked_div(self.values)
    }

    #[inline]
    fn key(&self, number: usize) -> &[u8] {
        let key = &self.keys[number];
        &self.line[usize::from(key.start)..usize::from(key.end)]
    }
}

/// The askers of one key. It borrows nothing, so they can be answered on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Askers {
    asker: Option<Asker>,
    other: u32,
}

impl Askers {
    /// The one who asks, if it is one.
    #[inline]
    pub(super) fn only(&self) -> Option<Asker> {
        if self.other == 0 { self.asker } else { None }
    }

    /// They are more than one.
    #[inline]
    pub(super) fn are_several(&self) -> bool {
        self.asker.is_some() && self.other != 0
    }

    /// The next one.
    #[inline]
    pub(super) fn next(&mut self, joined: &JoinedGet) -> Option<Asker> {
        let asker = self.asker?;
        self.asker = None;
        if self.other != 0 {
            let (other, next) = joined.others[self.other as usize - 1];
            self.asker = Some(other);
            self.other = next;
        }
        Some(asker)
    }
}

impl Recycle for JoinedGet {
    fn fresh() -> Self {
        JoinedGet {
            read: Read::Get { with_cas: false },
            line: Vec::with_capacity(512),
            keys: Vec::with_capacity(16),
            others: Vec::with_capacity(16),
            places: [0; PLACES],
            passed: 0,
            abandoned: false,
            askers: 0,
            value_bytes: 0,
            values: 0,
        }
    }

    fn clear(&mut self) {
        for key in &self.keys {
            self.places[usize::from(key.place)] = 0;
        }
        self.line.clear();
        self.keys.clear();
        self.others.clear();
        (self.passed, self.askers, self.value_bytes, self.values) = (0, 0, 0, 0);
        self.abandoned = false;
    }

    fn bytes(&self) -> usize {
        let askers =
            self.keys.capacity() * size_of::<Key>() + self.others.capacity() * size_of::<(Asker, u32)>();
        size_of::<Self>() + self.line.capacity() + askers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u32) -> Asker {
        Asker::Slot(ConnId::client(7, 0), number)
    }

    fn all(mut askers: Askers, joined: &JoinedGet) -> Vec<Asker> {
        std::iter::from_fn(|| askers.next(joined)).collect()
    }

    #[test]
    fn a_key_is_asked_once_for_all() {
        let mut joined = JoinedGet::fresh();
        for _ in 0..2 {
            joined.begin(Read::Get { with_cas: true });
            // All three in one place of the table, of which two have one hash.
            assert!(joined.ask(b"one", 5, slot(0)));
            assert!(joined.ask(b"two", 5 + 256, slot(1)));
            assert!(joined.ask(b"six", 5, slot(2)));
            for number in 3..6 {
                assert!(!joined.ask(b"two", 5 + 256, slot(number)));
            }
            assert_eq!(joined.line(), b"gets one two six");
            assert_eq!((joined.len(), joined.askers()), (3, 6));
            assert_eq!(joined.next_key(), Some(&b"one"[..]));
            assert!(!joined.pass_to(b"x") && joined.pass_to(b"two"));
            let askers = joined.hit();
            assert_eq!(all(askers, &joined), [slot(1), slot(5), slot(4), slot(3)]);
            assert_eq!(joined.next_key(), Some(&b"six"[..]));
            assert!(!joined.pass_to(b"one"));
            assert_eq!((joined.next_missing(0), joined.next_missing(1)), (Some(0), Some(2)));
            assert_eq!(all(joined.askers_of(0), &joined), [slot(0)]);
            joined.abandon();
            assert_eq!(all(joined.hit(), &joined), []);
            assert_eq!(joined.next_key(), None);
            joined.clear();
        }
    }

    /// The first of them may make the key expire at once.
    #[test]
    fn a_gat_asks_for_a_key_as_often_as_it_is_named() {
        let mut joined = JoinedGet::fresh();
        joined.begin(Read::Gat { with_cas: false, exptime: -1 });
        assert!(joined.ask(b"k", 5, slot(0)) && joined.ask(b"k", 5, slot(1)));
        assert_eq!(joined.line(), b"gat -1 k k");
        assert_eq!(all(joined.hit(), &joined), [slot(0)]);
        assert_eq!((joined.next_key(), joined.next_missing(0)), (Some(&b"k"[..]), Some(1)));
        joined.clear();
        assert!(joined.places.iter().all(|&place| place == 0));
    }

    #[test]
    fn as_many_keys_as_it_may_hold() {
        let mut joined = JoinedGet::fresh();
        joined.begin(Read::Get { with_cas: false });
        let key = |number: usize| format!("{number}").into_bytes();
        for number in 0..JOINED_KEYS_MAX {
            assert!(joined.ask(&key(number), 200, slot(0)), "all in one place");
        }
        for number in 0..JOINED_KEYS_MAX {
            assert!(!joined.ask(&key(number), 200, slot(1)));
        }
        joined.clear();
        assert!(joined.places.iter().all(|&place| place == 0));
    }
}
