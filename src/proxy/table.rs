//! A table whose places are used again, with generations that tell their tenants apart.

/// Values by index and generation. Large ones are best boxed: the table moves its entries when it grows.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { entries: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Table<T> {
    /// Puts a value in; gives its index and generation.
    pub(super) fn insert(&mut self, value: T) -> (u32, u32) {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return (index, entry.generation);
        }
        self.entries.push(Entry { generation: 0, value: Some(value) });
        // All of them may be free at once.
        self.free.reserve(self.entries.capacity());
        (u32::try_from(self.entries.len() - 1).expect("fewer connections than 2^31"), 0)
    }

    /// The value, unless it is gone.
    #[inline]
    pub(super) fn get(&self, index: usize, generation: u32) -> Option<&T> {
        let entry = self.entries.get(index)?;
        if entry.generation == generation { entry.value.as_ref() } else { None }
    }

    /// The value, unless it is gone.
    #[inline]
    pub(super) fn get_mut(&mut self, index: usize, generation: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(index)?;
        if entry.generation == generation { entry.value.as_mut() } else { None }
    }

    /// Takes the value out; its place may be used again at once, under the next generation.
    pub(super) fn remove(&mut self, index: usize, generation: u32) -> Option<T> {
        let entry = self.entries.get_mut(index)?;
        if entry.generation != generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index as u32);
        self.len -= 1;
        Some(value)
    }

    /// Values in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Index and generation of every value.
    pub(super) fn ids(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let taken = |(index, entry): (usize, &Entry<T>)| {
            entry.value.is_some().then_some((index as u32, entry.generation))
        };
        self.entries.iter().enumerate().filter_map(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_generation() {
        let mut table = Table::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first.0 as usize, first.1), Some("first"));
        assert_eq!(table.len(), 0);
        let second = table.insert("second");
        assert_eq!(second, (first.0, first.1 + 1));
        assert_eq!(table.get(first.0 as usize, first.1), None, "the late event is recognised");
        assert_eq!(table.remove(first.0 as usize, first.1), None);
        assert_eq!(table.get_mut(second.0 as usize, second.1), Some(&mut "second"));
        assert_eq!(table.ids().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn many_values_keep_their_places() {
        let mut table = Table::default();
        let ids: Vec<_> = (0..1000).map(|number| table.insert(number)).collect();
        assert_eq!(table.len(), 1000);
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(id.0 as usize, number);
            assert_eq!(table.get(number, id.1), Some(&number));
        }
        assert_eq!(table.get(1000, 0), None);
        assert_eq!(table.ids().collect::<Vec<_>>(), ids);
    }
}
