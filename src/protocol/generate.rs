//! Random requests for tests: well-formed ones, ones with a fault, mutated ones and noise. The tests that
//! compare with a real memcached include this file too.

/// xorshift64*: small, seeded, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // A splitmix step, so that seeds 1, 2, 3 begin differently; zero would stay zero.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 32) as usize * bound) >> 32
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// What the random requests may hold.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    /// Anything: lengths of gigabytes, commands about the server, lines of any length.
    All,
    /// No line that memcached's patience for unfinished lines could end.
    Splittable,
    /// What a real memcached can be asked a thousand times: no lengths of gigabytes, nothing about the
    /// server, no line that it would take only in one piece.
    Real,
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "5",
    "007",
    "+3",
    "-1",
    "-0",
    "-",
    "+",
    "abc",
    "7x",
    "0x10",
    "1.5",
    "\t2",
    "2\t",
    "2\tjunk",
    "2\r",
    "\x0b4",
    "4\x0c",
    "2147483645",
    "2147483646",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "4294967301",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-18446744073709551615",
    "-9223372036854775808",
    "noreply",
    "99999999999999999999999999999999999999",
    "00000000000000000000000000000000000000000000000001",
];

const WORDS: &[&str] =
    &["noreply", "0", "1", "foo", "HTTP/1.1", "reset", "-", "b", "\t", "\x7f", "\u{fc}", "\r"];

const TEXT_VERBS: &[&str] = &[
    "get",
    "gets",
    "bget",
    "gat",
    "gats",
    "set",
    "add",
    "replace",
    "append",
    "prepend",
    "cas",
    "incr",
    "decr",
    "touch",
    "delete",
    "verbosity",
    "version",
    "GET",
    "getx",
    "xyz",
    "POST",
    "m",
    "g",
    "mx",
    "mxx",
    "shutdown",
];

const SERVER_VERBS: &[&str] = &[
    "stats",
    "slabs",
    "lru_crawler",
    "lru",
    "watch",
    "cache_memlimit",
    "extstore",
    "refresh_certs",
    "flush_all",
    "quit",
    "misbehave",
];

const SUBCOMMANDS: &[&str] = &[
    "reassign", "automove", "crawl", "metadump", "tocrawl", "sleep", "enable", "disable", "tune", "mode",
    "temp_ttl", "items", "all",
];

fn number(random: &mut Random) -> Vec<u8> {
    if random.once_in(3) { random.pick(NUMBERS).into() } else { random.below(100).to_string().into_bytes() }
}

fn key(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => vec![b'k'; 249 + random.below(3)],
        1 => (0..1 + random.below(20)).map(|_| 0x21 + random.below(0xdf) as u8).collect(),
        2 => random.pick(NUMBERS).into(),
        _ => format!("key{}", random.below(5)).into_bytes(),
    }
}

/// `get` or `gets` of one key as clients write it, and perhaps what follows.
pub(crate) fn plain_get(random: &mut Random) -> Vec<u8> {
    let verb = random.pick(&["get ", "get ", "gets "]);
    let key = match random.below(3) {
        0 => key(random),
        _ => vec![b'k'; 1 + random.below(50)],
    };
    let behind = random.pick(&["", "", "get k", "mn\r\n"]);
    [verb.as_bytes(), &key, b"\r\n", behind.as_bytes()].concat()
}

fn base64_key(random: &mut Random) -> Vec<u8> {
    const SYMBOLS: &[u8] = b"ABCabcxyz019+/==*-";
    match random.below(3) {
        0 => (0..1 + random.below(12)).map(|_| SYMBOLS[random.below(SYMBOLS.len())]).collect(),
        _ => random.pick(&["YWJj", "YWI=", "YQ==", "AAAA", "gP8="]).into(),
    }
}

