//! The simulator's canaries: builds of the production code with a mistake in it, each of which the simulator
//! must find. `tests/canaries/*.patch` holds one mistake each, made only if the environment variable `CANARY`
//! names it, so that one build has them all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// Seeds within which a mistake must have been found; a build without one must pass all of them.
const SEEDS: u64 = 1_600;

/// The least number of mistakes.
const LEAST: usize = 19;

#[test]
fn every_canary_is_caught() {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canaries");
    copy_tree(&tree);
    let names = apply_patches(&tree);
    assert!(names.len() >= LEAST, "only {names:?}");
    let started = Instant::now();
    let simulator = build(&tree);
    println!("built in {:.0} s", started.elapsed().as_secs_f64());
    let clean = simulate(&simulator, "");
    assert!(clean.status.success(), "without a mistake the simulator finds one:\n{}", text(&clean));
    let mut missed = Vec::new();
    for name in &names {
        let started = Instant::now();
        let output = simulate(&simulator, name);
        let said = text(&output);
        let found = said.lines().find(|line| line.starts_with("seed "));
        match found.filter(|_| !output.status.success()) {
            Some(found) => println!("{name}: {:.1} s, {}", started.elapsed().as_secs_f64(), cut(found)),
            None => missed.push(format!("{name}: {}", output.status)),
        }
    }
    assert!(missed.is_empty(), "{SEEDS} seeds do not find {missed:#?}");
}

/// The sources as they are now, in a package of its own: the library and the simulator's test.
fn copy_tree(tree: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if tree.exists() {
        fs::remove_dir_all(tree).expect("the tree of the last run goes");
    }
    fs::create_dir_all(tree.join("tests")).expect("a folder");
    copy_folder(&root.join("src"), &tree.join("src"));
    // Programs are not part of it.
    fs::remove_file(tree.join("src/main.rs")).expect("main.rs is there");
    fs::remove_dir_all(tree.join("src/bin")).expect("src/bin is there");
    fs::copy(root.join("tests/sim.rs"), tree.join("tests/sim.rs")).expect("tests/sim.rs is there");
    fs::copy(root.join("tests/canaries/canary.rs"), tree.join("src/canary.rs")).expect("canary.rs is there");
    fs::copy(root.join("Cargo.lock"), tree.join("Cargo.lock")).expect("Cargo.lock is there");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml is there");
    fs::write(tree.join("Cargo.toml"), library_only(&manifest)).expect("written");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// The manifest without programs and benches, under another name: both packages may be built into one folder,
/// and share what they depend on. What only tests need stays: it chooses features of what all need.
fn library_only(manifest: &str) -> String {
    const DROPPED: [&str; 3] = ["[[bin]]", "[[bench]]", "[lib]"];
    let mut kept = String::new();
    let mut dropping = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            dropping = DROPPED.contains(&line);
        }
        if !dropping && !line.starts_with("default-run") && !line.starts_with("readme") {
            kept.push_str(if line == "name = \"mcproxy\"" { "name = \"mcproxy-canaries\"" } else { line });
            kept.push('\n');
        }
    }
    kept + "\n[lib]\nname = \"mcproxy\"\n\n[workspace]\n"
}

/// Puts the mistakes in; gives their names.
fn apply_patches(tree: &Path) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/canaries");
    let entries = fs::read_dir(&folder).expect("tests/canaries is there");
    let mut patches: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    let mut names = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().expect("a name").to_string_lossy().into_owned();
        // Inside of a repository git would leave out, in silence, what is not part of it.
        let done = Command::new("git")
            .args(["apply", "--unidiff-zero", "--recount", "-p1"])
            .arg(patch)
            .current_dir(tree)
            .env("GIT_CEILING_DIRECTORIES", tree.parent().expect("a folder above"))
            .env_remove("GIT_DIR")
            .output()
            .expect("git starts");
        assert!(done.status.success(), "{} does not apply any more:\n{}", patch.display(), text(&done));
        if name != "module" {
            let switch = format!("canary::on(\"{name}\")");
            let is_there = sources(&tree.join("src")).iter().any(|source| source.contains(&switch));
            assert!(is_there, "{} was applied, and {switch} is nowhere", patch.display());
            names.push(name);
        }
    }
    names
}

fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(fs::read_to_string(&path).expect("a source"));
        }
    }
    found
}

/// Builds the simulator's test; gives where the program is.
fn build(tree: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder that cargo builds in");
    let done = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet", "--test", "sim", "--no-run", "--message-format=json"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo starts");
    assert!(done.status.success(), "the canaries do not compile:\n{}", text(&done));
    let messages = String::from_utf8_lossy(&done.stdout);
    let mut programs = messages.lines().rev().filter_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split('"').next()?))
    });
    programs.next().expect("cargo names what it has built")
}

fn simulate(simulator: &Path, canary: &str) -> Output {
    Command::new(simulator)
        .args(["--nocapture", "many_seeds"])
        .env("CANARY", canary)
        .env("SEEDS", SEEDS.to_string())
        .env("RUST_BACKTRACE", "0")
        .env_remove("FIRST")
        .output()
        .expect("the simulator starts")
}

fn text(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    said.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

fn cut(line: &str) -> String {
    line.chars().take(160).collect()
}
