//! The names of placements.

use std::fmt;

use super::hash::TwemproxyHash;

/// A way to place keys: mcproxy's own, or that of a client library or another proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Weighted rendezvous hashing, mcproxy's own and the default.
    Rendezvous,
    /// libmemcached's and PHP memcached's default: modulo.
    LibmemcachedModula,
    /// libmemcached's consistent distribution (`ketama` without weights).
    LibmemcachedKetama,
    /// libmemcached's weighted ketama, PHP memcached's `OPT_LIBKETAMA_COMPATIBLE`.
    LibmemcachedKetamaWeighted,
    /// twemproxy's (nutcracker's) `distribution: ketama`.
    TwemproxyKetama(TwemproxyHash),
    /// twemproxy's `distribution: modula`.
    TwemproxyModula(TwemproxyHash),
    /// pymemcache's `HashClient`, called with keys that are `str`.
    Pymemcache,
    /// pymemcache's `HashClient`, called with keys that are `bytes`.
    PymemcacheBytes,
    /// gomemcache's `ServerList`.
    Gomemcache,
    /// python-memcached.
    PythonMemcached,
    /// Dalli, Ruby's client.
    Dalli,
    /// PHP memcache (not memcached), `hash_strategy=consistent`.
    PhpMemcache,
    /// PHP memcache (not memcached), `hash_strategy=standard`.
    PhpMemcacheStandard,
    /// spymemcached's `KetamaConnectionFactory`.
    SpymemcachedKetama,
    /// spymemcached's default.
    SpymemcachedModula,
    /// mcrouter's `Ch3`, its default.
    McrouterCh3,
    /// mcrouter's `Crc32`.
    McrouterCrc32,
    /// The default of memcached's own proxy.
    MemcachedProxyJump,
    /// `mcp.dist_ring_hash` of memcached's own proxy.
    MemcachedProxyRing,
}

/// Those whose name says all.
const PLAIN: [(&str, Method); 17] = [
    ("rendezvous", Method::Rendezvous),
    ("libmemcached-modula", Method::LibmemcachedModula),
    ("libmemcached-ketama", Method::LibmemcachedKetama),
    ("libmemcached-ketama-weighted", Method::LibmemcachedKetamaWeighted),
    ("pymemcache", Method::Pymemcache),
    ("pymemcache-bytes", Method::PymemcacheBytes),
    ("gomemcache", Method::Gomemcache),
    ("python-memcached", Method::PythonMemcached),
    ("dalli", Method::Dalli),
    ("php-memcache", Method::PhpMemcache),
    ("php-memcache-standard", Method::PhpMemcacheStandard),
    ("spymemcached-ketama", Method::SpymemcachedKetama),
    ("spymemcached-modula", Method::SpymemcachedModula),
    ("mcrouter-ch3", Method::McrouterCh3),
    ("mcrouter-crc32", Method::McrouterCrc32),
    ("memcached-proxy-jump", Method::MemcachedProxyJump),
    ("memcached-proxy-ring", Method::MemcachedProxyRing),
];

type OfHash = fn(TwemproxyHash) -> Method;

/// Those whose name ends with that of a key hash.
const HASHED: [(&str, OfHash); 2] =
    [("twemproxy-ketama:", Method::TwemproxyKetama), ("twemproxy-modula:", Method::TwemproxyModula)];

impl Method {
    /// The placement called `name`.
    ///
    /// # Errors
    /// A line that says which there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, method)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            return Ok(*method);
        }
        for (prefix, method) in HASHED {
            if let Some(hash) = name.strip_prefix(prefix).and_then(TwemproxyHash::parse) {
                return Ok(method(hash));
            }
        }
        let plain: Vec<&str> = PLAIN.iter().map(|(name, _)| *name).collect();
        let hashes: Vec<&str> = TwemproxyHash::ALL.iter().map(|hash| hash.name()).collect();
        Err(format!(
            "there is no placement {name:?}; there are {}, twemproxy-ketama:HASH and twemproxy-modula:HASH, \
             with HASH one of {}",
            plain.join(", "),
            hashes.join(", ")
        ))
    }

    /// Every placement there is, with every key hash.
    pub fn all() -> Vec<Self> {
        let plain = PLAIN.iter().map(|(_, method)| *method);
        let hashed = HASHED.iter().flat_map(|(_, method)| TwemproxyHash::ALL.map(method));
        plain.chain(hashed).collect()
    }
}

impl fmt::Display for Method {
    /// The name that [`Method::parse`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::TwemproxyKetama(hash) => write!(f, "twemproxy-ketama:{}", hash.name()),
            Method::TwemproxyModula(hash) => write!(f, "twemproxy-modula:{}", hash.name()),
            other => {
                let found = PLAIN.iter().find(|(_, method)| method == other);
                f.write_str(found.map_or("", |(name, _)| name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_methods_are_one_to_one() {
        let all = Method::all();
        assert_eq!(all.len(), 17 + 2 * 12);
        for method in &all {
            let name = method.to_string();
            assert_eq!(Method::parse(&name), Ok(*method), "{name}");
        }
        let names: std::collections::BTreeSet<String> = all.iter().map(Method::to_string).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn what_is_no_name_is_told_which_there_are() {
        for name in [
            "",
            "ketama",
            "twemproxy-ketama",
            "twemproxy-ketama:",
            "twemproxy-modula:sha1",
            "Dalli",
            "dalli ",
        ] {
            let error = Method::parse(name).unwrap_err();
            assert!(error.contains(&format!("{name:?}")) && !error.contains('\n'), "{error}");
            assert!(error.contains("spymemcached-modula") && error.contains("fnv1a_64"), "{error}");
        }
    }
}
