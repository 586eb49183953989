//! The command line: flags -> [`Plan`]. Whatever is wrong with it is one line that names the flag and the
//! value.

use std::error::Error as _;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::items;
use crate::process::Watched;
use crate::target::Target;

/// What to do, checked.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcproxy-bench", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Plan {
    /// Where the load goes: `127.0.0.1:11211`, `[::1]:11211` or `unix:/path`; nothing off this machine
    #[arg(long, value_name = "ADDR", value_parser = Target::parse, allow_hyphen_values = true)]
    pub(crate) target: Target,

    /// Connections
    #[arg(
        long,
        value_name = "N",
        default_value = "50",
        value_parser = number(1..=100_000),
        allow_hyphen_values = true
    )]
    pub(crate) clients: u64,

    /// Requests in flight per connection
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = number(1..=1024),
        allow_hyphen_values = true
    )]
    pub(crate) pipeline: u64,

    /// Threads, which share the connections
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = number(1..=64),
        allow_hyphen_values = true
    )]
    pub(crate) threads: u64,

    /// `text`, `meta` or `binary`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "text",
        value_parser = protocol,
        allow_hyphen_values = true
    )]
    pub(crate) protocol: Protocol,

    /// `get`, `set`, `mixed` (see --get-share) or `multiget` (see --multiget)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "mixed",
        value_parser = workload,
        allow_hyphen_values = true
    )]
    pub(crate) workload: Workload,

    /// Gets among the operations of `mixed`, the rest are sets
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "0.9",
        value_parser = share,
        allow_hyphen_values = true
    )]
    pub(crate) get_share: f64,

    /// Read with `gets`, as gomemcache does (text only)
    #[arg(long)]
    pub(crate) gets: bool,

    /// Keys of one operation of `multiget`
    #[arg(
        long,
        value_name = "N",
        default_value = "20",
        value_parser = number(1..=1000),
        allow_hyphen_values = true
    )]
    pub(crate) multiget: u64,

    /// Different keys
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        value_parser = number(1..=10_000_000),
        allow_hyphen_values = true
    )]
    pub(crate) keys: u64,

    /// Length of a key, bytes
    #[arg(
        long,
        value_name = "N",
        default_value = "31",
        value_parser = number(1..=250),
        allow_hyphen_values = true
    )]
    pub(crate) key_bytes: u64,

    /// Length of a value, bytes
    #[arg(
        long,
        value_name = "N",
        default_value = "100",
        value_parser = number(1..=1 << 26),
        allow_hyphen_values = true
    )]
    pub(crate) value_bytes: u64,

    /// How long to measure [default: 5, or no limit with --requests]
    #[arg(long, value_name = "S", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) seconds: Option<Duration>,

    /// Operations, over all connections; with --seconds, whichever ends first
    #[arg(long, value_name = "N", value_parser = number(1..=1 << 50), allow_hyphen_values = true)]
    pub(crate) requests: Option<u64>,

    /// Open loop: operations a second over all connections, whether the answers come or not; a latency counts
    /// from when the operation was due, so that waiting behind a slow answer is not left out
    #[arg(long, value_name = "R", value_parser = number(1..=10_000_000), allow_hyphen_values = true)]
    pub(crate) rate: Option<u64>,

    /// How long to run the same load before measuring
    #[arg(long, value_name = "S", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) warmup: Option<Duration>,

    /// Set all keys first, through the target
    #[arg(long)]
    pub(crate) preload: bool,

    /// Report the CPU time of this process per operation; repeatable
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = Watched::parse, allow_hyphen_values = true)]
    pub(crate) watched: Vec<Watched>,

    /// Of the order of keys and of gets and sets
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = number(0..=u64::MAX),
        allow_hyphen_values = true
    )]
    pub(crate) seed: u64,

    /// After which a target that answers nothing has failed
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,

    /// Count SERVER_ERROR and the binary statuses like it instead of ending the run with the first
    #[arg(long)]
    pub(crate) tolerate_errors: bool,

    /// Open N connections that do nothing, hold them for --seconds, and report the private memory of each
    /// --pid
    #[arg(long, value_name = "N", value_parser = number(1..=100_000), allow_hyphen_values = true)]
    pub(crate) idle: Option<u64>,

    /// With --idle: one get on each connection first
    #[arg(long, requires = "idle")]
    pub(crate) touch_idle: bool,

    /// The result as one line of JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,

    /// The result as one line of CSV
    #[arg(long)]
    pub(crate) csv: bool,

    /// With --csv: a line of column names before it
    #[arg(long, requires = "csv")]
    pub(crate) csv_header: bool,
}

const ABOUT: &str = "\
Loads a memcached, or a proxy in front of some, and checks every byte of the replies";

const EXAMPLES: &str = "\
Examples:
  Closed loop: 50 connections, each with one request in flight, 90 % gets, for 5 seconds:
    mcproxy-bench --target 127.0.0.1:11211 --preload

  What a proxy and its server spend per operation, 16 requests in flight on each connection:
    mcproxy-bench --target 127.0.0.1:11311 --pipeline 16 --preload --warmup 1 \\
        --pid proxy=4242 --pid memcached=4243

  Latency at 20000 operations a second, meta protocol, as JSON:
    mcproxy-bench --target 127.0.0.1:11311 --protocol meta --rate 20000 --preload --json

  Gets of 20 keys, binary, exactly 100000 of them:
    mcproxy-bench --target 127.0.0.1:11311 --protocol binary --preload \\
        --workload multiget --requests 100000

  What 10000 idle connections cost once each has fetched 100 KiB:
    mcproxy-bench --target 127.0.0.1:11311 --idle 10000 --touch-idle --preload --keys 100 \\
        --value-bytes 102400 --pid proxy=4242

