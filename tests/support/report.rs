//! What a test says: bytes in a form that fits a terminal and can be pasted back, where two byte strings
//! part, and how to repeat a failure.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// The variable that chooses the seed of a randomised test.
pub(crate) const SEED_VARIABLE: &str = "MCPROXY_TEST_SEED";

/// The variable that says how long such a test goes on, in seconds.
const SECONDS_VARIABLE: &str = "MCPROXY_TEST_SECONDS";

/// Bytes of a long string that a report shows.
const SHOWN_MAX: usize = 400;

/// `bytes` as a byte string literal; of a long one the start and the end.
pub(crate) fn escape(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_MAX {
        return literal(bytes);
    }
    let (head, tail) = (&bytes[..SHOWN_MAX / 2], &bytes[bytes.len() - SHOWN_MAX / 2..]);
    let hidden = bytes.len() - SHOWN_MAX;
    format!("{}..{hidden} bytes..{}", literal(head), literal(tail))
}

fn literal(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}

/// Where `got` parts from `expected`; `None` if it does not.
pub(crate) fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let same = expected.iter().zip(got).take_while(|(one, other)| one == other).count();
    let mut text = String::new();
    let lengths = (expected.len(), got.len());
    let _ = writeln!(text, "  differ at byte {same} (lengths {} and {})", lengths.0, lengths.1);
    let _ = writeln!(text, "  expected there: {}", around(expected, same));
    let _ = write!(text, "  got there:      {}", around(got, same));
    Some(text)
}

/// The bytes about `at`.
fn around(bytes: &[u8], at: usize) -> String {
    let start = at.saturating_sub(60);
    let end = bytes.len().min(at + 140);
    literal(&bytes[start.min(end)..end])
}

/// Fails with the first difference of two byte strings, named by `what`.
pub(crate) fn same(what: &str, expected: &[u8], got: &[u8]) -> Result<(), String> {
    match difference(expected, got) {
        None => Ok(()),
        Some(text) => {
            Err(format!("{what}:\n{text}\n  expected: {}\n  got:      {}", escape(expected), escape(got)))
        }
    }
}

/// The seed that the environment asks for, in decimal.
pub(crate) fn seed_from_environment() -> Option<u64> {
    number_from_environment(SEED_VARIABLE)
}

/// A number in the environment. A value that is none fails the test that asks.
pub(crate) fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a decimal number")))
}

/// The command that repeats a randomised test.
pub(crate) fn repeat_command(test_binary: &str, test: &str, seed: u64) -> String {
    format!("{SEED_VARIABLE}={seed} cargo test --test {test_binary} {test}")
}

/// Runs a randomised test that goes on for a while: as the environment asks, or with this seed for so many
/// seconds. Says how to repeat it if it fails, whoever fails in it.
pub(crate) fn repeatable(
    (test_binary, test): (&str, &str),
    (seed, seconds): (u64, u64),
    run: impl FnOnce(u64, Duration),
) {
    let seed = seed_from_environment().unwrap_or(seed);
    let seconds = number_from_environment(SECONDS_VARIABLE).unwrap_or(seconds);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, Duration::from_secs(seconds)))) {
        let repeat = repeat_command(test_binary, test, seed);
        say(&format!("{test_binary}, {test}: seed {seed}; repeat: {SECONDS_VARIABLE}={seconds} {repeat}"));
        resume_unwind(panic);
    }
}

/// Says a line also when the test passes: the test harness hides only what the print macros write.
pub(crate) fn say(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// 12345 as `12,345`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
