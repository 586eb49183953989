//! What may differ between two servers that do the same: the seconds that have gone by.

use super::requests::{Protocol, TTLS};

/// `reply` with the times taken out that depend on when a server's clock moves to the next second: the seconds
/// since the last use (`l`, `la=`), and the few by which a remaining time (`t`, `exp=`) has gone down. Those are
/// replaced by the time that was asked for.
pub(crate) fn form(protocol: Protocol, reply: &[u8]) -> Vec<u8> {
    if protocol == Protocol::Binary {
        return reply.to_vec();
    }
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in reply.split(|&byte| byte == b'\n') {
        lines.push(if is_meta(line) { meta_line(line) } else { line.to_vec() });
    }
    lines.join(&b'\n')
}

fn is_meta(line: &[u8]) -> bool {
    [&b"HD "[..], b"VA ", b"ME "].iter().any(|start| line.starts_with(start))
}

fn meta_line(line: &[u8]) -> Vec<u8> {
    let (text, end) = match line {
        [text @ .., b'\r'] => (text, &b"\r"[..]),
        _ => (line, &b""[..]),
    };
    let words: Vec<Vec<u8>> = text.split(|&byte| byte == b' ').map(word).collect();
    [words.join(&b' '), end.to_vec()].concat()
}

fn word(word: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(word).unwrap_or_default();
    let number = |start: &str| -> Option<i64> { text.strip_prefix(start)?.parse().ok() };
    if number("l").is_some() || number("la=").is_some() {
        return b"(seconds)".to_vec();
    }
    // `me` prints what has gone by since then, in 32 bits with a sign; -1 stands for never.
    let since = number("exp=").filter(|&seconds| seconds != -1);
    let left = since.map(|seconds| u64::from((seconds as u32).wrapping_neg()));
    match left.or(number("t").and_then(|seconds| u64::try_from(seconds).ok())) {
        Some(seconds) => format!("(of {})", asked_for(seconds)).into_bytes(),
        None => word.to_vec(),
    }
}

/// The expiry time that `seconds` are what is left of. One that lies in the past comes out as a huge number.
fn asked_for(seconds: u64) -> u64 {
    TTLS.iter().copied().filter(|&ttl| ttl >= seconds).min().unwrap_or(u64::MAX)
}

#[test]
fn only_times_are_replaced() {
    let form = |reply: &str| String::from_utf8(form(Protocol::Meta, reply.as_bytes())).unwrap();
    assert_eq!(form("HD t997 l3 c7 s1\r\n"), "HD (of 1000) (seconds) c7 s1\r\n");
    assert_eq!(form("VA 3 t-1 O12\r\nt99\r\n"), "VA 3 t-1 O12\r\nt99\r\n");
    assert_eq!(form("ME a exp=-1 la=0 cas=2\r\n"), "ME a exp=-1 (seconds) cas=2\r\n");
    assert_eq!(form("ME a exp=-999 la=0 cas=2\r\n"), "ME a (of 1000) (seconds) cas=2\r\n");
    assert_eq!(form("ME a exp=1795348184 la=0 cas=2\r\n"), "ME a (of 3000000000) (seconds) cas=2\r\n");
    assert_eq!(form("VALUE t 1 3\r\nabc\r\nEND\r\n"), "VALUE t 1 3\r\nabc\r\nEND\r\n");
}