/// Words, the runs of spaces between them, now and then a NUL, and a line end.
fn line(random: &mut Random, words: &[Vec<u8>]) -> Vec<u8> {
    let mut line = vec![b' '; if random.once_in(20) { random.below(3) } else { 0 }];
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            line.extend(vec![b' '; 1 + if random.once_in(10) { random.below(3) } else { 0 }]);
        }
        line.extend(word);
    }
    line.extend(vec![b' '; if random.once_in(10) { random.below(3) } else { 0 }]);
    if random.once_in(60) {
        let at = random.below(line.len() + 1);
        line.insert(at, 0);
    }
    line.extend_from_slice(
        random.pick::<[u8]>(&[b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"]),
    );
    line
}

/// A value's length as written, and what is sent for it: mostly that many bytes and CR LF.
fn value(random: &mut Random, scope: Scope) -> (Vec<u8>, Vec<u8>) {
    let length = match random.below(100) {
        0 if scope == Scope::Splittable => 500,
        0 => 4000 + random.below(200),
        1..=10 => 0,
        _ => random.below(20),
    };
    let mut written = length.to_string().into_bytes();
    let mut value: Vec<u8> = match random.below(3) {
        0 => b"mn\r\nversion\r\nincr key1 1\r\n".iter().copied().cycle().take(length).collect(),
        _ => (0..length).map(|_| b'a' + random.below(26) as u8).collect(),
    };
    match random.below(16) {
        0 => value.push(b'x'),
        1 => drop(value.pop()),
        2 => written = number(random),
        3 if scope == Scope::All => written = (900 + random.below(300)).to_string().into_bytes(),
        4 => written.extend_from_slice(b"\tjunk"),
        _ => {}
    }
    // A real server would wait for it.
    let gigabytes = written.iter().filter(|byte| byte.is_ascii_digit()).count() > 6;
    if scope == Scope::Real && gigabytes {
        written = b"2147483646".to_vec();
    }
    value.extend_from_slice(if random.once_in(30) { b"\n" } else { b"\r\n" });
    (written, value)
}

/// A classic text request with its value.
pub(crate) fn text_request(random: &mut Random, scope: Scope) -> Vec<u8> {
    let verb = if scope != Scope::Real && random.once_in(5) {
        random.pick(SERVER_VERBS)
    } else {
        random.pick(TEXT_VERBS)
    };
    let mut words = vec![verb.as_bytes().to_vec()];
    let mut data = Vec::new();
    match verb {
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
            let (written, value) = value(random, scope);
            words.extend([key(random), number(random), number(random), written]);
            if verb == "cas" {
                words.push(number(random));
            }
            data = value;
        }
        "incr" | "decr" | "touch" => words.extend([key(random), number(random)]),
        "gat" | "gats" => words.push(number(random)),
        "delete" => words.push(key(random)),
        "verbosity" => words.push(random.pick(&["0", "0", "x", "-0", "0\tx"]).into()),
        _ if SERVER_VERBS.contains(&verb) && random.once_in(2) => words.push(random.pick(SUBCOMMANDS).into()),
        _ => {}
    }
    if verb.starts_with('g') {
        let count = if random.once_in(10) { 20 + random.below(10) } else { random.below(4) };
        words.extend((0..count).map(|index| if index < 4 { key(random) } else { b"k".to_vec() }));
        if scope == Scope::Real {
            words.iter_mut().for_each(|word| word.truncate(240));
        }
    }
    disturb(random, &mut words);
    let mut request = line(random, &words);
    request.extend(data);
    request
}

/// Now and then words too few, too many, or a wish for silence.
fn disturb(random: &mut Random, words: &mut Vec<Vec<u8>>) {
    match random.below(10) {
        0 => drop(words.pop()),
        1..=3 => words.push(b"noreply".to_vec()),
        4 => {
            let count = if random.once_in(4) { 25 } else { 1 + random.below(3) };
            words.extend((0..count).map(|_| random.pick(WORDS).as_bytes().to_vec()));
        }
        _ => {}
    }
}

