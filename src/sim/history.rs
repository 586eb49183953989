//! What the model backends have done: every state that every key was ever in, and what became of every write.
//! The backends write it as they apply requests, so it is the truth that answers are held against.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::embedded::store::Change;
use crate::proxy::settings::{Rejoin, Settings};
use crate::time::Time;

use super::owners::Owners;

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
    /// When its client made it.
    pub(super) asked: Time,
    /// The backend that has applied it, and the state that it made there.
    pub(super) applied: Option<(usize, usize)>,
    /// That backend did not own the key any more, or not yet.
    pub(super) misplaced: bool,
    /// What its token was read with, if somebody has read it.
    pub(super) token: Option<Read>,
    pub(super) value: Vec<u8>,
    /// A backend has got it.
    pub(super) sent: bool,
}

/// What a read has seen, for those who go on from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) cas: u64,
    pub(super) backend: usize,
    pub(super) state: usize,
    /// The life of the backend then.
    pub(super) life: u32,
    /// When the client heard of it.
    pub(super) heard: Time,
}

/// What was under a key of a backend for a while.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) value: Option<Box<[u8]>>,
    pub(super) cas: u64,
    /// The life of the backend.
    pub(super) life: u32,
    since: Time,
    /// The write that made it.
    write: Option<WriteId>,
    /// When the backend last told its token to somebody.
    handed_out: Option<Time>,
    /// Others were written while the backend did not own the key, and it was not made to forget this.
    left: bool,
}

/// What no fence can know, and what is not promised: how often it happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excused {
    /// A cas was won with a token of an earlier owner, for the present one had handed out the same.
    pub(super) same_token: u64,
    /// The same with a token of an earlier life.
    pub(super) same_token_anew: u64,
    /// It was held longer than the fence stood.
    pub(super) held_long: u64,
    /// A new owner had what an earlier change has left there: the missed keys were too many.
    pub(super) left_over: u64,
    /// The same by a write that was applied long after its error.
    pub(super) late_write: u64,
}

/// All keys and writes of a run.
pub(super) struct History {
    pub(super) now: Time,
    pub(super) names: Vec<Vec<u8>>,
    pub(super) owners: Owners,
    numbers: BTreeMap<Vec<u8>, Key>,
    /// By key and backend, oldest first; the first is what an empty backend has.
    states: Vec<Vec<Vec<State>>>,
    pub(super) writes: Vec<Write>,
    /// By backend: how often it was started again.
    pub(super) lives: Vec<u32>,
    /// By backend: when it was started last.
    started: Vec<Time>,
    cas_fence: Duration,
    /// Backends forget what they have missed before they return.
    flushes: bool,
    pub(super) excused: Excused,
    /// Writes that the present owner of a key knows nothing of: nobody may be told that they were applied.
    lost: BTreeMap<WriteId, String>,
    /// By backend: it has said what was not true, so nothing that comes from it proves anything.
    pub(super) liars: Vec<bool>,
}

impl History {
    /// Nothing has happened yet.
    pub(super) fn new(names: Vec<Vec<u8>>, settings: &Settings) -> Self {
        let backends = settings.backends.len();
        let homes = names.iter().map(|name| settings.placement.owner(name)).collect();
        let absent = State::absent(0, Time::default());
        History {
            now: Time::default(),
            numbers: names.iter().cloned().zip(0..).collect(),
            states: vec![vec![vec![absent]; backends]; names.len()],
            names,
            owners: Owners::new(homes, backends, settings.workers),
            writes: Vec::new(),
            lives: vec![0; backends],
            started: vec![Time::default(); backends],
            cas_fence: settings.cas_fence,
            flushes: settings.rejoin == Rejoin::Flush,
            liars: vec![false; backends],
            excused: Excused::default(),
            lost: BTreeMap::new(),
        }
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &[u8]) -> Option<Key> {
        self.numbers.get(name).copied()
    }

    /// The number of the state that a key is in now, on each backend.
    pub(super) fn present(&self, key: Key) -> Vec<usize> {
        self.states[key].iter().map(|states| states.len() - 1).collect()
    }

