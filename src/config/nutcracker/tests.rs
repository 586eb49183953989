//! Tables of good and bad files. What twemproxy does with each was tried with `nutcracker -t` of Debian's
//! 0.5.0.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::super::{Address, Command, Label, Method, Rejoin, parse};
use super::*;

const LISTEN: &str = "  listen: 127.0.0.1:22121\n";
const SERVERS: &str = "  servers:\n   - 127.0.0.1:11211:1\n";

fn base(words: &[&str]) -> Config {
    let words = ["mcproxy", "--backends", "a", "--threads", "4"].iter().chain(words);
    let command = parse(words.map(std::ffi::OsString::from)).expect("a good command line");
    let Command::Serve(program) = command else { panic!("it does not serve") };
    program.pools.into_iter().next().expect("a pool")
}

fn read(text: &str) -> Result<Program, String> {
    pools_of(text, &base(&[]), false).map_err(|complaint| complaint.to_string())
}

fn good(text: &str) -> Program {
    read(text).unwrap_or_else(|complaint| panic!("{text:?} was refused: {complaint}"))
}

/// The one pool with these keys beside `listen` and `servers`.
fn pool(keys: &str) -> (Config, Vec<String>) {
    let mut program = good(&format!("a:\n{LISTEN}{keys}{SERVERS}"));
    assert_eq!(program.pools.len(), 1);
    (program.pools.remove(0), program.warnings)
}

/// The backends of a pool with these servers.
fn backends(servers: &[&str]) -> Result<Vec<super::super::Backend>, String> {
    let lines: String = servers.iter().map(|server| format!("   - {server}\n")).collect();
    read(&format!("a:\n{LISTEN}  servers:\n{lines}")).map(|program| program.pools[0].backends.clone())
}

#[test]
fn where_the_file_is_silent_twemproxys_defaults_apply() {
    let (config, warnings) = pool("");
    let expected = Config {
        pool: Some("a".to_string()),
        listen: vec![Listen::Tcp { host: Some(Ipv4Addr::LOCALHOST.into()), port: 22121 }],
        backlog: 512,
        socket_mode: None,
        backends: backends(&["127.0.0.1:11211:1"]).expect("good"),
        placement: Method::parse("twemproxy-ketama:fnv1a_64").expect("a placement"),
        hashed_part: HashedPart::default(),
        threads: 4,
        max_conns: 10_000,
        auto_eject: false,
        // These two are not looked at there unless servers are ejected: they are mcproxy's own.
        failure_limit: 3,
        retry_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_millis(500),
        ..base(&[])
    };
    assert_eq!(config, expected);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with(":1: pool a: timeout: without one twemproxy waits for ever"),
        "{warnings:?}"
    );
}

