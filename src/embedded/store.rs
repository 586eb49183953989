//! The items of one embedded backend, and what memcached 1.6.18's commands do to them (its items.c, and
//! do_store_item and do_add_delta of memcached.c). No socket, no clock: time comes with each call.
//!
//! A CAS token is the value of one counter of the store, that starts at 1 and moves when memcached's does:
//! with each value written, with each item that is marked stale, and with each flush that takes effect at
//! once.

use super::counters::Counters;
use super::table::{Place, Table};
use crate::protocol::number;

/// A point in time as a store knows it: Unix seconds, counted by a clock that does not jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(pub u64);

/// Longest expiry time, in seconds, that counts from now; a larger one is a Unix time (memcached's
/// REALTIME_MAXDELTA).
const RELATIVE_MAX: i64 = 60 * 60 * 24 * 30;

/// memcached's clock shows this many seconds at its start, so that an item's times are never zero.
const HEAD_START: u64 = 62;

/// Largest item in bytes, by memcached's count ([`item_bytes`]): its item_size_max.
const ITEM_MAX: usize = 1 << 20;

/// Largest item in bytes that memcached keeps in one piece; it takes no larger one for a number.
const WHOLE_ITEM_MAX: usize = 1 << 19;

/// What an item costs here beyond its key and value, bytes: a slot, an entry of the hash table, and what the
/// allocator adds to the two blocks.
const OVERHEAD: usize = 160;

/// An item without its key.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// The value without a line end.
    pub value: Box<[u8]>,
    /// The client's flags.
    pub flags: u32,
    /// CAS token.
    pub cas: u64,
    /// Seconds of the store's own clock; zero for never.
    pub expires: u32,
    /// Seconds of the store's own clock at the last use.
    pub used: u32,
    /// Was read since it was written (meta flag `h`).
    pub fetched: bool,
    /// Was stored under a base64 key, and is answered with one.
    pub base64: bool,
    /// Marked by `md I`, or stored with an older token by `ms I`.
    pub stale: bool,
    /// A client was told that it won the right to store anew.
    pub token_sent: bool,
}

/// The bytes that memcached 1.6.18 counts for an item (its ITEM_ntotal on a 64-bit machine).
pub fn item_bytes(key: &[u8], flags: u32, value_len: usize) -> usize {
    let (header, key_end, line_end, cas) = (48, 1, 2, 8);
    header + key.len() + key_end + value_len + line_end + cas + if flags == 0 { 0 } else { 4 }
}

/// How [`Store::put`] treats an item that is there or missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whatever is there.
    Set,
    /// Only if there is none.
    Add,
    /// Only if there is one.
    Replace,
    /// After the value that is there.
    Append,
    /// Before the value that is there.
    Prepend,
    /// Only if the tokens are equal.
    Cas,
}

/// A value to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// How.
    pub mode: Mode,
    /// The key, decoded.
    pub key: &'a [u8],
    /// The value without a line end.
    pub value: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// Seconds, as sent: relative up to 30 days, then Unix time, in the past if negative.
    pub exptime: i64,
    /// The token to compare with; zero for none.
    pub cas: u64,
    /// The key came in base64.
    pub base64: bool,
    /// With an older token, store all the same and mark the item stale (`ms I`).
    pub stale: bool,
}

/// What became of a [`Put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, with this token.
    Stored(u64),
    /// The mode forbids it.
    NotStored,
    /// The token is another one.
    Exists,
    /// There is no item to compare tokens with.
    NotFound,
}

/// Why a value cannot be taken, whatever is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Larger than any item may be.
    TooLarge,
    /// Larger than the whole store.
    OutOfMemory,
}

/// What became of an increment or decrement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Done.
    Done {
        /// The new number.
        value: u64,
        /// The new token.
        cas: u64,
        /// When the item expires, in seconds of the store's own clock.
        expires: u32,
        /// The item is the same one. When the number has become longer than the value was, memcached puts a
        /// new item in its place, and what a request changes beyond the number is lost with the old one.
        in_place: bool,
    },
    /// There is no item.
    NotFound,
    /// The value is no number.
    NonNumeric,
    /// The token is another one.
    Exists,
    /// The store is too small for the item.
    OutOfMemory,
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// Gone, or marked stale.
    Done,
    /// There is no item.
    NotFound,
    /// The token is another one.
    Exists,
}

