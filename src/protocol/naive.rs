//! The parsers once more, slow and obvious: the oracle of their tests and fuzz targets. Nothing of the program
//! calls it; it is public so that fuzz targets can.
//!
//! It follows memcached 1.6.18 function by function (a table of at most 24 tokens, a count, an end mark),
//! copies everything and shares no code with the parsers that it judges.

use super::text::ParserLimits;
use super::{binary, meta, text};

/// What a parser says, with everything owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A request and the bytes it had.
    Request(Request, usize),
    /// A refusal.
    Refused(Refusal),
    /// No line end yet in that many bytes.
    Line(usize),
    /// To be continued when there are that many bytes.
    Total(usize),
}

/// A request: its name, and its parts as text. Two requests are the same if these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command, or what kind of command.
    pub name: String,
    /// Numbers in decimal, booleans as `true` and `false`.
    pub parts: Vec<Vec<u8>>,
}

/// A refusal of either protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Text: the answer. Binary: opcode, opaque, status and message, all in a row; empty for none.
    pub answer: Vec<u8>,
    /// Bytes to drop now.
    pub consumed: usize,
    /// Bytes to drop after these.
    pub swallow: u64,
    /// The key to remove, and whether it is in base64.
    pub unlink: Option<(Vec<u8>, bool)>,
    /// The end of the connection.
    pub close: bool,
}

fn request(name: &str, parts: &[&[u8]], bytes: usize) -> Outcome {
    Outcome::Request(
        Request { name: name.to_string(), parts: parts.iter().map(|part| part.to_vec()).collect() },
        bytes,
    )
}

fn refuse(answer: &str, consumed: usize) -> Outcome {
    let answer = if answer.is_empty() { Vec::new() } else { format!("{answer}\r\n").into_bytes() };
    Outcome::Refused(Refusal { answer, consumed, ..Refusal::default() })
}

fn close(answer: &str, consumed: usize) -> Outcome {
    let Outcome::Refused(refusal) = refuse(answer, consumed) else { unreachable!() };
    Outcome::Refused(Refusal { close: true, ..refusal })
}

fn decimal(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

// ---- what the fast parsers said, in the same words ----

impl From<text::Step<'_>> for Outcome {
    fn from(step: text::Step<'_>) -> Outcome {
        match step {
            text::Step::Request(what, bytes) => of_text(what, bytes),
            text::Step::Refused(refusal) => Outcome::Refused(Refusal {
                answer: refusal.answer.to_vec(),
                consumed: refusal.consumed,
                swallow: refusal.swallow,
                unlink: refusal.unlink.map(|key| (key.to_vec(), refusal.unlink_base64)),
                close: refusal.close,
            }),
            text::Step::Partial(text::Partial::Line { scanned }) => Outcome::Line(scanned),
            text::Step::Partial(text::Partial::Value { total }) => Outcome::Total(total),
        }
    }
}

fn of_text(what: text::Request<'_>, bytes: usize) -> Outcome {
    use text::Request::*;
    let noreply_of = |noreply: bool| decimal(noreply);
    match what {
        Get { with_cas, key } => request("get", &[&decimal(with_cas), key], bytes),
        GetMany { with_cas, keys } => {
            let with_cas = decimal(with_cas);
            request("get many", &[&[&with_cas[..]], &keys.collect::<Vec<_>>()[..]].concat(), bytes)
        }
        Gat { with_cas, exptime, keys } => {
            let (with_cas, exptime) = (decimal(with_cas), decimal(exptime));
            request("gat", &[&[&with_cas[..], &exptime], &keys.collect::<Vec<_>>()[..]].concat(), bytes)
        }
        Store(text::Store { verb, key, flags, exptime, cas, value, noreply }) => {
            let name = format!("{verb:?}").to_lowercase();
            let numbers = [decimal(flags), decimal(exptime), decimal(cas)];
            let parts = [key, &numbers[0], &numbers[1], &numbers[2], value, &noreply_of(noreply)];
            request(&name, &parts, bytes)
        }
        Arithmetic { decrement, key, delta, noreply } => {
            let name = if decrement { "decr" } else { "incr" };
            request(name, &[key, &decimal(delta), &noreply_of(noreply)], bytes)
        }
        Touch { key, exptime, noreply } => {
            request("touch", &[key, &decimal(exptime), &noreply_of(noreply)], bytes)
        }
        Delete { key, noreply } => request("delete", &[key, &noreply_of(noreply)], bytes),
        FlushAll { delay, noreply } => {
            let delay = delay.map_or(b"none".to_vec(), decimal);
            request("flush_all", &[&delay, &noreply_of(noreply)], bytes)
        }
        Verbosity { noreply } => request("verbosity", &[&noreply_of(noreply)], bytes),
        Version => request("version", &[], bytes),
        Stats { arguments } => request("stats", &[arguments], bytes),
        Administrative { verb } => request("administrative", &[verb], bytes),
        Quit => request("quit", &[], bytes),
        Meta(meta) => of_meta(&meta, bytes),
    }
}

