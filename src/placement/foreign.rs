//! The placements of other programs, and mcproxy's own over a part of the key.

use xxhash_rust::xxh3::xxh3_64;

use super::buckets::{Buckets, FURC_SEED, Found, furc, jump, stand_ins};
use super::hash::{KeyHash, TwemproxyHash, mcrouter_part, murmur64a};
use super::pymemcache::{Keys, Scores};
use super::rendezvous::{self, Rendezvous};
use super::ring::{Point, Ring};
use super::{HashedPart, Method, Place, Server, Why, points};

/// A table and the way to it.
#[derive(Debug)]
pub(super) struct Foreign {
    method: Method,
    part: HashedPart,
    table: Table,
}

#[derive(Debug)]
enum Table {
    Rendezvous(Rendezvous),
    Ring(KeyHash, Ring),
    Modulo(KeyHash, Buckets),
    Jump(Buckets),
    Furc(Buckets),
    Scores(Scores),
}

impl Foreign {
    /// `method` over `servers`, without those that are `away`.
    ///
    /// # Errors
    /// A clause that says what of `servers` the original cannot have.
    pub(super) fn new(
        method: Method,
        part: HashedPart,
        servers: &[Server],
        away: &[bool],
    ) -> Result<Self, String> {
        check_weights(method, servers)?;
        Ok(Foreign { method, part, table: table(method, servers, away)? })
    }

    /// The same for the same servers, of which others are away.
    pub(super) fn without(&self, servers: &[Server], away: &[bool]) -> Self {
        let table = table(self.method, servers, away).expect("these servers had a table");
        Foreign { method: self.method, part: self.part.clone(), table }
    }

    /// The owner of `key`, and a hash of it. Not part of its callers, where the default's way is to stay short.
    #[inline(never)]
    pub(super) fn place(&self, key: &[u8]) -> Place {
        Place { server: self.owner(key), hash: rendezvous::hash(key) as u32 }
    }

    /// The owner of `key`.
    #[inline(never)]
    pub(super) fn owner(&self, key: &[u8]) -> usize {
        let key = self.hashed(key);
        match &self.table {
            Table::Rendezvous(table) => table.owner(key),
            Table::Ring(hash, ring) => ring.owner(hash.of(key)),
            Table::Modulo(hash, buckets) => buckets.find(modulo(hash.of(key), buckets), key).server(),
            Table::Jump(buckets) => buckets.find(jump(xxh3_64(key), buckets.count()), key).server(),
            Table::Furc(buckets) => buckets.find(furc(furc_hash(key), buckets.count()), key).server(),
            Table::Scores(scores) => scores.best(key).0,
        }
    }

    /// What of `key` counts: mcrouter always leaves some of it out.
    #[inline]
    fn hashed<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        let key = self.part.of(key);
        match self.method {
            Method::McrouterCh3 | Method::McrouterCrc32 => mcrouter_part(key),
            _ => key,
        }
    }

    /// What led to the owner of `key`.
    pub(super) fn explain(&self, key: &[u8]) -> Why {
        let key = self.hashed(key);
        let in_list = |buckets: &Buckets, hash: u64, bucket: usize| match buckets.find(bucket, key) {
            Found::Home(_) => Why::Bucket { hash, bucket, of: buckets.count() },
            Found::Slot(slot, _) => Why::Slot(slot),
        };
        match &self.table {
            Table::Rendezvous(_) => Why::Slot(rendezvous::slot(rendezvous::hash(key))),
            Table::Ring(hash, ring) => {
                let hash = hash.of(key);
                Why::Point { hash, point: ring.point(hash) }
            }
            Table::Modulo(hash, buckets) => {
                let hash = hash.of(key);
                in_list(buckets, u64::from(hash), modulo(hash, buckets))
            }
            Table::Jump(buckets) => in_list(buckets, xxh3_64(key), jump(xxh3_64(key), buckets.count())),
            Table::Furc(buckets) => in_list(buckets, furc_hash(key), furc(furc_hash(key), buckets.count())),
            Table::Scores(scores) => Why::Score(scores.best(key).1),
        }
    }
}

fn modulo(hash: u32, buckets: &Buckets) -> usize {
    (hash % buckets.count() as u32) as usize
}

fn furc_hash(key: &[u8]) -> u64 {
    murmur64a(key, FURC_SEED)
}

