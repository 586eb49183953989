//! The libraries, what each takes, and how it is asked.

use std::path::Path;
use std::sync::LazyLock;

use crate::lists::{self, List, Ties};
use crate::support::programs::{self, Program};

/// A library with its oracle.
pub(crate) struct Library {
    /// As reports, records and tests call it.
    pub(crate) name: &'static str,
    pub(crate) program: fn() -> Program,
    pub(crate) rules: &'static [Rule],
    /// What `tests/install` installs is asked in every run of the tests.
    pub(crate) always: bool,
    pub(crate) hosts: Hosts,
    pub(crate) unix: bool,
}

/// One of its ways to place keys, by the name of mcproxy's placement that stands in for it.
pub(crate) struct Rule {
    pub(crate) placement: &'static str,
    pub(crate) keys: Keys,
    pub(crate) weights: bool,
}

/// Which keys it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keys {
    /// Any bytes.
    Bytes,
    /// Strings of characters, so that what is no UTF-8 has no place.
    Characters,
}

/// Which hosts it takes when nothing may be resolved or connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Any.
    Any,
    /// Addresses as numbers: it would resolve names.
    Numbers,
    /// Names if they come with their address.
    Resolved,
    /// Those that the test can listen on: keys are seen to arrive.
    Loopback,
}

/// A way of one library to place keys over one list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) placement: String,
    pub(crate) list: List,
    /// twemproxy's `hash_tag`.
    pub(crate) tag: Option<[u8; 2]>,
    /// What the library is told to put before each key.
    pub(crate) prefix: Option<String>,
}

const fn bytes(placement: &'static str) -> Rule {
    Rule { placement, keys: Keys::Bytes, weights: true }
}

const LIBMEMCACHED: &[Rule] =
    &[bytes("libmemcached-modula"), bytes("libmemcached-ketama"), bytes("libmemcached-ketama-weighted")];

const PYTHON_MEMCACHED: &[Rule] = &[bytes("python-memcached")];

// It has a server as often as it shall weigh, in any order.
const GOMEMCACHE: &[Rule] = &[Rule { placement: "gomemcache", keys: Keys::Bytes, weights: false }];

const DALLI: &[Rule] = &[bytes("dalli")];

const PHP_MEMCACHE: &[Rule] = &[bytes("php-memcache"), bytes("php-memcache-standard")];

const PYMEMCACHE: &[Rule] = &[
    Rule { placement: "pymemcache", keys: Keys::Characters, weights: false },
    Rule { placement: "pymemcache-bytes", keys: Keys::Bytes, weights: false },
];

const SPYMEMCACHED: &[Rule] = &[
    Rule { placement: "spymemcached-ketama", keys: Keys::Characters, weights: true },
    Rule { placement: "spymemcached-modula", keys: Keys::Characters, weights: false },
];

/// twemproxy's hashes; those that begin with the first two are asked over all lists.
const TWEMPROXY_HASHES: [&str; 12] = [
    "md5",
    "fnv1a_64",
    "one_at_a_time",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
];
const TWEMPROXY_HASHES_EVERYWHERE: usize = 2;

static TWEMPROXY: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |distribution: &str, hash: &str| {
        let name: &'static str = format!("twemproxy-{distribution}:{hash}").leak();
        bytes(name)
    };
    let both = |hash: &&str| [rule("ketama", hash), rule("modula", hash)];
    TWEMPROXY_HASHES.iter().flat_map(both).collect()
});

/// All of them.
pub(crate) static LIBRARIES: LazyLock<[Library; 9]> = LazyLock::new(|| {
    let python =
        |name, program, rules| Library { name, program, rules, always: true, hosts: Hosts::Any, unix: true };
    let elsewhere = |name, program, rules| Library { always: false, ..python(name, program, rules) };
    [
        python("libmemcached", || script("libmemcached_oracle.py"), LIBMEMCACHED),
        Library {
            hosts: Hosts::Loopback,
            ..python("twemproxy", || script("nutcracker_oracle.py"), &TWEMPROXY)
        },
        python("pymemcache", || script("pymemcache_oracle.py"), PYMEMCACHE),
        python("python-memcached", || script("python_memcached_oracle.py"), PYTHON_MEMCACHED),
        Library {
            hosts: Hosts::Numbers,
            ..python("gomemcache", || programs::go("gomemcache_oracle"), GOMEMCACHE)
        },
        elsewhere("dalli", || interpreted("ruby", "dalli_oracle.rb"), DALLI),
        elsewhere("php-memcached", || interpreted("php", "php_memcached_oracle.php"), LIBMEMCACHED),
        elsewhere("php-memcache", || interpreted("php", "php_memcache_oracle.php"), PHP_MEMCACHE),
        Library {
            hosts: Hosts::Resolved,
            unix: false,
            ..elsewhere("spymemcached", || script("spymemcached_oracle.py"), SPYMEMCACHED)
        },
    ]
});

