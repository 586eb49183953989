//! mcproxy-bench: loads a memcached, or a proxy in front of some, and checks every byte that comes back.
//!
//! It shares its machine with what it measures, so it is cheap per operation: one event loop per thread,
//! requests composed into buffers that are kept, one write per connection and turn, replies checked where
//! they were read. Values are made so that each says whose it is: see [`items`].
//!
//! | module | subject |
//! |---|---|
//! | [`arguments`] | command line -> checked [`arguments::Plan`] |
//! | [`target`] | where the load goes, and a socket to it |
//! | [`items`] | keys, and values that tell which key and which write they belong to |
//! | [`requests`] | what is asked next |
//! | [`pace`] | when it is asked: closed loop, or a constant rate |
//! | [`timer`] | waking up for that rate |
//! | [`wire`] | requests to bytes, and bytes of replies checked: text, meta, binary |
//! | [`inbox`] | bytes of a reply that has not come whole |
//! | [`client`] | one connection and what it waits for |
//! | [`lane`] | one thread: its event loop and its share of the clients |
//! | [`load`] | the lanes together, phase by phase |
//! | [`idle`] | connections that only stay open, and what they cost |
//! | [`tally`] | counts and latencies |
//! | [`process`] | what /proc says of the processes that are watched |
//! | [`progress`] | the line that says how far it is |
//! | [`report`] | the result: for people, as JSON, as CSV |
//! | [`trouble`] | why a run ended before its time |

use std::io::Write;
use std::process::ExitCode;

mod arguments;
mod client;
mod idle;
mod inbox;
mod items;
mod lane;
mod load;
mod pace;
mod process;
mod progress;
mod report;
mod requests;
mod tally;
mod target;
mod timer;
mod trouble;
mod wire;

/// 0: done, all replies right; 1: the run failed; 2: a bad command line.
fn main() -> ExitCode {
    let plan = match arguments::parse(std::env::args_os()) {
        Ok(plan) => plan,
        Err(exit) => return end(exit.status, &exit.text),
    };
    let done = if plan.idle.is_some() { idle::run(&plan) } else { load::run(&plan) };
    match done {
        Ok(text) => end(0, &text),
        Err(trouble) => end(1, &format!("mcproxy-bench: {trouble}")),
    }
}

/// A closed stdout or stderr does not change the status.
fn end(status: u8, text: &str) -> ExitCode {
    let _ = match status {
        0 => writeln!(std::io::stdout(), "{}", text.trim_end()),
        _ => writeln!(std::io::stderr(), "{}", text.trim_end()),
    };
    ExitCode::from(status)
}
