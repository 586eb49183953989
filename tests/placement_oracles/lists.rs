//! Lists of servers: where they are reached, what they weigh, what they are called.

use std::collections::HashSet;

use mcproxy::placement::{Label, Server};
use serde_json::{Value, json};

use crate::support::random::Random;

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(String),
}

/// A server as a library gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Host {
    pub(crate) place: Place,
    pub(crate) weight: u32,
    /// twemproxy's own name for it.
    pub(crate) name: Option<String>,
    /// For libraries that hash what a host name resolves to.
    pub(crate) ip: Option<String>,
}

/// A list with a name, for reports and records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List {
    pub(crate) name: String,
    pub(crate) hosts: Vec<Host>,
}

impl Host {
    pub(crate) fn tcp(host: impl Into<String>, port: u16) -> Self {
        let place = Place::Tcp { host: host.into(), port };
        Host { place, weight: 1, name: None, ip: None }
    }

    pub(crate) fn unix(path: &str) -> Self {
        Host { place: Place::Unix(path.to_owned()), weight: 1, name: None, ip: None }
    }

    pub(crate) fn weighing(self, weight: u32) -> Self {
        Host { weight, ..self }
    }

    fn resolved(self, ip: &str) -> Self {
        Host { ip: Some(ip.to_owned()), ..self }
    }

    fn is_ipv6(&self) -> bool {
        matches!(&self.place, Place::Tcp { host, .. } if host.contains(':'))
    }

    /// Whether somebody would have to look the host up.
    fn is_name(&self) -> bool {
        matches!(&self.place, Place::Tcp { host, .. } if host.parse::<std::net::IpAddr>().is_err())
    }

    /// As people write it: `[::1]:11211`, `unix:/path`.
    pub(crate) fn written(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } if self.is_ipv6() => format!("[{host}]:{port}"),
            Place::Tcp { host, port } => format!("{host}:{port}"),
            Place::Unix(path) => format!("unix:{path}"),
        }
    }

    /// What mcproxy would know of it.
    pub(crate) fn server(&self) -> Server {
        let label = match (&self.name, &self.ip, &self.place) {
            (Some(name), ..) => Label::Name(name.clone()),
            (None, Some(ip), Place::Tcp { host, port }) => Label::Name(format!("{host}/{ip}:{port}")),
            (None, _, Place::Tcp { host, port }) => Label::Tcp { host: host.clone(), port: *port },
            (None, _, Place::Unix(path)) => Label::Unix(path.clone()),
        };
        Server { name: self.written(), weight: self.weight, label }
    }

    /// As the programs under `tests/oracles` read it.
    pub(crate) fn question(&self) -> Value {
        let mut server = match &self.place {
            Place::Tcp { host, port } => json!({"host": host, "port": port, "weight": self.weight}),
            Place::Unix(path) => json!({"unix": path, "weight": self.weight}),
        };
        for (field, value) in [("name", &self.name), ("ip", &self.ip)] {
            if let Some(value) = value {
                server[field] = json!(value);
            }
        }
        server
    }

    /// The inverse of [`Self::question`].
    pub(crate) fn from_question(server: &Value) -> Option<Self> {
        let text = |field: &str| server[field].as_str().map(str::to_owned);
        let place = match text("unix") {
            Some(path) => Place::Unix(path),
            None => Place::Tcp { host: text("host")?, port: server["port"].as_u64()?.try_into().ok()? },
        };
        let weight = server["weight"].as_u64()?.try_into().ok()?;
        Some(Host { place, weight, name: text("name"), ip: text("ip") })
    }
}

impl List {
    pub(crate) fn new(name: &str, hosts: Vec<Host>) -> Self {
        List { name: name.to_owned(), hosts }
    }

    pub(crate) fn has_weights(&self) -> bool {
        self.hosts.iter().any(|host| host.weight != 1)
    }

    pub(crate) fn has_unix(&self) -> bool {
        self.hosts.iter().any(|host| matches!(host.place, Place::Unix(_)))
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.hosts.iter().any(Host::is_ipv6)
    }

    pub(crate) fn servers(&self) -> Vec<Server> {
        self.hosts.iter().map(Host::server).collect()
    }

    /// The same with a number for each host name.
    pub(crate) fn without_host_names(self) -> Self {
        let number = |(n, host): (usize, Host)| match &host.place {
            Place::Tcp { port, .. } if host.is_name() => {
                Host::tcp(format!("10.8.0.{}", n + 1), *port).weighing(host.weight)
            }
            _ => host,
        };
        List { hosts: self.hosts.into_iter().enumerate().map(number).collect(), ..self }
    }

    /// Servers and weights on one line.
    pub(crate) fn written(&self) -> String {
        let host = |host: &Host| {
            let name =
                host.name.as_ref().or(host.ip.as_ref()).map_or(String::new(), |name| format!("@{name}"));
            format!("{}={}{name}", host.written(), host.weight)
        };
        self.hosts.iter().map(host).collect::<Vec<_>>().join(",")
    }
}