fn of_meta(meta: &meta::Meta<'_>, bytes: usize) -> Outcome {
    let mut scratch = [0; 256];
    let booleans = [meta.base64, meta.quiet, meta.returns_cas, meta.compares_cas, meta.modifies].map(decimal);
    let mut parts = vec![meta.key, meta.value, meta.placement_key(&mut scratch)];
    parts.extend(booleans.iter().map(Vec::as_slice));
    parts.extend(text::Keys::new(meta.flags));
    request(&format!("meta {:?}", meta.verb), &parts, bytes)
}

impl From<binary::Step<'_>> for Outcome {
    fn from(step: binary::Step<'_>) -> Outcome {
        match step {
            binary::Step::Request(binary::Request { opcode, opaque, cas, extras, key, value }, bytes) => {
                request("binary", &[&[opcode], &opaque, &decimal(cas), extras, key, value], bytes)
            }
            binary::Step::Refused(refusal) => Outcome::Refused(Refusal {
                answer: refusal.answer.map_or(Vec::new(), |(status, message)| {
                    [&[refusal.opcode][..], &refusal.opaque, &status.to_be_bytes(), message].concat()
                }),
                consumed: refusal.consumed,
                swallow: refusal.swallow,
                unlink: refusal.unlink.map(|key| (key.to_vec(), false)),
                close: refusal.close,
            }),
            binary::Step::Partial { total } => Outcome::Total(total),
        }
    }
}

// ---- text ----

/// A line in memcached's form: its tokens, of which it looks at 23, and what surrounds it.
struct Line<'a> {
    input: &'a [u8],
    bytes: usize,
    tokens: Vec<Vec<u8>>,
    value_max: usize,
}

impl Line<'_> {
    /// memcached's ntokens: the end mark counts.
    fn count(&self) -> usize {
        self.tokens.len().min(23) + 1
    }

    /// tokens[ntokens - 2] is "noreply".
    fn noreply(&self) -> bool {
        self.tokens[self.count() - 2] == b"noreply"
    }

    fn out_string(&self, answer: &str) -> Outcome {
        refuse(if self.noreply() { "" } else { answer }, self.bytes)
    }
}

const ERROR: &str = "ERROR";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const KEY_MAX: usize = 250;

/// Reads one text request, as [`text::parse`] does from a line's start.
pub fn text(input: &[u8], limits: &ParserLimits) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let without_spaces = text.trim_start_matches(' ');
    let is_get = text.len() - without_spaces.len() <= 100
        && (without_spaces.starts_with("get ") || without_spaces.starts_with("gets "));
    let Some(lf) = input.iter().position(|&byte| byte == b'\n') else {
        return if is_get && input.len() > limits.get_line_max {
            close("CLIENT_ERROR line too long", input.len())
        } else if !is_get && input.len() > 2048 {
            close("", input.len())
        } else {
            Outcome::Line(input.len())
        };
    };
    if is_get && lf >= limits.get_line_max {
        return close("CLIENT_ERROR line too long", input.len());
    }
    if !is_get && lf >= 16384 {
        return close("", input.len());
    }
    let mut line = input[..lf].to_vec();
    if line.len() > 1 && line.ends_with(b"\r") {
        line.pop();
    }
    if let Some(nul) = line.iter().position(|&byte| byte == 0) {
        line.truncate(nul);
    }
    let tokens: Vec<_> =
        line.split(|&byte| byte == b' ').filter(|token| !token.is_empty()).map(<[u8]>::to_vec).collect();
    command(&Line { input, bytes: lf + 1, tokens, value_max: limits.value_max })
}

