//! The same file under nutcracker and under mcproxy, in front of the same memcacheds: every key lies where it lay.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use super::files::{File, Nutcracker};
use super::rig::{Proxy, ScratchPath, Talk, UnixMemcached};
use super::support::process::{Server, free_address, free_port};
use super::support::report::escape;

const HASHES: [&str; 12] = [
    "one_at_a_time",
    "md5",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
];

/// Of each pool.
const KEYS: usize = 300;
/// Requests sent before their answers are read.
const AT_ONCE: usize = 50;

/// A memcached at each kind of address.
struct Fleet {
    addresses: Vec<At>,
    _tcp: [Server; 4],
    _unix: UnixMemcached,
    _path: ScratchPath,
}

#[derive(Clone)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl At {
    fn connect(&self) -> Talk {
        match self {
            At::Tcp(address) => Talk::tcp(*address),
            At::Unix(path) => Talk::unix(path),
        }
    }

    /// As a server of the file, without its weight.
    fn server(&self) -> String {
        match self {
            At::Tcp(address) => format!("{}:{}", address.ip(), address.port()),
            At::Unix(path) => path.display().to_string(),
        }
    }
}

impl Fleet {
    fn start() -> Self {
        // Port 11211 is hashed in another way. An address of 127.0.0.0/8 that only this fleet takes.
        static FLEETS: AtomicU8 = AtomicU8::new(0);
        let (fleet, id) = (FLEETS.fetch_add(1, Ordering::Relaxed), std::process::id());
        let own = Ipv4Addr::new(127, 70 + fleet, (id / 250 % 250) as u8, (id % 250 + 1) as u8);
        let usual = SocketAddr::from((own, 11211));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
        let path = ScratchPath::new(&format!("nutcracker-server-{fleet}"));
        let [first, second] = [(); 2].map(|()| Server::memcached());
        let tcp = [first, second, Server::memcached_at(usual, &[]), Server::memcached_at(six, &[])];
        let mut addresses: Vec<At> = tcp.iter().map(|server| At::Tcp(server.address)).collect();
        addresses.push(At::Unix(path.0.clone()));
        Fleet { addresses, _tcp: tcp, _unix: UnixMemcached::start(&path.0), _path: path }
    }

    /// The `servers` of a pool: named or not, of equal weight or not, in this order or the other.
    fn servers(&self, named: bool, weighted: bool, reversed: bool) -> String {
        // Older twemproxys have no room for such a name, and nutcracker 0.5.0 has.
        let long = format!(" {}", "c".repeat(200));
        let mut lines: Vec<String> = Vec::new();
        for (index, at) in self.addresses.iter().enumerate() {
            let weight = if weighted { [1, 2, 7, 30, 100][index] } else { 1 };
            let name = if named { ["", " b", &long, " d:11211", " 10.0.0.9"][index] } else { "" };
            lines.push(format!("    - {}:{weight}{name}\n", at.server()));
        }
        if reversed {
            lines.reverse();
        }
        format!("  servers:\n{}", lines.concat())
    }

    /// Which of `keys` each of them has, with their values, when it is asked without a proxy.
    fn holdings(&self, keys: &[Vec<u8>]) -> Vec<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.addresses.iter().map(|at| holdings(&mut at.connect(), keys)).collect()
    }
}

fn holdings(server: &mut Talk, keys: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for some in keys.chunks(AT_ONCE) {
        server.send([b"get ", &some.join(&b' ')[..], b"\r\n"].concat());
        let answer = server.until(b"END\r\n");
        // No key and no value here has a line end.
        let lines: Vec<&[u8]> =
            answer.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end()).collect();
        for pair in lines.chunks_exact(2).filter(|pair| pair[0].starts_with(b"VALUE ")) {
            let key = pair[0].split(|&byte| byte == b' ').nth(1).expect("a key");
            found.insert(key.to_vec(), pair[1].to_vec());
        }
    }
    found
}

