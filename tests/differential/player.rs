//! Plays one stream to one server, and compares what two servers made of it.

use std::net::SocketAddr;

use crate::normal::normalise;
use crate::stream::{Ending, Segment, Stream, Tokens};
use crate::support::binary::Frame;
use crate::support::client::Client;
use crate::support::inbox::Shortfall;
use crate::support::random::Random;
use crate::support::report::{difference, escape};

/// How a segment is cut into writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cuts {
    /// One write.
    Whole,
    /// At this many places, chosen by the seed.
    Random { seed: u64, count: usize },
    /// Once, behind this many bytes.
    At(usize),
    /// Every byte alone.
    EveryByte,
}

/// A server, and whether its CAS tokens may differ from the reference's.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// For reports.
    pub(crate) name: &'a str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Several backends count for themselves.
    pub(crate) hide_tokens: bool,
}

/// What came back: for each segment the replies as they were, and how the stream ended.
#[derive(Clone, Default)]
pub(crate) struct Transcript {
    replies: Vec<Vec<u8>>,
    normal: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    ended: Option<bool>,
    trouble: Option<String>,
}

/// Plays `stream` on a connection of its own.
pub(crate) fn play(subject: Subject, stream: &Stream, cuts: Cuts) -> Transcript {
    let client = Client::connect(subject.address);
    let mut transcript = Transcript::default();
    let mut tokens = Tokens::new();
    for (index, segment) in stream.segments.iter().enumerate() {
        let (mark, answer) = mark(stream, index);
        let mut bytes: Vec<u8> = segment.iter().flat_map(|request| request.render(&tokens)).collect();
        bytes.extend_from_slice(&mark);
        client.send_in_pieces(&bytes, &places(cuts, bytes.len()));
        let outcome = client.inbox.take_until(&answer);
        transcript.note(bytes, outcome, segment, (stream, subject.hide_tokens), &mut tokens);
        if transcript.trouble.is_some() {
            return transcript;
        }
    }
    transcript.finish(&client, stream, subject.hide_tokens, &mut tokens);
    transcript
}

impl Transcript {
    fn note(
        &mut self,
        sent: Vec<u8>,
        outcome: Result<Vec<u8>, Shortfall>,
        segment: &Segment,
        (stream, hide): (&Stream, bool),
        tokens: &mut Tokens,
    ) {
        let replies = match outcome {
            Ok(replies) => replies,
            Err(shortfall) => {
                let end = shortfall.end;
                self.trouble =
                    Some(format!("no answer to the mark at the segment's end; connection: {end:?}"));
                shortfall.got
            }
        };
        self.normal.push(normalise(stream, &replies, segment, hide, tokens));
        self.replies.push(replies);
        self.sent.push(sent);
    }

    fn finish(&mut self, client: &Client, stream: &Stream, hide: bool, tokens: &mut Tokens) {
        let last = match &stream.ending {
            Ending::Leave => return,
            Ending::Sent(bytes) => {
                client.send(bytes);
                bytes
            }
            Ending::HalfClosed(bytes) => {
                client.send(bytes);
                client.half_close();
                bytes
            }
        };
        let outcome = client.inbox.take_to_end();
        self.ended = Some(outcome.is_ok());
        let replies = outcome.map(|(replies, _)| replies).unwrap_or_else(|shortfall| shortfall.got);
        self.normal.push(normalise(stream, &replies, &Vec::new(), hide, tokens));
        self.replies.push(replies);
        self.sent.push(last.clone());
    }

    /// The same as if tokens might differ.
    pub(crate) fn with_tokens_hidden(&self, stream: &Stream) -> Transcript {
        let mut hidden = self.clone();
        for (normal, replies) in hidden.normal.iter_mut().zip(&self.replies) {
            *normal = normalise(stream, replies, &Vec::new(), true, &mut Tokens::new());
        }
        hidden
    }

    /// Replies to each segment, as they were.
    pub(crate) fn replies(&self) -> &[Vec<u8>] {
        &self.replies
    }

    /// What was amiss with the stream itself, for the reference: then the test is wrong, not the subject.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = match (&self.trouble, self.ended) {
            (Some(trouble), _) => trouble.clone(),
            (None, Some(false)) => "the connection stays open at the end".to_owned(),
            _ => return None,
        };
        let (sent, got) = (self.sent.last()?, self.replies.last()?);
        Some(format!("{trouble}\n  sent: {}\n  got:  {}", escape(sent), escape(got)))
    }

    /// Where `self` parts from what the reference answered.
    pub(crate) fn differs_from(&self, reference: &Transcript) -> Option<String> {
        for (index, expected) in reference.normal.iter().enumerate() {
            let nothing = Vec::new();
            let got = self.normal.get(index).unwrap_or(&nothing);
            let same_end = index + 1 < reference.normal.len() || self.ended == reference.ended;
            let Some(text) = difference(expected, got).or((!same_end).then(String::new)) else { continue };
            let bytes = self.sent.get(index).unwrap_or(&nothing);
            let (sent, kept) = (escape(bytes), keep_segment(bytes));
            let trouble = self.trouble.as_deref().unwrap_or_default();
            let ends = format!("{:?}, expected {:?}", self.ended, reference.ended);
            let (expected, got) = (escape(expected), escape(got));
            return Some(format!(
                "segment {index} (its bytes: {kept}): {trouble}\n{text}\n  ended by the server: {ends}\n  \
                 sent: {sent}\n  expected: {expected}\n  got:      {got}"
            ));
        }
        None
    }
}

/// Writes a segment that went wrong to a file, for a look at all of it; gives the file's name.
fn keep_segment(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let path = format!("{}/segment-{sum:08x}", env!("CARGO_TARGET_TMPDIR"));
    match std::fs::write(&path, bytes) {
        Ok(()) => path,
        Err(error) => format!("{path}: {error}"),
    }
}

/// A request at the end of a segment whose answer occurs nowhere else, and that answer.
fn mark(stream: &Stream, segment: usize) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random::new(stream.mark ^ segment as u64);
    let unique = random.next();
    if stream.binary {
        const NOOP: u8 = 0x0a;
        let opaque = unique as u32 | 0x8000_0000;
        (Frame::request(NOOP, opaque).bytes(), Frame::reply(NOOP, 0, opaque).bytes())
    } else {
        let opaque = format!("mark{unique:016x}");
        (format!("mg the-mark O{opaque}\r\n").into_bytes(), format!("EN O{opaque}\r\n").into_bytes())
    }
}

fn places(cuts: Cuts, length: usize) -> Vec<usize> {
    match cuts {
        Cuts::Whole => Vec::new(),
        Cuts::At(place) => vec![place],
        Cuts::EveryByte => (1..length).collect(),
        Cuts::Random { seed, count } => {
            let mut random = Random::new(seed);
            let mut places: Vec<usize> = (0..count).map(|_| random.below(length)).collect();
            places.sort_unstable();
            places.dedup();
            places
        }
    }
}
