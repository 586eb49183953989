//! House rules that a test can hold: the core and what it stands on touch no socket, clock, thread or random
//! source; and sizes that only ever shrink.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Folders whose code is bytes in, bytes out.
const PURE: [&str; 3] = ["src/proxy", "src/protocol", "src/placement"];

/// What they name nowhere, not even in a `use`: a path's segments, or a macro.
const IMPURE: [&str; 31] = [
    "std::net",
    "std::io",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "std::os",
    "std::sync::mpsc",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::hash_map::RandomState",
    "Instant",
    "SystemTime",
    "RandomState",
    "HashMap",
    "HashSet",
    "mio",
    "io_uring",
    "socket2",
    "rlimit",
    "signal_hook",
    "rand",
    "getrandom",
    "fastrand",
    "crossbeam_channel",
    "crate::control",
    "crate::acceptor",
    "crate::resolver",
];

/// Longest function, lines from its first to its last; outside tests. The worst there is today.
const FUNCTION_LINES_MAX: usize = 75;

/// Longest file in src, lines.
const FILE_LINES_MAX: usize = 700;

/// Widest line, characters.
const LINE_WIDTH_MAX: usize = 110;

/// Marks of unfinished work.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
const UNFINISHED_WORDS: [&str; 3] = ["FIXME", "XXX", "TODO"];