    /// The states of a key on a backend from `from` on.
    pub(super) fn states(
        &self,
        key: Key,
        backend: usize,
        from: usize,
    ) -> impl Iterator<Item = (usize, &State)> {
        self.states[key][backend].iter().enumerate().skip(from)
    }

    pub(super) fn state(&self, key: Key, (backend, number): (usize, usize)) -> &State {
        &self.states[key][backend][number]
    }

    /// Answers of the key's backend prove nothing. Those that lie are never ejected.
    pub(super) fn is_liars(&self, key: Key) -> bool {
        self.liars[self.owners.home(key)]
    }

    /// Owners have changed, or a backend has started again: tokens may be fenced.
    pub(super) fn may_be_fenced(&self, key: Key) -> bool {
        self.owners.changes > 0 || self.lives[self.owners.home(key)] > 0
    }

    /// A write begins. Its value bears its number: see [`identify`].
    pub(super) fn begin_write(&mut self, key: Key, kind: WriteKind, value: Vec<u8>) {
        self.writes.push(Write {
            key,
            kind,
            verdict: Verdict::Unknown,
            asked: self.now,
            applied: None,
            misplaced: false,
            token: None,
            value,
            sent: false,
        });
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
    pub(super) fn hand_out(&mut self, backend: usize, name: &[u8]) {
        if let Some(key) = self.key(name)
            && let Some(state) = self.states[key][backend].last_mut()
        {
            state.handed_out = Some(self.now);
        }
    }

    /// A backend has started again.
    pub(super) fn start(&mut self, backend: usize) {
        self.started[backend] = self.now;
    }

    /// A backend has changed an item. `is_over`: on a link of which nothing may come any more.
    pub(super) fn note(&mut self, backend: usize, change: &Change, is_over: bool) -> Result<(), String> {
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
        let life = self.lives[backend];
        let mut state = State::absent(life, self.now);
        if let Some(value) = value {
            if is_over {
                return Err(format!(
                    "{shown}: backend {backend} is back, and applies what it was sent before"
                ));
            }
            state.write = Some(self.apply(key, backend, value)?);
            (state.value, state.cas) = (Some(value.clone()), cas);
        }
        self.states[key][backend].push(state);
        Ok(())
    }

    /// A client was told that its write is applied.
    pub(super) fn acknowledge(&mut self, id: WriteId) -> Result<(), String> {
        let write = &mut self.writes[id as usize];
        write.verdict = Verdict::Done;
        if write.misplaced {
            return Err(format!("it was applied to {:?}, which did not own the key", write.applied));
        }
        self.lost.get(&id).map_or(Ok(()), |what| Err(what.clone()))
    }

    /// Workers go by another table from now on: what the new owner of a key has must not be older than what
    /// others were told meanwhile.
    pub(super) fn move_key(&mut self, key: Key, owner: usize, decided: Time) -> Result<(), String> {
        let Some(before) = self.owners.give(key, owner, self.now, decided) else { return Ok(()) };
        let Some(present) = self.states[key][owner].last().filter(|state| state.value.is_some()) else {
            return Ok(());
        };
        let newer = |write: &&Write| {
            write.verdict != Verdict::Not
                && write.applied.is_some_and(|applied| {
                    applied.0 != owner && self.state(key, applied).since > present.since
                })
        };
        let missed: Vec<usize> = (0..self.writes.len())
            .filter(|&id| self.writes[id].key == key && newer(&&self.writes[id]))
            .filter(|&id| !self.writes[id].misplaced)
            .collect();
        if !self.flushes || missed.is_empty() {
            return Ok(());
        }
        // What was answered with an error may be applied after what was to make it forgotten.
        let late = |write: &Write| write.misplaced || write.verdict == Verdict::Unknown;
        let by_late_write = present.write.is_some_and(|id| late(&self.writes[id as usize]));
        if present.left || by_late_write {
            let excused = &mut self.excused;
            *if present.left { &mut excused.left_over } else { &mut excused.late_write } += 1;
            return Ok(());
        }
        let name = self.names[key].escape_ascii();
        let value = super::trace::show(present.value.as_deref().unwrap_or_default());
        for id in missed {
            let what = format!(
                "{name} goes from backend {before} to {owner}, which still has {value}, older than write {id}"
            );
            if self.writes[id].verdict == Verdict::Done {
                return Err(what);
            }
            self.lost.insert(id as WriteId, what);
        }
        Ok(())
    }

    /// A backend returns that has missed too many keys: it is flushed, and what others have of them stays. Or
    /// one of those does not answer.
    pub(super) fn leave_over(&mut self) {
        for (key, states) in self.states.iter_mut().enumerate() {
            // Those who own it have it by right, and its home is made to forget when it returns.
            let others = [self.owners.term(key).owner, self.owners.home(key)];
            for (backend, states) in states.iter_mut().enumerate() {
                if let Some(state) = states.last_mut().filter(|_| !others.contains(&backend)) {
                    state.left = true;
                }
            }
        }
    }

    fn clear(&mut self, backend: usize) {
        let absent = State::absent(self.lives[backend], self.now);
        for states in &mut self.states {
            states[backend].push(absent.clone());
        }
    }

    /// A write has been applied: it must be one of this key, the first time, and allowed to.
    fn apply(&mut self, key: Key, backend: usize, value: &[u8]) -> Result<WriteId, String> {
        let present = self.states[key][backend].len() - 1;
        let before = &self.states[key][backend][present];
        let liar = self.liars[backend];
        let name = self.names[key].escape_ascii().to_string();
        let Some(id) = identify(before.value.as_deref(), value) else {
            return Err(format!("{name}: nobody wrote {} at {} us", value.escape_ascii(), self.now.0));
        };
        let Some(write) = self.writes.get(id as usize) else {
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
        let owners = self.owners.since(key, write.asked);
        if !owners.contains(&backend) {
            return Err(format!("write {id} of {name} went to backend {backend}, and {owners:?} own it"));
        }
        if write.kind == WriteKind::Cas && !liar {
            self.check_cas(id, key, (backend, present))?;
        }
        let owner = self.owners.term(key).owner;
        let write = &mut self.writes[id as usize];
        write.applied = Some((backend, present + 1));
        write.misplaced = owner != backend;
        Ok(id)
    }

    /// A cas was won: over the very state whose token it bears, and with a token that the backend has handed
    /// out since it owns the key.
    fn check_cas(&mut self, id: WriteId, key: Key, present: (usize, usize)) -> Result<(), String> {
        let (backend, life) = (present.0, self.lives[present.0]);
        // It may have been under way since before the key went elsewhere.
        let (term, state) = (self.owners.last_term(key, backend), self.state(key, present));
        let token = self.writes[id as usize].token;
        let is_earlier = token.is_some_and(|token| token.backend == backend && token.life != life);
        let is_foreign = token.is_some_and(|token| token.backend != backend || token.heard < term.since);
        if token.is_some_and(|token| (token.backend, token.state) == present) && !is_foreign {
            return Ok(());
        }
        let fenced = if is_earlier { term.decided.max(self.started[backend]) } else { term.decided };
        if (is_earlier || is_foreign) && state.handed_out.is_some_and(|at| at >= term.since) {
            let excused = &mut self.excused;
            *if is_foreign { &mut excused.same_token } else { &mut excused.same_token_anew } += 1;
        } else if (is_earlier || is_foreign) && self.now > fenced + self.cas_fence {
            self.excused.held_long += 1;
        } else {
            let name = self.names[key].escape_ascii();
            return Err(format!(
                "cas {id} of {name} was won over {present:?}, life {life}, handed out at {:?}, with a token \
                 of {token:?}; {term:?}",
                state.handed_out
            ));
        }
        Ok(())
    }
}

impl State {
    /// Nothing is there.
    fn absent(life: u32, since: Time) -> Self {
        State { value: None, cas: 0, life, since, write: None, handed_out: None, left: false }
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
