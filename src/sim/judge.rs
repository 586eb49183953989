//! Holds answers against the history: what an answer says must have been so at some time between the question
//! and the answer, and not before what the same connection has been told already.

use std::collections::BTreeMap;

use super::answers::Answer;
use super::history::{History, Key, Read, State, Verdict, WriteId, WriteKind, number};
use super::requests::{Ask, Op};
use super::trace::show;

/// What a seed allows.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Reads without tokens may miss because a backend failed; those with tokens too.
    pub(super) misses: bool,
    pub(super) misses_with_tokens: bool,
    /// Nothing is wrong with anybody: backends answer.
    pub(super) calm: bool,
    /// Memory is short: clients that stand still may be closed.
    pub(super) evicts: bool,
    /// Backends may be ejected.
    pub(super) ejects: bool,
    pub(super) backends: Vec<String>,
}

/// Ends of errors that say that the request never left.
const NEVER_SENT: [&str; 6] = [
    "is down",
    "connection refused",
    "is unreachable",
    "connect timed out",
    "name does not resolve",
    "has too many requests waiting",
];

/// All ends of errors.
const MAYBE_SENT: [&str; 3] = ["timed out", "connection lost", "answered out of step"];

/// By key and backend, the state that a connection has been told of: it is never told of an older one.
pub(super) type Seen = BTreeMap<(Key, usize), usize>;

/// Judges the answer to a request. Gives what was read, if it was one key with a token.
pub(super) fn judge(
    op: &Op,
    answer: &Answer,
    history: &mut History,
    seen: &mut Seen,
    rules: &Rules,
) -> Result<Option<Read>, String> {
    let judged = judge_all(op, answer, history, seen, rules);
    judged.map_err(|what| format!("{what}; asked {op:?}, answered {}", shown(answer)))
}

fn shown(answer: &Answer) -> String {
    let Answer::Values(values) = answer else { return format!("{answer:?}") };
    let value = |(place, value, cas): &(usize, Vec<u8>, Option<u64>)| {
        format!("{place}: {} with token {cas:?}", show(value))
    };
    format!("[{}]", values.iter().map(value).collect::<Vec<_>>().join(", "))
}

fn judge_all(
    op: &Op,
    answer: &Answer,
    history: &mut History,
    seen: &mut Seen,
    rules: &Rules,
) -> Result<Option<Read>, String> {
    if let Answer::Failed(words) = answer {
        judge_failure(op, words, history, rules)?;
        return Ok(None);
    }
    let keys = op.ask.keys();
    let liar = keys.iter().any(|&key| history.is_liars(key));
    if *answer == Answer::NoMemory {
        return if rules.calm { Err("a backend without memory in calm".to_string()) } else { Ok(None) };
    }
    match &op.ask {
        Ask::Read { keys, with_cas, .. } => {
            let misses = if *with_cas { rules.misses_with_tokens } else { rules.misses };
            judge_read(op, keys, answer, history, seen, misses)
        }
        Ask::Write { key, id } => {
            let judged = judge_write(op, *key, *id, answer, history, seen, rules);
            if liar { Ok(None) } else { judged.map(|()| None) }
        }
        _ if liar => Ok(None),
        Ask::Delete(key) | Ask::Touch(key) | Ask::TooLarge(key) => {
            let there = |state: &State| state.value.is_some();
            let gone = |state: &State| state.value.is_none();
            match answer {
                Answer::Deleted | Answer::TooLarge => find(op, 0, *key, history, seen, gone),
                Answer::NotFound => find(op, 0, *key, history, seen, gone),
                Answer::Touched => find(op, 0, *key, history, seen, there),
                Answer::Silence => Ok((0, 0)),
                _ => Err("that cannot be".to_string()),
            }?;
            Ok(None)
        }
        Ask::Flush | Ask::Stats | Ask::Line(_) => Ok(None),
    }
}

/// An error in place of an answer: it names the backend, and a write of it may be applied or may not.
fn judge_failure(op: &Op, words: &str, history: &mut History, rules: &Rules) -> Result<(), String> {
    if op.ask == Ask::Flush {
        return if rules.calm { Err("a flush failed in calm".to_string()) } else { Ok(()) };
    }
    let known = |ends: &[&str]| ends.iter().any(|end| words.ends_with(&format!(" {end}")));
    let never = known(&NEVER_SENT);
    if !never && !known(&MAYBE_SENT) {
        return Err("an unknown error".to_string());
    }
    if rules.calm && !words.ends_with("has too many requests waiting") {
        return Err("a backend failed in calm".to_string());
    }
    let name = words.split(' ').next().unwrap_or_default();
    // A change that came to nothing names the backend that it was about.
    let changes = rules.ejects && rules.backends.iter().any(|backend| backend == name);
    if !changes && !op.ask.keys().iter().any(|&key| rules.backends[history.owners.home(key)] == name) {
        return Err("it names a backend that was not asked".to_string());
    }
    if let (Ask::Write { id, .. }, true) = (&op.ask, never) {
        refuse(*id, history)?;
    }
    Ok(())
}

/// The client of a write was told that nothing has changed.
fn refuse(id: WriteId, history: &mut History) -> Result<(), String> {
    let write = &mut history.writes[id as usize];
    write.verdict = Verdict::Not;
    if write.applied.is_some() && !history.is_liars(history.writes[id as usize].key) {
        return Err("it had been applied".to_string());
    }
    Ok(())
}

