//! The command line: raw `Arguments` -> checked, resolved [`Config`].
//!
//! Two stages, so that every complaint has one form. clap only splits the words into flags and values; what
//! the values may be is decided here, because clap answers a bad value with several lines, and the promise is
//! one line that names the flag and the value.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use crate::detect::Detect;
use crate::map::Map;
pub use crate::placement::{HashedPart, Label, Method};
use crate::placement::{Placement, Server};
pub use crate::proxy::settings::{ReadErrors, Rejoin};

mod address;
mod nutcracker;
#[cfg(test)]
mod tests;
mod tools;

/// What the program was asked for.
#[derive(Debug)]
pub enum Command {
    /// To serve.
    Serve(Program),
    /// To say where keys lie.
    Map(Map),
    /// To find out how keys were placed.
    Detect(Detect),
}

/// What the program was asked to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// One, or those of a file in its order; never empty. What they say of the process, its log, its memory
    /// and its end, is the same in all.
    pub pools: Vec<Config>,
    /// Most clients connected at the same time, over all pools.
    pub max_conns: usize,
    /// What is otherwise than a file says or means: lines to log at the start.
    pub warnings: Vec<String>,
}

/// A pool, checked and with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name, if it stands in a file.
    pub pool: Option<String>,
    /// Where clients are accepted; never empty.
    pub listen: Vec<Listen>,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// The permissions of the files of unix sockets; None: what the umask leaves.
    pub socket_mode: Option<u32>,
    /// The memcached servers in the order given; never empty, names all different.
    pub backends: Vec<Backend>,
    /// Which backend a key belongs to.
    pub placement: Method,
    /// What of a key decides that.
    pub hashed_part: HashedPart,
    /// Workers.
    pub threads: usize,
    /// Most clients connected at the same time, over all its workers.
    pub max_conns: usize,
    /// After which a request without an answer gets its error.
    pub timeout: Duration,
    /// After which an attempt to connect to a backend is given up.
    pub connect_timeout: Duration,
    /// Failures in a row after which a backend is down.
    pub failure_limit: u32,
    /// How often a backend that is down is tried, before any backing off.
    pub retry_interval: Duration,
    /// Whether the keys of a backend that is down go to the others.
    pub auto_eject: bool,
    /// What is done with a backend that returns.
    pub rejoin: Rejoin,
    /// The longest that a client is taken to hold a CAS token.
    pub cas_fence: Duration,
    /// How long requests in flight may take to finish after SIGTERM or SIGINT.
    pub drain_timeout: Duration,
    /// Largest value of a request, bytes.
    pub value_max: usize,
    /// Bytes that all workers together may buffer.
    pub memory_limit: usize,
    /// What a read is answered whose backend fails.
    pub read_errors: ReadErrors,
    /// Whether gets of several clients that meet leave as one request.
    pub join_gets: bool,
    /// Whether clients may use flush_all.
    pub flush_all_enabled: bool,
    /// What moves the bytes.
    pub io: Engine,
    /// What is logged.
    pub log_level: log::LevelFilter,
}

/// What moves the bytes of clients and backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// mio: epoll or kqueue.
    #[default]
    Mio,
    /// io_uring, or nothing.
    Uring,
    /// io_uring where it can run, else mio.
    Auto,
}

/// An address to accept clients at. Its `Display` is the form the command line takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP port.
    Tcp {
        /// None: all addresses, IPv6 and IPv4.
        host: Option<IpAddr>,
        /// 0: one that the kernel chooses.
        port: u16,
    },
    /// A unix stream socket at an absolute path.
    Unix(PathBuf),
}

/// One memcached server, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is reached.
    pub address: Address,
    /// 1 to 1000; in twemproxy's file 1 to 1,000,000.
    pub weight: u32,
    /// Its identity for placement, errors and `stats`; printable ASCII without spaces.
    pub name: String,
    /// What placements made for other programs call it.
    pub label: Label,
    /// Its name if it was given one, else its address as it is spelled in the configuration.
    pub entry: String,
}

impl Backend {
    /// What a placement knows of it.
    pub fn server(&self) -> Server {
        Server { name: self.name.clone(), weight: self.weight, label: self.label.clone() }
    }
}

