//! mcproxy-bench, run as a user runs it: against real memcached, whose own counters must agree with what the tool
//! says that it did, and through the proxy. A checker that finds nothing wrong with a harmful server finds nothing
//! at all: so some of these servers do harm.

mod support;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::client::Client;
use support::inbox::PATIENCE;
use support::process::Server;
use support::relay::{Harm, Relay, one_byte_altered};

/// The flags of every protocol.
const PROTOCOLS: [&[&str]; 4] =
    [&["--protocol", "text"], &["--gets"], &["--protocol", "meta"], &["--protocol", "binary"]];

const WORKLOADS: [&str; 4] = ["get", "set", "mixed", "multiget"];

/// Keys of one multiget in these tests.
const MULTIGET: u64 = 7;

struct Run {
    words: Vec<String>,
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn shown(&self) -> String {
        let words = self.words.join(" ");
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        format!("mcproxy-bench {words}\nstatus {:?}\nstdout: {stdout}\nstderr: {stderr}", self.status)
    }

    /// What a run with --json printed.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, Some(0), "{}", self.shown());
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.shown()))
    }

    /// One of its numbers.
    #[track_caller]
    fn number(&self, name: &str) -> f64 {
        let found = self.json();
        let number = found.get(name).and_then(Value::as_f64);
        number.unwrap_or_else(|| panic!("no number {name}: {}", self.shown()))
    }

    #[track_caller]
    fn counts<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        names.map(|name| self.number(name) as u64)
    }

    /// It must have ended with status 1 and have said all of `parts`.
    #[track_caller]
    fn assert_failed(&self, parts: &[&str]) {
        assert_eq!(self.status, Some(1), "{}", self.shown());
        assert!(self.stderr.starts_with("mcproxy-bench: "), "{}", self.shown());
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?}: {}", self.shown());
        }
    }
}

/// Runs the tool until it ends. One that goes on is stopped, and fails the test.
#[track_caller]
fn run(words: &[&str]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcproxy-bench"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mcproxy-bench starts");
    // What it prints fits in a pipe, so that reading can come after the end.
    let status = wait(&mut child, words);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    Run { words: words.iter().map(|&word| word.to_owned()).collect(), status, stdout, stderr }
}

#[track_caller]
fn wait(child: &mut Child, words: &[&str]) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            return status.code();
        }
        if started.elapsed() > 2 * PATIENCE {
            child.kill().expect("stop it");
            child.wait().expect("the child's status");
            panic!("mcproxy-bench {words:?} should have ended by itself");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs the tool against a server, with few keys and with JSON as the result.
#[track_caller]
fn load(target: SocketAddr, flags: &[&[&str]]) -> Run {
    let target = target.to_string();
    let multiget = MULTIGET.to_string();
    let fixed = ["--target", &target, "--json", "--keys", "500", "--multiget", &multiget];
    let words: Vec<&str> =
        fixed.into_iter().chain(flags.iter().flat_map(|some| some.iter().copied())).collect();
    run(&words)
}

/// One of memcached's counters.
fn counter(server: SocketAddr, name: &str) -> u64 {
    let client = Client::connect(server);
    client.send(b"stats\r\n");
    let stats = client
        .inbox
        .take_when(PATIENCE, |bytes, _| {
            bytes.windows(7).position(|end| end == b"\r\nEND\r\n").map(|at| at + 7)
        })
        .unwrap_or_else(|shortfall| panic!("stats: {shortfall}"));
    let stats = String::from_utf8(stats).expect("text");
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {stats}"))
}

/// The sums that must hold whatever was asked of whom.
#[track_caller]
fn assert_sums(run: &Run, workload: &str, operations: u64) {
    let [all, gets, sets] = run.counts(["operations", "gets", "sets"]);
    let [hits, misses, errors, unsent] = run.counts(["hits", "misses", "errors", "unsent"]);
    let shown = run.shown();
    assert_eq!((all, gets + sets, misses, errors, unsent), (operations, operations, 0, 0, 0), "{shown}");
    let keys = if workload == "multiget" { MULTIGET } else { 1 };
    assert_eq!(hits, gets * keys, "{shown}");
    match workload {
        "set" => assert_eq!(gets, 0, "{shown}"),
        // 90 %, about; the seed is the tool's own, so it is the same in every run.
        "mixed" => assert!((operations * 85..operations * 95).contains(&(gets * 100)), "{shown}"),
        _ => assert_eq!(sets, 0, "{shown}"),
    }
    let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|name| run.number(name));
    assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{shown}");
}

