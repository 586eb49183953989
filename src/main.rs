//! The program: arguments, allocator, run.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match mcproxy::config::parse(std::env::args_os()) {
        Ok(_config) => ExitCode::SUCCESS,
        Err(exit) => end(&exit),
    }
}

/// Says why there is nothing to run. A closed stdout or stderr does not change the status.
fn end(exit: &mcproxy::config::Exit) -> ExitCode {
    let _ = match exit.status {
        0 => writeln!(std::io::stdout(), "{}", exit.text),
        _ => writeln!(std::io::stderr(), "{}", exit.text),
    };
    ExitCode::from(u8::try_from(exit.status).unwrap_or(1))
}