/// A storage or meta command as clients write it.
pub(crate) fn plain_request(random: &mut Random) -> Vec<u8> {
    let key = match random.below(3) {
        0 => vec![b'k'; 1 + random.below(60)],
        _ => key(random),
    };
    let mut data = vec![b'v'; [0, 1, 9, 10, 100, 999][random.below(6)] + random.below(2)];
    data.extend_from_slice(b"\r\n");
    let length = (data.len() - 2).to_string();
    let numbers = &["0", "1", "9", "10", "300", "999", "1000", "86400", "2147483647", "4294967295"];
    let number = |random: &mut Random| random.pick(numbers).to_string();
    let mut words = vec![String::from_utf8_lossy(&key).into_owned()];
    let verb =
        random.pick(&["set", "set", "add", "replace", "append", "prepend", "cas", "mg", "ms", "md", "ma"]);
    if let Some(meta) = verb.strip_prefix('m') {
        words.extend((meta == "s").then_some(length));
        let flags =
            &["s", "v", "t", "c", "f", "k", "q", "O12", "T30", "N0", "J1", "C99", "MS", "F8", "I", "h", "l"];
        words.extend((0..random.below(5)).map(|_| random.pick(flags).to_string()));
    } else {
        words.extend([number(random), number(random), length]);
        words.extend((verb == "cas").then(|| number(random)));
        words.extend(random.once_in(4).then(|| "noreply".to_string()));
    }
    let line = format!("{verb} {}\r\n", words.join(" "));
    let with_data = !verb.starts_with('m') || verb == "ms";
    [line.as_bytes(), if with_data { &data } else { b"" }].concat()
}

fn flag(random: &mut Random, scope: Scope) -> Vec<u8> {
    const KNOWN: &[u8] = b"bcCDEFIJLMNOPRTfhklqstuvx";
    let letter = match random.below(40) {
        0 => 1 + random.below(255) as u8,
        1 => b'b',
        2 => b'q',
        _ => KNOWN[random.below(KNOWN.len())],
    };
    // 1.6.18 does not know these two, so what it says to a line with one more fault is another matter.
    let letter = if scope == Scope::Real && matches!(letter, b'E' | b'x') { b'k' } else { letter };
    let mut flag = if matches!(letter, 0 | b' ' | b'\n') { vec![b'k'] } else { vec![letter] };
    let token = match letter {
        b'M' => random.pick(&["S", "E", "A", "P", "R", "I", "+", "D", "-", "x", "", "set", "e"]).into(),
        b'O' if random.once_in(4) => vec![b'o'; 29 + random.below(4)],
        b'T' | b'N' | b'R' | b'C' | b'F' | b'D' | b'J' | b'E' if !random.once_in(8) => {
            random.below(1000).to_string().into_bytes()
        }
        b'T' | b'N' | b'R' | b'C' | b'F' | b'D' | b'J' | b'E' | b'O' => number(random),
        _ if random.once_in(200) && scope == Scope::All => vec![b'z'; 1900 + random.below(200)],
        _ if random.once_in(20) => b"zz".to_vec(),
        _ => Vec::new(),
    };
    flag.extend(token);
    flag
}

/// A meta request with its value. Flags mostly differ, as they must.
pub(crate) fn meta_request(random: &mut Random, verb: &str, scope: Scope) -> Vec<u8> {
    let mut words = vec![verb.as_bytes().to_vec()];
    let base64 = random.once_in(4);
    words.push(if base64 { base64_key(random) } else { key(random) });
    let mut data = Vec::new();
    if verb == "ms" {
        let (written, value) = value(random, scope);
        words.push(written);
        data = value;
    }
    let fixed = words.len();
    if base64 {
        words.push(b"b".to_vec());
    }
    let count = if random.once_in(12) { 12 + random.below(14) } else { random.below(5) };
    for _ in 0..count {
        let flag = flag(random, scope);
        let known = words[fixed..].iter().any(|other| other[0] == flag[0]);
        if !known || random.once_in(30) {
            words.push(flag);
        }
    }
    if random.once_in(30) {
        words.pop();
    }
    let mut request = line(random, &words);
    request.extend(data);
    request
}

