//! Tables of good and bad command lines.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// The one pool of a command line.
fn parsed(words: &[&str]) -> Result<Config, Exit> {
    let command = parse(std::iter::once("mcproxy").chain(words.iter().copied()).map(OsString::from))?;
    let Command::Serve(program) = command else { panic!("{words:?} does not serve: {command:?}") };
    assert_eq!((program.pools.len(), program.max_conns), (1, program.pools[0].max_conns), "{words:?}");
    assert!(program.warnings.is_empty(), "{words:?}: {:?}", program.warnings);
    Ok(program.pools.into_iter().next().expect("one"))
}

fn good(words: &[&str]) -> Config {
    parsed(words).unwrap_or_else(|exit| panic!("{words:?} was refused: {}", exit.text))
}

/// The one line that `words` are refused with.
fn bad(words: &[&str]) -> String {
    match parsed(words) {
        Ok(config) => panic!("{words:?} was taken: {config:?}"),
        Err(exit) => {
            assert_eq!(exit.status, 2, "{words:?}: {}", exit.text);
            assert!(exit.text.starts_with("mcproxy: "), "{words:?}: {}", exit.text);
            assert!(!exit.text.contains(['\n', '\r']), "{words:?}: {:?}", exit.text);
            exit.text
        }
    }
}

fn backends(list: &str) -> Vec<Backend> {
    good(&["--backends", list]).backends
}

fn tcp(host: &str, port: u16) -> Label {
    Label::Tcp { host: host.to_string(), port }
}

fn host(host: &str, port: u16) -> Address {
    Address::Host { host: host.to_string(), port }
}

#[test]
fn defaults_are_those_of_the_manual() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let expected = Config {
        pool: None,
        backlog: 1024,
        socket_mode: None,
        placement: Method::Rendezvous,
        hashed_part: HashedPart::default(),
        listen: vec![Listen::Tcp { host: None, port: 11211 }],
        backends: vec![Backend {
            address: host("a", 11211),
            weight: 1,
            name: "a:11211".to_string(),
            label: tcp("a", 11211),
            entry: "a".to_string(),
        }],
        threads: cores.min(4),
        max_conns: 10_000,
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_millis(500),
        failure_limit: 3,
        retry_interval: Duration::from_secs(1),
        auto_eject: false,
        rejoin: Rejoin::Flush,
        cas_fence: Duration::from_secs(600),
        memory_limit: 192 << 20,
        drain_timeout: Duration::from_secs(5),
        value_max: 1 << 20,
        read_errors: ReadErrors::Error,
        join_gets: true,
        io: Engine::Mio,
        flush_all_enabled: true,
        log_level: log::LevelFilter::Info,
    };
    assert_eq!(good(&["--backends", "a"]), expected);
}

