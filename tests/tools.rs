//! `mcproxy map` and `mcproxy detect`, run as a user runs them, beside the proxy and real memcacheds: where `map` says
//! that a key lies the proxy has put it, and `detect` finds out what the proxy was told.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use support::client::Client;
use support::inbox::PATIENCE;
use support::process::Server;

/// The servers of the golden vectors, and where gomemcache puts their keys (`key-placement` of the README).
const SERVERS: &str = "10.0.0.1:11211,10.0.0.2:11211,10.0.0.3:11212,cache4.example:11211,10.0.0.5:11211";
const KEYS: [&str; 8] = ["key0", "key1", "key2", "key3", "key4", "foo", "bar", "user:42"];
const GOMEMCACHE: [usize; 8] = [4, 1, 3, 0, 3, 4, 3, 3];

fn run(words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcproxy"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mcproxy starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // Its end may be closed before all is read.
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    let _ = writing.join().expect("the writer does not panic");
    output
}

/// What it prints, line by line, when it ends well.
fn lines(words: &[&str], input: &[u8]) -> Vec<String> {
    let output = run(words, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {} {}", output.status, text(&output.stderr));
    text(&output.stdout).lines().map(str::to_string).collect()
}

/// The status and the one line that it complains with.
fn complaint(words: &[&str], input: &[u8]) -> (i32, String) {
    let output = run(words, input);
    let line = String::from_utf8(output.stderr).expect("text");
    let last = line.lines().last().unwrap_or_default().to_string();
    assert!(last.starts_with("mcproxy: "), "{words:?}: {line}");
    (output.status.code().expect("it ended by itself"), last)
}

/// The second column of `map` for each key.
fn owners(words: &[&str], keys: &[String]) -> Vec<String> {
    let printed = lines(&[&["map"], words, &["-"]].concat(), (keys.join("\n") + "\n").as_bytes());
    assert_eq!(printed.len(), keys.len());
    let split = printed.iter().zip(keys).map(|(line, key)| {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!((columns.len(), columns[0]), (3, &key[..]), "{line}");
        columns[1].to_string()
    });
    split.collect()
}

#[test]
fn map_prints_a_line_for_each_key_in_the_order_given() {
    // Nobody is asked: these addresses answer nothing, and the name has none.
    let servers: Vec<&str> = SERVERS.split(',').collect();
    let words = [&["map", "--placement", "gomemcache", "--backends", SERVERS][..], &KEYS].concat();
    let printed = lines(&words, b"");
    for ((line, key), owner) in printed.iter().zip(KEYS).zip(GOMEMCACHE) {
        let start = format!("{key}\t{}\thash ", servers[owner]);
        assert!(line.starts_with(&start) && line.ends_with(&format!("bucket {owner} of 5")), "{line}");
    }
    assert_eq!(printed.len(), KEYS.len());
    let input = KEYS.join("\r\n");
    assert_eq!(lines(&[&words[..5], &["-"]].concat(), input.as_bytes()), printed, "from standard input");
    let point = lines(&["map", "--placement", "dalli", "--backends", SERVERS, "key0"], b"");
    assert!(point[0].contains("\thash 5b5b54c6 point "), "{point:?}");
    let slot = lines(&["map", "--backends", "a,B=2,unix:/s.sock@c", "key0"], b"");
    assert!(slot[0].contains("\tslot "), "{slot:?}");
}

#[test]
fn owners_are_printed_as_configured() {
    let keys: Vec<String> = (0..200).map(|number| format!("key-{number}")).collect();
    let all: std::collections::BTreeSet<String> =
        owners(&["--backends", "a,B:7=2,unix:/s.sock,[::1],10.0.0.1@c"], &keys).into_iter().collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["B:7", "[::1]", "a", "c", "unix:/s.sock"]);
}

