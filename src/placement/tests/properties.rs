//! What holds of every placement.

use super::super::hash::TwemproxyHash;
use super::super::rendezvous::hash;
use super::twin::Twin;
use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Servers of one kind of spelling each; with weights where `method` takes them.
fn lists(method: Method) -> Vec<Vec<Server>> {
    let server = |n: usize, weight: u32| {
        let (host, port) = match n % 3 {
            0 => (format!("10.0.0.{n}"), 11211),
            1 => (format!("10.0.{n}.1"), 11300 + n as u16),
            _ => (format!("2001:db8::{n:x}"), 11211),
        };
        Server { name: format!("server-{n}"), weight, label: Label::Tcp { host, port } }
    };
    let list = |count: usize, weight: fn(usize) -> u32| (0..count).map(|n| server(n, weight(n))).collect();
    // What twemproxy's hashes differ in has nothing to do with the servers: a few lists are enough for most.
    let few = matches!(method, Method::TwemproxyKetama(hash) | Method::TwemproxyModula(hash)
        if !matches!(hash, TwemproxyHash::Md5 | TwemproxyHash::Fnv1a64));
    let counts: &[usize] = if few { &[5] } else { &[1, 2, 5, 17] };
    let mut lists: Vec<Vec<Server>> = counts.iter().map(|count| list(*count, |_| 1)).collect();
    let weighted: Vec<Server> = list(5, |n| [1, 3, 2, 5, 1][n]);
    if Placement::new(method, HashedPart::default(), &weighted).is_ok() {
        lists.push(weighted);
        lists.extend((!few).then(|| list(3, |n| [1, 1000, 7][n])));
    }
    lists
}

/// Short, long, sequential, text of all kinds, bytes of all kinds.
fn keys(random: &mut Random) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = hostile();
    for n in 0..200 {
        keys.push(format!("key{n}").into_bytes());
        let bytes = random.below(251);
        keys.push((0..bytes).map(|_| random.next() as u8).collect());
        keys.push((0..1 + bytes / 8).map(|_| b'!' + random.below(94) as u8).collect());
        let chars = (0..1 + bytes / 16).filter_map(|_| char::from_u32(random.below(0x2_0000) as u32));
        keys.push(chars.collect::<String>().into_bytes());
    }
    keys
}

fn hostile() -> Vec<Vec<u8>> {
    let words: [&[u8]; 14] = [
        b"",
        b"\0",
        b"\xff",
        b"'",
        b"'\"",
        b"\\",
        b"{}",
        b"{",
        b"/",
        b"//",
        b"///",
        b"|#|",
        b"\xf0\x9f\x98",
        b"\t\r\n",
    ];
    let long = [b'k', 0, 0x80, 0xff, b'/', b'\''].map(|byte| vec![byte; 250]);
    words.map(<[u8]>::to_vec).into_iter().chain(long).chain([vec![b'x'; 3000]]).collect()
}

fn all(part: &HashedPart) -> impl Iterator<Item = (Method, Vec<Server>, Placement)> {
    Method::all().into_iter().flat_map(move |method| {
        lists(method).into_iter().map(move |servers| {
            let placement = Placement::new(method, part.clone(), &servers);
            let placement = placement.unwrap_or_else(|error| panic!("{method}: {error}"));
            (method, servers, placement)
        })
    })
}

/// Some of the servers, never all.
fn some(random: &mut Random, count: usize) -> Vec<bool> {
    let mut away: Vec<bool> = (0..count).map(|_| random.below(3) == 0).collect();
    away[random.below(count as u64) as usize] = false;
    away
}

#[test]
fn tables_find_what_the_rules_say() {
    let mut random = Random(1);
    let keys = keys(&mut random);
    for (method, servers, placement) in all(&HashedPart::default()) {
        let none = vec![false; servers.len()];
        let away = some(&mut random, servers.len());
        for (away, placement) in [(&none, &placement), (&away, &placement.without(&away))] {
            let twin = Twin::new(method, &servers, away);
            // The twins make their rings anew for each key.
            let step = if servers.len() > 5 { 61 } else { 13 };
            for key in keys.iter().step_by(step) {
                let (found, expected) = (placement.owner(key), twin.owner(key));
                let shown = key.escape_ascii();
                assert_eq!(found, expected, "{method}, {} servers, away {away:?}: {shown}", servers.len());
            }
        }
    }
}

#[test]
fn every_key_has_one_owner_that_is_there_and_a_reason() {
    let mut random = Random(2);
    let keys = keys(&mut random);
    for (method, servers, placement) in all(&HashedPart::default()) {
        let away = some(&mut random, servers.len());
        for placement in [placement.without(&away), placement] {
            for key in &keys {
                let place = placement.place(key);
                assert!(place.server < servers.len(), "{method}: {}", key.escape_ascii());
                assert_eq!(place.server, placement.owner(key), "{method}: {}", key.escape_ascii());
                assert_eq!(place.hash, hash(key) as u32, "{method}: {}", key.escape_ascii());
                let why = placement.explain(key);
                assert_eq!(why, placement.explain(key), "{method}");
                assert!(!why.to_string().contains(['\t', '\n']), "{method}: {why}");
            }
        }
    }
}

