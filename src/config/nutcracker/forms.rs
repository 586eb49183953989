//! The forms of single values, as nc_conf.c of twemproxy 0.5 takes them.

use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::ops::RangeInclusive;

use super::super::{Backend, Label, Listen, address, number};

/// What an `int` holds; twemproxy wraps around above it.
const NUMBER: RangeInclusive<u64> = 0..=i32::MAX as u64;
const PORT: RangeInclusive<u64> = 1..=65535;
/// Of a socket's file: the bits that chmod(1) takes in three octal digits.
const MODE_MAX: u32 = 0o777;
/// twemproxy leaves this port out of the name that it hashes.
const PORT_UNNAMED: u64 = 11211;

/// A number of digits alone.
pub(super) fn whole(text: &str) -> Result<u32, String> {
    let wrong = || format!("must be a number from 0 to {}", NUMBER.end());
    if text.is_empty() {
        return Err(wrong());
    }
    number(text, &NUMBER).map(|n| n as u32).ok_or_else(wrong)
}

/// `true` or `false`, and no other word that YAML has for them.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_string()),
    }
}

/// The two bytes that a hash tag stands between.
pub(super) fn hash_tag(text: &str) -> Result<[u8; 2], String> {
    text.as_bytes().try_into().map_err(|_| "must be two characters, such as \"{}\"".to_string())
}

/// Where a pool accepts clients, `host:port` or `/path`, and the permissions that a path may be followed by.
pub(super) fn listen(text: &str) -> Result<(Listen, Option<u32>), String> {
    if text.starts_with('/') {
        let (path, mode) = match text.rsplit_once(' ') {
            Some((path, mode)) => (path, Some(permissions(mode)?)),
            None => (text, None),
        };
        // As there: 0 leaves the file as it was made.
        return Ok((Listen::Unix(address::unix_path(path)?), mode.filter(|mode| *mode != 0)));
    }
    let form = "must be host:port, or the absolute path of a unix socket";
    let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or(form)?;
    let port = port_of(port)? as u16;
    Ok((Listen::Tcp { host: Some(resolved(host, port)?), port }, None))
}

/// A server, `host:port:weight` or `/path:weight` and after a space perhaps a name; and what of that is
/// hashed.
pub(super) fn server(text: &str) -> Result<(Backend, String), String> {
    let form = "must be host:port:weight or /path:weight, and may have a name after a space";
    let (place, name) = match text.rsplit_once(' ') {
        Some((_, "")) => return Err("the name after the space is empty".to_string()),
        Some((place, name)) => (place, Some(name)),
        None => (text, None),
    };
    let (place, weight) = place.rsplit_once(':').filter(|_| !place.contains(' ')).ok_or(form)?;
    let weight = number(weight, &super::WEIGHT)
        .filter(|_| !weight.is_empty())
        .ok_or_else(|| format!("the weight must be {} to {}", super::WEIGHT.start(), super::WEIGHT.end()))?
        as u32;
    let (place, hashed) = place_of(place).map_err(|what| what.unwrap_or_else(|| form.to_string()))?;
    let (address, default_name) = address::address(&place)?;
    let identity = match name {
        Some(name) => identity(name)?,
        None => default_name,
    };
    let hashed = name.map_or(hashed, str::to_string);
    let entry = identity.clone();
    Ok((Backend { address, weight, name: identity, label: Label::Name(hashed.clone()), entry }, hashed))
}

/// A place as `--backends` takes it, and what twemproxy hashes when it has no name: the host alone if the
/// port is 11211, a path with a colon behind it. `Err(None)`: it is of another form.
fn place_of(place: &str) -> Result<(String, String), Option<String>> {
    if place.starts_with('/') {
        return match place.contains(':') {
            true => Err(Some("the path of a server's socket may have no colon".to_string())),
            false => Ok((format!("unix:{place}"), format!("{place}:"))),
        };
    }
    let (host, digits) = place.rsplit_once(':').ok_or(None)?;
    if host.is_empty() {
        return Err(Some("the host is missing".to_string()));
    }
    let port = port_of(digits)?;
    // The port as it is written, 011212 for instance: it is text that is hashed.
    let hashed = if port == PORT_UNNAMED { host.to_string() } else { place.to_string() };
    let host = match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_) => host.to_string(),
    };
    Ok((format!("{host}:{port}"), hashed))
}

/// A server's own name as mcproxy's identity of it: it stands in error lines and in `stats`.
fn identity(name: &str) -> Result<String, String> {
    match name.len() <= address::NAME_MAX && name.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(name.to_string()),
        false => Err(format!("a name has 1 to {} printable ASCII characters", address::NAME_MAX)),
    }
}

fn port_of(text: &str) -> Result<u64, String> {
    let port = number(text, &PORT).filter(|_| !text.is_empty());
    port.ok_or_else(|| format!("the port must be {} to {}", PORT.start(), PORT.end()))
}

fn permissions(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= MODE_MAX);
    mode.ok_or_else(|| "the permissions of a socket's file must be 0 to 0777, octal".to_string())
}

/// The first address of a name, looked up once, as twemproxy does at its start.
fn resolved(host: &str, port: u16) -> Result<IpAddr, String> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    addresses.next().map(|address| address.ip()).ok_or_else(|| format!("{host} has no address"))
}
