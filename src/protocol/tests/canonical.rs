//! Canonical requests: a backend may be sent the bytes of the client only if they are those that we would
//! have written.

use super::super::generate::{self, Random, Scope};
use super::super::meta::Meta;
use super::super::naive::{self, sent};
use super::super::text::{self, Request, Step, Store};
use super::LIMITS;

/// A parser of text whose word on what is canonical is looked at.
type TextParser<'p> = &'p dyn for<'a> Fn(&'a [u8]) -> Step<'a>;

fn parse(input: &[u8]) -> Step<'_> {
    text::parse(input, 0, &LIMITS)
}

/// Where the quick way and the slow one differ, or what is sent is not the request that the oracle has read.
/// `Ok` says whether the client's own bytes are sent.
fn judge(input: &[u8], parse: TextParser) -> Result<bool, String> {
    sent::text(input, &parse(input), &LIMITS).map(|sent| sent.is_some_and(|sent| sent.copied))
}

/// A request as clients write it, or any other, and often a fault in it.
fn request(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut request = match random.below(4) {
        0 => generate::request(&mut random, Scope::All),
        _ => generate::plain_request(&mut random),
    };
    if random.once_in(2) {
        generate::mutate(&mut random, &mut request);
    }
    request.extend_from_slice(random.pick::<[u8]>(&[b"", b"get k\r\n", b"\r\n"]));
    request
}

const REPEAT: &str = "repeat: cargo test --lib protocol::tests::canonical";

#[test]
fn canonical_requests_are_sent_as_they_are() {
    let mut copied = 0;
    for seed in 0..100_000 {
        match judge(&request(seed), &parse) {
            Ok(as_is) => copied += usize::from(as_is),
            Err(fault) => panic!("seed {seed}: {fault}\n{REPEAT}"),
        }
    }
    assert!(copied > 30_000, "only {copied} were canonical");
}

/// One byte of a canonical request at a time is changed, lost or doubled.
#[test]
fn nothing_next_to_a_canonical_request_is_one_by_mistake() {
    let mut canonical = 0;
    for plain in PLAIN {
        assert_eq!(judge(plain, &parse), Ok(!plain.ends_with(QUIET) && !plain.contains(&b'q')), "{plain:?}");
        for at in 0..plain.len() {
            let (before, after) = plain.split_at(at);
            let changed = (0..=255).map(|byte| [before, &[byte], &after[1..]].concat());
            let put_in = (0..=255).map(|byte| [before, &[byte], after].concat());
            let lost = std::iter::once([before, &after[1..]].concat());
            for input in changed.chain(put_in).chain(lost) {
                match judge(&input, &parse) {
                    Ok(as_is) => canonical += usize::from(as_is),
                    Err(fault) => panic!("{fault}\n{REPEAT}"),
                }
            }
        }
    }
    assert!(canonical > 50_000, "only {canonical} were canonical");
}

const QUIET: &[u8] = b" noreply\r\nabc\r\n";

const PLAIN: &[&[u8]] = &[
    b"set key 0 0 3\r\nabc\r\n",
    b"set key 7 86400 12\r\nabcdefghijkl\r\n",
    b"set key 0 0 3 noreply\r\nabc\r\n",
    b"add key 4294967295 2147483647 3\r\nabc\r\n",
    b"replace key 10 1 0\r\n\r\n",
    b"append a_key_of_some_31_bytes_and_no_sp 0 0 3\r\nabc\r\n",
    b"prepend key 0 999 3\r\nabc\r\n",
    b"cas key 0 1000 3 17\r\nabc\r\n",
    b"cas key 0 0 3 18446744073709551615\r\nabc\r\n",
    b"mg key\r\n",
    b"mg key s v t\r\n",
    b"mg key t v N30 Oabc k\r\n",
    b"mg key v q k\r\n",
    b"mg key q\r\n",
    b"md key q I T30\r\n",
    b"ma key N0 J13 D1 t v MD\r\n",
    b"ms key 3 T90 c MS F7 q\r\nabc\r\n",
    b"ms a_key_of_some_31_bytes_and_no_sp 50 C12345\r\n\
      01234567890123456789012345678901234567890123456789\r\n",
];

/// A parser that takes every request for canonical.
#[test]
fn canary_false_canonical_requests_are_seen() {
    fn liar(input: &[u8]) -> Step<'_> {
        match parse(input) {
            Step::Request(Request::Store(store), bytes) => {
                Step::Request(Request::Store(Store { canonical: true, ..store }), bytes)
            }
            Step::Request(Request::Meta(meta), bytes) => {
                Step::Request(Request::Meta(Meta { canonical: true, ..meta }), bytes)
            }
            other => other,
        }
    }
    let seen = (0..20_000).filter(|&seed| judge(&request(seed), &liar).is_err()).count();
    assert!(seen > 300, "only {seen} were seen");
}

/// The ways around [`text::parse`] say what it says.
#[test]
fn plain_requests_are_what_the_oracle_reads() {
    let (mut stores, mut metas) = (0, 0);
    for seed in 0..100_000 {
        let input = request(seed);
        let plain =
            match (text::plain_store(&input, LIMITS.value_max), text::plain_meta(&input, LIMITS.value_max)) {
                (Some((store, total)), None) => Step::Request(Request::Store(store), total),
                (None, Some((meta, total))) => Step::Request(Request::Meta(meta), total),
                (None, None) => continue,
                both => panic!("seed {seed}: {both:?}"),
            };
        match plain {
            Step::Request(Request::Store(_), _) => stores += 1,
            _ => metas += 1,
        }
        let shown = format!("seed {seed}: \"{}\"\n{REPEAT}", input.escape_ascii());
        assert_eq!(naive::parse_text(&input, &LIMITS), plain.into(), "{shown}");
    }
    assert!(stores > 15_000 && metas > 15_000, "only {stores} stores and {metas} metas were plain");
}

/// Behind a new header the rest of a binary request is copied: the same as what is written from its parts.
#[test]
fn binary_requests_are_sent_as_they_were_read() {
    let mut sent = 0;
    for seed in 0..100_000 {
        let mut random = Random::new(seed);
        let mut input = generate::binary_request(&mut random, Scope::All);
        if random.once_in(2) {
            generate::mutate(&mut random, &mut input);
        }
        match sent::binary(&input, LIMITS.value_max, random.next() as u32) {
            Ok(bytes) => sent += usize::from(bytes.is_some()),
            Err(fault) => panic!("seed {seed}: {fault}\n{REPEAT}"),
        }
    }
    assert!(sent > 40_000, "only {sent} were requests");
}
