//! What a client must be told for the bytes that it has sent: for each request one answer, in order.

use mcproxy::limits::KEY_MAX;
use mcproxy::placement::Placement;
use mcproxy::protocol::base64;
use mcproxy::protocol::binary::{answering, opcode};
use mcproxy::protocol::naive::{self, Outcome, Request, stream};
use mcproxy::protocol::reply::{Frame, ReplyLimits};
use mcproxy::protocol::text::ParserLimits;

use super::super::canary;
use super::answers;

const REPLIES: ReplyLimits = ReplyLimits { line_max: 16 << 10, value_max: 1 << 20 };

const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format\r\n";

/// How far backends can be held to account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// By backend: it has sent bytes of its own making, so that nothing is known of what it answers.
    pub(super) hostile: [bool; 3],
    /// By backend: something has happened that may make its requests fail.
    pub(super) failing: [bool; 3],
}

/// The answer to one request.
pub(super) enum Expected {
    /// These bytes; none for silence.
    Exactly(Vec<u8>),
    /// One line.
    Line,
    /// A list of counters, or a line.
    Stats,
    /// What one backend answers; no bytes for silence.
    Of { owner: usize, answer: Vec<u8>, form: Form, quiet: bool },
    /// What several backends answer; each key with its owner and value.
    Values { keys: Vec<Key>, refusal: Option<&'static [u8]> },
    /// OK of all backends; an error if one of them fails.
    Flush { answer: Vec<u8> },
    /// Binary counters: packets up to one without key and body.
    Packets { opcode: u8, opaque: [u8; 4] },
}

pub(super) struct Key {
    key: Vec<u8>,
    owner: usize,
    value: Option<Vec<u8>>,
}

/// How an answer is framed.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Line,
    Meta { raw_key: Vec<u8> },
    Packet { opcode: u8, opaque: [u8; 4] },
}

/// The answers to `sent`, and whether the connection ends with the last of them.
pub(super) fn expected(sent: &[u8], limits: &ParserLimits, placement: &Placement) -> (Vec<Expected>, bool) {
    let binary = sent.first() == Some(&0x80);
    let steps = stream::steps(sent, &|input| match binary {
        true => naive::parse_binary(input, limits.value_max),
        false => naive::parse_text(input, limits),
    });
    let (mut expected, mut used) = (Vec::new(), 0);
    for step in &steps {
        used += stream::bytes_of(step);
        match step {
            Outcome::Request(request, _) if is_quit(request) => {
                expected.extend(
                    (request.name == "binary" && request.parts[0][0] == opcode::QUIT)
                        .then(|| Expected::Exactly(packet(opcode::QUIT, &request.parts[1], 0, b""))),
                );
                return (expected, true);
            }
            Outcome::Request(request, _) => expected.push(of_request(request, placement)),
            // It is due when all that it swallows has come.
            Outcome::Refused(_) if used > sent.len() as u64 => {}
            Outcome::Refused(refusal) => {
                expected.push(of_refusal(refusal, binary, placement));
                if refusal.close {
                    return (expected, true);
                }
            }
            Outcome::Line(_) | Outcome::Total(_) => {}
        }
    }
    (expected, false)
}

fn is_quit(request: &Request) -> bool {
    request.name == "quit" || (request.name == "binary" && answering(request.parts[0][0]).0 == opcode::QUIT)
}

fn of_request(request: &Request, placement: &Placement) -> Expected {
    let parts = &request.parts;
    if request.name == "binary" {
        return of_packet(request, placement);
    }
    let is_quiet = parts.last().is_some_and(|last| last == b"true");
    match request.name.as_str() {
        "get" | "get many" => of_keys(&parts[1..], parts[0] == b"true", b"get", placement),
        "gat" => of_keys(&parts[2..], parts[0] == b"true", &parts[1], placement),
        "meta Noop" => Expected::Exactly(b"MN\r\n".to_vec()),
        name if name.starts_with("meta") => {
            let mut answer = answers::text(request);
            if answers::is_kept_back(request, &answer) {
                answer.clear();
            }
            let raw_key = parts[2].clone();
            let quiet = parts[4] == b"true";
            Expected::Of { owner: placement.owner(&raw_key), answer, form: Form::Meta { raw_key }, quiet }
        }
        "stats" => Expected::Stats,
        "administrative" | "version" => Expected::Line,
        "verbosity" => Expected::Exactly(if is_quiet { Vec::new() } else { b"OK\r\n".to_vec() }),
        "flush_all" if is_quiet => Expected::Exactly(Vec::new()),
        "flush_all" => Expected::Flush { answer: b"OK\r\n".to_vec() },
        _ => {
            let answer = if is_quiet { Vec::new() } else { answers::text(request) };
            Expected::Of { owner: placement.owner(&parts[0]), answer, form: Form::Line, quiet: is_quiet }
        }
    }
}