/// The items, their bound, and the CAS counter.
#[derive(Debug)]
pub struct Store {
    table: Table,
    bytes: usize,
    bytes_max: usize,
    last_cas: u64,
    started: Clock,
    /// Items used at or before this second are gone once the second has come; zero if there was no flush.
    flushed_until: u32,
    /// Items with a smaller token are gone. A later flush with a delay does not bring them back, as it may do
    /// in memcached if nothing has cleaned up in between.
    flushed_cas: u64,
    /// What is counted.
    pub counters: Counters,
    /// Connections that are open, as their owner says.
    pub connections: u64,
    /// What `stats` gives as the process.
    pub process: u32,
    /// Every change of an item's value, if somebody wants to know: the simulator's oracle.
    pub journal: Option<Vec<Change>>,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value was stored under this key.
    Stored {
        /// The key, decoded.
        key: Box<[u8]>,
        /// All of the value.
        value: Box<[u8]>,
        /// Its token.
        cas: u64,
    },
    /// What stood under this key is gone.
    Removed(Box<[u8]>),
    /// Everything stored so far is gone.
    Flushed,
}

impl Store {
    /// An empty store that holds at most `bytes_max` bytes of keys, values and what surrounds them.
    pub fn new(bytes_max: usize, started: Clock) -> Self {
        Store {
            table: Table::new(),
            bytes: 0,
            bytes_max,
            last_cas: 0,
            started,
            flushed_until: 0,
            flushed_cas: 0,
            counters: Counters::default(),
            connections: 0,
            process: std::process::id(),
            journal: None,
        }
    }

    /// Items, those included that have expired and were not asked for since.
    pub fn items(&self) -> usize {
        self.table.len()
    }

    /// Bytes held, by the store's own count.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Most bytes held.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// When it was made.
    pub fn started(&self) -> Clock {
        self.started
    }

    /// Seconds of the store's own clock.
    pub fn seconds(&self, clock: Clock) -> u32 {
        (clock.0.saturating_sub(self.started.0) + HEAD_START) as u32
    }

    /// A client's expiry time in seconds of the store's own clock; zero for never (memcached's realtime).
    pub fn expiry(&self, exptime: i64, clock: Clock) -> u32 {
        let in_the_past = 1;
        match exptime {
            0 => 0,
            ..0 => in_the_past,
            1..=RELATIVE_MAX => (exptime as u32).wrapping_add(self.seconds(clock)),
            _ => {
                let before_zero = self.started.0.saturating_sub(HEAD_START);
                match (exptime as u64).checked_sub(before_zero) {
                    None | Some(0) => in_the_past,
                    Some(seconds) => seconds as u32,
                }
            }
        }
    }

    /// Reads an item for a client: counted, and marked as used.
    #[inline]
    pub fn get(&mut self, key: &[u8], clock: Clock) -> Option<&Item> {
        self.counters.cmd_get += 1;
        let Some(place) = self.find(key, clock) else {
            self.counters.get_misses += 1;
            return None;
        };
        self.counters.get_hits += 1;
        self.fetch(place, clock);
        Some(self.table.item(place))
    }

    /// Reads an item for a client and sets when it expires.
    pub fn get_and_touch(&mut self, key: &[u8], exptime: i64, clock: Clock) -> Option<&Item> {
        self.counters.cmd_touch += 1;
        let expires = self.expiry(exptime, clock);
        let Some(place) = self.find(key, clock) else {
            self.counters.touch_misses += 1;
            return None;
        };
        self.counters.touch_hits += 1;
        self.fetch(place, clock);
        let item = self.table.item_mut(place);
        item.expires = expires;
        Some(item)
    }

