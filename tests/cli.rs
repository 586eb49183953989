//! The program's command line, run as a user runs it: what goes to stdout and stderr, and the exit status.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A bound for a hang, far above what any of these runs needs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Run {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs mcproxy with `words` until it ends. One that goes on is stopped, and fails the test.
fn run(words: &[&str]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcproxy"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mcproxy starts");
    let status = wait(&mut child, words);
    // What these runs print fits in a pipe, so that reading can come after the end.
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    Run { status, stdout, stderr }
}

fn wait(child: &mut Child, words: &[&str]) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            return status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().expect("stop mcproxy");
            child.wait().expect("the child's status");
            panic!("mcproxy {words:?} should have ended by itself");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The promise for everything that is wrong: the status, nothing on stdout, one whole line on stderr.
fn assert_refused(words: &[&str], status: i32, parts: &[&str]) {
    let run = run(words);
    let shown = format!("mcproxy {words:?}: {} stdout {:?} stderr {:?}", run.status, run.stdout, run.stderr);
    assert_eq!(run.status.code(), Some(status), "{shown}");
    assert_eq!(run.stdout, "", "{shown}");
    assert!(run.stderr.starts_with("mcproxy: "), "{shown}");
    assert!(run.stderr.ends_with('\n') && run.stderr.lines().count() == 1, "{shown}");
    for part in parts {
        assert!(run.stderr.contains(part), "no {part:?} in {shown}");
    }
}

#[test]
fn bad_flags_end_with_status_2_and_one_line() {
    let table: &[(&str, &str)] = &[
        ("--threads", "0"),
        ("--threads", "-1"),
        ("--max-conns", "none"),
        ("--listen", ":99999"),
        ("--listen", "localhost:11311"),
        ("--backends", "a:x"),
        ("--backends", "a=0"),
        ("--backends", "a=1001"),
        ("--backends", "::1"),
        ("--backends", "embedded:65"),
        ("--timeout", "250"),
        ("--timeout", "0s"),
        ("--connect-timeout", "soon"),
        ("--failure-limit", "0"),
        ("--retry-interval", "1h"),
        ("--rejoin", "never"),
        ("--cas-fence", "0s"),
        ("--cas-fence", "600"),
        ("--drain-timeout", "x"),
        ("--max-value", "2g"),
        ("--read-errors", "hit"),
        ("--log-level", "loud"),
    ];
    for (flag, value) in table {
        let mut words = vec![*flag, value];
        if *flag != "--backends" {
            words.extend(["--backends", "127.0.0.1:1"]);
        }
        assert_refused(&words, 2, &[&format!("{flag} {value}: ")]);
    }
}

#[test]
fn words_that_are_no_flags_end_with_status_2_and_one_line() {
    assert_refused(&[], 2, &["--backends"]);
    assert_refused(&["--backends", "a,b,a:11211"], 2, &["--backends a:11211: duplicate"]);
    assert_refused(&["--bogus", "--backends", "a"], 2, &["--bogus"]);
    assert_refused(&["--backends", "a", "surplus"], 2, &["surplus"]);
    assert_refused(&["--backends"], 2, &["--backends"]);
    assert_refused(&["--backends", "a", "--timeout", "1s", "--timeout", "2s"], 2, &["--timeout"]);
    assert_refused(&["--backends", "a\nb"], 2, &["--backends a\\nb: "]);
}

#[test]
fn help_goes_to_stdout() {
    for flag in ["--help", "-h"] {
        let run = run(&[flag]);
        assert_eq!(run.status.code(), Some(0));
        assert_eq!(run.stderr, "");
        assert!(run.stdout.contains("Example:\n  mcproxy --listen :11311 --backends "), "{}", run.stdout);
        assert!(run.stdout.ends_with('\n'));
    }
}

#[test]
fn version_goes_to_stdout() {
    for flag in ["--version", "-V"] {
        let run = run(&[flag]);
        assert_eq!(run.status.code(), Some(0));
        assert_eq!(run.stdout, format!("mcproxy {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn an_address_in_use_ends_with_status_1_and_one_line() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let holder = TcpListener::bind(bind).expect("a free port on loopback");
        let address = holder.local_addr().expect("its address").to_string();
        // No backend listens at port 1: only the listen address may be complained of.
        let words = ["--listen", &address, "--backends", "127.0.0.1:1"];
        assert_refused(&words, 1, &["--listen", &address]);
    }
}

/// The check must be able to fail: a run that ends well is no refusal.
#[test]
#[should_panic(expected = "stdout")]
fn canary_a_good_run_is_no_refusal() {
    assert_refused(&["--version"], 2, &[]);
}