fn of_keys(keys: &[Vec<u8>], with_cas: bool, verb: &[u8], placement: &Placement) -> Expected {
    let good = keys.iter().take_while(|key| key.len() <= KEY_MAX).count();
    let refusal = (good < keys.len()).then_some(BAD_FORMAT);
    // A get with a bad key asks for nothing, a gat touches what stands before it.
    let asked = if refusal.is_some() && verb == b"get" { 0 } else { good };
    let lies = |key: &[u8]| canary() && key == b"key3";
    let keys = keys[..asked].iter().map(|key| Key {
        key: key.clone(),
        owner: placement.owner(key),
        value: answers::value(key, with_cas, if lies(key) { b"another" } else { verb }),
    });
    Expected::Values { keys: keys.collect(), refusal }
}

fn of_packet(request: &Request, placement: &Placement) -> Expected {
    let code = request.parts[0][0];
    let opaque = *request.parts[1].first_chunk().expect("four bytes");
    let (answering, quiet) = answering(code);
    let mut answer = answers::binary(request);
    let status = u16::from_be_bytes([answer[6], answer[7]]);
    let is_read = matches!(answering, opcode::GET | opcode::GETK | opcode::GAT | opcode::GATK);
    if quiet && status == u16::from(is_read) {
        answer.clear();
    }
    let form = Form::Packet { opcode: code, opaque };
    match answering {
        opcode::NOOP => Expected::Exactly(answer),
        opcode::STAT | opcode::VERSION => Expected::Packets { opcode: code, opaque },
        opcode::FLUSH => Expected::Flush { answer },
        _ => Expected::Of { owner: placement.owner(&request.parts[4]), answer, form, quiet },
    }
}

/// Where memcached removes an item too, its owner is asked to, and says how that went.
fn of_refusal(refusal: &naive::Refusal, binary: bool, placement: &Placement) -> Expected {
    let answer = &refusal.answer;
    let Some((key, is_base64)) = &refusal.unlink else {
        return Expected::Exactly(match binary && !answer.is_empty() {
            true => packet(answer[0], &answer[1..5], answer[6], &answer[7..]),
            false => answer.clone(),
        });
    };
    let mut room = [0; 256];
    let place = if *is_base64 { base64::decode(key, &mut room).unwrap_or_default() } else { key };
    let owner = placement.owner(place);
    let part = |text: &[u8]| text.to_vec();
    if binary {
        let opaque = *answer[1..].first_chunk().expect("four bytes");
        let parts =
            vec![vec![opcode::DELETE], part(&opaque), part(b"0"), Vec::new(), key.clone(), Vec::new()];
        let deleted = answers::binary(&Request { name: "binary".into(), parts });
        let answer = match u16::from_be_bytes([deleted[6], deleted[7]]) {
            0 | 1 => packet(answer[0], &opaque, 3, b"Too large."),
            _ => [&deleted[..1], &answer[..1], &deleted[2..16], &[0; 8], &deleted[24..]].concat(),
        };
        let form = Form::Packet { opcode: answer[1], opaque };
        return Expected::Of { owner, answer, form, quiet: false };
    }
    let request = match is_base64 {
        false => Request { name: "delete".into(), parts: vec![key.clone(), part(b"false")] },
        true => {
            let mut parts = vec![key.clone(), Vec::new(), part(place), part(b"true")];
            parts.extend(vec![part(b"false"); 4]);
            parts.push(part(b"b"));
            Request { name: "meta Delete".into(), parts }
        }
    };
    let deleted = answers::text(&request);
    let error = deleted.starts_with(b"SERVER_ERROR");
    let quiet = answer.is_empty();
    let answer = if error && !quiet { deleted } else { answer.clone() };
    // A base64 key is deleted by `md`, whose answer has flags in it here: those are not looked at.
    Expected::Of { owner, answer, form: Form::Line, quiet }
}