#[test]
fn every_key_is_honoured_or_warned_of() {
    let (config, warnings) = pool(
        "  hash: md5\n  distribution: modula\n  hash_tag: \"{}\"\n  timeout: 400\n  backlog: 1024\n  \
         client_connections: 7\n  redis: false\n  redis_db: 3\n  tcpkeepalive: false\n  preconnect: true\n  \
         auto_eject_hosts: true\n  server_connections: 2\n  server_retry_timeout: 2000\n  \
         server_failure_limit: 0\n",
    );
    assert_eq!(config.placement, Method::parse("twemproxy-modula:md5").expect("a placement"));
    assert_eq!(config.hashed_part.tag, Some(*b"{}"));
    assert_eq!((config.timeout, config.connect_timeout), (ms(400), ms(400)));
    assert_eq!((config.backlog, config.max_conns), (1024, 7));
    assert_eq!((config.auto_eject, config.failure_limit, config.retry_interval), (true, 1, ms(2000)));
    let lines = [
        (8, "client_connections 7"),
        (10, "redis_db 3"),
        (11, "tcpkeepalive false"),
        (12, "preconnect true"),
    ];
    let lines = lines.iter().chain(&[(13, "auto_eject_hosts true"), (14, "server_connections 2")]);
    let expected: Vec<String> = lines.map(|(line, what)| format!(":{line}: pool a: {what}: ")).collect();
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, expected) in warnings.iter().zip(&expected) {
        assert!(warning.starts_with(expected) && !warning.contains('\n'), "{warning}");
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn what_is_as_there_is_not_warned_of() {
    let (_, warnings) = pool(
        "  timeout: 1\n  redis: false\n  redis_db: 0\n  tcpkeepalive: true\n  preconnect: false\n  \
         auto_eject_hosts: false\n  client_connections: 0\n  server_failure_limit: 1\n  \
         server_retry_timeout: 30000\n  hash: fnv1a_64\n  distribution: ketama\n",
    );
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn times_that_are_too_long_are_cut_and_said() {
    let (config, warnings) =
        pool("  timeout: 3600001\n  auto_eject_hosts: true\n  server_retry_timeout: 30000\n");
    assert_eq!((config.timeout, config.retry_interval), (Duration::from_secs(3600), Duration::from_secs(5)));
    assert_eq!(config.failure_limit, 2);
    assert!(warnings[0].contains(":3: pool a: timeout 3600001: is 3600000 ms here"), "{warnings:?}");
    assert!(warnings[2].contains(":5: pool a: server_retry_timeout 30000: is 5000 ms here"), "{warnings:?}");
    let (config, warnings) = pool("  timeout: 5\n  auto_eject_hosts: true\n");
    assert_eq!((config.retry_interval, warnings.len()), (Duration::from_secs(5), 1));
    let (config, _) = pool("  timeout: 5\n  auto_eject_hosts: true\n  server_retry_timeout: 0\n");
    assert_eq!(config.retry_interval, ms(1));
    let (config, warnings) = pool("  timeout: 0\n");
    assert_eq!((config.timeout, warnings.len()), (Duration::from_secs(1), 1));
}

#[test]
fn a_return_is_warned_of_with_the_flag_for_twemproxys_way() {
    let text = format!("a:\n{LISTEN}  timeout: 1\n  auto_eject_hosts: true\n{SERVERS}");
    for (flags, first) in [(&[][..], "made to forget"), (&["--rejoin", "as-is"], "as with twemproxy")] {
        let program = pools_of(&text, &base(flags), false).expect("a good file");
        let [warning] = &program.warnings[..] else { panic!("{:?}", program.warnings) };
        assert!(warning.contains(first) && warning.contains("--rejoin as-is"), "{warning}");
        assert_eq!(program.pools[0].rejoin == Rejoin::AsIs, !flags.is_empty());
    }
}

#[test]
fn servers_have_the_address_the_weight_and_the_name_that_is_hashed() {
    let ip = |text: &str| Address::Ip(text.parse().expect("an address"));
    let host = |host: &str, port| Address::Host { host: host.to_string(), port };
    let unix = |path: &str| Address::Unix(PathBuf::from(path));
    let table = [
        ("127.0.0.1:11211:1", ip("127.0.0.1:11211"), 1, "127.0.0.1:11211", "127.0.0.1"),
        ("127.0.0.1:11212:3", ip("127.0.0.1:11212"), 3, "127.0.0.1:11212", "127.0.0.1:11212"),
        ("127.0.0.1:11211:100000 one", ip("127.0.0.1:11211"), 100_000, "one", "one"),
        ("Cache-A:11211:1", host("cache-a", 11211), 1, "cache-a:11211", "Cache-A"),
        ("cache:011211:1", host("cache", 11211), 1, "cache:11211", "cache"),
        ("cache:011212:01", host("cache", 11212), 1, "cache:11212", "cache:011212"),
        ("::1:11211:1", ip("[::1]:11211"), 1, "[::1]:11211", "::1"),
        ("::1:11212:1", ip("[::1]:11212"), 1, "[::1]:11212", "::1:11212"),
        ("\"::1:11212:1 six\"", ip("[::1]:11212"), 1, "six", "six"),
        ("/run/m.sock:2", unix("/run/m.sock"), 2, "unix:/run/m.sock", "/run/m.sock:"),
        ("/run/m.sock:2 name", unix("/run/m.sock"), 2, "name", "name"),
        ("a:1:1 b:2", host("a", 1), 1, "b:2", "b:2"),
    ];
    for (text, address, weight, name, hashed) in table {
        let label = Label::Name(hashed.to_string());
        let (name, entry) = (name.to_string(), name.to_string());
        let expected = super::super::Backend { address, weight, name, label, entry };
        assert_eq!(backends(&[text]), Ok(vec![expected]), "{text}");
    }
    let modula =
        format!("a:\n{LISTEN}  distribution: modula\n  servers:\n   - a:1:600000\n   - b:1:400001\n");
    let complaint = read(&modula).expect_err("too much");
    assert_eq!(complaint, ":4: pool a: servers: the weights are more than 1000000 in all");
    // Names of their own keep servers of one address apart.
    assert_eq!(backends(&["a:1:1 x", "a:1:1 y", "a:1:1"]).map(|all| all.len()), Ok(3));
}

#[test]
fn bad_servers_are_refused_with_their_line() {
    let table = [
        ("127.0.0.1:11211", "must be host:port:weight"),
        ("127.0.0.1", "must be host:port:weight"),
        ("''", "must be host:port:weight"),
        ("127.0.0.1:11211:0", "the weight must be 1 to 1000000"),
        ("127.0.0.1:11211:1000001", "the weight must be"),
        ("127.0.0.1:11211:-1", "the weight must be"),
        ("'127.0.0.1:11211:'", "the weight must be"),
        ("127.0.0.1:0:1", "the port must be 1 to 65535"),
        ("127.0.0.1:65536:1", "the port must be"),
        ("127.0.0.1::1", "the port must be"),
        ("':11211:1'", "the host is missing"),
        ("'127.0.0.1:11211:1 '", "the name after the space is empty"),
        ("127.0.0.1:11211:1 a b", "must be host:port:weight"),
        ("127.0.0.1:11211:1  two", "must be host:port:weight"),
        ("127.0.0.1:11211:1 n\u{e4}me", "printable ASCII"),
        ("300.0.0.1:11211:1", "not an IP address"),
        ("/run/x:9:1", "no colon"),
        ("/run/x", "must be host:port:weight"),
        ("/run/x y:1", "must be host:port:weight"),
        ("/:1", "absolute path"),
    ];
    for (text, what) in table {
        let complaint = backends(&["b:1:1", text]).expect_err(text);
        assert!(
            complaint.starts_with(":5: pool a: servers ") && complaint.contains(what),
            "{text}: {complaint}"
        );
    }
    for twice in
        [["a:1:1", "a:1:2"], ["a:1:1 x", "b:1:1 x"], ["a:11211:1", "a:011211:1"], ["a:2:1", "a:02:1"]]
    {
        let complaint = backends(&twice).expect_err("a duplicate");
        assert!(
            complaint.starts_with(":5: pool a: servers ") && complaint.contains("duplicate"),
            "{complaint}"
        );
    }
    let many: Vec<String> = (0..1025).map(|n| format!("a{n}:1:1")).collect();
    let complaint = backends(&many.iter().map(String::as_str).collect::<Vec<_>>()).expect_err("too many");
    assert!(complaint.starts_with(":1028: pool a: servers a1024:1:1: too many servers"), "{complaint}");
}

#[test]
fn pools_listen_at_addresses_names_and_paths() {
    let listen = |text: &str| {
        let program = read(&format!("a:\n  listen: {text}\n{SERVERS}"))?;
        Ok((program.pools[0].listen[0].clone(), program.pools[0].socket_mode))
    };
    let tcp = |host: std::net::IpAddr| Ok((Listen::Tcp { host: Some(host), port: 22121 }, None));
    let unix = |path: &str, mode| Ok((Listen::Unix(PathBuf::from(path)), mode));
    assert_eq!(listen("0.0.0.0:22121"), tcp(Ipv4Addr::UNSPECIFIED.into()));
    assert_eq!(listen("::1:22121"), tcp(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(listen(":::22121"), tcp(Ipv6Addr::UNSPECIFIED.into()));
    let named: Result<(Listen, Option<u32>), String> = listen("localhost:22121");
    assert!(matches!(named, Ok((Listen::Tcp { host: Some(host), port: 22121 }, None)) if host.is_loopback()));
    assert_eq!(listen("/tmp/x"), unix("/tmp/x", None));
    assert_eq!(listen("/tmp/x 0666"), unix("/tmp/x", Some(0o666)));
    assert_eq!(listen("/tmp/x y 600"), unix("/tmp/x y", Some(0o600)));
    assert_eq!(listen("/tmp/x 0"), unix("/tmp/x", None));
    for (text, what) in [
        (":22121", "must be host:port"),
        ("22121", "must be host:port"),
        ("127.0.0.1:0", "the port must be 1 to 65535"),
        ("127.0.0.1:", "the port must be"),
        ("127.0.0.1:65536", "the port must be"),
        ("no-such-host.invalid:22121", "no-such-host.invalid"),
        ("/tmp/x 0888", "octal"),
        ("/tmp/x 01777", "octal"),
        ("/tmp/x abc", "octal"),
        ("/tmp/x +7", "octal"),
        ("/tmp/", "absolute path"),
    ] {
        let text = if text.ends_with(':') { format!("'{text}'") } else { text.to_string() };
        let complaint = listen(&text).expect_err(&text);
        assert!(
            complaint.starts_with(":2: pool a: listen ") && complaint.contains(what),
            "{text}: {complaint}"
        );
    }
}

#[test]
fn values_that_would_change_behaviour_are_refused() {
    let table = [
        ("redis: true", "redis true: mcproxy is for memcached"),
        ("redis: yes", "redis yes: must be true or false"),
        ("redis_auth: secret", "redis_auth: is for a pool of redis"),
        ("distribution: random", "distribution random: a key would have no server"),
        ("distribution: Ketama", "distribution Ketama: must be ketama or modula"),
        ("hash: FNV1A_64", "hash FNV1A_64: must be one of one_at_a_time, md5, "),
        ("hash:", "hash '': must be one of"),
        ("hash_tag: \"{\"", "hash_tag {: must be two characters"),
        ("hash_tag: ''", "hash_tag '': must be two characters"),
        ("timeout: -1", "timeout -1: must be a number"),
        ("timeout: 0x10", "timeout 0x10: must be a number"),
        ("timeout: 2147483648", "timeout 2147483648: must be a number from 0 to 2147483647"),
        ("timeout:", "timeout '': must be a number"),
        ("timeout: 1s", "timeout 1s: must be a number"),
        ("server_connections: 0", "server_connections 0: must not be 0"),
        ("backlog: many", "backlog many: must be a number"),
        ("preconnect: on", "preconnect on: must be true or false"),
        ("commands: x", "commands x: twemproxy 0.5 has no such key"),
        ("Timeout: 1", "Timeout 1: twemproxy 0.5 has no such key"),
        ("servers: 127.0.0.1:11211:1", "servers: must be a list"),
        ("hash:\n   - md5", "hash: a list; only servers is one"),
        ("listen: 127.0.0.1:22122", "listen: given twice"),
    ];
    for (line, what) in table {
        let complaint = read(&format!("a:\n{LISTEN}  {line}\n{SERVERS}")).expect_err(line);
        assert!(complaint.starts_with(&format!(":3: pool a: {what}")), "{line}: {complaint}");
        assert!(!complaint.contains("secret") && !complaint.contains('\n'), "{complaint}");
    }
    assert!(pool("  hash_tag: \u{e9}\n").0.hashed_part.tag == Some([0xc3, 0xa9]), "two bytes, as there");
}

#[test]
fn files_of_another_shape_are_refused() {
    let pool = format!("a:\n{LISTEN}{SERVERS}");
    let table = [
        (String::new(), ":1: no pools"),
        ("# nothing\n".to_string(), ":1: no pools"),
        ("x\n".to_string(), ":1: pools are expected"),
        ("- x\n".to_string(), ":1: pools are expected"),
        ("a: 1\n".to_string(), ":1: pool a: keys such as listen and servers are expected below a:"),
        ("a:\n  - x\n".to_string(), "pool a: keys such as"),
        ("'':\n  listen: x\n".to_string(), ":1: the name of a pool is empty"),
        ("? [a]\n: b\n".to_string(), "the name of a pool must be plain text"),
        (format!("a:\n{LISTEN}"), ":1: pool a: servers: missing"),
        (format!("a:\n{SERVERS}"), ":1: pool a: listen: missing"),
        (format!("a:\n{LISTEN}  servers: []\n"), "pool a: servers: the list is empty"),
        (format!("{pool}{pool}"), ":5: pool a: an earlier pool has this name"),
        (format!("{pool}{}", pool.replace("a:", "b:")), ":6: pool b: listen 127.0.0.1:22121: pool a listens"),
        (format!("{pool}---\n{pool}"), "a second document"),
        (format!("a:\n{LISTEN}  hash_tag: {{}}\n{SERVERS}"), "pool a: hash_tag: text is expected"),
        (
            format!("a:\n{LISTEN}  servers:\n   - b: c\n"),
            "pool a: servers: a list of plain texts is expected",
        ),
        (format!("a: &x\n{LISTEN}{SERVERS}"), "anchors (&), aliases (*) and tags (!) are not taken"),
        (format!("a:\n{LISTEN}  timeout: !!int 4\n{SERVERS}"), "anchors"),
        (format!("a:\n{LISTEN}  timeout: *x\n{SERVERS}"), "not YAML"),
        ("a:\n\tb: c\n".to_string(), "not YAML"),
        ("a: [".to_string(), "pool a: keys such as"),
        ("'a".to_string(), "not YAML"),
    ];
    for (text, what) in table {
        let complaint = read(&text).expect_err(&text);
        assert!(complaint.contains(what) && !complaint.contains('\n'), "{text:?}: {complaint}");
    }
    let many: String = (0..65).map(|n| format!("p{n}:\n  listen: 127.0.0.1:{}\n{SERVERS}", n + 1)).collect();
    assert!(read(&many).expect_err("too many").contains(": pool p64: too many pools, 64 are allowed"));
}

#[test]
fn pools_share_the_workers_and_the_clients() {
    let file = |count: usize, keys: &str| -> String {
        (0..count).map(|n| format!("p{n}:\n  listen: 127.0.0.1:{}\n{keys}{SERVERS}", n + 1)).collect()
    };
    let threads =
        |count| -> Vec<usize> { good(&file(count, "")).pools.iter().map(|pool| pool.threads).collect() };
    assert_eq!(threads(1), [4]);
    assert_eq!(threads(3), [2, 1, 1]);
    assert_eq!(threads(6), [1; 6]);
    let clients = |text: &str, given: bool| {
        let program = pools_of(text, &base(&[]), given).expect("a good file");
        (program.max_conns, program.pools.iter().map(|pool| pool.max_conns).collect::<Vec<_>>())
    };
    assert_eq!(clients(&file(2, ""), false), (10_000, vec![10_000; 2]));
    assert_eq!(clients(&file(2, "  client_connections: 7\n"), false), (10_000, vec![7; 2]));
    assert_eq!(clients(&file(2, "  client_connections: 20000\n"), false), (40_000, vec![20_000; 2]));
    assert_eq!(clients(&file(2, "  client_connections: 20000\n"), true), (10_000, vec![10_000; 2]));
}

#[test]
fn line_ends_comments_quotes_and_marks_of_a_document_are_yaml() {
    let text = format!("# a comment\na:\n{LISTEN}  timeout: \"400\" # in ms\n{SERVERS}");
    for text in [text.clone(), text.replace('\n', "\r\n"), format!("---\n{text}...\n")] {
        assert_eq!(good(&text).pools[0].timeout, ms(400), "{text:?}");
    }
}

/// What an enemy would write: the reader neither panics nor takes long, and gives one line.
#[test]
fn hostile_files_are_one_line_of_complaint() {
    let deep = |open: &str, count: usize| open.repeat(count);
    let bomb = (0..30).fold("a: &a0 [x]\n".to_string(), |text, n| {
        format!("{text}b{n}: &a{} [*a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}]\n", n + 1)
    });
    let indented: String = (0..1000).map(|depth| format!("{}k:\n", " ".repeat(depth))).collect();
    let texts = [
        bomb,
        deep("[", NUTCRACKER_BYTES_MAX),
        deep("{a: ", NUTCRACKER_BYTES_MAX / 4),
        deep("- ", NUTCRACKER_BYTES_MAX / 2),
        deep("? ", NUTCRACKER_BYTES_MAX / 2),
        indented,
        format!("a:\n{LISTEN}  hash: {}\n{SERVERS}", "x".repeat(NUTCRACKER_BYTES_MAX)),
        format!("{}:\n{SERVERS}", "x".repeat(NUTCRACKER_BYTES_MAX)),
        format!("a:\n{LISTEN}  timeout: |\n    {}", "9\n    ".repeat(10_000)),
        "a: \"\\u0000\\x07\\U0001F600\"\n".to_string(),
        "\u{feff}a:\n".to_string(),
        "%YAML 1.1\n%TAG ! tag:x,2000:\n---\na: !x b\n".to_string(),
    ];
    for text in texts {
        let complaint = read(&text).expect_err("not a good file");
        let start = text.floor_char_boundary(60);
        assert!(!complaint.contains(['\n', '\0']), "{:?}: {complaint}", &text[..start]);
    }
}

/// Seeded: the bytes of a good file, some of them replaced, left out or doubled.
#[test]
fn spoilt_files_never_panic() {
    let good_file =
        format!("# c\na:\n{LISTEN}  hash_tag: \"{{}}\"\n  hash: 'md5'\n{SERVERS}b:\n  listen: /x 0600\n");
    let alphabet: Vec<char> = " \n\t:-'\"{}[]&*!|>%@`#?,~\\\r\0ab0\u{e4}\u{feff}\u{2028}".chars().collect();
    let mut state = 0x6e75_7463_7261_636b_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut chars: Vec<char> = good_file.chars().collect();
        for _ in 0..=below(4) {
            let at = below(chars.len());
            match below(3) {
                0 => chars[at] = alphabet[below(alphabet.len())],
                1 => drop(chars.remove(at)),
                _ => chars.insert(at, alphabet[below(alphabet.len())]),
            }
        }
        let text: String = chars.into_iter().collect();
        match yaml::pools(&text) {
            Ok(_) => taken += 1,
            Err(complaint) => assert!(!complaint.to_string().contains('\n'), "{text:?}: {complaint}"),
        }
    }
    assert!(
        (1000..19_000).contains(&taken),
        "{taken} of 20,000 were taken: the spoiling is too much or too little"
    );
}
