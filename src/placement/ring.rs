//! Rings: a key goes to the owner of the first point that is met from its hash on.

/// A point and the server that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) value: u32,
    pub(super) server: u16,
}

/// The points in their order, with a table that says where those with the same upper bits begin: a look-up
/// searches among few.
#[derive(Debug)]
pub(super) struct Ring {
    /// Each value once, growing.
    values: Box<[u32]>,
    /// Those of the values, and once more the first, for hashes that lie behind the last value.
    owners: Box<[u16]>,
    /// By upper bits of a hash, how many values are less than all hashes with these; and their number.
    starts: Box<[u32]>,
    /// 32 less the number of those bits.
    shift: u32,
    downwards: bool,
}

impl Ring {
    /// A key goes to the first point that is not less than its hash, behind the last to the first. Of equal
    /// points the earlier in the list counts.
    ///
    /// # Panics
    /// If there is no point.
    pub(super) fn upwards(points: Vec<Point>) -> Self {
        Ring::new(in_order(points), false)
    }

    /// A key goes to the last point that is not greater than its hash, before the first to the last. Of equal
    /// points the later in the list counts.
    ///
    /// # Panics
    /// If there is no point.
    pub(super) fn downwards(mut points: Vec<Point>) -> Self {
        points.reverse();
        let mut points = in_order(points);
        // The same as going up to where the next one's hashes begin.
        let first = points[0].value;
        let ends: Vec<u32> = points[1..].iter().map(|point| point.value).chain([first]).collect();
        for (point, end) in points.iter_mut().zip(ends) {
            point.value = end.wrapping_sub(1);
        }
        Ring::new(in_order(points), true)
    }

    fn new(points: Vec<Point>, downwards: bool) -> Self {
        assert!(!points.is_empty(), "a ring without points");
        let bits = (2 * points.len()).next_power_of_two().ilog2().clamp(1, 20);
        let shift = 32 - bits;
        let start = |upper: u64| points.partition_point(|point| u64::from(point.value) < upper << shift);
        Ring {
            values: points.iter().map(|point| point.value).collect(),
            owners: points.iter().chain(&points[..1]).map(|point| point.server).collect(),
            starts: (0..=1_u64 << bits).map(|upper| start(upper) as u32).collect(),
            shift,
            downwards,
        }
    }

    /// The server that a key with this hash goes to.
    #[inline]
    pub(super) fn owner(&self, hash: u32) -> usize {
        usize::from(self.owners[self.position(hash)])
    }

    /// The point that gave the key to its owner.
    pub(super) fn point(&self, hash: u32) -> u32 {
        let count = self.values.len();
        let position = self.position(hash) % count;
        if self.downwards {
            self.values[(position + count - 1) % count].wrapping_add(1)
        } else {
            self.values[position]
        }
    }

    #[inline]
    fn position(&self, hash: u32) -> usize {
        let upper = (hash >> self.shift) as usize;
        let (start, end) = (self.starts[upper] as usize, self.starts[upper + 1] as usize);
        start + self.values[start..end].partition_point(|value| *value < hash)
    }
}

/// Sorted by value; of equal values the earlier stays.
fn in_order(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by_key(|point| point.value);
    points.dedup_by_key(|point| point.value);
    points
}