#[test]
fn every_flag_sets_its_field() {
    let line = "--backends a --listen :1 --listen unix:/s -t 64 -c 1 --timeout 1ms --connect-timeout 1h \
                --failure-limit 7 --retry-interval 5s --drain-timeout 250ms --max-value 512k \
                --read-errors miss-all -F --log-level off";
    let config = good(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(config.listen, [Listen::Tcp { host: None, port: 1 }, Listen::Unix(PathBuf::from("/s"))]);
    assert_eq!((config.threads, config.max_conns, config.failure_limit), (64, 1, 7));
    assert_eq!(config.timeout, Duration::from_millis(1));
    assert_eq!(config.connect_timeout, Duration::from_secs(3600));
    assert_eq!(config.retry_interval, Duration::from_secs(5));
    assert_eq!(config.drain_timeout, Duration::from_millis(250));
    assert_eq!(config.value_max, 512 << 10);
    assert_eq!(config.read_errors, ReadErrors::MissAll);
    assert!(!config.flush_all_enabled);
    assert_eq!(config.log_level, log::LevelFilter::Off);

    let config = good(&["--backends=a", "--threads=2", "--max-conns=5", "--disable-flush-all"]);
    assert_eq!((config.threads, config.max_conns, config.flush_all_enabled), (2, 5, false));
    assert_eq!(good(&["--backends=a", "-t2", "--read-errors=miss"]).read_errors, ReadErrors::Miss);
    assert!(!good(&["--backends=a", "--join-gets", "off"]).join_gets);
    let config = good(&["--backends=a", "--auto-eject", "--rejoin", "as-is", "--cas-fence", "24h"]);
    assert_eq!((config.auto_eject, config.rejoin), (true, Rejoin::AsIs));
    assert_eq!(config.cas_fence, Duration::from_secs(86_400));
    assert_eq!(good(&["--backends=a", "--rejoin=flush", "--cas-fence=1s"]).rejoin, Rejoin::Flush);
    assert!(good(&["--backends=a", "--join-gets=on"]).join_gets);
    assert_eq!(good(&["--backends=a", "--io", "uring"]).io, Engine::Uring);
    assert_eq!(good(&["--backends=a", "--io=auto"]).io, Engine::Auto);
    assert_eq!(good(&["--backends=a", "--read-errors=error"]).read_errors, ReadErrors::Error);
}

#[test]
fn listen_takes_four_forms_and_prints_them_again() {
    for text in [":11311", "127.0.0.1:11311", "[::1]:11311", "unix:/path", "[::]:1", "127.0.0.1:0"] {
        let listen = &good(&["--backends", "a", "--listen", text]).listen;
        assert_eq!(listen.len(), 1);
        assert_eq!(listen[0].to_string(), text);
    }
    assert_eq!(good(&["--backends=a", "--listen=127.0.0.1:0", "--listen=127.0.0.1:0"]).listen.len(), 2);
}

#[test]
fn names_and_addresses_of_backends() {
    let ip = |text: &str| Address::Ip(text.parse().expect("an address"));
    let unix = |path: &str| Address::Unix(PathBuf::from(path));
    let table = [
        ("a", host("a", 11211), 1, "a:11211"),
        ("Cache-1.Example.COM:1", host("cache-1.example.com", 1), 1, "cache-1.example.com:1"),
        ("my_cache.", host("my_cache.", 11211), 1, "my_cache.:11211"),
        ("a=1000", host("a", 11211), 1000, "a:11211"),
        ("a:65535=2@n", host("a", 65535), 2, "n"),
        ("a@10.0.0.1:11211@x", host("a", 11211), 1, "10.0.0.1:11211@x"),
        ("10.0.0.1", ip("10.0.0.1:11211"), 1, "10.0.0.1:11211"),
        ("10.0.0.1:2", ip("10.0.0.1:2"), 1, "10.0.0.1:2"),
        ("[::1]", ip("[::1]:11211"), 1, "[::1]:11211"),
        ("[0:0::0:1]:5=3", ip("[::1]:5"), 3, "[::1]:5"),
        ("[2001:DB8::A]", ip("[2001:db8::a]:11211"), 1, "[2001:db8::a]:11211"),
        ("unix:/run/m.sock", unix("/run/m.sock"), 1, "unix:/run/m.sock"),
        ("unix:/run/m:1.sock=5@m", unix("/run/m:1.sock"), 5, "m"),
    ];
    for (entry, address, weight, name) in table {
        let found = &backends(entry)[0];
        assert_eq!((&found.address, found.weight, &found.name[..]), (&address, weight, name), "{entry}");
    }
    let names: Vec<String> = backends("b:2,embedded:3,A").into_iter().map(|backend| backend.name).collect();
    assert_eq!(names, ["b:2", "embedded-1", "embedded-2", "embedded-3", "a:11211"]);
}

#[test]
fn labels_are_spelled_as_in_the_configuration() {
    let table = [
        ("Cache-1.Example.COM:1", tcp("Cache-1.Example.COM", 1)),
        ("10.0.0.1", tcp("10.0.0.1", 11211)),
        ("[0:0::0:1]:5=3", tcp("0:0::0:1", 5)),
        ("unix:/run/m.sock=2", Label::Unix("/run/m.sock".to_string())),
        ("a:1=2@10.0.0.9:11211", Label::Name("10.0.0.9:11211".to_string())),
        ("embedded:1", Label::Name("embedded-1".to_string())),
    ];
    for (entry, label) in table {
        assert_eq!(backends(entry)[0].label, label, "{entry}");
    }
}

#[test]
fn embedded_expands_within_its_bounds() {
    assert_eq!(backends("embedded:1").len(), 1);
    let all = backends("embedded:64");
    assert_eq!(all.len(), 64);
    assert!(all.iter().all(|backend| backend.address == Address::Embedded && backend.weight == 1));
    assert_eq!(all[63].name, "embedded-64");
}

#[test]
fn times_and_sizes() {
    let time = |text| good(&["--backends=a", "--timeout", text]).timeout;
    for (text, millis) in
        [("250ms", 250), ("1s", 1000), ("1500us 1s", 1001), ("2min", 120_000), ("1m 1s", 61_000)]
    {
        assert_eq!(time(text).as_millis(), millis, "{text}");
    }
    let size = |text| good(&["--backends=a", "--max-value", text]).value_max;
    for (text, bytes) in
        [("1k", 1024), ("1024", 1024), ("1M", 1 << 20), ("1g", 1 << 30), ("1073741824", 1 << 30)]
    {
        assert_eq!(size(text), bytes, "{text}");
    }
}

/// Each bad value is refused in one line that holds the flag, the value and what would be right.
#[test]
fn bad_values_are_refused_by_name() {
    let table: &[(&str, &[&str], &str)] = &[
        ("--threads", &["0", "65", "-1", "+1", "1.5", "x", "99999999999999999999", "1 "], "must be 1 to 64"),
        ("--max-conns", &["0", "-5", "many", "1000001"], "must be 1 to 1000000"),
        ("--failure-limit", &["0", "x", "4294967296"], "must be 1 to 1000000"),
        ("--timeout", &["0", "1", "1000", "0.5"], "the unit is missing"),
        ("--timeout", &["0s", "999us", "3601s", "99999999y"], "must be 1ms to 1h"),
        ("--timeout", &["-1s", "fast", "1 parsec", "99999999999999999999s"], "not a duration"),
        ("--connect-timeout", &["0ms", "2h"], "must be 1ms to 1h"),
        ("--retry-interval", &["0s", "6s"], "must be 1ms to 5s"),
        ("--drain-timeout", &["0s", "1day"], "must be 1ms to 1h"),
        (
            "--max-value",
            &["0", "1023", "2g", "1t", "k", "m1", "-1m", "1.5m", "18446744073709551616"],
            "1k to 1g",
        ),
        ("--join-gets", &["ON", "auto"], "must be on or off"),
        ("--io", &["epoll", "io_uring", "MIO"], "must be mio, uring or auto"),
        ("--rejoin", &["FLUSH", "as_is", "delete"], "must be flush or as-is"),
        ("--cas-fence", &["0s", "999ms", "25h"], "must be 1s to "),
        ("--cas-fence", &["10", "soon", "-1s"], ""),
        ("--read-errors", &["hit", "MISS", "miss_all"], "must be error, miss or miss-all"),
        ("--log-level", &["loud", "1"], "must be off, error,"),
        ("--listen", &["11311", "localhost:1", "::1:11311", "[::1]", "1.2.3:1", "tcp:/x"], "must be :PORT"),
        ("--listen", &[":", ":65536", ":+1", "127.0.0.1:x", "[::1]:"], "the port must be"),
        ("--listen", &["unix:", "unix:relative", "unix:/dir/"], "absolute path"),
        ("--backends", &["a=0", "a=1001", "a=", "a=x", "a=-1", "a:1=+1"], "the weight must be 1 to 1000"),
        (
            "--backends",
            &["a:", "a:0", "a:65536", "a:x", "[::1]:0", "a:b:1", "http://a"],
            "the port must be 1 to 65535",
        ),
        ("--backends", &["::1", "2001:db8::1"], "stands in brackets"),
        ("--backends", &["1.2.3", "256.1.1.1", "1234", "[::1", "[1.2.3.4]", "[::1%lo]"], "not an IP address"),
        ("--backends", &["a b", "-a", "a..b", "ä", "a/b", "[::1]x", "=2"], "not a"),
        ("--backends", &["unix:", "unix:x", "unix:/"], "absolute path"),
        ("--backends", &["a@", "a@b c", "a@ä"], "a name has 1 to 250"),
        ("--backends", &["a@b=2"], "the weight stands before it"),
        ("--backends", &["embedded", "embedded:0", "embedded:65", "embedded:x", "embedded:"], "1 to 64"),
        ("--backends", &["embedded:2=2", "embedded:2@x"], "neither weight nor name"),
        ("--backends", &[",", "a,", ",a", "a,,b"], "an entry of the list is empty"),
    ];
    for (flag, values, why) in table {
        for value in *values {
            // The last of two flags would be refused as repeated; so only one of each.
            let mut words = vec![*flag, value];
            if *flag != "--backends" {
                words.extend(["--backends", "a"]);
            }
            let line = bad(&words);
            assert!(line.starts_with(&format!("mcproxy: {flag} {value}: ")), "{words:?}: {line}");
            assert!(line.contains(why), "{words:?}: {line}");
        }
    }
}

#[test]
fn duplicates_are_refused() {
    let table = [
        ("a,a", "a", "a:11211"),
        ("a,b,A:11211", "A:11211", "a:11211"),
        ("[::1],[0::1]:11211", "[0::1]:11211", "[::1]:11211"),
        ("a@x,b@x", "b@x", "x"),
        ("embedded:2,embedded:1", "embedded:1", "embedded-1"),
        ("a:1=2,a:1=3", "a:1=3", "a:1"),
    ];
    for (list, entry, name) in table {
        let line = bad(&["--backends", list]);
        let expected =
            format!("mcproxy: --backends {entry}: duplicate: an earlier backend has the name {name}");
        assert_eq!(line, expected);
    }
    assert_eq!(
        bad(&["--backends=a", "--listen", ":1", "--listen", ":1"]),
        "mcproxy: --listen :1: given twice"
    );
}

#[test]
fn long_values_are_refused() {
    let name = "n".repeat(250);
    assert_eq!(backends(&format!("a@{name}"))[0].name, name);
    bad(&["--backends", &format!("a@{name}n")]);
    bad(&["--backends", &"h".repeat(64)]);
    bad(&["--backends", &["abcdefg"; 40].join(".")]);
    bad(&["--backends", &format!("unix:/{}", "p".repeat(107))]);
    let many: Vec<String> = (0..1025).map(|n| format!("a:{}", n + 1)).collect();
    assert_eq!(backends(&many[..1024].join(",")).len(), 1024);
    assert!(bad(&["--backends", &many.join(",")]).contains("--backends a:1025: too many"));
}

#[test]
fn what_is_no_flag_is_refused_in_one_line() {
    let table: &[(&[&str], &str)] = &[
        (&[], "mcproxy: --backends: missing; "),
        (&["--bogus"], "mcproxy: --bogus: no such flag"),
        (&["--bogus=1"], "mcproxy: --bogus: no such flag"),
        (&["-x"], "mcproxy: -x: no such flag"),
        (&["--bo\ngus"], "mcproxy: --bo\\ngus: no such flag"),
        (&["serve"], "mcproxy: serve: unexpected argument"),
        (&["help"], "mcproxy: help: unexpected argument"),
        (&["--backends", "a", "map", "x"], "mcproxy: map: its flags stand behind it"),
        (&["map", "--bogus"], "mcproxy: --bogus: no such flag"),
        (&["--backends=a", "--placement", ""], "mcproxy: --placement '': there is no placement"),
        (&["--backends=a", "--hash-tag", "é"], "mcproxy: --hash-tag é: must be two characters"),
        (&["a\nb"], "mcproxy: a\\nb: unexpected argument"),
        (&["--threads"], "mcproxy: --threads: its value is missing"),
        (&["-t"], "mcproxy: --threads: its value is missing"),
        (&["-t", "1", "--threads", "2"], "mcproxy: --threads: given more than once"),
        (&["-F", "-F"], "mcproxy: --disable-flush-all: given more than once"),
        (&["--disable-flush-all=yes"], "mcproxy: --disable-flush-all yes: this flag takes no value"),
        (&["--auto-eject=yes"], "mcproxy: --auto-eject yes: this flag takes no value"),
        (&["--auto-eject", "--auto-eject"], "mcproxy: --auto-eject: given more than once"),
        (&["--backends=a", "--rejoin", ""], "mcproxy: --rejoin '': must be flush or as-is"),
        (&["--backends", ""], "mcproxy: --backends '': "),
        (&["--backends", "a", "-t", ""], "mcproxy: --threads '': must be 1 to 64"),
        (&["--backends", "a\nb\u{85}"], "mcproxy: --backends a\\nb\\u{85}: not a host name"),
        (&["--backends=a", "--timeout", "x\ry"], "mcproxy: --timeout x\\ry: "),
    ];
    for (words, start) in table {
        let line = bad(words);
        assert!(line.starts_with(start), "{words:?}: {line}");
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let words = [b"mcproxy".to_vec(), b"--backends".to_vec(), b"a\xff".to_vec()];
    let exit = parse(words.map(OsString::from_vec)).expect_err("not UTF-8");
    assert_eq!((exit.status, exit.text.as_str()), (2, "mcproxy: --backends a\u{fffd}: not UTF-8"));
}

#[test]
fn help_and_version_are_no_errors() {
    for words in [["--help"], ["-h"]] {
        let exit = parsed(&words).expect_err("help");
        assert_eq!(exit.status, 0);
        assert!(exit.text.contains("mcproxy --listen :11311 --backends"), "{}", exit.text);
        for flag in ["-t, --threads", "-c, --max-conns", "-F, --disable-flush-all", "--read-errors"] {
            assert!(exit.text.contains(flag), "{flag}: {}", exit.text);
        }
    }
    let exit = parsed(&["--version"]).expect_err("version");
    assert_eq!(exit, Exit { status: 0, text: format!("mcproxy {}", env!("CARGO_PKG_VERSION")) });
}

/// Whatever the words, the answer is a configuration or one line, never a panic.
#[test]
fn arbitrary_words_never_panic() {
    const PIECES: [&str; 26] = [
        "a",
        "=",
        "@",
        ":",
        ",",
        "[",
        "]",
        "::1",
        "1",
        "0",
        "unix:",
        "/",
        "embedded:",
        ".",
        "-",
        "--",
        "k",
        "\n",
        " ",
        "ä",
        "\0",
        "--backends",
        "--listen",
        "--timeout",
        "99999999999",
        "%",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    for _ in 0..4_000 {
        let mut word = String::new();
        for _ in 0..below(7) {
            word.push_str(PIECES[below(PIECES.len())]);
        }
        let flag = ["--backends", "--listen", "--timeout", "--max-value", "-t"][below(5)];
        if let Err(exit) = parsed(&[flag, &word]) {
            assert_eq!(exit.text.lines().count(), 1, "{flag} {word:?}: {:?}", exit.text);
            assert!(exit.status == 2 && !exit.text.contains('\r'), "{flag} {word:?}: {:?}", exit.text);
        }
    }
}

#[test]
fn placements_are_checked_with_their_servers() {
    assert_eq!(good(&["--backends", "a"]).placement, Method::Rendezvous);
    let config =
        good(&["--backends=a=3,b", "--placement=dalli", "--hash-tag={}", "--hash-strip-prefix=app:"]);
    assert_eq!(config.placement, Method::Dalli);
    assert_eq!(config.hashed_part, HashedPart { prefix: b"app:".to_vec(), tag: Some(*b"{}") });
    let line = bad(&["--backends=a=3,b", "--placement=gomemcache"]);
    assert!(line.starts_with("mcproxy: --placement gomemcache: ") && line.contains("a:11211"), "{line}");
    let line = bad(&["--backends=a", "--nutcracker=f", "--hash-tag={}"]);
    assert_eq!(line, "mcproxy: --backends: not together with --nutcracker, whose file answers it");
    for flag in ["--placement=dalli", "--hash-tag={}", "--hash-strip-prefix=x"] {
        let line = bad(&["--nutcracker=f", flag]);
        let name = flag.split('=').next().unwrap_or_default();
        assert_eq!(line, format!("mcproxy: {name}: not together with --nutcracker, whose file answers it"));
    }
}