/// What [`crate::ownership`] stands on: between any two sets of servers that are away, a key moves only if
/// one of its two owners is not there in the other set.
fn moves_of_those_that_stay(
    keys: &[Vec<u8>],
    [before, after]: [&Placement; 2],
    [away_before, away_after]: [&[bool]; 2],
) -> usize {
    let wanders = |key: &&Vec<u8>| {
        let (from, to) = (before.owner(key), after.owner(key));
        assert!(!away_before[from] && !away_after[to], "a key lies on a server that is away");
        from != to && !away_after[from] && !away_before[to]
    };
    keys.iter().filter(wanders).count()
}

#[test]
fn keys_of_servers_that_stay_do_not_move() {
    let mut random = Random(3);
    let keys = keys(&mut random);
    for (method, servers, placement) in all(&HashedPart::default()) {
        let none = vec![false; servers.len()];
        let away = some(&mut random, servers.len());
        // And one more of those left, or the same.
        let mut more = away.clone();
        let one = random.below(servers.len() as u64) as usize;
        more[one] = true;
        if !more.contains(&false) {
            more[one] = away[one];
        }
        let [without, without_more] = [&away, &more].map(|away| placement.without(away));
        for (tables, aways) in [
            ([&placement, &without], [&none[..], &away]),
            ([&without, &without_more], [&away, &more]),
            ([&placement, &without_more], [&none, &more]),
        ] {
            let moved = moves_of_those_that_stay(&keys, tables, aways);
            assert_eq!(moved, 0, "{method}, {} servers: {aways:?}", servers.len());
        }
        // A table without does not hand on who was away.
        let again = without_more.without(&none);
        assert!(keys.iter().all(|key| again.owner(key) == placement.owner(key)), "{method}");
    }
}

/// The check above must be able to fail: libmemcached, twemproxy and the others deal all keys out anew.
#[test]
fn canary_a_list_that_is_made_anew_moves_keys_of_servers_that_stay() {
    let keys = keys(&mut Random(4));
    let servers = five([1; 5]);
    for name in ["gomemcache", "libmemcached-modula"] {
        let method = Method::parse(name).unwrap();
        let all = Placement::new(method, HashedPart::default(), &servers).unwrap();
        let four = Placement::new(method, HashedPart::default(), &servers[..4]).unwrap();
        let aways: [&[bool]; 2] = [&[false; 5], &[false, false, false, false, true]];
        assert!(moves_of_those_that_stay(&keys, [&all, &four], aways) > 100, "{name}");
    }
}

#[test]
fn every_server_gets_keys() {
    let keys: Vec<String> = (0..4000).map(|n| format!("session:{:016x}:{n}", Random(n).next())).collect();
    for (method, servers, placement) in all(&HashedPart::default()) {
        // In the originals too a server of weight 1 beside one of 1000 has no point on some rings, and the 15
        // bits of twemproxy's crc32 reach the first points of a ring only.
        let crc32 = method == Method::TwemproxyKetama(TwemproxyHash::Crc32);
        if crc32 || servers.iter().any(|server| server.weight > 100) {
            continue;
        }
        let mut counts = vec![0; servers.len()];
        keys.iter().for_each(|key| counts[placement.owner(key.as_bytes())] += 1);
        assert!(counts.iter().all(|count| *count > 0), "{method}: {counts:?}");
    }
}

#[test]
fn servers_without_points_take_over_when_all_others_are_away() {
    let servers = five([1, 1, 1000, 1000, 1000]);
    for name in ["libmemcached-ketama-weighted", "twemproxy-ketama:md5", "dalli"] {
        let method = Method::parse(name).unwrap();
        let all = Placement::new(method, HashedPart::default(), &servers).unwrap();
        let left = all.without(&[false, false, true, true, true]);
        let mut counts = [0; 5];
        (0..1000).for_each(|n| counts[left.owner(format!("key{n}").as_bytes())] += 1);
        assert!(counts[0] + counts[1] == 1000, "{name}: {counts:?}");
        let one = all.without(&[true, false, true, true, true]);
        assert!((0..1000).all(|n| one.owner(format!("key{n}").as_bytes()) == 1), "{name}");
    }
}

#[test]
fn only_the_hashed_part_of_a_key_counts() {
    let part = HashedPart { prefix: b"app:".to_vec(), tag: Some(*b"{}") };
    let keys = keys(&mut Random(5));
    for (method, servers, placement) in all(&part) {
        if servers.len() != 5 {
            continue;
        }
        let whole = Placement::new(method, HashedPart::default(), &servers).unwrap();
        let away = [false, true, false, true, false];
        for (placement, whole) in [(placement.without(&away), whole.without(&away)), (placement, whole)] {
            for key in keys.iter().step_by(3).filter(|key| !key.contains(&b'}')) {
                let tagged = [b"app:{".as_slice(), key, b"}rest"].concat();
                let expected = whole.owner(if key.is_empty() { b"{}rest" } else { key });
                assert_eq!(placement.owner(&tagged), expected, "{method}: {}", key.escape_ascii());
                // The rest of the key is part of what tables of keys go by.
                assert_eq!(placement.place(&tagged).hash, hash(&tagged) as u32);
            }
        }
    }
}