fn command(line: &Line<'_>) -> Outcome {
    if line.tokens.is_empty() || line.tokens[0].len() < 2 {
        return refuse(ERROR, line.bytes);
    }
    let verb = String::from_utf8_lossy(&line.tokens[0]).into_owned();
    let count = line.count();
    let wrong_count = match verb.as_str() {
        "get" | "gets" | "gat" | "gats" | "bget" | "lru" | "extstore" | "mg" | "ms" | "md" | "ma" => {
            count < 3
        }
        "set" | "add" | "replace" | "append" | "prepend" => count != 6 && count != 7,
        "cas" => count != 7 && count != 8,
        "incr" | "decr" | "touch" => count != 4 && count != 5,
        "delete" => !(3..=5).contains(&count),
        "flush_all" => !(2..=4).contains(&count),
        "verbosity" | "cache_memlimit" => count != 3 && count != 4,
        _ => false,
    };
    if wrong_count {
        return refuse(ERROR, line.bytes);
    }
    match verb.as_str() {
        "get" | "gets" | "bget" => get(line, verb == "gets"),
        "gat" | "gats" => gat(line, verb == "gats"),
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => update(line, &verb),
        "incr" | "decr" => arithmetic(line, &verb),
        "touch" => touch(line),
        "delete" => delete(line),
        "flush_all" => flush_all(line),
        "verbosity" => match safe_strtoul(&line.tokens[1]) {
            Some(_) => request("verbosity", &[&decimal(line.noreply())], line.bytes),
            None => line.out_string(BAD_FORMAT),
        },
        "version" | "quit" => request(&verb, &[], line.bytes),
        "stats" => stats(line),
        "shutdown" => refuse("ERROR: shutdown not enabled", line.bytes),
        "refresh_certs" => refuse("Error TLS not enabled", line.bytes),
        "slabs" | "lru_crawler" | "lru" | "watch" | "cache_memlimit" | "extstore" => {
            administrative(line, &verb)
        }
        "mg" | "md" | "ma" => meta_line(line, &verb),
        "ms" => meta_set(line),
        "me" => meta_debug(line),
        "mn" => meta_request("Noop", b"", b"", &Flags::default(), &[], line.bytes),
        _ => unknown(line, &verb),
    }
}

fn unknown(line: &Line<'_>, verb: &str) -> Outcome {
    let has_branch = verb.starts_with(['g', 's', 'a', 'c', 'i', 'd', 't']);
    let is_meta = line.tokens[0].len() == 2 && line.tokens[0][0] == b'm';
    if !has_branch && !is_meta && line.tokens[line.count() - 2].starts_with(b"HTTP/") {
        return close("", line.input.len());
    }
    refuse(ERROR, line.bytes)
}

fn stats(line: &Line<'_>) -> Outcome {
    // The rest of the line as it stands, so that the spaces between its words are kept.
    let end = line.input.iter().position(|&byte| byte == b'\n').unwrap();
    let mut text = line.input[..end].to_vec();
    if text.ends_with(b"\r") {
        text.pop();
    }
    if let Some(nul) = text.iter().position(|&byte| byte == 0) {
        text.truncate(nul);
    }
    while text.first() == Some(&b' ') {
        text.remove(0);
    }
    text.drain(..5);
    while text.first() == Some(&b' ') {
        text.remove(0);
    }
    while text.last() == Some(&b' ') {
        text.pop();
    }
    request("stats", &[&text], line.bytes)
}

fn get(line: &Line<'_>, with_cas: bool) -> Outcome {
    let keys = &line.tokens[1..];
    let mut parts = vec![decimal(with_cas)];
    parts.extend_from_slice(keys);
    if keys.len() > 1 {
        return Outcome::Request(Request { name: "get many".into(), parts }, line.bytes);
    }
    if keys[0].len() > KEY_MAX {
        return refuse(BAD_FORMAT, line.bytes);
    }
    Outcome::Request(Request { name: "get".into(), parts }, line.bytes)
}

