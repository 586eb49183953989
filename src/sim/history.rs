//! What the model backends have done: every state that every key was ever in, and what became of every write.
//! The backends write it as they apply requests, so it is the truth that answers are held against.

use std::collections::BTreeMap;

use crate::embedded::store::Change;
use crate::time::Time;

/// A key, by its number.
pub(super) type Key = usize;

/// A write, by its number; every write of a run is another one.
pub(super) type WriteId = u64;

/// Numbers that writes add to are multiples of this, so that what was added tells who did it.
pub(super) const NUMBER_STEP: u64 = 1_000_000_000;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Increment,
    Decrement,
}

/// What its client knows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing, or an error came: it may be applied, once.
    Unknown,
    /// It was told that it was applied.
    Done,
    /// It was told that nothing was changed, or that it had never been sent.
    Not,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: Key,
    pub(super) kind: WriteKind,
    pub(super) verdict: Verdict,
    /// The state that it made.
    pub(super) applied: Option<usize>,
    /// The state whose token it bears, and the life of the backend that was in; for a token that somebody has
    /// read.
    pub(super) token_of: Option<(usize, u32)>,
    pub(super) value: Vec<u8>,
    /// A backend has got it.
    pub(super) sent: bool,
}

/// What was under a key for a while.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) value: Option<Box<[u8]>>,
    pub(super) cas: u64,
    /// The life of the backend.
    pub(super) life: u32,
    /// The backend has told its token to somebody.
    pub(super) handed_out: bool,
}

/// All keys and writes of a run.
pub(super) struct History {
    pub(super) names: Vec<Vec<u8>>,
    pub(super) owners: Vec<usize>,
    numbers: BTreeMap<Vec<u8>, Key>,
    /// By key, oldest first; the first is what an empty backend has.
    states: Vec<Vec<State>>,
    pub(super) writes: Vec<Write>,
    /// By backend: how often it was started again.
    pub(super) lives: Vec<u32>,
    /// Tokens of an earlier life that a cas was won with, since the same had been handed out again.
    pub(super) excused: u64,
    /// By backend: it has said what was not true, so nothing that comes from it proves anything.
    pub(super) liars: Vec<bool>,
}

impl History {
    /// Nothing has happened yet.
    pub(super) fn new(names: Vec<Vec<u8>>, owners: Vec<usize>, backends: usize) -> Self {
        let absent = State { value: None, cas: 0, life: 0, handed_out: false };
        History {
            numbers: names.iter().cloned().zip(0..).collect(),
            states: vec![vec![absent]; names.len()],
            names,
            owners,
            writes: Vec::new(),
            lives: vec![0; backends],
            liars: vec![false; backends],
            excused: 0,
        }
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &[u8]) -> Option<Key> {
        self.numbers.get(name).copied()
    }

    /// The number of the state that a key is in now.
    pub(super) fn present(&self, key: Key) -> usize {
        self.states[key].len() - 1
    }

    /// The states of a key from `from` on.
    pub(super) fn states(&self, key: Key, from: usize) -> impl Iterator<Item = (usize, &State)> {
        self.states[key].iter().enumerate().skip(from)
    }

    pub(super) fn state(&self, key: Key, number: usize) -> &State {
        &self.states[key][number]
    }

    /// A write begins. Its value bears its number: see [`identify`].
    pub(super) fn begin_write(&mut self, key: Key, kind: WriteKind, value: Vec<u8>) {
        let verdict = Verdict::Unknown;
        self.writes.push(Write { key, kind, verdict, applied: None, token_of: None, value, sent: false });
    }

    /// The number that the next write gets.
    pub(super) fn next_write(&self) -> WriteId {
        self.writes.len() as WriteId
    }

    /// A backend has started again, with nothing.
    pub(super) fn restart(&mut self, backend: usize) {
        self.lives[backend] += 1;
        self.clear(backend);
    }

    /// A backend has got a request. Nothing that may have reached a backend is ever sent again.
    pub(super) fn note_request(&mut self, request: &[u8]) -> Result<(), String> {
        let Some(id) = request.iter().position(|&byte| byte == b'<').and_then(|at| piece_id(&request[at..]))
        else {
            return Ok(());
        };
        let write = self.writes.get_mut(id as usize).ok_or_else(|| format!("there is no write {id}"))?;
        if std::mem::replace(&mut write.sent, true) {
            return Err(format!("write {id} was sent twice; its client knows {:?}", write.verdict));
        }
        Ok(())
    }

