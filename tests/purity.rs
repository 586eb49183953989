//! House rules that a test can hold: the core, the parsers and the placement touch no socket, clock, thread
//! or random source; and sizes that may shrink and not grow.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose code is bytes in, bytes out.
const PURE: [&str; 4] = ["src/proxy", "src/protocol", "src/placement", "src/ownership"];

/// All that they may take from the standard library. Maps with a random seed are a random source.
const STD_ALLOWED: &[&str] = &[
    "std::collections::BTreeMap",
    "std::collections::BTreeSet",
    "std::collections::BinaryHeap",
    "std::collections::VecDeque",
    // Vector instructions; those that read a clock or make random numbers are forbidden below.
    "std::arch::x86_64",
    "std::borrow",
    "std::cmp",
    "std::fmt",
    "std::hash",
    "std::hint::cold_path",
    "std::iter",
    "std::mem",
    "std::num",
    "std::ops",
    "std::slice",
    "std::str",
    "std::sync::Arc",
    "std::time::Duration",
];

/// All that they may take from this crate, themselves apart.
const CRATE_ALLOWED: &[&str] = &[
    "crate::buffer",
    "crate::io::Action",
    "crate::io::Calls",
    "crate::io::ConnId",
    "crate::io::Failure",
    "crate::io::Handler",
    "crate::limits",
    "crate::memory",
    "crate::ownership",
    "crate::placement",
    "crate::protocol",
    "crate::proxy",
    "crate::stats",
    "crate::time",
];

/// The one file with something in it that all workers share: looked at while a CAS fence stands.
const SHARED: &str = "src/ownership/fence.rs";

/// Names that have no business there, wherever in a path they stand.
const FORBIDDEN: &[&str] = &[
    "Instant",
    "SystemTime",
    "RandomState",
    "thread_local",
    "_rdtsc",
    "__rdtscp",
    "_rdrand16_step",
    "_rdrand32_step",
    "_rdrand64_step",
    "mio",
    "io_uring",
    "libc",
    "rustix",
    "socket2",
    "rlimit",
    "signal_hook",
    "rand",
    "getrandom",
    "fastrand",
    "crossbeam",
    "crossbeam_channel",
    "tokio",
    "print",
    "println",
    "eprint",
    "eprintln",
];

/// Modules of this crate that are shell, not core.
const SHELL: [&str; 13] = [
    "acceptor",
    "config",
    "control",
    "control_loop",
    "detect",
    "embedded",
    "listen",
    "logging",
    "map",
    "resolver",
    "server",
    "sim",
    "worker",
];

/// Longest function outside tests, lines from its `fn` to its brace.
const FUNCTION_LINES_MAX: usize = 75;

/// Longest file in src, lines.
const FILE_LINES_MAX: usize = 700;

/// Lines in src may be as wide as rustfmt makes them, columns; so many comments are wider, and none by more.
const WIDTH_MAX: usize = 110;
const WIDE_LINES_MAX: usize = 3;
const WIDEST: usize = 118;

/// Marks of unfinished work: macros and attributes in the code, words anywhere.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
const UNFINISHED_WORDS: [&str; 3] = ["FIXME", "XXX", "TODO"];

#[test]
fn the_core_is_pure() {
    let mut files = 0;
    for folder in PURE {
        for path in rust_files(folder) {
            if !is_test_file(&path) {
                files += 1;
                let mut found = impurities(&fs::read_to_string(&path).unwrap());
                if path.ends_with(SHARED) {
                    found.retain(|path| !path.starts_with("std::sync::atomic::"));
                }
                assert!(found.is_empty(), "{}: {found:#?}", path.display());
            }
        }
    }
    assert!(files > 25, "only {files} files were looked at");
}

/// The check must find these, each in its disguise.
#[test]
fn impure_code_is_found_out() {
    let impure = [
        "use std::net::TcpStream;",
        "use std::{fmt, io::{self, Read}};",
        "use std::io;",
        "use std::{\n    mem,\n    time::{Duration, Instant},\n};",
        "pub(crate) use std::time::SystemTime as T;",
        "fn f() { let t = std :: time :: Instant::now(); }",
        "fn f() { ::std::thread::sleep(d) }",
        "use core::sync::atomic::AtomicU64;",
        "use std::*;",
        "use std::time::*;",
        "use std as s;",
        "use std::collections::HashMap;",
        "use std::sync::{Arc, Mutex};",
        "fn f(socket: &mio::net::TcpStream) {}",
        "use crate::io::mio::MioIo;",
        "use crate::io::*;",
        "use crate::{buffer::Outbox, control::Control};",
        "use super::super::control::Mail;",
        "use rand::Rng;",
        "fn f() { std::arch::x86_64::_rdtsc() }",
        "use std::arch::x86_64::*;\nfn f() { _rdrand64_step(&mut seed) }",
        "use crossbeam_channel as channel;",
        "extern crate socket2;",
        "fn f() { println!(\"{}\", 1) }",
        "#[cfg(test)]\nmod tests { use std::io; }\nuse std::fs;",
        "/* a comment /* in a comment */ */ use std::env;",
        "const QUOTE: char = '\"'; use std::process; const END: char = '\"';",
        "fn f<'a>(x: &'a str) { let y = 'a'; std::env::var(x); }",
        "const RAW: &str = r#\"quote: \" \"#; use std::os::fd::OwnedFd;",
    ];
    for source in impure {
        assert!(!impurities(source).is_empty(), "not found out: {source}");
    }
}

