//! Servers as the other programs write them.

use super::Label;

/// What a label says, for programs that make their own spelling of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address<'a> {
    /// The host without brackets.
    Tcp { host: &'a str, port: u16 },
    /// The path.
    Unix(&'a str),
}

/// memcached's.
const PORT: u16 = 11211;

impl<'a> Address<'a> {
    /// Reads names as `host[:port]`, `[v6][:port]`, `/path` or `unix:/path`. A name `/path:port` is a socket
    /// that libmemcached was given as a host, as PHP's `addServer('/path', 0)` does it, with port 11211.
    pub(super) fn of(label: &'a Label) -> Result<Self, String> {
        match label {
            Label::Tcp { host, port } => Ok(Address::Tcp { host, port: *port }),
            Label::Unix(path) => Ok(Address::Unix(path)),
            Label::Name(name) => read(name).ok_or_else(|| {
                format!("the name {name:?} is not host, host:port, [IPv6]:port or the path of a unix socket")
            }),
        }
    }

    /// `host` if the port is 11211, else `host:port`, and sockets as host `/path` with port 0:
    /// libmemcached's, when they come by `memcached_server_add_unix_socket` or PHP's `addServers`.
    pub(super) fn short(self) -> String {
        match self {
            Address::Tcp { host, port: PORT } => host.to_string(),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => format!("{path}:0"),
        }
    }

    /// `host:port`, IPv6 without brackets, and the path of a socket: pymemcache's and Dalli's.
    pub(super) fn long(self) -> String {
        match self {
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.to_string(),
        }
    }

    /// `host:port` with IPv6 in brackets, since PHP's streams want those, and `unix:///path:0`: PHP
    /// memcache's.
    pub(super) fn stream(self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Unix(path) => format!("unix://{path}:0"),
            tcp => tcp.long(),
        }
    }
}

fn read(name: &str) -> Option<Address<'_>> {
    if let Some(path) = name.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
        return Some(Address::Unix(path));
    }
    if name.starts_with('/') {
        let as_host = name.rsplit_once(':').and_then(|(host, port)| Some((host, decimal(port)?)));
        return Some(match as_host {
            Some((host, port)) if port > 0 => Address::Tcp { host, port },
            _ => Address::Unix(name),
        });
    }
    let (host, port) = match name.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => name.split_at(name.find(':').unwrap_or(name.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => decimal(port)?,
        None if port.is_empty() => PORT,
        None => return None,
    };
    (!host.is_empty() && port > 0).then_some(Address::Tcp { host, port })
}

/// What twemproxy calls a server: a name of its own as it stands, or made of its address.
pub(super) fn twemproxy(label: &Label) -> String {
    match label {
        Label::Name(name) => name.clone(),
        Label::Tcp { host, port: PORT } => host.clone(),
        Label::Tcp { host, port } => format!("{host}:{port}"),
        Label::Unix(path) => format!("{path}:"),
    }
}

/// What spymemcached calls a server: Java's `InetSocketAddress.toString()` without a slash at the beginning.
/// It has the address that a host name was resolved to, which only the name of its own can say:
/// `host/ip:port`. IPv6 is written out in full, and in brackets since Java 14.
pub(super) fn spymemcached(label: &Label) -> Result<String, String> {
    if let Label::Name(name) = label
        && name.find('/').is_some_and(|slash| slash > 0)
        && !name.starts_with("unix:/")
    {
        return Ok(name.clone());
    }
    match Address::of(label)? {
        Address::Tcp { host, port } if is_ipv4(host) => Ok(format!("{host}:{port}")),
        Address::Tcp { host, port } if host.contains(':') => match ipv6_in_full(host) {
            Some(full) => Ok(format!("[{full}]:{port}")),
            None => Err(format!(
                "spymemcached writes the address {host} in a way of its own: name it as Java does"
            )),
        },
        Address::Tcp { host, port } => Err(format!(
            "spymemcached hashes the address of {host} too: name the server {host}/ADDRESS:{port}"
        )),
        Address::Unix(_) => Err("spymemcached has no unix sockets".to_string()),
    }
}

fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_ipv4(host: &str) -> bool {
    host.split('.').count() == 4 && host.split('.').all(|part| decimal::<u8>(part).is_some())
}

