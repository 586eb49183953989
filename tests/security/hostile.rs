//! Requests made to bring a shared link out of step.

use super::oracle::Watched;
use super::support::binary::Frame;
use super::support::random::Random;
use super::support::report::{SEED_VARIABLE, escape, seed_from_environment};

#[allow(dead_code)]
#[path = "../../src/protocol/generate.rs"]
mod generate;

/// Random streams of each kind.
const STREAMS: u64 = 150;

/// Numbers as a length, a token, a time and so on: beyond their 32 and 64 bits, with letters, signs and NULs.
const NUMBERS: &[&str] = &[
    "0",
    "5",
    "-1",
    "-0",
    "+5",
    "05",
    "7x",
    "x7",
    "0x5",
    "5.0",
    "5 5",
    "5\x005",
    "\x005",
    "5\t",
    "",
    "4294967296",
    "4294967301",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551621",
    "99999999999999999999999999999999999999999999999999",
    "00000000000000000000000000000000000000000000000005",
];

/// Where they stand. What follows the line is a value for a memcached that takes the number as 5, and
/// commands for one that does not.
const PLACES: &[&str] = &[
    "set key 0 0 #",
    "set key # 0 5",
    "set key 0 # 5",
    "cas key 0 0 5 #",
    "cas key 0 0 # 5",
    "add key 0 0 # noreply",
    "ms key #",
    "ms key # T0",
    "ms key 5 T#",
    "ms key 5 F#",
    "ms key 5 C#",
    "ms key 5 C# q",
    "ms key 5 I C#",
    "ms key 5 E#",
    "ms key 5 O#",
    "ms key 5 b#",
    "ms key 5 M#",
    "ms key 5 S#",
    "ms # 5",
    "mg key t T#",
    "mg key N# v",
    "mg key R#",
    "mg key E# v",
    "md key C#",
    "md key T# I",
    "ma num D#",
    "ma num N# J#",
    "ma num C# q",
    "ma num N# q",
    "ma num MD D#",
    "incr num #",
    "decr num # noreply",
    "touch key #",
    "gat # key",
    "gats # key key",
    "flush_all #",
    "verbosity #",
    "delete key #",
];

/// What a careless proxy would let through as a command.
const TAIL: &str = "mn\r\n\r\nget a b c\r\nset x 0 0 1\r\ny\r\nquit\r\n";

/// Whole inputs.
fn odd_inputs() -> Vec<Vec<u8>> {
    let long = |count| "k".repeat(count);
    let many = |word: &str, count| format!(" {word}").repeat(count);
    let mut inputs: Vec<Vec<u8>> = [
        // Over-many and over-long flags: 1.6.18 looks at 24 tokens, and takes the value as commands.
        format!("ms key 5{}\r\n", many("v", 30)),
        format!("ms key 5{}\r\n", many("T0", 21)),
        format!("ms key 5{}\r\n", many("k", 22)),
        format!("ms key 5{} q\r\n", many("O1", 40)),
        format!("ms key 5{}\r\n", many("v", 2000)),
        format!("mg key{}\r\n", many("v", 30)),
        format!("mg key{}\r\n", many("k", 1100)),
        format!("md key{} q\r\n", many("q", 25)),
        format!("ma num{} q\r\n", many("q", 25)),
        format!("ms key 5 O{}\r\n", long(31)),
        format!("ms key 5 O{}\r\n", long(32)),
        format!("ms key 5 O{}\r\n", long(33)),
        format!("ms key 5 O{}\r\n", long(3000)),
        format!("ms key 5 T{}\r\n", "0".repeat(1990)),
        format!("ms key 5 T{}\r\n", "0".repeat(2100)),
        format!("mg key k O{} v\r\n", long(2040)),
        // Keys at the bound and beyond it, and lines at memcached's patience.
        format!("set {} 0 0 5\r\n", long(250)),
        format!("set {} 0 0 5\r\n", long(251)),
        format!("set {} 0 0 5 noreply\r\n", long(2100)),
        format!("ms {} 5\r\n", long(251)),
        format!("ms {} 5 b\r\n", long(250)),
        format!("ms {} 5 b\r\n", long(252)),
        format!("ms {} 5 b q\r\n", "=".repeat(8)),
        "ms Zm9v= 5 b\r\n".to_owned(),
        "ms Zm9 5 b\r\n".to_owned(),
        "ms Zm\09v 5 b\r\n".to_owned(),
        "ms Zm9v\0 5 b\r\n".to_owned(),
        format!("get {}\r\n", many(&long(250), 200).trim_start()),
        format!("gat 0{}\r\n", many(&long(250), 20)),
        format!("gat 0{}\r\n", many("k", 1500)),
        format!("gets{} {}\r\n", many("a", 500), long(251)),
        // NULs, tabs, returns and what else ends a word somewhere.
        "set key\0 0 0 5\r\n".to_owned(),
        "set k\0ey 0 0 5\r\n".to_owned(),
        "set\0key 0 0 5\r\n".to_owned(),
        "set key 0 0 5\0\r\n".to_owned(),
        "set key 0 0 5 nore\0ply\r\n".to_owned(),
        "set key 0 0 5 noreply\0\r\n".to_owned(),
        "set\tkey\t0\t0\t5\r\n".to_owned(),
        "set key\r0 0 0 5\r\n".to_owned(),
        "set key 0 0 5\r\r\n".to_owned(),
        "set key 0 0 5\n".to_owned(),
        "set  key  0  0  5  \r\n".to_owned(),
        " set key 0 0 5\r\n".to_owned(),
        "set key 0 0 5 noreply noreply\r\n".to_owned(),
        "set key 0 0 5 5 5\r\n".to_owned(),
        "cas key 0 0 5 5 5\r\n".to_owned(),
        "ms key 5 S5\r\n".to_owned(),
        "ms key S5\r\n".to_owned(),
        "ms key 5 \0\r\n".to_owned(),
        "ms key 5 q\0\r\n".to_owned(),
        "ms key 5 O\x01\x02\x7f\r\n".to_owned(),
        "mg key v\0q\r\n".to_owned(),
        "mg k\0 v\r\n".to_owned(),
        "mg key q\r\n".to_owned(),
        "mg missing q v k O1\r\n".to_owned(),
        "me key\0x\r\n".to_owned(),
        "mn\0\r\n".to_owned(),
        "mn 1 2 3 q\r\n".to_owned(),
        "incr num 1 noreply x\r\n".to_owned(),
        "delete key noreply noreply\r\n".to_owned(),
        "touch key 0 noreply 0\r\n".to_owned(),
        "flush_all noreply noreply\r\n".to_owned(),
        "get key\0 key\r\n".to_owned(),
        "gets \0\r\n".to_owned(),
        "get key\r get key\r\n".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec();
    inputs.extend([
        b"set key 0 0 5\r\nvalue".to_vec(),
        b"set key 0 0 5\r\nvalu\r\n".to_vec(),
        b"set key 0 0 5\r\nvalue\n".to_vec(),
        b"set key 0 0 5\r\nvalue\rx".to_vec(),
        b"set key 0 0 5\r\nvaluexx\r\n".to_vec(),
        b"set \xff\xfe\x80 0 0 5\r\nvalue\r\nget \xff\xfe\x80\r\n".to_vec(),
        b"mg \xff\xfe\x80 v k\r\n".to_vec(),
        b"ms key 5 O\xff\xfe\r\nvalue\r\n".to_vec(),
    ]);
    inputs
}

/// Every opcode with good and with wrong lengths.
fn binary_inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for opcode in 0..=255 {
        for extras in [0, 4, 8, 20, 21] {
            let frame = Frame::request(opcode, 9).extras(&vec![0; extras]);
            inputs.push(frame.clone().bytes());
            inputs.push(frame.clone().key(b"key").bytes());
            inputs.push(frame.key(b"key").value(b"mn\r\n").cas(7).bytes());
        }
    }
    let good = Frame::request(0x01, 9).extras(&[0; 8]).key(b"key").value(b"value");
    for key in [250, 251, 300, 65535] {
        inputs.push(good.clone().key(&vec![b'k'; key]).bytes());
    }
    // Single bytes of the header: magic, key length, extras length, data type, body length.
    for at in [0, 2, 3, 4, 5, 6, 8, 9, 10, 11] {
        for byte in [0, 1, 7, 24, 0x7f, 0x80, 0x81, 0xff] {
            let mut bytes = good.bytes();
            bytes[at] = byte;
            inputs.push(bytes);
        }
    }
    inputs
}

