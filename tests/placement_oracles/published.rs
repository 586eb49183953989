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