fn weighted(name: &str, hosts: Vec<Host>, weights: &[u32]) -> List {
    let hosts = hosts.into_iter().zip(weights).map(|(host, weight)| host.weighing(*weight)).collect();
    List::new(name, hosts)
}

fn in_a_row(count: u8) -> Vec<Host> {
    (1..=count).map(|n| Host::tcp(format!("10.0.1.{n}"), 11211)).collect()
}

/// The list of the golden vectors.
pub(crate) fn golden() -> Vec<Host> {
    let hosts = [("10.0.0.1", 11211), ("10.0.0.2", 11211), ("10.0.0.3", 11212), ("cache4.example", 11211)];
    let mut hosts: Vec<Host> = hosts.map(|(host, port)| Host::tcp(host, port)).into();
    hosts.push(Host::tcp("10.0.0.5", 11211));
    hosts
}

fn sockets() -> Vec<Host> {
    let paths = ["/run/memcached/a.sock", "/run/memcached/b.sock", "/tmp/c"];
    let mut hosts: Vec<Host> = paths.map(Host::unix).into();
    hosts.push(Host::tcp("10.0.0.1", 11211));
    hosts
}

fn ipv6() -> Vec<Host> {
    let hosts = [("::1", 11211), ("2001:db8::10", 11211), ("2001:db8::10", 11212), ("fe80::1:0:0:2", 11211)];
    let mut hosts: Vec<Host> = hosts.map(|(host, port)| Host::tcp(host, port)).into();
    hosts.push(Host::tcp("10.0.0.1", 11211));
    hosts
}

fn names() -> Vec<Host> {
    let hosts = [("cache-a", 11211), ("cache-b.example.com", 11211), ("Cache-C.example.com", 11213)];
    hosts.map(|(host, port)| Host::tcp(host, port)).into()
}

/// Lists of servers anywhere, and `random` more that are made up.
pub(crate) fn anywhere(seed: u64, random: usize) -> Vec<List> {
    let ports = [11211, 11212, 11213, 1, 65535].map(|port| Host::tcp("10.0.0.1", port));
    let seventeen: Vec<u32> = (0..17).map(|n| n * 7 % 13 + 1).collect();
    let mut lists = vec![
        List::new("one", in_a_row(1)),
        List::new("two", in_a_row(2)),
        List::new("golden", golden()),
        List::new("seventeen", in_a_row(17)),
        List::new("ports of one host", ports.into()),
        List::new("host names", names()),
        List::new("IPv6", ipv6()),
        List::new("unix sockets", sockets()),
        weighted("one, weighted", in_a_row(1), &[7]),
        weighted("golden, weighted", golden(), &[1, 3, 2, 5, 1]),
        weighted("seventeen, weighted", in_a_row(17), &seventeen),
        weighted("weights far apart", in_a_row(3), &[1, 1000, 37]),
        // Shares that are no whole numbers in binary: 40 points each, or 39.
        weighted("equal weights", in_a_row(7), &[3; 7]),
        weighted("unix sockets, weighted", sockets(), &[2, 1, 3, 1]),
        weighted("IPv6, weighted", ipv6(), &[1, 2, 1, 4, 1]),
    ];
    let mut chooser = Random::new(seed);
    lists.extend((0..random).map(|number| made_up(number, &mut chooser)));
    lists
}

/// Every other one is weighted.
fn made_up(number: usize, random: &mut Random) -> List {
    let mut seen = HashSet::new();
    let mut hosts = Vec::new();
    let count = random.between(2, 20);
    while hosts.len() < count {
        let host = format!("10.9.{}.{}", random.below(256), random.between(1, 254));
        let port = if random.percent(50) { 11211 } else { random.between(12_000, 29_999) as u16 };
        let weight = if number % 2 == 1 { random.between(1, 20) as u32 } else { 1 };
        if seen.insert((host.clone(), port)) {
            hosts.push(Host::tcp(host, port).weighing(weight));
        }
    }
    List { name: format!("made up {number}"), hosts }
}

/// Pairs of hosts of which one has a point where the other has one too, by how points are made.
#[derive(Clone, Copy)]
pub(crate) enum Ties {
    /// MD5 of `host-0`, `host-1`, ...: libmemcached's weighted ring and twemproxy's.
    Md5,
    /// MD5 of `host:11211-0`: spymemcached's.
    Md5WithPort,
    /// One-at-a-time of `host-0`: libmemcached's plain ring.
    OneAtATime,
    /// SHA-1 of `host:11211:0`: Dalli's.
    Sha1,
    /// CRC-32 of `host:11211-0`: PHP memcache's, whose pairs have all of their points in common.
    Crc32,
}