/// Where a backend is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name in lower case, resolved before each connect.
    Host {
        /// The name, without the port.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// An address that needs no resolving.
    Ip(SocketAddr),
    /// A unix stream socket at an absolute path.
    Unix(PathBuf),
    /// One of the in-process memory backends of `embedded:N`.
    Embedded,
}

/// Why [`parse`] gave no configuration: a request for help, or a bad command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The status the process ends with: 0, or 2 for a bad command line.
    pub status: i32,
    /// For stderr if the status is not 0 (always one line), for stdout else; without the last line end.
    pub text: String,
}

/// Reads a command line, the program's name first as [`std::env::args_os`] gives it.
///
/// # Errors
/// `--help` and `--version` end with status 0, everything that can't be used with status 2.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    let arguments = utf8(arguments)?;
    let matches = Arguments::command().try_get_matches_from(arguments).map_err(|error| exit_of(&error))?;
    let raw = Arguments::from_arg_matches(&matches).map_err(|error| exit_of(&error))?;
    let command = match (raw.tool(), &raw.nutcracker) {
        (Some(tool), _) => tool,
        (None, Some(file)) => pools_of_file(file, &raw, &matches).map(Command::Serve),
        (None, None) => resolve(&raw).map(Command::Serve),
    };
    command.map_err(|text| Exit { status: 2, text: format!("mcproxy: {text}") })
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp { host: None, port } => write!(f, ":{port}"),
            Listen::Tcp { host: Some(host), port } => write!(f, "{}", SocketAddr::new(*host, *port)),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

const EXAMPLE: &str = "\
Example:
  mcproxy --listen :11311 --backends 10.0.0.1,10.0.0.2,10.0.0.3
  printf 'set greeting 0 0 5\\r\\nhello\\r\\nget greeting\\r\\nquit\\r\\n' | nc 127.0.0.1 11311

To try it without a memcached:
  mcproxy --listen :11311 --backends embedded:3";

/// A memcached proxy: text, meta and binary on one port, batched, with CAS that stays true.
#[derive(Parser)]
#[command(name = "mcproxy", version, after_help = EXAMPLE, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    tool: Option<tools::Tool>,

    /// Where to accept clients: `:11311` (all addresses), `127.0.0.1:11311`, `[::1]:11311` or
    /// `unix:/path`; repeatable
    #[arg(long, value_name = "ADDR", default_value = ":11211", allow_hyphen_values = true)]
    listen: Vec<String>,

    /// The memcached servers, comma-separated: `host[:port][=weight][@name]`, `[::1]:11211`, `unix:/path`,
    /// or `embedded:N` for N in-process ones (not for production); port 11211 and weight 1 unless given,
    /// weights 1 to 1000
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    backends: Option<String>,

    #[command(flatten)]
    placement: tools::PlacementArguments,

    /// Serve the pools of a configuration file of twemproxy (nutcracker), each key where it has it; flags
    /// that the file answers are refused beside it
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    nutcracker: Option<String>,

    /// Workers [default: the cores this process may use, at most 4]
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    threads: Option<String>,

    /// Most clients connected at the same time, over all workers
    #[arg(short = 'c', long, value_name = "N", default_value = "10000", allow_hyphen_values = true)]
    max_conns: String,

    /// After which a request without an answer gets its error, such as `250ms`
    #[arg(long, value_name = "TIME", default_value = "1s", allow_hyphen_values = true)]
    timeout: String,

    /// After which an attempt to connect to a backend is given up
    #[arg(long, value_name = "TIME", default_value = "500ms", allow_hyphen_values = true)]
    connect_timeout: String,

    /// Failures in a row after which a backend is down
    #[arg(long, value_name = "N", default_value = "3", allow_hyphen_values = true)]
    failure_limit: String,

    /// How often a backend that is down is tried, backing off to 5s at most
    #[arg(long, value_name = "TIME", default_value = "1s", allow_hyphen_values = true)]
    retry_interval: String,

    /// The keys of a server that is down go to the others until it answers again
    #[arg(long)]
    auto_eject: bool,

    /// With --auto-eject, a server that returns and has missed writes: `flush` makes it forget them, `as-is`
    /// lets it answer with what is older
    #[arg(long, value_name = "HOW", default_value = "flush", allow_hyphen_values = true)]
    rejoin: String,

    /// The longest that a client holds a CAS token: for so long after a key has changed its server, or that
    /// was restarted, a `cas` with a token from before is answered EXISTS
    #[arg(long, value_name = "TIME", default_value = "10m", allow_hyphen_values = true)]
    cas_fence: String,

    /// How long requests in flight may take to finish after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "5s", allow_hyphen_values = true)]
    drain_timeout: String,

    /// Largest value, as memcached's -I: bytes, or with `k`, `m` or `g`; 1k to 1g
    #[arg(long, value_name = "SIZE", default_value = "1m", allow_hyphen_values = true)]
    max_value: String,

    /// What may be buffered in all, in requests and in unread answers: as --max-value, at least twice that
    /// [default: 192m, or twice --max-value if that is more]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_limit: Option<String>,

    /// What a read is answered whose backend fails: `error`; `miss` (get, gat and mg without `c` miss, what
    /// carries a token stays an error); or `miss-all` (gets and gats miss too)
    #[arg(long, value_name = "HOW", default_value = "error", allow_hyphen_values = true)]
    read_errors: String,

    /// Whether gets of several clients that meet leave as one request to the server: `on` or `off`
    #[arg(long, value_name = "WHEN", default_value = "on", allow_hyphen_values = true)]
    join_gets: String,

    /// Refuse flush_all
    #[arg(short = 'F', long)]
    disable_flush_all: bool,

    /// What moves the bytes: `mio`; `uring` (io_uring, of Linux 6.1 or newer); or `auto`, io_uring where it
    /// can run and mio elsewhere
    #[arg(long, value_name = "ENGINE", default_value = "mio", allow_hyphen_values = true)]
    io: String,

    /// What is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`
    #[arg(long, value_name = "LEVEL", default_value = "info", allow_hyphen_values = true)]
    log_level: String,
}