/// The first state since the question, and not before what was told, that fits, on a backend that may have
/// answered; it is told now.
fn find(
    op: &Op,
    place: usize,
    key: Key,
    history: &History,
    seen: &mut Seen,
    fits: impl Fn(&State) -> bool,
) -> Result<(usize, usize), String> {
    let owners = history.owners.since(key, op.asked);
    let from = |backend: usize| op.since[place][backend].max(seen.get(&(key, backend)).copied().unwrap_or(0));
    for &backend in &owners {
        let found = history.states(key, backend, from(backend)).find(|(_, state)| fits(state));
        let Some((number, state)) = found else { continue };
        // Which of several has nothing to tell cannot be known.
        if owners.len() == 1 || state.value.is_some() {
            seen.insert((key, backend), number);
        }
        return Ok((backend, number));
    }
    let mut what = history.names[key].escape_ascii().to_string();
    for backend in owners {
        let stale = history.states(key, backend, 0).filter(|(_, state)| fits(state)).last();
        let (from, last) = (from(backend), history.present(key)[backend]);
        what += &match stale {
            Some((number, _)) => {
                format!(" was so in state {number} of backend {backend}, and is asked from {from} of {last};")
            }
            None => format!(" was never so in {last} states of backend {backend};"),
        };
    }
    Err(what)
}

fn judge_read(
    op: &Op,
    keys: &[Key],
    answer: &Answer,
    history: &mut History,
    seen: &mut Seen,
    misses: bool,
) -> Result<Option<Read>, String> {
    let none = Vec::new();
    let values = match answer {
        Answer::Values(values) => values,
        Answer::Silence => &none,
        _ => return Err("that cannot be".to_string()),
    };
    let mut read = None;
    // Of a key that is asked for twice, which of the two was the miss cannot be told.
    let mut before = seen.clone();
    for (place, &key) in keys.iter().enumerate() {
        let liar = history.is_liars(key);
        let value = values.iter().find(|value| value.0 == place);
        let Some((_, value, cas)) = value else {
            let again = keys.iter().filter(|&&other| other == key).count() > 1;
            let told = if again { &mut before } else { &mut *seen };
            if !misses && !liar {
                find(op, place, key, history, told, |state| state.value.is_none())?;
            }
            continue;
        };
        let fits = |state: &State| {
            state.value.as_deref() == Some(value) && cas.is_none_or(|cas| cas == 0 || cas == state.cas)
        };
        match find(op, place, key, history, seen, fits) {
            Ok(found) => {
                let life = history.state(key, found).life;
                let (backend, state) = found;
                read = cas.map(|cas| Read { cas, backend, state, life, heard: history.now });
            }
            Err(_) if liar => {}
            Err(what) => return Err(what),
        }
    }
    Ok(read.filter(|_| keys.len() == 1))
}

fn judge_write(
    op: &Op,
    key: Key,
    id: WriteId,
    answer: &Answer,
    history: &mut History,
    seen: &mut Seen,
    rules: &Rules,
) -> Result<(), String> {
    let kind = history.writes[id as usize].kind;
    let there = |state: &State| state.value.is_some();
    let gone = |state: &State| state.value.is_none();
    let is_done = match answer {
        Answer::Stored => true,
        Answer::Number(told) => {
            let made = history.writes[id as usize].applied;
            let made = made.and_then(|state| number(history.state(key, state).value.as_deref()?));
            if made != Some(*told) {
                return Err(format!("it made {made:?}"));
            }
            true
        }
        // Its success is not wanted. Whether there was any can be told when nothing is wrong with anybody.
        Answer::Silence => {
            let lost = kind == WriteKind::Set && history.writes[id as usize].applied.is_none();
            return if lost && rules.calm { Err("it is lost".to_string()) } else { Ok(()) };
        }
        _ => false,
    };
    if is_done {
        history.acknowledge(id)?;
        let Some((backend, state)) = history.writes[id as usize].applied else {
            return Err("it was not applied".to_string());
        };
        if state <= op.since[0][backend] {
            return Err(format!("it was applied before, in state {state}"));
        }
        let before = seen.insert((key, backend), state).unwrap_or(0);
        return if before > state { Err(format!("state {before} was told before")) } else { Ok(()) };
    }
    refuse(id, history)?;
    let why = match (kind, answer) {
        (WriteKind::Add, Answer::NotStored | Answer::Exists) => find(op, 0, key, history, seen, there),
        // What is fenced exists, whatever is there.
        (WriteKind::Cas, Answer::Exists) if history.may_be_fenced(key) => Ok((0, 0)),
        (WriteKind::Cas, Answer::Exists) => find(op, 0, key, history, seen, there),
        (
            WriteKind::Replace | WriteKind::Append | WriteKind::Prepend,
            Answer::NotStored | Answer::NotFound,
        ) => find(op, 0, key, history, seen, gone),
        (WriteKind::Cas | WriteKind::Increment | WriteKind::Decrement, Answer::NotFound) => {
            find(op, 0, key, history, seen, gone)
        }
        (WriteKind::Increment | WriteKind::Decrement, Answer::NoNumber) => {
            find(op, 0, key, history, seen, |state| {
                state.value.as_deref().is_some_and(|value| number(value).is_none())
            })
        }
        // A text cas without an item that compares nothing.
        (WriteKind::Cas, Answer::NotStored) => Ok((0, 0)),
        _ => return Err("that cannot be".to_string()),
    };
    why.map(drop)
}