fn gat(line: &Line<'_>, with_cas: bool) -> Outcome {
    let Some(exptime) = safe_strtol(&line.tokens[1]) else {
        return refuse("CLIENT_ERROR invalid exptime argument", line.bytes);
    };
    let mut parts = vec![decimal(with_cas), decimal(exptime)];
    parts.extend_from_slice(&line.tokens[2..]);
    Outcome::Request(Request { name: "gat".into(), parts }, line.bytes)
}

/// The value behind a line, or what to do instead.
fn value(line: &Line<'_>, length: usize, bad_chunk: &str) -> Result<Vec<u8>, Outcome> {
    let total = line.bytes + length + 2;
    if line.input.len() < total {
        return Err(Outcome::Total(total));
    }
    let mut value = line.input[line.bytes..total].to_vec();
    if !value.ends_with(b"\r\n") {
        return Err(refuse(bad_chunk, total));
    }
    value.truncate(length);
    Ok(value)
}

fn swallow(line: &Line<'_>, answer: &str, length: usize, unlink: Option<(Vec<u8>, bool)>) -> Outcome {
    let Outcome::Refused(refusal) = refuse(answer, line.bytes) else { unreachable!() };
    Outcome::Refused(Refusal { swallow: length as u64 + 2, unlink, ..refusal })
}

fn update(line: &Line<'_>, verb: &str) -> Outcome {
    let tokens = &line.tokens;
    if tokens[1].len() > KEY_MAX {
        return line.out_string(BAD_FORMAT);
    }
    let (Some(flags), Some(exptime), Some(length)) =
        (safe_strtoul(&tokens[2]), safe_strtol(&tokens[3]), safe_strtol(&tokens[4]))
    else {
        return line.out_string(BAD_FORMAT);
    };
    let mut cas = 0;
    if verb == "cas" {
        match safe_strtoull(&tokens[5]) {
            Some(number) => cas = number,
            None => return line.out_string(BAD_FORMAT),
        }
    }
    if !(0..=i32::MAX - 2).contains(&length) {
        return line.out_string(BAD_FORMAT);
    }
    let length = length as usize;
    let or_nothing = |answer| if line.noreply() { "" } else { answer };
    if length > line.value_max {
        let unlink = if verb == "set" { Some((tokens[1].clone(), false)) } else { None };
        return swallow(line, or_nothing("SERVER_ERROR object too large for cache"), length, unlink);
    }
    match value(line, length, or_nothing("CLIENT_ERROR bad data chunk")) {
        Err(outcome) => outcome,
        Ok(value) => {
            let numbers = [decimal(flags), decimal(exptime), decimal(cas)];
            let noreply = decimal(line.noreply());
            let parts = [&tokens[1][..], &numbers[0], &numbers[1], &numbers[2], &value, &noreply];
            request(verb, &parts, line.bytes + length + 2)
        }
    }
}

fn arithmetic(line: &Line<'_>, verb: &str) -> Outcome {
    if line.tokens[1].len() > KEY_MAX {
        return line.out_string(BAD_FORMAT);
    }
    match safe_strtoull(&line.tokens[2]) {
        Some(delta) => {
            request(verb, &[&line.tokens[1], &decimal(delta), &decimal(line.noreply())], line.bytes)
        }
        None => line.out_string("CLIENT_ERROR invalid numeric delta argument"),
    }
}

fn touch(line: &Line<'_>) -> Outcome {
    if line.tokens[1].len() > KEY_MAX {
        return line.out_string(BAD_FORMAT);
    }
    match safe_strtol(&line.tokens[2]) {
        Some(exptime) => {
            request("touch", &[&line.tokens[1], &decimal(exptime), &decimal(line.noreply())], line.bytes)
        }
        None => line.out_string("CLIENT_ERROR invalid exptime argument"),
    }
}