fn table(method: Method, servers: &[Server], away: &[bool]) -> Result<Table, String> {
    let table = match method {
        Method::Rendezvous => Table::Rendezvous(Rendezvous::without(servers, away)),
        Method::Pymemcache => Table::Scores(Scores::new(Keys::Text, servers, away)?),
        Method::PymemcacheBytes => Table::Scores(Scores::new(Keys::Bytes, servers, away)?),
        Method::MemcachedProxyJump => Table::Jump(once_each(servers, away)),
        Method::McrouterCh3 => Table::Furc(once_each(servers, away)),
        _ => match modulo_of(method, servers) {
            Some((hash, owners)) => Table::Modulo(hash, Buckets::new(owners, servers, away)),
            None => ring(method, servers, away)?,
        },
    };
    Ok(table)
}

/// Those whose bucket is the hash modulo the length of the list: the hash and the list.
fn modulo_of(method: Method, servers: &[Server]) -> Option<(KeyHash, Vec<u16>)> {
    let by_weight = |order: &[usize]| -> Vec<u16> {
        order.iter().flat_map(|&server| vec![server as u16; servers[server].weight as usize]).collect()
    };
    let order: Vec<usize> = (0..servers.len()).collect();
    let once: Vec<u16> = order.iter().map(|&server| server as u16).collect();
    Some(match method {
        Method::LibmemcachedModula => (KeyHash::Twemproxy(TwemproxyHash::OneAtATime), once),
        Method::TwemproxyModula(hash) => {
            (KeyHash::Twemproxy(hash), by_weight(&points::twemproxy_order(servers)))
        }
        Method::Gomemcache => (KeyHash::Twemproxy(TwemproxyHash::Crc32a), once),
        Method::SpymemcachedModula => (KeyHash::Java, once),
        Method::McrouterCrc32 => (KeyHash::Crc32Positive, once),
        Method::PythonMemcached => (KeyHash::Twemproxy(TwemproxyHash::Crc32), by_weight(&order)),
        Method::PhpMemcacheStandard => (KeyHash::Crc32NotZero, by_weight(&order)),
        _ => return None,
    })
}

fn once_each(servers: &[Server], away: &[bool]) -> Buckets {
    Buckets::new((0..servers.len() as u32).map(|server| server as u16).collect(), servers, away)
}

/// Buckets into which PHP memcache cuts its ring, and the distance of their beginnings.
const PHP_BUCKETS: u32 = 1024;
const PHP_STEP: u32 = u32::MAX / PHP_BUCKETS;

fn ring(method: Method, servers: &[Server], away: &[bool]) -> Result<Table, String> {
    let mut points: Vec<Point> = points::of(method, servers)?;
    points.retain(|point| !away[usize::from(point.server)]);
    if points.is_empty() {
        // Only servers are left whose weights, beside those of the others, are too small for a point.
        return Ok(Table::Rendezvous(stand_ins(servers, away)));
    }
    let hash = match method {
        Method::LibmemcachedKetama => KeyHash::Twemproxy(TwemproxyHash::OneAtATime),
        Method::TwemproxyKetama(hash) => KeyHash::Twemproxy(hash),
        Method::Dalli | Method::PhpMemcache => KeyHash::Twemproxy(TwemproxyHash::Crc32a),
        Method::MemcachedProxyRing => KeyHash::Xxh3,
        _ => KeyHash::Twemproxy(TwemproxyHash::Md5),
    };
    Ok(match method {
        Method::Dalli => Table::Ring(hash, Ring::downwards(points)),
        Method::PhpMemcache => {
            let ring = Ring::upwards(points);
            let owners = (0..PHP_BUCKETS).map(|bucket| ring.owner(bucket * PHP_STEP) as u16).collect();
            Table::Modulo(hash, Buckets::new(owners, servers, &vec![false; servers.len()]))
        }
        _ => Table::Ring(hash, Ring::upwards(points)),
    })
}

/// libmemcached's modula takes weights and does nothing with them.
fn check_weights(method: Method, servers: &[Server]) -> Result<(), String> {
    let who = match method {
        Method::Pymemcache | Method::PymemcacheBytes => "pymemcache",
        Method::Gomemcache => "gomemcache",
        Method::McrouterCh3 => "mcrouter's Ch3",
        Method::McrouterCrc32 => "mcrouter's Crc32",
        Method::MemcachedProxyJump | Method::MemcachedProxyRing => "memcached's own proxy",
        Method::SpymemcachedModula => "spymemcached's modulo",
        _ => return Ok(()),
    };
    match servers.iter().find(|server| server.weight != 1) {
        None => Ok(()),
        Some(server) if method == Method::Gomemcache => Err(format!(
            "{who} has no weights, and {} has {}; list a server twice, under two names, to give it more keys",
            server.name, server.weight
        )),
        Some(server) => Err(format!("{who} has no weights, and {} has {}", server.name, server.weight)),
    }
}
