//! Why a key lies where it does, for people.

use std::fmt;

/// What led from a key to its owner. `Display` is what `mcproxy map` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Of rendezvous: the slot in the table.
    Slot(usize),
    /// Of rings: the key's hash, and the point of its owner.
    Point {
        /// Hash of the key.
        hash: u32,
        /// The owner's point that was met first.
        point: u32,
    },
    /// Of lists: the key's hash, and the place in the list.
    Bucket {
        /// Hash of the key.
        hash: u64,
        /// From 0.
        bucket: usize,
        /// Buckets in the list.
        of: usize,
    },
    /// Of scores: the hash of key and owner, the largest of all.
    Score(u32),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Slot(slot) => write!(f, "slot {slot}"),
            Why::Point { hash, point } => write!(f, "hash {hash:08x} point {point:08x}"),
            Why::Bucket { hash, bucket, of } => {
                let digits = if *hash >> 32 == 0 { 8 } else { 16 };
                write!(f, "hash {hash:0digits$x} bucket {bucket} of {of}")
            }
            Why::Score(score) => write!(f, "score {score:08x}"),
        }
    }
}