/// The library of this name.
pub(crate) fn library(name: &str) -> &'static Library {
    LIBRARIES.iter().find(|library| library.name == name).expect("a library of this name")
}

fn script(file: &str) -> Program {
    programs::python(&format!("../oracles/{file}"))
}

fn interpreted(interpreter: &str, file: &str) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(file);
    Program { path: interpreter.into(), arguments: vec![path.display().to_string()] }
}

impl Library {
    /// Every rule over every list that it takes, `random` lists being made up of `seed`.
    pub(crate) fn cases(&self, seed: u64, random: usize) -> Vec<Case> {
        let lists = self.lists(seed, random);
        let mut cases = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let few = self.name == "twemproxy" && number >= 2 * TWEMPROXY_HASHES_EVERYWHERE;
            for list in &lists {
                let here = !few || ["golden", "golden, weighted"].contains(&&*list.name);
                if here && (rule.weights || !list.has_weights()) {
                    let placement = rule.placement.to_owned();
                    cases.push(Case { placement, list: list.clone(), tag: None, prefix: None });
                }
            }
        }
        cases.extend(self.parts_of_keys(&cases));
        cases
    }

    fn lists(&self, seed: u64, random: usize) -> Vec<List> {
        let mut lists = lists::anywhere(seed, random);
        match self.hosts {
            Hosts::Any => {}
            Hosts::Numbers => lists = lists.into_iter().map(List::without_host_names).collect(),
            Hosts::Resolved => lists = lists::resolved(lists),
            Hosts::Loopback => lists = lists::on_loopback(lists),
        }
        lists.retain(|list| self.unix || !list.has_unix());
        let ties: &[Ties] = match self.name {
            "libmemcached" | "php-memcached" => &[Ties::Md5, Ties::OneAtATime],
            "spymemcached" => &[Ties::Md5WithPort],
            "dalli" => &[Ties::Sha1],
            "php-memcache" => &[Ties::Crc32],
            _ => &[],
        };
        lists.extend(ties.iter().flat_map(|ties| lists::with_ties(*ties)));
        if ["libmemcached", "php-memcached"].contains(&self.name) {
            lists.push(lists::sockets_as_hosts());
        }
        lists
    }

    /// The cases of which only a part of the key is hashed: with a tag, or behind a prefix.
    fn parts_of_keys(&self, cases: &[Case]) -> Vec<Case> {
        let golden = cases.iter().filter(|case| case.list.name == "golden");
        match self.name {
            "twemproxy" => {
                let first = golden.take(2 * TWEMPROXY_HASHES_EVERYWHERE);
                let tags = [*b"{}", *b"<>", *b"::"];
                let tagged = |case: &Case| tags.map(|tag| Case { tag: Some(tag), ..case.clone() });
                first.flat_map(tagged).collect()
            }
            "libmemcached" | "php-memcached" | "pymemcache" => {
                golden.map(|case| Case { prefix: Some("app{1}:".to_owned()), ..case.clone() }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether it takes this key: some take strings of characters, and all take 250 bytes with the prefix.
    pub(crate) fn takes(&self, case: &Case, key: &[u8]) -> bool {
        let fits = case.prefix.as_ref().is_none_or(|prefix| prefix.len() + key.len() <= 250);
        fits && (self.keys_of(case) == Keys::Bytes || std::str::from_utf8(key).is_ok())
    }

    /// Whether two cases take the same keys.
    pub(crate) fn takes_as(&self, one: &Case, other: &Case) -> bool {
        self.keys_of(one) == self.keys_of(other) && one.prefix == other.prefix
    }

    fn keys_of(&self, case: &Case) -> Keys {
        let rule = self.rules.iter().find(|rule| rule.placement == case.placement);
        rule.expect("a rule of this library").keys
    }
}