fn delete(line: &Line<'_>) -> Outcome {
    let count = line.count();
    let mut noreply = false;
    if count > 3 {
        let zero = line.tokens[2] == b"0";
        noreply = line.noreply();
        let valid = (count == 4 && (zero || noreply)) || (count == 5 && zero && noreply);
        if !valid {
            return line.out_string("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]");
        }
    }
    if line.tokens[1].len() > KEY_MAX {
        return refuse(if noreply { "" } else { BAD_FORMAT }, line.bytes);
    }
    request("delete", &[&line.tokens[1], &decimal(noreply)], line.bytes)
}

fn flush_all(line: &Line<'_>) -> Outcome {
    let noreply = line.noreply();
    let mut delay = b"none".to_vec();
    if line.count() != if noreply { 3 } else { 2 } {
        match safe_strtol(&line.tokens[1]) {
            Some(number) => delay = decimal(number),
            None => return line.out_string("CLIENT_ERROR invalid exptime argument"),
        }
    }
    request("flush_all", &[&delay, &decimal(noreply)], line.bytes)
}

/// Commands that only a server can carry out: here they are told from what memcached answers with ERROR.
fn administrative(line: &Line<'_>, verb: &str) -> Outcome {
    let count = line.count();
    let subcommand = line.tokens.get(1).map(|token| String::from_utf8_lossy(token).into_owned());
    let (known, looks_for_noreply) = match (verb, subcommand.as_deref().unwrap_or("")) {
        ("slabs", "reassign") => (count == 5, false),
        ("slabs", "automove") => (count >= 4, count >= 4),
        ("lru_crawler", "crawl" | "metadump" | "tocrawl" | "sleep") => (count == 4, false),
        ("lru_crawler", "enable" | "disable") => (count == 3, false),
        ("lru", "tune") => (count >= 7, true),
        ("lru", "mode" | "temp_ttl") => (count >= 4, true),
        ("lru", _) => (false, true),
        ("extstore", _) => (count >= 4, true),
        ("watch" | "cache_memlimit", _) => (true, true),
        _ => (false, false),
    };
    if looks_for_noreply && line.noreply() {
        refuse("", line.bytes)
    } else if known {
        request("administrative", &[verb.as_bytes()], line.bytes)
    } else {
        refuse(ERROR, line.bytes)
    }
}

// ---- meta ----

#[derive(Default)]
struct Flags {
    base64: bool,
    quiet: bool,
    returns_cas: bool,
    compares_cas: bool,
    modifies: bool,
    newer: bool,
    mode: u8,
    opaque: usize,
}

fn meta_request(
    verb: &str,
    key: &[u8],
    value: &[u8],
    flags: &Flags,
    words: &[Vec<u8>],
    bytes: usize,
) -> Outcome {
    let place = if flags.base64 { decode(key).unwrap() } else { key.to_vec() };
    let mut parts = vec![key.to_vec(), value.to_vec(), place];
    let booleans = [flags.base64, flags.quiet, flags.returns_cas, flags.compares_cas, flags.modifies];
    parts.extend(booleans.map(decimal));
    parts.extend_from_slice(words);
    Outcome::Request(Request { name: format!("meta {verb}"), parts }, bytes)
}

