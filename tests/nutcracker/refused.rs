//! Files and flags that are refused: status 2 (1 if a place is taken), one line on stderr.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use super::files::File;
use super::support::process::free_port;

/// One of twemproxy's own examples is like this: redis beside memcached.
const WITH_REDIS: &str = "\
alpha:
  listen: 127.0.0.1:22121
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: true
  redis: true
  servers:
   - 127.0.0.1:6379:1

beta:
  listen: 127.0.0.1:22122
  servers:
   - 127.0.0.1:11212:1
";

/// The line that mcproxy ends with when it is run so.
#[track_caller]
fn refused(file: &Path, flags: &[&str], status: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcproxy"));
    command.arg("--nutcracker").arg(file).args(flags).stdin(Stdio::null());
    let output = command.output().expect("mcproxy runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let shown = format!("{command:?}: {} stdout {stdout:?} stderr {stderr:?}", output.status);
    assert_eq!((output.status.code(), &stdout[..]), (Some(status), ""), "{shown}");
    let line = stderr.lines().last().expect("a line");
    assert!(line.starts_with("mcproxy: ") && (status == 1 || stderr.lines().count() == 1), "{shown}");
    line.to_owned()
}

#[test]
fn what_would_change_behaviour_names_file_line_pool_key_and_value() {
    let pool = "a:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11212:1\n";
    let table = [
        (WITH_REDIS.to_string(), ":6: pool alpha: redis true: mcproxy is for memcached"),
        (pool.replace("  servers", "  distribution: random\n  servers"), ":3: pool a: distribution random: "),
        (
            pool.replace("  servers", "  redis_auth: secret\n  servers"),
            ":3: pool a: redis_auth: is for a pool of redis",
        ),
        (
            pool.replace("  servers", "  reuse_port: true\n  servers"),
            ":3: pool a: reuse_port true: twemproxy 0.5 has no",
        ),
        (pool.replace(":1\n", ":0\n"), ":4: pool a: servers 127.0.0.1:11212:0: the weight must be "),
        (pool.replace("  servers", "\tservers"), ":2: pool a: not YAML: "),
        (String::new(), ":1: no pools"),
    ];
    for (text, what) in table {
        let file = File::new("refused", text);
        let line = refused(file.path(), &[], 2);
        assert!(line.contains(&format!("{}{what}", file.path().display())), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let absent = Path::new("/nowhere/nutcracker.yml");
    assert!(
        refused(absent, &[], 2).starts_with("mcproxy: --nutcracker /nowhere/nutcracker.yml: No such file")
    );
    assert!(refused(&std::env::temp_dir(), &[], 2).contains("directory"));
    let large = File::new("large", "#".repeat((1 << 20) + 1));
    assert!(refused(large.path(), &[], 2).ends_with(": the file has more than 1048576 bytes"));
    let file = File::new("latin", String::new());
    std::fs::write(file.path(), b"a: \xe4\n").expect("written");
    assert!(refused(file.path(), &[], 2).ends_with(": the file is not UTF-8"));
}

#[test]
fn flags_that_the_file_answers_are_refused_beside_it() {
    let file = File::new("flags", WITH_REDIS.to_string());
    let table = [
        ("--listen", ":11311"),
        ("--backends", "a"),
        ("--placement", "dalli"),
        ("--hash-tag", "{}"),
        ("--hash-strip-prefix", "app:"),
        ("--timeout", "1s"),
        ("--connect-timeout", "1s"),
        ("--failure-limit", "3"),
        ("--retry-interval", "1s"),
    ];
    for (flag, value) in table {
        let line = refused(file.path(), &[flag, value], 2);
        assert_eq!(line, format!("mcproxy: {flag}: not together with --nutcracker, whose file answers it"));
    }
    assert!(refused(file.path(), &["--auto-eject"], 2).starts_with("mcproxy: --auto-eject: not together"));
    assert!(refused(file.path(), &["--threads", "0"], 2).starts_with("mcproxy: --threads 0: must be"));
}

#[test]
fn a_place_that_is_taken_is_told_with_its_pool() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("bound");
    let text = format!(
        "a:\n  listen: 127.0.0.1:{}\n  servers:\n   - 127.0.0.1:1:1\nb:\n  listen: {at}\n  servers:\n   - 127.0.0.1:1:1\n",
        free_port()
    );
    let file = File::new("taken", text);
    let line = refused(file.path(), &[], 1);
    assert!(line.starts_with(&format!("mcproxy: pool b: listen {at}: ")), "{line}");
}
