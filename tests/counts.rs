//! The last line of `tests/run` is what people and CI believe, so it must not be able to say that all is
//! well when it is not. Here it counts the output of programs that only pretend to be cargo.

use std::path::Path;
use std::process::Command;

const GOOD: &str = "
     Running unittests src/lib.rs (target/debug/deps/mcproxy-1)
test a ... ok
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
   Doc-tests mcproxy
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

#[test]
fn passed_tests_are_added_up() {
    assert_eq!(counted(GOOD, 0), ("15 passed, 0 failed".to_owned(), true));
}

#[test]
fn a_failed_test_fails_the_run() {
    let output = GOOD.replace("ok. 3 passed; 0 failed", "FAILED. 2 passed; 1 failed");
    assert_eq!(counted(&output, 101), ("14 passed, 1 failed".to_owned(), false));
}

#[test]
fn a_test_program_that_died_fails_the_run() {
    let output = format!("{GOOD}     Running tests/died.rs (target/debug/deps/died-1)\n");
    assert_eq!(counted(&output, 101), ("15 passed, 1 failed".to_owned(), false));
}

#[test]
fn an_ignored_test_fails_the_run() {
    let output = GOOD.replace("3 passed; 0 failed; 0 ignored", "3 passed; 0 failed; 2 ignored");
    assert_eq!(counted(&output, 0), ("15 passed, 2 failed".to_owned(), false));
}

#[test]
fn tests_that_do_not_compile_fail_the_run() {
    let output = "error: could not compile `mcproxy` (lib)\n";
    assert_eq!(counted(output, 101), ("0 passed, 1 failed".to_owned(), false));
}

#[test]
fn a_run_without_tests_fails() {
    assert_eq!(counted("", 0), ("0 passed, 1 failed".to_owned(), false));
}

/// The last line of `tests/run` and whether it succeeded, with a cargo that writes `output` and exits so.
///
/// That cargo is a shell function handed down in the environment, in the form in which bash exports one.
fn counted(output: &str, status: i32) -> (String, bool) {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
    let done = Command::new(run)
        .env("BASH_FUNC_pretend%%", "() { printf '%s' \"$OUTPUT\"; return \"$STATUS\"; }")
        .env("CARGO", "pretend")
        .env("OUTPUT", output)
        .env("STATUS", status.to_string())
        .output()
        .expect("tests/run starts");
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    (output.lines().last().unwrap_or_default().to_owned(), done.status.success())
}
