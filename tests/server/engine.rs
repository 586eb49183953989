//! `--io`: which engine runs, and what is said where io_uring is not to be had. What withholds it is a seccomp
//! filter, as in containers.

use std::process::Command;

use super::rig::{Nobody, Proxy, stats};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcproxy");

/// mcproxy, for which a system call ends with this errno.
fn without(call: &str, errno: &str) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/refusing"));
    command.args([call, errno, PROGRAM]);
    command
}

const SETUP: &str = "io_uring_setup";

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
            SETUP,
            "EPERM",
            "(os error 1): it is not permitted: /proc/sys/kernel/io_uring_disabled says so, or a seccomp",
        ),
        (SETUP, "EACCES", "(os error 13): it is not permitted: "),
        (SETUP, "ENOSYS", "(os error 38): this kernel has no io_uring, or a seccomp filter hides it"),
        (SETUP, "ENOMEM", "(os error 12): no memory for its queues"),
        (
            SETUP,
            "EINVAL",
            "(os error 22): the kernel has no IORING_SETUP_SINGLE_ISSUER or IORING_SETUP_DEFER_TASKRUN; Linux 6.1",
        ),
        ("io_uring_register", "EINVAL", "IORING_REGISTER_ENABLE_RINGS: Invalid argument (os error 22)"),
        ("io_uring_enter", "EPERM", "Operation not permitted (os error 1)"),
    ];
    for (call, errno, why) in table {
        let words = ["--io", "uring"];
        let mut proxy = Proxy::spawn_by(without(call, errno), &LISTEN, "127.0.0.1:1", &words);
        let status = proxy.wait();
        let stderr = proxy.stderr();
        assert_eq!((status.code(), proxy.stdout().as_str()), (Some(1), ""), "{errno}: {stderr}");
        assert!(stderr.starts_with("mcproxy: --io uring: io_uring"), "{errno}: {stderr}");
        assert!(stderr.contains(why) && stderr.lines().count() == 1, "{errno}: {stderr}");
    }
}

#[test]
fn auto_falls_back_to_mio_and_says_so() {
    for (call, errno) in [(SETUP, "EPERM"), (SETUP, "ENOSYS"), ("io_uring_enter", "EPERM")] {
        let command = without(call, errno);
        let proxy = Proxy::spawn_by(command, &LISTEN, "127.0.0.1:1", &["--io", "auto"]).when_it_listens(1);
        assert_eq!(stats(&mut proxy.client())["io"], "mio", "{errno}");
        let line = proxy.log_line(&["--io auto"]);
        assert!(line.contains("mio, because there is no io_uring: io_uring"), "{line}");
        assert_eq!(proxy.stderr().matches("io_uring").count(), line.matches("io_uring").count(), "{line}");
    }
}

/// The listener of a killed process may outlive it for a moment.
#[test]
fn a_port_can_be_used_again_at_once() {
    let io = if is_permitted() { "uring" } else { "mio" };
    let mut port = 0;
    for _ in 0..10 {
        let proxy = Proxy::listening(&[&format!("127.0.0.1:{port}")], "127.0.0.1:1", &["--io", io]);
        assert!(port == 0 || proxy.address().port() == port);
        port = proxy.address().port();
    }
}

/// What runs on mio asks nobody for io_uring.
#[test]
fn mio_does_not_care() {
    let proxy =
        Proxy::spawn_by(without(SETUP, "EPERM"), &LISTEN, "127.0.0.1:1", &["--io", "mio"]).when_it_listens(1);
    assert_eq!(stats(&mut proxy.client())["io"], "mio");
    assert!(!proxy.stderr().contains("io_uring"), "{}", proxy.stderr());
}
