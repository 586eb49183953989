//! The arguments of `mcproxy map` and `mcproxy detect`.

use clap::{Args, Subcommand};

use super::{Arguments, Backend, HashedPart, Method, address, complaint, placement};
use crate::detect::Detect;
use crate::map::{Keys, Map, Side, checked};

/// How to get keys to look for.
const HOW_TO_GET_KEYS: &str = "some hundred keys that the servers hold, one a line; on a test machine \
                               memcached lists its keys: \
                               printf 'lru_crawler metadump all\\r\\n' | nc SERVER 11211 > FILE";

/// What mcproxy does beside serving.
#[derive(Subcommand)]
pub(super) enum Tool {
    /// Prints where keys lie: the key, its server and why, tab-separated; asks nobody
    Map(MapArguments),
    /// Finds the placement by which keys lie where they do: asks the servers for them
    Detect(DetectArguments),
}

/// How keys are placed, for all that mcproxy does.
#[derive(Args)]
pub(super) struct PlacementArguments {
    /// Which server a key belongs to: `rendezvous`, or as another client or proxy does it, such as
    /// `libmemcached-ketama-weighted`; a wrong name is told which there are
    #[arg(long, value_name = "NAME", default_value = "rendezvous", allow_hyphen_values = true)]
    placement: String,

    #[command(flatten)]
    part: PartArguments,
}

/// What of a key is hashed.
#[derive(Args)]
struct PartArguments {
    /// Two characters: of a key that has something between them, only that decides, as in `user:{42}:name`
    #[arg(long, value_name = "{}", allow_hyphen_values = true)]
    hash_tag: Option<String>,

    /// What keys begin with and what does not decide: a client's prefix that the client does not hash
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    hash_strip_prefix: Option<String>,
}

#[derive(Args)]
pub(super) struct MapArguments {
    #[command(flatten)]
    placement: PlacementArguments,

    /// The servers, as mcproxy takes them
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    backends: Option<String>,

    /// Instead of where keys lie, which share of them would move with this placement or this list of servers;
    /// may be given for both; without keys, a sample is made up
    #[arg(long, value_name = "PLACEMENT|LIST", allow_hyphen_values = true)]
    diff: Vec<String>,

    /// The keys; `-`: from standard input, one a line
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
}

#[derive(Args)]
pub(super) struct DetectArguments {
    /// The servers, as mcproxy takes them, in the order in which the client has them
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    backends: Option<String>,

    /// A file of keys, one a line, or of what memcached's metadump prints; `-`: standard input
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    keys: Option<String>,

    #[command(flatten)]
    part: PartArguments,
}

impl PlacementArguments {
    /// # Errors
    /// The line to print.
    pub(super) fn resolve(&self) -> Result<(Method, HashedPart), String> {
        let method =
            Method::parse(&self.placement).map_err(|what| complaint("--placement", &self.placement, what))?;
        Ok((method, self.part.resolve()?))
    }
}

impl PartArguments {
    fn resolve(&self) -> Result<HashedPart, String> {
        let tag = self.hash_tag.as_deref().map(|text| {
            <[u8; 2]>::try_from(text.as_bytes())
                .ok()
                .filter(|tag| tag.iter().all(u8::is_ascii_graphic))
                .ok_or_else(|| complaint("--hash-tag", text, "must be two characters, as in {}"))
        });
        let prefix = self.hash_strip_prefix.clone().unwrap_or_default().into_bytes();
        Ok(HashedPart { prefix, tag: tag.transpose()? })
    }
}

impl MapArguments {
    /// # Errors
    /// The line to print.
    pub(super) fn resolve(&self) -> Result<Map, String> {
        let (method, part) = self.placement.resolve()?;
        let servers = servers(self.backends.as_deref())?;
        let side = side(method, &part, &servers)?;
        let diff = match &self.diff[..] {
            [] => None,
            given => Some(other_side(given, method, &part, &servers)?),
        };
        let keys = match &self.keys[..] {
            [] if diff.is_some() => Keys::Sample,
            [] => return Err("KEY: missing; give the keys to map, or - for standard input".to_string()),
            [one] if one == "-" => Keys::Input,
            some => {
                let keys = some.iter().map(|key| checked(key.as_bytes()).map(<[u8]>::to_vec));
                Keys::Given(keys.collect::<Result<_, _>>().map_err(|error| format!("KEY {error}"))?)
            }
        };
        Ok(Map { side, diff, keys })
    }
}

impl DetectArguments {
    /// # Errors
    /// The line to print.
    pub(super) fn resolve(&self) -> Result<Detect, String> {
        let backends = servers(self.backends.as_deref())?;
        if let Some(embedded) = backends.iter().find(|backend| backend.address == super::Address::Embedded) {
            return Err(complaint("--backends", &embedded.entry, "holds no keys before mcproxy runs"));
        }
        let Some(keys) = self.keys.clone() else {
            return Err(format!("--keys: missing; it names a file of {HOW_TO_GET_KEYS}"));
        };
        Ok(Detect { backends, keys, part: self.part.resolve()? })
    }
}

fn servers(list: Option<&str>) -> Result<Vec<Backend>, String> {
    list.ok_or_else(|| "--backends: missing; it lists the memcached servers".to_string())
        .and_then(address::backend_list)
}

fn side(method: Method, part: &HashedPart, backends: &[Backend]) -> Result<Side, String> {
    let placement = placement(method, part, backends)?;
    Ok(Side { placement, owners: backends.iter().map(|backend| backend.entry.clone()).collect() })
}

/// What `--diff` compares with: each word is a placement's name if there is one of that name, else a list.
fn other_side(
    words: &[String],
    method: Method,
    part: &HashedPart,
    backends: &[Backend],
) -> Result<Side, String> {
    let (mut other_method, mut other_list) = (None, None);
    for word in words {
        let twice = match Method::parse(word) {
            Ok(method) => other_method.replace(method).is_some(),
            Err(_) => {
                let list = address::backend_list(word).map_err(|error| of_diff(&error))?;
                other_list.replace(list).is_some()
            }
        };
        if twice {
            return Err(complaint("--diff", word, "there is a placement or a list already"));
        }
    }
    let list = other_list.as_deref().unwrap_or(backends);
    side(other_method.unwrap_or(method), part, list).map_err(|error| of_diff(&error))
}

/// A complaint about a list or a placement is one about `--diff`.
fn of_diff(error: &str) -> String {
    let rest = error.strip_prefix("--backends").or_else(|| error.strip_prefix("--placement"));
    rest.map_or_else(|| error.to_string(), |rest| format!("--diff{rest}"))
}

impl Arguments {
    /// What the tool is to do, if one is named.
    pub(super) fn tool(&self) -> Option<Result<super::Command, String>> {
        self.tool.as_ref().map(|tool| match tool {
            Tool::Map(map) => map.resolve().map(super::Command::Map),
            Tool::Detect(detect) => detect.resolve().map(super::Command::Detect),
        })
    }
}