/// Any text or meta request.
pub(crate) fn request(random: &mut Random, scope: Scope) -> Vec<u8> {
    match random.below(12) {
        0..=4 => text_request(random, scope),
        5..=7 => meta_request(random, "ms", scope),
        8 => meta_request(random, "mg", scope),
        9 => meta_request(random, "md", scope),
        10 => meta_request(random, "ma", scope),
        _ => {
            let verb = random.pick(&["me", "mn", "mn"]);
            meta_request(random, verb, scope)
        }
    }
}

/// A binary request: lengths mostly right for its opcode.
pub(crate) fn binary_request(random: &mut Random, scope: Scope) -> Vec<u8> {
    let opcode = match random.below(10) {
        0 => random.below(256) as u8,
        _ => random.below(0x25) as u8,
    };
    // A Stat has many answers.
    let opcode = if scope == Scope::Real && opcode == 0x10 { 0x00 } else { opcode };
    let (extras, mut key_bytes, value) = match opcode {
        0x01..=0x03 | 0x11..=0x13 => (8, 3, random.below(12)),
        0x05 | 0x06 | 0x15 | 0x16 => (20, 3, 0),
        0x0e | 0x0f | 0x19 | 0x1a => (0, 3, random.below(12)),
        0x1c..=0x1e | 0x23 | 0x24 => (4, 3, 0),
        0x08 | 0x18 => (4 * random.below(2), 0, 0),
        0x07 | 0x0a | 0x0b | 0x17 | 0x20 => (0, 0, 0),
        _ => (0, 3, 0),
    };
    if key_bytes > 0 && random.once_in(30) {
        key_bytes = 249 + random.below(4);
    }
    let mut body: Vec<u8> = vec![0; extras];
    body.extend((0..key_bytes).map(|_| b'a' + random.below(3) as u8));
    body.extend((0..value).map(|_| random.next() as u8));
    let mut header = vec![0x80, opcode];
    header.extend((key_bytes as u16).to_be_bytes());
    header.extend([extras as u8, 0, 0, 0]);
    header.extend((body.len() as u32).to_be_bytes());
    header.extend((random.next() as u32).to_be_bytes());
    header.extend((if random.once_in(4) { random.below(50) as u64 } else { 0 }).to_be_bytes());
    match random.below(40) {
        0 => header[2] = random.below(2) as u8,
        1 => header[3] = header[3].wrapping_add(random.below(5) as u8),
        2 => header[4] = random.below(30) as u8,
        3 => header[11] = header[11].wrapping_add(random.below(9) as u8).wrapping_sub(4),
        4 => header[10] = random.below(if scope == Scope::Real { 2 } else { 256 }) as u8,
        5 if scope != Scope::Real => header[8] = random.next() as u8,
        6 => header[0] = random.next() as u8,
        _ => {}
    }
    header.extend(body);
    header
}

/// A few bytes changed, lost, doubled or put in.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const BYTES: &[u8] = b" \r\n\t\0 09akq-=\x7f\x80\xff";
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() + 1);
        let byte = BYTES[random.below(BYTES.len())];
        match (random.below(4), at < bytes.len()) {
            (0, true) => bytes[at] = byte,
            (1, true) => drop(bytes.remove(at)),
            (2, true) => bytes.extend_from_within(at..bytes.len().min(at + 16)),
            _ => bytes.insert(at, byte),
        }
    }
}

/// Bytes that mean nothing, out of those that mean something.
pub(crate) fn noise(random: &mut Random) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "get ", "gets ", "set ", "ms ", "mg ", "k", " ", "\r\n", "\n", "\r", "\0", "0", "1", "noreply", "b",
        "q", "\u{80}", "\u{81}", "0 0 2", "HTTP/", "mn", "  ",
    ];
    (0..random.below(20))
        .flat_map(|_| match random.below(4) {
            0 => vec![random.next() as u8],
            _ => random.pick(PIECES).as_bytes().to_vec(),
        })
        .collect()
}