const DEFAULT_MEMORY_LIMIT: usize = 192 << 20;
const DEFAULT_THREADS_MAX: usize = 4;
const THREADS: RangeInclusive<u64> = 1..=64;
const MAX_CONNS_MAX: usize = 1_000_000;
const MAX_CONNS: RangeInclusive<u64> = 1..=MAX_CONNS_MAX as u64;
/// As memcached's -b.
const DEFAULT_BACKLOG: u32 = 1024;
const FAILURE_LIMIT: RangeInclusive<u64> = 1..=1_000_000;
/// What memcached takes for -I, bytes.
const MAX_VALUE: RangeInclusive<u64> = 1 << 10..=1 << 30;
const MEMORY_LIMIT: RangeInclusive<u64> = 16 << 20..=1 << 40;
const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(3600);
/// The interval backs off to this, so that a longer one would never be kept.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(5);
const CAS_FENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86400);

/// Flags that twemproxy's file answers, by their names for clap.
const ANSWERED_BY_FILE: [&str; 10] = [
    "listen",
    "backends",
    "placement",
    "hash_tag",
    "hash_strip_prefix",
    "timeout",
    "connect_timeout",
    "failure_limit",
    "retry_interval",
    "auto_eject",
];

/// The second stage. An error is the line to print, without the program's name.
fn resolve(raw: &Arguments) -> Result<Program, String> {
    let listen = address::listen_list(&raw.listen)?;
    let Some(list) = &raw.backends else {
        return Err("--backends: missing; it lists the memcached servers, as in \
                    --backends 10.0.0.1,10.0.0.2 (or embedded:3, to try mcproxy out)"
            .to_string());
    };
    let (method, part) = raw.placement.resolve()?;
    let backends = address::backend_list(list)?;
    placement(method, &part, &backends)?;
    let config = Config { listen, backends, placement: method, hashed_part: part, ..without_servers(raw)? };
    Ok(Program { max_conns: config.max_conns, pools: vec![config], warnings: Vec::new() })
}

