//! The client programs under `tests/clients`: Go programs built with Debian's Go from Debian's sources, and
//! Python programs for the virtual environment. What they need is installed by `tests/install`; where it is
//! missing the tests fail.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The first build compiles Go's standard library.
const BUILD_DEADLINE: Duration = Duration::from_secs(300);

/// Where Debian's golang-*-dev packages put their sources.
const GOPATH: &str = "/usr/share/gocode";

/// A program, to which further arguments are given.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
}

impl Program {
    /// The command without further arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// A program under `tests/clients`, run by the Python of the virtual environment.
pub(crate) fn python(file: &str) -> Program {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let path = tests.join(".venv/bin/python");
    assert!(path.exists(), "{} is missing: run tests/install", path.display());
    Program { path, arguments: vec![tests.join("clients").join(file).display().to_string()] }
}

/// A program under `tests/clients`; all of them are built at once, for all tests.
pub(crate) fn go(name: &str) -> Program {
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
    command.arg("build").arg("-o").arg(folder.join(""));
    command.args(["./gomemcache", "./kvdriver", "./gocounters", "../oracles/gomemcache_oracle"]);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Test programs run side by side: the first builds for all, and Go leaves alone what is as it should be.
    let lock = File::create(scratch.join("go.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    run(&mut command, BUILD_DEADLINE).map_err(|output| format!("{command:?}:\n{output}"))?;
    Ok(folder)
}

/// Runs a command to its end, its output in a file so that it can neither fill a pipe nor be lost when it is
/// killed. Gives what it wrote; as an error, with the reason, if it did not go well within `deadline`.
pub(crate) fn run(command: &mut Command, deadline: Duration) -> Result<String, String> {
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