#[test]
fn tags_and_prefixes_decide_together() {
    let keys: Vec<String> = (0..50).map(|number| format!("app:{{user}}:{number}")).collect();
    let tagged = owners(&["--backends", SERVERS, "--placement", "dalli", "--hash-tag", "{}"], &keys);
    let alone = lines(&["map", "--placement", "dalli", "--backends", SERVERS, "user"], b"");
    assert!(tagged.iter().all(|owner| alone[0].contains(owner)), "{tagged:?} {alone:?}");
    let plain: Vec<String> = (0..50).map(|number| format!("key-{number}")).collect();
    let prefixed: Vec<String> = plain.iter().map(|key| format!("app:{key}")).collect();
    let words = ["--backends", SERVERS, "--placement", "libmemcached-ketama"];
    let stripped = owners(&[&words[..], &["--hash-strip-prefix", "app:"]].concat(), &prefixed);
    assert_eq!(stripped, owners(&words, &plain));
    assert_ne!(stripped, owners(&words, &prefixed));
}

#[test]
fn diff_says_which_share_moves_and_from_where_to_where() {
    let printed = lines(&["map", "--backends", "a,b,c", "--diff", "a,b,c,d"], b"");
    let share: f64 = printed[0].split(' ').nth(1).expect("a number").parse().expect("a number");
    assert!(printed[0].ends_with(" % of keys") && printed[0].starts_with("moves "), "{printed:?}");
    assert!((24.0..26.0).contains(&share), "a fourth server takes a quarter: {printed:?}");
    assert_eq!(printed.len(), 4, "from each of three to one: {printed:?}");
    assert!(printed[1..].iter().all(|line| line.contains("\td\t")), "{printed:?}");
    assert_eq!(lines(&["map", "--backends", "a,b,c", "--diff", "c,a,b"], b""), ["moves 0.0 % of keys"]);
    // Dropping the top bit of a CRC-32 does not change whether it is odd.
    let two = ["map", "--placement", "gomemcache", "--backends", "a,b"];
    let to_mcrouter = [&two[..], &["--diff", "mcrouter-crc32"], &KEYS].concat();
    assert_eq!(lines(&to_mcrouter, b""), ["moves 0.0 % of keys"]);
    let on_b = lines(&[&two[..], &KEYS].concat(), b"").iter().filter(|line| line.contains("\tb\t")).count();
    assert!(on_b > 0);
    let share = format!("{:.1} %", 100.0 * on_b as f64 / KEYS.len() as f64);
    // A list and a placement.
    let to_one = [&two[..], &["--diff", "a", "--diff", "dalli"], &KEYS].concat();
    assert_eq!(lines(&to_one, b""), [format!("moves {share} of keys"), format!("b\ta\t{share}")]);
}

/// Arguments, standard input, the status, and what the complaint says.
type Bad<'a> = (&'a [&'a str], &'a [u8], i32, &'a [&'a str]);

#[test]
fn complaints_name_what_is_wrong() {
    let long = "k".repeat(251);
    let table: &[Bad] = &[
        (&["map", "--backends", "a"], b"", 2, &["KEY", "missing"]),
        (&["map", "key"], b"", 2, &["--backends", "missing"]),
        (&["map", "--backends", "a", "--placement", "ketama", "k"], b"", 2, &["--placement ketama", "dalli"]),
        (
            &["map", "--backends", "a=2", "--placement", "pymemcache", "k"],
            b"",
            2,
            &["--placement pymemcache"],
        ),
        (&["map", "--backends", "a", "--hash-tag", "{", "k"], b"", 2, &["--hash-tag {", "two characters"]),
        (&["map", "--backends", "a", "--diff", "b:x", "k"], b"", 2, &["--diff b:x", "port"]),
        (&["map", "--backends", "a", "--diff", "b", "--diff", "c"], b"", 2, &["--diff c"]),
        (&["map", "--backends", "a", "a b"], b"", 2, &["KEY", "a b"]),
        (&["map", "--backends", "a", &long], b"", 2, &["KEY", "250"]),
        (&["map", "--backends", "a", "-"], b"good\nbad key\n", 1, &["bad key"]),
        (&["detect", "--keys", "/dev/null"], b"", 2, &["--backends", "missing"]),
        (&["detect", "--backends", "a"], b"", 2, &["--keys", "missing", "lru_crawler metadump all"]),
        (&["detect", "--backends", "a", "--keys", "/dev/null"], b"", 1, &["--keys /dev/null", "no key"]),
        (&["detect", "--backends", "a", "--keys", "/no/file"], b"", 1, &["--keys /no/file"]),
        (&["detect", "--backends", "embedded:2", "--keys", "-"], b"k\n", 2, &["--backends", "embedded-1"]),
        (&["detect", "--backends", "127.0.0.1:1", "--keys", "-"], b"k\n", 1, &["127.0.0.1:1"]),
        (
            &["--backends", "a,b=2", "--placement", "gomemcache"],
            b"",
            2,
            &["--placement gomemcache", "b:11211"],
        ),
    ];
    for (words, input, status, parts) in table {
        let (ended, line) = complaint(words, input);
        assert_eq!(ended, *status, "{words:?}: {line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{words:?}: {line}");
    }
}