/// `::1` as `0:0:0:0:0:0:0:1`. None for what is not IPv6, or has dots in it.
fn ipv6_in_full(host: &str) -> Option<String> {
    let groups = |text: &str| -> Option<Vec<u16>> {
        let parts = text.split(':').filter(|_| !text.is_empty());
        parts.map(|part| u16::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+'))).collect()
    };
    let all = match host.split_once("::") {
        None => groups(host)?,
        Some((before, after)) => {
            let (mut all, after) = (groups(before)?, groups(after)?);
            let zeros = 8_usize.checked_sub(all.len() + after.len())?;
            all.resize(all.len() + zeros, 0);
            all.extend(after);
            all
        }
    };
    let shown: Vec<String> = all.iter().map(|group| format!("{group:x}")).collect();
    (all.len() == 8).then(|| shown.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Label {
        Label::Name(name.to_string())
    }

    #[test]
    fn names_are_read_as_addresses() {
        let table = [
            ("a", Some(Address::Tcp { host: "a", port: 11211 })),
            ("10.0.0.1:1", Some(Address::Tcp { host: "10.0.0.1", port: 1 })),
            ("[::1]:11212", Some(Address::Tcp { host: "::1", port: 11212 })),
            ("[::1]", Some(Address::Tcp { host: "::1", port: 11211 })),
            ("/run/a.sock", Some(Address::Unix("/run/a.sock"))),
            ("/run/a.sock:11211", Some(Address::Tcp { host: "/run/a.sock", port: 11211 })),
            ("/run/a:0", Some(Address::Unix("/run/a:0"))),
            ("unix:/run/a:1", Some(Address::Unix("/run/a:1"))),
            ("unix:1", Some(Address::Tcp { host: "unix", port: 1 })),
            ("", None),
            (":1", None),
            ("a:", None),
            ("a:0", None),
            ("a:+1", None),
            ("a:65536", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]1", None),
        ];
        for (text, expected) in table {
            assert_eq!(Address::of(&name(text)).ok(), expected, "{text}");
        }
    }

    #[test]
    fn each_program_spells_them_in_its_way() {
        let tcp = |host: &str, port| Label::Tcp { host: host.to_string(), port };
        let unix = Label::Unix("/s".to_string());
        let table: [(Label, [&str; 4]); 5] = [
            (tcp("10.0.0.1", 11211), ["10.0.0.1", "10.0.0.1:11211", "10.0.0.1:11211", "10.0.0.1"]),
            (tcp("a", 1), ["a:1", "a:1", "a:1", "a:1"]),
            (tcp("::1", 11211), ["::1", "::1:11211", "[::1]:11211", "::1"]),
            (unix, ["/s:0", "/s", "unix:///s:0", "/s:"]),
            (name("cache one"), ["cache one", "cache one:11211", "cache one:11211", "cache one"]),
        ];
        for (label, expected) in table {
            let address = Address::of(&label).unwrap();
            assert_eq!([address.short(), address.long(), address.stream(), twemproxy(&label)], expected);
        }
    }

    #[test]
    fn spymemcached_spells_them_as_java_does() {
        let table = [
            (Label::Tcp { host: "10.0.0.1".to_string(), port: 11211 }, "10.0.0.1:11211"),
            (Label::Tcp { host: "::1".to_string(), port: 1 }, "[0:0:0:0:0:0:0:1]:1"),
            (Label::Tcp { host: "2001:DB8::a0:1".to_string(), port: 1 }, "[2001:db8:0:0:0:0:a0:1]:1"),
            (name("a.example/10.0.0.1:11211"), "a.example/10.0.0.1:11211"),
            (name("[1:2:3:4:5:6:7:8]:1"), "[1:2:3:4:5:6:7:8]:1"),
        ];
        for (label, expected) in table {
            assert_eq!(spymemcached(&label).as_deref(), Ok(expected));
        }
        for bad in ["a", "a:1", "/run/s", "unix:/run/s", "[::1.2.3.4]", "[1:2]", "1.2.3.256", "[1::2::3]"] {
            assert!(spymemcached(&name(bad)).is_err(), "{bad}");
        }
    }
}
