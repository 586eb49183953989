//! `--io`: which engine runs, how `stats` and the log tell of it, and what happens where io_uring is refused, as
//! seccomp filters of containers do it (tests/data/refusing installs one).
#![cfg(target_os = "linux")]

mod support;

use std::process::{Command, Output, Stdio};

use support::client::Client;
use support::engine;
use support::process::Server;

const REFUSING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/refusing");

/// A proxy that is to end by itself, with a system call refused.
fn refused(call: &str, errno: &str, io: &str) -> Output {
    Command::new(REFUSING)
        .args([call, errno, env!("CARGO_BIN_EXE_mcproxy"), "--io", io])
        .args(["--listen", "127.0.0.1:0", "--backends", "embedded:1"])
        .stdin(Stdio::null())
        .output()
        .expect("python3 runs")
}

/// What `stats` calls the engine.
fn engine_of(server: &Server) -> String {
    let client = Client::connect(server.address);
    client.send(b"stats\r\n");
    let stats = client.inbox.take_until(b"END\r\n").expect("stats");
    let stats = String::from_utf8_lossy(&stats).into_owned();
    let line = stats.lines().find_map(|line| line.strip_prefix("STAT io "));
    line.unwrap_or_else(|| panic!("no engine in {stats}")).to_owned()
}

#[test]
fn uring_is_used_where_it_is_asked_for() {
    let uring = if engine::uring_is_expected() { "uring" } else { "mio" };
    for (words, expected) in
        [(&["--io", "mio"][..], "mio"), (&["--io", uring], uring), (&["--io", "auto"], uring)]
    {
        let server = Server::mcproxy("embedded:1", words);
        assert_eq!(engine_of(&server), expected, "{words:?}");
        let told = words[1] == "auto" && expected == "mio";
        assert_eq!(server.errors().contains("--io"), told, "{}", server.errors());
    }
}

#[test]
fn a_refusal_ends_the_program_with_one_line_that_says_who_refuses() {
    for (call, errno, parts) in [
        ("io_uring_setup", "EPERM", &["io_uring_setup", "not permitted", "io_uring_disabled", "seccomp"][..]),
        ("io_uring_setup", "EACCES", &["io_uring_setup", "not permitted"]),
        ("io_uring_setup", "ENOSYS", &["io_uring_setup", "no io_uring"]),
        ("io_uring_setup", "EINVAL", &["io_uring_setup", "IORING_SETUP_", "6.1"]),
        ("io_uring_setup", "ENOMEM", &["io_uring_setup", "memory", "ulimit -l"]),
        ("io_uring_register", "EINVAL", &["IORING_REGISTER_"]),
    ] {
        let output = refused(call, errno, "uring");
        let errors = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{call} {errno}: {} {errors}", output.status);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert_eq!(errors.lines().count(), 1, "{shown}");
        assert!(errors.starts_with("mcproxy: --io uring: "), "{shown}");
        for part in parts {
            assert!(errors.contains(part), "no {part:?} in {shown}");
        }
        assert!(output.stdout.is_empty(), "{shown}");
    }
}

#[test]
fn auto_goes_on_without_it_and_says_so_once() {
    for (call, errno) in
        [("io_uring_setup", "EPERM"), ("io_uring_setup", "ENOSYS"), ("io_uring_enter", "EPERM")]
    {
        let server = Server::mcproxy_under(&[REFUSING, call, errno], "embedded:1", &["--io", "auto"]);
        assert_eq!(engine_of(&server), "mio", "{call} {errno}");
        let errors = server.errors();
        let told = errors.lines().filter(|line| line.contains("--io auto: mio")).count();
        assert_eq!(told, 1, "{call} {errno}: {errors}");
        let client = Client::connect(server.address);
        client.send(b"set k 0 0 1\r\nv\r\nget k\r\n");
        let answer = client.inbox.take_until(b"END\r\n").expect("an answer");
        assert_eq!(answer, b"STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n");
    }
}
