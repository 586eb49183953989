//! `docs/dependencies.md` reviews what the program is built of; here the list is held to be whole. Also what
//! `cargo deny` would ask of licences, sources and double versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where every crate comes from.
const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences under which a program may be given on without its source. Where a crate offers several, one is enough.
const LICENCES: [&str; 4] = ["Apache-2.0", "BSL-1.0", "MIT", "Unicode-3.0"];

/// What a crate is known by: name, version, licence.
type Crate = [String; 3];

#[test]
fn every_crate_of_the_program_is_reviewed() {
    let (built_of, reviewed) = (built_of(), reviewed(&review()));
    assert!(built_of.len() > 20, "cargo tree tells of {} crates only", built_of.len());
    let differences = differences(&built_of, &reviewed);
    assert!(
        differences.is_empty(),
        "The program is not built of what docs/dependencies.md has reviewed:\n{}\n\
         Read what has changed in the crate, look for its name at rustsec.org, then correct its row and the \
         date of the review.",
        differences.join("\n")
    );
}

#[test]
fn another_version_a_new_crate_and_one_gone_are_noticed() {
    let built_of = built_of();
    let text = review();
    let row = text.lines().find(|line| line.starts_with("| `mio` |")).expect("a row of mio");
    let version = row.split('|').nth(2).expect("a version").trim();
    let spoilt = [
        text.replace(row, &row.replace(version, "0.0.1")),
        text.replace(row, ""),
        text.replace(row, &format!("{row}\n| `another` | 1.0.0 | MIT | |")),
        text.replace(row, &row.replace("MIT", "GPL-3.0")),
    ];
    for (spoilt, wanted) in spoilt.iter().zip([2, 1, 1, 2]) {
        let found = differences(&built_of, &reviewed(spoilt));
        assert_eq!(found.len(), wanted, "{found:?}");
    }
}

#[test]
fn licences_let_the_program_be_given_on() {
    for [name, version, licence] in built_of() {
        assert!(is_allowed(&licence), "{name} {version}: the licence {licence:?} is not in LICENCES");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND OpenSSL", "MITRE"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn no_crate_is_in_the_program_twice() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for [name, version, _] in built_of() {
        versions.entry(name).or_default().push(version);
    }
    let twice: Vec<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn all_crates_come_from_the_registry_with_a_checksum() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let foreign = foreign(&read(lock));
        assert!(foreign.is_empty(), "{lock}: {foreign:?}");
    }
    let lock = read("Cargo.lock");
    assert_eq!(foreign(&lock.replacen(INDEX, "git+https://example.org/mio", 1)).len(), 1);
    assert_eq!(foreign(&lock.replacen("checksum = ", "sum = ", 1)).len(), 1);
}

#[test]
fn the_fuzz_targets_are_built_of_the_same_versions() {
    let versions = |lock: &str| -> BTreeSet<String> {
        let lock = read(lock);
        packages(&lock).map(|package| format!("{} {}", package["name"], package["version"])).collect()
    };
    let fuzzed = versions("fuzz/Cargo.lock");
    let unfuzzed: Vec<_> = built_of()
        .into_iter()
        .map(|[name, version, _]| format!("{name} {version}"))
        .filter(|row| !fuzzed.contains(row))
        .collect();
    assert!(unfuzzed.is_empty(), "not in fuzz/Cargo.lock: {unfuzzed:?}; cargo update --precise helps");
}

#[test]
fn every_dependency_says_what_it_is_for() {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let unexplained = unexplained(&read(manifest));
        assert!(unexplained.is_empty(), "{manifest}: no comment above {unexplained:?}");
    }
    let found = unexplained("[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n[profile.dev]\nc = 1\n");
    assert_eq!(found, ["b"]);
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn review() -> String {
    read("docs/dependencies.md")
}

/// What cargo builds the program of, on the platform of the review: libraries, build scripts and macros.
fn built_of() -> BTreeSet<Crate> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = "tree --locked --edges normal,build --prefix none --target x86_64-unknown-linux-gnu";
    let mut command = Command::new(cargo);
    command.args(words.split(' ')).args(["--format", "{p}|{l}"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("cargo");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {words}: {told}");
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().filter(|line| !line.starts_with("mcproxy ")).map(of_line).collect()
}

/// A line like `clap_derive v4.6.7 (proc-macro)|MIT OR Apache-2.0 (*)`.
fn of_line(line: &str) -> Crate {
    let (package, licence) = line.split_once('|').expect("name and licence");
    let mut words = package.split(' ');
    let (name, version) = (words.next().expect("a name"), words.next().expect("a version"));
    [name, version.trim_start_matches('v'), licence.trim_end_matches("(*)").trim()].map(str::to_string)
}

/// The rows of the review: those whose first cell is a name in code.
fn reviewed(text: &str) -> BTreeSet<Crate> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_string());
        std::array::from_fn(|_| cells.next().expect("name, version and licence"))
    })
    .collect()
}

fn differences(built_of: &BTreeSet<Crate>, reviewed: &BTreeSet<Crate>) -> Vec<String> {
    let unreviewed = built_of.difference(reviewed).map(|row| format!("not reviewed: {}", row.join(" | ")));
    let gone = reviewed.difference(built_of).map(|row| format!("not built in:  {}", row.join(" | ")));
    unreviewed.chain(gone).collect()
}

/// All that must hold together (`AND`) is allowed, and one of what may be chosen (`OR`, or `/` in old manifests).
fn is_allowed(licence: &str) -> bool {
    let choice = |choices: &str| {
        let choices = choices.trim_matches(['(', ')']).replace('/', " OR ");
        choices.split(" OR ").any(|one| LICENCES.contains(&one))
    };
    licence.split(" AND ").all(choice)
}

/// The packages of a lock file, each with its fields of one line.
fn packages(lock: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    lock.split("[[package]]").skip(1).map(|package| {
        let fields = package.lines().filter_map(|line| line.split_once(" = "));
        fields.map(|(name, value)| (name, value.trim_matches('"'))).collect()
    })
}

/// Packages, other than ours, that do not come from the registry with a checksum.
fn foreign(lock: &str) -> Vec<String> {
    let ours = ["mcproxy", "mcproxy-fuzz"];
    let others = packages(lock).filter(|package| !ours.contains(&package["name"]));
    let foreign = others.filter(|one| one.get("source") != Some(&INDEX) || !one.contains_key("checksum"));
    foreign.map(|package| package["name"].to_string()).collect()
}

/// Dependencies without a comment above them.
fn unexplained(manifest: &str) -> Vec<String> {
    let (mut found, mut listed, mut before) = (Vec::new(), false, "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            listed = line.ends_with("dependencies]");
        } else if listed && ![line, before].iter().any(|line| line.starts_with('#')) {
            found.extend(line.split_once(" = ").map(|(name, _)| name.to_string()));
        }
        before = line;
    }
    found
}