/// _meta_flag_preparse, with the flags that came after 1.6.18: a line with one of those and another fault
/// is one that 1.6.18 left at the flag it does not know.
fn preparse(verb: &str, key: &[u8], words: &[Vec<u8>]) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut seen = Vec::new();
    let mut error: Option<&str> = None;
    let mut has_error = false;
    let unknown = "CLIENT_ERROR invalid flag".to_string();
    for word in words {
        let letter = word[0];
        let token = &word[1..];
        if letter >= 127 || seen.contains(&letter) {
            return Err(if flags.newer { unknown } else { "CLIENT_ERROR duplicate flag".to_string() });
        }
        seen.push(letter);
        let mut check = |good: bool, answer: Option<&'static str>| {
            if !good {
                has_error = true;
                error = answer.or(error);
            }
        };
        let bad_token = Some("CLIENT_ERROR bad token in command line format");
        match letter as char {
            'b' => {
                check(decode(key).is_some(), Some("CLIENT_ERROR error decoding key"));
                flags.base64 = true;
            }
            'N' | 'T' | 'R' => {
                check(safe_strtol(token).is_some(), bad_token);
                flags.modifies |= verb == "mg";
            }
            'C' => {
                check(safe_strtoull(token).is_some(), bad_token);
                flags.compares_cas = true;
            }
            'F' => check(safe_strtoul(token).is_some(), None),
            'J' => check(safe_strtoull(token).is_some(), Some("CLIENT_ERROR invalid numeric initial value")),
            'D' => check(safe_strtoull(token).is_some(), Some("CLIENT_ERROR invalid numeric delta value")),
            'M' => {
                check(word.len() == 2, Some("CLIENT_ERROR incorrect length for M token"));
                flags.mode = *token.first().unwrap_or(&0);
            }
            'O' => flags.opaque = word.len(),
            'q' => flags.quiet = true,
            'c' => flags.returns_cas = true,
            'I' | 'L' | 'P' | 'f' | 'h' | 'k' | 'l' | 's' | 't' | 'u' | 'v' => {}
            'E' if safe_strtoull(token).is_some() => {
                flags.newer = true;
                flags.modifies |= verb == "mg";
            }
            'x' if verb == "md" => flags.newer = true,
            _ => return Err(unknown),
        }
    }
    if has_error {
        return Err(if flags.newer { unknown } else { error.unwrap_or(BAD_FORMAT).to_string() });
    }
    Ok(flags)
}

/// The line that would go to a backend is longer than memcached takes in pieces.
fn too_long(parts: &[Vec<u8>]) -> bool {
    let line = [b"m?".to_vec(), parts.join(&b' ')].join(&b' ');
    line.len() + 2 > 2048
}

fn meta_line(line: &Line<'_>, verb: &str) -> Outcome {
    let (key, words) = (&line.tokens[1], &line.tokens[2..]);
    if key.len() > KEY_MAX {
        return refuse(BAD_FORMAT, line.bytes);
    }
    if line.count() > 20 {
        let are = if verb == "mg" { "are " } else { "" };
        return refuse(&format!("CLIENT_ERROR options flags {are}too long"), line.bytes);
    }
    match preparse(verb, key, words) {
        Err(answer) if verb == "mg" => refuse(&answer, line.bytes),
        Err(_) => refuse("CLIENT_ERROR invalid or duplicate flag", line.bytes),
        Ok(_) if too_long(&line.tokens[1..]) => refuse("CLIENT_ERROR line too long", line.bytes),
        Ok(flags) => {
            let name = match verb {
                "mg" => "Get",
                "md" => "Delete",
                _ => "Arithmetic",
            };
            meta_request(name, key, b"", &flags, words, line.bytes)
        }
    }
}

fn meta_set(line: &Line<'_>) -> Outcome {
    let key = &line.tokens[1];
    if key.len() > KEY_MAX || line.count() == 3 {
        return refuse(BAD_FORMAT, line.bytes);
    }
    if line.count() > 20 {
        return refuse("CLIENT_ERROR options flags too long", line.bytes);
    }
    let length = match safe_strtol(&line.tokens[2]) {
        Some(length) if (0..=i32::MAX - 2).contains(&length) => length as usize,
        _ => return refuse(BAD_FORMAT, line.bytes),
    };
    let words = &line.tokens[3..];
    let flags = match preparse("ms", key, words) {
        Err(answer) => return swallow(line, &answer, length, None),
        Ok(flags) => flags,
    };
    let fault = if ![0, b'E', b'A', b'P', b'R', b'S'].contains(&flags.mode) {
        Some("CLIENT_ERROR invalid mode for ms M token")
    } else if flags.opaque > 32 {
        Some("CLIENT_ERROR opaque token too long")
    } else {
        None
    };
    if let Some(answer) = fault {
        return swallow(line, if flags.newer { "CLIENT_ERROR invalid flag" } else { answer }, length, None);
    }
    let mut composed = vec![key.clone(), decimal(length)];
    composed.extend_from_slice(words);
    if too_long(&composed) {
        return swallow(line, "CLIENT_ERROR line too long", length, None);
    }
    if length > line.value_max {
        let unlink = Some((key.clone(), flags.base64));
        return swallow(line, "SERVER_ERROR object too large for cache", length, unlink);
    }
    match value(line, length, "CLIENT_ERROR bad data chunk") {
        Err(outcome) => outcome,
        Ok(value) => meta_request("Set", key, &value, &flags, words, line.bytes + length + 2),
    }
}