/// A list with ties, and the same the other way round: one of the two shows who wins.
pub(crate) fn with_ties(ties: Ties) -> [List; 2] {
    let (name, hosts) = match ties {
        Ties::Md5 => ("MD5", ["3.100", "4.1", "4.192", "5.108", "2.61", "5.110", "2.210", "5.207"]),
        Ties::Md5WithPort => {
            ("MD5 with port", ["2.53", "2.161", "1.124", "3.95", "0.225", "3.105", "3.170", "4.142"])
        }
        Ties::OneAtATime => {
            ("one-at-a-time", ["3.5", "3.223", "7.231", "11.146", "11.200", "15.8", "15.28", "15.240"])
        }
        Ties::Sha1 => ("SHA-1", ["0.30", "3.38", "0.222", "4.43", "0.212", "4.181", "2.158", "5.10"]),
        Ties::Crc32 => ("CRC-32", ["3.227", "30.1", "3.224", "30.2", "3.225", "30.3", "3.222", "30.4"]),
    };
    let hosts: Vec<Host> = hosts.map(|host| Host::tcp(format!("10.0.{host}"), 11211)).into();
    let reversed = hosts.iter().rev().cloned().collect();
    [List::new(&format!("ties of {name}"), hosts), List::new(&format!("ties of {name}, reversed"), reversed)]
}

/// Sockets as libmemcached has them when they are added as hosts: with the usual port.
pub(crate) fn sockets_as_hosts() -> List {
    let named = |host: Host| match &host.place {
        Place::Unix(path) => Host { name: Some(format!("{path}:11211")), ..host },
        Place::Tcp { .. } => host,
    };
    List::new("unix sockets as hosts", sockets().into_iter().map(named).collect())
}

/// The same where a test can listen: what is not on the loopback interface is moved there, host names become
/// names of twemproxy's.
pub(crate) fn on_loopback(lists: Vec<List>) -> Vec<List> {
    let mut lists: Vec<List> = lists
        .into_iter()
        .filter(|list| !list.has_ipv6() && list.name != "ports of one host")
        .map(|list| List { hosts: list.hosts.into_iter().enumerate().map(moved).collect(), ..list })
        .collect();
    // Lengths of names decide their order.
    let ports = [21211, 11211, 2121, 11212].map(|port| Host::tcp("127.77.0.1", port));
    lists.push(List::new("ports of one host", ports.into()));
    let ipv6 =
        [("::1", 21213), ("::1", 21211), ("127.77.0.1", 11211)].map(|(host, port)| Host::tcp(host, port));
    lists.push(weighted("IPv6", ipv6.into(), &[1, 2, 1]));
    lists.push(named());
    lists.extend(with_ties(Ties::Md5).map(renamed));
    lists
}

/// Elsewhere, under the names that they had.
fn renamed(list: List) -> List {
    let host = |(index, host): (usize, Host)| {
        let name = match &host.place {
            Place::Tcp { host, .. } => host.clone(),
            Place::Unix(path) => path.clone(),
        };
        Host { name: Some(name), ..moved((index, host)) }
    };
    List { hosts: list.hosts.into_iter().enumerate().map(host).collect(), ..list }
}

fn moved((index, host): (usize, Host)) -> Host {
    let place = match &host.place {
        Place::Unix(path) => {
            let file = path.rsplit('/').next().unwrap_or_default();
            return Host { place: Place::Unix(format!("/tmp/mcproxy-oracles/{file}")), ..host };
        }
        Place::Tcp { host, port } => match host.strip_prefix("10.") {
            Some(rest) => Place::Tcp { host: format!("127.7{rest}"), port: *port },
            None => Place::Tcp { host: format!("127.76.0.{}", index + 1), port: *port },
        },
    };
    let name = host.is_name().then(|| match &host.place {
        Place::Tcp { host, port: 11211 } => host.clone(),
        _ => host.written(),
    });
    Host { place, name, ..host }
}

/// Names such as twemproxy's own examples have, among them some that look like something else.
fn named() -> List {
    let names = ["server1", "server10", "server2", "a:11211", "10.0.0.1", "10.0.0.1:11212"];
    let host = |(n, name): (usize, &str)| Host {
        name: Some(name.to_owned()),
        ..Host::tcp(format!("127.75.0.{}", n + 1), 11211).weighing(n as u32 % 3 + 1)
    };
    List::new("names", names.into_iter().enumerate().map(host).collect())
}

/// The same where a host name needs an address beside it.
pub(crate) fn resolved(lists: Vec<List>) -> Vec<List> {
    let host = |(n, host): (usize, Host)| {
        if host.is_name() { host.resolved(&format!("10.8.0.{}", n + 1)) } else { host }
    };
    let list = |list: List| List { hosts: list.hosts.into_iter().enumerate().map(host).collect(), ..list };
    lists.into_iter().map(list).collect()
}