Every reply is checked to the last byte. A wrong one, a closed connection or --timeout without an answer ends the run
with status 1; a bad flag with status 2.";

/// One of memcached's protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Text,
    Meta,
    Binary,
}

/// What the operations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Get,
    Set,
    Mixed,
    Multiget,
}

/// Why [`parse`] gave no plan.
#[derive(Debug)]
pub(crate) struct Exit {
    /// 0 for `--help` and `--version`, 2 for a bad command line.
    pub(crate) status: u8,
    /// For stdout if the status is 0, for stderr else, where it is one line.
    pub(crate) text: String,
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// `--help` and `--version` with status 0, everything that can't be used with status 2.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Plan, Exit> {
    let plan = Plan::try_parse_from(arguments).map_err(|error| exit_of(&error))?;
    match plan.contradiction() {
        None => Ok(plan),
        Some(text) => Err(refusal(&text)),
    }
}

impl Plan {
    /// How long to measure; `None` if only the number of operations ends it.
    pub(crate) fn duration(&self) -> Option<Duration> {
        match (self.seconds, self.requests) {
            (None, None) => Some(Duration::from_secs(5)),
            (seconds, _) => seconds,
        }
    }

    /// What is wrong with flags that are well-formed one by one.
    fn contradiction(&self) -> Option<String> {
        let (key_bytes, keys, value_bytes) = (self.key_bytes, self.keys, self.value_bytes);
        let key_min = items::key_bytes_min(keys);
        if key_bytes < key_min {
            return Some(format!("--key-bytes {key_bytes}: too short for {keys} keys, which take {key_min}"));
        }
        let value_min = items::value_bytes_min(key_bytes);
        if value_bytes < value_min {
            let why = "too short for the key and the number of its write, by which a value is checked";
            return Some(format!("--value-bytes {value_bytes}: {why}: at least {value_min}"));
        }
        if keys.saturating_mul(key_bytes) > 1 << 30 {
            return Some(format!("--keys {keys}: more than a GiB of keys of {key_bytes} bytes"));
        }
        if self.workload == Workload::Multiget && self.multiget > keys {
            return Some(format!("--multiget {}: more than --keys {keys}", self.multiget));
        }
        if self.gets && self.protocol != Protocol::Text {
            return Some("--gets: only with --protocol text".to_string());
        }
        if self.threads > self.clients {
            return Some(format!("--threads {}: more than --clients {}", self.threads, self.clients));
        }
        let twice =
            |watched: &Watched| self.watched.iter().filter(|other| other.name == watched.name).count() > 1;
        let watched = self.watched.iter().find(|watched| twice(watched))?;
        Some(format!("--pid {}={}: the name is there already", watched.name, watched.pid))
    }
}

impl Protocol {
    /// As the flag takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Text => "text",
            Protocol::Meta => "meta",
            Protocol::Binary => "binary",
        }
    }
}

impl Workload {
    /// As the flag takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Get => "get",
            Workload::Set => "set",
            Workload::Mixed => "mixed",
            Workload::Multiget => "multiget",
        }
    }
}

/// A parser of digits alone within `range`.
fn number(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be {} to {}", range.start(), range.end()))
    }
}

fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const MIN: f64 = 0.001;
    const MAX: f64 = 86_400.0;
    decimal(text)
        .filter(|seconds| (MIN..=MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("must be seconds, {MIN} to {MAX}, such as 0.5"))
}

fn share(text: &str) -> Result<f64, String> {
    decimal(text)
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be a part of one, 0 to 1, such as 0.9".to_string())
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    let all = [Protocol::Text, Protocol::Meta, Protocol::Binary];
    all.into_iter().find(|protocol| protocol.name() == text).ok_or("must be text, meta or binary")
}

fn workload(text: &str) -> Result<Workload, &'static str> {
    let all = [Workload::Get, Workload::Set, Workload::Mixed, Workload::Multiget];
    all.into_iter().find(|workload| workload.name() == text).ok_or("must be get, set, mixed or multiget")
}

fn refusal(text: &str) -> Exit {
    Exit { status: 2, text: format!("mcproxy-bench: {text}") }
}

/// clap's answer, turned into one line unless it is what the user asked for.
fn exit_of(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Exit { status: 0, text: error.to_string() };
    }
    // clap names an argument as in its usage line: `--threads <N>`.
    let flag = shown(context(error, ContextKind::InvalidArg).split(" <").next().unwrap_or_default());
    let value = shown(&context(error, ContextKind::InvalidValue));
    let first_line = || shown(error.to_string().lines().next().unwrap_or("bad arguments"));
    refusal(&match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') => format!("{flag}: no such flag (see --help)"),
        ErrorKind::UnknownArgument => format!("{flag}: unexpected argument (see --help)"),
        ErrorKind::MissingRequiredArgument => format!("{flag}: missing (see --help)"),
        ErrorKind::InvalidValue => format!("{flag}: its value is missing"),
        ErrorKind::TooManyValues => format!("{flag} {value}: this flag takes no value"),
        ErrorKind::ArgumentConflict => match shown(&context(error, ContextKind::PriorArg)) {
            other if other.is_empty() || other.split(" <").next() == Some(&flag[..]) => {
                format!("{flag}: given more than once")
            }
            other => format!("{flag}: not together with {other}"),
        },
        ErrorKind::ValueValidation => {
            let why = error.source().map_or_else(first_line, ToString::to_string);
            format!("{flag} {}: {why}", if value.is_empty() { "''" } else { &value })
        }
        _ => first_line(),
    })
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// On one line, whatever it holds.
fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(visible).collect()
}