fn packet(opcode: u8, opaque: &[u8], status: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u8;
    [&[0x81, opcode, 0, 0, 0, 0, 0, status, 0, 0, 0, length], opaque, &[0; 8], body].concat()
}

/// What came of holding a client's bytes against what it must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every answer is there and nothing else.
    Complete,
    /// So far it is right.
    SoFar,
    /// The whole values at the start of a long answer, whose rest cannot come any more.
    Cut,
    /// Not what it must be.
    Wrong,
}

/// Holds `heard` against `expected`.
pub(super) fn judge(expected: &[Expected], heard: &[u8], trouble: &Trouble) -> Verdict {
    // Where an answer may be silence there are several ways to read what follows.
    let mut places = vec![0];
    let mut verdict = Verdict::Wrong;
    for one in expected {
        let mut next = Vec::new();
        for &place in &places {
            let rest = &heard[place..];
            let (lengths, partial) = one.lengths(rest, trouble);
            next.extend(lengths.into_iter().map(|length| place + length));
            if let Some(partial) = partial.filter(|_| verdict != Verdict::Cut) {
                verdict = partial;
            }
        }
        next.sort_unstable();
        next.dedup();
        places = next;
    }
    if places.contains(&heard.len()) { Verdict::Complete } else { verdict }
}

impl Expected {
    /// How many bytes of `heard` may be this answer; and what `heard` is if it is the start of one.
    fn lengths(&self, heard: &[u8], trouble: &Trouble) -> (Vec<usize>, Option<Verdict>) {
        let mut found = Found { heard, lengths: Vec::new(), partial: None };
        match self {
            Expected::Exactly(bytes) => found.bytes(bytes),
            Expected::Line => found.line(b""),
            Expected::Stats => found.stats(),
            Expected::Of { owner, answer, form, quiet } => {
                found.bytes(answer);
                if trouble.hostile[*owner] {
                    found.form(form);
                    found.lengths.extend(quiet.then_some(0));
                } else if trouble.failing[*owner] {
                    found.failure(form, *quiet);
                }
            }
            Expected::Values { keys, refusal } => found.values(keys, *refusal, trouble),
            Expected::Flush { answer } => {
                found.bytes(answer);
                if (0..3).any(|owner| trouble.failing[owner] || trouble.hostile[owner]) {
                    match answer.first_chunk::<16>().filter(|head| head[0] == 0x81) {
                        Some(head) => found.packet(head[1], &head[12..]),
                        None if answer.is_empty() => found.any_packet(),
                        None => found.line(b"SERVER_ERROR "),
                    }
                }
            }
            Expected::Packets { opcode, opaque } => found.packets(*opcode, opaque),
        }
        (found.lengths, found.partial)
    }
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Exactly(bytes) => write!(f, "exactly \"{}\"", bytes.escape_ascii()),
            Expected::Line => write!(f, "a line"),
            Expected::Stats | Expected::Packets { .. } => write!(f, "counters"),
            Expected::Of { owner, answer, quiet, .. } => {
                write!(f, "of {owner}, quiet {quiet}: \"{}\"", answer.escape_ascii())
            }
            Expected::Values { keys, refusal } => {
                let value = |key: &Key| key.value.as_ref().map(|value| value.escape_ascii().to_string());
                let keys = keys.iter().map(|key| (key.key.escape_ascii().to_string(), key.owner, value(key)));
                write!(f, "values of {:?}, refused {}", keys.collect::<Vec<_>>(), refusal.is_some())
            }
            Expected::Flush { answer } => write!(f, "of all: \"{}\"", answer.escape_ascii()),
        }
    }
}

/// What was found at the start of a client's bytes.
struct Found<'h> {
    heard: &'h [u8],
    lengths: Vec<usize>,
    partial: Option<Verdict>,
}

