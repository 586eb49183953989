//! What has been written, by all, and what each writer was told of its own keys.

use std::sync::atomic::{AtomicU64, Ordering};

use super::rig::owner;
use super::values::Key;

/// Keys of each writer.
const KEYS: usize = 20;

/// Servers, called s0, s1 and s2.
const SERVERS: usize = 3;

/// All keys, and how many versions of each there are.
pub(crate) struct Book(Vec<Vec<Entry>>);

struct Entry {
    name: String,
    /// Of the three servers.
    owner: usize,
    /// The latest version that was sent, whatever became of it.
    issued: AtomicU64,
}

impl Book {
    /// Nothing was written.
    pub(crate) fn new(writers: usize) -> Self {
        let entry = |writer, number| {
            // Some are as long as a key may be.
            let name = format!("soak:{writer}:{number}:");
            let name = if number % 7 == 3 { format!("{name:x<250}") } else { name };
            Entry { owner: owner(&name, SERVERS), name, issued: AtomicU64::new(0) }
        };
        Book((0..writers).map(|writer| (0..KEYS).map(|number| entry(writer, number)).collect()).collect())
    }

    pub(crate) fn writers(&self) -> usize {
        self.0.len()
    }

    /// Keys that each writer has.
    pub(crate) fn keys(&self) -> usize {
        KEYS
    }

    pub(crate) fn name(&self, key: Key) -> &str {
        &self.entry(key).name
    }

    /// The server that owns it while all servers are there.
    pub(crate) fn owner(&self, key: Key) -> usize {
        self.entry(key).owner
    }

    /// The number of one more version, which its writer is about to send.
    pub(crate) fn issue(&self, key: Key) -> u64 {
        self.entry(key).issued.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Fails if nobody has sent this version.
    pub(crate) fn was_issued(&self, key: Key, version: u64) -> Result<(), String> {
        let issued = self.entry(key).issued.load(Ordering::Relaxed);
        match (1..=issued).contains(&version) {
            true => Ok(()),
            false => Err(format!("version {version}, and there are {issued}")),
        }
    }

    fn entry(&self, (writer, number): Key) -> &Entry {
        &self.0[writer][number]
    }
}

/// What a writer knows of a key of its own. To delete is a version, too.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The latest version of which it was told that it is stored, or that it is deleted.
    acknowledged: u64,
    /// That one is a value.
    is_there: bool,
    /// Versions that were answered with an error: they may be applied at any time, or never. Ranges, both
    /// ends included, ascending.
    unknown: Vec<(u64, u64)>,
    /// One of these was to delete it.
    may_be_deleted: bool,
}

impl Known {
    /// It was told that this version is stored, or that it is deleted.
    pub(crate) fn is_acknowledged(&mut self, version: u64, is_there: bool) {
        (self.acknowledged, self.is_there) = (version, is_there);
    }

    /// It was told of an error, or nothing.
    pub(crate) fn is_unknown(&mut self, version: u64, is_there: bool) {
        self.may_be_deleted |= !is_there;
        match self.unknown.last_mut() {
            Some((_, last)) if *last + 1 == version => *last = version,
            _ => self.unknown.push((version, version)),
        }
    }

    /// Fails if what it reads is older than what it was told, with no unknown write to explain it. A miss is
    /// explained, too, by a server that forgets.
    pub(crate) fn check(&self, read: Option<u64>, server_forgets: bool) -> Result<(), String> {
        let right = match read {
            Some(version) => version >= self.acknowledged || self.may_come(version),
            None => server_forgets || !self.is_there || self.may_be_deleted,
        };
        let read = read.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
        if right { Ok(()) } else { Err(format!("{read}, and its writer knows of {self:?}")) }
    }

    /// Fails unless it is the very version that was acknowledged: when nothing unknown can come any more.
    pub(crate) fn check_last(&self, read: Option<u64>) -> Result<(), String> {
        let expected = self.is_there.then_some(self.acknowledged);
        if read == expected { Ok(()) } else { Err(format!("{read:?} in the end, not {expected:?}")) }
    }

    fn may_come(&self, version: u64) -> bool {
        let after = self.unknown.partition_point(|&(first, _)| first <= version);
        after > 0 && version <= self.unknown[after - 1].1
    }
}

#[test]
fn canary_what_is_too_old_or_was_never_written_is_found() {
    let book = Book::new(2);
    assert!(book.was_issued((1, 2), 1).is_err());
    assert_eq!((book.issue((1, 2)), book.issue((1, 2))), (1, 2));
    assert!(book.was_issued((1, 2), 2).is_ok() && book.was_issued((1, 2), 1).is_ok());
    assert!(book.was_issued((1, 2), 3).is_err() && book.was_issued((1, 2), 0).is_err());

    let mut known = Known::default();
    assert!(known.check(None, false).is_ok());
    known.is_acknowledged(1, true);
    known.is_unknown(2, true);
    known.is_unknown(3, true);
    known.is_acknowledged(4, true);
    known.is_unknown(5, true);
    known.is_acknowledged(6, true);
    let good = [Some(2), Some(3), Some(5), Some(6)];
    assert!(good.iter().all(|&read| known.check(read, false).is_ok()), "{known:?}");
    let bad = [Some(1), Some(4), None];
    assert!(bad.iter().all(|&read| known.check(read, false).is_err()), "{known:?}");
    assert!(known.check(None, true).is_ok());
    assert!(known.check_last(Some(6)).is_ok() && known.check_last(Some(5)).is_err());
    assert!(known.check_last(None).is_err());
    known.is_unknown(7, false);
    assert!(known.check(None, false).is_ok(), "it may have been deleted");
    known.is_acknowledged(8, false);
    assert!(known.check(Some(6), false).is_err(), "it was deleted since");
    assert!(known.check_last(None).is_ok() && known.check_last(Some(6)).is_err());
}
