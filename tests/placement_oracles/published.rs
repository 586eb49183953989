//! Placements whose originals no distribution packages, beside what was published of them.

use mcproxy::placement::{HashedPart, Method, Placement, Server};

use crate::lists::{self, Host};

fn placement(method: &str, hosts: &[Host]) -> Placement {
    let servers: Vec<Server> = hosts.iter().map(Host::server).collect();
    let method = Method::parse(method).expect("a method");
    Placement::new(method, HashedPart::default(), &servers).expect("it takes the list")
}

fn hosts(count: usize) -> Vec<Host> {
    (0..count).map(|n| Host::tcp(format!("10.0.{}.{}", n / 250, n % 250 + 1), 11211)).collect()
}

/// The vectors of mcrouter's own unit test of `furc_hash`.
#[test]
fn mcrouter_ch3_is_furc_hash() {
    let hundred = placement("mcrouter-ch3", &hosts(100));
    assert_eq!([&b"sample"[..], b""].map(|key| hundred.owner(key)), [97, 72]);
    let three = placement("mcrouter-ch3", &hosts(3));
    let mut counts = [0; 3];
    for number in 0..1000 {
        counts[three.owner(number.to_string().as_bytes())] += 1;
    }
    assert_eq!(counts, [307, 342, 351]);
}

/// Of mcrouter computed by its published function, of memcached's proxy seen in a run of it.
#[test]
fn golden_rows() {
    let keys = ["key0", "key1", "key2", "key3", "key4", "foo", "bar", "user:42"];
    let rows = [
        ("mcrouter-ch3", [4, 2, 4, 1, 2, 1, 0, 1]),
        ("mcrouter-crc32", [4, 1, 0, 2, 3, 1, 3, 3]),
        ("memcached-proxy-jump", [1, 4, 2, 1, 2, 2, 3, 1]),
    ];
    for (method, owners) in rows {
        let placement = placement(method, &lists::golden());
        assert_eq!(keys.map(|key| placement.owner(key.as_bytes())), owners, "{method}");
    }
}

/// Owners of key0, key1, ... as digits from 0 to h, seen in a run of memcached 1.6.18 built with its proxy.
#[test]
fn memcached_proxy_jump_as_seen_in_a_run() {
    let rows = [
        (2, "101111111110100001000000100110110001110001010000011110011011"),
        (5, "142121314132130003420240400413333023312321420322011130343012"),
        (17, "ada88f81cb32135003g2e29d7c5717833623g1f32fd203fadca5b53e3e82"),
    ];
    for (count, digits) in rows {
        assert_eq!(seen(&placement("memcached-proxy-jump", &hosts(count))), digits, "{count} servers");
    }
}

/// The same of `dist_ring_hash`. As released, 1.6.18 counts no points in this mode and sends every key to the last
/// server; it was run with the count that later versions have.
#[test]
fn memcached_proxy_ring_as_seen_in_a_run() {
    let five =
        ["127.70.0.1:11211", "127.70.0.2:11211", "127.70.0.3:11212", "127.76.0.4:11211", "127.70.0.5:11211"];
    let five: Vec<Host> = five
        .iter()
        .map(|server| {
            let (host, port) = server.split_once(':').expect("a port");
            Host::tcp(host, port.parse().expect("a number"))
        })
        .collect();
    let seventeen: Vec<Host> = (1..18).map(|n| Host::tcp(format!("127.70.1.{n}"), 11211 + n % 2)).collect();
    let rows = [
        (five, "202134021344233110240130132000040220444221404422232024101123"),
        (seventeen, "ac8g52286f2c0dc7f319132fdbbb6f0cbgedff1a614edc6fc1351496fe61"),
    ];
    for (hosts, digits) in rows {
        assert_eq!(seen(&placement("memcached-proxy-ring", &hosts)), digits, "{} servers", hosts.len());
    }
}

fn seen(placement: &Placement) -> String {
    let owner = |n: u32| placement.owner(format!("key{n}").as_bytes()) as u32;
    (0..60).map(|n| char::from_digit(owner(n), 36).expect("a digit")).collect()
}