/// Real memcacheds, their list, and keys that a proxy has put on them by a placement.
struct Placed {
    servers: Vec<Server>,
    list: String,
    keys: Vec<String>,
}

impl Placed {
    fn by(placement: &[&str]) -> Self {
        let servers: Vec<Server> = (0..3).map(|_| Server::memcached()).collect();
        let list = servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(",");
        let proxy = Server::mcproxy(&list, placement);
        let keys: Vec<String> = (0..300).map(|number| format!("app:{{u{}}}:{number}", number % 97)).collect();
        let client = Client::connect(proxy.address);
        for key in &keys {
            client.send(format!("set {key} 0 0 1\r\nx\r\n").as_bytes());
            client.expect(b"STORED\r\n").unwrap_or_else(|problem| panic!("{placement:?} {key}: {problem}"));
        }
        Placed { servers, list, keys }
    }

    /// The one server that has `key`.
    fn holder(&self, key: &str) -> String {
        let has = |server: &&Server| {
            let client = Client::connect(server.address);
            client.send(format!("mg {key}\r\n").as_bytes());
            client.expect_line("").expect("an answer") == b"HD\r\n"
        };
        let holders: Vec<&Server> = self.servers.iter().filter(has).collect();
        assert_eq!(holders.len(), 1, "{key}");
        holders[0].address.to_string()
    }

    /// What `detect` prints of the keys in a file of `content`: names and shares.
    fn detected(&self, content: &[u8], more: &[&str]) -> Vec<(String, String)> {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{}", self.list));
        std::fs::write(&path, content).expect("the folder for temporary files is writable");
        let file = path.display().to_string();
        let words = [&["detect", "--backends", &self.list, "--keys", &file], more].concat();
        let printed = lines(&words, b"");
        let _ = std::fs::remove_file(&path);
        let split = printed.iter().map(|line| line.split_once('\t').expect("two columns"));
        split.map(|(names, share)| (names.to_string(), share.to_string())).collect()
    }