/// The second stage with `--nutcracker`.
fn pools_of_file(file: &str, raw: &Arguments, matches: &ArgMatches) -> Result<Program, String> {
    let given = |id: &&&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(id) = ANSWERED_BY_FILE.iter().find(given) {
        let flag = id.replace('_', "-");
        return Err(format!("--{flag}: not together with --nutcracker, whose file answers it"));
    }
    nutcracker::program(file, &without_servers(raw)?, given(&&"max_conns"))
}

/// The placement of these servers. An error is the line to print.
fn placement(method: Method, part: &HashedPart, backends: &[Backend]) -> Result<Placement, String> {
    let servers: Vec<Server> = backends.iter().map(Backend::server).collect();
    Placement::new(method, part.clone(), &servers)
        .map_err(|what| complaint("--placement", &method.to_string(), what))
}

/// What is said neither of clients' addresses nor of servers.
fn without_servers(raw: &Arguments) -> Result<Config, String> {
    let all = TIME_MIN..=TIME_MAX;
    Ok(Config {
        pool: None,
        listen: Vec::new(),
        backlog: DEFAULT_BACKLOG,
        socket_mode: None,
        backends: Vec::new(),
        placement: Method::Rendezvous,
        hashed_part: HashedPart::default(),
        threads: match &raw.threads {
            Some(text) => flag_number("--threads", text, THREADS)? as usize,
            None => default_threads(),
        },
        max_conns: flag_number("--max-conns", &raw.max_conns, MAX_CONNS)? as usize,
        timeout: flag_time("--timeout", &raw.timeout, &all)?,
        connect_timeout: flag_time("--connect-timeout", &raw.connect_timeout, &all)?,
        failure_limit: flag_number("--failure-limit", &raw.failure_limit, FAILURE_LIMIT)? as u32,
        retry_interval: flag_time("--retry-interval", &raw.retry_interval, &(TIME_MIN..=RETRY_INTERVAL_MAX))?,
        auto_eject: raw.auto_eject,
        rejoin: rejoin(&raw.rejoin)?,
        cas_fence: flag_time("--cas-fence", &raw.cas_fence, &CAS_FENCE)?,
        drain_timeout: flag_time("--drain-timeout", &raw.drain_timeout, &all)?,
        value_max: flag_size("--max-value", &raw.max_value, &MAX_VALUE)?,
        memory_limit: memory_limit(raw)?,
        read_errors: read_errors(&raw.read_errors)?,
        join_gets: join_gets(&raw.join_gets)?,
        flush_all_enabled: !raw.disable_flush_all,
        io: engine(&raw.io)?,
        log_level: log_level(&raw.log_level)?,
    })
}

/// The cores this process may use: the standard library asks the affinity mask and the cgroup's quota.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(DEFAULT_THREADS_MAX)
}

fn complaint(flag: &str, value: &str, what: impl fmt::Display) -> String {
    format!("{flag} {}: {what}", shown(value))
}

/// The value as it stands in a complaint: on one line whatever it holds, and visible if it is empty.
fn shown(value: &str) -> String {
    if value.is_empty() {
        return "''".to_string();
    }
    value
        .chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// A number of digits alone (`parse` would take a sign too) within `range`.
fn number(text: &str, range: &RangeInclusive<u64>) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| range.contains(n))
}

fn flag_number(flag: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    number(text, &range)
        .ok_or_else(|| complaint(flag, text, format_args!("must be {} to {}", range.start(), range.end())))
}

fn flag_time(flag: &str, text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(complaint(flag, text, "the unit is missing, as in 250ms or 1s"));
    }
    let Ok(time) = humantime::parse_duration(text) else {
        return Err(complaint(flag, text, "not a duration, such as 250ms or 1s"));
    };
    if !range.contains(&time) {
        let (least, most) =
            (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        return Err(complaint(flag, text, format_args!("must be {least} to {most}")));
    }
    Ok(time)
}

/// A number of bytes, or of the unit that follows it.
fn flag_size(flag: &str, text: &str, range: &RangeInclusive<u64>) -> Result<usize, String> {
    let (digits, shift) = match text.bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits, &(0..=*range.end()))
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|n| range.contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| {
            let (least, most) = (size(*range.start()), size(*range.end()));
            let what = format!("must be {least} to {most}, in bytes or with k, m or g, such as 512k");
            complaint(flag, text, what)
        })
}