fn meta_debug(line: &Line<'_>) -> Outcome {
    if line.count() < 3 || line.tokens[1].len() > KEY_MAX {
        return refuse(BAD_FORMAT, line.bytes);
    }
    let base64 = line.tokens.len() > 2 && line.tokens[2] == b"b";
    if base64 && decode(&line.tokens[1]).is_none() {
        return refuse(BAD_FORMAT, line.bytes);
    }
    let flags = Flags { base64, ..Flags::default() };
    let words = if base64 { vec![b"b".to_vec()] } else { Vec::new() };
    meta_request("Debug", &line.tokens[1], b"", &flags, &words, line.bytes)
}

/// memcached's base64_decode, by way of a string of bits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let symbols: Vec<char> = text
        .iter()
        .map(|&byte| byte as char)
        .filter(|&symbol| symbol == '=' || alphabet.contains(symbol))
        .collect();
    if symbols.is_empty() || !symbols.len().is_multiple_of(4) {
        return None;
    }
    let mut decoded = Vec::new();
    for four in symbols.chunks(4) {
        let bits: String =
            four.iter().map(|&symbol| format!("{:06b}", alphabet.find(symbol).unwrap_or(0))).collect();
        let padding = four.iter().filter(|&&symbol| symbol == '=').count();
        if padding > 2 {
            return None;
        }
        for index in 0..3 - padding {
            decoded.push(u8::from_str_radix(&bits[index * 8..index * 8 + 8], 2).unwrap());
        }
        if padding > 0 {
            break;
        }
    }
    Some(decoded)
}

// ---- numbers ----

/// C's strtol and strtoul, in a type that holds any sum of both: the number, if white space or the token's
/// end follows it.
fn number(token: &[u8]) -> Option<(bool, u128)> {
    let is_space = |byte: u8| b" \t\n\x0b\x0c\r".contains(&byte);
    let mut rest = token.to_vec();
    while !rest.is_empty() && is_space(rest[0]) {
        rest.remove(0);
    }
    let negative = rest.first() == Some(&b'-');
    if negative || rest.first() == Some(&b'+') {
        rest.remove(0);
    }
    let mut digits = String::new();
    while !rest.is_empty() && rest[0].is_ascii_digit() {
        digits.push(rest.remove(0) as char);
    }
    if digits.is_empty() || !(rest.is_empty() || is_space(rest[0])) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        return None;
    }
    Some((negative, if digits.is_empty() { 0 } else { digits.parse().unwrap() }))
}

fn safe_strtoull(token: &[u8]) -> Option<u64> {
    let (negative, magnitude) = number(token)?;
    if magnitude > u64::MAX as u128 {
        return None;
    }
    if !negative {
        return Some(magnitude as u64);
    }
    let wrapped = if magnitude == 0 { 0 } else { (1u128 << 64) - magnitude };
    if wrapped >= 1u128 << 63 { None } else { Some(wrapped as u64) }
}

fn safe_strtoul(token: &[u8]) -> Option<u32> {
    safe_strtoull(token).map(|number| (number % (1 << 32)) as u32)
}

fn safe_strtol(token: &[u8]) -> Option<i32> {
    let (negative, magnitude) = number(token)?;
    let signed = if negative { -(magnitude as i128) } else { magnitude as i128 };
    if signed < i64::MIN as i128 || signed > i64::MAX as i128 {
        return None;
    }
    // What an int keeps of a long.
    let low = signed.rem_euclid(1 << 32);
    Some(if low < 1 << 31 { low as i32 } else { (low - (1 << 32)) as i32 })
}

// ---- binary ----

