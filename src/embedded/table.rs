//! Items by key, in the order of their last use: a hash table over a list whose links are indexes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::store::Item;

/// Where an item stands. Good until that item is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// The end of the list, in either direction.
const NOWHERE: Place = Place(u32::MAX);

/// Items by key. The least recently used one is known at all times.
#[derive(Debug)]
pub(super) struct Table {
    places: HashMap<Arc<[u8]>, Place, BuildHasherDefault<KeyHasher>>,
    slots: Vec<Slot>,
    free: Vec<Place>,
    newest: Place,
    oldest: Place,
}

#[derive(Debug)]
struct Slot {
    key: Arc<[u8]>,
    item: Item,
    newer: Place,
    older: Place,
}

impl Table {
    pub(super) fn new() -> Self {
        Table {
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NOWHERE,
            oldest: NOWHERE,
        }
    }

    /// Items in the table.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<Place> {
        self.places.get(key).copied()
    }

    pub(super) fn item(&self, place: Place) -> &Item {
        &self.slots[place.0 as usize].item
    }

    pub(super) fn item_mut(&mut self, place: Place) -> &mut Item {
        &mut self.slots[place.0 as usize].item
    }

    pub(super) fn key(&self, place: Place) -> &[u8] {
        &self.slots[place.0 as usize].key
    }

    /// The item that was not used for longest.
    pub(super) fn oldest(&self) -> Option<Place> {
        (self.oldest != NOWHERE).then_some(self.oldest)
    }

    /// Adds an item as the most recently used one. Its key must not be there yet.
    pub(super) fn insert(&mut self, key: &[u8], item: Item) -> Place {
        let key: Arc<[u8]> = Arc::from(key);
        let slot = Slot { key: Arc::clone(&key), item, newer: NOWHERE, older: NOWHERE };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place.0 as usize] = slot;
                place
            }
            None => {
                let place = Place(u32::try_from(self.slots.len()).expect("fewer items than 2^32"));
                assert!(place != NOWHERE, "fewer items than 2^32 - 1");
                self.slots.push(slot);
                place
            }
        };
        let before = self.places.insert(key, place);
        debug_assert!(before.is_none(), "insert takes new keys only");
        self.link_newest(place);
        place
    }

    /// Takes an item out.
    pub(super) fn remove(&mut self, place: Place) {
        self.unlink(place);
        let slot = &mut self.slots[place.0 as usize];
        self.places.remove(&slot.key);
        slot.key = Arc::default();
        slot.item = Item::default();
        self.free.push(place);
    }

    /// Makes an item the most recently used one.
    pub(super) fn make_newest(&mut self, place: Place) {
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
    }

    fn link_newest(&mut self, place: Place) {
        let next = self.newest;
        let slot = &mut self.slots[place.0 as usize];
        slot.newer = NOWHERE;
        slot.older = next;
        match next {
            NOWHERE => self.oldest = place,
            next => self.slots[next.0 as usize].newer = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: Place) {
        let Slot { newer, older, .. } = self.slots[place.0 as usize];
        match newer {
            NOWHERE => self.newest = older,
            newer => self.slots[newer.0 as usize].older = older,
        }
        match older {
            NOWHERE => self.oldest = newer,
            older => self.slots[older.0 as usize].newer = newer,
        }
    }
}

/// XXH3 with a fixed seed: the same run gives the same table. Keys made to collide would slow it down, which
/// these backends, never meant for production, put up with.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        // The length that a slice hashes ahead of its bytes; XXH3 takes it in by itself.
        self.0 ^= length as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_from_oldest(table: &Table) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut place = table.oldest;
        while place != NOWHERE {
            keys.push(table.key(place).to_vec());
            place = table.slots[place.0 as usize].newer;
        }
        keys
    }

    #[test]
    fn keeps_the_order_of_use() {
        let mut table = Table::new();
        let places: Vec<Place> =
            [b"a", b"b", b"c"].iter().map(|key| table.insert(*key, Item::default())).collect();
        assert_eq!(keys_from_oldest(&table), [b"a", b"b", b"c"]);
        table.make_newest(places[0]);
        assert_eq!(keys_from_oldest(&table), [b"b", b"c", b"a"]);
        table.make_newest(places[2]);
        table.make_newest(places[2]);
        assert_eq!(keys_from_oldest(&table), [b"b", b"a", b"c"]);
        table.remove(places[0]);
        assert_eq!(keys_from_oldest(&table), [b"b", b"c"]);
        table.remove(places[1]);
        table.remove(places[2]);
        assert_eq!(table.oldest(), None);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn uses_the_room_of_removed_items_again() {
        let mut table = Table::new();
        for round in 0..100u32 {
            let place = table.insert(&round.to_be_bytes(), Item::default());
            assert_eq!(table.find(&round.to_be_bytes()), Some(place));
            table.remove(place);
            assert_eq!(table.find(&round.to_be_bytes()), None);
        }
        assert_eq!(table.slots.len(), 1);
    }
}
