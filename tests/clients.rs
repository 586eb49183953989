//! Real client libraries of several languages and protocols, end to end: each program under
//! `tests/clients` first runs against one memcached, by which it is shown to be right, and then against
//! mcproxy with three memcacheds behind it.
//!
//! What the programs need is installed by `tests/install`; where it is missing these tests fail.

mod support;

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::process::{Server, named_backends};
use support::relay::{Harm, Relay};
use support::report::say;

/// A program that runs longer hangs, and is killed.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

/// The first build compiles Go's standard library.
const BUILD_DEADLINE: Duration = Duration::from_secs(300);

/// Where Debian's golang-*-dev packages put their sources.
const GOPATH: &str = "/usr/share/gocode";

#[test]
fn pymemcache() {
    works_everywhere(&python("pymemcache_client.py"));
}

#[test]
fn python_binary_memcached() {
    works_everywhere(&python("binary_client.py"));
}

#[test]
fn meta_memcache() {
    works_everywhere(&python("meta_client.py"));
}

#[test]
fn gomemcache() {
    works_everywhere(&go("gomemcache"));
}

#[test]
fn go_key_value_driver() {
    works_everywhere(&go("kvdriver"));
}

/// Each program must notice a server that says a lost compare-and-swap was won.
#[test]
fn canary_every_program_notices_a_lie() {
    let python = ["pymemcache_client.py", "binary_client.py", "meta_client.py"].map(python);
    let go = ["gomemcache", "kvdriver"].map(go);
    for program in python.iter().chain(&go) {
        let server = Server::memcached();
        let relay = Relay::start(server.address, lost_is_won());
        let output = program.run(relay.address).expect_err("the server lies");
        assert!(output.contains("FAILED in"), "{program:?} failed in another way:\n{output}");
    }
}

#[test]
fn canary_a_program_that_hangs_is_killed() {
    let program = Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), "exec sleep 60".into()] };
    let output = program.run_within(Duration::from_millis(100), "127.0.0.1:1").expect_err("it hangs");
    assert!(output.contains("killed after"), "{output}");
}

/// Turns each answer that a compare-and-swap was lost, in any protocol, into one that it was won.
fn lost_is_won() -> Harm {
    Box::new(|answer| match answer.as_slice() {
        b"EXISTS\r\n" => *answer = b"STORED\r\n".to_vec(),
        b"EX\r\n" => *answer = b"HD\r\n".to_vec(),
        // A binary reply with status 2, key exists.
        [0x81, _, _, _, _, _, 0, 2, ..] => answer[7] = 0,
        _ => {}
    })
}

fn works_everywhere(program: &Program) {
    let alone = Server::memcached();
    let against_memcached = checks(program, "memcached itself", program.run(alone.address));
    let backends = [Server::memcached(), Server::memcached(), Server::memcached()];
    let list = named_backends(&backends.each_ref().map(|backend| backend.address));
    let proxy = Server::mcproxy(&list, &["--threads", "2"]);
    let through_mcproxy = checks(program, "mcproxy", program.run(proxy.address));
    assert_eq!(against_memcached, through_mcproxy, "the last lines of {program:?} differ");
    say(&through_mcproxy);
}

/// The last line of a program that went well, its name and its count of checks.
fn checks(program: &Program, server: &str, outcome: Result<String, String>) -> String {
    let output = outcome.unwrap_or_else(|output| panic!("{program:?} against {server}:\n{output}"));
    let last = output.lines().last().unwrap_or_default();
    assert!(last.ends_with(" checks"), "{program:?} against {server} did not count its checks:\n{output}");
    last.to_owned()
}

/// A client program, which takes the address of a server as its last argument.
#[derive(Debug)]
struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    /// Runs it to its end and gives what it wrote; as an error, with the reason, if it did not go well.
    fn run(&self, server: SocketAddr) -> Result<String, String> {
        self.run_within(RUN_DEADLINE, &server.to_string())
    }

    fn run_within(&self, deadline: Duration, server: &str) -> Result<String, String> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).arg(server).env("PYTHONDONTWRITEBYTECODE", "1");
        run(&mut command, deadline)
    }
}

/// A program under `tests/clients`, run by the Python of the virtual environment.
fn python(file: &str) -> Program {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let path = tests.join(".venv/bin/python");
    assert!(path.exists(), "{} is missing: run tests/install", path.display());
    Program { path, arguments: vec![tests.join("clients").join(file).display().to_string()] }
}

/// A program under `tests/clients`, built with Debian's Go from Debian's sources, once for all tests.
fn go(name: &str) -> Program {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = BUILT.get_or_init(build_go_programs);
    match folder {
        Ok(folder) => Program { path: folder.join(name), arguments: Vec::new() },
        Err(error) => panic!("{error}"),
    }
}

fn build_go_programs() -> Result<PathBuf, String> {
    let library = Path::new(GOPATH).join("src/github.com/bradfitz/gomemcache/memcache");
    if !library.exists() {
        return Err(format!("{} is missing: run tests/install", library.display()));
    }
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = scratch.join("go");
    let mut command = Command::new("go");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"));
    command.env("GO111MODULE", "off").env("GOPATH", GOPATH).env("GOCACHE", scratch.join("go-cache"));
    // A newer Go than the one asked for must not be fetched, and a C compiler is not needed.
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "").env("CGO_ENABLED", "0");
    command.arg("build").arg("-o").arg(folder.join("")).args(["./gomemcache", "./kvdriver"]);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    run(&mut command, BUILD_DEADLINE).map_err(|output| format!("{command:?}:\n{output}"))?;
    Ok(folder)
}

/// Runs a command, its output in a file so that it can neither fill a pipe nor be lost when it is killed.
fn run(command: &mut Command, deadline: Duration) -> Result<String, String> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("client-{}-{}.log", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = File::create(&path).expect("the folder for temporary files is writable");
    let ended = run_into(command, deadline, file);
    let output = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
    let _ = fs::remove_file(&path);
    match ended {
        Ok(Some(status)) if status.success() => Ok(output),
        Ok(Some(status)) => Err(format!("{output}it ended with {status}")),
        Ok(None) => Err(format!("{output}it hung and was killed after {deadline:?}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{:?} is missing: run tests/install", command.get_program()))
        }
        Err(error) => Err(format!("{:?}: {error}", command.get_program())),
    }
}

/// Waits for the end of a command; `None` when it had to be killed.
fn run_into(command: &mut Command, deadline: Duration, file: File) -> io::Result<Option<ExitStatus>> {
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn()?;
    let give_up = Instant::now() + deadline;
    while Instant::now() < give_up {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
