//! The program: arguments, allocator, run.

use std::io::Write;
use std::process::ExitCode;

use mcproxy::config::{self, Exit};
use mcproxy::server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match config::parse(std::env::args_os()) {
        Ok(config) => config,
        Err(exit) => return end(&exit),
    };
    env_logger::Builder::new().filter_level(config.log_level).format_target(false).init();
    match server::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&Exit { status: 1, text: format!("mcproxy: {error}") }),
    }
}

/// Says why there is nothing more to run. A closed stdout or stderr does not change the status.
fn end(exit: &Exit) -> ExitCode {
    let _ = match exit.status {
        0 => writeln!(std::io::stdout(), "{}", exit.text),
        _ => writeln!(std::io::stderr(), "{}", exit.text),
    };
    ExitCode::from(u8::try_from(exit.status).unwrap_or(1))
}
