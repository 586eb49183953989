//! Placements as tables of keys and servers.

mod properties;
mod twin;

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

#[test]
fn what_an_original_cannot_have_is_said() {
    let refused: [(&str, [u32; 5], &str); 9] = [
        (
            "gomemcache",
            [1, 2, 1, 1, 1],
            "gomemcache has no weights, and 10.0.0.2:11211 has 2; list a server twice",
        ),
        ("pymemcache", [1, 1, 1, 1, 3], "pymemcache has no weights, and 10.0.0.5:11211 has 3"),
        ("mcrouter-ch3", [2; 5], "mcrouter's Ch3 has no weights"),
        ("mcrouter-crc32", [2; 5], "mcrouter's Crc32 has no weights"),
        ("memcached-proxy-jump", [2; 5], "memcached's own proxy has no weights"),
        ("spymemcached-modula", [2; 5], "spymemcached's modulo has no weights"),
        ("spymemcached-ketama", [1; 5], "name the server cache4.example/ADDRESS:11211"),
        ("dalli", [0; 5], "10.0.0.1:11211 has weight 0; it can be 1 to 1000"),
        ("rendezvous", [1001; 5], "10.0.0.1:11211 has weight 1001; it can be 1 to 1000"),
    ];
    for (name, weights, expected) in refused {
        let method = Method::parse(name).unwrap();
        let error = Placement::new(method, HashedPart::default(), &five(weights)).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let named = |names: &[&str]| names.iter().map(|name| Server::named(*name, 1)).collect::<Vec<_>>();
    let long = "n".repeat(270);
    let refused: [(&str, Vec<Server>, &str); 6] = [
        ("rendezvous", named(&[]), "there must be 1 to 65,536 servers, not 0"),
        ("rendezvous", named(&["a", "b", "a"]), "two servers are named a"),
        ("libmemcached-ketama", named(&["a:b"]), "the name \"a:b\" is not host"),
        ("spymemcached-ketama", named(&["/run/s"]), "spymemcached has no unix sockets"),
        ("memcached-proxy-ring", named(&["/run/s"]), "needs a host and a port"),
        ("twemproxy-ketama:md5", named(&[&long]), "twemproxy's buffer is too small"),
    ];
    for (name, servers, expected) in refused {
        let method = Method::parse(name).unwrap();
        let error = Placement::new(method, HashedPart::default(), &servers).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn reasons_say_how_a_key_came_to_its_owner() {
    let table = [
        ("rendezvous", "slot 639208"),
        ("libmemcached-modula", "hash 8b754002 bucket 2 of 5"),
        ("libmemcached-ketama", "hash 8b754002 point 8b9f6ec2"),
        ("dalli", "hash 46e3a4ab point 4638fb09"),
        ("php-memcache", "hash 46e3a4ab bucket 171 of 1024"),
        ("mcrouter-ch3", "hash 08417b0cbdcdf6f1 bucket 0 of 5"),
        ("pymemcache", "score b0bf1ab8"),
    ];
    let reason = |name: &str| {
        let method = Method::parse(name).unwrap();
        let placement = Placement::new(method, HashedPart::default(), &five([1; 5])).unwrap();
        placement.explain(b"greeting").to_string()
    };
    let found = table.map(|(name, _)| (name, reason(name)));
    assert_eq!(found, table.map(|(name, expected)| (name, expected.to_string())));
}
