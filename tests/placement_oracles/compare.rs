//! What a library said beside what mcproxy computes.

use mcproxy::placement::{HashedPart, Label, Method, Placement, Server};

use crate::ask::hex;
use crate::libraries::Case;
use crate::support::report::escape;

/// Keys of which a report tells.
const SHOWN_MAX: usize = 3;

/// Holds a case against the owners that a library of this `version` gave for `keys`.
///
/// # Errors
/// A report of the keys that mcproxy places elsewhere; `repeat` is the command that shows them again.
pub(crate) fn compare(
    (library, version): (&str, &str),
    case: &Case,
    (keys, owners): (&[&[u8]], &[usize]),
    repeat: &str,
) -> Result<(), Mismatch> {
    let servers = case.list.servers();
    let spelled: Vec<Server> = servers.iter().map(|server| spelled(server, &case.placement)).collect();
    for servers in [servers, spelled] {
        let part = HashedPart { prefix: case.prefix.clone().unwrap_or_default().into_bytes(), tag: case.tag };
        let found = Method::parse(&case.placement)
            .and_then(|method| Placement::new(method, part, &servers))
            .map_err(|why| vec![format!("  mcproxy does not take it: {why}"); keys.len()])
            .and_then(|placement| agree(&placement, case, keys, owners));
        if let Err(lines) = found {
            let head = head((library, version), case, &servers);
            let mut shown = lines[..lines.len().min(SHOWN_MAX)].to_vec();
            shown.dedup();
            let shown = shown.join("\n");
            let text =
                format!("{head}\n{shown}\n  {} of {} keys differ; repeat: {repeat}", lines.len(), keys.len());
            return Err(Mismatch { keys: lines.len(), text });
        }
    }
    Ok(())
}

/// Keys that lie elsewhere.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) keys: usize,
    pub(crate) text: String,
}

/// The same server as a name that somebody gave it.
fn spelled(server: &Server, placement: &str) -> Server {
    let label = match &server.label {
        // twemproxy hashes names as they stand, and leaves the usual port out itself.
        Label::Tcp { host, port: 11211 } if placement.starts_with("twemproxy") => Label::Name(host.clone()),
        Label::Tcp { host, port } if placement.starts_with("twemproxy") => {
            Label::Name(format!("{host}:{port}"))
        }
        Label::Tcp { host, port } if host.contains(':') => Label::Name(format!("[{host}]:{port}")),
        Label::Tcp { host, port } => Label::Name(format!("{host}:{port}")),
        other => other.clone(),
    };
    Server { label, ..server.clone() }
}

fn agree(placement: &Placement, case: &Case, keys: &[&[u8]], owners: &[usize]) -> Result<(), Vec<String>> {
    let prefix = case.prefix.as_deref().unwrap_or_default();
    let written = |index: usize| case.list.hosts[index].written();
    let mut lines = Vec::new();
    for (key, &theirs) in keys.iter().zip(owners) {
        let ours = placement.owner(&[prefix.as_bytes(), key].concat());
        if ours != theirs {
            let key = format!("{} {}", hex(key), escape(key));
            lines.push(format!(
                "  key {key}: the library says {theirs} ({}), mcproxy {ours} ({})",
                written(theirs),
                written(ours)
            ));
        }
    }
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

fn head((library, version): (&str, &str), case: &Case, servers: &[Server]) -> String {
    let tag = case.tag.map_or(String::new(), |tag| format!(", hash tag {}", escape(&tag)));
    let prefix = case.prefix.as_ref().map_or(String::new(), |prefix| format!(", prefix {prefix:?}"));
    let labels: Vec<&Label> = servers.iter().map(|server| &server.label).collect();
    format!(
        "{library} {version}, {}, list {:?}{tag}{prefix}:\n  {}\n  {labels:?}",
        case.placement,
        case.list.name,
        case.list.written()
    )
}