/// A number of bytes as the command line takes it.
fn size(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        30.. => format!("{}g", bytes >> 30),
        20.. => format!("{}m", bytes >> 20),
        10.. => format!("{}k", bytes >> 10),
        _ => bytes.to_string(),
    }
}

fn memory_limit(raw: &Arguments) -> Result<usize, String> {
    let least = 2 * flag_size("--max-value", &raw.max_value, &MAX_VALUE)?;
    let Some(text) = &raw.memory_limit else { return Ok(least.max(DEFAULT_MEMORY_LIMIT)) };
    let limit = flag_size("--memory-limit", text, &MEMORY_LIMIT)?;
    if limit < least {
        let what = format_args!("must be at least twice --max-value {}", shown(&raw.max_value));
        return Err(complaint("--memory-limit", text, what));
    }
    Ok(limit)
}

fn join_gets(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(complaint("--join-gets", text, "must be on or off")),
    }
}

fn rejoin(text: &str) -> Result<Rejoin, String> {
    match text {
        "flush" => Ok(Rejoin::Flush),
        "as-is" => Ok(Rejoin::AsIs),
        _ => Err(complaint("--rejoin", text, "must be flush or as-is")),
    }
}

fn read_errors(text: &str) -> Result<ReadErrors, String> {
    match text {
        "error" => Ok(ReadErrors::Error),
        "miss" => Ok(ReadErrors::Miss),
        "miss-all" => Ok(ReadErrors::MissAll),
        _ => Err(complaint("--read-errors", text, "must be error, miss or miss-all")),
    }
}

fn engine(text: &str) -> Result<Engine, String> {
    match text {
        "mio" => Ok(Engine::Mio),
        "uring" => Ok(Engine::Uring),
        "auto" => Ok(Engine::Auto),
        _ => Err(complaint("--io", text, "must be mio, uring or auto")),
    }
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| complaint("--log-level", text, "must be off, error, warn, info, debug or trace"))
}

/// The arguments as text. clap would not say which of them is none.
fn utf8(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, Exit> {
    let mut texts: Vec<String> = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(text) => texts.push(text),
            Err(argument) => {
                let bad = shown(&argument.to_string_lossy());
                let text = match texts.last().filter(|text| text.starts_with('-')) {
                    Some(flag) => format!("mcproxy: {} {bad}: not UTF-8", shown(flag)),
                    None => format!("mcproxy: {bad}: not UTF-8"),
                };
                return Err(Exit { status: 2, text });
            }
        }
    }
    Ok(texts)
}

/// clap's answer, turned into one line unless it is what the user asked for.
fn exit_of(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Exit { status: 0, text: error.to_string().trim_end().to_string() };
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap names an argument as in its usage line: `--threads <N>`.
    let argument = context(ContextKind::InvalidArg);
    let flag = shown(argument.split(" <").next().unwrap_or(argument));
    let value = context(ContextKind::InvalidValue);
    let tool = shown(context(ContextKind::InvalidSubcommand));
    let what = match error.kind() {
        ErrorKind::InvalidSubcommand => format!("{tool}: unexpected argument (see --help)"),
        ErrorKind::ArgumentConflict if argument.is_empty() => {
            format!("{tool}: its flags stand behind it, and others have no place beside it")
        }
        ErrorKind::UnknownArgument if flag.starts_with('-') => format!("{flag}: no such flag (see --help)"),
        ErrorKind::UnknownArgument => format!("{flag}: unexpected argument (see --help)"),
        ErrorKind::InvalidValue => format!("{flag}: its value is missing"),
        ErrorKind::TooManyValues => complaint(&flag, value, "this flag takes no value"),
        ErrorKind::ArgumentConflict => format!("{flag}: given more than once"),
        _ => shown(error.to_string().lines().next().unwrap_or("bad arguments")),
    };
    Exit { status: 2, text: format!("mcproxy: {what}") }
}
