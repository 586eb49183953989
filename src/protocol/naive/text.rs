//! The classic commands and the lines that they come in.

use super::super::text::ParserLimits;
use super::meta::{meta_debug, meta_line, meta_noop, meta_set};
use super::number::{safe_strtol, safe_strtoul, safe_strtoull};
use super::{Outcome, Refusal, Request, close, decimal, refuse, request};

/// A line in memcached's form: its tokens, of which it looks at 23, and what surrounds it.
pub(super) struct Line<'a> {
    input: &'a [u8],
    pub(super) bytes: usize,
    pub(super) tokens: Vec<Vec<u8>>,
    pub(super) value_max: usize,
}

impl Line<'_> {
    /// memcached's ntokens: the end mark counts.
    pub(super) fn count(&self) -> usize {
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
pub(super) const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
pub(super) const KEY_MAX: usize = 250;

/// Reads one text request, as `protocol::text::parse` does from a line's start.
pub fn parse(input: &[u8], limits: &ParserLimits) -> Outcome {
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
        "mn" => meta_noop(line),
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
pub(super) fn value(line: &Line<'_>, length: usize, bad_chunk: &str) -> Result<Vec<u8>, Outcome> {
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

pub(super) fn swallow(
    line: &Line<'_>,
    answer: &str,
    length: usize,
    unlink: Option<(Vec<u8>, bool)>,
) -> Outcome {
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
