//! `--io`: which engine runs, and what is said where io_uring is not to be had. What withholds it is a seccomp
//! filter, as in containers.

use std::process::Command;

use super::rig::{Nobody, Proxy, stats};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcproxy");

/// Errnos of Linux.
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

/// mcproxy, for which io_uring_setup ends with this errno.
fn without_io_uring(errno: i32) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/without_io_uring.py");
    let mut command = Command::new("python3");
    command.args([script, &errno.to_string(), PROGRAM]);
    command
}

const LISTEN: [&str; 1] = ["127.0.0.1:0"];

/// False where there is none, and the tests were told so.
fn is_permitted() -> bool {
    std::env::var("MCPROXY_EXPECT_NO_URING").is_err() || mcproxy::io::engine::uring().is_ok()
}

#[test]
fn stats_names_the_engine() {
    let nobody = Nobody::there();
    let mut engines = vec![("mio", "mio")];
    if is_permitted() {
        engines.extend([("uring", "uring"), ("auto", "uring")]);
    }
    for (wanted, told) in engines {
        let proxy = Proxy::start(&nobody.address.to_string(), &["--io", wanted]);
        assert_eq!(stats(&mut proxy.client())["io"], told, "--io {wanted}");
    }
}

#[test]
fn uring_that_is_refused_ends_with_status_1_and_one_line_that_says_why() {
    let table = [
        (
            EPERM,
            "(os error 1): it is not permitted: /proc/sys/kernel/io_uring_disabled says so, or a seccomp",
        ),
        (EACCES, "(os error 13): it is not permitted: "),
        (ENOSYS, "(os error 38): this kernel has no io_uring, or a seccomp filter hides it"),
        (ENOMEM, "(os error 12): no memory for its queues"),
        (
            EINVAL,
            "(os error 22): the kernel has no IORING_SETUP_SINGLE_ISSUER or IORING_SETUP_DEFER_TASKRUN; Linux 6.1",
        ),
    ];
    for (errno, why) in table {
        let words = ["--io", "uring"];
        let mut proxy = Proxy::spawn_by(without_io_uring(errno), &LISTEN, "127.0.0.1:1", &words);
        let status = proxy.wait();
        let stderr = proxy.stderr();
        assert_eq!((status.code(), proxy.stdout().as_str()), (Some(1), ""), "{errno}: {stderr}");
        assert!(stderr.starts_with("mcproxy: --io uring: io_uring_setup: "), "{errno}: {stderr}");
        assert!(stderr.contains(why) && stderr.lines().count() == 1, "{errno}: {stderr}");
    }
}

#[test]
fn auto_falls_back_to_mio_and_says_so() {
    for errno in [EPERM, ENOSYS] {
        let command = without_io_uring(errno);
        let proxy = Proxy::spawn_by(command, &LISTEN, "127.0.0.1:1", &["--io", "auto"]).when_it_listens(1);
        assert_eq!(stats(&mut proxy.client())["io"], "mio", "{errno}");
        let line = proxy.log_line(&["--io auto"]);
        assert!(line.contains("mio, because there is no io_uring: io_uring_setup: "), "{line}");
        assert_eq!(proxy.stderr().matches("io_uring").count(), line.matches("io_uring").count(), "{line}");
    }
}

/// What runs on mio asks nobody for io_uring.
#[test]
fn mio_does_not_care() {
    let proxy =
        Proxy::spawn_by(without_io_uring(EPERM), &LISTEN, "127.0.0.1:1", &["--io", "mio"]).when_it_listens(1);
    assert_eq!(stats(&mut proxy.client())["io"], "mio");
    assert!(!proxy.stderr().contains("io_uring"), "{}", proxy.stderr());
}