/// Short and long, counted and random-looking ones, with hash tags and with bytes from 0x80 on.
fn keys(prefix: &str) -> Vec<Vec<u8>> {
    // A char is signed in nutcracker where it is in C, and the hashes differ by that; mcproxy has those of x86-64.
    let high = cfg!(target_arch = "x86_64");
    let key = |n: usize| -> Vec<u8> {
        let text = match n % 8 {
            0 => format!("{prefix}{n}"),
            1 => format!("{prefix}user:{{{}}}:name:{n}", n / 16),
            2 => format!(
                "{prefix}{:032x}",
                (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            ),
            3 => format!("{prefix}{n}:{}", "x".repeat(240 - prefix.len())),
            4 if high => format!("{prefix}{n}:\u{e4}\u{20ac}\u{1f511}"),
            5 if high => return [prefix.as_bytes(), n.to_string().as_bytes(), &[0x80, 0xff, 0xfe]].concat(),
            6 => format!("{prefix}{{}}{{a}}{n}"),
            _ => format!("{prefix}session.{n}}}{{"),
        };
        text.into_bytes()
    };
    (0..KEYS).map(key).collect()
}

fn store(proxy: &mut Talk, keys: &[Vec<u8>], value: &str) {
    for some in keys.chunks(AT_ONCE) {
        let end = format!(" 0 0 {}\r\n{value}\r\n", value.len()).into_bytes();
        proxy.send(some.iter().flat_map(|key| [b"set ", &key[..], &end[..]].concat()).collect::<Vec<u8>>());
        proxy.expect("STORED\r\n".repeat(some.len()));
    }
}

/// How many of `keys` are found with this value.
fn found(proxy: &mut Talk, keys: &[Vec<u8>], value: &str) -> usize {
    let mut found = 0;
    for some in keys.chunks(AT_ONCE) {
        proxy.send(some.iter().flat_map(|key| [b"get ", &key[..], b"\r\n"].concat()).collect::<Vec<u8>>());
        for key in some {
            let answer = proxy.until(b"END\r\n");
            let head =
                [b"VALUE ", &key[..], format!(" 0 {}\r\n{value}\r\n", value.len()).as_bytes()].concat();
            assert!(answer == b"END\r\n" || answer.starts_with(&head), "{}", escape(&answer));
            found += usize::from(answer != b"END\r\n");
        }
    }
    found
}

/// A pool of the file under test.
struct Pool {
    name: String,
    at: At,
    keys: Vec<Vec<u8>>,
}

/// All hashes, each with both distributions; servers by all kinds of address, named and not, weighted and not, in
/// both orders, with a hash tag and without. One of the pools listens at a unix socket.
#[test]
fn every_key_lies_where_nutcracker_has_put_it_and_the_other_way_round() {
    let fleet = Fleet::start();
    let path = ScratchPath::new("nutcracker-pool");
    let (mut text, mut pools) = (String::new(), Vec::new());
    for number in 0..HASHES.len() * 2 {
        let (hash, modula) = (HASHES[number / 2], number % 2 == 1);
        let shape = number / 2 + number * 3;
        let at = match number {
            5 => At::Unix(path.0.clone()),
            _ => At::Tcp(free_address()),
        };
        let listen = if number == 5 { format!("{} 0600", path.0.display()) } else { at.server() };
        let name = format!("p{number}-{hash}");
        text += &format!("{name}:\n  listen: {listen}\n  timeout: 60000\n");
        // The two that are the defaults are left out.
        if hash != "fnv1a_64" {
            text += &format!("  hash: {hash}\n");
        }
        text += if modula { "  distribution: modula\n" } else { "" };
        text += if shape & 4 != 0 { "  hash_tag: \"{}\"\n" } else { "" };
        text += &fleet.servers(shape & 1 != 0, shape & 2 != 0, shape & 8 != 0);
        pools.push(Pool { keys: keys(&format!("{number}:")), name, at });
    }
    let file = File::new("beside", text);
    let ports: Vec<u16> = pools.iter().filter_map(|pool| pool.at.port()).collect();

    let nutcracker = Nutcracker::start(&file, &ports);
    for pool in &pools {
        store(&mut pool.at.connect(), &pool.keys, "theirs");
    }
    let before: Vec<_> = pools.iter().map(|pool| fleet.holdings(&pool.keys)).collect();
    drop(nutcracker);

    let proxy = Proxy::of_file(file.path(), pools.len(), &[]);
    for (pool, before) in pools.iter().zip(&before) {
        let owned: Vec<usize> = before.iter().map(BTreeMap::len).collect();
        assert_eq!(owned.iter().sum::<usize>(), KEYS, "{}: nutcracker has stored {owned:?}", pool.name);
        let mut client = pool.at.connect();
        assert_eq!(found(&mut client, &pool.keys, "theirs"), KEYS, "{}: found", pool.name);
        store(&mut client, &pool.keys, "ours");
        let after = fleet.holdings(&pool.keys);
        assert_eq!(differences(before, &after), [""; 0], "{}", pool.name);
        assert!(after.iter().flat_map(BTreeMap::values).all(|value| value == b"ours"), "{}", pool.name);
    }
    drop(proxy);

    let _nutcracker = Nutcracker::start(&file, &ports);
    for pool in &pools {
        assert_eq!(found(&mut pool.at.connect(), &pool.keys, "ours"), KEYS, "{}: found there", pool.name);
    }
}

impl At {
    fn port(&self) -> Option<u16> {
        match self {
            At::Tcp(address) => Some(address.port()),
            At::Unix(_) => None,
        }
    }
}

/// Keys that one of the servers has gained or lost.
fn differences(before: &[BTreeMap<Vec<u8>, Vec<u8>>], after: &[BTreeMap<Vec<u8>, Vec<u8>>]) -> Vec<String> {
    let mut moved = Vec::new();
    for (server, (before, after)) in before.iter().zip(after).enumerate() {
        let lost = before.keys().filter(|key| !after.contains_key(*key));
        moved.extend(lost.map(|key| format!("server {server} has lost {}", escape(key))));
        let gained = after.keys().filter(|key| !before.contains_key(*key));
        moved.extend(gained.map(|key| format!("server {server} has gained {}", escape(key))));
    }
    moved
}

/// What the comparison above is worth: with another hash in mcproxy's copy of the file, keys are missed and moved.
#[test]
fn canary_another_hash_is_noticed() {
    let fleet = Fleet::start();
    let keys = keys("canary:");
    let port = free_port();
    let text = format!("a:\n  listen: 127.0.0.1:{port}\n  hash: md5\n{}", fleet.servers(true, false, false));
    let file = File::new("canary", text.clone());
    let other = File::new("canary-other", text.replace("md5", "murmur"));
    let address = At::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));

    let nutcracker = Nutcracker::start(&file, &[port]);
    store(&mut address.connect(), &keys, "theirs");
    let before = fleet.holdings(&keys);
    drop(nutcracker);
    let _proxy = Proxy::of_file(other.path(), 1, &[]);
    let mut client = address.connect();
    let here = found(&mut client, &keys, "theirs");
    assert!((1..KEYS / 2).contains(&here), "{here} of {KEYS} were found by another hash");
    store(&mut client, &keys, "ours");
    let moved = differences(&before, &fleet.holdings(&keys));
    assert_eq!(moved.len(), KEYS - here, "each key that was missed is on a second server now");
}
