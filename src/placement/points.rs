//! The points that each of the other programs puts on its ring, in the order in which it prefers equal ones.

use super::address::{self, Address};
use super::hash::{crc32, md5, one_at_a_time, sha1};
use super::ring::Point;
use super::{Method, Server};

/// Points of a server when all weights are equal.
const POINTS: usize = 160;

/// The points of `method`, none if it is not one with a ring.
pub(super) fn of(method: Method, servers: &[Server]) -> Result<Vec<Point>, String> {
    match method {
        Method::LibmemcachedKetama if servers.iter().all(|server| server.weight == 1) => {
            plain_ketama(servers)
        }
        Method::LibmemcachedKetama | Method::LibmemcachedKetamaWeighted => {
            let names = servers.iter().map(|server| Ok(Address::of(&server.label)?.short()));
            ketama(&names.collect::<Result<Vec<_>, String>>()?, &shares(servers), &in_order_of(servers))
        }
        Method::TwemproxyKetama(_) => twemproxy(servers),
        Method::SpymemcachedKetama => spymemcached(servers),
        Method::Dalli => dalli(servers),
        Method::PhpMemcache => php_memcache(servers),
        Method::MemcachedProxyRing => memcached_proxy(servers),
        _ => Ok(Vec::new()),
    }
}

/// The order in which twemproxy has its servers: by the length of their names, then by their bytes.
pub(super) fn twemproxy_order(servers: &[Server]) -> Vec<usize> {
    let mut order = in_order_of(servers);
    order.sort_by_cached_key(|&server| {
        let name = address::twemproxy(&servers[server].label);
        (name.len(), name)
    });
    order
}

fn in_order_of(servers: &[Server]) -> Vec<usize> {
    (0..servers.len()).collect()
}

/// libmemcached without weights: 100 points a server, each the key hash of a name.
fn plain_ketama(servers: &[Server]) -> Result<Vec<Point>, String> {
    let mut points = Vec::with_capacity(servers.len() * 100);
    for (index, server) in servers.iter().enumerate() {
        let name = Address::of(&server.label)?.short();
        points.extend((0..100).map(|n| point(one_at_a_time(format!("{name}-{n}").as_bytes()), index)));
    }
    Ok(points)
}

/// Names of each server on the ring of libmemcached with weights, of twemproxy and of spymemcached with
/// weights; each gives four points. In their arithmetic of 32 bits, which for some counts of equal servers
/// gives one less than 40.
fn shares(servers: &[Server]) -> Vec<usize> {
    let total: u32 = servers.iter().map(|server| server.weight).sum();
    let share = |server: &Server| {
        let part = server.weight as f32 / total as f32;
        (part * POINTS as f32 / 4.0 * servers.len() as f32 + 1e-10).floor() as usize
    };
    servers.iter().map(share).collect()
}

/// Four points of the MD5 of each name, `name-n`. `names` and `shares` are by server.
fn ketama(names: &[String], shares: &[usize], order: &[usize]) -> Result<Vec<Point>, String> {
    let mut points = Vec::with_capacity(shares.iter().sum::<usize>() * 4);
    for &server in order {
        for n in 0..shares[server] {
            let words = md5(format!("{}-{n}", names[server]).as_bytes());
            points.extend(words.map(|word| point(word, server)));
        }
    }
    Ok(points)
}

/// Bytes that twemproxy 0.5 has for `name-n` and the zero at its end (older ones 86). What is longer is cut.
const TWEMPROXY_BYTES: usize = 273;

fn twemproxy(servers: &[Server]) -> Result<Vec<Point>, String> {
    let names: Vec<String> = servers.iter().map(|server| address::twemproxy(&server.label)).collect();
    let shares = shares(servers);
    for (name, share) in names.iter().zip(&shares) {
        if format!("{name}-{share}").len() >= TWEMPROXY_BYTES {
            return Err(format!(
                "twemproxy's buffer is too small for the name {name}: where its points are is chance"
            ));
        }
    }
    ketama(&names, &shares, &twemproxy_order(servers))
}

/// 40 names of four points, or by weight once there are weights, which only the long constructor of its
/// `KetamaConnectionFactory` takes. Of equal points the last one counts, since each is put into a map. It
/// spells names as libmemcached does if it is told so; here is what it does by itself.
fn spymemcached(servers: &[Server]) -> Result<Vec<Point>, String> {
    let names = servers.iter().map(|server| address::spymemcached(&server.label));
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    let equal = servers.iter().all(|server| server.weight == 1);
    let shares = if equal { vec![POINTS / 4; servers.len()] } else { shares(servers) };
    let mut points = ketama(&names, &shares, &in_order_of(servers))?;
    points.reverse();
    Ok(points)
}

/// Names with the port, IPv6 without brackets, unix sockets by their path alone; they have weights as well.
fn dalli(servers: &[Server]) -> Result<Vec<Point>, String> {
    let total: u32 = servers.iter().map(|server| server.weight).sum();
    let mut points = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let name = Address::of(&server.label)?.long();
        let exact = (servers.len() * POINTS * server.weight as usize) as f64 / f64::from(total);
        points.extend((0..exact as usize).map(|n| point(sha1(format!("{name}:{n}").as_bytes()), index)));
    }
    Ok(points)
}

/// Names as the extension is given them: IPv6 has to be in brackets, and a unix socket is `unix:///path` with
/// port 0, or it does not connect. Of equal points the earlier counts where the C library sorts without
/// changing their order, as glibc does up to 2.36. Servers can have all of their points in common, CRC-32
/// being linear: 10.0.3.227 and 10.0.30.1 have, and the later one gets no key.
fn php_memcache(servers: &[Server]) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let name = Address::of(&server.label)?.stream();
        let count = POINTS * server.weight as usize;
        points.extend((0..count).map(|n| point(crc32(format!("{name}-{n}").as_bytes()), index)));
    }
    Ok(points)
}

fn memcached_proxy(servers: &[Server]) -> Result<Vec<Point>, String> {
    let mut points = Vec::with_capacity(servers.len() * POINTS);
    for (index, server) in servers.iter().enumerate() {
        let address = Address::of(&server.label)?;
        if matches!(address, Address::Unix(_)) {
            return Err("memcached-proxy-ring needs a host and a port: name the server host:port".to_string());
        }
        let name = address.long();
        let hash = |n| xxhash_rust::xxh3::xxh3_64(format!("{name}-{n}").as_bytes()) as u32;
        points.extend((0..POINTS).map(|n| point(hash(n), index)));
    }
    Ok(points)
}

fn point(value: u32, server: usize) -> Point {
    Point { value, server: server as u16 }
}
