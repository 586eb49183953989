//! The forms of `--listen` and `--backends`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::{Address, Backend, Label, Listen, complaint, number};

/// As memcached's.
const DEFAULT_PORT: u16 = 11211;
const WEIGHT: RangeInclusive<u64> = 1..=1000;
const EMBEDDED: RangeInclusive<u64> = 1..=64;
/// More backends than this make the placement's table slow to build, and are more likely a mistake.
pub(super) const BACKENDS_MAX: usize = 1024;
/// Bytes of a name.
pub(super) const NAME_MAX: usize = 250;
/// The longest name that DNS can hold, without the last dot, bytes.
const HOST_MAX: usize = 253;
/// sun_path holds 108 bytes on Linux, the NUL included.
const UNIX_PATH_MAX: usize = 107;

/// The listen addresses, or the line that says which of them is none.
pub(super) fn listen_list(texts: &[String]) -> Result<Vec<Listen>, String> {
    let mut seen = HashSet::new();
    texts
        .iter()
        .map(|text| {
            let listen = listen(text).map_err(|what| complaint("--listen", text, what))?;
            let any_port = matches!(listen, Listen::Tcp { port: 0, .. });
            if !any_port && !seen.insert(listen.clone()) {
                return Err(complaint("--listen", text, "given twice"));
            }
            Ok(listen)
        })
        .collect()
}

/// The backends in the order given, or the line that says which entry is none.
pub(super) fn backend_list(list: &str) -> Result<Vec<Backend>, String> {
    let mut backends = Vec::new();
    let mut names = HashSet::new();
    for entry in list.split(',') {
        if entry.is_empty() {
            return Err(complaint("--backends", list, "an entry of the list is empty"));
        }
        for backend in backend_entry(entry).map_err(|what| complaint("--backends", entry, what))? {
            if !names.insert(backend.name.clone()) {
                let what = format_args!("duplicate: an earlier backend has the name {}", backend.name);
                return Err(complaint("--backends", entry, what));
            }
            if backends.len() == BACKENDS_MAX {
                let what = format_args!("too many backends, {BACKENDS_MAX} are allowed");
                return Err(complaint("--backends", entry, what));
            }
            backends.push(backend);
        }
    }
    Ok(backends)
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Listen::Unix(unix_path(path)?));
    }
    let form = || "must be :PORT, IPV4:PORT, [IPV6]:PORT or unix:/PATH".to_string();
    let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
    let host = match host {
        "" => None,
        _ => Some(ip(host).ok_or_else(form)?),
    };
    let port = number(port, &(0..=65535)).ok_or("the port must be 0 to 65535 (0: any free one)")?;
    Ok(Listen::Tcp { host, port: port as u16 })
}

/// An IPv4 address, or an IPv6 address in brackets.
fn ip(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

pub(super) fn unix_path(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(
            "a unix socket needs the absolute path of a file, as in unix:/run/memcached.sock".to_string()
        );
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!("the path of a unix socket has at most {UNIX_PATH_MAX} bytes"));
    }
    Ok(PathBuf::from(path))
}

/// The backends that one entry of the list stands for: one, or N for `embedded:N`.
fn backend_entry(entry: &str) -> Result<Vec<Backend>, String> {
    // The first `@` and the first `=` before it: neither can stand in an address.
    let (rest, name) = match entry.split_once('@') {
        Some((rest, name)) => (rest, Some(name)),
        None => (entry, None),
    };
    let (place, weight) = match rest.split_once('=') {
        Some((place, weight)) => (place, Some(weight)),
        None => (rest, None),
    };
    if place == "embedded" || place.starts_with("embedded:") {
        if weight.is_some() || name.is_some() {
            return Err("embedded:N takes neither weight nor name".to_string());
        }
        return embedded(place);
    }
    let weight = match weight {
        Some(text) => number(text, &WEIGHT).ok_or("the weight must be 1 to 1000")? as u32,
        None => 1,
    };
    let (address, default_name) = address(place)?;
    let (name, label, entry) = match name {
        Some(name) => (checked_name(name)?, Label::Name(name.to_string()), name),
        None => (default_name, label(place)?, place),
    };
    Ok(vec![Backend { address, weight, name, label, entry: entry.to_string() }])
}

fn embedded(place: &str) -> Result<Vec<Backend>, String> {
    let count = place.strip_prefix("embedded:").and_then(|text| number(text, &EMBEDDED));
    let count = count.ok_or("embedded:N starts N in-process backends, N must be 1 to 64")?;
    Ok((1..=count)
        .map(|n| {
            let name = format!("embedded-{n}");
            let label = Label::Name(name.clone());
            Backend { address: Address::Embedded, weight: 1, entry: name.clone(), name, label }
        })
        .collect())
}

/// A name stands in error lines and in `stats`, where a space would end it.
fn checked_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("a name has 1 to {NAME_MAX} printable ASCII characters, no space or comma"));
    }
    if name.contains('=') {
        return Err("a name has no '='; the weight stands before it, as in host:port=weight@name".to_string());
    }
    Ok(name.to_string())
}

/// The address that `place` means, and the name of a backend that is given none.
pub(super) fn address(place: &str) -> Result<(Address, String), String> {
    if let Some(path) = place.strip_prefix("unix:") {
        let path = unix_path(path)?;
        let name = place.to_string();
        if !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a path that is not printable ASCII needs a name, as in unix:/path@name".to_string());
        }
        return Ok((Address::Unix(path), name));
    }
    let (host, port) = split_port(place)?;
    if host.starts_with('[') || host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let ip = ip(host).ok_or("not an IP address")?;
        let address = SocketAddr::new(ip, port);
        return Ok((Address::Ip(address), address.to_string()));
    }
    let host = host.to_ascii_lowercase();
    if !is_host_name(&host) {
        return Err(
            "not a host name, an IP address ([...] around IPv6), unix:/path or embedded:N".to_string()
        );
    }
    let name = format!("{host}:{port}");
    Ok((Address::Host { host, port }, name))
}

/// The server as it is spelled: who hashes names hashes upper case, too.
fn label(place: &str) -> Result<Label, String> {
    if let Some(path) = place.strip_prefix("unix:") {
        return Ok(Label::Unix(path.to_string()));
    }
    let (host, port) = split_port(place)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Label::Tcp { host: host.to_string(), port })
}

/// Host and port of `host[:port]`; the brackets of IPv6 stay.
fn split_port(place: &str) -> Result<(&str, u16), String> {
    if place.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets, as in [{place}]:{DEFAULT_PORT}"));
    }
    let host_end = match place.starts_with('[') {
        true => place.find(']').ok_or("not an IP address: no ] after the [")? + 1,
        false => place.find(':').unwrap_or(place.len()),
    };
    let (host, rest) = place.split_at(host_end);
    let Some(port) = rest.strip_prefix(':') else {
        return if rest.is_empty() { Ok((host, DEFAULT_PORT)) } else { Err("not an IP address".to_string()) };
    };
    let port = number(port, &(1..=65535)).ok_or("the port must be 1 to 65535")?;
    Ok((host, port as u16))
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 joined by dots, a last dot allowed (RFC 1123, and the
/// underscore that container networks use).
fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= HOST_MAX
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}