impl Found<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        if self.heard.starts_with(bytes) {
            self.lengths.push(bytes.len());
        } else if bytes.starts_with(self.heard) {
            self.partial = self.partial.or(Some(Verdict::SoFar));
        }
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Value { total, .. } | Frame::Line { total } | Frame::End { total } => {
                self.lengths.push(total)
            }
            Frame::Partial { .. } => self.partial = self.partial.or(Some(Verdict::SoFar)),
            Frame::Broken => {}
        }
    }

    fn line(&mut self, start: &[u8]) {
        let both = start.len().min(self.heard.len());
        if self.heard[..both] == start[..both] {
            self.frame(naive::reply::line(self.heard, REPLIES));
        }
    }

    fn stats(&mut self) {
        let mut at = 0;
        while let Frame::Line { total } = naive::reply::line(&self.heard[at..], REPLIES) {
            let is_counter = self.heard[at..].starts_with(b"STAT ");
            at += total;
            if !is_counter {
                return self.lengths.push(at);
            }
        }
        self.partial = Some(Verdict::SoFar);
    }

    fn form(&mut self, form: &Form) {
        match form {
            Form::Line => self.line(b""),
            Form::Meta { raw_key } => {
                let raw_key = if raw_key.contains(&b'\n') { &raw_key[..] } else { b"" };
                self.frame(naive::reply::meta(self.heard, raw_key, REPLIES));
            }
            Form::Packet { opcode, opaque } => self.packet(*opcode, opaque),
        }
    }

    /// What the proxy says for a backend.
    fn failure(&mut self, form: &Form, quiet: bool) {
        match form {
            Form::Line if quiet => self.lengths.push(0),
            Form::Line | Form::Meta { .. } => self.line(b"SERVER_ERROR "),
            Form::Packet { opcode, opaque } => {
                if self.heard.len() < 8 || self.heard[6..8] == [0, 0x86] {
                    self.packet(*opcode, opaque);
                }
            }
        }
    }

    fn packet(&mut self, opcode: u8, opaque: &[u8]) {
        if self.heard.len() < 24 {
            self.partial = Some(Verdict::SoFar);
        } else if self.heard[1] == opcode && self.heard[12..16] == *opaque {
            self.any_packet();
        }
    }

    fn any_packet(&mut self) {
        match naive::reply::binary(self.heard, REPLIES) {
            Ok(header) => self.lengths.push(24 + header.body),
            Err(frame) => self.frame(frame),
        }
    }

    fn packets(&mut self, opcode: u8, opaque: &[u8; 4]) {
        let mut at = 0;
        while let Ok(header) = naive::reply::binary(&self.heard[at..], REPLIES) {
            let is_ours = self.heard[at + 1] == opcode && self.heard[at + 12..at + 16] == *opaque;
            at += 24 + header.body;
            if !is_ours {
                return;
            }
            if header.key == 0 {
                return self.lengths.push(at);
            }
        }
        self.partial = Some(Verdict::SoFar);
    }

    /// Values of the keys asked for, in their order, and END; or one error in place of all.
    fn values(&mut self, keys: &[Key], refusal: Option<&[u8]>, trouble: &Trouble) {
        let is_hostile = keys.iter().any(|key| trouble.hostile[key.owner]);
        if keys.iter().any(|key| trouble.failing[key.owner] || trouble.hostile[key.owner]) {
            let starts: &[&[u8]] =
                if is_hostile { &[b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR"] } else { &[b"SERVER_ERROR "] };
            starts.iter().for_each(|start| self.line(start));
        }
        if let Some(refusal) = refusal {
            return self.bytes(refusal);
        }
        let (mut at, mut next) = (0, 0);
        loop {
            let rest = &self.heard[at..];
            match naive::reply::values(rest, REPLIES) {
                Frame::Value { line, total, .. } => {
                    let name = rest[..line].split(|&byte| byte == b' ').nth(1).unwrap_or_default();
                    let Some(skipped) = keys[next..].iter().position(|key| key.key == name) else { return };
                    let key = &keys[next + skipped];
                    let is_right = trouble.hostile[key.owner] || key.value.as_deref() == Some(&rest[..total]);
                    if !is_right || !all_missing(&keys[next..next + skipped], trouble) {
                        return;
                    }
                    (at, next) = (at + total, next + skipped + 1);
                }
                Frame::End { total } => {
                    if all_missing(&keys[next..], trouble) {
                        self.lengths.push(at + total);
                    }
                    return;
                }
                Frame::Partial { .. } => {
                    let whole = rest.is_empty() && keys.len() > 1;
                    self.partial = Some(if whole { Verdict::Cut } else { Verdict::SoFar });
                    return;
                }
                Frame::Line { .. } | Frame::Broken => return,
            }
        }
    }
}

/// None of these keys can have a value.
fn all_missing(keys: &[Key], trouble: &Trouble) -> bool {
    keys.iter().all(|key| key.value.is_none() || trouble.hostile[key.owner])
}
