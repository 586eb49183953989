//! The program: arguments, allocator, run.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use mcproxy::config::{self, Command, Exit, Program};
use mcproxy::{detect, logging, map, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    give_memory_back_at_once();
    match config::parse(std::env::args_os()) {
        Ok(Command::Serve(program)) => serve(&program),
        Ok(Command::Map(map)) => {
            let mut output = BufWriter::new(io::stdout().lock());
            let mapped = map::run(&map, &mut io::stdin().lock(), &mut output).and_then(|()| output.flush());
            ended(mapped.or_else(closed_output).map_err(|error| error.to_string()))
        }
        Ok(Command::Detect(detect)) => ended(detect::run(&detect, &mut io::stdout(), &mut io::stderr())),
        Err(exit) => end(&exit),
    }
}

/// Who reads has what they wanted, as with `| head`.
fn closed_output(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn serve(program: &Program) -> ExitCode {
    logging::init(program.pools[0].log_level);
    for warning in &program.warnings {
        log::warn!("{warning}");
    }
    ended(server::run(program))
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&Exit { status: 1, text: format!("mcproxy: {error}") }),
    }
}

/// Freed memory goes back to the kernel at once instead of after a second: what --memory-limit promises is
/// seen by whoever looks at the process. A thousand clients with half a 60 MB line each, closed one after the
/// other, left 500 MiB behind, and leave 240 so; a warm worker frees nothing, and pays nothing for it.
fn give_memory_back_at_once() {
    // mi_option_purge_delay of mimalloc.h, since its version 2; the crate has no name for it.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: the function sets a number of the allocator, which it reads atomically; no other thread runs
    // yet, and any number is a valid delay in milliseconds.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
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