    /// Stores a value. A value that there is no room for changes nothing; most callers then
    /// [`Store::unlink`].
    pub fn put(&mut self, put: &Put, clock: Clock) -> Result<Outcome, NoRoom> {
        self.check_room(put.key, put.flags, put.value.len())?;
        self.counters.cmd_set += 1;
        let outcome = match self.find(put.key, clock) {
            Some(place) => self.put_over(put, place, clock),
            None => self.put_anew(put, clock),
        };
        if put.mode == Mode::Cas {
            match outcome {
                Outcome::Stored(_) => self.counters.cas_hits += 1,
                Outcome::Exists => self.counters.cas_badval += 1,
                _ => self.counters.cas_misses += 1,
            }
        }
        Ok(outcome)
    }

    /// Whether an item of this size can be stored; counted if not.
    pub fn check_room(&mut self, key: &[u8], flags: u32, value_len: usize) -> Result<(), NoRoom> {
        if item_bytes(key, flags, value_len) > ITEM_MAX {
            self.counters.store_too_large += 1;
            return Err(NoRoom::TooLarge);
        }
        if cost(key, value_len) > self.bytes_max {
            self.counters.store_no_memory += 1;
            return Err(NoRoom::OutOfMemory);
        }
        Ok(())
    }

    /// Adds to a number, or takes from it; down to zero, and upwards modulo 2^64. A number that has become
    /// shorter keeps its length, filled up with spaces. `cas`: the token to compare with, zero for none.
    pub fn arithmetic(&mut self, key: &[u8], decrement: bool, delta: u64, cas: u64, clock: Clock) -> Delta {
        let Some(place) = self.find(key, clock) else {
            match decrement {
                true => self.counters.decr_misses += 1,
                false => self.counters.incr_misses += 1,
            }
            return Delta::NotFound;
        };
        let item = self.table.item(place);
        let (flags, old_len, expires) = (item.flags, item.value.len(), item.expires);
        if old_len == 0 || item_bytes(key, flags, old_len) > WHOLE_ITEM_MAX {
            return Delta::NonNumeric;
        }
        if cas != 0 && cas != item.cas {
            return Delta::Exists;
        }
        // memcached reads a C string, so a NUL ends the number as well as white space.
        let text = item.value.split(|&byte| byte == 0).next().unwrap_or_default();
        let Some(before) = number::u64(text) else { return Delta::NonNumeric };
        let value = match decrement {
            true => before.saturating_sub(delta),
            false => before.wrapping_add(delta),
        };
        match decrement {
            true => self.counters.decr_hits += 1,
            false => self.counters.incr_hits += 1,
        }
        let digits = number::Decimal::new(value);
        let digits = digits.as_bytes();
        let in_place = digits.len() <= old_len;
        if in_place {
            self.write_in_place(place, digits, clock);
        } else {
            if cost(key, digits.len()) > self.bytes_max {
                return Delta::OutOfMemory;
            }
            let item = Item { value: digits.into(), flags, expires, ..Item::default() };
            self.link_over(place, item, clock);
        }
        Delta::Done { value, cas: self.last_cas, expires, in_place }
    }

    /// Sets when an item expires. Its token stays.
    pub fn touch(&mut self, key: &[u8], exptime: i64, clock: Clock) -> bool {
        self.get_and_touch(key, exptime, clock).is_some()
    }

    /// Deletes an item, if its token is `cas` where one is given.
    pub fn delete(&mut self, key: &[u8], cas: Option<u64>, clock: Clock) -> Deleted {
        match self.find_with_cas(key, cas, clock) {
            Ok(place) => {
                self.counters.delete_hits += 1;
                self.remove(place);
                Deleted::Done
            }
            Err(why) => {
                self.counters.delete_misses += 1;
                why
            }
        }
    }

    /// Marks an item stale instead of deleting it (`md I`), gives it a new token and, where one is given, a
    /// new expiry time.
    pub fn mark_stale(
        &mut self,
        key: &[u8],
        cas: Option<u64>,
        exptime: Option<i64>,
        clock: Clock,
    ) -> Deleted {
        let place = match self.find_with_cas(key, cas, clock) {
            Ok(place) => place,
            Err(why) => {
                self.counters.delete_misses += 1;
                return why;
            }
        };
        let expires = exptime.map(|exptime| self.expiry(exptime, clock));
        let cas = self.next_cas();
        let item = self.table.item_mut(place);
        item.expires = expires.unwrap_or(item.expires);
        item.stale = true;
        item.token_sent = false;
        item.cas = cas;
        Deleted::Done
    }