/// And nothing else.
#[test]
fn pure_code_is_not() {
    let pure = [
        "// use std::net::TcpStream;\n/// std::io\nuse std::time::Duration;",
        "const TEXT: &str = \"use std::io; \\\" std::net\";",
        "const RAW: &[u8] = br##\"use std::io;\"# \"##;",
        "const BYTE: u8 = b'\"'; use std::fmt; const NEXT: u8 = b'\\'';",
        "#[cfg(test)]\nmod tests {\n    use std::io;\n    fn f() { \"}\"; }\n}",
        "#[cfg(test)]\nuse std::io;",
        "use std::{collections::VecDeque, sync::Arc};",
        "fn f(control: usize, server: &[u8]) { crate::io::Action::Stop; }",
    ];
    for source in pure {
        assert_eq!(impurities(source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn functions_fit_a_screen_and_files_have_one_subject() {
    let mut longest = 0;
    for path in rust_files("src") {
        let source = fs::read_to_string(&path).unwrap();
        let lines = source.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
        if is_test_file(&path) {
            continue;
        }
        for (name, line, lines) in functions(&without_tests(&code(&source))) {
            let place = format!("{}:{line}", path.display());
            assert!(lines <= FUNCTION_LINES_MAX, "{place}: {name} has {lines} lines");
            longest = longest.max(lines);
        }
    }
    assert!(longest > 30, "the longest function found has {longest} lines: the check sees nothing");
}

#[test]
fn functions_are_measured_from_their_fn_to_their_brace() {
    let source = [
        "fn short() {}",
        "impl X {",
        "    const fn long<T: Fn() -> u8>(",
        "        x: T,",
        "    ) -> [u8; 3] {",
        "        if true {",
        "            \"}\"",
        "        }",
        "    }",
        "    fn in_a_trait();",
        "}",
    ];
    let source = source.join("\n");
    let found = functions(&code(&source));
    assert_eq!(found, [("short".to_string(), 1, 1), ("long".to_string(), 3, 7)]);
}

#[test]
fn lines_are_as_wide_as_a_window() {
    let mut wide = Vec::new();
    for path in rust_files("src") {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let width = line.chars().count();
            let place = format!("{}:{}", path.display(), number + 1);
            assert!(width <= WIDEST, "{place} has {width} columns");
            if width > WIDTH_MAX {
                wide.push(place);
            }
        }
    }
    assert!(wide.len() <= WIDE_LINES_MAX, "{} lines are wider than {WIDTH_MAX}: {wide:#?}", wide.len());
}

#[test]
fn nothing_is_left_unfinished() {
    for folder in ["src", "tests"] {
        for path in rust_files(folder) {
            let source = fs::read_to_string(&path).unwrap();
            let mut found = marks(&code(&source), &UNFINISHED);
            // This file names the words.
            if !path.ends_with("tests/purity.rs") {
                found.extend(marks(&source, &UNFINISHED_WORDS));
            }
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
    let unfinished = "fn f() { todo!() }\n// FIXME: later\n#[ignore]\nfn g() {}";
    assert_eq!(marks(&code(unfinished), &UNFINISHED), ["todo!", "#[ignore"]);
    assert_eq!(marks(unfinished, &UNFINISHED_WORDS), ["FIXME"]);
}

fn marks(source: &str, wanted: &[&str]) -> Vec<String> {
    let word = |mark: &str| {
        source.match_indices(mark).any(|(at, _)| {
            let before = source[..at].chars().next_back();
            let after = source[at + mark.len()..].chars().next();
            let inside = |next: Option<char>| next.is_some_and(|next| next.is_alphanumeric() || next == '_');
            !inside(before) && !inside(after)
        })
    };
    wanted.iter().filter(|mark| word(mark)).map(ToString::to_string).collect()
}

/// All Rust files below a folder of the package.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Some module on the way down to the file is declared for tests only.
fn is_test_file(path: &Path) -> bool {
    let source_root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let Ok(relative) = path.strip_prefix(&source_root) else { return true };
    let mut module = source_root.join("lib.rs");
    for part in relative.with_extension("").iter().filter(|part| *part != "mod") {
        let name = part.to_string_lossy();
        let parent = fs::read_to_string(&module).unwrap_or_default();
        let declaration = format!("mod {name};");
        if parent.contains(&declaration) && !without_tests(&code(&parent)).contains(&declaration) {
            return true;
        }
        let folder = if ["lib.rs", "mod.rs"].iter().any(|name| module.ends_with(name)) {
            module.parent().expect("a folder").to_path_buf()
        } else {
            module.with_extension("")
        };
        let file = folder.join(format!("{name}.rs"));
        module = if file.exists() { file } else { folder.join(&*name).join("mod.rs") };
    }
    false
}

/// What the code of a file names and may not.
fn impurities(source: &str) -> Vec<String> {
    let code = without_tests(&code(source));
    let mut found = Vec::new();
    for path in paths(&code) {
        let allowed = |list: &[&str]| {
            list.iter().any(|allowed| path == *allowed || path.starts_with(&format!("{allowed}::")))
        };
        let segments: Vec<&str> = path.split("::").collect();
        let outside = match segments[0] {
            "std" | "core" | "alloc" => {
                let tail = segments[1..].join("::");
                let as_std = format!("std::{tail}");
                !STD_ALLOWED
                    .iter()
                    .any(|allowed| as_std == *allowed || as_std.starts_with(&format!("{allowed}::")))
            }
            "crate" => !allowed(CRATE_ALLOWED),
            _ => false,
        };
        let by_parent = segments.windows(2).any(|pair| pair[0] == "super" && SHELL.contains(&pair[1]));
        if outside || by_parent || segments.iter().any(|segment| FORBIDDEN.contains(segment)) {
            found.push(path);
        }
    }
    found
}

/// All paths of some code, those of `use` written out one by one. A single name is a path too.
fn paths(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) {
            at = read_path(&tokens, at, "", &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads a path at `at`, and what its braces hold; gives where it ends.
fn read_path(tokens: &[String], mut at: usize, before: &str, paths: &mut Vec<String>) -> usize {
    let mut path = before.to_string();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") if path.ends_with("::") => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = if tokens[at] == "," { at + 1 } else { read_path(tokens, at, &path, paths) };
                }
                return at + 1;
            }
            Some(name) if is_name(name) || name == "*" => path.push_str(name),
            _ => {
                paths.push(path);
                return at + 1;
            }
        }
        at += 1;
        if tokens.get(at).map(String::as_str) != Some("::") {
            paths.push(path);
            // `as` gives another name to what was named.
            return if tokens.get(at).is_some_and(|token| token == "as") { at + 2 } else { at };
        }
        path.push_str("::");
        at += 1;
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single signs.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
            at += 1;
        }
        if at > start {
            tokens.push(chars[start..at].iter().collect());
        } else if chars[at..].starts_with(&[':', ':']) {
            tokens.push("::".to_string());
            at += 2;
        } else {
            if !chars[at].is_whitespace() {
                tokens.push(chars[at].to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// The source with comments, and what stands between quotes, replaced by spaces: line for line the same.
fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match &chars[at..] {
            ['/', '/', ..] => line_end(&chars, at),
            ['/', '*', ..] => comment_end(&chars, at),
            ['"', ..] => string_end(&chars, at),
            ['r', '"' | '#', ..] if !in_a_name(&chars, at) => raw_string_end(&chars, at),
            ['\'', '\\', ..] => char_end(&chars, at),
            ['\'', _, '\'', ..] => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&sign| if sign == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// What stands at `at` is the end of a name; `br` and `cr` begin strings as `r` does.
fn in_a_name(chars: &[char], at: usize) -> bool {
    let named = |at: usize| chars[at].is_alphanumeric() || chars[at] == '_';
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b' | 'c') => at >= 2 && named(at - 2),
        Some(_) => named(at - 1),
        None => false,
    }
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|&sign| sign == '\n').map_or(chars.len(), |length| at + length)
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a raw string, or `at` if none begins there (`r#name` is a name).
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&sign| sign == '#').count();
    let start = at + 1 + hashes;
    if chars.get(start) != Some(&'"') {
        return at;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let found = chars[start + 1..].windows(end.len()).position(|window| window == end);
    found.map_or(chars.len(), |length| start + 1 + length + end.len())
}

fn char_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at + 3..];
    rest.iter().position(|&sign| sign == '\'').map_or(chars.len(), |length| at + 3 + length + 1)
}

/// The code without the items that are marked `#[cfg(test)]`, whose lines stay as empty ones.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let item = &rest[start..];
        let mut depth = 0;
        let end = item[MARK.len()..].char_indices().find_map(|(at, sign)| {
            match sign {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            let ended = depth == 0 && (sign == '}' || sign == ';');
            ended.then_some(MARK.len() + at + 1)
        });
        let end = end.unwrap_or(item.len());
        out.push_str(&rest[..start]);
        out.extend(item[..end].chars().filter(|&sign| sign == '\n'));
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

/// Name, first line and count of lines of every function that has a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    for (at, _) in code.match_indices("fn ") {
        let alone = code[..at].chars().next_back().is_none_or(|before| before.is_whitespace());
        let name: String =
            code[at + 3..].chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
        if !alone || name.is_empty() {
            continue;
        }
        let (mut braces, mut brackets) = (0, 0);
        let end = code[at..].char_indices().find_map(|(offset, sign)| {
            match sign {
                '{' => braces += 1,
                '}' => braces -= 1,
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                // A declaration without a body.
                ';' if braces == 0 && brackets == 0 => return Some(None),
                _ => {}
            }
            (sign == '}' && braces == 0).then_some(Some(at + offset))
        });
        if let Some(Some(end)) = end {
            found.push((name, line_of(at), line_of(end) - line_of(at) + 1));
        }
    }
    found
}