#[track_caller]
fn check_all(watched: &Watched, inputs: impl IntoIterator<Item = Vec<u8>>) {
    let links = watched.links();
    let mut taken = Vec::new();
    for input in inputs {
        if let Err(problem) = watched.check(&input) {
            taken.push(problem);
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
    assert_eq!(watched.links(), links, "a link has ended");
}

#[test]
fn numbers_that_are_none_are_answered_once() {
    let lines = PLACES.iter().flat_map(|place| NUMBERS.iter().map(|number| place.replace('#', number)));
    let inputs = lines.map(|line| format!("{line}\r\n{TAIL}").into_bytes());
    check_all(&Watched::start(), inputs);
}

#[test]
fn lines_with_too_much_in_them_are_answered_once() {
    let tailed = odd_inputs().into_iter().map(|input| [&input[..], TAIL.as_bytes()].concat());
    check_all(&Watched::start(), tailed);
}

#[test]
fn binary_frames_of_any_shape_are_answered_once() {
    let noop = Frame::request(0x0a, 1).bytes();
    let inputs = binary_inputs().into_iter().map(|input| [&input[..], &noop[..]].concat());
    check_all(&Watched::start(), inputs);
}

/// Good requests, wrong ones, altered ones and noise, several on each connection.
#[test]
fn random_streams_are_answered_once() {
    let watched = Watched::start();
    let links = watched.links();
    let seeds = seed_from_environment().map_or(0..STREAMS, |seed| seed..seed + 1);
    for seed in seeds {
        let mut random = generate::Random::new(seed);
        let mut text = Vec::new();
        for _ in 0..3 {
            let mut request = generate::request(&mut random, generate::Scope::Real);
            if random.once_in(2) {
                generate::mutate(&mut random, &mut request);
            }
            text.extend(request);
        }
        let mut binary = Frame::request(0x0a, 1).bytes();
        for _ in 0..3 {
            binary.extend(generate::binary_request(&mut random, generate::Scope::Real));
        }
        let noise = Random::new(seed).bytes(300);
        for input in [text, binary, noise] {
            if let Err(problem) = watched.check(&input) {
                let repeat = format!("{SEED_VARIABLE}={seed} cargo test --test security random_streams");
                panic!("{problem}\ninput: {}\nrepeat: {repeat}", escape(&input));
            }
        }
    }
    assert_eq!(watched.links(), links, "a link has ended");
}