    /// Removes an item whose new value could not be taken: better none than an old one.
    pub fn unlink(&mut self, key: &[u8], clock: Clock) {
        if let Some(place) = self.find(key, clock) {
            self.remove(place);
        }
    }

    /// Makes all items of now vanish, at once or after `delay` (seconds, or a Unix time as in
    /// [`Put::exptime`]). The second is the unit, with memcached's consequences: one second of delay is none,
    /// and takes what is stored in the rest of this second too.
    pub fn flush_all(&mut self, delay: i64, clock: Clock) {
        self.counters.cmd_flush += 1;
        let now = self.seconds(clock);
        let first_to_stay = if delay > 0 { self.expiry(delay, clock) } else { now };
        self.flushed_until = first_to_stay.wrapping_sub(1);
        if self.flushed_until <= now {
            self.flushed_cas = self.next_cas();
            self.note(|| Change::Flushed);
        }
    }
}

/// For the meta commands, which look at and change an item's parts.
impl Store {
    /// Finds an item that has neither expired nor been flushed.
    #[inline]
    pub(super) fn find(&mut self, key: &[u8], clock: Clock) -> Option<Place> {
        let place = self.table.find(key)?;
        let now = self.seconds(clock);
        let item = self.table.item(place);
        let flushed = item.cas < self.flushed_cas
            || (self.flushed_until != 0 && self.flushed_until <= now && item.used <= self.flushed_until);
        if flushed {
            self.counters.get_flushed += 1;
        } else if item.expires != 0 && item.expires <= now {
            self.counters.get_expired += 1;
        } else {
            return Some(place);
        }
        self.remove(place);
        None
    }

    pub(super) fn item(&self, place: Place) -> &Item {
        self.table.item(place)
    }

    pub(super) fn item_mut(&mut self, place: Place) -> &mut Item {
        self.table.item_mut(place)
    }

    /// Marks an item as read by a client. As in memcached, the first read only sets `fetched`, and those
    /// after it move the time of the last use.
    pub(super) fn fetch(&mut self, place: Place, clock: Clock) {
        let now = self.seconds(clock);
        let item = self.table.item_mut(place);
        // Once a second is often enough for the order of use, and spares the list most of its writes.
        let moves = item.used != now || !item.fetched;
        if item.fetched {
            item.used = now;
        }
        item.fetched = true;
        if moves {
            self.table.make_newest(place);
        }
    }

    /// Sets when an item expires, in seconds of the store's own clock; one that is there, even if its time is
    /// over.
    pub(super) fn set_expiry(&mut self, key: &[u8], expires: u32) {
        if let Some(place) = self.table.find(key) {
            self.table.item_mut(place).expires = expires;
        }
    }

    /// Puts an empty item where there is none (`mg N`).
    pub(super) fn vivify(&mut self, key: &[u8], clock: Clock) -> Place {
        self.link_new(key, Item::default(), clock)
    }
}

/// What an item of this size costs.
fn cost(key: &[u8], value_len: usize) -> usize {
    key.len() + value_len + OVERHEAD
}

impl Store {
    fn put_over(&mut self, put: &Put, place: Place, clock: Clock) -> Outcome {
        let old = self.table.item(place);
        let equal = put.cas == 0 || put.cas == old.cas;
        let mut item = Item { flags: put.flags, base64: put.base64, ..Item::default() };
        item.expires = self.expiry(put.exptime, clock);
        match put.mode {
            Mode::Set | Mode::Replace => item.value = put.value.into(),
            Mode::Add => {
                let now = self.seconds(clock);
                self.table.item_mut(place).used = now;
                return Outcome::NotStored;
            }
            Mode::Cas if put.cas != 0 && equal => item.value = put.value.into(),
            Mode::Cas if put.stale && put.cas != 0 && put.cas < old.cas => {
                item.value = put.value.into();
                item.expires = old.expires;
                item.stale = true;
                item.token_sent = old.token_sent;
            }
            Mode::Cas => return Outcome::Exists,
            Mode::Append | Mode::Prepend if !equal => return Outcome::Exists,
            Mode::Append | Mode::Prepend => {
                let parts = match put.mode {
                    Mode::Append => [&old.value, put.value],
                    _ => [put.value, &old.value],
                };
                item = Item { flags: old.flags, expires: old.expires, ..Item::default() };
                let value_len = parts[0].len() + parts[1].len();
                if item_bytes(put.key, item.flags, value_len) > ITEM_MAX
                    || cost(put.key, value_len) > self.bytes_max
                {
                    return Outcome::NotStored;
                }
                item.value = parts.concat().into();
            }
        }
        self.link_over(place, item, clock);
        Outcome::Stored(self.last_cas)
    }