#[test]
fn memcached_counts_what_the_tool_says() {
    const NAMES: [&str; 3] = ["cmd_set", "cmd_get", "get_hits"];
    let memcached = Server::memcached();
    for (protocol, pipeline) in PROTOCOLS.iter().flat_map(|protocol| [(protocol, "1"), (protocol, "5")]) {
        for workload in WORKLOADS {
            let before = NAMES.map(|name| counter(memcached.address, name));
            let flags: &[&str] = &["--workload", workload, "--pipeline", pipeline, "--clients", "9"];
            let run = load(memcached.address, &[protocol, flags, &["--requests", "2000", "--preload"]]);
            assert_sums(&run, workload, 2000);
            let after = NAMES.map(|name| counter(memcached.address, name));
            let counted = [0, 1, 2].map(|at| after[at] - before[at]);
            let [sets, hits] = run.counts(["sets", "hits"]);
            // The preload is not among the operations.
            assert_eq!(counted, [500 + sets, hits, hits], "{}", run.shown());
        }
    }
}

#[test]
fn every_protocol_goes_through_the_proxy() {
    let proxy = Server::mcproxy("embedded:2", &["--threads", "2"]);
    for protocol in PROTOCOLS {
        for workload in WORKLOADS {
            let flags: &[&str] =
                &["--workload", workload, "--threads", "2", "--clients", "9", "--pipeline", "3"];
            let run = load(proxy.address, &[protocol, flags, &["--requests", "2000", "--preload"]]);
            assert_sums(&run, workload, 2000);
        }
    }
}

