//! Frames in pieces, answers in turns.

use super::*;

const NOW: Clock = Clock(1_700_000_000);

fn store() -> Store {
    Store::new(64 << 20, NOW)
}

/// Gives `pieces` to a new session and collects what it says, turn by turn; and how it ends.
fn run<'a>(store: &mut Store, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Then) {
    let mut session = Session::new();
    let mut all = Vec::new();
    let mut then = Then::Open;
    for piece in pieces {
        let mut piece = piece;
        loop {
            let mut out = Vec::new();
            then = session.receive(piece, store, NOW, &mut out);
            assert!(out.len() < TURN_BYTES + LIMITS.value_max + 1000, "a turn of {} bytes", out.len());
            all.extend(out);
            match then {
                Then::Open => break,
                Then::Close => return (all, then),
                Then::Full => piece = b"",
            }
        }
    }
    (all, then)
}

fn binary(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut frame = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
    frame.extend(body.to_be_bytes());
    frame.extend([0; 12]);
    [frame, extras.to_vec(), key.to_vec(), value.to_vec()].concat()
}

#[test]
fn every_split_gives_the_same_answers() {
    let lines = b"set a 1 0 3\r\nabc\r\ngets a b\r\nms b 2 c\r\nxy\r\nmg b v\r\nget a\nbad\r\nset a 0 0 1\r\nlong\r\n\
        set a 0 0 2000000\r\nincr b 1\r\nmn\r\n";
    let mut lines = lines.to_vec();
    // What is too large is swallowed, here with the lines behind it as a part of it.
    lines.extend(vec![b'z'; 2_000_002 - b"incr b 1\r\nmn\r\n".len()]);
    lines.extend(b"version\r\n");
    let frames = [
        binary(1, &[0; 8], b"a", b"value"),
        binary(0x0c, b"", b"a", b""),
        binary(0x0e, b"", b"a", b"more"),
        binary(0x50, b"", b"", b""),
        binary(0, b"", b"a", b""),
        binary(0x0a, b"", b"", b""),
    ]
    .concat();
    for stream in [lines, frames] {
        let (whole, _) = run(&mut store(), [&stream[..]]);
        for split in 1..stream.len().min(300) {
            let (first, second) = stream.split_at(split);
            let (got, then) = run(&mut store(), [first, second]);
            assert!(got == whole, "split at {split}: {}, not {}", got.escape_ascii(), whole.escape_ascii());
            assert_eq!(then, Then::Open);
        }
        let (bytewise, _) = run(&mut store(), stream.chunks(1));
        assert!(bytewise == whole, "{}, not {}", bytewise.escape_ascii(), whole.escape_ascii());
    }
}

#[test]
fn pipelined_answers_come_in_turns() {
    let mut store = store();
    let value = vec![b'v'; 100_000];
    let set = [&b"set k 0 0 100000\r\n"[..], &value, b"\r\n"].concat();
    assert_eq!(run(&mut store, [&set[..]]).0, b"STORED\r\n");
    let gets = b"get k\r\n".repeat(500);
    let answer = [&b"VALUE k 0 100000\r\n"[..], &value, b"\r\nEND\r\n"].concat();
    assert!(run(&mut store, [&gets[..]]).0 == answer.repeat(500));
}

#[test]
fn a_get_of_many_keys_comes_in_turns() {
    let mut store = store();
    let value = vec![b'v'; 100_000];
    let set = [&b"set k 0 0 100000\r\n"[..], &value, b"\r\n"].concat();
    run(&mut store, [&set[..]]);
    let line = [b"get".to_vec(), b" k  miss".repeat(300), b"\r\nmn\r\n".to_vec()].concat();
    let one = [&b"VALUE k 0 100000\r\n"[..], &value, b"\r\n"].concat();
    let expected = [one.repeat(300), b"END\r\nMN\r\n".to_vec()].concat();
    assert!(run(&mut store, [&line[..]]).0 == expected);
    // A key that is too long spoils the answer, however late it comes.
    let line =
        [b"get".to_vec(), b" k".repeat(300), b" ".to_vec(), vec![b'x'; 251], b"\r\n".to_vec()].concat();
    assert_eq!(run(&mut store, [&line[..]]).0, b"CLIENT_ERROR bad command line format\r\n");
}

#[test]
fn nothing_is_done_after_the_end() {
    let mut store = store();
    let (out, then) = run(&mut store, [&b"version\r\nquit\r\nset a 0 0 1\r\n1\r\n"[..]]);
    assert_eq!((&out[..], then), (&b"VERSION 1.6.18\r\n"[..], Then::Close));
    assert_eq!(store.items(), 0);
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let mut store = store();
    let mut session = Session::new();
    let mut out = Vec::new();
    let set = [&b"set k 0 0 500000\r\n"[..], &[b'v'; 500_000], b"\r\n"].concat();
    for piece in set.chunks(10_000) {
        assert_eq!(session.receive(piece, &mut store, NOW, &mut out), Then::Open);
    }
    assert_eq!(out, b"STORED\r\n");
    assert!(session.unread.capacity() <= KEPT_ROOM);
}

#[test]
fn both_protocols_print_the_same_counters() {
    let mut store = store();
    let lines = run(&mut store, [&b"stats\r\n"[..]]).0;
    let lines = String::from_utf8(lines).expect("text");
    let expected: Vec<(String, String)> = lines
        .lines()
        .filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut frames = &run(&mut store, [&binary(0x10, b"", b"", b"")[..]]).0[..];
    let mut got = Vec::new();
    while let Some((header, rest)) = frames.split_first_chunk::<24>() {
        assert_eq!(header[..2], [0x81, 0x10]);
        let (name, rest) = rest.split_at(usize::from(header[3]));
        let (value, rest) = rest.split_at(usize::from(header[11]) - name.len());
        frames = rest;
        got.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
    }
    assert_eq!(got.pop(), Some((String::new(), String::new())), "the end is an empty one");
    assert!(expected.len() > 20);
    assert_eq!(got, expected);
}

#[test]
fn what_only_a_memcached_has_is_refused() {
    let (out, then) = run(&mut store(), [&b"lru_crawler crawl all\r\nstats items\r\n"[..]]);
    assert_eq!(out, b"SERVER_ERROR an embedded backend has no such command\r\nEND\r\n");
    assert_eq!(then, Then::Open);
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = 7u64;
    for start in [&b""[..], b"\x80"] {
        for _ in 0..2000 {
            let mut bytes = start.to_vec();
            for _ in 0..random % 200 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                bytes.push((random >> 56) as u8);
                if random >> 32 & 15 == 0 {
                    bytes.extend(
                        [&b"\r\n"[..], b" ", b"set a 0 0 1", b"mg a", b"\x80"][(random >> 40 & 3) as usize],
                    );
                }
            }
            random = random.wrapping_add(1).wrapping_mul(6364136223846793005);
            run(&mut store(), bytes.chunks(13));
        }
    }
}