    /// A backend has answered a request of this key with its token.
    pub(super) fn hand_out(&mut self, name: &[u8]) {
        if let Some(key) = self.key(name)
            && let Some(state) = self.states[key].last_mut()
        {
            state.handed_out = true;
        }
    }

    /// A backend has changed an item.
    pub(super) fn note(&mut self, backend: usize, change: &Change, now: Time) -> Result<(), String> {
        let (name, value, cas) = match change {
            Change::Flushed => {
                self.clear(backend);
                return Ok(());
            }
            Change::Removed(name) => (name, None, 0),
            Change::Stored { key, value, cas } => (key, Some(value), *cas),
        };
        let shown = name.escape_ascii();
        let key =
            self.key(name).ok_or_else(|| format!("backend {backend} has got a key of nobody: {shown}"))?;
        if self.owners[key] != backend {
            return Err(format!("{shown} went to backend {backend}, and {} owns it", self.owners[key]));
        }
        let life = self.lives[backend];
        if let Some(value) = value {
            self.apply(key, value, now)?;
        }
        self.states[key].push(State { value: value.cloned(), cas, life, handed_out: false });
        Ok(())
    }

    fn clear(&mut self, backend: usize) {
        let life = self.lives[backend];
        for key in 0..self.names.len() {
            if self.owners[key] == backend {
                self.states[key].push(State { value: None, cas: 0, life, handed_out: false });
            }
        }
    }

    /// A write has been applied: it must be one of this key, the first time, and allowed to.
    fn apply(&mut self, key: Key, value: &[u8], now: Time) -> Result<(), String> {
        let present = self.present(key);
        let before = self.states[key][present].clone();
        let liar = self.liars[self.owners[key]];
        let name = self.names[key].escape_ascii().to_string();
        let Some(id) = identify(before.value.as_deref(), value) else {
            return Err(format!("{name}: nobody wrote {} at {} us", value.escape_ascii(), now.0));
        };
        let life = self.lives[self.owners[key]];
        let Some(write) = self.writes.get_mut(id as usize) else {
            return Err(format!("{name}: there is no write {id}"));
        };
        if write.key != key {
            return Err(format!("write {id} of key {} was applied to {name}", write.key));
        }
        if write.applied.is_some() {
            return Err(format!("write {id} of {name} was applied twice"));
        }
        if write.verdict == Verdict::Not && !liar {
            return Err(format!("write {id} of {name} was applied, and its client was told that it was not"));
        }
        write.applied = Some(present + 1);
        if write.kind != WriteKind::Cas || liar {
            return Ok(());
        }
        match write.token_of {
            Some((state, _)) if state == present => Ok(()),
            // What a fence cannot know: the token was read in an earlier life, and the same one has been
            // handed out in this one too.
            Some((_, in_life)) if in_life != life && before.handed_out => {
                self.excused += 1;
                Ok(())
            }
            token => Err(format!(
                "cas {id} of {name} was won over state {present} of life {life} with a token of {token:?}"
            )),
        }
    }
}

/// One piece of a value: `<name:number:padding>`.
pub(super) fn piece(name: &[u8], id: WriteId, padding: usize) -> Vec<u8> {
    let mut piece = Vec::with_capacity(name.len() + padding + 24);
    piece.push(b'<');
    piece.extend_from_slice(name);
    piece.extend_from_slice(format!(":{id}:").as_bytes());
    // Padding that looks like a protocol's lines where it can do harm.
    let unit = b"x\r\nEND\r\nSTORED\r\nVA 1\r\n";
    piece.extend(unit.iter().cycle().take(padding));
    piece.push(b'>');
    piece
}

/// Which write made `after` out of `before`.
fn identify(before: Option<&[u8]>, after: &[u8]) -> Option<WriteId> {
    if let Some(number) = number(after) {
        if number % NUMBER_STEP == 0 {
            return Some(number / NUMBER_STEP);
        }
        return Some(number.abs_diff(self::number(before?)?));
    }
    let added = match before {
        Some(before) if after.len() > before.len() && after.starts_with(before) => &after[before.len()..],
        Some(before) if after.len() > before.len() && after.ends_with(before) => {
            &after[..after.len() - before.len()]
        }
        _ => after,
    };
    piece_id(added)
}

/// The number in the piece at the start.
fn piece_id(bytes: &[u8]) -> Option<WriteId> {
    let words = bytes.strip_prefix(b"<")?;
    let mut parts = words.splitn(3, |&byte| byte == b':');
    let (_name, id) = (parts.next()?, parts.next()?);
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// The number that a value is.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim_end().parse().ok()
}
