//! Which engine the proxies run on that the tests start: `MCPROXY_TEST_IO=uring` takes io_uring.
//!
//! Where the kernel does not permit it the tests fail and say why, unless `MCPROXY_EXPECT_NO_URING=1` says that
//! this is known: then they run on mio, and fail where it is permitted after all.

use std::process::Command;
use std::sync::OnceLock;

use mcproxy::io::engine;

/// Has this proxy run on the engine that is asked for, unless its test has one of its own.
pub(crate) fn choose(command: &mut Command) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    if command.get_args().any(|word| word == "--io") {
        return;
    }
    if let Some(engine) = WANTED.get_or_init(wanted) {
        command.args(["--io", engine]);
    }
}

fn wanted() -> Option<String> {
    let wanted = std::env::var("MCPROXY_TEST_IO").ok()?;
    if wanted != "uring" {
        return Some(wanted);
    }
    let expected = std::env::var("MCPROXY_EXPECT_NO_URING").is_ok_and(|value| value == "1");
    match engine::uring() {
        Ok(_) if expected => panic!("MCPROXY_EXPECT_NO_URING=1, and there is an io_uring"),
        Ok(_) => Some(wanted),
        Err(why) if expected => {
            eprintln!("on mio, as MCPROXY_EXPECT_NO_URING=1 allows: {why}");
            None
        }
        Err(why) => panic!("MCPROXY_TEST_IO=uring: {why}; MCPROXY_EXPECT_NO_URING=1 if that is known"),
    }
}
