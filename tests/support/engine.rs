//! The engine under test: tests run on mio, and once more on io_uring with `MCPROXY_TEST_IO=uring`.

use std::sync::LazyLock;

/// Names the engine for every proxy that a test starts.
const VARIABLE: &str = "MCPROXY_TEST_IO";

/// Says that io_uring is known not to be permitted here.
const NOT_EXPECTED: &str = "MCPROXY_EXPECT_NO_URING";

/// The flags by which a proxy runs on the engine under test, unless `given` names one.
pub(crate) fn arguments(given: &[&str]) -> &'static [String] {
    static ENGINE: LazyLock<Vec<String>> = LazyLock::new(|| match std::env::var(VARIABLE) {
        Ok(engine) => vec!["--io".to_owned(), engine],
        Err(_) => Vec::new(),
    });
    if given.contains(&"--io") { &[] } else { &ENGINE }
}

/// Whether this machine is expected to permit io_uring: yes, unless it was said that it does not.
pub(crate) fn uring_is_expected() -> bool {
    std::env::var_os(NOT_EXPECTED).is_none()
}
