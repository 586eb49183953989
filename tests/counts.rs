//! The last line of `tests/run` is what people and CI believe, so it must not be able to say that all is
//! well when it is not. Here it counts what programs say that only pretend to be cargo and tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What two test programs do, as shell scripts, and the documentation tests.
const GOOD: [(&str, &str); 3] = [
    ("one", "echo 'test a ... ok'; echo 'test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured'"),
    ("two", "echo 'test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'"),
    ("doc", "echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'"),
];

#[test]
fn passed_tests_are_added_up() {
    let run = Run::of("added", &GOOD, 0);
    assert_eq!(run.verdict(), ("20 passed, 0 failed", true));
    assert!(run.output.contains("test a ... ok"), "{}", run.output);
    assert!(run.output.contains("\n3 test programs in "), "{}", run.output);
}

#[test]
fn a_failed_test_fails_the_run_and_how_to_repeat_it_is_said() {
    let script =
        "echo 'it is wrong' >&2; echo 'test result: FAILED. 4 passed; 1 failed; 0 ignored'; exit 101";
    let run = Run::of("failed", &with("two", script), 0);
    assert_eq!(run.verdict(), ("19 passed, 1 failed", false));
    for said in ["it is wrong", "\ntests/two.rs: 1 failed; again: cargo test --test two\n"] {
        assert!(run.output.contains(said), "{}", run.output);
    }
}

#[test]
fn a_test_program_that_died_fails_the_run() {
    for script in ["kill -KILL $$", "exit 0", "echo 'test a ... ok'", "exit 101"] {
        let run = Run::of("died", &with("one", script), 0);
        assert_eq!(run.verdict(), ("8 passed, 1 failed", false), "{script}");
        assert!(run.output.contains("died with status"), "{}", run.output);
    }
    let script = "echo 'test result: ok. 5 passed; 0 failed; 0 ignored'; exit 1";
    assert_eq!(Run::of("status", &with("two", script), 0).verdict(), ("20 passed, 1 failed", false));
}

#[test]
fn an_ignored_test_fails_the_run() {
    let script = "echo 'test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out'";
    for program in ["two", "doc"] {
        let run = Run::of("ignored", &with(program, script), 0);
        assert!(run.output.contains(": 2 were ignored, and no test may be; again: cargo test --"));
        assert!(run.verdict().0.ends_with(" passed, 2 failed") && !run.verdict().1, "{}", run.output);
    }
}

#[test]
fn tests_that_do_not_compile_fail_the_run_and_none_runs() {
    let run = Run::of("compiled", &GOOD, 101);
    assert_eq!(run.verdict(), ("0 passed, 1 failed", false));
    assert!(!run.output.contains("test a ... ok"), "{}", run.output);
}

#[test]
fn a_run_without_tests_fails() {
    let empty = [("doc", "echo 'test result: ok. 0 passed; 0 failed; 0 ignored'")];
    assert_eq!(Run::of("none", &empty, 0).verdict(), ("0 passed, 1 failed", false));
    assert_eq!(Run::of("silent", &[("doc", "")], 0).verdict(), ("0 passed, 1 failed", false));
}

/// Each waits for the other, so they only end if both run at a time.
#[test]
fn programs_run_side_by_side_and_what_they_write_is_not_mixed() {
    let meet = |own: &str, other: &str| {
        format!(
            "for word in 1 2; do echo {own} $word; echo > \"$0.$word\"
             while ! [ -e \"${{0%{own}.sh}}{other}.sh.$word\" ]; do sleep 0.01; done; done
             echo 'test result: ok. 1 passed; 0 failed; 0 ignored'"
        )
    };
    let (one, two) = (meet("one", "two"), meet("two", "one"));
    let run = Run::of("beside", &[("one", &one), ("two", &two), GOOD[2]], 0);
    assert_eq!(run.verdict(), ("5 passed, 0 failed", true));
    for name in ["one", "two"] {
        assert!(
            run.output.contains(&format!("\n{name} 1\n{name} 2\ntest result: ok. 1 passed")),
            "{}",
            run.output
        );
    }
}

/// A program that knows how an engine is chosen.
#[test]
fn what_starts_proxies_runs_on_both_engines_unless_one_was_chosen() {
    const SCRIPT: &str =
        "echo \"engine: $MCPROXY_TEST_IO.\"; echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'";
    let programs = [("starts", SCRIPT), GOOD[2]];
    let run = Run::of("engines", &programs, 0);
    assert_eq!(run.verdict(), ("5 passed, 2 failed", false));
    let on_uring =
        "\ntests/starts.rs on uring: 1 failed; again: MCPROXY_TEST_IO=uring cargo test --test starts\n";
    for said in ["\nengine: .\n", "\nengine: uring.\n", on_uring] {
        assert!(run.output.contains(said), "{}", run.output);
    }
    for (variable, value, said) in
        [("MCPROXY_TEST_IO", "mio", "engine: mio."), ("MCPROXY_EXPECT_NO_URING", "1", "engine: .")]
    {
        let run = Run::with("engine", &programs, 0, &[(variable, value)]);
        assert_eq!(run.verdict(), ("4 passed, 1 failed", false), "{variable}: {}", run.output);
        assert!(run.output.contains(said), "{}", run.output);
    }
}

/// [`GOOD`] with another script for one program.
fn with<'a>(name: &str, script: &'a str) -> [(&'a str, &'a str); 3] {
    GOOD.map(|(other, same)| (other, if other == name { script } else { same }))
}

/// What `tests/run` said, and whether it succeeded.
struct Run {
    output: String,
    succeeded: bool,
}

impl Run {
    /// With a cargo that builds these programs and exits so.
    fn of(case: &str, programs: &[(&str, &str)], status: i32) -> Run {
        Run::with(case, programs, status, &[])
    }

    /// The same with variables in its environment.
    fn with(case: &str, programs: &[(&str, &str)], status: i32, variables: &[(&str, &str)]) -> Run {
        // This program may run twice at a time.
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("counts-{case}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let mut building = String::new();
        for (name, script) in programs {
            let path = pretend(&folder, name, script);
            if *name != "doc" {
                building += &format!("echo '{}'\n", message(name, &path));
            }
        }
        let cargo = pretend(&folder, "cargo", "");
        fs::write(folder.join("cargo--no-run.sh"), format!("{building} exit {status}")).expect("written");
        fs::copy(folder.join("doc.sh"), folder.join("cargo--doc.sh")).expect("copied");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(root.join("tests/run"));
        command.env("CARGO", cargo).env_remove("MCPROXY_TEST_IO").env_remove("MCPROXY_EXPECT_NO_URING");
        let done = command.envs(variables.iter().copied()).output().expect("tests/run starts");
        let output = String::from_utf8_lossy(&done.stdout).into_owned();
        let _ = fs::remove_dir_all(&folder);
        Run { output, succeeded: done.status.success() }
    }

    /// The last line, and whether it succeeded.
    fn verdict(&self) -> (&str, bool) {
        (self.output.lines().last().unwrap_or_default(), self.succeeded)
    }
}

/// A program of this name that does what the script says.
fn pretend(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    let one = if name == "starts" { "tests/data/pretend-starts-proxies" } else { "tests/data/pretend" };
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(one), &path).expect("a link");
    fs::write(folder.join(format!("{name}.sh")), script).expect("written");
    path
}

/// What cargo says about a test program that it has built.
fn message(name: &str, executable: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{name}.rs"));
    format!(
        r#"{{"target":{{"kind":["test"],"name":"{name}","src_path":"{}"}},"profile":{{"test":true}},"executable":"{}"}}"#,
        source.display(),
        executable.display()
    )
}
