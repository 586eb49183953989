//! Placements as tables of keys and servers.

use super::*;

/// The servers of the golden vectors.
fn five(weights: [u32; 5]) -> Vec<Server> {
    let hosts = [
        ("10.0.0.1", 11211),
        ("10.0.0.2", 11211),
        ("10.0.0.3", 11212),
        ("cache4.example", 11211),
        ("10.0.0.5", 11211),
    ];
    let server = |((host, port), weight): ((&str, u16), u32)| Server {
        name: format!("{host}:{port}"),
        weight,
        label: Label::Tcp { host: host.to_string(), port },
    };
    hosts.into_iter().zip(weights).map(server).collect()
}

/// Where the originals themselves put these keys: found by asking each library or proxy.
#[test]
fn golden_vectors() {
    const ONES: [u32; 5] = [1; 5];
    let keys = ["key0", "key1", "key2", "key3", "key4", "foo", "bar", "user:42"];
    let table: [(&str, [u32; 5], [usize; 8]); 17] = [
        ("libmemcached-modula", ONES, [0, 3, 2, 4, 0, 0, 1, 1]),
        ("libmemcached-modula", [1, 3, 2, 5, 1], [0, 3, 2, 4, 0, 0, 1, 1]),
        ("libmemcached-ketama", ONES, [0, 0, 3, 3, 0, 3, 4, 1]),
        ("libmemcached-ketama", [1, 3, 2, 5, 1], [2, 0, 3, 3, 3, 3, 3, 3]),
        ("libmemcached-ketama-weighted", ONES, [1, 4, 3, 3, 0, 3, 1, 0]),
        ("twemproxy-ketama:md5", ONES, [1, 4, 3, 3, 0, 3, 1, 0]),
        ("twemproxy-ketama:fnv1a_64", ONES, [3, 3, 3, 3, 3, 1, 2, 0]),
        ("pymemcache", ONES, [0, 0, 3, 0, 4, 3, 1, 2]),
        ("pymemcache-bytes", ONES, [1, 2, 1, 2, 1, 4, 2, 1]),
        ("gomemcache", ONES, [4, 1, 3, 0, 3, 4, 3, 3]),
        ("python-memcached", ONES, [2, 1, 3, 3, 1, 2, 3, 1]),
        ("php-memcache", ONES, [0, 4, 4, 4, 1, 0, 3, 1]),
        ("php-memcache-standard", ONES, [2, 1, 3, 3, 1, 2, 3, 1]),
        ("dalli", ONES, [2, 4, 3, 3, 2, 3, 0, 2]),
        ("mcrouter-ch3", ONES, [4, 2, 4, 1, 2, 1, 0, 1]),
        ("mcrouter-crc32", ONES, [4, 1, 0, 2, 3, 1, 3, 3]),
        ("memcached-proxy-jump", ONES, [1, 4, 2, 1, 2, 2, 3, 1]),
    ];
    for (name, weights, expected) in table {
        let method = Method::parse(name).unwrap();
        let placement = Placement::new(method, HashedPart::default(), &five(weights)).unwrap();
        let found = keys.map(|key| placement.owner(key.as_bytes()));
        assert_eq!(found, expected, "{name} {weights:?}");
    }
}