    fn put_anew(&mut self, put: &Put, clock: Clock) -> Outcome {
        match put.mode {
            Mode::Set | Mode::Add => {}
            Mode::Cas => return Outcome::NotFound,
            Mode::Replace | Mode::Append | Mode::Prepend => return Outcome::NotStored,
        }
        let expires = self.expiry(put.exptime, clock);
        let item = Item {
            value: put.value.into(),
            flags: put.flags,
            base64: put.base64,
            expires,
            ..Item::default()
        };
        self.link_new(put.key, item, clock);
        Outcome::Stored(self.last_cas)
    }

    fn find_with_cas(&mut self, key: &[u8], cas: Option<u64>, clock: Clock) -> Result<Place, Deleted> {
        let place = self.find(key, clock).ok_or(Deleted::NotFound)?;
        match cas {
            Some(cas) if cas != self.table.item(place).cas => Err(Deleted::Exists),
            _ => Ok(place),
        }
    }

    /// Adds an item under a key that has none.
    fn link_new(&mut self, key: &[u8], mut item: Item, clock: Clock) -> Place {
        item.used = self.seconds(clock);
        item.cas = self.next_cas();
        self.counters.total_items += 1;
        self.bytes += cost(key, item.value.len());
        let place = self.table.insert(key, item);
        self.note_stored(place);
        self.evict(place);
        place
    }

    /// Puts an item in the place of another one with the same key.
    fn link_over(&mut self, place: Place, mut item: Item, clock: Clock) {
        item.used = self.seconds(clock);
        item.cas = self.next_cas();
        self.counters.total_items += 1;
        let old = self.table.item_mut(place);
        self.bytes = self.bytes - old.value.len() + item.value.len();
        *old = item;
        self.table.make_newest(place);
        self.note_stored(place);
        self.evict(place);
    }

    fn write_in_place(&mut self, place: Place, digits: &[u8], clock: Clock) {
        let now = self.seconds(clock);
        let cas = self.next_cas();
        let item = self.table.item_mut(place);
        item.value[..digits.len()].copy_from_slice(digits);
        item.value[digits.len()..].fill(b' ');
        item.cas = cas;
        item.used = now;
        self.table.make_newest(place);
        self.note_stored(place);
    }

    /// Removes the least recently used items until the bound is kept; never `keep`, the newest.
    fn evict(&mut self, keep: Place) {
        while self.bytes > self.bytes_max {
            match self.table.oldest() {
                Some(oldest) if oldest != keep => {
                    self.counters.evictions += 1;
                    self.remove(oldest);
                }
                _ => break,
            }
        }
    }

    fn remove(&mut self, place: Place) {
        self.bytes -= cost(self.table.key(place), self.table.item(place).value.len());
        if let Some(journal) = &mut self.journal {
            journal.push(Change::Removed(self.table.key(place).into()));
        }
        self.table.remove(place);
    }

    #[inline]
    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change());
        }
    }

    #[inline]
    fn note_stored(&mut self, place: Place) {
        if let Some(journal) = &mut self.journal {
            let (key, item) = (self.table.key(place), self.table.item(place));
            journal.push(Change::Stored { key: key.into(), value: item.value.clone(), cas: item.cas });
        }
    }

    fn next_cas(&mut self) -> u64 {
        self.last_cas += 1;
        self.last_cas
    }
}

#[cfg(test)]
mod tests;