/// Reads one binary request, as [`binary::parse`] does.
pub fn binary(input: &[u8], value_max: usize) -> Outcome {
    if input.len() < 24 {
        return Outcome::Total(24);
    }
    let number =
        |from: usize, to: usize| input[from..to].iter().fold(0u64, |sum, &byte| sum * 256 + byte as u64);
    let opcode = input[1];
    let (key_bytes, extras_bytes, body) = (number(2, 4), number(4, 5), number(8, 12));
    let answer = |status: u8, message: &str| {
        [&[opcode][..], &input[12..16], &[0, status], message.as_bytes()].concat()
    };
    let give_up = |answer: Vec<u8>| {
        Outcome::Refused(Refusal { answer, consumed: input.len(), close: true, ..Refusal::default() })
    };
    if input[0] != 0x80 {
        return give_up(Vec::new());
    }
    let head = (24 + extras_bytes + key_bytes) as usize;
    if input.len() < head {
        // The read buffer has 16384 bytes; when it is full, the next byte ends the connection.
        return if input.len() > 16384 { give_up(Vec::new()) } else { Outcome::Total(head.min(16385)) };
    }
    if key_bytes + extras_bytes > body {
        return give_up(answer(0x81, "Unknown command"));
    }
    let key = &input[head - key_bytes as usize..head];
    let extras = &input[24..24 + extras_bytes as usize];
    let rest = body - key_bytes - extras_bytes;
    let swallow = |bytes: u64| {
        let bytes = if bytes > i32::MAX as u64 { 0 } else { bytes };
        let answer = answer(0x81, "Unknown command");
        Outcome::Refused(Refusal { answer, consumed: head, swallow: bytes, ..Refusal::default() })
    };
    let (keyed, bare) = (key_bytes > 0, key_bytes == 0);
    enum Kind {
        Head,
        Value,
        Swallow(u64),
    }
    let (good, kind) = match opcode {
        // Get, GetQ, GetK, GetKQ, Delete, DeleteQ
        0x00 | 0x09 | 0x0c | 0x0d | 0x04 | 0x14 => (keyed && extras_bytes == 0 && rest == 0, Kind::Head),
        // Set, Add, Replace and their quiet forms
        0x01..=0x03 | 0x11..=0x13 => (keyed && extras_bytes == 8, Kind::Value),
        // Increment, Decrement
        0x05 | 0x06 | 0x15 | 0x16 => (keyed && extras_bytes == 20 && rest == 0, Kind::Head),
        // Append, Prepend
        0x0e | 0x0f | 0x19 | 0x1a => (keyed && extras_bytes == 0, Kind::Value),
        // Quit, QuitQ, Noop, Version
        0x07 | 0x17 | 0x0a | 0x0b => (body == 0, Kind::Head),
        // Flush
        0x08 | 0x18 => (bare && rest == 0 && [0, 4].contains(&extras_bytes), Kind::Head),
        // Stat
        0x10 => (extras_bytes == 0, Kind::Head),
        // Touch, GAT, GATQ, GATK, GATKQ
        0x1c | 0x1d | 0x1e | 0x23 | 0x24 => (keyed && extras_bytes == 4, Kind::Head),
        // SASL list, auth, step
        0x20 => (body == 0, Kind::Swallow(0)),
        0x21 | 0x22 => (keyed && extras_bytes == 0, Kind::Swallow(body - key_bytes)),
        _ => (true, Kind::Swallow(body)),
    };
    if key_bytes > 250 || !good {
        return give_up(answer(0x04, "Invalid arguments"));
    }
    let whole = |value: &[u8]| {
        request(
            "binary",
            &[&[opcode], &input[12..16], &decimal(number(16, 24)), extras, key, value],
            head + value.len(),
        )
    };
    match kind {
        Kind::Swallow(bytes) => swallow(bytes),
        Kind::Head => whole(b""),
        Kind::Value if rest > value_max as u64 || rest > i32::MAX as u64 => Outcome::Refused(Refusal {
            answer: answer(0x03, "Too large."),
            consumed: head,
            swallow: if rest > i32::MAX as u64 && ![0x0e, 0x0f, 0x19, 0x1a].contains(&opcode) {
                0
            } else {
                rest
            },
            unlink: [0x01, 0x11].contains(&opcode).then(|| (key.to_vec(), false)),
            close: false,
        }),
        Kind::Value if input.len() < head + rest as usize => Outcome::Total(head + rest as usize),
        Kind::Value => whole(&input[head..head + rest as usize]),
    }
}
