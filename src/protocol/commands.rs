//! The classic commands: from a line's words to a request or to memcached's refusal.
//!
//! memcached counts the words of a line before it looks at them; here they are taken one by one, and a count
//! that is wrong shows as a word that is missing or left over.

use super::answers;
use super::meta;
use super::number;
use super::text::{Keys, Partial, Refusal, Request, Step, Store, StoreVerb};
use crate::limits::{KEY_MAX, TOKENS_MAX};

/// The last word of a command that wants no answer, whatever it comes to.
const NOREPLY: &[u8] = b"noreply";

/// A line, what stands behind it, and the words that are not taken yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// The client's bytes from the start of the line on.
    pub(super) input: &'a [u8],
    /// Bytes of the line, LF included.
    pub(super) bytes: usize,
    /// The line's words: up to the first NUL, without line end.
    pub(super) words: Keys<'a>,
    /// Largest value, bytes.
    pub(super) value_max: usize,
}

impl<'a> Line<'a> {
    /// The next word.
    #[inline]
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        self.words.next()
    }

    /// The line and nothing else is `request`.
    #[inline]
    pub(super) fn request(&self, request: Request<'a>) -> Step<'a> {
        Step::Request(request, self.bytes)
    }

    /// The line is answered here; what follows it is the next command.
    pub(super) fn refuse(&self, answer: &'static [u8]) -> Step<'a> {
        Step::Refused(Refusal { answer, consumed: self.bytes, ..Refusal::default() })
    }

    /// The same, but the line may have asked for silence.
    fn refuse_unless(&self, noreply: bool, answer: &'static [u8]) -> Step<'a> {
        self.refuse(if noreply { b"" } else { answer })
    }

    /// The value of `length` bytes behind the line, if it is there with its CR LF. Else the step to take;
    /// `quiet` holds back the answer to a wrong end.
    #[inline]
    pub(super) fn value(&self, length: usize, quiet: bool) -> Result<&'a [u8], Step<'a>> {
        let total = self.bytes + length + 2;
        let Some(frame) = self.input.get(self.bytes..total) else {
            return Err(Step::Partial(Partial::Value { total }));
        };
        let (value, end) = frame.split_at(length);
        if end == b"\r\n" {
            return Ok(value);
        }
        let answer = if quiet { b"" } else { answers::BAD_DATA_CHUNK };
        Err(Step::Refused(Refusal { answer, consumed: total, ..Refusal::default() }))
    }

    /// The line is answered here, after the value of `length` bytes and its CR LF have been dropped.
    pub(super) fn swallow(&self, length: usize, answer: &'static [u8]) -> Refusal<'a> {
        Refusal { answer, consumed: self.bytes, swallow: length as u64 + 2, ..Refusal::default() }
    }
}

/// Reads the command of `line`.
pub(super) fn parse(mut line: Line<'_>) -> Step<'_> {
    let Some(verb) = line.word() else { return line.refuse(answers::ERROR) };
    match verb {
        b"get" | b"bget" => get(line, false),
        b"gets" => get(line, true),
        b"set" => store(line, StoreVerb::Set),
        b"delete" => delete(line),
        b"incr" => arithmetic(line, false),
        b"decr" => arithmetic(line, true),
        b"touch" => touch(line),
        b"gat" => get_and_touch(line, false),
        b"gats" => get_and_touch(line, true),
        b"add" => store(line, StoreVerb::Add),
        b"replace" => store(line, StoreVerb::Replace),
        b"append" => store(line, StoreVerb::Append),
        b"prepend" => store(line, StoreVerb::Prepend),
        b"cas" => store(line, StoreVerb::Cas),
        [b'm', letter] => meta::parse(line, *letter),
        _ => about_the_server(line, verb),
    }
}

/// Commands without a key.
#[cold]
fn about_the_server<'a>(line: Line<'a>, verb: &'a [u8]) -> Step<'a> {
    match verb {
        b"version" => line.request(Request::Version),
        b"quit" => line.request(Request::Quit),
        b"stats" => line.request(Request::Stats { arguments: line.words.trimmed() }),
        b"flush_all" => flush_all(line),
        b"verbosity" => verbosity(line),
        b"shutdown" => line.refuse(answers::SHUTDOWN_DISABLED),
        b"refresh_certs" => line.refuse(answers::TLS_DISABLED),
        b"slabs" | b"lru_crawler" | b"lru" | b"watch" | b"cache_memlimit" | b"extstore" => {
            administrative(line, verb)
        }
        _ => unknown(line, verb),
    }
}

fn get(line: Line<'_>, with_cas: bool) -> Step<'_> {
    let mut words = line.words;
    let Some(key) = words.next() else { return line.refuse(answers::ERROR) };
    if words.next().is_some() {
        return line.request(Request::GetMany { with_cas, keys: line.words });
    }
    if key.len() > KEY_MAX {
        return line.refuse(answers::BAD_FORMAT);
    }
    line.request(Request::Get { with_cas, key })
}

fn get_and_touch(mut line: Line<'_>, with_cas: bool) -> Step<'_> {
    let Some(exptime) = line.word() else { return line.refuse(answers::ERROR) };
    let Some(exptime) = number::low_i32(exptime) else { return line.refuse(answers::INVALID_EXPTIME) };
    line.request(Request::Gat { with_cas, exptime, keys: line.words })
}

fn store(mut line: Line<'_>, verb: StoreVerb) -> Step<'_> {
    let (Some(key), Some(flags), Some(exptime), Some(length)) =
        (line.word(), line.word(), line.word(), line.word())
    else {
        return line.refuse(answers::ERROR);
    };
    let mut last = length;
    let mut cas = None;
    if verb == StoreVerb::Cas {
        let Some(word) = line.word() else { return line.refuse(answers::ERROR) };
        (last, cas) = (word, Some(word));
    }
    if let Some(word) = line.word() {
        last = word;
        if line.word().is_some() {
            return line.refuse(answers::ERROR);
        }
    }
    let noreply = last == NOREPLY;
    if key.len() > KEY_MAX {
        return line.refuse_unless(noreply, answers::BAD_FORMAT);
    }
    let (Some(flags), Some(exptime), Some(length), Some(cas)) = (
        number::low_u32(flags),
        number::low_i32(exptime),
        value_length(length),
        cas.map_or(Some(0), number::u64),
    ) else {
        return line.refuse_unless(noreply, answers::BAD_FORMAT);
    };
    if length > line.value_max {
        let answer = if noreply { b"" } else { answers::TOO_LARGE };
        let unlink = (verb == StoreVerb::Set).then_some(key);
        return Step::Refused(Refusal { unlink, ..line.swallow(length, answer) });
    }
    match line.value(length, noreply) {
        Ok(value) => {
            let store = Store { verb, key, flags, exptime, cas, value, noreply, canonical: false };
            Step::Request(Request::Store(store), line.bytes + length + 2)
        }
        Err(step) => step,
    }
}

/// The length of a value, as far as memcached takes it: its own two bytes must fit an int too.
pub(super) fn value_length(word: &[u8]) -> Option<usize> {
    number::low_i32(word)
        .filter(|&length| length <= i32::MAX - 2)
        .and_then(|length| usize::try_from(length).ok())
}

/// Two words and perhaps a third, which means something only if it is "noreply". So does the second in its
/// place. `None` where the count is wrong.
fn key_and_number<'a>(line: &mut Line<'a>) -> Option<(&'a [u8], &'a [u8], bool)> {
    let (key, number) = (line.word()?, line.word()?);
    let last = line.word().unwrap_or(number);
    line.word().is_none().then_some((key, number, last == NOREPLY))
}

fn arithmetic(mut line: Line<'_>, decrement: bool) -> Step<'_> {
    let Some((key, delta, noreply)) = key_and_number(&mut line) else { return line.refuse(answers::ERROR) };
    if key.len() > KEY_MAX {
        return line.refuse_unless(noreply, answers::BAD_FORMAT);
    }
    match number::u64(delta) {
        Some(delta) => line.request(Request::Arithmetic { decrement, key, delta, noreply }),
        None => line.refuse_unless(noreply, answers::INVALID_DELTA),
    }
}

fn touch(mut line: Line<'_>) -> Step<'_> {
    let Some((key, exptime, noreply)) = key_and_number(&mut line) else { return line.refuse(answers::ERROR) };
    if key.len() > KEY_MAX {
        return line.refuse_unless(noreply, answers::BAD_FORMAT);
    }
    match number::low_i32(exptime) {
        Some(exptime) => line.request(Request::Touch { key, exptime, noreply }),
        None => line.refuse_unless(noreply, answers::INVALID_EXPTIME),
    }
}

/// `delete key [0] [noreply]`: the 0 is what is left of an old argument.
fn delete(mut line: Line<'_>) -> Step<'_> {
    let Some(key) = line.word() else { return line.refuse(answers::ERROR) };
    let arguments = (line.word(), line.word());
    if line.word().is_some() {
        return line.refuse(answers::ERROR);
    }
    let (valid, noreply) = match arguments {
        (Some(b"0"), Some(last)) => (last == NOREPLY, last == NOREPLY),
        (Some(_), Some(last)) => (false, last == NOREPLY),
        (Some(only), None) => (only == b"0" || only == NOREPLY, only == NOREPLY),
        (None, _) => (true, false),
    };
    if !valid {
        return line.refuse_unless(noreply, answers::DELETE_USAGE);
    }
    if key.len() > KEY_MAX {
        return line.refuse_unless(noreply, answers::BAD_FORMAT);
    }
    line.request(Request::Delete { key, noreply })
}

/// `flush_all [delay] [noreply]`; a last word that is not "noreply" is not looked at.
fn flush_all(mut line: Line<'_>) -> Step<'_> {
    let arguments = (line.word(), line.word());
    if line.word().is_some() {
        return line.refuse(answers::ERROR);
    }
    let (delay, noreply) = match arguments {
        (Some(NOREPLY), None) => (None, true),
        (delay, last) => (delay, last == Some(NOREPLY)),
    };
    match delay.map(number::low_i32) {
        None => line.request(Request::FlushAll { delay: None, noreply }),
        Some(Some(delay)) => line.request(Request::FlushAll { delay: Some(delay), noreply }),
        Some(None) => line.refuse_unless(noreply, answers::INVALID_EXPTIME),
    }
}

fn verbosity(mut line: Line<'_>) -> Step<'_> {
    let Some(level) = line.word() else { return line.refuse(answers::ERROR) };
    let noreply = line.word().unwrap_or(level) == NOREPLY;
    if line.word().is_some() {
        return line.refuse(answers::ERROR);
    }
    match number::low_u32(level) {
        Some(_) => line.request(Request::Verbosity { noreply }),
        None => line.refuse_unless(noreply, answers::BAD_FORMAT),
    }
}

/// What a command about a server's inside must look like to be one.
struct Administrative {
    verb: &'static [u8],
    /// The second word, if it must be this one.
    subcommand: Option<&'static [u8]>,
    /// Words of the line, at least and at most.
    words: (usize, usize),
    /// A last word "noreply" silences it.
    silent: bool,
}

const MANY: usize = usize::MAX;

const ADMINISTRATIVE: &[Administrative] = &[
    Administrative { verb: b"slabs", subcommand: Some(b"reassign"), words: (4, 4), silent: false },
    Administrative { verb: b"slabs", subcommand: Some(b"automove"), words: (3, MANY), silent: true },
    Administrative { verb: b"lru_crawler", subcommand: Some(b"crawl"), words: (3, 3), silent: false },
    Administrative { verb: b"lru_crawler", subcommand: Some(b"metadump"), words: (3, 3), silent: false },
    Administrative { verb: b"lru_crawler", subcommand: Some(b"tocrawl"), words: (3, 3), silent: false },
    Administrative { verb: b"lru_crawler", subcommand: Some(b"sleep"), words: (3, 3), silent: false },
    Administrative { verb: b"lru_crawler", subcommand: Some(b"enable"), words: (2, 2), silent: false },
    Administrative { verb: b"lru_crawler", subcommand: Some(b"disable"), words: (2, 2), silent: false },
    Administrative { verb: b"lru", subcommand: Some(b"tune"), words: (6, MANY), silent: true },
    Administrative { verb: b"lru", subcommand: Some(b"mode"), words: (3, MANY), silent: true },
    Administrative { verb: b"lru", subcommand: Some(b"temp_ttl"), words: (3, MANY), silent: true },
    Administrative { verb: b"extstore", subcommand: None, words: (3, MANY), silent: true },
    Administrative { verb: b"cache_memlimit", subcommand: None, words: (2, 3), silent: true },
    Administrative { verb: b"watch", subcommand: None, words: (1, MANY), silent: true },
];

/// A command that asks for silence is dropped: nobody waits for a word about what was not done.
fn administrative<'a>(line: Line<'a>, verb: &'a [u8]) -> Step<'a> {
    let words = 1 + line.words.take(TOKENS_MAX - 2).count();
    let subcommand = line.words.clone().next();
    let noreply = last_word(line, verb) == NOREPLY;
    let known = ADMINISTRATIVE.iter().find(|row| {
        row.verb == verb
            && (row.words.0..=row.words.1).contains(&words)
            && (row.subcommand.is_none() || row.subcommand == subcommand)
    });
    match known {
        Some(row) if row.silent && noreply => line.refuse(b""),
        Some(_) => line.request(Request::Administrative { verb }),
        // These two look for noreply before they look at the rest.
        None => {
            line.refuse_unless(noreply && words > 1 && matches!(verb, b"lru" | b"extstore"), answers::ERROR)
        }
    }
}

/// The last word that memcached sees: it counts no more than its table of tokens holds.
fn last_word<'a>(line: Line<'a>, verb: &'a [u8]) -> &'a [u8] {
    line.words.take(TOKENS_MAX - 2).last().unwrap_or(verb)
}

/// An HTTP request, as a browser or a scanner sends it, ends the connection, so that the lines of its body
/// are not commands. memcached looks only where no command begins with the letter.
fn unknown<'a>(line: Line<'a>, verb: &'a [u8]) -> Step<'a> {
    let looked_at = verb.len() > 1 && !matches!(verb[0], b'g' | b's' | b'a' | b'c' | b'i' | b'd' | b't');
    if looked_at && last_word(line, verb).starts_with(b"HTTP/") {
        return Step::Refused(Refusal { consumed: line.input.len(), close: true, ..Refusal::default() });
    }
    line.refuse(answers::ERROR)
}