    /// What memcached itself lists. Its lines end with LF alone, but for the last.
    fn dump(&self) -> Vec<u8> {
        let mut dumped = Vec::new();
        for server in &self.servers {
            let mut stream = TcpStream::connect(server.address).expect("memcached listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(b"lru_crawler metadump all\r\n").expect("it reads");
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while line != b"END\r\n" {
                line.clear();
                assert!(reader.read_until(b'\n', &mut line).expect("it answers") > 0, "it closed");
                dumped.extend_from_slice(&line);
            }
        }
        dumped
    }
}

#[test]
fn keys_lie_where_map_says_for_every_kind_of_placement() {
    let tables: [&[&str]; 6] = [
        &["--placement", "libmemcached-ketama-weighted"],
        &["--placement", "twemproxy-modula:crc16", "--hash-tag", "{}"],
        &["--placement", "pymemcache-bytes"],
        &["--placement", "php-memcache", "--hash-strip-prefix", "app:"],
        &["--placement", "mcrouter-ch3"],
        &["--placement", "rendezvous", "--hash-tag", "{}"],
    ];
    for words in tables {
        let placed = Placed::by(words);
        let mapped = owners(&[&["--backends", &placed.list], words].concat(), &placed.keys);
        for (key, owner) in placed.keys.iter().zip(mapped) {
            assert_eq!(placed.holder(key), owner, "{words:?} {key}");
        }
    }
}

#[test]
fn detect_finds_the_placement() {
    let tables: [(&[&str], &[&str], &str); 4] = [
        (&["--placement", "dalli"], &[], "dalli"),
        (
            &["--placement", "libmemcached-ketama-weighted"],
            &[],
            "libmemcached-ketama-weighted = spymemcached-ketama = twemproxy-ketama:md5",
        ),
        (&["--placement", "gomemcache", "--hash-tag", "{}"], &["--hash-tag", "{}"], "gomemcache"),
        (&[], &[], "rendezvous"),
    ];
    for (words, more, name) in tables {
        let placed = Placed::by(words);
        let printed = placed.detected(placed.keys.join("\n").as_bytes(), more);
        let all: Vec<&str> = printed.iter().flat_map(|(names, _)| names.split(" = ")).collect();
        assert!(all.len() > 30 && all.contains(&"spymemcached-modula"), "{all:?}");
        let (first, share) = &printed[0];
        assert!(share == "100.0 %" && first.starts_with(name), "{words:?}: {printed:?}");
        assert!(printed[1].1.len() < share.len(), "the next explains less: {printed:?}");
        let shares: Vec<f64> = printed
            .iter()
            .map(|(_, share)| share.trim_end_matches(" %").parse().expect("a number"))
            .collect();
        assert!(shares.is_sorted_by(|more, less| more >= less), "{shares:?}");
    }
}

#[test]
fn detect_reads_what_memcached_dumps() {
    let placed = Placed::by(&["--placement", "python-memcached"]);
    let dump = placed.dump();
    let text = String::from_utf8_lossy(&dump);
    assert!(text.contains("key=app%3A%7B"), "keys are encoded there: {}", text.lines().next().unwrap_or(""));
    let printed = placed.detected(&dump, &[]);
    assert!(printed[0].0.contains("python-memcached") && printed[0].1 == "100.0 %", "{printed:?}");
    // Some keys are nowhere, and one is where no placement but chance has put it.
    let stray = &placed.keys[0];
    let elsewhere = placed.servers.iter().find(|server| server.address.to_string() != placed.holder(stray));
    let client = Client::connect(elsewhere.expect("two others").address);
    client.send(format!("set {stray} 0 0 1\r\nx\r\n").as_bytes());
    client.expect(b"STORED\r\n").expect("it takes it");
    let content = format!("nowhere\n{}\nnowhere-either\n", placed.keys.join("\r\n"));
    let printed = placed.detected(content.as_bytes(), &[]);
    assert!(printed[0].0.contains("python-memcached") && printed[0].1 == "100.0 %", "{printed:?}");
}

/// The sample is one of many keys, and the same every time.
#[test]
fn samples_are_the_same_every_time_and_spread() {
    let words = ["map", "--placement", "libmemcached-modula", "--backends", "a,b,c,d", "--diff", "a,b,c"];
    let printed = lines(&words, b"");
    assert_eq!(printed, lines(&words, b""));
    let mut from: BTreeMap<&str, f64> = BTreeMap::new();
    for line in &printed[1..] {
        let columns: Vec<&str> = line.split('\t').collect();
        let share: f64 = columns[2].trim_end_matches(" %").parse().expect("a number");
        *from.entry(columns[0]).or_default() += share;
    }
    assert!((from["d"] - 25.0).abs() < 2.0, "all that the last one had: {printed:?}");
}