#[test]
fn large_values_and_unix_sockets() {
    let directory = std::env::temp_dir().join(format!("mcproxy-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory of our own");
    let path = format!("unix:{}", directory.join("proxy.sock").display());
    let _proxy = Server::mcproxy("embedded:2", &["--listen", &path]);
    for protocol in PROTOCOLS {
        let flags = ["--target", &path, "--keys", "20", "--value-bytes", "100000", "--preload", "--json"];
        let bound = ["--requests", "300", "--pipeline", "4", "--clients", "5", "--multiget", "7"];
        for workload in ["mixed", "multiget"] {
            let run = run(&[protocol, &flags, &bound, &["--workload", workload]].concat());
            let [operations, misses] = run.counts(["operations", "misses"]);
            assert_eq!((operations, misses), (300, 0), "{}", run.shown());
        }
    }
    std::fs::remove_dir_all(&directory).expect("remove it");
}

#[test]
fn keys_that_are_not_there_are_misses() {
    let memcached = Server::memcached();
    for protocol in PROTOCOLS {
        for (workload, keys) in [("get", 1), ("multiget", MULTIGET)] {
            let run = load(memcached.address, &[protocol, &["--workload", workload, "--requests", "200"]]);
            let [hits, misses] = run.counts(["hits", "misses"]);
            assert_eq!((hits, misses), (0, 200 * keys), "{}", run.shown());
        }
    }
}

/// The schedule says how many operations there are and when the last one is due; how fast the machine is does not.
#[test]
fn an_open_loop_keeps_to_its_schedule() {
    let memcached = Server::memcached();
    for (clients, threads, pipeline) in [("1", "1", "1"), ("8", "3", "2")] {
        for protocol in ["text", "meta", "binary"] {
            let flags: &[&str] = &["--rate", "4000", "--clients", clients, "--threads", threads];
            let more: &[&str] =
                &["--pipeline", pipeline, "--protocol", protocol, "--preload", "--timeout", "60"];
            let run = load(memcached.address, &[flags, more, &["--seconds", "0.25"]]);
            assert_sums(&run, "mixed", 1000);
            assert!(run.number("seconds") >= 999.0 / 4000.0, "{}", run.shown());
            let run = load(memcached.address, &[flags, more, &["--seconds", "60", "--requests", "100"]]);
            assert_eq!(run.counts(["operations"]), [100], "{}", run.shown());
        }
    }
}

/// A server that stands still for 300 ms, with 1,000 operations a second over half a second: those due meanwhile
/// waited, and most of all operations say so. A loop that measures from when it could send hides it.
#[test]
fn waiting_for_a_slow_server_is_measured() {
    let memcached = Server::memcached();
    let flags: &[&str] = &["--clients", "1", "--workload", "get"];
    let preload = load(memcached.address, &[flags, &["--preload", "--requests", "1"]]);
    assert_eq!(preload.status, Some(0), "{}", preload.shown());
    let stall = || {
        let mut stalled = false;
        Relay::start(
            memcached.address,
            Box::new(move |_| {
                if !std::mem::replace(&mut stalled, true) {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }),
        )
    };
    let relay = stall();
    let run = load(relay.address, &[flags, &["--rate", "1000", "--seconds", "0.5", "--timeout", "60"]]);
    assert_eq!(run.counts(["operations", "unsent"]), [500, 0], "{}", run.shown());
    assert!(run.number("p50_us") > 20_000.0, "{}", run.shown());
    assert!(run.number("late_p50_us") > 20_000.0, "one request in flight: {}", run.shown());
    // In a closed loop it is one slow operation.
    let relay = stall();
    let run = load(relay.address, &[flags, &["--requests", "500"]]);
    assert!(run.number("max_us") >= 300_000.0, "{}", run.shown());
}

/// A target that can't keep the rate does not make the run endless.
#[test]
fn a_rate_that_cannot_be_kept_is_given_up() {
    let memcached = Server::memcached();
    let pause = Duration::from_millis(20);
    let relay = Relay::start(memcached.address, Box::new(move |_| std::thread::sleep(pause)));
    let flags: &[&str] = &["--clients", "1", "--rate", "10000", "--seconds", "0.1", "--timeout", "3"];
    let run = load(relay.address, &[flags]);
    let [operations, unsent] = run.counts(["operations", "unsent"]);
    assert_eq!(operations + unsent, 1000, "{}", run.shown());
    assert!(unsent > 800, "{}", run.shown());
}

#[test]
fn time_ends_a_run_too() {
    let memcached = Server::memcached();
    let run = load(memcached.address, &[&["--seconds", "0.2", "--warmup", "0.1", "--preload"]]);
    let [gets, hits, misses] = run.counts(["gets", "hits", "misses"]);
    assert!(hits == gets && misses == 0, "{}", run.shown());
    assert!(run.number("seconds") >= 0.2, "{}", run.shown());
}

/// Puts the value of one key where that of another belongs: the first value that comes is kept, and replaces that of
/// every other key. For one client with one request in flight, whose replies come one by one.
fn values_crossed(binary: bool) -> Harm {
    const VALUE: usize = 100;
    let mut kept: Option<Vec<u8>> = None;
    Box::new(move |piece| {
        let head =
            if binary { Some(28) } else { piece.iter().position(|&byte| byte == b'\n').map(|at| at + 1) };
        let Some(value) = head.and_then(|start| piece.get_mut(start..start + VALUE)) else { return };
        match &kept {
            Some(kept) => value.copy_from_slice(kept),
            None => kept = Some(value.to_vec()),
        }
    })
}

/// The canary of all: whatever the protocol, a value of another key ends the run.
#[test]
fn canary_a_crossed_value_is_found() {
    let memcached = Server::memcached();
    for protocol in PROTOCOLS {
        let flags: &[&str] = &["--clients", "1", "--requests", "500", "--workload", "get"];
        let good = load(memcached.address, &[flags, protocol, &["--preload"]]);
        assert_eq!(good.counts(["hits"]), [500], "{}", good.shown());
        let relay = Relay::start(memcached.address, values_crossed(protocol.contains(&"binary")));
        let crossed = load(relay.address, &[flags, protocol]);
        crossed.assert_failed(&[
            "wrong reply",
            "a value that does not belong to its key",
            "asked: ",
            "k000000",
        ]);
        assert_eq!(crossed.stdout, "", "{}", crossed.shown());
    }
}

/// One bit in the middle of one piece, with many clients and requests in flight; several lanes must end too.
#[test]
fn canary_an_altered_bit_is_found() {
    let memcached = Server::memcached();
    let common: &[&str] = &["--clients", "8", "--threads", "2", "--pipeline", "4", "--requests", "5000"];
    for protocol in [&["--protocol", "text"][..], &["--protocol", "meta"]] {
        for workload in ["get", "multiget", "set"] {
            let flags: &[&str] = &["--workload", workload];
            let good = load(memcached.address, &[common, flags, protocol, &["--preload"]]);
            assert_sums(&good, workload, 5000);
            let relay = Relay::start(memcached.address, one_byte_altered(20));
            let altered = load(relay.address, &[common, flags, protocol]);
            altered.assert_failed(&["wrong reply", "got:   b\""]);
        }
    }
}

/// Swallows all that the server sends, or replaces it.
fn always(answer: &'static [u8]) -> Harm {
    Box::new(move |piece| *piece = answer.to_vec())
}

#[test]
fn silence_and_closed_connections_end_a_run() {
    let memcached = Server::memcached();
    let relay = Relay::start(memcached.address, always(b""));
    let silent = load(relay.address, &[&["--clients", "3", "--timeout", "0.3"]]);
    silent.assert_failed(&["no answer for 0.3 s", "3 requests in flight", "k000000"]);

    // Whoever connects is dropped at once.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    let closing = std::thread::spawn(move || drop(listener.accept()));
    let closed = load(address, &[&["--clients", "1", "--requests", "5"]]);
    closed.assert_failed(&["connection 0 was closed by the target"]);
    closing.join().expect("the listener");

    // Now nobody listens there.
    let refused = load(address, &[&["--clients", "1"]]);
    refused.assert_failed(&[&format!("--target {address}: ")]);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.shown());
}

#[test]
fn errors_end_a_run_unless_they_are_tolerated() {
    let memcached = Server::memcached();
    let relay = Relay::start(memcached.address, always(b"SERVER_ERROR backend a is down\r\n"));
    let flags: &[&str] = &["--clients", "1", "--requests", "50"];
    load(relay.address, &[flags]).assert_failed(&["an error", "SERVER_ERROR backend a is down"]);
    let tolerant = load(relay.address, &[flags, &["--tolerate-errors"]]);
    let counted = tolerant.counts(["operations", "errors", "hits", "misses"]);
    assert_eq!(counted, [50, 50, 0, 0], "{}", tolerant.shown());
    let relay = Relay::start(memcached.address, always(b"CLIENT_ERROR bad command line format\r\n"));
    load(relay.address, &[flags, &["--tolerate-errors"]]).assert_failed(&["wrong reply", "CLIENT_ERROR"]);
}

#[test]
fn processes_are_watched() {
    let memcached = Server::memcached();
    let pid = format!("cache={}", memcached.id());
    let run = load(memcached.address, &[&["--requests", "20000", "--pipeline", "16", "--pid", &pid]]);
    let processes = &run.json()["processes"];
    for name in ["cache", "mcproxy-bench"] {
        for field in ["cpu_us_per_op", "user_us_per_op", "system_us_per_op"] {
            assert!(processes[name][field].as_f64().is_some_and(|time| time >= 0.0), "{}", run.shown());
        }
        assert!(processes[name]["voluntary_switches"].is_u64(), "{}", run.shown());
    }
}

#[test]
fn idle_connections_are_held_and_touched() {
    let memcached = Server::memcached();
    let pid = format!("cache={}", memcached.id());
    let flags: &[&str] = &["--idle", "150", "--seconds", "0.2", "--pid", &pid];
    let connections = || counter(memcached.address, "total_connections");
    let before = connections();
    let run = load(memcached.address, &[flags]);
    // One more is the look at the counter.
    assert_eq!((run.number("idle"), connections() - before), (150.0, 151), "{}", run.shown());
    for protocol in PROTOCOLS {
        let touch: &[&str] = &["--touch-idle", "--preload", "--value-bytes", "102400"];
        let before = counter(memcached.address, "get_hits");
        let run = load(memcached.address, &[flags, touch, protocol]);
        let hits = counter(memcached.address, "get_hits") - before;
        assert_eq!((run.number("misses"), hits), (0.0, 150), "{}", run.shown());
        let cache = &run.json()["processes"]["cache"];
        let bytes = |name: &str| cache[name].as_f64().unwrap_or_else(|| panic!("{name}: {}", run.shown()));
        assert!(bytes("before_bytes") > 0.0 && bytes("after_bytes") > 0.0, "{}", run.shown());
        let each = (bytes("after_bytes") - bytes("before_bytes")) / 150.0;
        assert!((each - bytes("bytes_per_client")).abs() < 0.1, "{}", run.shown());
    }
}

#[test]
fn idle_connections_that_end_are_found() {
    let memcached = Server::memcached();
    let relay = Relay::start(memcached.address, always(b"END\r\nEND\r\n"));
    let surplus = load(relay.address, &[&["--idle", "3", "--touch-idle", "--seconds", "0.1"]]);
    surplus.assert_failed(&["wrong reply", "END"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    let closing = std::thread::spawn(move || drop(listener.accept()));
    let closed = load(address, &[&["--idle", "1", "--seconds", "2"]]);
    closed.assert_failed(&["was closed by the target"]);
    closing.join().expect("the listener");
}

#[test]
fn the_result_for_people_and_as_csv() {
    let memcached = Server::memcached();
    let target = memcached.address.to_string();
    let common = ["--target", &target, "--preload", "--keys", "100", "--requests", "2000"];
    let summary = run(&common);
    assert_eq!((summary.status, &summary.stderr[..]), (Some(0), ""), "{}", summary.shown());
    for part in
        ["2,000 in ", " ops/s", "p50 ", "p90 ", "p99 ", "p99.9 ", "max ", " 0 misses, 0 errors", "us/op"]
    {
        assert!(summary.stdout.contains(part), "no {part:?}: {}", summary.shown());
    }
    let csv = run(&[&common[..], &["--csv", "--csv-header"]].concat());
    let lines: Vec<Vec<&str>> = csv.stdout.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 2, "{}", csv.shown());
    assert_eq!(lines[0].len(), lines[1].len(), "{}", csv.shown());
    let at = lines[0].iter().position(|&name| name == "operations").expect("a column of operations");
    assert_eq!(lines[1][at], "2000", "{}", csv.shown());
    let row = run(&[&common[..], &["--csv"]].concat());
    assert_eq!(row.stdout.lines().count(), 1, "{}", row.shown());
    let pid = format!("cache={}", memcached.id());
    let idle = ["--idle", "20", "--touch-idle", "--seconds", "0.1", "--pid", &pid];
    let summary = run(&[&common[..], &idle].concat());
    for part in ["20 idle connections", "0 misses", "cache: private memory ", " bytes a connection"] {
        assert!(summary.stdout.contains(part), "no {part:?}: {}", summary.shown());
    }
    let csv = run(&[&common[..], &idle, &["--csv", "--csv-header"]].concat());
    let columns = |line: &str| line.split(',').count();
    assert_eq!(csv.stdout.lines().map(columns).collect::<Vec<_>>(), [8, 8], "{}", csv.shown());
}

/// The same seed asks for the same operations, another one for others.
#[test]
fn a_seed_repeats_a_run() {
    let memcached = Server::memcached();
    let gets = |seed| load(memcached.address, &[&["--requests", "3000", "--seed", seed]]).counts(["gets"]);
    assert_eq!(gets("7"), gets("7"));
    let several = ["1", "2", "3", "4"].map(gets);
    assert!(several.iter().any(|one| *one != several[0]), "{several:?}");
}

/// The promise for a bad command line: status 2, nothing on stdout, one whole line on stderr.
#[track_caller]
fn assert_refused(words: &[&str], parts: &[&str]) {
    let run = run(words);
    assert_eq!(run.status, Some(2), "{}", run.shown());
    assert_eq!(run.stdout, "", "{}", run.shown());
    assert!(run.stderr.starts_with("mcproxy-bench: "), "{}", run.shown());
    assert!(run.stderr.ends_with('\n') && run.stderr.lines().count() == 1, "{}", run.shown());
    for part in parts {
        assert!(run.stderr.contains(part), "no {part:?}: {}", run.shown());
    }
}

#[test]
fn bad_flags_are_one_line_with_status_2() {
    let table = [
        ("--clients", "0"),
        ("--clients", "-1"),
        ("--pipeline", "many"),
        ("--threads", "65"),
        ("--protocol", "udp"),
        ("--workload", "delete"),
        ("--get-share", "1.1"),
        ("--keys", "0"),
        ("--key-bytes", "251"),
        ("--value-bytes", "54"),
        ("--key-bytes", "4"),
        ("--multiget", "0"),
        ("--seconds", "0"),
        ("--seconds", "1e3"),
        ("--seconds", "inf"),
        ("--requests", "0"),
        ("--rate", "0.5"),
        ("--warmup", "soon"),
        ("--seed", "x"),
        ("--timeout", ""),
        ("--idle", "0"),
        ("--pid", "cache"),
        ("--pid", "cache=0"),
        ("--pid", "a b=1"),
    ];
    for (flag, value) in table {
        let start = format!("{flag} {}: ", if value.is_empty() { "''" } else { value });
        assert_refused(&["--target", "127.0.0.1:1", flag, value], &[&start]);
    }
    let target = ["--target", "127.0.0.1:1"];
    let with = |words: &[&'static str]| [&target[..], words].concat();
    assert_refused(&[], &["--target", "missing"]);
    assert_refused(&with(&["--bogus"]), &["--bogus"]);
    assert_refused(&with(&["surplus"]), &["surplus"]);
    assert_refused(&with(&["--rate"]), &["--rate"]);
    assert_refused(&with(&["--rate", "1", "--rate", "2"]), &["--rate", "more than once"]);
    assert_refused(&with(&["--json", "--csv"]), &["--json", "--csv"]);
    assert_refused(&with(&["--touch-idle"]), &["--idle"]);
    assert_refused(&with(&["--gets", "--protocol", "meta"]), &["--gets"]);
    assert_refused(&with(&["--clients", "1", "--threads", "2"]), &["--threads 2: "]);
    assert_refused(&with(&["--workload", "multiget", "--keys", "5"]), &["--multiget 20: "]);
    assert_refused(&with(&["--protocol", "a\nb"]), &["--protocol a\\nb: "]);
    let own = format!("a={}", std::process::id());
    assert_refused(&["--target", "127.0.0.1:1", "--pid", &own, "--pid", &own], &["--pid a="]);
}

#[test]
fn only_this_machine_is_loaded() {
    for target in
        ["10.0.0.1:11211", "0.0.0.0:11211", "[::]:11211", "[2001:db8::1]:11211", "192.168.1.1:11211"]
    {
        assert_refused(&["--target", target], &[&format!("--target {target}: "), "not a loopback address"]);
    }
    for target in ["localhost:11211", "memcached.example:11211", "127.0.0.1", "unix:", ":11211"] {
        assert_refused(&["--target", target], &[&format!("--target {target}: ")]);
    }
}

#[test]
fn help_has_examples() {
    let help = run(&["--help"]);
    assert_eq!((help.status, &help.stderr[..]), (Some(0), ""), "{}", help.shown());
    assert!(help.stdout.contains("Examples:"), "{}", help.shown());
    assert!(help.stdout.contains("mcproxy-bench --target 127.0.0.1:11211 --preload"), "{}", help.shown());
    assert_eq!(run(&["--version"]).stdout, format!("mcproxy-bench {}\n", env!("CARGO_PKG_VERSION")));
}
