//! `mcproxy detect`: by which placement keys lie where they do. It asks every server for every key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::config::{Address, Backend};
use crate::limits::DETECT_KEYS_MAX;
use crate::map::{checked, each_line};
use crate::placement::{HashedPart, Method, Placement, Server};

/// What is to be found out.
#[derive(Debug, PartialEq, Eq)]
pub struct Detect {
    /// The servers, in the order in which the client has them.
    pub backends: Vec<Backend>,
    /// The file of keys; `-`: standard input.
    pub keys: String,
    /// What of a key is hashed.
    pub part: HashedPart,
}

/// Keys asked for before their answers are read: both fit in the buffers between us and a server.
const KEYS_AT_ONCE: usize = 100;

/// A server answers at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks, and prints a line for each placement: its name and the share of the found keys that it explains,
/// best first. Placements that put every found key on the same server share a line. What was found goes to
/// `notes`.
///
/// # Errors
/// One line: the file cannot be read, holds no keys, a server cannot be asked, or no key was found.
pub fn run(detect: &Detect, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), String> {
    let keys = read_keys(&detect.keys).map_err(|error| format!("--keys {}: {error}", detect.keys))?;
    let found = ask_all(&detect.backends, &keys)?;
    let several = found.iter().filter(|(_, holders)| holders.len() > 1).count();
    let servers = detect.backends.len();
    let _ = writeln!(
        notes,
        "{} of {} keys are there; {several} of them on several of the {servers} servers",
        found.len(),
        keys.len()
    );
    if found.is_empty() {
        return Err(format!("--keys {}: no server has any of these keys", detect.keys));
    }
    for (names, share) in ranking(&detect.backends, &detect.part, &found, notes) {
        writeln!(output, "{names}\t{share:.1} %").map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A key, and the servers that have it.
type Found<'a> = (&'a [u8], Vec<usize>);

/// The placements that the list of servers allows, best first: their names and the share that they explain,
/// percent. Why others are left out goes to `notes`.
fn ranking(
    backends: &[Backend],
    part: &HashedPart,
    found: &[Found<'_>],
    notes: &mut dyn Write,
) -> Vec<(String, f64)> {
    let servers: Vec<Server> = backends.iter().map(Backend::server).collect();
    let mut alike: BTreeMap<Vec<u16>, Vec<Method>> = BTreeMap::new();
    for method in Method::all() {
        match Placement::new(method, part.clone(), &servers) {
            Ok(placement) => {
                let owners = found.iter().map(|(key, _)| placement.owner(key) as u16).collect();
                alike.entry(owners).or_default().push(method);
            }
            Err(why) => {
                let _ = writeln!(notes, "left out: {method}: {why}");
            }
        }
    }
    let mut lines: Vec<(usize, Vec<Method>)> = alike
        .into_iter()
        .map(|(owners, methods)| {
            let explained = owners.iter().zip(found);
            let explained = explained.filter(|(owner, (_, holders))| holders.contains(&usize::from(**owner)));
            (explained.count(), methods)
        })
        .collect();
    lines.sort_by_key(|(explained, methods)| (std::cmp::Reverse(*explained), methods[0].to_string()));
    let names = |methods: &[Method]| methods.iter().map(Method::to_string).collect::<Vec<_>>().join(" = ");
    lines
        .iter()
        .map(|(explained, methods)| (names(methods), 100.0 * *explained as f64 / found.len() as f64))
        .collect()
}

/// The keys of a file: lines, or those of memcached's metadump (`key=... exp=...`), where they are
/// URL-encoded.
fn read_keys(path: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut input: Box<dyn BufRead> = match path {
        "-" => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path)?)),
    };
    let mut keys = Vec::new();
    each_line(&mut *input, |line| {
        if keys.len() == DETECT_KEYS_MAX || line == b"END" {
            return Ok(());
        }
        keys.push(match dumped(line) {
            Some(key) => checked(&key)?.to_vec(),
            None => checked(line)?.to_vec(),
        });
        Ok(())
    })?;
    if keys.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no key in it"));
    }
    Ok(keys)
}

/// The key of a line of `lru_crawler metadump`.
fn dumped(line: &[u8]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix(b"key=")?;
    let end = rest.iter().position(|&byte| byte == b' ').filter(|end| rest[*end..].starts_with(b" exp="))?;
    let mut decoded = Vec::new();
    let mut rest = &rest[..end];
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                decoded.push(value);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    Some(decoded)
}

/// Which servers have which keys; those that none has are left out.
fn ask_all<'a>(backends: &[Backend], keys: &'a [Vec<u8>]) -> Result<Vec<Found<'a>>, String> {
    let answers = thread::scope(|scope| {
        let asking: Vec<_> = backends.iter().map(|backend| scope.spawn(move || ask(backend, keys))).collect();
        let answers = asking.into_iter().zip(backends).map(|(asking, backend)| {
            let answer =
                asking.join().unwrap_or_else(|_| Err(io::Error::other("the thread that asked it failed")));
            answer.map_err(|error| format!("{}: {error}", backend.name))
        });
        answers.collect::<Result<Vec<_>, _>>()
    })?;
    let holders = |key: usize| (0..backends.len()).filter(|server| answers[*server][key]).collect::<Vec<_>>();
    let found = keys.iter().enumerate().map(|(number, key)| (&key[..], holders(number)));
    Ok(found.filter(|(_, holders)| !holders.is_empty()).collect())
}

/// For each key whether the server has it. `mg` without flags brings no value.
fn ask(backend: &Backend, keys: &[Vec<u8>]) -> io::Result<Vec<bool>> {
    let (reader, mut writer) = connect(&backend.address)?;
    let mut reader = BufReader::new(reader);
    let mut has = Vec::with_capacity(keys.len());
    for some in keys.chunks(KEYS_AT_ONCE) {
        let requests: Vec<u8> = some.iter().flat_map(|key| [b"mg ", &key[..], b"\r\n"].concat()).collect();
        writer.write_all(&requests)?;
        for _ in some {
            let mut line = Vec::new();
            (&mut reader).take(4096).read_until(b'\n', &mut line)?;
            has.push(match &line[..] {
                b"HD\r\n" => true,
                b"EN\r\n" => false,
                b"" => return Err(io::Error::other("closed the connection")),
                b"ERROR\r\n" => {
                    return Err(io::Error::other("does not know mg, which memcached has since 1.6"));
                }
                other => {
                    let shown = String::from_utf8_lossy(other).trim_end().escape_debug().to_string();
                    return Err(io::Error::other(format!("answered {shown:?} to mg")));
                }
            });
        }
    }
    Ok(has)
}

type Both = (Box<dyn Read>, Box<dyn Write>);

fn connect(address: &Address) -> io::Result<Both> {
    let stream = match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok((Box::new(stream.try_clone()?), Box::new(stream)));
        }
        Address::Ip(address) => TcpStream::connect_timeout(address, PATIENCE)?,
        Address::Host { host, port } => {
            let mut last = io::Error::other("its name has no address");
            let connected = (&host[..], *port).to_socket_addrs()?.find_map(|address| {
                TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| last = error).ok()
            });
            connected.ok_or(last)?
        }
        Address::Embedded => return Err(io::Error::other("is in no other process")),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok((Box::new(stream.try_clone()?), Box::new(stream)))
}
